"""The equations that hold on a set of active inequalities and bounds, as one symmetric system."""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from .._conic.data import NO_BOUND
from .data import Point, Program
from .lu import factorized


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


class Shares(NamedTuple):
    """Slacks and multipliers of rows, lower and upper bounds, each as a share of what it is added to: free of units."""

    slacks: tuple[np.ndarray, np.ndarray, np.ndarray]
    multipliers: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, data: Program, point: Point, d: Distances) -> "Shares":
        """Of a point, given its distances.

        A multiplier is measured by the largest share it has in a row of stationarity; a slack by the terms of its row. A
        bound that is zero has none: the variable's unit is then what it takes to matter in a row, or against the curvature.
        """
        x, z = np.abs(point.x), (np.abs(point.z), np.abs(point.z_lb), np.abs(point.z_ub))
        P, A, G = (None if given is None else abs(given) for given in (data.P, data.A, data.G))
        stationarity = np.abs(data.c) + z[1] + z[2]
        for matrix, factor in ((P, x), (None if A is None else A.T, point.y), (None if G is None else G.T, point.z)):
            if matrix is not None:
                stationarity = stationarity + matrix @ np.abs(factor)
        weights = _inverse(stationarity)
        unit, rows = np.zeros(x.size), np.zeros(0)
        if P is not None:
            unit = np.maximum(unit, P.diagonal() * weights)
        pull = np.zeros(0)
        for matrix, right in ((A, data.b), (G, data.h)):
            if matrix is not None:
                rows = np.where(np.abs(right) < NO_BOUND, np.abs(right), 0.0) + matrix @ x
                unit = np.maximum(unit, _largest(_scaled(matrix, _inverse(rows), None), 0))
                if matrix is G:
                    pull = _largest(_scaled(matrix, None, weights), 1)
        size = np.maximum(_inverse(unit), x)
        for bound in (data.lb, data.ub):
            if bound is not None:
                size = np.maximum(size, np.where(np.abs(bound) < NO_BOUND, np.abs(bound), 0.0))
        rows = rows if G is not None else np.zeros(0)
        slacks = tuple(np.maximum(s, 0.0) * _inverse(of, 1.0) for s, of in zip(d[:3], (rows, size, size)))
        return cls(slacks, (z[0] * pull, z[1] * weights, z[2] * weights))  # pyright: ignore[reportArgumentType]


def _inverse(v: np.ndarray, of_zero: float = 0.0) -> np.ndarray:
    positive = v > 0
    return np.where(positive, 1.0 / np.where(positive, v, 1.0), of_zero)


def _scaled(matrix: Any, rows: np.ndarray | None, columns: np.ndarray | None) -> Any:
    if scipy.sparse.issparse(matrix):
        matrix = matrix if rows is None else scipy.sparse.diags_array(rows) @ matrix
        return matrix if columns is None else matrix @ scipy.sparse.diags_array(columns)
    matrix = matrix if rows is None else rows[:, None] * matrix
    return matrix if columns is None else matrix * columns


def _largest(matrix: Any, axis: int) -> np.ndarray:
    """The largest entry of each column (axis 0) or row (axis 1) of a nonnegative matrix."""
    if matrix.shape[axis] == 0:
        return np.zeros(matrix.shape[1 - axis])
    found = matrix.max(axis=axis)
    return found.toarray().ravel() if scipy.sparse.issparse(found) else np.asarray(found)


def dominant(data: Program, point: Point) -> Working:
    """What is active because its multiplier is larger than its slack, both as shares."""
    d = Distances.of(data, point.x)
    shares = Shares.of(data, point, d)
    pairs = zip(shares.slacks, shares.multipliers, (point.z, point.z_lb, point.z_ub), strict=True)
    return Working._make([np.flatnonzero((z > s) & (sign > 0)) for s, z, sign in pairs] + [np.flatnonzero(d.fixed)])


class ActiveSystem:
    """``[[P, J'], [J, 0]]`` with the equality rows, the active inequalities and the active bounds in ``J``; sparse if the
    program is."""

    def __init__(self, data: Program, working: Working):
        self._data, self._working = data, working
        n = data.c.shape[0]
        self.sparse = any(map(scipy.sparse.issparse, (data.P, data.A, data.G)))
        unit: Any = scipy.sparse.eye_array(n, format="csr") if self.sparse else np.eye(n)
        blocks: list[Any] = [
            unit[:0] if data.A is None else data.A,
            unit[:0] if data.G is None else data.G[working.rows],
        ]
        blocks += [-unit[working.lower], unit[working.upper], unit[working.fixed]]
        self.equalities, self.n = blocks[0].shape[0], n
        hessian = np.zeros((n, n)) if data.P is None else data.P
        if self.sparse:
            self.jacobian: Any = scipy.sparse.vstack(blocks, format="csr")
            k = self.jacobian.shape[0]
            nothing = scipy.sparse.csr_array((k, k))
            hessian = scipy.sparse.csr_array((n, n)) if data.P is None else data.P
            self.matrix: Any = scipy.sparse.block_array(
                [[hessian, self.jacobian.T], [self.jacobian, nothing]], format="csr"
            )
        else:
            self.jacobian = np.vstack(blocks)
            k = self.jacobian.shape[0]
            self.matrix = np.block([[hessian, self.jacobian.T], [self.jacobian, np.zeros((k, k))]])
        self._scale = np.ones(n + k)
        for _ in range(5):
            largest = self._column_sizes(self._scaled())
            self._scale /= np.sqrt(np.where(largest > 0, largest, 1.0))

    def _scaled(self) -> Any:
        if self.sparse:
            scale = scipy.sparse.diags_array(self._scale)
            return scale @ self.matrix @ scale
        return self._scale[:, None] * self.matrix * self._scale

    def _column_sizes(self, matrix: Any) -> np.ndarray:
        """The largest magnitude in each column of a symmetric matrix."""
        if not self.sparse:
            return np.max(np.abs(matrix), axis=1)
        return abs(matrix).max(axis=0).toarray().ravel() if matrix.nnz else np.zeros(matrix.shape[0])

    def factorize(self, regularization: float = REGULARIZATION) -> float:
        """An LU factorisation of the equilibrated matrix; its condition number in the 1-norm, estimated."""
        scaled = self._scaled()
        shift = regularization * np.concatenate([np.ones(self.n), -np.ones(self.jacobian.shape[0])])
        norm = float(np.max(abs(scaled).sum(axis=0)))
        self._lu = factorized(scaled + (scipy.sparse.diags_array(shift) if self.sparse else np.diag(shift)))
        return norm * self._lu.inverse_norm() if np.isfinite(norm) else float("inf")

    def solve(self, right: np.ndarray) -> tuple[np.ndarray, float]:
        """The solution, refined against the matrix without regularisation, and its residual relative to ``right``."""
        solution, residual, error = np.zeros_like(right), right, np.inf
        for _ in range(MAX_REFINEMENTS):
            trial = solution + self._scale * self._lu.solve(self._scale * residual)
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
