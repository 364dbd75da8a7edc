"""The line search: what it knows when it begins, and what it makes of the trial it ended with.

Backtracking with second-order correction, watchdog, and soft restoration (Waechter and Biegler 2006, sections 2.3-2.4 and
3.2-3.3), in the order of operations of Ipopt's `BacktrackingLineSearch`. `trial` says what follows a trial.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .._once import computed_once
from .direction import Correction
from .filter import Reference, armijo, corner, is_f_type, smallest_step
from .iterate import Iterate, View, bound_steps, maximum_norm, step_to_boundary
from .options import Choices, Numbers
from .state import Direction, Globalization, Memory, Point, Row, Watchdog


# Kinds of trial
ORDINARY, CORRECTION, SOFT = 0, 1, 2
# How a search ended
SEARCHING, ACCEPTED, PASSED, SOFT_ACCEPTED, SOFT_TENTATIVE, FAILED = 0, 1, 2, 3, 4, 5
# No search: functions are wanted at one point, and nothing follows from them here
MEASURING, MEASURED = 6, 7
# Shorter steps would change the point by less than function values can tell
STALLED = 8
LEISURELY = 12  # steps are cut by `alpha_red_factor` so many times, and by its fourth power from then on
MOST_DEEP = 6  # so many steps in a row that are cut more often, or change next to nothing, count as no step at all
THETA_MAX_FACTOR_IN_RESTORATION = 1e8  # Ipopt's default for `resto.theta_max_fact`


class Outcome(eqx.Module):
    """Where the search ended. ``point`` is the new iterate except after FAILED, where it is the point to restore from."""

    result: Int[Array, ""]
    point: Point
    origin: Point  # where the step started (the stored point after a watchdog return)
    globalization: Globalization
    memory: Memory
    alpha: Float[Array, ""]
    alpha_dual: Float[Array, ""]
    trials: Int[Array, ""]
    evaluations: Int[Array, ""]
    tag: Int[Array, ""]
    reverted: Bool[Array, ""]


class Trial(eqx.Module):
    """The trial to make next while ``result`` is SEARCHING, else the one that ended the search."""

    kind: Int[Array, ""]
    alpha: Float[Array, ""]
    reductions: Int[Array, ""]
    result: Int[Array, ""]
    reverted: Bool[Array, ""]
    from_search: Bool[Array, ""]  # the soft trial follows a failed search
    evaluation_error: Bool[Array, ""]
    watchdog_trials: Int[Array, ""]
    cleared: Bool[Array, ""]
    by_filter: Bool[Array, ""]
    rejections: Int[Array, ""]
    corrections: Int[Array, ""]
    corrected_violation: Float[Array, ""]
    corrected_rows: Float[Array, " m"]
    correction: tuple  # direction (primal, rows)
    barrier: Float[Array, ""]
    objective: Float[Array, ""]
    rows: Float[Array, " m"]
    primal: Float[Array, " N"]
    evaluations: Int[Array, ""]


class Search(eqx.Module):
    """What a search knows from its beginning to its end. ``globalization`` and ``memory`` are those it began with."""

    view: View
    point: Point
    slack: Float[Array, "2 N"]
    direction: Direction
    correction: Correction
    globalization: Globalization
    memory: Memory
    enabled: Bool[Array, ""]
    soft: Bool[Array, ""]  # the search belongs to the soft restoration phase
    tiny: Bool[Array, ""]
    tiny_again: Bool[Array, ""]
    after_tiny: Bool[Array, ""]  # the step before was one, or none at all
    give_up: Bool[Array, ""]  # the watchdog ends before the first trial
    watchdog: Watchdog
    watching: Bool[Array, ""]
    stored: Point  # where the watchdog goes back to
    stored_slack: Float[Array, "2 N"]
    reference: Reference
    theta_max: Float[Array, ""]
    theta_min: Float[Array, ""]
    alpha_min: Float[Array, ""]
    least: Float[Array, ""]  # as of `Watchdog`
    relative: Float[Array, ""]  # the direction's largest relative change of a variable
    alpha_max: Float[Array, ""]
    soft_alpha: Float[Array, ""]
    entry: tuple[Float[Array, ""], Float[Array, ""]]  # the corner that leaving the reference point adds to the filter

    def origin(self, reverted: Bool[Array, ""]) -> tuple[Point, Direction, Float[Array, "2 N"]]:
        """Point, direction and slacks that trials start from."""
        here, back = (self.point, self.direction, self.slack), (self.stored, self.watchdog.direction, self.stored_slack)
        return select(reverted, back, here)

    def boundary(self, slack: Float[Array, "2 N"], step: Float[Array, " N"]) -> Float[Array, ""]:
        return step_to_boundary(slack, bound_steps(step), self.view.has, self.globalization.tau)

    def first_alpha(self, reverted: Bool[Array, ""], o: Numbers) -> Float[Array, ""]:
        """First step length of an ordinary search (after a watchdog return the full step is known to fail)."""
        again = self.boundary(self.stored_slack, self.watchdog.direction.primal) * o.alpha_red_factor
        return where(reverted, again, self.alpha_max)

    def first_soft_alpha(self, reverted: Bool[Array, ""]) -> Float[Array, ""]:
        """One step length for primal and dual variables."""
        stored, step = self.stored.iterate.bounds, self.watchdog.direction
        again = jnp.minimum(
            self.boundary(self.stored_slack, step.primal),
            step_to_boundary(stored, step.bounds, self.view.has, self.globalization.tau),
        )
        return where(reverted, again, self.soft_alpha)


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
    here = Reference(view.barrier(point.objective, iterate.primal, slack, mu), violation, slope)
    watchdog = memory.watchdog

    # A failed or tiny step inside the watchdog ends it; ten shortened steps start it.
    tiny = computed & _is_tiny(view, point, direction, violation, o)
    force = force_restoration | ~computed
    give_up = watchdog.active & (force | tiny)
    force, tiny = force & ~give_up, tiny & ~give_up
    alpha_max = step_to_boundary(slack, bound_steps(direction.primal), view.has, tau)
    wake = (
        (o.watchdog_shortened_iter_trigger > 0)
        & ~watchdog.active
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
    fresh = Watchdog(jnp.array(True), jnp.array(0), direction, alpha_max, least, here)
    watchdog, stored = select(wake, (fresh, point), (watchdog, memory.stored))
    reference = select(watchdog.active, watchdog.reference, here)

    searching = enabled & ~force & ~tiny
    size = jnp.maximum(1.0, reference.violation)
    max_factor = where(view.restoring, THETA_MAX_FACTOR_IN_RESTORATION, o.theta_max_fact)
    search = Search(
        view,
        point,
        slack,
        direction,
        correction,
        g,
        memory,
        enabled,
        soft,
        tiny & enabled,
        tiny & last_row.tiny & (jnp.max(jnp.abs(direction.rows), initial=0.0) < o.tiny_step_y_tol),
        last_row.tiny,
        give_up,
        watchdog,
        watchdog.active & ~give_up,
        stored,
        view.guarded_slack(stored.iterate.primal, stored.iterate.bounds, mu, o.slack_move),
        reference,
        where(searching & (g.theta_max < 0), max_factor * size, g.theta_max),
        where(searching & (g.theta_min < 0), o.theta_min_fact * size, g.theta_min),
        # Entered with the limits as they were before the first trial (Ipopt sets them inside it).
        smallest_step(reference, g.theta_min, o),
        least,
        relative,
        alpha_max,
        jnp.minimum(alpha_max, step_to_boundary(iterate.bounds, direction.bounds, view.has, tau)),
        corner(reference, o),
    )
    softly = soft & searching
    exhausted = softly & (memory.soft_count + 1 > o.max_soft_resto_iters)
    no, none = jnp.array(False), jnp.array(0)
    first = Trial(
        where(softly, SOFT, ORDINARY),
        where(softly, search.soft_alpha, search.first_alpha(give_up, o)),
        none,
        where(~searching | exhausted, FAILED, SEARCHING),
        give_up,
        no,
        no,
        watchdog.trials,
        no,
        no,
        g.filter_rejections,
        none,
        violation,
        jnp.zeros_like(point.rows),
        (jnp.zeros_like(iterate.primal), jnp.zeros_like(iterate.rows)),
        here.objective,
        point.objective,
        point.rows,
        iterate.primal,
        none,
    )
    return search, first


def end_search(search: Search, last: Trial, numbers: Numbers, choices: Choices) -> Outcome:
    """What the last trial of a search makes of it."""
    o, view, g, memory = numbers, search.view, search.globalization, search.memory
    enabled, tiny, soft = search.enabled, search.tiny, search.soft
    watchdog, watching, reference, alpha_max = search.watchdog, search.watching, search.reference, search.alpha_max
    origin, step, start_slack = search.origin(last.reverted)
    accepted, passed = last.result == ACCEPTED, last.result == PASSED
    soft_good, tentative = last.result == SOFT_ACCEPTED, last.result == SOFT_TENTATIVE
    failed = enabled & ~tiny & (last.result == FAILED)
    stalled = last.result == STALLED
    corrected = accepted & (last.kind == CORRECTION)

    # Primal step, with the multiplier steps that belong to it
    primal_step = where(corrected, last.correction[0], step.primal)
    rows_step = where(corrected, last.correction[1], step.rows)
    z_step = where(corrected, bound_direction(view, origin.iterate, start_slack, g.mu, last.correction[0]), step.bounds)
    alpha = where(tiny, alpha_max, last.alpha)
    alpha_z = step_to_boundary(origin.iterate.bounds, z_step, view.has, g.tau)
    in_soft = soft_good | tentative
    leaving_soft = soft_good & soft
    alpha_z = where(in_soft & ~leaving_soft, alpha, alpha_z)
    # Where the variables stay where they are, multipliers take their whole step.
    alpha_x = where(stalled, alpha_max, alpha)
    alpha_y = _row_step_length(choices.alpha_for_y, alpha_x, alpha_z, primal_step, view, o)
    alpha_y = where(leaving_soft, 0.0, where(in_soft, alpha, alpha_y))
    primal = where(tiny, origin.iterate.primal + alpha_max * step.primal, last.primal)
    primal, objective, rows = select(
        stalled, (origin.iterate.primal, origin.objective, origin.rows), (primal, last.objective, last.rows)
    )
    y, z = origin.iterate.rows + alpha_y * rows_step, origin.iterate.bounds + alpha_z * z_step
    moved = Point(Iterate(primal, y, z), objective, rows)
    took = accepted | passed | in_soft | tiny | stalled
    # Filter, f-type or h-type
    test_alpha = where(watching & ~last.reverted, watchdog.alpha, where(corrected, alpha_max, last.alpha))
    f_type = is_f_type(reference, test_alpha, o) & armijo(reference, last.barrier, test_alpha, o)
    augment = (accepted & ~f_type) | last.from_search | (failed & ~soft)
    f_type, augment = computed_once((f_type, augment), memory.shortened < 0)
    filter_ = g.filter.cleared(last.cleared).augmented(*search.entry, augment & enabled)

    letter = where(f_type, ord("f"), ord("h")) - where(corrected, 32, 0)
    tag = where(accepted, letter, ord("w"))
    tag = where(soft_good, ord("S"), where(tentative, ord("s"), tag))
    # Steps that are cut to next to nothing, and those that change next to nothing
    eps, change = jnp.finfo(alpha.dtype).eps, jnp.abs(last.barrier - reference.objective)
    slight = (alpha * search.relative <= 10 * jnp.sqrt(eps)) & (change <= jnp.cbrt(eps) * jnp.abs(reference.objective))
    slight = slight & (search.relative > 0) & ~last.reverted & ~watching
    deep = took & ((last.reductions > LEISURELY) | slight) & (reference.violation <= o.tol)
    deep = where(deep, memory.deep + 1, 0)
    crawling = took & (deep >= MOST_DEEP)
    again = where(tiny, search.tiny_again, search.after_tiny | crawling)
    tag = where(tiny | stalled | crawling, where(again, ord("T"), ord("t")), tag)
    full_step = (last.reductions == 0) | tiny | stalled | in_soft
    ended = accepted & watching
    active = watchdog.active & ~ended & ~last.reverted & ~search.give_up
    shortened = where(full_step, 0, where(last.reverted, 1, memory.shortened + 1))
    shortened = where(failed, 0, shortened)
    searched = eqx.tree_at(
        lambda s: (s.filter, s.theta_max, s.theta_min, s.reference, s.filter_rejections),
        g,
        (filter_, search.theta_max, search.theta_min, reference, last.rejections),
    )
    remembered = eqx.tree_at(
        lambda k: (k.watchdog, k.stored, k.shortened, k.deep, k.stalls, k.soft_count),
        memory,
        (
            eqx.tree_at(lambda w: (w.active, w.trials), watchdog, (active, last.watchdog_trials)),
            select(tentative, origin, search.stored),
            shortened,
            where(crawling, 0, deep),
            memory.stalls + stalled,
            where(tentative & soft, memory.soft_count + 1, 0),
        ),
    )
    return Outcome(
        where(enabled, where(tiny, ACCEPTED, last.result), SEARCHING),
        select(took, moved, origin),
        origin,
        searched,
        remembered,
        where(leaving_soft, 0.0, alpha),
        alpha_z,
        where(tiny, 0, last.reductions + 1),
        last.evaluations,
        tag,
        last.reverted,
    )


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
