"""First derivatives from differences of values that never leave a box."""

from collections.abc import Callable
from typing import Literal

import numpy as np


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
        if len(h) == 1:
            return slopes[0]
        # Newton's divided differences: second order for any two distinct steps.
        return (h[1] * slopes[0] - h[0] * slopes[1]) / (h[1] - h[0])


def _complex_step(function: Function, x: np.ndarray, i: int, step: float) -> np.ndarray:
    point = x.astype(np.complex128)
    point[i] += 1j * step
    return np.imag(function(point)) / step
