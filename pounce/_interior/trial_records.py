"""What a line search knows, and what its trials are: records without decisions."""

import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .._records import entry
from .direction import Correction
from .filter import Reference
from .iterate import View, bound_steps, step_to_boundary
from .options import Numbers
from .records import Packed
from .state import Departure, Globalization, Memory, Point


LEISURELY = 12  # steps are cut by `alpha_red_factor` so many times, and by its fourth power from then on
MOST_DEEP = 6  # so many steps in a row that are cut more often, or change next to nothing, count as no step at all
THETA_MAX_FACTOR_IN_RESTORATION = 1e8  # Ipopt's default for `resto.theta_max_fact`


class Kind(enum.IntEnum):
    """Kinds of trial."""

    ORDINARY = 0
    CORRECTION = 1  # of second order
    SOFT = 2  # of soft restoration


class Result(enum.IntEnum):
    """How a search ended."""

    SEARCHING = 0  # not yet
    ACCEPTED = 1
    PASSED = 2  # by the watchdog
    SOFT_ACCEPTED = 3
    SOFT_TENTATIVE = 4
    FAILED = 5
    # No search: functions are wanted at one point, and nothing follows from them here
    MEASURING = 6
    MEASURED = 7
    STALLED = 8  # shorter steps would change the point by less than function values can tell


class Outcome(eqx.Module):
    """Where the search ended. ``point`` is the new iterate, unless it failed; ``base`` the `Departure` of the step."""

    result: Int[Array, ""]
    point: Point
    base: Packed
    globalization: Globalization
    memory: Memory
    alpha: Float[Array, ""]
    alpha_dual: Float[Array, ""]
    tag: Int[Array, ""]


class Tried(eqx.Module):
    """A trial point with its scaled function values and barrier objective."""

    primal: Float[Array, " N"]
    objective: Float[Array, ""]
    rows: Float[Array, " m"]
    barrier: Float[Array, ""]


class SecondOrder(eqx.Module):
    """The second-order correction: its direction, the residuals that make it, and the violation that it is to reduce."""

    primal: Float[Array, " N"]
    dual: Float[Array, " m"]
    rows: Float[Array, " m"]
    violation: Float[Array, ""]


class Trial(eqx.Module):
    """The trial to make next while ``result`` is SEARCHING, else the one that ended the search."""

    kind: Int[Array, ""]
    result: Int[Array, ""]
    alpha: Float[Array, ""]
    first_alpha: Float[Array, ""]  # of the ordinary trials from the same base
    counters: Int[Array, " 5"]
    flags: Bool[Array, " 5"]
    correction: SecondOrder
    last: Tried

    reductions = entry("counters", 0)
    watchdog_trials = entry("counters", 1)
    rejections = entry("counters", 2)
    corrections = entry("counters", 3)
    evaluations = entry("counters", 4)
    reverted = entry("flags", 0)  # from where the watchdog began
    from_search = entry("flags", 1)  # the soft trial follows a failed search
    evaluation_error = entry("flags", 2)
    cleared = entry("flags", 3)  # the filter is
    by_filter = entry("flags", 4)


class Limits(eqx.Module):
    """Numbers that trials are compared with."""

    figures: Float[Array, " 8"]

    theta_max = entry("figures", 0)
    theta_min = entry("figures", 1)
    alpha_min = entry("figures", 2)
    watched_alpha = entry("figures", 3)  # step length in the tests of a trial that the watchdog may let pass
    stored_least = entry("figures", 4)  # `Departure.least` of where the watchdog began
    relative = entry("figures", 5)  # the direction's largest relative change of a variable
    # The corner that leaving the reference point adds to the filter
    objective = entry("figures", 6)
    violation = entry("figures", 7)


class Mode(eqx.Module):
    """What kind of search it is."""

    flags: Bool[Array, " 8"]

    enabled = entry("flags", 0)
    soft = entry("flags", 1)  # it belongs to the soft restoration phase
    tiny = entry("flags", 2)
    tiny_again = entry("flags", 3)
    after_tiny = entry("flags", 4)  # the step before was one, or none at all
    give_up = entry("flags", 5)  # the watchdog ends before the first trial
    woken = entry("flags", 6)  # it begins here
    watching = entry("flags", 7)


class Base(eqx.Module):
    """The `Departure` of this pass and that of the watchdog, packed; slacks are of the former."""

    here: Packed
    stored: Packed
    slack: Float[Array, "2 N"]

    def chosen(self, back: Bool[Array, ""]) -> Packed:
        return select(back, self.stored, self.here)


class Search(eqx.Module):
    """What a search knows from its beginning to its end. ``globalization`` and ``memory`` are those it began with."""

    view: View
    base: Base
    correction: Correction
    globalization: Globalization
    memory: Memory
    mode: Mode
    reference: Reference
    limits: Limits

    @property
    def _departure(self) -> Departure:
        return Departure.shapes(self.base.slack.shape[1], self.view.equality.size, self.base.slack.dtype)

    def departure(self, reverted: Bool[Array, ""], which: Callable[[Departure], Any] = lambda whole: whole) -> Any:
        """Point and direction that trials start from, or which part of these is wanted."""
        return self.base.chosen(reverted & ~self.mode.woken).unpacked(self._departure, which)

    def slack(self, reverted: Bool[Array, ""], point: Point, o: Numbers) -> Float[Array, "2 N"]:
        """The slacks there."""
        iterate = point.iterate
        again = self.view.guarded_slack(iterate.primal, iterate.bounds, self.globalization.mu, o.slack_move)
        return where(reverted, again, self.base.slack)

    def boundary(self, slack: Float[Array, "2 N"], step: Float[Array, " N"]) -> Float[Array, ""]:
        return step_to_boundary(slack, bound_steps(step), self.view.has, self.globalization.tau)

    def lengths(self, reverted: Bool[Array, ""], step: Float[Array, " N"] | None, o: Numbers) -> tuple:
        """Longest lengths of a ``step`` (by default the direction) and of a step of soft restoration, which is one length for
        primal and dual variables."""
        base = self.departure(reverted)
        along: Array = base.direction.primal if step is None else step
        longest = self.boundary(self.slack(reverted, base.point, o), along)
        dual = step_to_boundary(base.point.iterate.bounds, base.direction.bounds, self.view.has, self.globalization.tau)
        return longest, jnp.minimum(longest, dual)
