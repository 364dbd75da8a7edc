"""From the last state back to user units."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import select, where
from .._solution import ActiveSet, Multipliers, Quality, Residuals, Solution, Statistics
from .iterate import SIDES, Iterate, maximum_norm
from .options import Choices
from .start import Bounds
from .state import Frame, Phase, State


def finish(state: State, bounds: Bounds, choices: Choices) -> Solution:
    """The solution a final state stands for."""
    frame, iterate, mu = state.frame, state.iterate, state.globalization.mu
    n = frame.free.shape[0]
    objective_scale = frame.objective_scale
    x = iterate.primal[:n]
    lower, upper = iterate.bounds[:, :n] / jnp.abs(objective_scale)
    # A fixed variable's multiplier is whatever makes its stationarity row vanish.
    rest = where(frame.free, 0.0, state.lagrangian / objective_scale)
    if choices.fixed_variable_treatment != "make_parameter_nodual":
        lower, upper = lower + jnp.maximum(rest, 0.0), upper + jnp.maximum(-rest, 0.0)
    # A problem that is none is not looked at.
    unseen = state.phase < Phase.REGULAR
    objective, constraints, lagrangian = (
        where(unseen, jnp.nan, value)
        for value in (
            state.objective / objective_scale,
            state.rows / frame.row_scale + frame.row_shift,
            state.lagrangian / objective_scale,
        )
    )
    multipliers = Multipliers(iterate.rows * frame.row_scale / objective_scale, lower, upper)
    point = (iterate.primal[:n], iterate.rows)
    active, quality = _larger_multipliers(state, iterate), Quality.unknown(x)
    found = state.finding
    if found is not None:
        known = found.passes > 0
        seen = Quality.of(found.margin, found.linear_residual, found.inertia_correct, found.regular)
        active, quality, point = select(known, (found.active, seen, (found.x, found.rows)), (active, quality, point))
    counts = state.counts
    return Solution(
        x=x,
        objective=objective,
        constraints=constraints,
        multipliers=multipliers,
        status=state.status,
        residuals=Residuals(
            state.report.kkt_error,
            maximum_norm(where(frame.free, lagrangian - (lower - upper) * jnp.sign(objective_scale), 0.0)),
            *_left(frame, bounds, x, constraints, multipliers),
        ),
        stats=Statistics(
            iterations=state.iteration,
            evaluations=counts.evaluations,
            factorizations=counts.factorizations,
            restoration_calls=counts.restorations,
            restoration_iterations=counts.restoration_iterations,
        ),
        quality=quality,
        active=ActiveSet(
            lower=active[0, :n],
            upper=active[1, :n],
            rows_lower=active[0, n:],
            rows_upper=active[1, n:],
            x=point[0],
            constraints=point[1] * frame.row_scale / objective_scale,
        ),
        mu=mu,
        history=state.history,
    )


def _left(frame: Frame, bounds: Bounds, x, rows, multipliers: Multipliers) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Violation of the user's bounds and rows, and what is left of complementarity with them."""
    y, k = multipliers.constraints, x.size + rows.size
    present = frame.has[:, :k] | jnp.concatenate([~frame.free, frame.equality])
    bound = jnp.stack([jnp.concatenate([bounds.lb, bounds.cl]), jnp.concatenate([bounds.ub, bounds.cu])])
    slack = jnp.asarray(SIDES, x.dtype) * (jnp.concatenate([x, rows]) - where(present, bound, 0.0))
    lower, upper = (jnp.concatenate(pair) for pair in ((multipliers.lower, -y), (multipliers.upper, y)))
    # The multiplier of a side of a row is its positive part.
    z = jnp.stack([lower, upper])
    z = where(jnp.arange(k) < x.size, z, jnp.maximum(z, 0.0))
    violation = maximum_norm(where(present, jnp.minimum(slack, 0.0), 0.0))
    return violation, maximum_norm(where(present, z * slack, 0.0))


def _larger_multipliers(state: State, iterate: Iterate) -> Bool[Array, "2 k"]:
    """A guess at the active set where nobody looked."""
    frame, z = state.frame, iterate.bounds
    slack = jnp.asarray(SIDES, z.dtype) * (iterate.primal - frame.bound)
    return (frame.has & (z > slack) & (z >= z[::-1]))[:, : frame.free.size + frame.equality.size]
