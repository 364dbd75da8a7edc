"""Functions as people announce them: the objective and its derivatives, and the constraints in each of SciPy's forms."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sps

from .._linalg.sparse import Pattern
from .._problem.answers import matrix
from .._problem.finite_differences import SCHEMES
from .arguments import checked_sides, real_vector


@dataclasses.dataclass(frozen=True)
class Announced:
    """A function of ``x`` alone, with what was said about its derivatives.

    - `name`, `jac_name`, `hess_name`: how messages call the function and its derivatives.
    - `fun`: its value; of a constraint one row or several.
    - `jac`: a callable, the name of a difference scheme, or None: nothing was said.
    - `hess`: a callable of ``x`` and the weights of the values, the name of a difference scheme, or None.
    - `quasi_newton`: the Hessian is to be approximated although an exact one may be at hand.
    - `lower`, `upper`: of a constraint, a number or one per row.
    - `fixed_pattern`: a sparse Jacobian keeps the pattern it has at first.
    - `relative_step`, `absolute_step`: of differences; None where nothing was said.
    - `sparsity`: where a Jacobian by differences may have entries; None where nothing was said.
    - `keep_feasible`: it was asked for.
    """

    name: str
    jac_name: str
    hess_name: str
    fun: Callable[[np.ndarray], Any]
    jac: Callable[[np.ndarray], Any] | str | None = None
    hess: Callable[[np.ndarray, np.ndarray], Any] | str | None = None
    quasi_newton: bool = False
    lower: Any = -np.inf
    upper: Any = np.inf
    fixed_pattern: bool = False
    relative_step: Any = None
    absolute_step: Any = None
    sparsity: Pattern | None = None
    keep_feasible: bool = False

    @property
    def name_of_constraint(self) -> str:
        """Without that of its function."""
        return self.name.removesuffix(".fun").removesuffix('["fun"]')

    def sides(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the ``size`` rows of a constraint."""
        return _row_bounds(self.lower, self.upper, self.name.removesuffix(".fun"), size)


@dataclasses.dataclass(frozen=True)
class Linear:
    """``lower <= matrix @ x <= upper``, with an ``(m, n)`` matrix, dense or sparse."""

    name: str
    matrix: np.ndarray | sps.csr_array
    lower: np.ndarray
    upper: np.ndarray
    keep_feasible: bool = False

    @property
    def name_of_constraint(self) -> str:
        """As messages call it."""
        return self.name


class ValueAndGradient:
    """Takes apart a ``fun`` that returns both (``jac=True``): one call for both at the same point."""

    def __init__(self, fun: Callable[[np.ndarray], Any]):
        self._fun = fun
        self._latest: tuple[bytes, Any, Any] | None = None

    def _at(self, x: np.ndarray) -> tuple[bytes, Any, Any]:
        key = x.tobytes()
        if self._latest is None or self._latest[0] != key:
            answer = self._fun(x)
            try:
                value, gradient = answer
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`fun` must return a pair (value, gradient) with jac=True, got {type(answer).__name__}"
                ) from error
            self._latest = (key, value, gradient)
        return self._latest

    def value(self, x: np.ndarray) -> Any:
        """Its first part."""
        return self._at(x)[1]

    def gradient(self, x: np.ndarray) -> Any:
        """Its second part."""
        return self._at(x)[2]


def announced_objective(fun: Any, args: Any, jac: Any, hess: Any, hessp: Any, n: int) -> Announced:
    """The objective. Raises `TypeError` for what is not callable, `ValueError` for an unknown kind of derivative."""
    if not callable(fun):
        raise TypeError(f"`fun` must be callable, got {type(fun).__name__}")
    args = args if isinstance(args, tuple) else (args,)
    value = _bound(fun, args)
    if jac is True:
        pair = ValueAndGradient(value)
        value, jac = pair.value, pair.gradient
    else:
        jac = _derivative(jac, "jac")
        jac = _bound(jac, args) if callable(jac) else jac
    second, quasi_newton = None, _is_update_strategy(hess)
    if not quasi_newton:
        second = _derivative(hess, "hess")
    if hessp is not None and not callable(hessp):
        raise TypeError(f"`hessp` must be callable, got {type(hessp).__name__}")
    hess_name = "hess"
    if callable(second):
        second = _weighted(_bound(second, args), n)
    elif hessp is not None and second is None and not quasi_newton:
        second, hess_name = _weighted(_columns(hessp, args, n), n), "hessp"
    return Announced("fun", "jac", hess_name, value, jac, second, quasi_newton)


def _bound(function: Callable, args: tuple) -> Callable[[np.ndarray], Any]:
    return (lambda x: function(x, *args)) if args else function


def _weighted(hess: Callable[[np.ndarray], Any], n: int) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Of an objective there is one weight."""

    def weighted(x: np.ndarray, weights: np.ndarray) -> Any:
        answer = hess(x)
        sparse = sps.issparse(answer) and answer.shape == (n, n)
        return weights[0] * (answer if sparse else matrix(answer, "hess", (n, n)))

    return weighted


def _columns(hessp: Callable, args: tuple, n: int) -> Callable[[np.ndarray], np.ndarray]:
    def hess(x: np.ndarray) -> np.ndarray:
        columns = [np.ravel(hessp(x.copy(), unit, *args)) for unit in np.eye(n)]
        if any(column.size != n for column in columns):
            raise ValueError(f"`hessp` must return shape ({n},), got {columns[0].shape}")
        return np.stack(columns, axis=1)

    return hess


def _is_update_strategy(hess: Any) -> bool:
    from scipy.optimize import HessianUpdateStrategy

    return isinstance(hess, HessianUpdateStrategy)


def _derivative(value: Any, name: str) -> Any:
    """A callable, the name of a scheme, or None (which False means too)."""
    if value is None or value is False:
        return None
    if callable(value) or (isinstance(value, str) and value in SCHEMES):
        return value
    raise ValueError(f"`{name}` must be callable, one of {', '.join(SCHEMES)}, or None, got {value!r}")


def announced_constraints(constraints: Any, n: int) -> list[Announced | Linear]:
    """One constraint or a sequence of them: dictionaries, `LinearConstraint`, `NonlinearConstraint`.

    Raises `ValueError` that names the constraint and what is wrong with it.
    """
    from scipy.optimize import LinearConstraint, NonlinearConstraint

    if constraints is None:
        return []
    if isinstance(constraints, (Mapping, LinearConstraint, NonlinearConstraint)):
        constraints = [constraints]
    if isinstance(constraints, (str, bytes)) or not hasattr(constraints, "__iter__"):
        raise ValueError(f"`constraints` must be a constraint or a sequence of them, got {constraints!r}")
    found: list[Announced | Linear] = []
    for i, constraint in enumerate(constraints):
        name = f"constraints[{i}]"
        if isinstance(constraint, Mapping):
            found.append(_from_dictionary(constraint, name))
        elif isinstance(constraint, LinearConstraint):
            found.append(_from_linear(constraint, name, n))
        elif isinstance(constraint, NonlinearConstraint):
            found.append(_from_nonlinear(constraint, name))
        else:
            raise ValueError(
                f"{name} must be a dict, a LinearConstraint or a NonlinearConstraint, got {type(constraint).__name__}"
            )
    return found


def with_steps(announced: Any, steps: Mapping[str, Any]) -> Any:
    """A function with steps of differences, where it does not say itself what they are."""
    if not steps or isinstance(announced, Linear) or announced.relative_step is not None:
        return announced
    return dataclasses.replace(announced, **steps)


def _from_dictionary(constraint: Mapping, name: str) -> Announced:
    for key in ("type", "fun"):
        if key not in constraint:
            raise ValueError(f'{name} is missing required key "{key}"')
    kind = constraint["type"]
    if not isinstance(kind, str) or kind.lower() not in ("eq", "ineq"):
        raise ValueError(f'{name}["type"] must be "eq" (fun(x) == 0) or "ineq" (fun(x) >= 0), got {kind!r}')
    if not callable(constraint["fun"]):
        raise ValueError(f'{name}["fun"] must be callable, got {type(constraint["fun"]).__name__}')
    args = constraint.get("args", ())
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    jac, hess = (_derivative(constraint.get(key), f'{name}["{key}"]') for key in ("jac", "hess"))
    return Announced(
        f'{name}["fun"]',
        f'{name}["jac"]',
        f'{name}["hess"]',
        _bound(constraint["fun"], args),
        _bound(jac, args) if callable(jac) else jac,
        (lambda x, weights: hess(x, weights, *args)) if callable(hess) else hess,
        lower=0.0,
        upper=0.0 if kind.lower() == "eq" else np.inf,
        fixed_pattern=True,
    )


def _from_linear(constraint: Any, name: str, n: int) -> Linear:
    coefficients: Any
    if sps.issparse(constraint.A):
        coefficients = sps.csr_array(constraint.A, dtype=np.float64)
        coefficients.sum_duplicates()
        entries = coefficients.data
    else:
        dense = constraint.A.toarray() if hasattr(constraint.A, "toarray") else constraint.A
        coefficients = entries = np.atleast_2d(np.asarray(dense, dtype=np.float64))
    if coefficients.shape[1] != n:
        raise ValueError(f"{name}.A must have n = {n} columns, got shape {coefficients.shape}")
    if not np.all(np.isfinite(entries)):
        raise ValueError(f"{name}.A must be finite")
    lower, upper = _row_bounds(constraint.lb, constraint.ub, name, coefficients.shape[0])
    return Linear(name, coefficients, lower, upper, bool(np.any(constraint.keep_feasible)))


def _from_nonlinear(constraint: Any, name: str) -> Announced:
    if not callable(constraint.fun):
        raise ValueError(f"{name}.fun must be callable, got {type(constraint.fun).__name__}")
    jac = _derivative(constraint.jac, f"{name}.jac")
    # SciPy's defaults are "2-point" and BFGS(): they do not say that somebody asked for an approximation.
    jac = None if jac == "2-point" else jac
    hess = None if _is_update_strategy(constraint.hess) else _derivative(constraint.hess, f"{name}.hess")
    return Announced(
        f"{name}.fun",
        f"{name}.jac",
        f"{name}.hess",
        constraint.fun,
        jac,
        hess,
        lower=constraint.lb,
        upper=constraint.ub,
        relative_step=constraint.finite_diff_rel_step,
        sparsity=_sparsity(constraint.finite_diff_jac_sparsity, f"{name}.finite_diff_jac_sparsity"),
        keep_feasible=bool(np.any(constraint.keep_feasible)),
    )


def _sparsity(value: Any, name: str) -> Pattern | None:
    """Entries that are zero do not count, stored or not."""
    if value is None:
        return None
    given = value if sps.issparse(value) else np.asarray(value)
    if given.dtype.kind not in "fiub" or given.ndim > 2:
        raise ValueError(f"`{name}` must be a matrix of numbers, got dtype {given.dtype}, shape {given.shape}")
    entries = sps.coo_array(given if sps.issparse(given) else np.atleast_2d(given))
    entries.eliminate_zeros()
    return Pattern.of(entries)


def _row_bounds(lower: Any, upper: Any, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    sides = []
    for value, side in ((lower, "lb"), (upper, "ub")):
        array = real_vector(value, f"{name}.{side}")
        if array.size not in (1, size):
            raise ValueError(f"{name}.{side} has {array.size} entries but the constraint has {size} rows")
        sides.append(np.broadcast_to(array, (size,)).copy())
    return checked_sides(sides[0], sides[1], name)
