"""`pounce.minimize`: the door for people who know `scipy.optimize.minimize`. NumPy in, NumPy out, always in float64."""

import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from ._derivative_test import run_derivative_test
from ._host_solve import HostSolver, without_exact_hessian
from ._interior.start import Bounds
from ._problem.host import AbstractHostFunctions
from ._problem.replaceable import BoxedFunctions
from ._problem.watch import ChangedError, Part, Watch
from ._results import Status
from ._scipy.announced import announced_constraints, announced_objective, with_steps
from ._scipy.arguments import checked_options, difference_steps, merged_options, starting_point, variable_bounds
from ._scipy.outcome import GOOD_ENOUGH, changed_result, empty_result, on_row_for, optimize_result, warm_start_of
from ._scipy.program import Program, build_program
from ._scipy.remarks import remarks
from .options import SolverOptions, split_options


if TYPE_CHECKING:
    from ._scipy.result import MinimizeResult
else:
    MinimizeResult = dict  # importing it imports `scipy.optimize`

# Bounds are not relaxed, so that evaluations stay within them; and what counts as solved is what counts as feasible.
_DEFAULTS = {"print_level": 0, "bound_relax_factor": 0.0, "constr_viol_tol": GOOD_ENOUGH}
Door = TypeVar("Door", bound=Callable)

# Ends without a step that helps
_STUCK = (
    Status.Search_Direction_Becomes_Too_Small,
    Status.Restoration_Failed,
    Status.Error_In_Step_Computation,
)
_METHODS = ("ipopt", "pounce", "interior-point")
# The order of arguments from `jac` on where there is no `args`.
_WITHOUT_ARGS = ("jac", "hess", "bounds", "constraints", "options")


def _with_jac_third(function: Door) -> Door:
    """Lets a callable or bool in the place of ``args`` be ``jac``, with hess, bounds, constraints and options after it."""

    @functools.wraps(function)
    def call(fun: Any, x0: Any, *rest: Any, **keywords: Any) -> Any:
        if rest and (callable(rest[0]) or isinstance(rest[0], (bool, np.bool_))):
            if len(rest) > len(_WITHOUT_ARGS):
                raise TypeError(
                    f"`minimize` takes at most {2 + len(_WITHOUT_ARGS)} positional arguments without `args`"
                )
            for name, value in zip(_WITHOUT_ARGS, rest):
                if name in keywords:
                    raise TypeError(f"`minimize` got multiple values for argument `{name}`")
                keywords[name] = value
            rest = ()
        return function(fun, x0, *rest, **keywords)

    return cast(Door, call)


@_with_jac_third
def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    jac: Any = None,
    hess: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    hessp: Callable | None = None,
    warm_start: Any = None,
    **more_options: Any,
) -> MinimizeResult:
    """Minimise ``fun(x, *args)`` within bounds and constraints; the arguments are those of `scipy.optimize.minimize`.

    Also ``scipy.optimize.minimize(..., method=pounce.minimize)``. A callable or bool in the place of ``args`` is ``jac``, with
    ``hess, bounds, constraints, options`` after it.

    A ``fun`` or constraint without derivatives that JAX can trace gets exact first and second ones. Another one is
    approximated by central differences, with one `UserWarning`. Every evaluation respects the bounds.

    **Arguments:**

    - `fun`: from ``x`` of shape ``(n,)`` in float64 to a number; with ``jac=True`` to a number and its gradient. NaN or
      infinity says that it cannot be evaluated there: the trial point is rejected. Exceptions pass through.
    - `x0`: starting point, ``(n,)`` or a number; moved into the bounds.
    - `args`: further arguments of ``fun``, ``jac``, ``hess`` and ``hessp``.
    - `jac`: ``jac(x, *args)`` of shape ``(n,)``; True; None; or ``"2-point"``, ``"3-point"``, ``"cs"``: differences, without
      asking JAX and without a warning.
    - `hess`: ``hess(x, *args)`` of shape ``(n, n)``, dense, sparse or a `LinearOperator`; a difference scheme, where ``jac``
      is callable; a `HessianUpdateStrategy`, which asks for a limited-memory approximation.
    - `hessp`: ``hessp(x, p, *args)``, the Hessian times ``p``; called ``n`` times for one Hessian.
    - `bounds`: one ``(lo, hi)`` or None per variable, with None for no bound, or a `scipy.optimize.Bounds`.
    - `constraints`: one or several of: ``{"type": "eq" | "ineq", "fun", "jac", "hess", "args"}``, where ``ineq`` means
      ``fun(x) >= 0`` and ``hess(x, v, *args)`` is the Hessian of ``v @ fun(x)``; `LinearConstraint`; `NonlinearConstraint`, with
      ``finite_diff_jac_sparsity`` for differences. SciPy sparse matrices stay sparse in large programs.
    - `tol`: for the scaled optimality error; less than 1.
    - `callback`: called after every iteration as ``callback(xk)``, or ``callback(intermediate_result=...)`` if that is the
      name of its parameter. Raising `StopIteration` or returning True stops with status 5.
    - `options`, `more_options`: Ipopt's names or SciPy's (`pounce.options`); also ``eps`` and ``finite_diff_rel_step``,
      steps of differences.
    - `method`: only here so that calls carry over; there is one method.
    - `warm_start`: an earlier result, whose ``x`` and multipliers to start from instead of ``x0``.

    Second derivatives are exact if every function has them: from JAX, ``hess`` or ``hessp``, or because it is linear.
    Otherwise ``hessian_approximation`` is ``limited-memory``.

    **Returns:** a `scipy.optimize.OptimizeResult` with ``x, fun, success, status, message, nit, nfev, njev, nhev, jac``
    (the gradient), ``constr_violation``, ``wall_time`` and ``info`` (see `pounce.Problem.solve`). ``success`` means status
    0 or 1, or an optimality error of at most 1e-6, at a finite point that violates nothing by more than 1e-6 times
    ``max(1, |bound|)``.

    **Raises:** `ValueError` or `TypeError` that names the argument; `pounce.OptionError` (a `ValueError`) for options; whatever
    ``fun`` and its kin raise.
    """
    begin = time.perf_counter()
    start = starting_point(x0)
    n = start.size
    lb, ub = variable_bounds(bounds, n)
    merged = merged_options(options, more_options, tol)
    steps = difference_steps(merged, n)
    given = checked_options(merged)
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be callable, got {type(callback).__name__}")
    _check_method(method)
    objective = with_steps(announced_objective(fun, args, jac, hess, hessp, n), steps)
    announced = [with_steps(each, steps) for each in announced_constraints(constraints, n)]
    if any(each.keep_feasible for each in announced):
        warnings.warn(
            "`keep_feasible` of a constraint has no effect: only bounds hold at every evaluation",
            UserWarning,
            stacklevel=3,
        )
    if n == 0:
        return empty_result()
    warm = None
    if warm_start is not None:
        start, warm = warm_start_of(warm_start, n)
        given = {"warm_start_init_point": "yes"} | given
    start = np.clip(start, lb, ub)
    want_hessian = not objective.quasi_newton and given.get("hessian_approximation") != "limited-memory"
    linear_solver = given.get("linear_solver", "auto")
    build = functools.partial(
        build_program, objective, announced, lb=lb, ub=ub, want_hessian=want_hessian, linear_solver=linear_solver
    )

    def rebuild(x: np.ndarray) -> tuple[AbstractHostFunctions, Sequence[Part]]:
        program = build(x)
        return program.functions, program.parts

    # A function that has become another one is traced anew, and in the end called for every value.
    for attempt, by_jax in enumerate((True, True, False)):
        program = build(start, by_jax=by_jax)
        settings = _settings(given, want_hessian and program.functions.exact)
        if warm is not None and warm.rows.size != program.functions.m:
            raise ValueError(
                f"`warm_start.mult_g` has {warm.rows.size} entries but the constraints have {program.functions.m} rows"
            )
        functions, sides = BoxedFunctions(program.functions, lb, ub), Bounds(lb, ub, program.lower, program.upper)
        if attempt == 0:
            _warn_about(program)
            run_derivative_test(functions, _with_room_above(start, lb, ub), settings)
        watch = Watch(functions, program.parts, rebuild)
        on_row = None if callback is None else watch.around(on_row_for(callback, functions))
        try:
            _, info = HostSolver(settings).solve(functions, start, sides, warm=warm, on_row=on_row)
        except ChangedError as error:
            start = error.x
            continue
        names = watch.changed_last()
        result = optimize_result(info, functions, sides, time.perf_counter() - begin)
        found = float(result.fun), result.info["g"]
        names = names or watch.changed(result.x, lambda: found)
        if not result.success:
            given_by_user = program.constraints, program.own_derivatives
            result.message += remarks(result.status, result.info["g"], sides, *given_by_user)
        if not names:
            return result
        start = result.x
        # What has changed makes values before it look better than any since, so that no step seems to help.
        if not (result.success or result.status in _STUCK):
            break
        warnings.warn(
            f"{' and '.join(names)} changed during the solve, by the callback or by itself: solving again from where that ended",
            UserWarning,
            stacklevel=3,
        )
    return changed_result(result, names, float(program.parts[0].original(result.x)[0]))


minimize_ipopt = minimize


def _with_room_above(x: np.ndarray, lb: np.ndarray, ub: np.ndarray) -> np.ndarray:
    """A point near ``x`` from which the derivative checker can step upwards."""
    return np.maximum(np.minimum(x, ub - 1e-4 * np.maximum(1.0, np.abs(x))), lb)


def _settings(given: Mapping[str, Any], exact: bool) -> SolverOptions:
    if not exact:
        given = without_exact_hessian(dict(given), "second derivatives of every function", stacklevel=4)
    return split_options(given, _DEFAULTS, stacklevel=5)


def _check_method(method: Any) -> None:
    if method is None or (isinstance(method, str) and method.lower() in _METHODS):
        return
    if not isinstance(method, str):
        raise TypeError(f"`method` must be a name or None, got {method!r}")
    warnings.warn(
        f"`method` = {method!r} has no effect: there is one method, interior-point", UserWarning, stacklevel=4
    )


def _warn_about(program: Program) -> None:
    if program.approximated:
        kinds = dict.fromkeys(
            "objective gradient" if each.is_objective else "constraint Jacobian" for each in program.approximated
        )
        reasons = [f"`{each.announced.name}`: {each.why_not}." for each in program.approximated]
        if len(reasons) > 5:
            reasons[5:] = [f"And {len(reasons) - 5} more."]
        warnings.warn(
            f"No derivatives were given: central differences approximate the {' and the '.join(kinds)}. Why JAX does not take "
            f'them: {" ".join(reasons)} Give `jac`, or ask for differences by jac="3-point".',
            UserWarning,
            stacklevel=4,
        )
    if program.in_single:
        names = " and ".join(f"`{name}`" for name in program.in_single)
        warnings.warn(
            f"JAX evaluates {names} in float32, which limits what can be reached; "
            'start the program with jax.config.update("jax_enable_x64", True).',
            UserWarning,
            stacklevel=4,
        )
