"""The analysis of a KKT pattern on the host: everything about a factorisation that does not depend on values."""

import equinox as eqx
import jax
import numpy as np
import scipy.sparse as sps
from jaxtyping import Bool, Float, Int

from ..sparse import Pattern
from .elimination import Columns
from .matching import match
from .ordering import best_order
from .schedule import KINDS, Sweep, Table, longest_first, rounded, sweep


SLACK = max(64, *(width for width, _ in KINDS))
ENTRIES, UNKNOWNS = 64, 16  # how many entries, and unknowns, the loops over the pivots take at once


class Pivots(eqx.Module):
    """Where the pivot ``[[own, off], [off, other]]`` of each scalar stands in the factor. A pivot of size one has
    ``off = 0`` and ``other = 1``. ``sign``: the expected sign of ``own``."""

    own: Int[Table, " s"]
    other: Int[Table, " s"]
    off: Int[Table, " s"]
    sign: Float[Table, " s"]


class Rows(eqx.Module):
    """The full symmetric matrix by rows, cut into pieces of equal length: entry ``value`` in ``column`` (the zero behind the
    last value and the first column fill up), and the row each piece belongs to (ascending; the size for filled pieces)."""

    value: Int[Table, "p q"]
    column: Int[Table, "p q"]
    row: Int[Table, " p"]


class Symbolic(eqx.Module):
    """Index tables of a factorisation: a pytree of arrays, to be an argument of compiled functions.

    The factor is one buffer of *entries*, numbered by level of their column and longest update first; behind them come slack
    for the chunks that overlap the end, a zero and a one. The forward sweep numbers the unknowns by the level and length of
    their rows, the backward sweep by those of their columns.
    """

    source: Int[Table, " e"]  # entry of the factor -> value of the matrix (zero and one behind the last)
    row: Int[Table, " k"]  # of each value of the matrix: its row and column, for scaling
    column: Int[Table, " k"]
    rows: Rows
    factor: Sweep
    # Per level: where its entries and its unknowns (in forward order) begin, and how many slices they are cut into.
    entry_slices: Int[Table, "l 2"]
    unknown_slices: Int[Table, "l 2"]
    entry_column: Int[Table, " e"]  # the column of each entry, in forward order; a vacant one in diagonal blocks
    mate: Int[Table, " e"]  # the entry beside each entry in the other column of its pivot; the zero if there is none
    pivots: Pivots  # in forward order
    # What an unknown of the forward order counts for: 1 a pivot alone, 2 a pair, 0 its second.
    counts: Int[Table, " s"]
    real: Bool[Table, " s"]  # which positions of the forward order are unknowns
    beside: Int[Table, " s"]  # the position of the other unknown of the pivot; a vacant one if there is none
    forward: Sweep
    backward: Sweep
    to_forward: Int[Table, " s"]  # position in the forward order -> unknown
    to_backward: Int[Table, " s"]  # position in the backward order -> position in the forward order
    from_backward: Int[Table, " u"]  # unknown -> position in the backward order
    levels: Int[Table, ""]

    @property
    def sizes(self) -> dict[str, int]:
        """Figures for reports: levels, entries of the factor and bytes of tables."""
        table_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self))
        return dict(levels=int(self.levels), entries=self.source.size, table_bytes=table_bytes)


class PivotGraph:
    """Unknowns contracted to pivots: ``pivot_of[unknown]``, ``second[unknown]`` (the dual of a pair), ``width[pivot]``."""

    def __init__(self, n: int, m: int, partner: np.ndarray, rows: np.ndarray, columns: np.ndarray):
        pivot = np.full(n + m, -1)
        pivot[n:] = np.arange(m)
        matched = np.flatnonzero(partner >= 0)
        pivot[partner[matched]] = matched
        free = np.flatnonzero(pivot < 0)
        pivot[free] = m + np.arange(free.size)
        count = m + free.size
        self.pivot_of, self.second = pivot, np.zeros(n + m, bool)
        self.second[n + matched] = True
        self.width = np.bincount(pivot, minlength=count)
        a, b = pivot[rows], pivot[columns]
        kept = a != b
        a, b = a[kept], b[kept]
        self.graph = sps.csr_array(
            (np.ones(2 * a.size, np.int8), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(count, count)
        )
        self.graph.sum_duplicates()


def analyze(
    hessian: Pattern,
    jacobian: Pattern,
    hessian_values: np.ndarray | None = None,
    jacobian_values: np.ndarray | None = None,
    equality: np.ndarray | None = None,
    *,
    ordering: str = "auto",
) -> Symbolic:
    """Index tables for the factorisation of ``[[H, J'], [J, -D]]``.

    ``hessian``: pattern of the lower triangle of H, with or without its diagonal; ``jacobian``: pattern of J. Values, where
    known, choose better pivots (`matching`); ``equality`` marks the rows of J that may have ``D = 0``, all of them if None.
    Patterns that lead to tables of like sizes share compiled executables.
    """
    m, n = jacobian.shape
    if hessian.shape != (n, n):
        raise ValueError(f"a Hessian of shape {hessian.shape} does not fit a Jacobian of shape {jacobian.shape}")
    if np.any(hessian.columns > hessian.rows):
        raise ValueError("the pattern of the Hessian must be that of its lower triangle")
    curvature = None
    if hessian_values is not None:
        curvature = np.zeros(n)
        on = hessian.rows == hessian.columns
        curvature[hessian.rows[on]] = np.asarray(hessian_values)[on]
    partner = match(jacobian, jacobian_values, curvature, equality)
    rows = np.concatenate([hessian.rows, n + jacobian.rows, n + np.arange(m)]).astype(np.int64)
    columns = np.concatenate([hessian.columns, jacobian.columns, n + np.arange(m)]).astype(np.int64)
    graph = PivotGraph(n, m, partner, rows, columns)
    order, structure = best_order(graph.graph, graph.width, ordering)
    return _tables(n, m, rows, columns, graph, order, structure)


class _Entries:
    """The scalar entries of the factor, in raw numbering: first those of the diagonal blocks, then the blocks below."""

    def __init__(self, width: np.ndarray, structure: Columns):
        self.pivots = width.size
        self.width, self.structure = width, structure
        self.diagonal = np.cumsum(np.where(width == 2, 3, 1)) - np.where(width == 2, 3, 1)
        first = int(np.where(width == 2, 3, 1).sum())
        self.block_column, self.block_row = structure.column, structure.rows
        sizes = width[self.block_row] * width[self.block_column]
        self.block = first + np.cumsum(sizes) - sizes
        self.count = first + int(sizes.sum())
        self.keys = self.block_column * self.pivots + self.block_row

    def find(self, row_pivot, row_second, column_pivot, column_second):
        """The raw number of the entry (row, column), row not before column; the row second in a diagonal block."""
        on = row_pivot == column_pivot
        place = np.searchsorted(self.keys, column_pivot * self.pivots + row_pivot)
        place = np.minimum(place, max(self.keys.size - 1, 0))
        below = self.block[place] + row_second * self.width[column_pivot] + column_second if self.keys.size else 0
        return np.where(on, self.diagonal[column_pivot] + row_second + column_second, below)


def _tables(n, m, rows, columns, graph, order, structure) -> Symbolic:
    total = n + m
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    width = graph.width[order]
    pivot, second = place[graph.pivot_of], graph.second.astype(np.int64)
    members = np.full((order.size, 2), -1)
    members[pivot, second] = np.arange(total)
    entries = _Entries(width, structure)

    # Column of each raw entry (pivot, second or not), and the same for its row.
    raw_column = np.empty(entries.count, np.int64)
    raw_second = np.zeros(entries.count, np.int64)
    raw_row = np.empty(entries.count, np.int64)
    raw_row_second = np.zeros(entries.count, np.int64)
    paired = width == 2
    raw_column[entries.diagonal] = raw_row[entries.diagonal] = np.arange(width.size)
    for offset, (i, j) in ((1, (1, 0)), (2, (1, 1))):
        at = entries.diagonal[paired] + offset
        raw_column[at] = raw_row[at] = np.flatnonzero(paired)
        raw_row_second[at], raw_second[at] = i, j
    wr, wc = width[entries.block_row], width[entries.block_column]
    for i in (0, 1):
        for j in (0, 1):
            some = (wr > i) & (wc > j)
            at = (entries.block + i * wc + j)[some]
            raw_column[at], raw_second[at] = entries.block_column[some], j
            raw_row[at], raw_row_second[at] = entries.block_row[some], i
    on_diagonal = raw_row == raw_column

    left, right, target = _products(entries, structure, width)
    length = np.bincount(target, minlength=entries.count)
    level = structure.level[raw_column]
    number = longest_first(level, length)
    by_number = np.argsort(number)
    levels = int(structure.level.max(initial=-1)) + 1
    size = rounded(entries.count + SLACK + 2)
    zero, one = size - 2, size - 1
    table_levels = rounded(levels)
    target, left, right = number[target], number[left], number[right]
    factor = sweep(level[by_number], target, left, right, levels=table_levels, zero=(zero, zero))

    column, is_second = raw_column[by_number], raw_second[by_number]
    off = on_diagonal[by_number]
    raw_mate = np.where(is_second == 1, by_number - 1, by_number + 1)
    mate = np.where(off | ~paired[column], zero, number[np.minimum(raw_mate, entries.count - 1)])

    # The triangular sweeps, over the entries below the diagonal blocks.
    below = np.flatnonzero(~on_diagonal)
    row_unknown = members[raw_row[below], raw_row_second[below]]
    column_unknown = members[raw_column[below], raw_second[below]]
    entry = number[below]
    unknowns = rounded(total + SLACK + 1)
    nothing = unknowns - 1
    unknown_level = structure.level[pivot]
    ahead = longest_first(unknown_level, np.bincount(row_unknown, minlength=total))
    down = levels - 1 - unknown_level
    behind = longest_first(down, np.bincount(column_unknown, minlength=total))
    forward = sweep(np.sort(unknown_level), ahead[row_unknown], entry, ahead[column_unknown],
                    levels=table_levels, zero=(zero, nothing))  # fmt: skip
    backward = sweep(np.sort(down), behind[column_unknown], entry, behind[row_unknown],
                     levels=table_levels, zero=(zero, nothing))  # fmt: skip

    # Pivots, as each unknown sees them.
    at = np.argsort(ahead)
    p, q = pivot[at], second[at]
    pair, last = paired[p], q == 1
    first_diagonal, last_diagonal = number[entries.diagonal], number[entries.diagonal + np.where(paired, 2, 0)]
    pivots = Pivots(
        own=_padded(np.where(last, last_diagonal[p], first_diagonal[p]), unknowns, one),
        other=_padded(np.where(pair, np.where(last, first_diagonal[p], last_diagonal[p]), one), unknowns, one),
        off=_padded(np.where(pair, number[entries.diagonal[p] + np.where(pair, 1, 0)], zero), unknowns, zero),
        sign=_padded(np.where(at < n, 1.0, -1.0), unknowns, 1.0),
    )
    beside = np.where(pair, ahead[np.maximum(members[p, 1 - q], 0)], nothing)
    entry_column = np.where(off, nothing, ahead[members[column, is_second]])

    # From values of the matrix to entries: the later pivot is the row; inside a pair the dual is.
    p, q = pivot[rows], pivot[columns]
    swap = (p < q) | ((p == q) & (second[rows] < second[columns]))
    u, v = np.where(swap, columns, rows), np.where(swap, rows, columns)
    source = np.full(size, rows.size)
    source[one] = rows.size + 1
    source[number[entries.find(pivot[u], second[u], pivot[v], second[v])]] = np.arange(rows.size)
    i32 = _int32
    return Symbolic(
        source=i32(source),
        row=i32(rows),
        column=i32(columns),
        rows=rows_of(rows, columns, total),
        factor=factor,
        entry_slices=_slices(level[by_number], table_levels, ENTRIES),
        unknown_slices=_slices(np.sort(unknown_level), table_levels, UNKNOWNS),
        entry_column=_padded(entry_column, size, nothing),
        mate=_padded(mate, size, zero),
        pivots=pivots,
        counts=_padded(np.where(pair, np.where(last, 0, 2), 1), unknowns, 0),
        real=np.arange(unknowns) < total,
        beside=_padded(beside, unknowns, nothing),
        forward=forward,
        backward=backward,
        to_forward=_padded(at, unknowns, total),
        to_backward=_padded(ahead[np.argsort(behind)], unknowns, nothing),
        from_backward=i32(behind),
        levels=np.asarray(levels, np.int32),
    )


def _products(entries: _Entries, structure: Columns, width: np.ndarray):
    """All products ``W[i, k] V[j, k]`` of the factorisation as raw numbers of left and right factor and target."""
    height = np.diff(structure.start)
    position = np.arange(structure.rows.size) - structure.start[structure.column]
    partners = height[structure.column] - position  # blocks of the column from this one on
    b = np.repeat(np.arange(structure.rows.size), partners)
    a = b + np.arange(b.size) - np.repeat(np.cumsum(partners) - partners, partners)
    row, column, pivot = structure.rows[a], structure.rows[b], structure.column[b]
    diagonal = row == column
    place = np.searchsorted(entries.keys, column * entries.pivots + row)
    place = np.minimum(place, max(entries.keys.size - 1, 0))
    wk, wi, wj = width[pivot], width[row], width[column]
    base = np.where(diagonal, entries.diagonal[column], entries.block[place]) if b.size else b
    pieces = []
    for i in (0, 1):
        for j in (0, 1):
            some = (wi > i) & (wj > j)
            if i < j:
                some &= ~diagonal
            at = np.flatnonzero(some)
            goal = base[at] + np.where(diagonal[at], i + j, i * wj[at] + j)
            x, y = entries.block[a[at]] + i * wk[at], entries.block[b[at]] + j * wk[at]
            pieces.append((x, y, goal))
            two = wk[at] == 2
            pieces.append((x[two] + 1, y[two] + 1, goal[two]))
    return tuple(np.concatenate(v) for v in zip(*pieces))


def rows_of(rows: np.ndarray, columns: np.ndarray, total: int, length: int = 8) -> Rows:
    """Pieces of at most ``length`` entries of the rows of the full matrix."""
    off = rows != columns
    value = np.concatenate([np.arange(rows.size), np.flatnonzero(off)])
    row, column = np.concatenate([rows, columns[off]]), np.concatenate([columns, rows[off]])
    order = np.argsort(row, kind="stable")
    row, column, value = row[order], column[order], value[order]
    within = np.arange(row.size) - np.searchsorted(row, row)
    pieces = -(-np.bincount(row, minlength=total) // length)
    start = np.cumsum(pieces) - pieces
    count = rounded(int(pieces.sum()))
    at = start[row] + within // length, within % length
    values, places = np.full((count, length), rows.size, np.int32), np.zeros((count, length), np.int32)
    values[at], places[at] = value, column
    owner = np.full(count, total, np.int32)
    owner[: pieces.sum()] = np.repeat(np.arange(total), pieces)
    return Rows(values, places, owner)


def _slices(level: np.ndarray, levels: int, size: int) -> np.ndarray:
    """Where each level begins in ``level`` (ascending), and how many slices of ``size`` it takes."""
    begin = np.searchsorted(level, np.arange(levels + 1))
    return _int32(np.stack([begin[:-1], -(-np.diff(begin) // size)], axis=1))


def _padded(values: np.ndarray, size: int, fill) -> np.ndarray:
    kind = np.int32 if np.issubdtype(np.asarray(values).dtype, np.integer) else np.float32
    result = np.full(size, fill, kind)
    result[: values.size] = values
    return result


def _int32(values) -> np.ndarray:
    return np.ascontiguousarray(values, np.int32)
