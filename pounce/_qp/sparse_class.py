"""Size classes of sparse programs: patterns and the tables of factors are handed over in arrays of a few sizes.

Loops over entries end where the entries do (`pounce._linalg.entries`), and those of a factor with its columns; vectors are
rounded up like those of dense programs (`size_class`).
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from .._linalg.choice import quasi_definite_solver
from .._linalg.entries import Entries
from .._linalg.quasi_definite import QuasiDefiniteLDL
from .._linalg.sparse import Pattern
from .._linalg.sparse_ldl import SparseLDL
from .._linalg.sparse_ldl.columns import ColumnSymbolic
from .._linalg.sparse_ldl.fitting import Room, fitted, needed
from .data import Program, Tables, kernel_matrix


class Capacity(NamedTuple):
    """What a sparse program takes: variables, equality rows, inequalities; entries of the lower triangle of the Hessian with its
    diagonal and of both kinds of rows; blocks of the factor, without those of a tail, and those left of its diagonal."""

    n: int
    p: int
    m: int
    P: int
    A: int
    G: int
    blocks: int
    left: int

    def holds(self, other: "Capacity") -> bool:
        """Whether there is room for another one."""
        return all(size <= room for size, room in zip(other, self))


# A level is so many variables and has that much room for each of them; the larger ones have room for a dense tail of a factor.
# Larger programs are rounded up number by number: they take longer than their compilation.
LEVELS = (128, False), (512, False), (1536, True), (4608, True)
EACH = 1, 2 / 3, 1, 4, 8, 16, 24, 24
TAIL = 192  # primal, and dual, unknowns of a tail, of larger ones an eighth more at most


def capacity_for(own: Capacity, tailed: bool) -> tuple[Capacity, bool]:
    """That of the class, and whether it has a tail, as it has if ``tailed``."""
    for level, tail in LEVELS:
        room = Capacity(*(int(level * share) for share in EACH))
        if room.holds(own) and tail >= tailed:
            return room, tail
    return Capacity(*(rounded(size, 4) for size in own)), tailed


def rounded(size: int, parts: int) -> int:
    """The next multiple of one of the ``parts`` of a power of two below."""
    unit = max((1 << max(size.bit_length() - 1, 0)) // parts, 1)
    return -(-size // unit) * unit


class Patterns(NamedTuple):
    """Those of a program: the lower triangle of its Hessian with the whole diagonal, equality rows and inequalities."""

    P: Pattern
    A: Pattern
    G: Pattern

    @classmethod
    def of(cls, data: Program) -> "Patterns":
        """Of a sparse program."""
        n, p, m = data.sizes
        P = kernel_matrix(data.P, True).pattern if data.P is not None else _diagonal(n)
        A, G = (
            Pattern.empty(rows, n) if given is None else Pattern.of(given) for given, rows in ((data.A, p), (data.G, m))
        )
        return cls(P, A, G)


@functools.lru_cache(maxsize=64)
def _diagonal(n: int) -> Pattern:
    return Pattern(np.arange(n), np.arange(n), (n, n))


class Made(NamedTuple):
    """What is made once of patterns: the class, and the tables."""

    room: Capacity
    tables: Tables


@functools.lru_cache(maxsize=64)
def made_for(patterns: Patterns) -> Made | None:
    """The tables of a sparse program; None if its factor goes by levels, as on an accelerator: these have sizes of their own."""
    P, A, G = patterns
    n, p, m = P.shape[0], A.shape[0], G.shape[0]
    stacked = Pattern(np.concatenate([A.rows, p + G.rows]), np.concatenate([A.columns, G.columns]), (p + m, n))
    solver: Any = quasi_definite_solver(P, stacked)
    symbolic = solver.solver.symbolic
    if not isinstance(symbolic, ColumnSymbolic):
        return None
    own = needed(symbolic)
    early = int(symbolic.start[int(symbolic.early)])
    own_room = Capacity(n, p, m, P.nnz, A.nnz, G.nnz, early + 1, own.left)
    room, tailed = capacity_for(own_room, symbolic.tail is not None)
    starts = np.cumsum([0, room.P, room.A, room.G, room.p, room.m])
    lengths = P.nnz, A.nnz, G.nnz, p, m
    source = np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths)])
    unknown = np.concatenate([np.arange(n), room.n + np.arange(p), room.n + room.p + np.arange(m)])
    tail = 0, 0
    if tailed:
        tail = max(TAIL, rounded(own.tail[0], 8)), max(TAIL, rounded(own.tail[1], 8))
    unknowns = room.n + room.p + room.m
    blocks = room.blocks + sum(tail) * (sum(tail) + 1) // 2
    space = Room(int(starts[-1]), unknowns, unknowns + 1, blocks, room.left, tail)
    places = (
        Entries.of(P, room.P, (room.n, room.n), symmetric=True),
        Entries.of(A, room.A, (room.p, room.n)),
        Entries.of(G, room.G, (room.m, room.n)),
    )
    tables = QuasiDefiniteLDL(SparseLDL(fitted(symbolic, space, source, unknown)))
    return Made(room, Tables(tables, places))
