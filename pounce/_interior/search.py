"""The line search: backtracking with second-order correction, watchdog, and soft restoration.

Waechter and Biegler 2006, sections 2.3-2.4 and 3.2-3.3, in the order of operations of Ipopt's `BacktrackingLineSearch`. One
loop holds the only place where the functions are evaluated: its trips are ordinary trials, second-order corrections and
soft restoration trials, in whatever order the lane needs them.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._problem.nlp import AbstractNLP
from .filter import Reference, acceptable_to_reference, armijo, corner, is_f_type, smallest_step
from .iterate import Iterate, View, bound_steps, select, step_to_boundary
from .options import Choices, Numbers
from .state import Direction, Globalization, Memory, Point, Row, Watchdog


# Kinds of trial
ORDINARY, CORRECTION, SOFT = 0, 1, 2
# How a search ended
SEARCHING, ACCEPTED, PASSED, SOFT_ACCEPTED, SOFT_TENTATIVE, FAILED = 0, 1, 2, 3, 4, 5
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


class _Trial(eqx.Module):
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


def bound_direction(view: View, iterate: Iterate, slack, mu, step: Float[Array, " N"]) -> Float[Array, "2 N"]:
    """Newton step of the bound multipliers that goes with a primal step (eq. 12)."""
    z = iterate.bounds
    return jnp.where(view.has, mu / slack - z - z / slack * bound_steps(step), 0.0)


def _boundary(view: View, slack, step, tau):
    return step_to_boundary(slack, bound_steps(step), view.has, tau)


def _is_tiny(view: View, point: Point, direction: Direction, violation, numbers: Numbers) -> Bool[Array, ""]:
    nx = view.n + view.equality.shape[0]  # x and s
    relative = jnp.abs(direction.primal[:nx]) / (1 + jnp.abs(point.iterate.primal[:nx]))
    small = jnp.max(relative, initial=0.0) <= numbers.tiny_step_tol
    return small & (violation <= 1e-4) & (numbers.tiny_step_tol > 0)


def line_search(
    nlp: AbstractNLP,
    view: View,
    point: Point,
    slack: Float[Array, "2 N"],
    direction: Direction,
    computed: Bool[Array, ""],
    slope: Float[Array, ""],
    correct: Callable[[Float[Array, " m"]], tuple],
    g: Globalization,
    memory: Memory,
    last_row: Row,
    soft: Bool[Array, ""],
    enabled: Bool[Array, ""],
    force_restoration: Bool[Array, ""],
    numbers: Numbers,
    choices: Choices,
) -> Outcome:
    """Find the next iterate along ``direction``.

    ``computed`` is false where no direction could be computed; ``slope`` is the barrier objective's along it; ``correct(rows)``
    solves the Newton system again with other row residuals. ``soft``: the search belongs to the soft restoration phase.
    Nothing happens where ``enabled`` is false.
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
    alpha_max = _boundary(view, slack, direction.primal, tau)
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
    fresh = Watchdog(jnp.array(True), jnp.array(0), direction, alpha_max, here)
    watchdog, stored = select(wake, (fresh, point), (watchdog, memory.stored))
    watching = watchdog.active & ~give_up
    reference = select(watchdog.active, watchdog.reference, here)

    searching = enabled & ~force & ~tiny
    size = jnp.maximum(1.0, reference.violation)
    max_factor = jnp.where(view.restoring, THETA_MAX_FACTOR_IN_RESTORATION, o.theta_max_fact)
    theta_max = jnp.where(searching & (g.theta_max < 0), max_factor * size, g.theta_max)
    theta_min = jnp.where(searching & (g.theta_min < 0), o.theta_min_fact * size, g.theta_min)
    # Entered with the limits as they were before the first trial (Ipopt sets them inside it).
    alpha_min = smallest_step(reference, g.theta_min, o)
    entry = corner(reference, o)
    stored_slack = view.guarded_slack(stored.iterate.primal, stored.iterate.bounds, mu, o.slack_move)

    def base(reverted):
        origin = select(reverted, stored, point)
        step = select(reverted, watchdog.direction, direction)
        return origin, step, jnp.where(reverted, stored_slack, slack)

    def backtrack_start(reverted):
        """First step length of an ordinary search (after a watchdog return the full step is known to fail)."""
        again = _boundary(view, stored_slack, watchdog.direction.primal, tau) * o.alpha_red_factor
        return jnp.where(reverted, again, alpha_max)

    soft_alpha = jnp.minimum(alpha_max, step_to_boundary(iterate.bounds, direction.bounds, view.has, tau))
    soft_now = soft & searching
    soft_exhausted = soft_now & (memory.soft_count + 1 > o.max_soft_resto_iters)
    soft_allowed = (o.soft_resto_pderror_reduction_factor != 0) & (not choices.expect_infeasible_problem)

    def trial(c: _Trial) -> _Trial:
        origin, step, start_slack = base(c.reverted)
        correcting, softly = c.kind == CORRECTION, c.kind == SOFT
        primal_step = jnp.where(correcting, c.correction[0], step.primal)
        primal = origin.iterate.primal + c.alpha * primal_step
        f, rows = nlp.evaluate(primal[: view.n])
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(rows))
        new_slack = view.guarded_slack(primal, origin.iterate.bounds, mu, o.slack_move)
        theta = jnp.sum(jnp.abs(view.residual(rows, primal)))
        phi = view.barrier(f, primal, new_slack, mu)
        finite = finite & jnp.isfinite(phi) & jnp.isfinite(theta)

        full = jnp.where(c.reverted, jnp.ones_like(alpha_max), alpha_max)
        test_alpha = jnp.where(
            softly, 0.0, jnp.where(watching & ~c.reverted, watchdog.alpha, jnp.where(correcting, full, c.alpha))
        )
        within = theta <= theta_max
        progress = acceptable_to_reference(reference, phi, theta, test_alpha, theta_min, o)
        corners = g.filter.cleared(c.cleared)
        by_entry = ~(softly & c.from_search) | (phi <= entry[0]) | (theta <= entry[1])
        in_filter = corners.accepts(phi, theta) & by_entry
        accepted = finite & within & progress & in_filter
        if choices.accept_every_trial_step:
            accepted = jnp.where(softly, accepted, finite)
        else:
            enough = (o.accept_after_max_steps >= 0) & (c.reductions >= o.accept_after_max_steps)
            accepted = jnp.where(enough & ~softly, finite, accepted)

        # Filter reset heuristic: five searches in a row whose last rejection came from the filter.
        tested = finite & within
        by_filter = jnp.where(tested, progress & ~in_filter, c.by_filter)
        counting = accepted & c.by_filter & (o.max_filter_resets > 0)
        rejections = jnp.where(accepted, jnp.where(counting, c.rejections + 1, 0), c.rejections)
        reset = counting & (rejections >= o.filter_reset_trigger)
        by_filter = by_filter & ~accepted

        # What comes next if this one is rejected
        error = c.evaluation_error | (~finite & ~correcting)
        watch_failed = watching & ~c.reverted & (c.kind == ORDINARY)
        watchdog_trials = c.watchdog_trials + (watch_failed & ~accepted)
        revert = watch_failed & (error | (watchdog_trials > o.watchdog_trial_iter_max))
        passed = watch_failed & ~revert
        first_soc = (
            (c.kind == ORDINARY)
            & (c.reductions == 0)
            & ~c.reverted
            & ~watch_failed
            & finite
            & (theta >= reference.violation)
            & (o.max_soc > 0)
        )
        next_soc = correcting & finite & (c.corrections < o.max_soc) & (theta <= o.kappa_soc * c.corrected_violation)
        want_soc = (first_soc | next_soc) & ~accepted
        shorter = jnp.where(correcting, alpha_max, c.alpha) * o.alpha_red_factor
        reductions = c.reductions + 1
        exhausted = ~(shorter > jnp.minimum(alpha_min, backtrack_start(c.reverted)))
        to_soft = exhausted & soft_allowed & ~softly & ~want_soc & ~watch_failed
        fails = jnp.where(softly, ~finite, exhausted & ~soft_allowed & ~want_soc & ~watch_failed)

        residual = view.residual(rows, primal)
        accumulated = residual + c.alpha * jnp.where(
            first_soc, view.residual(origin.rows, origin.iterate.primal), c.corrected_rows
        )

        def solve(carry):
            primal_c, rows_c = correct(accumulated)
            return primal_c, rows_c, jnp.array(False)

        # A conditional that batching leaves conditional: nothing runs unless some lane wants a correction.
        correction = lax.while_loop(lambda k: k[2], solve, (*c.correction, want_soc))[:2]
        alpha_soc = _boundary(view, start_slack, correction[0], tau)

        result = jnp.where(
            accepted,
            jnp.where(softly, SOFT_ACCEPTED, ACCEPTED),
            jnp.where(passed, PASSED, jnp.where(fails, FAILED, jnp.where(softly & finite, SOFT_TENTATIVE, SEARCHING))),
        )
        ongoing = result == SEARCHING
        kind = jnp.where(want_soc, CORRECTION, jnp.where(to_soft, SOFT, ORDINARY))
        reverted = c.reverted | (revert & ongoing)
        back_soft = _soft_alpha(c.reverted)
        alpha = jnp.where(
            want_soc,
            alpha_soc,
            jnp.where(to_soft, back_soft, jnp.where(revert, backtrack_start(jnp.array(True)), shorter)),
        )
        return _Trial(
            jnp.where(ongoing, kind, c.kind),
            jnp.where(ongoing, alpha, c.alpha),
            jnp.where(ongoing & ~want_soc & ~revert, reductions, c.reductions),
            result,
            reverted,
            c.from_search | (to_soft & ongoing),
            error,
            watchdog_trials,
            c.cleared | reset,
            by_filter,
            rejections,
            jnp.where(want_soc, jnp.where(first_soc, 1, c.corrections + 1), c.corrections),
            jnp.where(want_soc, theta, c.corrected_violation),
            jnp.where(want_soc, accumulated, c.corrected_rows),
            correction,
            phi,
            f,
            rows,
            primal,
            c.evaluations + 1,
        )

    def _soft_alpha(reverted):
        again = jnp.minimum(
            _boundary(view, stored_slack, watchdog.direction.primal, tau),
            step_to_boundary(stored.iterate.bounds, watchdog.direction.bounds, view.has, tau),
        )
        return jnp.where(reverted, again, soft_alpha)

    no, none = jnp.array(False), jnp.array(0)
    start = _Trial(
        jnp.where(soft_now, SOFT, ORDINARY),
        jnp.where(soft_now, soft_alpha, backtrack_start(give_up)),
        none,
        jnp.where(~searching | soft_exhausted, FAILED, SEARCHING),
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
    last = lax.while_loop(lambda c: c.result == SEARCHING, trial, start)

    origin, step, start_slack = base(last.reverted)
    accepted, passed = last.result == ACCEPTED, last.result == PASSED
    soft_good, tentative = last.result == SOFT_ACCEPTED, last.result == SOFT_TENTATIVE
    tiny = tiny & enabled
    failed = enabled & ~tiny & (last.result == FAILED)
    corrected = accepted & (last.kind == CORRECTION)

    # Primal step, with the multiplier steps that belong to it
    primal_step = jnp.where(corrected, last.correction[0], step.primal)
    rows_step = jnp.where(corrected, last.correction[1], step.rows)
    z_step = jnp.where(
        corrected, bound_direction(view, origin.iterate, start_slack, mu, last.correction[0]), step.bounds
    )
    alpha = jnp.where(tiny, alpha_max, last.alpha)
    alpha_z = step_to_boundary(origin.iterate.bounds, z_step, view.has, tau)
    in_soft = soft_good | tentative
    leaving_soft = soft_good & soft
    alpha_z = jnp.where(in_soft & ~leaving_soft, alpha, alpha_z)
    alpha_y = _row_step_length(choices.alpha_for_y, alpha, alpha_z, primal_step, view, o)
    alpha_y = jnp.where(leaving_soft, 0.0, jnp.where(in_soft, alpha, alpha_y))
    primal = jnp.where(tiny, origin.iterate.primal + alpha_max * step.primal, last.primal)
    moved = Point(
        Iterate(
            primal,
            origin.iterate.rows + alpha_y * rows_step,
            origin.iterate.bounds + alpha_z * z_step,
        ),
        last.objective,
        last.rows,
    )
    took = accepted | passed | in_soft | tiny
    # Filter, f-type or h-type
    test_alpha = jnp.where(watching & ~last.reverted, watchdog.alpha, jnp.where(corrected, alpha_max, last.alpha))
    f_type = is_f_type(reference, test_alpha, o) & armijo(reference, last.barrier, test_alpha, o)
    augment = (accepted & ~f_type) | last.from_search | (failed & ~soft)
    filter_ = g.filter.cleared(last.cleared).augmented(*entry, augment & enabled)

    letter = jnp.where(f_type, ord("f"), ord("h")) - jnp.where(corrected, 32, 0)
    tiny_again = tiny & last_row.tiny & (jnp.max(jnp.abs(direction.rows), initial=0.0) < o.tiny_step_y_tol)
    tag = jnp.where(accepted, letter, ord("w"))
    tag = jnp.where(soft_good, ord("S"), jnp.where(tentative, ord("s"), tag))
    tag = jnp.where(tiny, jnp.where(tiny_again, ord("T"), ord("t")), tag)
    full_step = (last.reductions == 0) | tiny | in_soft
    ended = accepted & watching
    active = watchdog.active & ~ended & ~last.reverted & ~give_up
    shortened = jnp.where(full_step, 0, jnp.where(last.reverted, 1, memory.shortened + 1))
    shortened = jnp.where(failed, 0, shortened)
    searched = eqx.tree_at(
        lambda s: (s.filter, s.theta_max, s.theta_min, s.reference, s.filter_rejections),
        g,
        (filter_, theta_max, theta_min, reference, last.rejections),
    )
    remembered = eqx.tree_at(
        lambda k: (k.watchdog, k.stored, k.shortened, k.soft_count),
        memory,
        (
            eqx.tree_at(lambda w: (w.active, w.trials), watchdog, (active, last.watchdog_trials)),
            select(tentative, origin, stored),
            shortened,
            jnp.where(tentative & soft, memory.soft_count + 1, 0),
        ),
    )
    return Outcome(
        jnp.where(enabled, jnp.where(tiny, ACCEPTED, last.result), SEARCHING),
        select(took, moved, origin),
        origin,
        searched,
        remembered,
        jnp.where(leaving_soft, 0.0, alpha),
        alpha_z,
        jnp.where(tiny, 0, last.reductions + 1),
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
    return jnp.where(small, 1.0, alpha if rule == "primal-and-full" else alpha_z)
