"""Everything a pass knows about its iterate before it decides anything."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._linalg.matrix import all_finite
from .._problem.nlp import Derivatives
from .errors import Errors, measure, row_violation
from .iterate import Iterate, View, maximum_norm
from .options import Numbers
from .restoration import phase_view
from .state import Frame, State


class Original(eqx.Module):
    """What an iterate says of the problem as the user has it."""

    square: Bool[Array, ""]  # as many equality rows as free variables
    finite: Bool[Array, ""]
    infeasibility: Float[Array, ""]  # |c - s|_inf without elastic variables
    row_violation: Float[Array, ""]  # largest violation of a row's bounds in user units


class Observation(eqx.Module):
    """Derivatives, slacks and errors of an iterate in the problem of its phase."""

    derivatives: Derivatives  # scaled
    iterate: Iterate
    view: View
    slack: Float[Array, "2 N"]
    gradient: Float[Array, " N"]  # of the phase's objective
    errors: Errors
    original: Original
    mu: Float[Array, ""]

    def error_at(self, mu: Float[Array, ""]) -> Float[Array, ""]:
        """E_mu, with the proximity weight of the restoration objective left at the mu of the observation, as in Ipopt."""
        e = self.errors
        return jnp.maximum(e.at(mu, e.dual), e.primal)


def finite_derivatives(d: Derivatives, restoring: Bool[Array, ""]) -> Bool[Array, ""]:
    """Restoration does not look at the objective's gradient."""
    fine = jnp.isfinite(d.objective) & jnp.all(jnp.isfinite(d.rows)) & all_finite(d.jacobian)
    fine = fine & (restoring | jnp.all(jnp.isfinite(d.gradient)))
    return fine if d.hessian is None else fine & all_finite(d.hessian)


def observe(d: Derivatives, frame: Frame, iterate: Iterate, state: State, numbers: Numbers) -> Observation:
    """Look at an iterate of the state's phase."""
    mu, n, m = state.globalization.mu, frame.free.shape[0], frame.equality.shape[0]
    view = phase_view(frame, state.phase, mu, state.entry, numbers)
    slack = view.guarded_slack(iterate.primal, iterate.bounds, mu, numbers.slack_move)
    gradient = view.objective_gradient(d.gradient, iterate.primal)
    errors = measure(view, iterate, gradient, d.jacobian, d.rows, slack, mu, frame, numbers)
    original = jnp.concatenate([iterate.primal[: n + m], jnp.zeros(2 * m, iterate.primal.dtype)])
    return Observation(
        derivatives=d,
        iterate=iterate,
        view=view,
        slack=slack,
        gradient=gradient,
        errors=errors,
        original=Original(
            square=(jnp.sum(frame.equality) == jnp.sum(frame.free)) & jnp.any(frame.free),
            finite=finite_derivatives(d, view.restoring),
            infeasibility=maximum_norm(view.residual(d.rows, original)),
            row_violation=maximum_norm(row_violation(view, d.rows, original) / frame.row_scale),
        ),
        mu=mu,
    )
