"""Size classes: convex programs of the host are compiled for a few shapes, and rounded up to the next one.

A variable too many has a column of zeros, no cost and no bounds; an equality row too many is ``0 = 0``; an inequality too many is
absent (its right-hand side is infinite), as are the bounds of a program that has none. Nothing of them is in any sum, norm,
count or mean, so that the iterations are those of the program itself, up to the order in which sums are added.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from .._cone.layout import Layout
from .._cone_spec import Rows
from .._conic.data import ConicData
from .._conic.solution import ConicSolution
from ..conic import ConicSolve, sparse_solver
from .data import Facts, Inputs, Point, Program, Tables, kernel_data, kernel_matrix
from .sparse_class import Patterns, made_for, rounded


class SizeClass(NamedTuple):
    """Numbers of variables, equality rows and inequalities that a program is rounded up to, and whether it has bounds and a
    Hessian, if only of zeros."""

    n: int
    p: int
    m: int
    bounded: bool = True
    quadratic: bool = True

    @property
    def operations(self) -> float:
        """Those of a dense iteration."""
        n, p, m, *_ = self
        return n * n * (n / 3 + p + m) + p * p * (n + p / 3)

    def rounded(self, parts: int) -> "SizeClass":
        """Each number by itself rounded up to a multiple of one of the ``parts`` of a power of two below."""
        return self._replace(n=rounded(self.n, parts), p=rounded(self.p, parts), m=rounded(self.m, parts))


# Tied to each other: rounded up one by one they would make four times as many programs. Steps are large where an iteration takes
# its time for calling kernels rather than for arithmetic, and small where that grows with the third power of sizes.
LEVELS = (
    SizeClass(16, 8, 32),
    SizeClass(56, 24, 112),
    SizeClass(112, 48, 112),
    SizeClass(208, 96, 192),
    SizeClass(320, 208, 160),
)
MANY_ROWS = 512  # more inequalities than a level has are rounded up to this, or to a power of two beyond
# Programs of up to so many variables without bounds and equality rows do without what the others need, for there are many.
PLAIN = 56
# A level may cost so many times what an iteration costs in any case, which is its operations and as good as these.
MOST_WASTE, CALLS = 5.0, 2.5e5


_exact: ContextVar[bool] = ContextVar("_exact", default=False)


@contextlib.contextmanager
def unpadded() -> Iterator[None]:
    """While this lasts, programs are compiled for their own sizes: for comparisons."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def class_of(data: Program, rows: Rows, lanes: bool) -> SizeClass | None:
    """The class of a dense program, which may be a lane of many; None if it is compiled for its own sizes."""
    n, p, m = data.sizes
    if _exact.get() or rows.layout != Layout(nonnegative=m):
        return None
    bounded = data.lb is not None or data.ub is not None
    own = SizeClass(n, p, m, bounded, data.P is not None)
    if lanes:
        # Many lanes take their time for arithmetic however small they are.
        return own.rounded(2)
    plain = p == 0 and not bounded
    for level in LEVELS:
        if n <= level.n and p <= level.p:
            count = level.m if m <= level.m else max(MANY_ROWS, 1 << (m - 1).bit_length())
            size = level._replace(m=count)
            if plain and level.n <= PLAIN:
                size = size._replace(p=0, bounded=False)
            if size.operations <= MOST_WASTE * (own.operations + CALLS):
                return size
    return own.rounded(8)


class Fit:
    """How programs of one kind and size are rounded up, and their solutions cut back.

    - `program`: what is compiled in. `tables`: of a sparse program, None for a dense one.
    - `size`: the class; None where sizes are left as they are.
    """

    def __init__(self, data: Program, rows: Rows, lanes: bool = False):
        """``data``, ``rows``: one of them, with its cones. ``lanes``: they are lanes of one solve."""
        self._rows, self._sizes, self._room, self.tables = rows, data.sizes, None, None
        sparse = any(map(scipy.sparse.issparse, (data.P, data.A, data.G)))
        self.size = None if sparse else class_of(data, rows, lanes)
        if sparse and not lanes and not _exact.get() and rows.layout == Layout(nonnegative=data.sizes[2]):
            made = made_for(Patterns.of(data))
            if made is not None:
                self._room, self.tables = made
                self.size = SizeClass(made.room.n, made.room.p, made.room.m)
        if self.size is not None:
            layout = rows.layout._replace(nonnegative=self.size.m)
            self.program = ConicSolve(Rows(layout, None), self.size.p, 0.0, "zero")
            return
        self.program = ConicSolve(rows, data.sizes[1], 0.0, "zero")
        if sparse:
            self.tables = Tables(sparse_solver(self.program, ConicData(*kernel_data(data))))

    @property
    def _m(self) -> int:
        """How many cone rows the class has."""
        assert self.size is not None
        return self._sizes[2] + self.size.m - self._rows.layout.nonnegative

    def inputs(self, data: Program, warm: Point | None) -> Inputs:
        """What the compiled solve is given for such a program."""
        if self.size is None:
            return Inputs(kernel_data(data), warm, None)
        facts = Facts(np.asarray(float(self._sizes[0])), np.asarray(float(data.P is None)))
        return Inputs(self._data(self.size, data), self._warm(self.size, warm), facts)

    def _data(self, size: SizeClass, data: Program) -> Program:
        """The program, in the order of the solver's rows."""
        n, p, m = size.n, size.p, self._m
        bounds = [self.variables(bound, beyond) for bound, beyond in ((data.lb, -np.inf), (data.ub, np.inf))]
        if size.bounded:
            bounds = [
                np.full(n, beyond) if bound is None else bound for bound, beyond in zip(bounds, (-np.inf, np.inf))
            ]
        P, A, b, G, h = data.P, data.A, data.b, data.G, data.h
        b = _enlarged(np.zeros(0) if b is None else b, (p,))
        h = self._inserted(np.zeros(0) if h is None else h, np.inf)
        if self._room is not None:
            P = self._values(None if P is None else kernel_matrix(P, True).values, self._room.P)
            A, G = (
                self._values(None if given is None else given.data, room)
                for given, room in ((A, self._room.A), (G, self._room.G))
            )
            return Program(P, self.variables(data.c, 0.0), A, b, G, h, *bounds)
        P = _enlarged(np.zeros((0, 0)) if P is None else P, (n, n)) if size.quadratic else None
        A = _enlarged(np.zeros((0, n)) if A is None else A, (p, n))
        G = np.zeros((0, n)) if G is None else _enlarged(G, (self._sizes[2], n))
        rows = (self._inserted(G, 0.0), h) if m else (None, None)
        return Program(P, self.variables(data.c, 0.0), A if p else None, b if p else None, *rows, *bounds)

    def _values(self, values: np.ndarray | None, room: int) -> np.ndarray:
        """Those of a sparse matrix, filled up."""
        return _enlarged(np.zeros(0) if values is None else np.asarray(values), (room,))

    def _warm(self, size: SizeClass, warm: Point | None) -> Point | None:
        """A point of the program as one of its class."""
        if warm is None:
            return None
        x, z_lb, z_ub = (self.variables(v, 0.0) for v in (warm.x, warm.z_lb, warm.z_ub))
        return Point(x, _enlarged(warm.y, (size.p,)), self._inserted(warm.z, 0.0), z_lb, z_ub)

    def variables(self, v: np.ndarray | None, beyond: float) -> Any:
        """A vector by variables, its last axis, with the number of those that are too many."""
        if v is None or self.size is None or v.shape[-1] == self.size.n:
            return v
        return _enlarged(v, (*v.shape[:-1], self.size.n), beyond)

    def solution(self, solution: ConicSolution) -> ConicSolution:
        """A solution, or those of lanes, without what is too many, in the order of the user's rows."""
        if self.size is None:
            return solution
        n, p, _ = self._sizes
        x, z_lb, z_ub = (v[..., :n] for v in (solution.x, solution.z_lb, solution.z_ub))
        z, s = self._removed(np.asarray(solution.z)), self._removed(np.asarray(solution.s))
        cut: Any = dict(x=x, y=solution.y[..., :p], z=z, s=s, z_lb=z_lb, z_ub=z_ub)
        return dataclasses.replace(solution, **cut)

    def _inserted(self, v: np.ndarray, beyond: float) -> np.ndarray:
        """User rows in the solver's order, with those that are too many behind the other inequalities."""
        v = _turned(v if self._rows.order is None else v[np.array(self._rows.order)], self._rows.pairs)
        first, extra = self._rows.layout.nonnegative, self._m - v.shape[0]
        if not extra:
            return v
        return np.concatenate([v[:first], np.full((extra, *v.shape[1:]), beyond), v[first:]])

    def _removed(self, v: np.ndarray) -> np.ndarray:
        """The user's rows, the last axis, of those of the solver."""
        first, extra = self._rows.layout.nonnegative, self._m - self._sizes[2]
        v = np.concatenate([v[..., :first], v[..., first + extra :]], axis=-1)
        v = _turned(v.T, self._rows.pairs)
        return (v if self._rows.order is None else v[np.argsort(np.array(self._rows.order))]).T


def _enlarged(array: np.ndarray, shape: tuple[int, ...], beyond: float = 0.0) -> np.ndarray:
    """The array in the leading corner of a larger one."""
    if array.shape == shape:
        return array
    result = np.full(shape, beyond)
    result[tuple(slice(k) for k in array.shape)] = array
    return result


def _turned(v: np.ndarray, pairs: tuple[int, ...]) -> np.ndarray:
    """Rows with those of rotated cones turned, which is its own inverse."""
    if not pairs:
        return v
    v, first = v.copy(), np.array(pairs)
    a, b = v[first], v[first + 1]
    v[first], v[first + 1] = np.sqrt(0.5) * (a + b), np.sqrt(0.5) * (a - b)
    return v
