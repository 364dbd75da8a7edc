"""The quality function of the adaptive barrier strategy (Nocedal, Waechter and Waltz 2009, sections 3 and 5).

It predicts the KKT error after a step to the boundary along ``affine + sigma * centering``, which is what the centering
parameter ``sigma`` is chosen by: first the side of one to look on, then a golden section.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._choose import where
from .iterate import View, bound_steps, maximum_norm, step_to_boundary
from .options import Choices, Numbers


GOLDEN = (3 - math.sqrt(5)) / 2
UNKNOWN = -100.0  # stands for values at the ends of the section that were not computed


def averaged_norm(values: Float[Array, " *k"], count, kind: str) -> Float[Array, ""]:
    """Norm of the entries, divided by what makes it independent of how many ``count`` says there are."""
    count = jnp.maximum(count, 1)
    if kind == "1-norm":
        return jnp.sum(jnp.abs(values)) / count
    if kind == "2-norm-squared":
        return jnp.sum(values * values) / count
    if kind == "2-norm":
        return jnp.sqrt(jnp.sum(values * values) / count)
    return maximum_norm(values)


class StepFamily(eqx.Module):
    """The steps ``affine + sigma * centering`` of slacks and bound multipliers, from an iterate."""

    has: Bool[Array, "2 N"]
    slack: Float[Array, "2 N"]
    z: Float[Array, "2 N"]
    slack_affine: Float[Array, "2 N"]
    slack_centering: Float[Array, "2 N"]
    z_affine: Float[Array, "2 N"]
    z_centering: Float[Array, "2 N"]

    @staticmethod
    def from_primal(
        view: View,
        slack: Float[Array, "2 N"],
        z: Float[Array, "2 N"],
        affine: Float[Array, " N"],
        centering: Float[Array, " N"],
        average: Float[Array, ""],
    ) -> "StepFamily":
        """From the primal steps; the centering one aims at the complementarity ``average``."""
        slack_affine, slack_centering = bound_steps(affine), bound_steps(centering)
        z_affine = where(view.has, -z - z / slack * slack_affine, 0.0)
        z_centering = where(view.has, (average - z * slack_centering) / slack, 0.0)
        return StepFamily(
            has=view.has,
            slack=slack,
            z=z,
            slack_affine=slack_affine,
            slack_centering=slack_centering,
            z_affine=z_affine,
            z_centering=z_centering,
        )

    def taken(self, sigma: Float[Array, ""] | float, tau: Float[Array, ""] | float) -> tuple:
        """Step lengths to the boundary and the complementarity products there."""
        slack_step, z_step = self.slack_affine + sigma * self.slack_centering, self.z_affine + sigma * self.z_centering
        primal = step_to_boundary(self.slack, slack_step, self.has, tau)
        dual = step_to_boundary(self.z, where(self.has, z_step, 0.0), self.has, tau)
        products = (self.slack + primal * slack_step) * (self.z + dual * z_step)
        return primal, dual, where(self.has, products, 0.0)


def quality_function(
    steps: StepFamily,
    view: View,
    lagrangian: Float[Array, " N"],
    residual: Float[Array, " m"],
    rows: Int[Array, ""],
    tau: Float[Array, ""],
    choices: Choices,
) -> Callable[[Float[Array, ""]], Float[Array, ""]]:
    """``q(sigma)``, with the norm and the optional terms that were chosen. ``rows`` is the number of constraints."""
    kind, centrality = choices.quality_function_norm_type, choices.quality_function_centrality
    power = 2 if kind == "2-norm-squared" else 1
    dual_now = averaged_norm(lagrangian, jnp.sum(view.active), kind)
    primal_now = averaged_norm(residual, rows, kind)
    bounds = jnp.sum(view.has)

    def quality(sigma):
        alpha_primal, alpha_dual, products = steps.taken(sigma, tau)
        dual, primal = (1 - alpha_dual) ** power * dual_now, (1 - alpha_primal) ** power * primal_now
        complementarity = averaged_norm(products, bounds, kind)
        value = dual + primal + complementarity
        if centrality != "none":
            smallest = jnp.min(where(view.has, products, jnp.inf), initial=jnp.inf)
            xi = jnp.minimum(1.0, smallest * jnp.maximum(bounds, 1) / jnp.sum(products))
            term = {"log": -jnp.log(xi), "reciprocal": 1 / xi, "cubed-reciprocal": xi**-3}[centrality]
            value = value + complementarity * term
        if choices.quality_function_balancing_term == "cubic":
            value = value + jnp.maximum(0.0, jnp.maximum(dual, primal) - complementarity) ** 3
        return value

    return quality


class _Course(eqx.Module):
    """How far the search has come."""

    trip: Int[Array, ""]
    stopped: Bool[Array, ""]
    finished: Bool[Array, ""]


class _Ends(eqx.Module):
    """Of the bracket, lower and upper."""

    places: Float[Array, " 2"]
    values: Float[Array, " 2"]
    moved: Bool[Array, " 2"]


class _Middles(eqx.Module):
    places: Float[Array, " 2"]
    values: Float[Array, " 2"]
    slot: Int[Array, ""]  # the one that waits for its value


class _Section(eqx.Module):
    course: _Course
    following: Float[Array, ""]  # where the next value is wanted
    at_one: Float[Array, ""]
    larger: Bool[Array, ""]  # the search is for sigma > 1
    ends: _Ends
    middles: _Middles
    last: Float[Array, ""]  # value at the end of the bracket that never moved


def best_sigma(
    quality: Callable[[Float[Array, ""]], Float[Array, ""]],
    smallest: Float[Array, ""],
    largest: Float[Array, ""],
    enabled: Bool[Array, ""],
    numbers: Numbers,
    steps: int,
) -> Float[Array, ""]:
    """Centering parameter in ``[smallest, largest]`` that minimises the quality function, as far as found.

    One loop holds the only place where the quality function is evaluated: at 1, just below, at the two middles, at the
    section points, and at the end of the bracket that never moved.
    """
    o = numbers
    below = 1 - jnp.maximum(1e-4, o.quality_function_section_sigma_tol)
    one, both = jnp.ones_like(below), jnp.arange(2)
    unknown = UNKNOWN * one

    def bracket(larger):
        """Ends of the search, as values of sigma."""
        smaller_up = jnp.minimum(jnp.maximum(smallest, below), largest)
        return where(larger, 1.0, smallest), where(larger, largest, smaller_up)

    def wide(c: _Section):
        return c.ends.places[1] - c.ends.places[0] >= o.quality_function_section_sigma_tol * c.ends.places[1]

    def spread(c: _Section):
        four = jnp.concatenate([c.ends.values, c.middles.values])
        return 1 - jnp.min(four) / jnp.max(four)

    def body(c: _Section) -> _Section:
        value, trip = quality(c.following), c.course.trip
        # The first two values say on which side of one to search.
        second = trip == 1
        larger = where(second, value > c.at_one, c.larger)
        low, up = bracket(larger)
        ends = where(second, jnp.stack([low, up]), c.ends.places)
        known = where(larger, jnp.stack([c.at_one, unknown]), jnp.stack([unknown, value]))
        width = ends[1] - ends[0]
        opened = eqx.tree_at(
            lambda s: (
                s.course.trip,
                s.following,
                s.at_one,
                s.larger,
                s.ends.places,
                s.ends.values,
                s.middles.places,
                s.middles.slot,
            ),
            c,
            (
                trip + 1,
                c.following,
                where(trip == 0, value, c.at_one),
                larger,
                ends,
                where(second, known, c.ends.values),
                where(second, ends[0] + jnp.stack([GOLDEN * width, (1 - GOLDEN) * width]), c.middles.places),
                where(second, 0, c.middles.slot),
            ),
        )
        values = where((both == c.middles.slot) & (trip >= 2) & ~c.course.stopped, value, c.middles.values)
        full = eqx.tree_at(lambda s: s.middles.values, opened, values)

        # Then the bracket shrinks towards the better middle.
        sectioning = trip >= 3
        advance = sectioning & ~c.course.stopped & wide(full) & (spread(full) >= o.quality_function_section_qf_tol)
        advance = advance & (trip < 3 + steps)
        right = values[0] > values[1]
        side = where(right, 0, 1)  # the end that moves, which is also the middle that is kept in its place
        moved = where(both == side, full.middles.places, full.ends.places)
        width = moved[1] - moved[0]
        fresh = moved[0] + where(right, 1 - GOLDEN, GOLDEN) * width
        ends_moved = where(advance, full.ends.moved | (both == side), full.ends.moved)
        end = where(ends_moved[1], full.ends.places[0], full.ends.places[1])
        following = where(
            trip == 0,
            below,
            where(second, full.middles.places[0], where(trip == 2, full.middles.places[1], where(advance, fresh, end))),
        )
        stopped = c.course.stopped | (sectioning & ~advance)
        return _Section(
            course=_Course(full.course.trip, stopped, c.course.stopped),
            following=following,
            at_one=full.at_one,
            larger=larger,
            ends=_Ends(
                places=where(advance, moved, full.ends.places),
                values=where(advance & (both == side), values, full.ends.values),
                moved=ends_moved,
            ),
            middles=_Middles(
                places=where(advance, where(both == side, full.middles.places[1 - side], fresh), full.middles.places),
                values=where(advance, where(both == side, values[1 - side], 0.0), values),
                slot=where(trip == 2, 1, where(advance, 1 - side, full.middles.slot)),
            ),
            last=where(c.course.stopped, value, c.last),
        )

    pair, no, none = jnp.stack([one, one]), jnp.array(False), jnp.array(0)
    start = _Section(
        course=_Course(none, no, ~enabled),
        following=one,
        at_one=one,
        larger=no,
        ends=_Ends(pair, pair, jnp.array([False, False])),
        middles=_Middles(pair, pair, none),
        last=one,
    )
    c = lax.while_loop(lambda c: ~c.course.finished, body, start)

    middle = jnp.argmin(c.middles.values)
    end = where(c.ends.moved[1], c.ends.places[0], c.ends.places[1])
    use_end = (c.last < c.middles.values[middle]) & ~jnp.all(c.ends.moved)
    best = where(use_end, end, c.middles.places[middle])
    flat = wide(c) & (spread(c) < o.quality_function_section_qf_tol)
    everywhere = jnp.concatenate([c.ends.values, c.middles.values])
    best = where(flat, jnp.concatenate([c.ends.places, c.middles.places])[jnp.argmin(everywhere)], best)
    low, up = bracket(c.larger)
    return where(low >= up, where(c.larger, up, low), best)
