"""The equations that hold on a set of active inequalities and bounds, as one symmetric system."""

import functools
from typing import Any, NamedTuple

import numpy as np

from .._conic.data import NO_BOUND
from .data import Point, Program


REGULARIZATION = 1e-10
MAX_REFINEMENTS = 10
EPS = float(np.finfo(np.float64).eps)


class Working(NamedTuple):
    """Indices of what is active; a fixed variable is in neither of the bounds."""

    rows: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fixed: np.ndarray

    @property
    def size(self) -> int:
        return sum(len(part) for part in self)


class Distances(NamedTuple):
    """Distances of a point from everything that can become active, infinite for what is absent."""

    rows: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fixed: np.ndarray  # whether the bounds of a variable are equal

    @classmethod
    def of(cls, data: Program, x: np.ndarray) -> "Distances":
        n, infinite = x.shape[0], np.inf
        rows = np.zeros(0) if data.h is None else np.where(data.h < NO_BOUND, data.h - data.G @ x, infinite)
        lower = np.full(n, infinite) if data.lb is None else np.where(data.lb > -NO_BOUND, x - data.lb, infinite)
        upper = np.full(n, infinite) if data.ub is None else np.where(data.ub < NO_BOUND, data.ub - x, infinite)
        fixed = np.zeros(n, bool) if data.lb is None or data.ub is None else data.lb == data.ub
        return cls(rows, np.where(fixed, infinite, lower), np.where(fixed, infinite, upper), fixed)


def dominant(data: Program, point: Point) -> Working:
    """What is active because its multiplier is larger than its slack."""
    d = Distances.of(data, point.x)
    pairs = ((d.rows, point.z), (d.lower, point.z_lb), (d.upper, point.z_ub))
    return Working._make([np.flatnonzero(z > s) for s, z in pairs] + [np.flatnonzero(d.fixed)])


@functools.cache
def _lapack(name: str) -> Any:
    """A routine of LAPACK for float64."""
    from scipy.linalg import get_lapack_funcs

    return get_lapack_funcs(name, dtype=np.float64)


class ActiveSystem:
    """``[[P, J'], [J, 0]]`` with the equality rows, the active inequalities and the active bounds in ``J``."""

    def __init__(self, data: Program, working: Working):
        self._data, self._working = data, working
        n = data.c.shape[0]
        unit = np.eye(n)
        blocks = [np.zeros((0, n)) if data.A is None else data.A]
        blocks.append(np.zeros((0, n)) if data.G is None else data.G[working.rows])
        blocks += [-unit[working.lower], unit[working.upper], unit[working.fixed]]
        self.jacobian = np.vstack(blocks)
        self.equalities, self.n = blocks[0].shape[0], n
        hessian = np.zeros((n, n)) if data.P is None else data.P
        k = self.jacobian.shape[0]
        self.matrix = np.block([[hessian, self.jacobian.T], [self.jacobian, np.zeros((k, k))]])
        self._scale = np.ones(n + k)
        for _ in range(5):
            largest = np.max(np.abs(self._scale[:, None] * self.matrix * self._scale), axis=1)
            self._scale /= np.sqrt(np.where(largest > 0, largest, 1.0))

    def factorize(self, regularization: float = REGULARIZATION) -> float:
        """An LU factorisation of the equilibrated matrix; its condition number in the 1-norm, estimated."""
        scaled = self._scale[:, None] * self.matrix * self._scale
        signs = np.concatenate([np.ones(self.n), -np.ones(self.jacobian.shape[0])])
        norm = float(np.max(np.sum(np.abs(scaled), axis=0)))
        self._lu, self._pivots, info = _lapack("getrf")(scaled + regularization * np.diag(signs))
        if info != 0 or not np.isfinite(norm):
            return float("inf")
        reciprocal, _ = _lapack("gecon")(self._lu, norm)
        return float("inf") if reciprocal == 0 else 1.0 / float(reciprocal)

    def solve(self, right: np.ndarray) -> tuple[np.ndarray, float]:
        """The solution, refined against the matrix without regularisation, and its residual relative to ``right``."""
        solution, residual, error = np.zeros_like(right), right, np.inf
        for _ in range(MAX_REFINEMENTS):
            step, _ = _lapack("getrs")(self._lu, self._pivots, self._scale * residual)
            trial = solution + self._scale * step
            remaining = right - self.matrix @ trial
            new = float(np.max(np.abs(remaining)))
            if not new < error:
                break
            solution, residual, improved, error = trial, remaining, new < 0.5 * error, new
            if not improved or new == 0.0:
                break
        return solution, error / max(float(np.max(np.abs(right))), np.finfo(float).tiny)

    def point(self) -> Point | None:
        """The minimiser on the working set, with its multipliers (clipped to their signs); None if there is none."""
        data, w = self._data, self._working
        sides = [np.zeros(0) if data.b is None else data.b, np.zeros(0) if data.h is None else data.h[w.rows]]
        for index, bound, sign in ((w.lower, data.lb, -1.0), (w.upper, data.ub, 1.0), (w.fixed, data.ub, 1.0)):
            sides.append(np.zeros(0) if bound is None else sign * bound[index])
        if self.factorize() == np.inf:
            return None
        solution, _ = self.solve(np.concatenate([-data.c, *sides]))
        ends = np.cumsum([self.n, self.equalities, *(len(part) for part in w)])
        x, y, rows, lower, upper, fixed = np.split(solution, ends[:-1])
        point = Point(x, y, *(np.zeros(size) for size in (0 if data.h is None else data.h.shape[0], self.n, self.n)))
        point.z[w.rows], point.z_lb[w.lower], point.z_ub[w.upper] = (np.maximum(v, 0.0) for v in (rows, lower, upper))
        point.z_lb[w.fixed], point.z_ub[w.fixed] = np.maximum(-fixed, 0.0), np.maximum(fixed, 0.0)
        for index, bound in ((w.lower, data.lb), (w.upper, data.ub), (w.fixed, data.ub)):
            if bound is not None:
                x[index] = bound[index]
        return point
