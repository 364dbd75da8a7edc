"""The index tables of a factorisation that goes column after column."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Int, UInt

from .elimination import Columns
from .graph import PivotGraph
from .schedule import Table, rounded, stable_order
from .tail import DenseTail, dense_tail


class Counts(eqx.Module):
    """How many values and unknowns there are, and how many of these are dual."""

    values: UInt[Table, ""]
    unknowns: UInt[Table, ""]
    duals: Int[Table, ""]

    @classmethod
    def of(cls, values: int, unknowns: int, duals: int) -> "Counts":
        """In arrays of NumPy."""
        return cls(np.asarray(values, np.uint32), np.asarray(unknowns, np.uint32), np.asarray(duals, np.int32))


class ColumnSymbolic(eqx.Module):
    """Index tables: a pytree of arrays, to be an argument of compiled functions.

    The matrix is cut into blocks of one or two unknowns, its *pivots*, in the order of their elimination. Blocks are numbered
    column by column, that of the diagonal first; the last number is vacant.
    """

    source: UInt[Table, " k"]  # of each value of the matrix: where it stands in what is handed over,
    row: UInt[Table, " k"]  # its row and column
    column: UInt[Table, " k"]
    target: UInt[Table, " k"]  # where it stands among the numbers of all blocks,
    mirror: UInt[Table, " k"]  # and where it stands again, if it is off the diagonal of a block of the diagonal
    vacant: UInt[Table, " v"]  # where a pivot has a one instead of a second unknown
    start: UInt[Table, " s1"]  # the first block of each column
    below: UInt[Table, " e"]  # the pivot in whose row each block stands
    # The blocks left of the diagonal, row by row; and for each of them its column.
    prior_start: UInt[Table, " s1"]
    prior: UInt[Table, " l"]
    prior_column: UInt[Table, " l"]
    sign: Int[Table, "s c"]  # the expected sign of each unknown of a pivot
    shift: Int[Table, "s c"]  # what is added to its diagonal, in units of the regularisation
    unknown: UInt[Table, " u"]  # of each unknown: where it stands in what is handed over
    place: UInt[Table, " u"]  # and among those of all pivots
    counts: Counts
    early: UInt[Table, ""]  # how many columns are eliminated one by one
    pivots: UInt[Table, ""]  # how many there are
    dense: Bool[Table, " s"]  # which are part of the tail
    real: Bool[Table, " u"]  # which of what is handed over are unknowns
    tail: DenseTail | None = None  # what is factorised as one dense matrix
    optional: bool = eqx.field(static=True, default=False)  # whether the tail may be room that is not used

    @property
    def width(self) -> int:
        """The size of the blocks."""
        return self.sign.shape[1]

    @property
    def sizes(self) -> dict[str, int]:
        """Figures for reports: pivots, blocks of the factor, their size, unknowns of the tail, and bytes of tables."""
        table_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self))
        tail = 0 if self.tail is None else self.tail.primal.shape[0] + self.tail.dual.shape[0]
        sizes = dict(pivots=int(self.pivots), blocks=self.below.shape[0], width=self.width, tail=tail)
        return sizes | dict(table_bytes=table_bytes)


def column_tables(
    n: int,
    rows: np.ndarray,
    columns: np.ndarray,
    graph: PivotGraph,
    order: np.ndarray,
    structure: Columns,
    *,
    shifted: bool,
    tail: int = 0,
    like: ColumnSymbolic | None = None,
) -> ColumnSymbolic:
    """Tables for a matrix whose first ``n`` unknowns are primal, with values at ``rows, columns`` of one of its triangles;
    ``order`` and ``structure`` are of the pivots. ``shifted``: the diagonal is regularised.
    ``tail``: how many of the last pivots are left for a dense factorisation. Tables get no smaller than those of ``like``."""
    width, pivots = int(graph.width.max(initial=1)), order.size
    place = np.empty(pivots, np.int64)
    place[order] = np.arange(pivots)
    pivot, second = place[graph.pivot_of], graph.second.astype(np.int64)
    early = pivots - tail

    # Columns with their diagonals; those of the tail are full.
    heights = np.diff(structure.start)
    heights[early:] = np.arange(tail - 1, -1, -1)
    start = np.concatenate([[0], np.cumsum(heights + 1)])
    blocks = int(start[-1])
    column = np.repeat(np.arange(pivots), heights + 1)
    below = column + np.arange(blocks) - start[column]
    off = below > column
    inside = off & (column < early)
    below[inside] = structure.rows

    size = max(rounded(blocks + 1), 0 if like is None else like.below.shape[0])
    count = max(rounded(pivots + 1), 0 if like is None else like.sign.shape[0])
    numbers = width * width
    dump = size * numbers - 1

    left = np.flatnonzero(inside)
    left = left[stable_order(below[left], pivots)]
    prior_size = max(rounded(left.size + 1), 0 if like is None else like.prior.shape[0])

    # From values of the matrix to blocks: the later pivot is the row.
    p, q = pivot[rows], pivot[columns]
    swap = p < q
    u, v = np.where(swap, columns, rows), np.where(swap, rows, columns)
    p, q = pivot[u], pivot[v]
    block = np.searchsorted(column * pivots + below, q * pivots + p)
    target = block * numbers + second[u] * width + second[v]
    mirrored = (p == q) & (u != v)
    mirror = np.where(mirrored, block * numbers + second[v] * width + second[u], dump)
    vacant = start[place[np.flatnonzero(graph.width < width)]] * numbers + numbers - 1
    vacant_size = max(rounded(vacant.size + 1), 0 if like is None else like.vacant.shape[0])

    sign = np.ones((count, width), np.int8)
    sign[pivot[n:], second[n:]] = -1
    unknowns = pivot * width + second
    dense = np.zeros(count, bool)
    dense[early:pivots] = True
    end = None
    if tail:
        late = np.full((tail, width), -1)
        of_tail = np.flatnonzero(pivot >= early)
        late[pivot[of_tail] - early, second[of_tail]] = of_tail
        first = start[early]
        end = dense_tail(late >= 0, late >= n, np.arange(early, pivots), below[first:] - early, column[first:] - early)
    return ColumnSymbolic(
        source=_unsigned(np.arange(rows.size)),
        row=_unsigned(rows),
        column=_unsigned(columns),
        target=_unsigned(target),
        mirror=_unsigned(mirror),
        vacant=_unsigned(vacant, vacant_size, dump),
        start=_unsigned(start, count + 1, blocks),
        below=_unsigned(below, size, pivots),
        prior_start=_unsigned(np.searchsorted(below[left], np.arange(pivots + 1)), count + 1, left.size),
        prior=_unsigned(left, prior_size, blocks),
        prior_column=_unsigned(column[left], prior_size, pivots),
        sign=sign,
        shift=sign * np.int8(shifted),
        unknown=_unsigned(np.arange(unknowns.size)),
        place=_unsigned(unknowns),
        counts=Counts.of(rows.size, unknowns.size, unknowns.size - n),
        early=np.asarray(early, np.uint32),
        pivots=np.asarray(pivots, np.uint32),
        dense=dense,
        real=np.ones(unknowns.size, bool),
        tail=end,
    )


def _unsigned(values: np.ndarray, size: int | None = None, fill: int = 0) -> np.ndarray:
    """Indices without a sign, filled up."""
    padded = np.full(values.size if size is None else size, fill, np.uint32)
    padded[: values.size] = values
    return padded
