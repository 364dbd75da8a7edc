"""The one linear system of a pass, whatever the pass is for."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._linalg.kkt import AbstractKKTSolver
from . import quasi_newton
from .direction import Solved, System, active_set_system, least_squares_system, newton_system, solve_system
from .iterate import View, select
from .observation import Observation
from .options import Numbers
from .state import Globalization


def barrier_rhs(view: View, gradient, slack, mu) -> Float[Array, " N"]:
    """Minus the gradient of the barrier objective on the unknowns of the phase."""
    return jnp.where(view.active, -view.barrier_gradient(gradient, slack, mu), 0.0)


def solve_pass(
    linear_solver: AbstractKKTSolver,
    seen: Observation,
    g: Globalization,
    squared,
    least_squares,
    ended,
    searching,
    o: Numbers,
    always_dc: bool,
) -> tuple[Solved, System, tuple]:
    """One linear system: Newton's, the least-squares problem for the row multipliers, or, at the end, that of the active set.

    The last is solved for no particular right-hand side, to learn whether the solution can be differentiated.
    """
    d, iterate, slack, view, gradient = seen.derivatives, seen.iterate, seen.slack, seen.view, seen.gradient
    barrier = barrier_rhs(view, gradient, slack, g.mu) - view.transposed_rows(d.jacobian, iterate.rows)
    z = jnp.where(squared, 0.0, iterate.bounds)
    dual = jnp.where(view.active, z[0] - z[1] - gradient, 0.0)
    residual = view.residual(d.rows, iterate.primal)
    sigma = jnp.sum(iterate.bounds / slack, axis=0)
    hessian = quasi_newton.hessian(g.quasi_newton, d, view)
    system = newton_system(view, hessian, d.jacobian, sigma)
    system = select(least_squares, least_squares_system(view, hessian, d.jacobian), system)
    final = active_set_system(view, hessian, d.jacobian, seen.bound_active)
    system = select(ended, final, system)
    primal_rhs, row_rhs = jnp.where(least_squares, dual, barrier), jnp.where(least_squares, 0.0, -residual)
    probe = jnp.cos(jnp.arange(primal_rhs.shape[0], dtype=primal_rhs.dtype))
    rhs = (
        jnp.where(ended, jnp.where(final.active, probe, 0.0), primal_rhs),
        jnp.where(ended, jnp.where(final.present, probe[: residual.shape[0]], 0.0), row_rhs),
    )
    solved = solve_system(
        linear_solver,
        system,
        rhs,
        g.perturbation,
        g.mu,
        least_squares | ended,
        searching | least_squares | ended,
        o,
        always_dc,
    )
    return solved, system, rhs
