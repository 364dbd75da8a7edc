"""Functions that JAX does not trace: their values with the derivatives that were given, or differences."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .._check import real_array
from .._problem.answers import matrix, vector
from .._problem.coloring import color_columns
from .._problem.finite_differences import Differences
from .._problem.sparse_host import stored
from .._problem.terms import Callback, Counts, Term
from .announced import Announced
from .functions import Function


def opaque_term(function: Function, lb: np.ndarray, ub: np.ndarray, sparse: bool = False) -> Term:
    """The user's values with the user's first derivatives, or differences; no second ones yet. ``sparse``: a Jacobian by
    differences whose entries are known is a sparse matrix."""
    announced, callback, n = function.announced, function.callback, lb.size
    size = function.start.size
    if callable(announced.jac):
        jac = Callback(announced.jac, _jacobian_check(announced, size, n))
        return Term(size, callback, jac, None, lambda: Counts(callback.calls, jac.calls))
    scheme: Any = announced.jac or "3-point"
    differences = Differences(lb, ub, scheme, announced.relative_step, announced.absolute_step)
    sweeps = Counts()
    coloring = None if announced.sparsity is None else color_columns(announced.sparsity)

    def evaluate(point: np.ndarray) -> np.ndarray:
        return _complex_values(function, point) if np.iscomplexobj(point) else callback.fresh(point)

    def jacobian(x: np.ndarray) -> Any:
        sweeps.first += 1
        if coloring is None:
            return differences.jacobian(evaluate, x, callback(x))
        found = stored(coloring.pattern, differences.entries(evaluate, x, callback(x), coloring))
        return found if sparse else found.toarray()

    return Term(size, callback, jacobian, None, lambda: Counts(callback.calls, sweeps.first))


def with_hessian(term: Term, hessian: Callable, calls: Callable[[], int]) -> Term:
    """The term with second derivatives."""

    def counts() -> Counts:
        before = term.counts()
        return Counts(before.values, before.first, calls())

    return dataclasses.replace(term, hessian=hessian, counts=counts)


def _complex_values(function: Function, point: np.ndarray) -> np.ndarray:
    function.callback.calls += 1
    answer = np.asarray(function.announced.fun(point)).reshape(-1)
    if not np.iscomplexobj(answer) or answer.size != function.start.size:
        raise ValueError(
            f"`{function.announced.name}` must return {function.start.size} complex number(s) for the scheme 'cs', "
            f"got dtype {answer.dtype}, shape {answer.shape}"
        )
    return answer


def _jacobian_check(announced: Announced, size: int, n: int) -> Callable[[Any], np.ndarray]:
    name, is_objective = announced.jac_name, announced.name == "fun"
    patterns: list[tuple[np.ndarray, np.ndarray]] = []

    def check(answer: Any) -> np.ndarray:
        if is_objective:
            gradient = real_array(answer.toarray() if hasattr(answer, "toarray") else answer, name)
            return vector(gradient, name, n)[None]
        if announced.fixed_pattern and hasattr(answer, "toarray"):
            _check_pattern(answer, patterns, name)
        return matrix(answer, name, (size, n))

    return check


def _check_pattern(sparse: Any, patterns: list[tuple[np.ndarray, np.ndarray]], name: str) -> None:
    """Entries that are stored, zero or not."""
    canonical = sparse.tocsr(copy=True)
    canonical.sum_duplicates()
    pattern = (canonical.indptr, canonical.indices)
    if not patterns:
        patterns.append(pattern)
    if not all(np.array_equal(a, b) for a, b in zip(pattern, patterns[0])):
        raise ValueError(
            f"{name}: the sparsity pattern changed since the first call; store the zeros too, or return it dense"
        )
