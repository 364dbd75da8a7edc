"""Elimination orders of a graph, and what they cost."""

import numpy as np
import scipy.sparse as sps

from .dissection import nested_dissection
from .elimination import Columns, columns_of_factor
from .tail import seconds, truncated


# What a level costs, in multiply-adds of the factorisation (half a nanosecond on a CPU): about a microsecond there and in each
# of the triangular sweeps of the four or five solves that go with it.
STEP = 10_000.0
# SuperLU's minimum degree needs a numerical factorisation beside it; graphs larger than this go without.
MAX_MINIMUM_DEGREE = 300_000
# A factor with no more entries than this times the matrix, on no more levels than that times the logarithm of the unknowns,
# leaves little to gain.
LITTLE_FILL, FEW_LEVELS = 1.5, 2.0


def minimum_degree(graph: sps.csr_array) -> np.ndarray:
    """Multiple minimum degree (Liu 1985) as SuperLU computes it, ``order[position] = vertex``."""
    n = graph.indptr.size - 1
    pattern = graph.tocsc()
    off = sps.csc_array((np.full(pattern.nnz, -1.0), pattern.indices, pattern.indptr), shape=graph.shape)
    dominant = off + sps.diags_array(np.full(n, float(np.diff(pattern.indptr).max(initial=0)) + 2.0))
    factor = sps.linalg.splu(
        dominant.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=dict(SymmetricMode=True)
    )
    return np.argsort(factor.perm_c)


def metis(graph: sps.csr_array) -> np.ndarray | None:
    """METIS nested dissection where `pymetis` is installed."""
    try:
        import pymetis  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    start, neighbours = graph.indptr.tolist(), graph.indices.tolist()
    order, _ = pymetis.nested_dissection(pymetis.CSRAdjacency(start, neighbours))
    return np.asarray(order)


def permuted(graph: sps.csr_array, order: np.ndarray) -> sps.csr_array:
    """The graph with vertex ``order[k]`` renamed to k."""
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    entries = graph.tocoo()
    return sps.csr_array((entries.data, (place[entries.row], place[entries.col])), shape=graph.shape)


def work(columns: Columns, sizes: np.ndarray, stepwise: bool) -> float:
    """Estimated cost of a factorisation, in multiply-adds; ``sizes`` are the widths of the pivots in their order.
    ``stepwise``: whether each level costs a step."""
    heights = np.bincount(columns.column, weights=sizes[columns.rows], minlength=sizes.size)
    steps = columns.level.max(initial=0) + 1 if stepwise else 0
    return float(np.sum(sizes * heights * (heights + 1)) / 2 + STEP * steps)


def _little_to_gain(columns: Columns, graph: sps.csr_array, stepwise: bool) -> bool:
    levels = columns.level.max(initial=-1) + 1 if stepwise else 0
    return columns.rows.size <= LITTLE_FILL * graph.nnz / 2 and levels <= FEW_LEVELS * np.log2(graph.indptr.size)


def best_order(
    graph: sps.csr_array, sizes: np.ndarray, method: str = "auto", tail: bool = False, stepwise: bool = True
) -> tuple[np.ndarray, Columns, int]:
    """The cheapest of the orders at hand, the structure of the factor in it, and how many of its last columns are to be
    factorised as one dense matrix: none unless ``tail`` allows it.

    ``stepwise``: whether each level of the factor costs a step, as on an accelerator.
    ``method``: "auto", or the name of one of them: "dissection", "minimum-degree", "metis".
    """
    methods = {"minimum-degree": minimum_degree, "dissection": nested_dissection, "metis": metis}
    if method != "auto":
        methods = {method: methods[method]}
    elif graph.indptr.size > MAX_MINIMUM_DEGREE:
        del methods["minimum-degree"]
    best = None
    for find in methods.values():
        order = find(graph)
        if order is None:
            continue
        columns = columns_of_factor(permuted(graph, order))
        cost, level = (
            seconds(columns, sizes[order], stepwise) if tail else (work(columns, sizes[order], stepwise), None)
        )
        if best is None or cost < best[0]:
            best = cost, order, columns, level
        if _little_to_gain(columns, graph, stepwise):
            break  # dissection takes long on graphs without small separators, such as those with dense rows
    if best is None:
        raise ValueError(f"the ordering {method!r} is not available")
    _, order, columns, level = best
    dense = 0 if level is None else int(np.sum(columns.level >= level))
    if dense:
        # Ancestors stand on higher levels, so this order has the same factor.
        order = order[np.argsort(columns.level >= level, kind="stable")]
        columns = truncated(columns_of_factor(permuted(graph, order)), dense)
    return order, columns, dense
