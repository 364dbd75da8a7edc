"""The graph of the pivots of a KKT matrix."""

import numpy as np
import scipy.sparse as sps

from ..sparse import Pattern


# Unknowns of more neighbours than this are not merged, for the time it would take to compare them.
MAX_DEGREE = 300


def kkt_entries(hessian: Pattern, jacobian: Pattern) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the lower triangle of ``[[H, J'], [J, -D]]``, in the order H, J, D."""
    m, n = jacobian.shape
    rows = np.concatenate([hessian.rows, n + jacobian.rows, n + np.arange(m)]).astype(np.int64)
    columns = np.concatenate([hessian.columns, jacobian.columns, n + np.arange(m)]).astype(np.int64)
    return rows, columns


class PivotGraph:
    """Unknowns contracted to pivots of one or two: ``pivot_of[unknown]``, ``second[unknown]`` (whether it is the second of
    its pivot), ``width[pivot]``, and the graph of the pivots without its diagonal.

    A constraint row is the second of the variable it is matched to. With ``merge``, unknowns that are left alone join
    neighbours of much the same neighbourhood: blocks of two are what the factorisation works with.
    """

    def __init__(self, n: int, m: int, partner: np.ndarray, rows: np.ndarray, columns: np.ndarray, merge: bool = False):
        first, last = np.arange(n + m), np.full(n + m, -1)
        matched = np.flatnonzero(partner >= 0)
        last[partner[matched]] = n + matched
        self._contract(first, last, rows, columns)
        if merge and np.any(self.width == 1):
            alone = np.flatnonzero(self.width[self.pivot_of] == 1)
            a, b = _alike(self.graph, self.pivot_of[alone])
            last[alone[a]] = alone[b]
            self._contract(first, last, rows, columns)

    def _contract(self, first: np.ndarray, last: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        self.second = np.zeros(first.size, bool)
        self.second[last[last >= 0]] = True
        heads = np.flatnonzero(~self.second)
        pivot = np.empty(first.size, np.int64)
        pivot[heads] = np.arange(heads.size)
        paired = heads[last[heads] >= 0]
        pivot[last[paired]] = pivot[paired]
        self.pivot_of = pivot
        self.width = np.bincount(pivot, minlength=heads.size)
        a, b = pivot[rows], pivot[columns]
        kept = a != b
        a, b = a[kept], b[kept]
        self.graph = sps.csr_array(
            (np.ones(2 * a.size, np.int8), (np.concatenate([a, b]), np.concatenate([b, a]))),
            shape=(heads.size, heads.size),
        )
        self.graph.sum_duplicates()
        self.graph.data[:] = 1


def _alike(graph: sps.csr_array, vertices: np.ndarray, rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbours among ``vertices`` (as positions in it) that share at least half of their neighbours."""
    degree = np.diff(graph.indptr)[vertices]
    around = sps.csr_array(graph[vertices]).astype(np.int32)
    few = degree <= MAX_DEGREE
    around = sps.csr_array(sps.diags_array(few.astype(np.int32), dtype=np.int32) @ around)
    near = sps.csr_array(around[:, vertices])
    common = sps.coo_array((around @ around.T).multiply(near))
    a, b = common.coords
    share = (common.data + 1.0) / np.maximum(degree[a], degree[b])
    kept = (share >= 0.5) & (a != b)
    a, b, share = a[kept], b[kept], share[kept]
    free = np.ones(vertices.size, bool)
    pairs = []
    for _ in range(rounds):
        open_ = free[a] & free[b]
        a, b, share = a[open_], b[open_], share[open_]
        if not a.size:
            break
        # Each picks the neighbour most like it; those that pick each other are joined.
        order = np.lexsort((np.minimum(a, b), -share, a))
        head = np.ones(order.size, bool)
        head[1:] = a[order][1:] != a[order][:-1]
        pick = np.full(vertices.size, -1)
        pick[a[order[head]]] = b[order[head]]
        mutual = np.flatnonzero((pick >= 0) & (pick[np.maximum(pick, 0)] == np.arange(vertices.size)))
        mutual = mutual[mutual < pick[mutual]]
        pairs.append((mutual, pick[mutual]))
        free[mutual] = free[pick[mutual]] = False
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
