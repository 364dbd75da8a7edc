"""Sparse programs of terms: functions that JAX traces, linear ones, callables that answer with SciPy sparse matrices, and
constraints whose differences have a known pattern."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sps
from jax.extend.core import ClosedJaxpr

from .._linalg.sparse import Pattern
from .._problem.sparse_host import Assembly
from .._problem.sparse_nlp import is_sparse
from .._problem.sparse_tracing import SparseTracedFunctions, traced_structure
from .._problem.terms import Callback, Counts, Term, TermFunctions, linear_term
from .._problem.tracing import MOST_FOR_HESSIANS, TracedProgram, operations, trace_below_zero
from .._problem.watch import agree
from .announced import Linear
from .functions import Function, Points
from .opaque import opaque_term, with_hessian


Patterned = tuple[Term, Pattern | None, Pattern]  # with the patterns of its Jacobian (not of a gradient) and Hessian


def sparse_terms(
    functions: Sequence[Function | Linear],
    traced: Mapping[int, ClosedJaxpr],
    points: Points,
    wanted: bool | None,
    want_hessian: bool,
) -> TermFunctions | None:
    """The objective and the constraints with sparse derivatives; None where some have none, or where dense algebra promises to be
    cheaper and sparse one is not ``wanted``. Second derivatives are those of all of them or of none."""
    n = points.start.size
    if any(isinstance(each, Function) and isinstance(each.announced.hess, str) for each in functions):
        return None  # differences of first derivatives are dense
    usable = {i for i, each in enumerate(functions) if i in traced and isinstance(each, Function) and each.smooth}
    exact = want_hessian and all(
        _has_hessian(each, traced[i] if i in usable else None) for i, each in enumerate(functions)
    )
    found: list[Patterned] = []
    for i, each in enumerate(functions):
        if isinstance(each, Linear):
            matrix = sps.csr_array(each.matrix)
            term: Patterned | None = (linear_term(matrix), Pattern.of(matrix), Pattern.empty(n, n))
        elif i in usable:
            term = _traced(each, traced[i], points, exact and each.announced.hess is None)
        else:
            term = _answered(each, points)
        if exact and term is not None and isinstance(each, Function) and callable(each.announced.hess):
            term = _with_own_hessian(*term[:2], each, points)
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


def _has_hessian(function: Function | Linear, closed: ClosedJaxpr | None) -> bool:
    if isinstance(function, Linear) or callable(function.announced.hess):
        return True
    return closed is not None and operations(closed.jaxpr) <= MOST_FOR_HESSIANS


def _traced(function: Function, closed: ClosedJaxpr, points: Points, exact: bool) -> Patterned | None:
    n, size = points.start.size, function.start.size
    objective = function.is_objective
    program = TracedProgram([closed if objective else trace_below_zero(closed, n)], n)
    structure = traced_structure(program, True, exact=exact) if program.differentiable else None
    if structure is None:
        return None
    functions = SparseTracedFunctions(program, structure, exact)
    ours = [program.values(x)[0 if objective else 1 :][:size] for x in (points.start, points.near)]
    no_weights, weights = np.zeros(functions.m), np.ones(size)

    def derivatives(x: np.ndarray, y: np.ndarray) -> Any:
        return functions.derivatives(x, no_weights if objective else y, float(y[0]) if objective else 0.0, True)

    first = derivatives(points.start, weights)
    slopes = first.gradient if objective else first.jacobian.data
    found = (slopes, first.hessian.data) if exact else (slopes,)
    if not agree(ours, points.originals(function)) or not all(np.all(np.isfinite(each)) for each in found):
        return None
    counts, none = functions.evaluations, np.zeros(size)
    vars(counts).update(dict.fromkeys(vars(counts), 0))
    term = Term(
        size,
        (lambda x: np.array([functions.values(x)[0]])) if objective else (lambda x: functions.values(x)[1]),
        (lambda x: derivatives(x, none).gradient[None]) if objective else (lambda x: derivatives(x, none).jacobian),
        (lambda x, y: derivatives(x, y).hessian) if exact else None,
        lambda: Counts(counts.objective, counts.gradient, counts.hessian),
    )
    hessian = structure.hessian.pattern if exact else Pattern.empty(n, n)
    return term, None if objective else structure.jacobian.pattern, hessian


class _Dense(Exception):
    """An answer is not a sparse matrix."""


def _answered(function: Function, points: Points) -> Patterned | None:
    """With the user's first derivatives, if these are sparse matrices, or differences of a known pattern. An objective's gradient
    may be what it likes."""
    announced, n, size = function.announced, points.start.size, function.start.size
    if function.is_objective or not callable(announced.jac):
        if not function.is_objective and announced.sparsity is None:
            return None
        jacobian = announced.sparsity
        term = opaque_term(function, points.lb, points.ub, sparse=True)
    else:
        callback, jac = function.callback, Callback(announced.jac, _sparse_check((size, n)))
        try:
            jacobian = _union([jac(x) for x in (points.start, points.near)])
        except _Dense:
            return None
        jac.calls = 0
        term = Term(size, callback, jac, None, lambda: Counts(callback.calls, jac.calls))
    return term, jacobian, Pattern.empty(n, n)


def _with_own_hessian(term: Term, jacobian: Pattern | None, function: Function, points: Points) -> Patterned | None:
    """The term with the Hessian that was announced, if it is a sparse matrix."""
    announced, n = function.announced, points.start.size
    assert callable(announced.hess)
    hess = Callback(announced.hess, _sparse_check((n, n)))
    # The pattern is that of two points and multipliers without any zero.
    weights = 1.5 + np.cos(np.arange(term.size))
    try:
        pattern = _union([hess(x, weights) for x in (points.start, points.near)])
    except _Dense:
        return None
    hess.calls = 0
    return with_hessian(term, hess, lambda: hess.calls), jacobian, pattern


def _union(matrices: Sequence[Any]) -> Pattern:
    first, second = map(Pattern.of, matrices)
    return first | second


def _sparse_check(shape: tuple[int, int]) -> Callable[[Any], Any]:
    def check(answer: Any) -> Any:
        if not sps.issparse(answer) or answer.shape != shape:
            raise _Dense
        return sps.csr_array(answer, dtype=np.float64)

    return check
