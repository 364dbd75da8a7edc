"""From what was announced to a program: each function by JAX where it can be traced, else as the callables that were given,
else by differences."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._check import real_array
from .._problem.answers import matrix, scalar, vector
from .._problem.finite_differences import Differences
from .._problem.host import AbstractHostFunctions
from .._problem.purity import footprint, same_footprint
from .._problem.terms import Callback, Counts, Term, TermFunctions, linear_term
from .._problem.tracing import ClosedJaxpr, TracedFunctions, TracedProgram, trace_product, try_to_trace
from .announced import Announced, Linear


# How far values of a traced function and of the original may differ, relative to their size at two points. They run the same
# operations in another order; what is to be noticed are functions that are not the same at all.
_AGREEMENT = 1e-6


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


class _Function:
    """An announced function with its answer at the starting point."""

    def __init__(self, announced: Announced, is_objective: bool, x: np.ndarray):
        self.announced, self.is_objective = announced, is_objective
        self.size: int | None = 1 if is_objective else None
        self.answer: Any = None
        before = footprint(announced.fun) if announced.jac is None else []
        self.callback = Callback(self._remembered, self._check)
        self.start = self.callback(x)
        self.size = self.start.size
        # Functions written for JAX are traced whatever else they do: their authors know. Others had better be pure.
        arrays = [leaf for leaf in jax.tree.leaves(self.answer) if isinstance(leaf, jax.Array)]
        self.may_be_traced = announced.jac is None and (
            bool(arrays) or same_footprint(before, footprint(announced.fun))
        )
        self.in_single = any(array.dtype == np.float32 for array in arrays)
        self.answer = None

    def _remembered(self, x: np.ndarray) -> Any:
        self.answer = self.announced.fun(x)
        return self.answer

    def _check(self, answer: Any) -> np.ndarray:
        name = self.announced.name
        return scalar(answer, name) if self.is_objective else vector(answer, name, self.size)


def build_program(
    objective: Announced,
    constraints: Sequence[Announced | Linear],
    x: np.ndarray,
    lb: np.ndarray,
    ub: np.ndarray,
    want_hessian: bool,
) -> Program:
    """Evaluates every function at ``x``, which lies within ``lb`` and ``ub`` as every other point does that is asked for.

    Exceptions of the functions pass through. Raises `TypeError` or `ValueError` for answers of a wrong kind or shape.
    """
    n = x.size
    functions = [
        each if isinstance(each, Linear) else _Function(each, i == 0, x)
        for i, each in enumerate((objective, *constraints))
    ]
    sides = [
        (each.lower, each.upper) if isinstance(each, Linear) else each.announced.sides(each.start.size)
        for each in functions[1:]
    ]
    lower, upper = (np.concatenate([np.zeros(0), *(pair[k] for pair in sides)]) for k in (0, 1))
    traced: dict[int, ClosedJaxpr] = {}
    for i, each in enumerate(functions):
        if isinstance(each, _Function) and each.may_be_traced:
            closed = try_to_trace(each.announced.fun, n)
            if closed is not None and closed.out_avals[0].shape == (each.size,):
                traced[i] = closed
    points = Points(x, lb, ub)
    plain = all(
        isinstance(each, Linear) or (i in traced and each.announced.hess is None) for i, each in enumerate(functions)
    )
    if plain:
        whole = _traced_as_a_whole(functions, traced, points, want_hessian)
        if whole is not None:
            return Program(whole, lower, upper)
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


class Points:
    """The starting point and one near it, at which a traced function must do what the original does."""

    def __init__(self, x: np.ndarray, lb: np.ndarray, ub: np.ndarray):
        upwards = ub - x >= x - lb
        room = np.where(upwards, ub - x, x - lb)
        # Steps of different lengths, lest an antisymmetric difference cancel.
        step = np.minimum(1e-2 * np.maximum(1.0, np.abs(x)) * (1.0 + np.arange(x.size) % 7 / 10.0), 0.5 * room)
        self.start = x
        self.near = np.clip(x + np.where(upwards, step, -step), lb, ub)

    def originals(self, function: _Function) -> list[np.ndarray] | None:
        """Values of the original at both; in float64, also of a function that makes float32 of what it is given."""
        try:
            with jax.enable_x64(True):
                start = function.callback.fresh(self.start) if function.in_single else function.start
                return [start, function.callback.fresh(self.near)]
        except Exception:  # a function that raises cannot have been traced in full
            return None


def _agree(ours: list[np.ndarray], originals: list[np.ndarray] | None) -> bool:
    if originals is None:
        return False
    finite = [np.where(np.isfinite(values), np.abs(values), 0.0) for values in originals]
    each = np.maximum(finite[0], finite[1])
    # The second part is for values that are zero but for rounding.
    near = _AGREEMENT * each + 1e-6 * _AGREEMENT * np.max(each, initial=0.0)
    with np.errstate(invalid="ignore"):
        return all(
            bool(np.all((np.abs(a - b) <= near) | (a == b) | (np.isnan(a) & np.isnan(b))))
            for a, b in zip(ours, originals)
        )


def _finite_where(values: np.ndarray, derivatives: np.ndarray) -> bool:
    """Whether derivatives exist wherever values do."""
    return bool(np.all(np.isfinite(derivatives[np.isfinite(values)])))


def _traced_as_a_whole(
    functions: Sequence[_Function | Linear], traced: dict[int, ClosedJaxpr], points: Points, want_hessian: bool
) -> TracedFunctions | None:
    """One program for everything. Drops from ``traced`` what turns out to be something else than its original."""
    n = points.start.size
    parts = [trace_product(each.matrix) if isinstance(each, Linear) else traced[i] for i, each in enumerate(functions)]
    program = TracedProgram(parts, n)
    if not program.differentiable:
        return None
    exact = want_hessian and program.has_hessian
    values, jacobian, *hessian = (
        program.second(points.start, np.ones(program.size)) if exact else program.first(points.start)
    )
    ours = values, program.values(points.near)
    begin = 0
    for i, each in enumerate(functions):
        end = begin + (each.matrix.shape[0] if isinstance(each, Linear) else each.start.size)
        if isinstance(each, _Function):
            same = _agree([v[begin:end] for v in ours], points.originals(each))
            if not (same and _finite_where(values[begin:end], jacobian[begin:end])):
                del traced[i]
        begin = end
    if len(traced) < sum(isinstance(each, _Function) for each in functions):
        return None
    return TracedFunctions(program, exact and _finite_where(values[:1], hessian[0][None]))


def _traced_term(function: _Function, closed: ClosedJaxpr, points: Points) -> Term | None:
    program = TracedProgram([closed], points.start.size)
    if not program.differentiable:
        return None
    values, jacobian = program.first(points.start)
    same = _agree([values, program.values(points.near)], points.originals(function))
    if not (same and _finite_where(values, jacobian)):
        return None
    program.counts = Counts()
    return program.term()


def _opaque_term(function: _Function, lb: np.ndarray, ub: np.ndarray) -> Term:
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


def _complex_values(function: _Function, point: np.ndarray) -> np.ndarray:
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


def _with_own_hessian(term: Term, function: _Function, lb: np.ndarray, ub: np.ndarray) -> Term:
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


def _hessian_by_differences(term: Term, function: _Function, scheme: Any, lb: np.ndarray, ub: np.ndarray) -> Term:
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
