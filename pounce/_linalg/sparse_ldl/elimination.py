"""Elimination tree and the columns of the factor, on the graph of pivots."""

import dataclasses

import numpy as np
import scipy.sparse as sps


@dataclasses.dataclass(frozen=True)
class Columns:
    """The strictly lower columns of a factor: ``rows[start[j] : start[j + 1]]`` ascending, and the level of each column,
    its height in the elimination tree (leaves are 0)."""

    start: np.ndarray
    rows: np.ndarray
    level: np.ndarray

    @property
    def column(self) -> np.ndarray:
        return np.repeat(np.arange(self.start.size - 1), np.diff(self.start))


def elimination_tree(graph: sps.csr_array) -> np.ndarray:
    """The parent of each vertex in the natural order, -1 for roots (Liu's algorithm with path compression)."""
    n = graph.indptr.size - 1
    below = sps.csr_array(sps.tril(graph, -1))  # pyright: ignore[reportArgumentType]
    start, columns = np.asarray(below.indptr).tolist(), np.asarray(below.indices).tolist()
    parent, ancestor = [-1] * n, [-1] * n
    for i in range(n):
        for k in columns[start[i] : start[i + 1]]:
            while k != -1 and k != i:
                following = ancestor[k]
                ancestor[k] = i
                if following == -1:
                    parent[k] = i
                k = following
    return np.array(parent)


def heights(parent: np.ndarray) -> np.ndarray:
    """The height of each vertex above its deepest leaf."""
    level = [0] * parent.size
    for j, p in enumerate(parent.tolist()):
        if p >= 0 and level[p] <= level[j]:
            level[p] = level[j] + 1
    return np.array(level, np.int64)


def columns_of_factor(graph: sps.csr_array) -> Columns:
    """The structure of the factor of a symmetric matrix with this pattern, in the order in which it stands.

    ``struct(j)`` is what stands below j in the matrix, joined with the structures of the children less j; computed for all
    columns of a level together.
    """
    n = graph.indptr.size - 1
    parent = elimination_tree(graph)
    level = heights(parent)
    lower = sps.tril(graph, -1, format="coo")
    by_level = np.argsort(level[lower.col], kind="stable")
    own = lower.col[by_level].astype(np.int64) * n + lower.row[by_level]
    own_start = np.searchsorted(level[lower.col][by_level], np.arange(level.max(initial=0) + 2))
    waiting: dict[int, list[np.ndarray]] = {}
    done = []
    for k in range(level.max(initial=-1) + 1):
        keys = np.unique(np.concatenate([own[own_start[k] : own_start[k + 1]], *waiting.pop(k, [])]))
        done.append(keys)
        column, row = np.divmod(keys, n)
        up = parent[column]
        passed = row != up
        keys, target = up[passed] * n + row[passed], level[up[passed]]
        order = np.argsort(target, kind="stable")
        keys, target = keys[order], target[order]
        cuts = np.flatnonzero(np.diff(target)) + 1
        for piece, where in zip(np.split(keys, cuts), target[np.concatenate([[0], cuts])] if target.size else []):
            waiting.setdefault(int(where), []).append(piece)
    keys = np.sort(np.concatenate(done)) if done else np.zeros(0, np.int64)
    column, rows = np.divmod(keys, max(n, 1))
    start = np.searchsorted(column, np.arange(n + 1))
    return Columns(start, rows, level)
