"""One trial of a line search: where it is, whether it is accepted, and which one follows if not.

Trials of all kinds (ordinary ones, second-order corrections, soft restoration) follow one another in whatever order the
lane needs, so that a compiled search evaluates the functions in a single place.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import select, where
from .._once import only_where
from .filter import acceptable_to_reference
from .options import Choices, Numbers
from .trial_records import LEISURELY, Kind, Result, Search, SecondOrder, Trial, Tried


def candidate(search: Search, c: Trial) -> Float[Array, " N"]:
    """Where the functions are wanted for this trial."""
    origin, direction = search.departure(c.reverted, lambda base: (base.point.iterate.primal, base.direction.primal))
    return origin + c.alpha * where(c.kind == Kind.CORRECTION, c.correction.primal, direction)


def measuring(first: Trial, wanted: Bool[Array, ""], reach: Float[Array, ""]) -> Trial:
    """Where ``wanted``: in place of a search, functions so far along its direction."""
    there = dataclasses.replace(
        first,
        result=jnp.full_like(first.result, Result.MEASURING),
        alpha=reach,
        flags=jnp.zeros_like(first.flags),
        kind=jnp.full_like(first.kind, Kind.ORDINARY),
    )
    return select(wanted, there, first)


def judge_trial(
    search: Search, c: Trial, f: Float[Array, ""], rows: Float[Array, " m"], numbers: Numbers, choices: Choices
) -> Trial:
    """The trial that follows, given the scaled functions at the candidate. Of a measurement, which is not counted, these are all
    there is to know."""
    o, view, g, mode, limits = numbers, search.view, search.globalization, search.mode, search.limits
    mu, reference, watching, alpha_max = g.mu, search.reference, mode.watching, search.base.here.last(2)
    origin = search.departure(c.reverted, lambda base: base.point)
    correcting, softly, reverted = c.kind == Kind.CORRECTION, c.kind == Kind.SOFT, c.reverted
    primal = candidate(search, c)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(rows))
    new_slack = view.guarded_slack(primal, origin.iterate.bounds, mu, o.slack_move)
    residual = view.residual(rows, primal)
    theta = jnp.sum(jnp.abs(residual))
    phi = view.barrier(f, primal, new_slack, mu)
    finite = finite & jnp.isfinite(phi) & jnp.isfinite(theta)

    full = where(reverted, jnp.ones_like(alpha_max), alpha_max)
    tested_alpha = where(watching & ~reverted, limits.watched_alpha, where(correcting, full, c.alpha))
    tested_alpha = where(softly, 0.0, tested_alpha)
    within = theta <= limits.theta_max
    progress = acceptable_to_reference(reference, phi, theta, tested_alpha, limits.theta_min, o)
    corners = g.acceptance.filter.cleared(c.cleared)
    by_entry = ~(softly & c.from_search) | (phi <= limits.objective) | (theta <= limits.violation)
    in_filter = corners.accepts(phi, theta) & by_entry
    accepted = finite & within & progress & in_filter
    if choices.accept_every_trial_step:
        accepted = where(softly, accepted, finite)
    else:
        enough = (o.accept_after_max_steps >= 0) & (c.reductions >= o.accept_after_max_steps)
        accepted = where(enough & ~softly, finite, accepted)

    # Filter reset heuristic: five searches in a row whose last rejection came from the filter.
    tested = finite & within
    by_filter = where(tested, progress & ~in_filter, c.by_filter)
    counting = accepted & c.by_filter & (o.max_filter_resets > 0)
    rejections = where(accepted, where(counting, c.rejections + 1, 0), c.rejections)
    reset = counting & (rejections >= o.filter_reset_trigger)
    by_filter = by_filter & ~accepted

    # What comes next if this one is rejected
    error = c.evaluation_error | (~finite & ~correcting)
    watch_failed = watching & ~reverted & (c.kind == Kind.ORDINARY)
    watchdog_trials = c.watchdog_trials + (watch_failed & ~accepted)
    revert = watch_failed & (error | (watchdog_trials > o.watchdog_trial_iter_max))
    passed = watch_failed & ~revert
    first_soc = (
        (c.kind == Kind.ORDINARY)
        & (c.reductions == 0)
        & ~reverted
        & ~watch_failed
        & finite
        & (theta >= reference.violation)
        & (o.max_soc > 0)
    )
    next_soc = correcting & finite & (c.corrections < o.max_soc) & (theta <= o.kappa_soc * c.correction.violation)
    want_soc = (first_soc | next_soc) & ~accepted
    reductions = c.reductions + 1
    # Where only the objective is to fall, after a dozen cuts, or after a search without success, it is no longer a matter of a
    # little less.
    feasible = reference.violation <= o.tol
    hasty = feasible & ((reductions > LEISURELY) | mode.after_tiny)
    factor = where(hasty, o.alpha_red_factor**4, o.alpha_red_factor)
    shorter = where(correcting, alpha_max, c.alpha) * factor
    soft_allowed = (o.soft_resto_pderror_reduction_factor != 0) & (not choices.expect_infeasible_problem)
    exhausted = ~(shorter > jnp.minimum(limits.alpha_min, c.first_alpha))
    unresolved = shorter <= where(reverted, limits.stored_least, search.base.here.last(1))
    exhausted = exhausted | (unresolved & ~feasible)
    backtracking = ~want_soc & ~watch_failed
    stalls = unresolved & feasible & ~exhausted & ~softly & backtracking
    to_soft = exhausted & soft_allowed & ~softly & backtracking
    fails = where(softly, ~finite, exhausted & ~soft_allowed & backtracking)

    result = where(
        accepted,
        where(softly, Result.SOFT_ACCEPTED, Result.ACCEPTED),
        where(
            passed,
            Result.PASSED,
            where(fails, Result.FAILED, where(softly & finite, Result.SOFT_TENTATIVE, Result.SEARCHING)),
        ),
    )
    result = where(stalls & (result == Result.SEARCHING), Result.STALLED, result)
    measured = c.result == Result.MEASURING
    result = where(measured, Result.MEASURED, result)
    ongoing = result == Result.SEARCHING

    def of_another_kind(known):
        """Of trials that are not the one before, shortened."""
        correction, _, first_alpha = known
        before = view.residual(origin.rows, origin.iterate.primal)
        accumulated = residual + c.alpha * where(first_soc, before, correction.rows)
        direction = search.correction(accumulated)
        corrected = SecondOrder(*direction, accumulated, theta)
        back = reverted | revert
        step = where(want_soc, direction[0], search.departure(back, lambda base: base.direction.primal))
        longest, softened = search.lengths(back, step, o)
        again = longest * o.alpha_red_factor
        alpha = where(want_soc, longest, where(to_soft, softened, again))
        return select(want_soc, corrected, correction), alpha, where(revert, again, first_alpha)

    correction, alpha, first_alpha = only_where(
        ongoing & (want_soc | to_soft | revert), of_another_kind, (c.correction, shorter, c.first_alpha)
    )
    kind = where(want_soc, Kind.CORRECTION, where(to_soft, Kind.SOFT, Kind.ORDINARY))
    counters = (
        where(ongoing & ~want_soc & ~revert, reductions, c.reductions),
        watchdog_trials,
        rejections,
        where(want_soc, where(first_soc, 1, c.corrections + 1), c.corrections),
        c.evaluations + ~measured,
    )
    flags = reverted | (revert & ongoing), c.from_search | (to_soft & ongoing), error, c.cleared | reset, by_filter
    return Trial(
        kind=where(ongoing, kind, c.kind),
        result=result,
        alpha=where(ongoing, alpha, c.alpha),
        first_alpha=first_alpha,
        counters=jnp.stack(counters),
        flags=jnp.stack(flags),
        correction=correction,
        last=Tried(primal, f, rows, phi),
    )
