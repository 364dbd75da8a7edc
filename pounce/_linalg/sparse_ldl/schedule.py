"""Sums of products, cut into chunks of fixed size, level by level.

Factorisation and both triangular sweeps are the same loop: ``target[t] -= sum_k left[a_k] * right[b_k]``, all targets of a
level at once. Targets of a level are numbered consecutively, longest sums first, so that a chunk of ``width`` of them is a
slice: what a chunk does is two gathers, a reduction over ``depth`` products, and one update of a slice in place. There is no
scatter. A longer sum takes several chunks; a shorter one is filled up with products of a zero.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sps
from jaxtyping import Array, Int


# (targets, depth) of the chunks for blocks of size one and two, for long sums to short ones. All take about as long, half a
# microsecond on a CPU; larger ones XLA would split between threads, at several microseconds.
KINDS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((8, 32), (16, 16), (64, 4)),
    2: ((4, 32), (16, 8), (32, 4)),
}
# Sums at least so long may go to the first and to the second kind; each level takes what needs the fewest chunks.
THRESHOLDS = tuple((a, b) for a in (20, 40, 80, 10**9) for b in (3, 5, 8, 12, 10**9) if b <= a)


# Tables are made by NumPy and travel through compiled functions as JAX arrays.
Table = Array | np.ndarray


class Chunks(NamedTuple):
    """The chunks of one kind: ``left, right [chunk, width, depth]`` and ``first [chunk]``, the first target of each."""

    first: Int[Table, " c"]
    left: Int[Table, "c w d"]
    right: Int[Table, "c w d"]


class Sweep(NamedTuple):
    """Chunks by kind, and ``bounds [level, kind, 2]``: which of them belong to a level."""

    chunks: tuple[Chunks, ...]
    bounds: Int[Table, "l k 2"]


def rounded(size: int) -> int:
    """The next of 1, 1.25, 1.5, 1.75 times a power of two from 16 on: problems of like sizes share executables."""
    if size <= 16:
        return 16
    unit = 1 << ((size - 1).bit_length() - 3)
    return -(-size // unit) * unit


def longest_first(level: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The place of each target: by level, longest sums first."""
    order = np.lexsort((-length, level))
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    return place


def sweep(
    level, target, left, right, *, width: int, levels: int, zero: tuple[int, int], like: Sweep | None = None
) -> Sweep:
    """Chunks for products ``left[k] * right[k]`` summed into ``target[k]``.

    ``level[t]`` is the level of each target, ascending in t, and inside a level the sums get shorter (`longest_first`).
    ``zero``: the indices that fill short sums up. ``like``: tables get no smaller than these.
    """
    count = level.size
    length = np.bincount(target, minlength=count)
    order = stable_order(target, count)
    left, right = left[order], right[order]
    start = np.cumsum(length) - length
    shapes = KINDS[width]
    kind = _kinds(level, length, levels, shapes)
    chunks, bounds = [], np.zeros((levels, len(shapes), 2), np.int64)
    for k, (many, depth) in enumerate(shapes):
        used = np.flatnonzero((kind == k) & (length > 0))
        owner = level[used]
        head = np.searchsorted(owner, np.arange(levels + 1))  # the targets of this kind in each level
        rank = np.arange(used.size) - head[owner]
        rounds = -(-length[used] // depth)
        # Round r of a level covers the targets that have more than r * depth products: the first so many.
        row_target = np.repeat(np.arange(used.size), rounds)
        row_round = np.arange(row_target.size) - np.repeat(np.cumsum(rounds) - rounds, rounds)
        most = rounds.max(initial=0)
        key = owner[row_target] * most + row_round
        rows_in_round = np.bincount(key, minlength=levels * most) if most else np.zeros(0, np.int64)
        chunks_in_round = -(-rows_in_round // many)
        chunk_start = np.cumsum(chunks_in_round) - chunks_in_round
        total = int(chunks_in_round.sum())
        per_level = chunks_in_round.reshape(levels, most).sum(1) if most else np.zeros(levels, np.int64)
        bounds[:, k, 1] = np.cumsum(per_level)
        bounds[:, k, 0] = bounds[:, k, 1] - per_level
        size = max(rounded(total), 0 if like is None else like.chunks[k].first.shape[0])
        a = np.full((size, many, depth), zero[0], np.int32)
        b = np.full((size, many, depth), zero[1], np.int32)
        first = np.zeros(size, np.int32)
        row_chunk = chunk_start[key] + rank[row_target] // many
        row_lane = rank[row_target] % many
        first[row_chunk[row_lane == 0]] = used[row_target[row_lane == 0]]
        # Every product of a row, in the order of its target.
        filled = np.minimum(depth, length[used][row_target] - row_round * depth)
        source = np.repeat(start[used][row_target] + row_round * depth, filled)
        within = np.arange(source.size) - np.repeat(np.cumsum(filled) - filled, filled)
        place = np.repeat((row_chunk * many + row_lane) * depth, filled) + within
        a.ravel()[place] = left[source + within]
        b.ravel()[place] = right[source + within]
        chunks.append(Chunks(first, a, b))
    return Sweep(tuple(chunks), bounds.astype(np.int32))


def _kinds(level: np.ndarray, length: np.ndarray, levels: int, shapes) -> np.ndarray:
    """The kind of chunk of each target: in each level the thresholds that need the fewest chunks."""
    best, kinds = np.full(levels, np.iinfo(np.int64).max), np.zeros(level.size, np.int8)
    for thresholds in THRESHOLDS:
        kind = np.where(length >= thresholds[0], 0, np.where(length >= thresholds[1], 1, 2))
        needed = np.zeros(levels, np.int64)
        for k, (many, depth) in enumerate(shapes):
            used = np.flatnonzero((kind == k) & (length > 0))
            rank = np.arange(used.size) - np.searchsorted(level[used], level[used])
            # Lengths descend, so that every so many targets one says how many rounds its chunk takes.
            heads = used[rank % many == 0]
            needed += np.bincount(level[heads], -(-length[heads] // depth), minlength=levels).astype(np.int64)
        better = needed < best
        best = np.where(better, needed, best)
        kinds = np.where(better[level], kind, kinds)
    return kinds


def stable_order(keys: np.ndarray, count: int) -> np.ndarray:
    """A stable counting sort of keys below ``count``."""
    places = np.arange(keys.size, dtype=np.int32)
    # COO to CSR is a counting sort written in C; sorting 10^7 keys otherwise takes seconds.
    return sps.csr_matrix((places, (keys.astype(np.int32), places)), shape=(count, max(keys.size, 1))).data
