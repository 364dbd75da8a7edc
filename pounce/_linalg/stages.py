"""Stage structure of a KKT pattern: a numbering in which the matrix is block tridiagonal with small blocks of one size."""

import equinox as eqx
import numpy as np
import scipy.sparse as sps
from jaxtyping import Int

from .sparse import Pattern
from .sparse_ldl.dissection import distances, farthest
from .sparse_ldl.graph import PivotGraph, kkt_entries
from .sparse_ldl.matching import match
from .sparse_ldl.schedule import Table
from .sparse_ldl.symbolic import Rows
from .sparse_ldl.tables import rows_of


class Stages(eqx.Module):
    """Index tables of a block tridiagonal factorisation.

    ``diagonal[t, i, j]`` and ``below[t, i, j]`` say which value of the matrix stands in block (t, t) and (t + 1, t); the zero
    and the one behind the last value fill up. Positions 2k and 2k + 1 of a block are one pivot.
    """

    diagonal: Int[Table, "t b b"]
    below: Int[Table, "t b b"]
    sign: Int[Table, "t b"]  # the expected sign of each position: + primal or vacant, - dual
    unknown: Int[Table, "t b"]  # position -> unknown, their number for a vacant position
    position: Int[Table, " u"]  # unknown -> position
    row: Int[Table, " k"]
    column: Int[Table, " k"]
    rows: Rows

    @property
    def shape(self) -> tuple[int, int]:
        """How many stages, and their size."""
        return self.unknown.shape[0], self.unknown.shape[1]


def find_stages(
    hessian: Pattern,
    jacobian: Pattern,
    jacobian_values: np.ndarray | None = None,
    equality: np.ndarray | None = None,
    *,
    largest: int = 64,
    fewest: int = 16,
) -> Stages | None:
    """Stages of a KKT matrix found by a breadth-first search over its pivots, or None if it has none worth having.

    Level structures from a pseudo-peripheral pivot (a constraint row with the variable it is matched to, or a variable) are
    joined to blocks of at most ``largest`` unknowns; at least ``fewest`` blocks must come out.
    """
    m, n = jacobian.shape
    partner = match(jacobian, jacobian_values, None, equality)
    rows, columns = kkt_entries(hessian, jacobian)
    pivots = PivotGraph(n, m, partner, rows, columns)
    if pivots.width.size == 0:
        return None
    graph = pivots.graph
    count, component = sps.csgraph.connected_components(graph, directed=False)
    everywhere, degree = np.ones(component.size, bool), np.diff(graph.indptr)
    distance = np.zeros(component.size, np.int64)
    for _ in range(3):
        distance = distances(graph, farthest(distance, component, degree, everywhere))
    # Components one behind the other: nothing couples them.
    depth = np.zeros(count, np.int64)
    np.maximum.at(depth, component, distance + 1)
    level = distance + (np.cumsum(depth) - depth)[component]
    width = np.bincount(level, weights=pivots.width).astype(np.int64)
    best = None
    for limit in {max(int(width.max()), size) for size in range(2, largest + 1, 2)}:
        stage = _joined(width, limit)
        size = int(np.bincount(stage, weights=width).max())
        stages = int(stage[-1]) + 1
        cost = stages * (size + 4.0) ** 3
        if size <= largest and stages >= fewest and (best is None or cost < best[0]):
            best = cost, stage
    if best is None:
        return None
    return _tables(n, rows, columns, pivots, best[1][level])


def declared_stages(
    hessian: Pattern, jacobian: Pattern, stage: np.ndarray, equality: np.ndarray | None = None
) -> Stages:
    """Stages given by the stage of each unknown, variables first, then constraint rows. A row is matched to a variable of its
    own stage where there is one; entries may couple neighbouring stages only."""
    m, n = jacobian.shape
    stage = np.asarray(stage, np.int64)
    rows, columns = kkt_entries(hessian, jacobian)
    if stage.shape != (n + m,) or np.any(np.abs(stage[rows] - stage[columns]) > 1):
        raise ValueError("`stage` must give one stage per unknown, and entries may couple neighbouring stages only")
    inside = stage[jacobian.columns] == stage[n + jacobian.rows]
    partner = match(jacobian, inside.astype(float), None, equality)
    pivots = PivotGraph(n, m, partner, rows, columns)
    of_pivot = np.zeros(pivots.width.size, np.int64)
    of_pivot[pivots.pivot_of] = stage - stage.min(initial=0)
    return _tables(n, rows, columns, pivots, of_pivot)


def _joined(width: np.ndarray, limit: int) -> np.ndarray:
    """Neighbouring levels joined greedily to at most ``limit`` unknowns: the block of each level."""
    block, filled = 0, 0
    result = np.zeros(width.size, np.int64)
    for k, size in enumerate(width.tolist()):
        if filled and filled + size > limit:
            block, filled = block + 1, 0
        filled += size
        result[k] = block
    return result


def _tables(n: int, rows: np.ndarray, columns: np.ndarray, pivots: PivotGraph, stage_of: np.ndarray) -> Stages:
    total = pivots.pivot_of.size
    stage = stage_of[pivots.pivot_of]
    stages = int(stage.max()) + 1
    # Inside a stage pairs come first, then single variables, then single rows: what is weak alone is filled in by then.
    pair = pivots.width[pivots.pivot_of] == 2
    kind = np.where(pair, 0, np.where(np.arange(total) < n, 1, 2))
    order = np.lexsort((pivots.second, pivots.pivot_of, kind, stage))
    rank = np.arange(total) - np.searchsorted(stage[order], stage[order])
    size = int(rank.max()) + 1
    size += size % 2
    position = np.empty(total, np.int64)
    position[order] = stage[order] * size + rank
    value = np.arange(rows.size)
    zero, one = rows.size, rows.size + 1
    diagonal = np.full((stages, size, size), zero, np.int32)
    below = np.full((stages, size, size), zero, np.int32)
    unknown = np.full(stages * size, total, np.int32)
    unknown[position] = np.arange(total)
    sign = np.where((unknown >= n) & (unknown < total), -1, 1)
    vacant = np.flatnonzero(unknown == total)
    diagonal[vacant // size, vacant % size, vacant % size] = one
    (s, i), (t, j) = np.divmod(position[rows], size), np.divmod(position[columns], size)
    same, after, before = s == t, s == t + 1, t == s + 1
    diagonal[s[same], i[same], j[same]] = value[same]
    diagonal[s[same], j[same], i[same]] = value[same]
    below[t[after], i[after], j[after]] = value[after]
    below[s[before], j[before], i[before]] = value[before]
    return Stages(
        diagonal=diagonal,
        below=below,
        sign=sign.reshape(stages, size).astype(np.int8),
        unknown=unknown.reshape(stages, size),
        position=position.astype(np.int32),
        row=rows.astype(np.int32),
        column=columns.astype(np.int32),
        rows=rows_of(rows, columns, total),
    )
