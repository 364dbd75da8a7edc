"""From the last state back to user units."""

import jax.numpy as jnp

from .._results import Status
from .._solution import Multipliers, Quality, Residuals, Solution, Statistics
from .iterate import select
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
        Quality(
            report.margin,
            report.linear_residual,
            report.inertia_correct,
            report.regular,
            report.inertia_correct & report.regular & (report.margin > 10 * jnp.sqrt(mu)),
        ),
        mu,
        state.history,
    )
