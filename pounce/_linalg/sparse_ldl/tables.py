"""From an elimination order to index tables."""

import numpy as np

from .elimination import Columns
from .graph import PivotGraph
from .schedule import longest_first, rounded, stable_order, sweep
from .symbolic import ENTRIES, PIVOTS, SLACK, Rows, Symbolic
from .tail import tail_tables


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
    tail: int = 0,
    like: Symbolic | None,
) -> Symbolic:
    """Tables for a matrix of ``total`` unknowns, the first ``n`` of them primal, with values at ``rows, columns`` of one of its
    triangles; ``order`` and ``structure`` are of the pivots. ``shifted``: the diagonal is regularised.
    ``tail``: how many of the last pivots are left for a dense factorisation."""
    width, pivots = int(graph.width.max(initial=1)), order.size
    place = np.empty(pivots, np.int64)
    place[order] = np.arange(pivots)
    pivot, second = place[graph.pivot_of], graph.second.astype(np.int64)
    levels = int(structure.level.max(initial=-1)) + 1
    table_levels = max(rounded(levels), 0 if like is None else like.entry_slices.shape[0])

    # Raw numbers of blocks: those of the diagonal, then those below it, by columns.
    below = structure.column
    block_column = np.concatenate([np.arange(pivots), below])
    first = pivots - tail
    left, right, i, j = _products(structure, pivots)
    late = j >= first
    late_products = left[late], right[late], i[late] - first, j[late] - first
    left, right, i, j = (v[~late] for v in (left, right, i, j))
    target = _targets(structure, pivots, i, j)
    level = structure.level[block_column]
    number = longest_first(level, np.bincount(target, minlength=block_column.size)).astype(np.int32)
    size = max(rounded(block_column.size + SLACK + 1), 0 if like is None else like.source.shape[0])
    zero = size - 1
    factor = sweep(np.sort(level), number[target], number[left], number[right], width=width,
                   levels=table_levels, zero=(zero, zero), like=like and like.factor)  # fmt: skip

    # The triangular sweeps.
    count = max(rounded(pivots + SLACK + 1), 0 if like is None else like.real.shape[0])
    vacant = count - 1
    up, down = structure.level, levels - 1 - structure.level
    ahead = longest_first(up, np.bincount(structure.rows, minlength=pivots))
    behind = longest_first(down, np.bincount(below, minlength=pivots))
    entry = number[pivots:]
    forward = sweep(np.sort(up), ahead[structure.rows], entry, ahead[below], width=width,
                    levels=table_levels, zero=(zero, vacant), like=like and like.forward)  # fmt: skip
    backward = sweep(np.sort(down), behind[below], entry, behind[structure.rows], width=width,
                     levels=table_levels, zero=(zero, vacant), like=like and like.backward)  # fmt: skip
    entry_column = np.full(size, vacant)
    entry_column[entry] = ahead[below]

    # From values of the matrix to blocks: the later pivot is the row; blocks of the diagonal are stored in full.
    p, q = pivot[rows], pivot[columns]
    swap = p < q
    u, v = np.where(swap, columns, rows), np.where(swap, rows, columns)
    p, q = pivot[u], pivot[v]
    block = number[_targets(structure, pivots, p, q)]
    source = np.full((size, width, width), rows.size, np.int32)
    members = np.zeros((pivots, width), bool)
    members[pivot, second] = True
    free = np.nonzero(~members)
    source[number[free[0]], free[1], free[1]] = rows.size + 1
    early = q < first
    source[block[early], second[u[early]], second[v[early]]] = np.flatnonzero(early)
    on = early & (p == q)
    source[block[on], second[v[on]], second[u[on]]] = np.flatnonzero(on)

    to_forward = np.full((count, width), total, np.int32)
    to_forward[ahead[pivot], second] = np.arange(total)
    sign = np.where((to_forward >= n) & (to_forward < total), -1, 1).astype(np.int8)
    pivot_entry = np.full(count, zero)
    pivot_entry[ahead] = number[:pivots]
    real = np.arange(count) < pivots
    real[ahead[first:]] = False
    dense = None
    if tail:
        unknown = np.full((pivots, width), -1)
        unknown[pivot, second] = np.arange(total)
        kept = np.flatnonzero(~early)
        entries = kept, p[kept] - first, q[kept] - first, second[u[kept]], second[v[kept]]
        a, b, i, j = late_products
        products = number[a], number[b], i, j
        dense = tail_tables(
            unknown[first:] >= 0, unknown[first:] >= n, ahead[first:], products, entries, (zero, rows.size)
        )
    to_backward = np.full(count, vacant)
    to_backward[behind] = ahead
    return Symbolic(
        source=source.reshape(size, width * width),
        row=_int32(rows),
        column=_int32(columns),
        rows=rows_of(rows, columns, total),
        factor=factor,
        entry_slices=_slices(np.sort(level), table_levels, ENTRIES),
        pivot_slices=_slices(np.sort(up), table_levels, PIVOTS),
        entry_column=_int32(entry_column),
        pivot_entry=_int32(pivot_entry),
        sign=sign,
        shift=sign * np.int8(shifted),
        real=real,
        forward=forward,
        backward=backward,
        to_forward=to_forward,
        to_backward=_int32(to_backward),
        from_backward=_int32(width * behind[pivot] + second),
        levels=np.asarray(levels, np.int32),
        tail=dense,
    )


def _products(structure: Columns, pivots: int) -> tuple[np.ndarray, ...]:
    """All products ``W[i, k] V[j, k]'`` of the factorisation: raw numbers of left and right factor, i and j."""
    column, rows = structure.column, structure.rows
    position = np.arange(rows.size) - structure.start[column]
    partners = np.diff(structure.start)[column] - position  # blocks of the column from this one on
    b = np.repeat(np.arange(rows.size, dtype=np.int32), partners)
    a = b + np.arange(b.size, dtype=np.int32) - np.repeat((np.cumsum(partners) - partners).astype(np.int32), partners)
    return a + np.int32(pivots), b + np.int32(pivots), rows[a], rows[b]


def _targets(structure: Columns, pivots: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Raw numbers of the blocks in row i and column j."""
    keys = structure.column * pivots + structure.rows
    found = np.searchsorted(keys, j * pivots + i)
    return np.where(i == j, j, pivots + np.minimum(found, keys.size - 1)).astype(np.int32)


def _slices(level: np.ndarray, levels: int, size: int) -> np.ndarray:
    """Where each level begins in ``level`` (ascending), and how many slices of ``size`` it takes."""
    begin = np.searchsorted(level, np.arange(levels + 1))
    return _int32(np.stack([begin[:-1], -(-np.diff(begin) // size)], axis=1))


def rows_of(rows: np.ndarray, columns: np.ndarray, total: int, length: int = 8) -> Rows:
    """Pieces of at most ``length`` entries of the rows of the full matrix."""
    off = rows != columns
    value = np.concatenate([np.arange(rows.size), np.flatnonzero(off)])
    row, column = np.concatenate([rows, columns[off]]), np.concatenate([columns, rows[off]])
    order = stable_order(row, total)
    row, column, value = row[order], column[order], value[order]
    within = np.arange(row.size) - np.searchsorted(row, row)
    pieces = -(-np.bincount(row, minlength=total) // length)
    start = np.cumsum(pieces) - pieces
    count = rounded(int(pieces.sum()))
    at = within % length, start[row] + within // length
    values, places = np.full((length, count), rows.size, np.int32), np.zeros((length, count), np.int32)
    values[at], places[at] = value, column
    owner = np.full(count, total, np.int32)
    owner[: pieces.sum()] = np.repeat(np.arange(total), pieces)
    return Rows(values, places, owner)


def _int32(values) -> np.ndarray:
    return np.ascontiguousarray(values, np.int32)
