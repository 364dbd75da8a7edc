"""From an elimination order to index tables."""

import numpy as np

from .elimination import Columns
from .graph import PivotGraph
from .schedule import longest_first, rounded, sweep
from .symbolic import ENTRIES, SLACK, UNKNOWNS, Pivots, Rows, Symbolic


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


def build(
    n: int,
    total: int,
    rows: np.ndarray,
    columns: np.ndarray,
    graph: PivotGraph,
    order: np.ndarray,
    structure: Columns,
    *,
    shifted: bool,
    like: Symbolic | None,
) -> Symbolic:
    """Tables for a matrix of ``total`` unknowns, the first ``n`` of them primal, with values at ``rows, columns`` of one of its
    triangles; ``order`` and ``structure`` are of the pivots. ``shifted``: single pivots are regularised."""
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
    size = max(rounded(entries.count + SLACK + 2), 0 if like is None else like.source.shape[0])
    zero, one = size - 2, size - 1
    table_levels = max(rounded(levels), 0 if like is None else like.entry_slices.shape[0])
    target, left, right = number[target], number[left], number[right]
    factor = sweep(
        level[by_number], target, left, right, levels=table_levels, zero=(zero, zero), like=like and like.factor
    )

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
                    levels=table_levels, zero=(zero, nothing), like=like and like.forward,)  # fmt: skip
    backward = sweep(np.sort(down), behind[column_unknown], entry, behind[row_unknown],
                     levels=table_levels, zero=(zero, nothing), like=like and like.backward,)  # fmt: skip

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
        shift=_padded(np.where(at < n, 1.0, -1.0) * shifted, unknowns, 0.0),
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
