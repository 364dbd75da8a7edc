"""The analysis of a KKT pattern on the host."""

from typing import Literal

import jax
import numpy as np

from ..sparse import Pattern
from .columns import ColumnSymbolic, column_tables
from .graph import PivotGraph, kkt_entries
from .matching import match
from .ordering import best_order
from .symbolic import Symbolic
from .tables import build


# A row whose D is below this share of its largest entry squared needs a partner.
WEAK = 1e-6
Schedule = Literal["columns", "levels"]


def analyze(
    hessian: Pattern,
    jacobian: Pattern,
    hessian_values: np.ndarray | None = None,
    jacobian_values: np.ndarray | None = None,
    equality: np.ndarray | None = None,
    fixed: np.ndarray | None = None,
    *,
    pairs: bool = True,
    ordering: str = "auto",
    tail: bool = False,
    schedule: Schedule | None = None,
    like: Symbolic | ColumnSymbolic | None = None,
) -> Symbolic | ColumnSymbolic:
    """Index tables for the factorisation of ``[[H, J'], [J, -D]]``.

    ``hessian``: pattern of the lower triangle of H, with or without its diagonal; ``jacobian``: pattern of J. Values, where
    known, choose better pivots (`matching`); ``equality`` marks the rows of J that always have ``D = 0``, ``fixed`` the
    columns that may be masked out.
    Patterns that lead to tables of like sizes share compiled executables; tables get no smaller than those of ``like``.

    ``pairs``: without them every pivot is a number, regularised by the square root of the precision in the direction of its
    expected sign (Vanderbei, "Symmetric quasidefinite matrices", 1995). Fewer operations, five on chains and networks, for
    half the digits: refinement has to make up for them, and the inertia is that of the regularised matrix.
    ``tail``: whether the last columns may be factorised as one dense matrix, where that is quicker. This takes H to be positive
    semidefinite.
    ``ordering``: "auto", "dissection", "minimum-degree" or "metis" (needs `pymetis`).
    ``schedule``: "columns", one after the other, or "levels", all columns at once that do not depend on each other. The first
    is for CPUs, the second for accelerators; by default, that of `jax.default_backend`, or of ``like``.
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
    partner = match(jacobian, jacobian_values, curvature, equality, fixed) if pairs else np.full(m, -1)
    rows, columns = kkt_entries(hessian, jacobian)
    graph = PivotGraph(n, m, partner, rows, columns, merge=bool(np.any(partner >= 0)))
    if schedule is None:
        by_columns = jax.default_backend() == "cpu" if like is None else isinstance(like, ColumnSymbolic)
        schedule = "columns" if by_columns else "levels"
    stepwise = schedule == "levels"
    order, structure, dense = best_order(graph.graph, graph.width, ordering, tail, stepwise)
    found = rows, columns, graph, order, structure
    if stepwise:
        same = like if isinstance(like, Symbolic) else None
        return build(n, n + m, *found, shifted=not pairs, tail=dense, like=same)
    same = like if isinstance(like, ColumnSymbolic) else None
    return column_tables(n, *found, shifted=not pairs, tail=dense, like=same)


def rematch(
    symbolic: Symbolic | ColumnSymbolic,
    hessian: Pattern,
    jacobian: Pattern,
    hessian_values: np.ndarray,
    jacobian_values: np.ndarray,
    diagonal: np.ndarray,
) -> Symbolic | ColumnSymbolic:
    """New tables with pivots that suit these values, for when ``growth`` has become large or pivots were replaced.

    Tables get no smaller than those of ``symbolic``, so that its executables serve again unless something had to grow.
    """
    values = np.abs(np.asarray(jacobian_values, float))
    largest = np.zeros(jacobian.shape[0])
    np.maximum.at(largest, jacobian.rows, values)
    equality = np.asarray(diagonal) <= WEAK * largest**2
    return analyze(hessian, jacobian, hessian_values, jacobian_values, equality, like=symbolic)
