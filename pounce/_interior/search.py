"""The line search: what it knows when it begins, and what it makes of the trial it ended with.

Backtracking with second-order correction, watchdog, and soft restoration (Waechter and Biegler 2006, sections 2.3-2.4 and
3.2-3.3), in the order of operations of Ipopt's `BacktrackingLineSearch`. `trial` says what follows a trial.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .._once import computed_once, only_where
from .direction import Correction
from .filter import Reference, armijo, corner, is_f_type, smallest_step
from .iterate import Iterate, View, bound_steps, maximum_norm, step_to_boundary
from .options import Choices, Numbers
from .records import Packed
from .state import Acceptance, Departure, Direction, Globalization, Memory, Point, Row, Tag
from .trial_records import (
    LEISURELY,
    MOST_DEEP,
    THETA_MAX_FACTOR_IN_RESTORATION,
    Base,
    Kind,
    Limits,
    Mode,
    Outcome,
    Result,
    Search,
    SecondOrder,
    Trial,
    Tried,
)


ASCII_CASE = ord("a") - ord("A")


def bound_direction(view: View, iterate: Iterate, slack, mu, step: Float[Array, " N"]) -> Float[Array, "2 N"]:
    """Newton step of the bound multipliers that goes with a primal step (eq. 12)."""
    z = iterate.bounds
    return where(view.has, mu / slack - z - z / slack * bound_steps(step), 0.0)


def _is_tiny(view: View, point: Point, direction: Direction, violation, numbers: Numbers) -> Bool[Array, ""]:
    nx = view.n + view.equality.shape[0]  # x and s
    relative = jnp.abs(direction.primal[:nx]) / (1 + jnp.abs(point.iterate.primal[:nx]))
    small = jnp.max(relative, initial=0.0) <= numbers.tiny_step_tol
    return small & (violation <= 1e-4) & (numbers.tiny_step_tol > 0)


def _relative_step(view: View, point: Point, direction: Direction) -> Float[Array, ""]:
    """The largest change of a variable, relative to its size; of one at zero, to the largest. Zero where all are zero."""
    x, d = (v[: view.n + view.equality.shape[0]] for v in (point.iterate.primal, direction.primal))
    size = where(x == 0, maximum_norm(x), jnp.abs(x))
    return jnp.max(jnp.abs(d) / where(size > 0, size, jnp.inf), initial=0.0)


def _least_resolved(relative: Float[Array, ""], alpha_max: Float[Array, ""]) -> Float[Array, ""]:
    """The step length from which on a step is out of proportion: rounding, or next to nothing of the first one and of the
    variables.

    Near a minimiser, values change by the square of a relative step; below the root of the machine precision they do not change
    at all. Elsewhere no sound direction has to be cut like that.
    """
    eps = jnp.finfo(relative.dtype).eps
    share = where(relative > 0, jnp.minimum(alpha_max, 1 / relative), alpha_max) * jnp.sqrt(eps)
    return jnp.maximum(share, where(relative > 0, 10 * eps / relative, 0.0))


def begin_search(
    view: View,
    point: Point,
    slack: Float[Array, "2 N"],
    direction: Direction,
    computed: Bool[Array, ""],
    slope: Float[Array, ""],
    correction: Correction,
    g: Globalization,
    memory: Memory,
    last_row: Row,
    soft: Bool[Array, ""],
    enabled: Bool[Array, ""],
    force_restoration: Bool[Array, ""],
    numbers: Numbers,
    choices: Choices,
) -> tuple[Search, Trial]:
    """A search for the next iterate along ``direction``, and its first trial.

    ``computed`` is false where no direction could be computed; ``slope`` is the barrier objective's along it. Nothing is
    tried where ``enabled`` is false.
    """
    o, mu, tau = numbers, g.mu, g.tau
    iterate = point.iterate
    violation = jnp.sum(jnp.abs(view.residual(point.rows, iterate.primal)))
    here = Reference.of(view.barrier(point.objective, iterate.primal, slack, mu), violation, slope)

    # A failed or tiny step inside the watchdog ends it; ten shortened steps start it.
    tiny = computed & _is_tiny(view, point, direction, violation, o)
    force = force_restoration | ~computed
    give_up = memory.watchdog & (force | tiny)
    force, tiny = force & ~give_up, tiny & ~give_up
    alpha_max = step_to_boundary(slack, bound_steps(direction.primal), view.has, tau)
    wake = (
        (o.watchdog_shortened_iter_trigger > 0)
        & ~memory.watchdog
        & ~give_up
        & ~force
        & ~tiny
        & ~soft
        & (memory.shortened >= o.watchdog_shortened_iter_trigger)
    )
    if choices.expect_infeasible_problem:
        wake = wake & False
    settled = here, alpha_max, enabled, tiny, force, give_up, wake
    here, alpha_max, enabled, tiny, force, give_up, wake = computed_once(settled, memory.shortened < 0)
    relative = _relative_step(view, point, direction)
    least = _least_resolved(relative, alpha_max)
    # While the watchdog lets steps pass, trials are compared with where it began.
    watched, reference = memory.watchdog, select(memory.watchdog, g.acceptance.reference, here)
    base = Base(Packed.of(Departure(point, direction, alpha_max, least)), memory.stored, slack)

    searching = enabled & ~force & ~tiny
    softly = soft & searching
    size = jnp.maximum(1.0, reference.violation)
    max_factor = where(view.restoring, THETA_MAX_FACTOR_IN_RESTORATION, o.theta_max_fact)
    tiny_again = tiny & last_row.tiny & (jnp.max(jnp.abs(direction.rows), initial=0.0) < o.tiny_step_y_tol)
    flags = enabled, soft, tiny & enabled, tiny_again, last_row.tiny, give_up, wake, (watched | wake) & ~give_up
    figures = (
        where(searching & (g.acceptance.theta_max < 0), max_factor * size, g.acceptance.theta_max),
        where(searching & (g.acceptance.theta_min < 0), o.theta_min_fact * size, g.acceptance.theta_min),
        # Entered with the limits as they were before the first trial (Ipopt sets them inside it).
        smallest_step(reference, g.acceptance.theta_min, o),
        where(watched, memory.stored.last(2), alpha_max),
        where(watched, memory.stored.last(1), least),
        relative,
        *corner(reference, o),
    )
    search = Search(
        view=view,
        base=base,
        correction=correction,
        globalization=g,
        memory=memory,
        mode=Mode(jnp.stack(flags)),
        reference=reference,
        limits=Limits(jnp.stack(figures)),
    )

    def other_lengths(_):
        longest, softened = search.lengths(give_up, None, o)
        # After a watchdog return the full step is known to fail.
        ordinary = where(give_up, longest * o.alpha_red_factor, alpha_max)
        return where(softly, softened, ordinary), ordinary

    alpha, first_alpha = only_where(softly | give_up, other_lengths, (alpha_max, alpha_max))
    exhausted = softly & (memory.soft_count + 1 > o.max_soft_resto_iters)
    no, none = jnp.array(False), jnp.array(0)
    y, zero = iterate.rows, jnp.zeros_like
    first = Trial(
        kind=where(softly, Kind.SOFT, Kind.ORDINARY),
        result=where(~searching | exhausted, Result.FAILED, Result.SEARCHING),
        alpha=alpha,
        first_alpha=first_alpha,
        counters=jnp.stack([none, where(wake, 0, memory.trials), g.acceptance.rejections, none, none]),
        flags=jnp.stack([give_up, no, no, no, no]),
        correction=SecondOrder(zero(iterate.primal), zero(y), zero(y), violation),
        last=Tried(iterate.primal, point.objective, point.rows, here.objective),
    )
    return search, first


def end_search(search: Search, last: Trial, numbers: Numbers, choices: Choices) -> Outcome:
    """What the last trial of a search makes of it."""
    o, view, g, memory, mode, limits = (
        numbers, search.view, search.globalization, search.memory, search.mode, search.limits,
    )  # fmt: skip
    enabled, tiny, soft, reference = mode.enabled, mode.tiny, mode.soft, search.reference
    base = search.base.chosen(last.reverted & ~mode.woken)
    departure = search.departure(last.reverted)
    origin, step, alpha_max = departure.point, departure.direction, search.base.here.last(2)
    accepted, passed = last.result == Result.ACCEPTED, last.result == Result.PASSED
    soft_good, tentative = last.result == Result.SOFT_ACCEPTED, last.result == Result.SOFT_TENTATIVE
    failed = enabled & ~tiny & (last.result == Result.FAILED)
    stalled = last.result == Result.STALLED
    corrected = accepted & (last.kind == Kind.CORRECTION)

    # Primal step, with the multiplier steps that belong to it
    def of_correction(_):
        slack = search.slack(last.reverted, origin, o)
        bounds = bound_direction(view, origin.iterate, slack, g.mu, last.correction.primal)
        return Direction(last.correction.primal, last.correction.dual, bounds)

    step = only_where(corrected, of_correction, step)
    alpha = where(tiny, alpha_max, last.alpha)
    alpha_z = step_to_boundary(origin.iterate.bounds, step.bounds, view.has, g.tau)
    in_soft = soft_good | tentative
    leaving_soft = soft_good & soft
    alpha_z = where(in_soft & ~leaving_soft, alpha, alpha_z)
    # Where the variables stay where they are, multipliers take their whole step.
    alpha_x = where(stalled, alpha_max, alpha)
    alpha_y = _row_step_length(choices.alpha_for_y, alpha_x, alpha_z, step.primal, view, o)
    alpha_y = where(leaving_soft, 0.0, where(in_soft, alpha, alpha_y))
    tried = last.last
    primal = where(tiny, origin.iterate.primal + alpha_max * step.primal, tried.primal)
    primal, objective, rows = select(
        stalled, (origin.iterate.primal, origin.objective, origin.rows), (primal, tried.objective, tried.rows)
    )
    y, z = origin.iterate.rows + alpha_y * step.rows, origin.iterate.bounds + alpha_z * step.bounds
    took = accepted | passed | in_soft | tiny | stalled
    # Filter, f-type or h-type
    watched = mode.watching & ~last.reverted
    test_alpha = where(watched, limits.watched_alpha, where(corrected, alpha_max, last.alpha))
    f_type = is_f_type(reference, test_alpha, o) & armijo(reference, tried.barrier, test_alpha, o)
    augment = (accepted & ~f_type) | last.from_search | (failed & ~soft)
    f_type, augment = computed_once((f_type, augment), memory.shortened < 0)
    filter_ = g.acceptance.filter.cleared(last.cleared).augmented(limits.objective, limits.violation, augment & enabled)

    letter = where(f_type, Tag.F_TYPE, Tag.H_TYPE) - where(corrected, ASCII_CASE, 0)
    tag = where(accepted, letter, Tag.WATCHDOG)
    tag = where(soft_good, Tag.SOFT, where(tentative, Tag.SOFT_TENTATIVE, tag))
    # Steps that are cut to next to nothing, and those that change next to nothing
    eps, change = jnp.finfo(alpha.dtype).eps, jnp.abs(tried.barrier - reference.objective)
    slight = (alpha * limits.relative <= 10 * jnp.sqrt(eps)) & (change <= jnp.cbrt(eps) * jnp.abs(reference.objective))
    slight = slight & (limits.relative > 0) & ~last.reverted & ~mode.watching
    deep = took & ((last.reductions > LEISURELY) | slight) & (reference.violation <= o.tol)
    deep = where(deep, memory.deep + 1, 0)
    crawling = took & (deep >= MOST_DEEP)
    again = where(tiny, mode.tiny_again, mode.after_tiny | crawling)
    tag = where(tiny | stalled | crawling, where(again, Tag.TINY_AGAIN, Tag.TINY), tag)
    full_step = (last.reductions == 0) | tiny | stalled | in_soft
    ended = accepted & mode.watching
    active = (memory.watchdog | mode.woken) & ~ended & ~last.reverted & ~mode.give_up
    shortened = where(full_step, 0, where(last.reverted, 1, memory.shortened + 1))
    counters = (
        last.watchdog_trials,
        where(failed, 0, shortened),
        where(tentative & soft, memory.soft_count + 1, 0),
        where(crawling, 0, deep),
        memory.stalls + stalled,
    )
    searched = eqx.tree_at(
        lambda q: q.acceptance,
        g,
        Acceptance(
            filter=filter_,
            theta_max=limits.theta_max,
            theta_min=limits.theta_min,
            reference=reference,
            rejections=last.rejections,
        ),
    )
    remembered = eqx.tree_at(
        lambda k: (k.watchdog, k.stored, k.counters),
        memory,
        (active, select(mode.woken | tentative, base, memory.stored), jnp.stack(counters)),
    )
    return Outcome(
        result=where(enabled, where(tiny, Result.ACCEPTED, last.result), Result.SEARCHING),
        point=Point(Iterate(primal, y, z), objective, rows),
        base=base,
        globalization=searched,
        memory=remembered,
        alpha=where(leaving_soft, 0.0, alpha),
        alpha_dual=alpha_z,
        tag=tag,
    )


def trials_of(search: Search, last: Trial) -> Int[Array, ""]:
    """The number of trials that the iteration table shows."""
    return where(search.mode.tiny, 0, last.reductions + 1)


def _row_step_length(rule: str, alpha, alpha_z, primal_step, view: View, o: Numbers):
    if rule == "primal":
        return alpha
    if rule == "bound-mult":
        return alpha_z
    if rule == "min":
        return jnp.minimum(alpha, alpha_z)
    if rule == "max":
        return jnp.maximum(alpha, alpha_z)
    if rule == "full":
        return jnp.ones_like(alpha)
    small = jnp.max(jnp.abs(primal_step[: view.n + view.equality.shape[0]]), initial=0.0) <= o.alpha_for_y_tol
    return where(small, 1.0, alpha if rule == "primal-and-full" else alpha_z)
