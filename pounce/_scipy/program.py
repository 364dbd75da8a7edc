"""From what was announced to a program: each function by JAX where it can be traced, else as the callables that were given,
else by differences."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._host_solve import wants_sparse
from .._problem.answers import matrix
from .._problem.finite_differences import Differences
from .._problem.host import AbstractHostFunctions, Evaluations
from .._problem.sparse_tracing import SparseTracedFunctions, traced_structure
from .._problem.terms import Callback, Counts, Term, TermFunctions, linear_term
from .._problem.tracing import ClosedJaxpr, TracedFunctions, TracedProgram, trace_product
from .._problem.watch import Part, agree
from .announced import Announced, Linear
from .functions import Function, Points, densified, finite_where
from .opaque import opaque_term, with_hessian
from .reasons import NO_RULE, OTHER_VALUES, traced_or_why
from .sparse_program import sparse_terms


@dataclasses.dataclass(frozen=True)
class Program:
    """Functions and bounds of their rows.

    - `parts`: the functions that were announced, but for linear ones.
    - `constraints`: the name of each and its number of rows. `own_derivatives`: the names of first derivatives that were given.
    - `approximated`: functions whose derivatives nobody gave, and JAX does not take. `in_single`: the names of functions that
      JAX evaluates in float32.
    """

    functions: AbstractHostFunctions
    lower: np.ndarray
    upper: np.ndarray
    parts: tuple[Part, ...]
    constraints: tuple[tuple[str, int], ...]
    own_derivatives: tuple[str, ...]
    approximated: tuple[Function, ...] = ()
    in_single: tuple[str, ...] = ()


def build_program(
    objective: Announced,
    constraints: Sequence[Announced | Linear],
    x: np.ndarray,
    lb: np.ndarray,
    ub: np.ndarray,
    want_hessian: bool,
    linear_solver: str = "auto",
    by_jax: bool = True,
) -> Program:
    """Evaluates every function at ``x``, which lies within ``lb`` and ``ub`` as every other point does that is asked for.

    ``by_jax``: whether functions without derivatives may be traced.

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
    sparse = wants_sparse(linear_solver, n, lower.size)
    if sparse is False:
        functions = [densified(each) for each in functions]
    traced: dict[int, ClosedJaxpr] = {}
    for i, each in enumerate(functions):
        if isinstance(each, Function) and each.may_be_traced and by_jax:
            closed, each.why_not = traced_or_why(each.announced.fun, n, each.start.size)
            if closed is not None:
                traced[i] = closed
    sizes = [each.lower.size if isinstance(each, Linear) else each.start.size for each in functions]
    places = np.cumsum([0, *sizes])

    def program(whole: AbstractHostFunctions, opaque: Sequence[Function]) -> Program:
        parts = tuple(
            Part(each.announced.name, each.announced.fun, traced.get(i), int(places[i]), each.original_at, each.seen)
            for i, each in enumerate(functions)
            if isinstance(each, Function)
        )
        return Program(
            whole,
            lower,
            upper,
            parts,
            tuple((each.name_of_constraint, size) for each, size in zip((objective, *constraints), sizes))[1:],
            tuple(
                each.jac_name
                for each in (objective, *constraints)
                if isinstance(each, Announced) and callable(each.jac)
            ),
            () if isinstance(objective.jac, str) else tuple(filter(_unasked, opaque)),
            tuple(f.announced.name for f in opaque if f.in_single),
        )

    points = Points(x, lb, ub)
    plain = all(
        isinstance(each, Linear) or (i in traced and each.announced.hess is None) for i, each in enumerate(functions)
    )
    if plain:
        whole = _traced_as_a_whole(functions, traced, points, want_hessian, sparse)
        if whole is not None:
            return program(whole, ())
    if sparse is not False:
        whole = sparse_terms(functions, traced, points, sparse, want_hessian)
        if whole is not None:
            answered = [
                f for i, f in enumerate(functions) if isinstance(f, Function) and not (i in traced and f.smooth)
            ]
            return program(whole, answered)
    functions = [densified(each) for each in functions]
    opaque, terms = [], []
    for i, each in enumerate(functions):
        if isinstance(each, Linear):
            terms.append(linear_term(each.matrix))
            continue
        term = _traced_term(each, traced[i], points) if i in traced else None
        if term is None:
            if each.smooth:
                traced.pop(i, None)
            term = opaque_term(each, lb, ub)
            opaque.append(each)
        terms.append(_with_own_hessian(term, each, lb, ub))
    return program(TermFunctions(terms[0], terms[1:], n), opaque)


def _unasked(function: Function) -> bool:
    """Whether nothing was said of its derivatives."""
    return function.announced.jac is None and function.announced.sparsity is None


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
        return None  # each for itself may be
    exact = want_hessian and program.has_hessian
    found = _of_program(program, sparse, exact)
    if isinstance(found, SparseTracedFunctions):
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
            if not agree([v[begin:end] for v in ours], points.originals(each)):
                each.why_not = OTHER_VALUES
                del traced[i]
            elif not finite_where(values[begin:end], jacobian[begin:end]):
                each.values_of(TracedProgram([traced[i]], n).values)
        begin = end
    if any(isinstance(each, Function) and not (i in traced and each.smooth) for i, each in enumerate(functions)):
        return None
    if exact and not finite_where(values[:1], hessian[0][None]):
        return _of_program(program, sparse, False)
    return found


def _of_program(program: TracedProgram, sparse: bool | None, exact: bool) -> TracedFunctions:
    structure = traced_structure(program, sparse, exact=exact)
    return TracedFunctions(program, exact) if structure is None else SparseTracedFunctions(program, structure, exact)


def _at_start(functions: SparseTracedFunctions, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Values; for each of them, a number that is finite if its derivatives are; and the entries of an exact Hessian."""
    d: Any = functions.derivatives(x, np.ones(functions.m), 1.0, True)
    functions.evaluations = Evaluations()
    # Zeros or NaN: sums of the derivatives themselves might overflow.
    slopes = np.concatenate([[np.sum(d.gradient * 0.0)], (d.jacobian * 0.0).sum(axis=1)])[:, None]
    return np.concatenate([[d.objective], d.rows]), slopes, *((d.hessian.data,) if functions.exact else ())


def _traced_term(function: Function, closed: ClosedJaxpr, points: Points) -> Term | None:
    """None where derivatives are not to be had by JAX, for a reason that the function is told."""
    program = TracedProgram([closed], points.start.size)
    if not program.differentiable or not function.smooth:
        function.why_not = function.why_not or NO_RULE
        return None
    values, jacobian = program.first(points.start)
    if not agree([values, program.values(points.near)], points.originals(function)):
        function.why_not = OTHER_VALUES
        return None
    if not finite_where(values, jacobian):
        function.values_of(program.values)
        return None
    program.counts = Counts()
    return program.term()


def _with_own_hessian(term: Term, function: Function, lb: np.ndarray, ub: np.ndarray) -> Term:
    """The term with the second derivatives that were announced, if any."""
    announced, n = function.announced, lb.size
    if announced.hess is None:
        return term
    if callable(announced.hess):
        hess = Callback(announced.hess, lambda answer: matrix(answer, announced.hess_name, (n, n)))
        return with_hessian(term, hess, lambda: hess.calls)
    if term.hessian is not None:
        return term  # differences were asked for, but exact ones are to be had
    if not callable(announced.jac):
        raise ValueError(
            f"`{announced.hess_name}` = {announced.hess!r} takes differences of first derivatives, which need to be exact: "
            f"give `{announced.jac_name}` as a callable"
        )
    return _hessian_by_differences(term, function, announced.hess, lb, ub)


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

    return with_hessian(term, hessian, lambda: sweeps.second)
