"""From what was announced to a program: each function by JAX where it can be traced, else as the callables that were given,
else by differences."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._check import real_array
from .._host_solve import wants_sparse
from .._problem.answers import matrix, vector
from .._problem.finite_differences import Differences
from .._problem.host import AbstractHostFunctions, Evaluations
from .._problem.sparse_tracing import SparseTracedFunctions, traced_structure
from .._problem.terms import Callback, Counts, Term, TermFunctions, linear_term
from .._problem.tracing import ClosedJaxpr, TracedFunctions, TracedProgram, trace_product, try_to_trace
from .announced import Announced, Linear
from .functions import Function, Points, agree, densified, finite_where
from .sparse_program import sparse_terms


@dataclasses.dataclass(frozen=True)
class Program:
    """Functions and bounds of their rows.

    `approximated` names each kind of derivative that nobody gave, `in_single` the functions that JAX evaluates in float32.
    """

    functions: AbstractHostFunctions
    lower: np.ndarray
    upper: np.ndarray
    approximated: tuple[str, ...] = ()
    in_single: tuple[str, ...] = ()


def build_program(
    objective: Announced,
    constraints: Sequence[Announced | Linear],
    x: np.ndarray,
    lb: np.ndarray,
    ub: np.ndarray,
    want_hessian: bool,
    linear_solver: str = "auto",
) -> Program:
    """Evaluates every function at ``x``, which lies within ``lb`` and ``ub`` as every other point does that is asked for.

    Exceptions of the functions pass through. Raises `TypeError` or `ValueError` for answers of a wrong kind or shape.
    """
    n = x.size
    functions = [
        each if isinstance(each, Linear) else Function(each, i == 0, x)
        for i, each in enumerate((objective, *constraints))
    ]
    sides = [
        (each.lower, each.upper) if isinstance(each, Linear) else each.announced.sides(each.start.size)
        for each in functions[1:]
    ]
    lower, upper = (np.concatenate([np.zeros(0), *(pair[k] for pair in sides)]) for k in (0, 1))
    sparse = wants_sparse(linear_solver, n, lower.size) if want_hessian else False
    if sparse is False:
        functions = [densified(each) for each in functions]
    traced: dict[int, ClosedJaxpr] = {}
    for i, each in enumerate(functions):
        if isinstance(each, Function) and each.may_be_traced:
            closed = try_to_trace(each.announced.fun, n)
            if closed is not None and closed.out_avals[0].shape == (each.size,):
                traced[i] = closed
    points = Points(x, lb, ub)
    plain = all(
        isinstance(each, Linear) or (i in traced and each.announced.hess is None) for i, each in enumerate(functions)
    )
    if plain:
        whole = _traced_as_a_whole(functions, traced, points, want_hessian, sparse)
        if whole is not None:
            return Program(whole, lower, upper)
    if sparse is not False:
        whole = sparse_terms(functions, traced, points, sparse)
        if whole is not None:
            answered = (f for i, f in enumerate(functions) if isinstance(f, Function) and i not in traced)
            return Program(whole, lower, upper, in_single=tuple(f.announced.name for f in answered if f.in_single))
    functions = [densified(each) for each in functions]
    approximated, in_single, terms = [], [], []
    for i, each in enumerate(functions):
        if isinstance(each, Linear):
            terms.append(linear_term(each.matrix))
            continue
        term = _traced_term(each, traced[i], points) if i in traced else None
        if term is None:
            term = _opaque_term(each, lb, ub)
            in_single.extend([each.announced.name] * each.in_single)
            if each.announced.jac is None:
                approximated.append("constraint Jacobian" if i else "objective gradient")
        terms.append(_with_own_hessian(term, each, lb, ub))
    whole = TermFunctions(terms[0], terms[1:], n)
    return Program(whole, lower, upper, tuple(dict.fromkeys(approximated)), tuple(in_single))


def _traced_as_a_whole(
    functions: Sequence[Function | Linear],
    traced: dict[int, ClosedJaxpr],
    points: Points,
    want_hessian: bool,
    sparse: bool | None,
) -> AbstractHostFunctions | None:
    """One program for everything. Drops from ``traced`` what turns out to be something else than its original."""
    n = points.start.size
    parts = [trace_product(each.matrix) if isinstance(each, Linear) else traced[i] for i, each in enumerate(functions)]
    program = TracedProgram(parts, n)
    if not program.differentiable:
        return None
    exact = want_hessian and program.has_hessian
    structure = traced_structure(program, sparse) if exact else None
    found: AbstractHostFunctions = TracedFunctions(program, exact)
    if structure is not None:
        found = SparseTracedFunctions(program, structure)
        values, jacobian, *hessian = _at_start(found, points.start)
    else:
        values, jacobian, *hessian = (
            program.second(points.start, np.ones(program.size)) if exact else program.first(points.start)
        )
    ours = values, program.values(points.near)
    begin = 0
    for i, each in enumerate(functions):
        end = begin + (each.lower.size if isinstance(each, Linear) else each.start.size)
        if isinstance(each, Function):
            same = agree([v[begin:end] for v in ours], points.originals(each))
            if not (same and finite_where(values[begin:end], jacobian[begin:end])):
                del traced[i]
        begin = end
    if len(traced) < sum(isinstance(each, Function) for each in functions):
        return None
    if exact and not finite_where(values[:1], hessian[0][None]):
        return TracedFunctions(program, False)
    return found


def _at_start(functions: SparseTracedFunctions, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values; for each of them, a number that is finite if its derivatives are; and the entries of the Hessian."""
    d: Any = functions.derivatives(x, np.ones(functions.m), 1.0, True)
    functions.evaluations = Evaluations()
    # Zeros or NaN: sums of the derivatives themselves might overflow.
    slopes = np.concatenate([[np.sum(d.gradient * 0.0)], (d.jacobian * 0.0).sum(axis=1)])[:, None]
    return np.concatenate([[d.objective], d.rows]), slopes, d.hessian.data


def _traced_term(function: Function, closed: ClosedJaxpr, points: Points) -> Term | None:
    program = TracedProgram([closed], points.start.size)
    if not program.differentiable:
        return None
    values, jacobian = program.first(points.start)
    same = agree([values, program.values(points.near)], points.originals(function))
    if not (same and finite_where(values, jacobian)):
        return None
    program.counts = Counts()
    return program.term()


def _opaque_term(function: Function, lb: np.ndarray, ub: np.ndarray) -> Term:
    """The user's values with the user's first derivatives, or differences; no second ones yet."""
    announced, callback, n = function.announced, function.callback, lb.size
    size = function.start.size
    if callable(announced.jac):
        jac = Callback(announced.jac, _jacobian_check(announced, size, n))
        return Term(size, callback, jac, None, lambda: Counts(callback.calls, jac.calls))
    scheme: Any = announced.jac or "3-point"
    differences = Differences(lb, ub, scheme, announced.relative_step)
    sweeps = Counts()

    def evaluate(point: np.ndarray) -> np.ndarray:
        return _complex_values(function, point) if np.iscomplexobj(point) else callback.fresh(point)

    def jacobian(x: np.ndarray) -> np.ndarray:
        sweeps.first += 1
        return differences.jacobian(evaluate, x, callback(x))

    return Term(size, callback, jacobian, None, lambda: Counts(callback.calls, sweeps.first))


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


def _with_own_hessian(term: Term, function: Function, lb: np.ndarray, ub: np.ndarray) -> Term:
    """The term with the second derivatives that were announced, if any."""
    announced, n = function.announced, lb.size
    if announced.hess is None:
        return term
    if callable(announced.hess):
        hess = Callback(announced.hess, lambda answer: matrix(answer, announced.hess_name, (n, n)))
        return _with_hessian(term, hess, lambda: hess.calls)
    if term.hessian is not None:
        return term  # differences were asked for, but exact ones are to be had
    if not callable(announced.jac):
        raise ValueError(
            f"`{announced.hess_name}` = {announced.hess!r} takes differences of first derivatives, which need to be exact: "
            f"give `{announced.jac_name}` as a callable"
        )
    return _hessian_by_differences(term, function, announced.hess, lb, ub)


def _with_hessian(term: Term, hessian: Callable, calls: Callable[[], int]) -> Term:
    def counts() -> Counts:
        before = term.counts()
        return Counts(before.values, before.first, calls())

    return dataclasses.replace(term, hessian=hessian, counts=counts)


def _hessian_by_differences(term: Term, function: Function, scheme: Any, lb: np.ndarray, ub: np.ndarray) -> Term:
    differences, sweeps = Differences(lb, ub, scheme), Counts()
    jac: Any = function.announced.jac
    size, n = term.size, lb.size

    def evaluate(x: np.ndarray) -> np.ndarray:
        answer = jac(x.copy())
        if np.iscomplexobj(x):
            return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer).reshape(size, n)
        return matrix(answer, function.announced.jac_name, (size, n))

    def hessian(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sweeps.second += 1
        return differences.jacobian(lambda point: weights @ evaluate(point), x, weights @ term.jacobian(x))

    return _with_hessian(term, hessian, lambda: sweeps.second)
