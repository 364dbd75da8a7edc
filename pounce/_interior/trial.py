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
from .search import (
    ACCEPTED,
    CORRECTION,
    FAILED,
    LEISURELY,
    MEASURED,
    MEASURING,
    ORDINARY,
    PASSED,
    SEARCHING,
    SOFT,
    SOFT_ACCEPTED,
    SOFT_TENTATIVE,
    STALLED,
    Search,
    Trial,
)


def candidate(search: Search, c: Trial) -> Float[Array, " N"]:
    """Where the functions are wanted for this trial."""
    origin, step, _ = search.origin(c.reverted)
    primal_step = where(c.kind == CORRECTION, c.correction[0], step.primal)
    return origin.iterate.primal + c.alpha * primal_step


def measuring(first: Trial, wanted: Bool[Array, ""], reach: Float[Array, ""]) -> Trial:
    """Where ``wanted``: in place of a search, functions so far along its direction."""
    there = dataclasses.replace(
        first,
        result=jnp.full_like(first.result, MEASURING),
        alpha=reach,
        reverted=jnp.zeros_like(first.reverted),
        kind=jnp.full_like(first.kind, ORDINARY),
    )
    return select(wanted, there, first)


def judge_trial(
    search: Search, c: Trial, f: Float[Array, ""], rows: Float[Array, " m"], numbers: Numbers, choices: Choices
) -> Trial:
    """The trial that follows, given the scaled functions at the candidate. Of a measurement, which is not counted, these are all
    there is to know."""
    o, view, g, alpha_max = numbers, search.view, search.globalization, search.alpha_max
    mu, reference, watchdog, watching = g.mu, search.reference, search.watchdog, search.watching
    origin, _, start_slack = search.origin(c.reverted)
    correcting, softly = c.kind == CORRECTION, c.kind == SOFT
    primal = candidate(search, c)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(rows))
    new_slack = view.guarded_slack(primal, origin.iterate.bounds, mu, o.slack_move)
    theta = jnp.sum(jnp.abs(view.residual(rows, primal)))
    phi = view.barrier(f, primal, new_slack, mu)
    finite = finite & jnp.isfinite(phi) & jnp.isfinite(theta)

    full = where(c.reverted, jnp.ones_like(alpha_max), alpha_max)
    test_alpha = where(softly, 0.0, where(watching & ~c.reverted, watchdog.alpha, where(correcting, full, c.alpha)))
    within = theta <= search.theta_max
    progress = acceptable_to_reference(reference, phi, theta, test_alpha, search.theta_min, o)
    corners = g.filter.cleared(c.cleared)
    by_entry = ~(softly & c.from_search) | (phi <= search.entry[0]) | (theta <= search.entry[1])
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
    reductions = c.reductions + 1
    # Where only the objective is to fall, after a dozen cuts, or after a search without success, it is no longer a matter of a
    # little less.
    feasible = reference.violation <= o.tol
    hasty = feasible & ((reductions > LEISURELY) | search.after_tiny)
    factor = where(hasty, o.alpha_red_factor**4, o.alpha_red_factor)
    shorter = where(correcting, alpha_max, c.alpha) * factor
    soft_allowed = (o.soft_resto_pderror_reduction_factor != 0) & (not choices.expect_infeasible_problem)
    exhausted = ~(shorter > jnp.minimum(search.alpha_min, search.first_alpha(c.reverted, o)))
    unresolved = shorter <= where(c.reverted, watchdog.least, search.least)
    exhausted = exhausted | (unresolved & ~feasible)
    stalls = unresolved & feasible & ~exhausted & ~softly & ~want_soc & ~watch_failed
    to_soft = exhausted & soft_allowed & ~softly & ~want_soc & ~watch_failed
    fails = where(softly, ~finite, exhausted & ~soft_allowed & ~want_soc & ~watch_failed)

    residual = view.residual(rows, primal)
    accumulated = residual + c.alpha * where(
        first_soc, view.residual(origin.rows, origin.iterate.primal), c.corrected_rows
    )

    correction = only_where(want_soc, lambda _: search.correction(accumulated), c.correction)
    alpha_soc = search.boundary(start_slack, correction[0])

    result = where(
        accepted,
        where(softly, SOFT_ACCEPTED, ACCEPTED),
        where(passed, PASSED, where(fails, FAILED, where(softly & finite, SOFT_TENTATIVE, SEARCHING))),
    )
    result = where(stalls & (result == SEARCHING), STALLED, result)
    measured = c.result == MEASURING
    result = where(measured, MEASURED, result)
    ongoing = result == SEARCHING
    kind = where(want_soc, CORRECTION, where(to_soft, SOFT, ORDINARY))
    reverted = c.reverted | (revert & ongoing)
    back_soft = search.first_soft_alpha(c.reverted)
    alpha = where(
        want_soc,
        alpha_soc,
        where(to_soft, back_soft, where(revert, search.first_alpha(jnp.array(True), o), shorter)),
    )
    return Trial(
        where(ongoing, kind, c.kind),
        where(ongoing, alpha, c.alpha),
        where(ongoing & ~want_soc & ~revert, reductions, c.reductions),
        result,
        reverted,
        c.from_search | (to_soft & ongoing),
        error,
        watchdog_trials,
        c.cleared | reset,
        by_filter,
        rejections,
        where(want_soc, where(first_soc, 1, c.corrections + 1), c.corrections),
        where(want_soc, theta, c.corrected_violation),
        where(want_soc, accumulated, c.corrected_rows),
        correction,
        phi,
        f,
        rows,
        primal,
        c.evaluations + ~measured,
    )
