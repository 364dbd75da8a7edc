"""First derivatives from differences of values that never leave a box."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from .coloring import Coloring
from .step_sizes import Sizes


Scheme = Literal["2-point", "3-point", "cs"]
SCHEMES = ("2-point", "3-point", "cs")
_EPSILON = float(np.finfo(np.float64).eps)
_RELATIVE_STEP = {"2-point": _EPSILON ** (1 / 2), "3-point": _EPSILON ** (1 / 3), "cs": 1e-20}
# Where a difference is not finite, the function may be defined a little nearer to the point.
_SHRINKING = (1.0, 1e-2, 1e-4)
_ROUNDING = 16.0  # values are good to so many units in their last place, for all that is known

Function = Callable[[np.ndarray], np.ndarray]  # (n,) to (k,)


class Differences:
    """Jacobians ``(k, n)`` by differences, one variable at a time, at points within ``lb <= x <= ub``.

    - ``"3-point"``: central differences; where a bound is nearer than the step, one-sided ones of the same second order.
    - ``"2-point"``: one-sided, of first order, upwards unless the upper bound is in the way.
    - ``"cs"``: the imaginary part at ``x + ih``, exact to rounding; for functions that take complex numbers.

    Steps are ``relative_step`` times the size of a variable (see `Sizes`), by default ``eps^(1/3)`` for ``"3-point"`` and
    ``eps^(1/2)`` for ``"2-point"``; or what ``absolute_step`` says. A variable that its bounds leave no room has derivative zero,
    because nothing can be known about it.
    """

    def __init__(
        self,
        lb: np.ndarray,
        ub: np.ndarray,
        scheme: Scheme = "3-point",
        relative_step: float | np.ndarray | None = None,
        absolute_step: float | np.ndarray | None = None,
    ):
        self._lb, self._ub, self._scheme = lb, ub, scheme
        self._relative_step = np.abs(_RELATIVE_STEP[scheme] if relative_step is None else relative_step) * np.ones(
            lb.size
        )
        self._sizes = Sizes(lb, ub)
        self._absolute_step = None if absolute_step is None else np.abs(absolute_step) * np.ones(lb.size)

    def jacobian(self, function: Function, x: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The Jacobian at ``x``, where ``function`` is ``value``."""
        if x.size == 0:
            return np.zeros((value.size, 0))

        def columns(which: Any, steps: np.ndarray) -> np.ndarray:
            return np.stack([self._column(function, x, value, i, float(steps[i])) for i in which])

        return columns(range(x.size), self._steps(x, value, columns)).T

    def _steps(self, x: np.ndarray, value: np.ndarray, slopes: Callable[[Any, np.ndarray], np.ndarray]) -> np.ndarray:
        """Of every variable, ``(n,)``; ``slopes`` by given ones, of some variables."""
        relative = self._relative_step
        if self._absolute_step is not None:
            return self._absolute_step
        if self._scheme == "cs":  # as short as can be: nothing cancels
            return relative * self._sizes.bounds(x)[0]
        rounding = _ROUNDING * _EPSILON * float(np.max(np.abs(value[np.isfinite(value)]), initial=0.0))

        def by_size(which: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            steps = relative * sizes
            return slopes(which, steps), rounding / steps[which, None]

        return relative * self._sizes.at(x, by_size)

    def entries(self, function: Function, x: np.ndarray, value: np.ndarray, coloring: Coloring) -> np.ndarray:
        """The entries of the Jacobian in the order of a pattern whose columns are coloured: variables of one colour are moved
        together (Curtis, Powell and Reid 1974)."""
        columns = coloring.pattern.columns
        order = np.argsort(columns, kind="stable")
        starts = np.searchsorted(columns[order], np.arange(x.size))
        place = np.arange(columns.size) - starts[columns[order]]

        def slopes(which: np.ndarray, steps: np.ndarray) -> np.ndarray:
            padded = np.zeros((x.size, int(np.max(place, initial=0)) + 1))
            padded[columns[order], place] = self._entries(function, x, value, coloring, steps)[order]
            return padded[which]

        return self._entries(function, x, value, coloring, self._steps(x, value, slopes))

    def _entries(
        self, function: Function, x: np.ndarray, value: np.ndarray, coloring: Coloring, steps: np.ndarray
    ) -> np.ndarray:
        pattern = coloring.pattern
        rows, columns = pattern.rows, pattern.columns
        groups = [coloring.colors == color for color in range(coloring.count)]
        if self._scheme == "cs":
            products = [np.imag(function(x + np.where(group, 1j * steps, 0.0))) for group in groups]
            return np.ravel(products)[coloring.places] / steps[columns] if groups else np.zeros(0)
        points = np.clip(x + self._first_offsets(x, steps), self._lb, self._ub)
        h = points - x
        usable = np.all(h != 0.0, axis=0) & (h[0] != h[-1] if len(h) > 1 else True)
        slopes = []
        for point, step in zip(points, h):
            products = [function(np.where(group & usable, point, x)) - value for group in groups]
            slopes.append(
                np.ravel(products)[coloring.places] / np.where(usable, step, 1.0)[columns] if groups else np.zeros(0)
            )
        found = slopes[0] if len(h) == 1 else _at_zero(slopes, h[:, columns], usable[columns])
        # Where that leads to nothing, a variable is moved alone, and if need be less far.
        alone = ~usable[columns] | (~np.isfinite(found) & np.isfinite(value)[rows])
        for i in np.unique(columns[alone]):
            here = columns == i
            found[here] = self._column(function, x, value, i, float(steps[i]))[rows[here]]
        return found

    def _first_offsets(self, x: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The first of the `_stencils` of every variable, ``(points, n)``."""
        below, above = x - self._lb, self._ub - x
        count = 1 if self._scheme == "2-point" else 2
        up, down = np.minimum(steps, above / count), np.minimum(steps, below / count)
        offsets = np.arange(1, count + 1)[:, None] * np.where(down > up, -down, up)
        if count == 2:
            offsets = np.where(np.minimum(below, above) >= steps, steps * np.array([[-1.0], [1.0]]), offsets)
        return offsets

    def _column(self, function: Function, x: np.ndarray, value: np.ndarray, i: int, step: float) -> np.ndarray:
        if self._scheme == "cs":
            return _complex_step(function, x, i, step)
        below, above = float(x[i] - self._lb[i]), float(self._ub[i] - x[i])
        first = None
        for factor in _SHRINKING:
            for offsets in self._stencils(below, above, factor * step):
                column = self._slope(function, x, value, i, offsets)
                if column is None:
                    continue
                if np.all(np.isfinite(column)) or not np.all(np.isfinite(value)):
                    return column
                first = column if first is None else first
        return np.zeros_like(value) if first is None else first

    def _stencils(self, below: float, above: float, step: float) -> list[tuple[float, ...]]:
        """Offsets of the points to look at besides ``x``, the best choice first."""
        count = 1 if self._scheme == "2-point" else 2
        up, down = min(step, above / count), min(step, below / count)
        sides = [tuple(k * up for k in range(1, count + 1)), tuple(-k * down for k in range(1, count + 1))]
        if down > up:
            sides.reverse()
        if count == 2 and min(below, above) >= step:
            sides.insert(0, (-step, step))
        return sides

    def _slope(
        self, function: Function, x: np.ndarray, value: np.ndarray, i: int, offsets: tuple[float, ...]
    ) -> np.ndarray | None:
        """The derivative at ``x`` of the polynomial through the points; None where they coincide."""
        points = [x.copy() for _ in offsets]
        for point, offset in zip(points, offsets):
            point[i] = np.clip(x[i] + offset, self._lb[i], self._ub[i])  # rounding may have led outside
        h = [float(point[i] - x[i]) for point in points]  # the steps actually taken
        if 0.0 in h or len(set(h)) < len(h):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            slopes = [(function(point) - value) / step for point, step in zip(points, h)]
        return slopes[0] if len(h) == 1 else _at_zero(slopes, h)


def _at_zero(slopes: Sequence[np.ndarray], h: Any, usable: Any = True) -> np.ndarray:
    """The derivative from two slopes, by Newton's divided differences: of second order for any two distinct steps."""
    with np.errstate(invalid="ignore"):
        return (h[1] * slopes[0] - h[0] * slopes[1]) / np.where(usable, h[1] - h[0], 1.0)


def _complex_step(function: Function, x: np.ndarray, i: int, step: float) -> np.ndarray:
    point = x.astype(np.complex128)
    point[i] += 1j * step
    return np.imag(function(point)) / step
