"""What a pass makes of its search: the accepted iterate, the restoration phase entered or left, new multipliers."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import select, where
from .._once import computed_once, only_where
from .._results import Status
from .barrier import AbstractBarrier
from .certification import conclusion
from .direction import Solved
from .errors import measure
from .iterate import SIDES, Iterate, View, maximum_norm
from .observation import Observation
from .options import Numbers
from .passing import Pass
from .records import Packed
from .restoration import entered, may_return, phase_view, recentred, returned
from .state import Departure, Frame, Globalization, Phase, Row, State, Tag
from .termination import after_failed_search, converged, phase_tolerance, when_stuck
from .trial_records import Outcome, Result, Trial


def corrected_bounds(view: View, frame: Frame, iterate: Iterate, mu, numbers: Numbers) -> tuple[Frame, Iterate]:
    """Bounds moved away from iterates that touch them, and bound multipliers kept near ``mu / slack`` (eq. 16)."""
    slack = view.guarded_slack(iterate.primal, iterate.bounds, mu, numbers.slack_move)
    moved = slack != view.slack(iterate.primal)
    bound = where(moved, iterate.primal - SIDES.astype(slack.dtype) * slack, frame.bound)
    least, most = mu / (numbers.kappa_sigma * slack), numbers.kappa_sigma * mu / slack
    z = where(view.has, jnp.clip(iterate.bounds, least, most), 0.0)
    z = where(numbers.kappa_sigma >= 1, z, iterate.bounds)
    return eqx.tree_at(lambda f: f.bound, frame, bound), eqx.tree_at(lambda i: i.bounds, iterate, z)


def _system_error(seen: Observation, g: Globalization) -> Float[Array, ""]:
    """The primal-dual error that a soft restoration step has to reduce. It is taken at the mu of
    the step, which may just have changed."""
    products, has = seen.slack * seen.iterate.bounds, seen.view.has
    change = where(has, jnp.abs(products - g.mu) - jnp.abs(products - seen.mu), 0.0)
    return seen.errors.system + jnp.sum(change) / jnp.maximum(jnp.sum(has), 1)


def accepted(
    found: Pass,
    outcome: Outcome,
    g: Globalization,
    clip_mu: Float[Array, ""],
    reverted: Bool[Array, ""],
    row: Row,
    numbers: Numbers,
) -> State:
    """The state after a step."""
    judged, seen, view, frame = found.judged, found.seen, found.search.view, found.frame
    new_frame, iterate = corrected_bounds(view, frame, outcome.point.iterate, clip_mu, numbers)
    tentative = outcome.result == Result.SOFT_TENTATIVE
    error = where(reverted, jnp.inf, _system_error(seen, g))
    memory = eqx.tree_at(lambda k: k.stored_error, outcome.memory, where(tentative, error, judged.memory.stored_error))
    return eqx.tree_at(
        lambda s: (
            s.iterate, s.frame, s.globalization, s.memory, s.row, s.iteration, s.estimated, s.objective, s.rows, s.entry.steps,
        ),
        judged,
        (
            iterate, new_frame, g, memory, row, judged.iteration + 1, jnp.array(False), outcome.point.objective,
            outcome.point.rows, judged.entry.steps + seen.view.restoring,
        ),
    )  # fmt: skip


def leaving_restoration(now: State, square: Bool[Array, ""], barrier: AbstractBarrier, numbers: Numbers) -> State:
    """The state after a step of the restoration phase: in the main phase, if the new point allows it."""
    outer, point = now.outer.unpacked(now.globalization), now.point
    view = phase_view(now.frame, jnp.array(Phase.REGULAR), outer.mu, now.entry, numbers)
    leaving = computed_once(may_return(view, point, outer, now.entry, square, numbers), now.iteration < 0)
    back = returned(view, point, outer, now.entry, numbers)
    _, back = corrected_bounds(view, now.frame, back, barrier.clipping_mu(view, back, outer, numbers), numbers)
    changed = jnp.array(Phase.REGULAR), back, outer, now.memory.forgotten(jnp.array(True))
    kept = now.phase, now.iterate, now.globalization, now.memory
    return eqx.tree_at(
        lambda s: (s.phase, s.iterate, s.globalization, s.memory), now, select(leaving, changed, kept)
    )  # fmt: skip


def restoration(
    found: Pass,
    base: Packed,
    g: Globalization,
    is_acceptable: Bool[Array, ""],
    row: Row,
    numbers: Numbers,
) -> State:
    """The state after a search that found no step from ``base``: in restoration, or ended."""
    judged, seen, frame, memory, relapse = (
        found.judged, found.seen, found.frame, found.search.memory, found.events.relapse,
    )  # fmt: skip
    view, restoring = seen.view, seen.view.restoring
    shapes = Departure.shapes(seen.slack.shape[1], view.equality.size, seen.slack.dtype)
    origin = base.unpacked(shapes, lambda whole: whole.point)
    violation = jnp.sum(jnp.abs(view.residual(origin.rows, origin.iterate.primal)))
    status, recover = after_failed_search(
        phase_tolerance(judged, numbers), violation, seen.errors, is_acceptable, seen.original.infeasibility, restoring,
        memory.has_acceptable, numbers,
    )  # fmt: skip
    status, recover = computed_once((status, recover), judged.iteration < 0)
    running = status == Status.Running
    first, fresh, entry = entered(view, origin, g, numbers)
    # Restoration of the restoration phase only recomputes its elastic variables.
    again = recentred(view, origin, g, numbers)
    iterate = select(restoring, again, first)
    iterate = select(running, iterate, select(recover, memory.acceptable.unpacked(origin.iterate), origin.iterate))
    n_m = frame.free.shape[0] + frame.equality.shape[0]
    bound = where(jnp.arange(frame.bound.shape[1]) < n_m, frame.bound, 0.0)
    figures = (
        where(restoring, g.mu, fresh.mu),
        where(restoring, row.step, 0.0),
        row.regularization,
        jnp.zeros_like(row.step),
        row.alpha_primal,
    )
    row = Row(jnp.stack(figures), where(restoring, row.tag, Tag.RESTORATION), row.trials)
    return eqx.tree_at(
        lambda s: (
            s.phase, s.status, s.iterate, s.frame.bound, s.globalization, s.outer, s.memory, s.entry, s.row, s.iteration,
            s.estimated, s.objective, s.rows,
        ),
        judged,
        (
            where(running, Phase.RESTORING, Phase.UNSEEN), status, iterate, bound,
            select(restoring, g, fresh), select(restoring, judged.outer, Packed.of(g)), memory.forgotten(jnp.array(True)),
            select(restoring, judged.entry, entry), row, judged.iteration + (running & ~relapse), jnp.array(False),
            origin.objective, origin.rows,
        ),
    )  # fmt: skip


def rows_outdated(state: State, seen: Observation, o: Numbers) -> Bool[Array, ""]:
    """Whether ``recalc_y`` asks for new row multipliers: after a step, close to feasibility.

    Square problems are left to their own estimate.
    """
    moved = where(seen.view.restoring, state.entry.steps > 0, state.iteration > 0)
    theta = jnp.sum(jnp.abs(seen.view.residual(seen.derivatives.rows, seen.iterate.primal)))
    return moved & ~state.estimated & ~seen.original.square & (theta < o.recalc_y_feas_tol) & jnp.any(seen.view.present)


def certified(judged: State, seen: Observation, solved: Solved, measured: Trial, wanted: Bool[Array, ""]) -> State:
    """The state, where ``wanted`` with what was found out about the active set of a solution, and functions ``measured`` along a
    direction that it leaves free."""
    assert judged.finding is not None
    learnt = solved.examined, solved.ratio, seen, measured, judged.report.kkt_error
    found = only_where(wanted, lambda before: conclusion(before, *learnt), judged.finding)
    phase = where(wanted & ~found.settled, Phase.CERTIFYING, judged.phase)
    return eqx.tree_at(lambda s: (s.finding, s.phase), judged, (found, phase))


def estimated(found: Pass, numbers: Numbers) -> State:
    """The state after a least-squares estimate of the row multipliers.

    At the start it is taken unless it is large; in a feasible square problem only if it makes the iterate optimal with zero
    bound multipliers; otherwise (``recalc_y``) always.
    """
    judged, seen, frame, solved, squared = (
        found.judged, found.seen, found.frame, found.solved, found.events.squared,
    )  # fmt: skip
    o, starting = numbers, judged.phase == Phase.STARTING
    y = where(solved.success & seen.view.present, solved.rows, 0.0)
    moderate = (maximum_norm(y) <= o.constr_mult_init_max) & (o.constr_mult_init_max > 0) & ~seen.original.square
    first = where(moderate, y, seen.iterate.rows)  # zero, or what was given
    bare = Iterate(seen.iterate.primal, y, jnp.zeros_like(seen.iterate.bounds))
    d = seen.derivatives
    errors = measure(seen.view, bare, seen.gradient, d.jacobian, d.rows, seen.slack, judged.globalization.mu, frame, o)
    optimal = squared & solved.success & converged(errors, phase_tolerance(judged, o), o)
    replaced = where(starting, first, where(solved.success, y, seen.iterate.rows))
    kept = eqx.tree_at(lambda i: i.rows, seen.iterate, where(squared, seen.iterate.rows, replaced))
    return eqx.tree_at(
        lambda s: (s.phase, s.frame, s.iterate, s.estimated),
        judged,
        (
            where(starting, Phase.REGULAR, judged.phase), frame, select(optimal, bare, kept),
            ~starting,
        ),
    )  # fmt: skip


def stopped(found: Pass, o: Numbers) -> State:
    """The state where tiny steps end the solve."""
    seen = found.seen
    end = when_stuck(found.is_acceptable, seen.original.infeasibility, seen.view.restoring, o)
    return eqx.tree_at(lambda s: s.status, found.judged, end)


def scaled(judged: State, frame: Frame, iterate: Iterate) -> State:
    """The state after the pass that found the scaling factors."""
    return eqx.tree_at(lambda s: (s.phase, s.frame, s.iterate), judged, (jnp.array(Phase.STARTING), frame, iterate))
