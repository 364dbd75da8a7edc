"""What a pass says of its iterate, before it does anything: verdict, errors and the row of the iteration table."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._choose import select, where
from .._once import computed_once
from .._results import Status
from .errors import Errors, unsupported
from .history import shown_row, written
from .observation import Observation, finite_derivatives
from .options import Choices, Numbers
from .records import Packed
from .state import Phase, Report, State
from .termination import judge


def judged_state(
    state: State, seen: Observation, judging: Bool[Array, ""], o: Numbers, choices: Choices
) -> tuple[State, Bool[Array, ""]]:
    """The state with its verdict, table row and errors; and whether its iterate is acceptable."""
    errors, g, restoring = _supported(state, seen, o), state.globalization, state.phase == Phase.RESTORING
    verdict = judge(state, errors, seen.original.infeasibility, seen.original.finite, seen.original.square, o)
    # The starting passes only look for functions that cannot be evaluated at all.
    broken = (state.phase == Phase.STARTING) & ~finite_derivatives(seen.derivatives, restoring)
    status = where(judging, verdict.status, where(broken, Status.Invalid_Number_Detected, Status.Running))
    status = where(state.status == Status.Running, status, state.status).astype(jnp.int32)
    shown = errors.primal if choices.inf_pr_output == "internal" else seen.original.row_violation
    figures = jnp.stack([errors.overall(o.mu_target), shown, errors.dual])
    # Where a solution is looked at again, functions are those of another point.
    report = select(state.phase == Phase.CERTIFYING, state.report, Report(figures))
    fine = verdict.acceptable & judging
    history = state.history
    if history is not None:
        objective = state.objective / state.frame.objective_scale
        here = (jnp.arange(history.objective.shape[0]) == state.iteration) & judging & (state.status == Status.Running)
        history = written(history, shown_row(objective, report, state.row, restoring), here)
    tightened = state.entry.tightened | (judging & verdict.tighten)
    status, fine, tightened = computed_once((status, fine, tightened), state.iteration < 0)
    judged = eqx.tree_at(
        lambda s: (
            s.status,
            s.report,
            s.globalization.acceptable_count,
            s.memory.acceptable,
            s.memory.has_acceptable,
            s.memory.last_objective,
            s.entry.tightened,
        ),
        state,
        (
            status,
            report,
            where(judging, where(fine, g.acceptable_count + 1, 0), g.acceptable_count),
            select(fine & ~restoring, Packed.of(seen.iterate), state.memory.acceptable),
            state.memory.has_acceptable | (fine & ~restoring),
            where(judging & ~restoring, state.objective, state.memory.last_objective),
            tightened,
        ),
    )
    if history is not None:
        judged = eqx.tree_at(lambda s: s.history, judged, history)
    return judged, fine


def _supported(state: State, seen: Observation, o: Numbers) -> Errors:
    """The errors of an iterate of the main phase, infinite if its multipliers are not what they seem."""
    errors, jacobian = seen.errors, seen.derivatives.jacobian
    wrong = unsupported(seen.view, seen.iterate, seen.gradient, jacobian, errors, o.tol) & (
        state.phase == Phase.REGULAR
    )
    return eqx.tree_at(lambda e: e.violation, errors, where(wrong, jnp.inf, errors.violation))
