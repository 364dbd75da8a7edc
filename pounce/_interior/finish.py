"""From the last state back to user units."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._results import Status
from .._solution import ActiveSet, Multipliers, Quality, Residuals, Solution, Statistics
from .iterate import SIDES, Iterate, select
from .options import Choices, Numbers
from .start import Bounds
from .state import RESTORING, State


def finish(state: State, bounds: Bounds, numbers: Numbers, choices: Choices) -> Solution:
    """The solution a final state stands for."""
    frame, report, mu = state.frame, state.report, state.globalization.mu
    n = frame.free.shape[0]
    watchdog = state.memory.watchdog
    limited = watchdog.active & (state.status == Status.Maximum_Iterations_Exceeded)
    # A run cut off inside the watchdog answers with the point the watchdog would have gone back to.
    iterate = select(limited, state.memory.stored.iterate, state.iterate)
    objective_scale = frame.objective_scale
    x = iterate.primal[:n]
    if choices.honor_original_bounds:
        x = jnp.clip(x, bounds.lb, bounds.ub)
    lower, upper = iterate.bounds[:, :n] / jnp.abs(objective_scale)
    # A fixed variable's multiplier is whatever makes its stationarity row vanish.
    rest = jnp.where(frame.free, 0.0, state.fixed_gradient / objective_scale)
    if choices.fixed_variable_treatment != "make_parameter_nodual":
        lower, upper = lower + jnp.maximum(rest, 0.0), upper + jnp.maximum(-rest, 0.0)
    constraints = state.rows / frame.row_scale + frame.row_shift
    point = (iterate.primal[:n], iterate.rows)
    active, quality = _larger_multipliers(state, iterate), Quality.unknown(x)
    found = state.finding
    if found is not None:
        known = found.passes > 0
        seen = Quality.of(found.margin, found.linear_residual, found.inertia_correct, found.regular)
        active, quality, point = select(known, (found.active, seen, (found.x, found.rows)), (active, quality, point))
    counts = state.counts
    verdict = (state.status == Status.Infeasible_Problem_Detected) | (state.status == Status.Restoration_Failed)
    certified = (state.phase == RESTORING) & verdict & (state.entry.steps > 0)
    return Solution(
        x,
        state.objective / objective_scale,
        constraints,
        Multipliers(iterate.rows * frame.row_scale / objective_scale, lower, upper),
        state.status,
        Residuals(report.kkt_error, report.stationarity, report.violation, report.complementarity),
        Statistics(
            # The step that certifies a verdict of the restoration phase is not counted (nor printed by Ipopt).
            state.iteration - certified,
            counts.evaluations,
            counts.factorizations,
            counts.restorations,
            counts.restoration_iterations,
        ),
        quality,
        ActiveSet(
            active[0, :n],
            active[1, :n],
            active[0, n:],
            active[1, n:],
            point[0],
            point[1] * frame.row_scale / objective_scale,
        ),
        mu,
        state.history,
    )


def _larger_multipliers(state: State, iterate: Iterate) -> Bool[Array, "2 k"]:
    """A guess at the active set where nobody looked."""
    frame, z = state.frame, iterate.bounds
    slack = jnp.asarray(SIDES, z.dtype) * (iterate.primal - frame.bound)
    return (frame.has & (z > slack) & (z >= z[::-1]))[:, : frame.free.size + frame.equality.size]
