"""How large variables are, for steps that are a share of that: nobody says it, so values, bounds and differences are asked."""

from collections.abc import Callable

import numpy as np


_EPSILON = float(np.finfo(np.float64).eps)
_LADDER = 1e-2  # between the sizes that are tried
_AGREED = 1e-9  # a relative difference of slopes, beyond what rounding explains, up to which the longer step will do
_LEAST = 1e-6  # of a value: no size is smaller, lest steps drown in its rounding
_SMALLEST = 1e-24  # no size of a variable is smaller, whatever its value

# From the variables that are looked at and a size for every variable: of each of those the slopes ``(variables, k)``, and what
# rounding may have done to them, ``(variables, 1)``.
Slopes = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Sizes:
    """Sizes of the variables of one function at the points where it is differentiated.

    A size is ``max(1, |x_i|)``, or a tenth of the box if that is less. Where the value is much smaller than this, it may be what
    counts (a coefficient of 1e-6), or may not (a variable on its way through zero): then slopes by steps of several sizes are
    compared, once for every power of ten that the value goes through, and the longest step is taken whose slope a shorter one
    confirms; where none does, that which comes nearest to it.
    """

    def __init__(self, lb: np.ndarray, ub: np.ndarray):
        self._box = 0.1 * (ub - lb)
        self._found = np.full(lb.size, np.nan)
        self._at = np.full(lb.size, np.nan)  # the magnitude of the value then

    def bounds(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest that the sizes may be, ``(n,)`` each."""
        value = np.abs(x)
        box = np.where(self._box > 0.0, np.maximum(self._box, _LEAST * value), np.inf)
        large = np.minimum(np.maximum(1.0, value), box)
        return np.where(value > 0.0, np.minimum(np.maximum(value, _SMALLEST), large), large), large

    def at(self, x: np.ndarray, slopes: Slopes) -> np.ndarray:
        """The sizes at ``x``, ``(n,)``."""
        (small, large), value = self.bounds(x), np.abs(x)
        in_doubt = small < 0.1 * large
        new = ~((value >= 0.1 * self._at) & (value <= 10.0 * self._at))
        asked = np.flatnonzero(in_doubt & new)
        if asked.size:
            self._found[asked] = _compared(asked, small, large, slopes)
            self._at[asked] = np.maximum(value[asked], _SMALLEST)
        self._at[~in_doubt] = np.nan
        # What was found to be no more than a share of the value moves with it.
        moving = np.where(self._found <= self._at, self._found / self._at * np.maximum(value, _SMALLEST), self._found)
        return np.where(in_doubt, moving, large)


def _compared(asked: np.ndarray, small: np.ndarray, large: np.ndarray, slopes: Slopes) -> np.ndarray:
    """The sizes of the variables that were asked for."""
    best, least = large[asked].copy(), np.full(asked.size, np.inf)
    size, left = large.copy(), np.arange(asked.size)
    now, _ = slopes(asked, size)
    while left.size:
        which, longer = asked[left], size[asked[left]].copy()
        # One step beyond the least tells whether slopes differ there because of noise.
        size[which] = np.where(longer > small[which], np.maximum(_LADDER * longer, small[which]), _LADDER * longer)
        before, (now, rounding) = now, slopes(which, size)
        gap = _gap(before, now, rounding)
        nearer = gap < least[left]
        best[left[nearer]], least[left[nearer]] = longer[nearer], gap[nearer]
        going_on = (gap > _AGREED) & (size[which] >= small[which])
        left, now = left[going_on], now[going_on]
    return best


def _gap(first: np.ndarray, second: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """How far slopes are apart, relative to the larger one, by more than rounding explains; the worst of each variable."""
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.maximum(np.abs(first - second) - rounding, 0.0)
        gap = apart / np.maximum(np.abs(first), np.abs(second))
    gap = np.where(apart == 0.0, 0.0, gap)
    return np.max(np.where(np.isnan(gap), np.inf, gap), axis=1, initial=0.0)
