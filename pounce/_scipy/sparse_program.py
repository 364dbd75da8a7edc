"""Sparse programs of terms: functions that JAX traces, linear ones, and callables that answer with SciPy sparse matrices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sps
from jax.extend.core import ClosedJaxpr

from .._linalg.sparse import Pattern
from .._problem.answers import vector
from .._problem.sparse_host import Assembly
from .._problem.sparse_nlp import is_sparse
from .._problem.sparse_tracing import SparseTracedFunctions, traced_structure
from .._problem.terms import Callback, Counts, Term, TermFunctions, linear_term
from .._problem.tracing import TracedProgram, trace_below_zero
from .announced import Linear
from .functions import Function, Points, agree


Patterned = tuple[Term, Pattern | None, Pattern]  # with the patterns of its Jacobian (not of a gradient) and Hessian


def sparse_terms(
    functions: Sequence[Function | Linear], traced: Mapping[int, ClosedJaxpr], points: Points, wanted: bool | None
) -> TermFunctions | None:
    """The objective and the constraints with sparse derivatives; None where some have none, or where dense algebra promises to be
    cheaper and sparse one is not ``wanted``."""
    n = points.start.size
    found: list[Patterned] = []
    for i, each in enumerate(functions):
        if isinstance(each, Linear):
            matrix = sps.csr_array(each.matrix)
            term: Patterned | None = (linear_term(matrix), Pattern.of(matrix), _nothing(n))
        elif i in traced and each.announced.hess is None:
            term = _traced(each, traced[i], points)
        else:
            term = _answered(each, points)
        if term is None:
            return None
        found.append(term)
    names = [
        (f"{each.name}.A", f"{each.name}.A")
        if isinstance(each, Linear)
        else (each.announced.hess_name, each.announced.jac_name)
        for each in functions
    ]
    jacobians = [pattern for _, pattern, _ in found[1:] if pattern is not None]
    assembly = Assembly(jacobians, [pattern for _, _, pattern in found], names, n)
    if not wanted and not is_sparse(*assembly.structure):
        return None
    return TermFunctions(found[0][0], [term for term, _, _ in found[1:]], n, assembly)


def _nothing(n: int) -> Pattern:
    return Pattern(np.zeros(0), np.zeros(0), (n, n))


def _traced(function: Function, closed: ClosedJaxpr, points: Points) -> Patterned | None:
    n, size = points.start.size, function.start.size
    objective = function.is_objective
    program = TracedProgram([closed if objective else trace_below_zero(closed, n)], n)
    structure = traced_structure(program, True) if program.differentiable else None
    if structure is None:
        return None
    functions = SparseTracedFunctions(program, structure)
    ours = [program.values(x)[0 if objective else 1 :][:size] for x in (points.start, points.near)]
    no_weights, weights = np.zeros(functions.m), np.ones(size)

    def derivatives(x: np.ndarray, y: np.ndarray) -> Any:
        return functions.derivatives(x, no_weights if objective else y, float(y[0]) if objective else 0.0, True)

    first = derivatives(points.start, weights)
    slopes = first.gradient if objective else first.jacobian.data
    if not agree(ours, points.originals(function)) or not all(
        np.all(np.isfinite(each)) for each in (slopes, first.hessian.data)
    ):
        return None
    counts, none = functions.evaluations, np.zeros(size)
    vars(counts).update(dict.fromkeys(vars(counts), 0))
    term = Term(
        size,
        (lambda x: np.array([functions.values(x)[0]])) if objective else (lambda x: functions.values(x)[1]),
        (lambda x: derivatives(x, none).gradient[None]) if objective else (lambda x: derivatives(x, none).jacobian),
        lambda x, y: derivatives(x, y).hessian,
        lambda: Counts(counts.objective, counts.gradient, counts.hessian),
    )
    return term, None if objective else structure.jacobian.pattern, structure.hessian.pattern


class _Dense(Exception):
    """An answer is not a sparse matrix."""


def _answered(function: Function, points: Points) -> Patterned | None:
    """With the user's derivatives, if these are sparse matrices; those of an objective's gradient need not be."""
    announced, n, size = function.announced, points.start.size, function.start.size
    if not callable(announced.jac) or not callable(announced.hess):
        return None
    if function.is_objective:
        jac = Callback(
            announced.jac, lambda answer: vector(_without_sparsity(answer), announced.jac_name, n).reshape(1, n)
        )
    else:
        jac = Callback(announced.jac, _sparse_check((size, n)))
    hess = Callback(announced.hess, _sparse_check((n, n)))
    # The pattern is that of two points and multipliers without any zero.
    weights = 1.5 + np.cos(np.arange(size))
    try:
        slopes = [jac(x) for x in (points.start, points.near)]
        curvatures = [hess(x, weights) for x in (points.start, points.near)]
    except _Dense:
        return None
    jac.calls = hess.calls = 0
    callback = function.callback
    term = Term(size, callback, jac, hess, lambda: Counts(callback.calls, jac.calls, hess.calls))
    patterns = [None if function.is_objective else _union(slopes), _union(curvatures)]
    return term, patterns[0], patterns[1]  # pyright: ignore[reportReturnType]


def _union(matrices: Sequence[Any]) -> Pattern:
    first, second = map(Pattern.of, matrices)
    return first | second


def _without_sparsity(answer: Any) -> Any:
    return answer.toarray() if hasattr(answer, "toarray") else answer


def _sparse_check(shape: tuple[int, int]) -> Callable[[Any], Any]:
    def check(answer: Any) -> Any:
        if not sps.issparse(answer) or answer.shape != shape:
            raise _Dense
        return sps.csr_array(answer, dtype=np.float64)

    return check
