"""Which variable each constraint row shares its 2 x 2 pivot with.

A KKT matrix cannot be factorised with 1 x 1 pivots in a static order: a row with ``D = 0`` has nothing on its diagonal.
Matched to a variable with a large entry in that row, the pair makes a pivot ``[[h, a], [a, -d]]`` that is safe whatever h and
d are (the static variant of Bunch and Parlett's pivots; Duff and Pralet, "Strategies for scaling and pivoting for sparse
symmetric indefinite problems", 2005, and Schenk and Gartner, 2006, choose them by matching as well).
"""

import numpy as np
import scipy.sparse as sps

from ..sparse import Pattern


# What a row pays for staying alone: far above what any assignment of the others can save.
ALONE = 1e4
MOST_ASSIGNED = 50_000  # entries of equal cost; solving the assignment takes seconds beyond


def match(
    jacobian: Pattern,
    values: np.ndarray | None,
    curvature: np.ndarray | None,
    equality: np.ndarray | None,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """For each row of the Jacobian the variable it is matched to, or -1.

    Minimises the sum of ``log(rowmax / |a|)`` plus, where the diagonal of the Hessian is given, ``log(1 + h / rowmax)``: a
    variable of large curvature is a good pivot by itself. ``equality`` marks the rows that always have ``D = 0``: they choose
    first, the others among the variables that are left. ``fixed`` marks the columns that no row is to be matched to.
    """
    m, n = jacobian.shape
    if m == 0 or jacobian.nnz == 0:
        return np.full(m, -1)
    size = np.ones(jacobian.nnz) if values is None else np.abs(np.asarray(values, float))
    size = np.where(np.isfinite(size), size, 0.0)
    largest = np.zeros(m)
    np.maximum.at(largest, jacobian.rows, size)
    kept = size > 0
    if fixed is not None:
        kept = kept & ~np.asarray(fixed)[jacobian.columns]
    rows, columns, size = jacobian.rows[kept], jacobian.columns[kept], size[kept]
    cost = np.log(largest[rows] / size)
    if curvature is not None:
        cost += np.log1p(np.maximum(np.nan_to_num(curvature), 0.0)[columns] / largest[rows])
    partner = np.full(m, -1)
    first = np.ones(m, bool) if equality is None else np.asarray(equality)
    for chosen in (first, ~first):
        free = np.ones(n, bool)
        free[partner[partner >= 0]] = False
        now = chosen[rows] & free[columns]
        wanted = np.unique(rows[now])
        if wanted.size:
            partner[wanted] = _assigned(np.searchsorted(wanted, rows[now]), columns[now], cost[now], (wanted.size, n))
    return partner


def _assigned(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The column of each row in a cheapest largest matching, or -1. Every row has entries."""
    m, n = shape
    if rows.size > MOST_ASSIGNED and not cost.any():
        # Any largest matching costs the same. Hopcroft and Karp's takes milliseconds; where both are to be had, those of the
        # assignment led to somewhat flatter elimination trees of networks.
        graph = sps.csr_array((np.ones(rows.size, np.int8), (rows, columns)), shape=shape)
        return sps.csgraph.maximum_bipartite_matching(graph, perm_type="column")
    # Column n + i is there for the i-th row alone, so that a full matching always exists. Explicit zeros would vanish: hence 1.
    alone = np.arange(m)
    entries = np.concatenate([rows, alone]), np.concatenate([columns, n + alone])
    graph = sps.csr_array((1.0 + np.concatenate([cost, np.full(m, ALONE)]), entries), shape=(m, n + m))
    column = sps.csgraph.min_weight_full_bipartite_matching(graph)[1]
    return np.where(column < n, column, -1)
