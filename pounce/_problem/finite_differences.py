"""First derivatives from differences of values that never leave a box."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from .coloring import Coloring


Scheme = Literal["2-point", "3-point", "cs"]
SCHEMES = ("2-point", "3-point", "cs")
_EPSILON = float(np.finfo(np.float64).eps)
_RELATIVE_STEP = {"2-point": _EPSILON ** (1 / 2), "3-point": _EPSILON ** (1 / 3), "cs": 1e-20}
# Where a difference is not finite, the function may be defined a little nearer to the point.
_SHRINKING = (1.0, 1e-2, 1e-4)

Function = Callable[[np.ndarray], np.ndarray]  # (n,) to (k,)


class Differences:
    """Jacobians ``(k, n)`` by differences, one variable at a time, at points within ``lb <= x <= ub``.

    - ``"3-point"``: central differences; where a bound is nearer than the step, one-sided ones of the same second order.
    - ``"2-point"``: one-sided, of first order, upwards unless the upper bound is in the way.
    - ``"cs"``: the imaginary part at ``x + ih``, exact to rounding; for functions that take complex numbers.

    Steps are ``relative_step * max(1, |x_i|)``, by default ``eps^(1/3)`` for ``"3-point"`` and ``eps^(1/2)`` for ``"2-point"``.
    A variable that its bounds leave no room has derivative zero, because nothing can be known about it.
    """

    def __init__(
        self,
        lb: np.ndarray,
        ub: np.ndarray,
        scheme: Scheme = "3-point",
        relative_step: float | np.ndarray | None = None,
    ):
        self._lb, self._ub, self._scheme = lb, ub, scheme
        self._relative_step = np.abs(_RELATIVE_STEP[scheme] if relative_step is None else relative_step)

    def jacobian(self, function: Function, x: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The Jacobian at ``x``, where ``function`` is ``value``."""
        steps = self._relative_step * np.maximum(1.0, np.abs(x))
        columns = [self._column(function, x, value, i, float(step)) for i, step in enumerate(steps)]
        return np.stack(columns, axis=1) if columns else np.zeros((value.size, 0))

    def entries(self, function: Function, x: np.ndarray, value: np.ndarray, coloring: Coloring) -> np.ndarray:
        """The entries of the Jacobian in the order of a pattern whose columns are coloured: variables of one colour are moved
        together (Curtis, Powell and Reid 1974)."""
        pattern = coloring.pattern
        rows, columns = pattern.rows, pattern.columns
        steps = self._relative_step * np.maximum(1.0, np.abs(x))
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
