"""The graph of the pivots of a KKT matrix."""

import numpy as np
import scipy.sparse as sps


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
