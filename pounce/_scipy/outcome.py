"""What comes back, in SciPy's words: callbacks on the way, an `OptimizeResult` at the end."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._host_solve import nothing_to_solve
from .._interior.start import Bounds, WarmStart
from .._problem.host import HostDerivatives
from .._problem.replaceable import BoxedFunctions
from .._results import Status
from .._reverse import Now, OnRow
from .._solution import History
from .arguments import real_vector


if TYPE_CHECKING:
    from .result import MinimizeResult
else:
    MinimizeResult = dict  # importing it imports `scipy.optimize`

# A point counts as solved, whatever the status, if its optimality error is this small, and as feasible if no row is violated
# by more, relative to ``max(1, |bound|)``.
GOOD_ENOUGH = 1e-6
# Statuses of solves that were cut off, or got no further, at a point that may well be a solution.
_GAVE_UP = (
    Status.Search_Direction_Becomes_Too_Small,
    Status.Diverging_Iterates,
    Status.Maximum_Iterations_Exceeded,
    Status.Restoration_Failed,
    Status.Error_In_Step_Computation,
    Status.Maximum_CpuTime_Exceeded,
    Status.Maximum_WallTime_Exceeded,
)


def on_row_for(callback: Callable, functions: BoxedFunctions) -> OnRow:
    """A callback in any of SciPy's forms, as the driver calls it after every iteration.

    ``callback(intermediate_result)`` if that is its only parameter, ``callback(xk, state)`` if it demands two, else
    ``callback(xk)``. It stops the solve by raising `StopIteration` or returning True.
    """
    form = _form(callback)

    def on_row(iteration: int, row: History, now: Now) -> bool:
        if iteration == 0:
            return True
        assert functions.point is not None
        try:
            if form == 1:
                answer = callback(functions.point.copy())
            else:
                state = _intermediate(iteration, row, now, functions.point.copy())
                answer = callback(intermediate_result=state) if form == 0 else callback(state.x.copy(), state)
        except StopIteration:
            return False
        return not (isinstance(answer, (bool, np.bool_)) and answer)

    return on_row


def _form(callback: Callable) -> int:
    """How many positional arguments a callback wants; 0 where it wants the keyword ``intermediate_result``."""
    try:
        parameters = inspect.signature(callback).parameters
    except (TypeError, ValueError):
        return 1
    if set(parameters) == {"intermediate_result"}:
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    demanded = [p for p in parameters.values() if p.kind in positional and p.default is p.empty]
    return 2 if len(demanded) == 2 else 1


def _intermediate(iteration: int, row: History, now: Now, x: np.ndarray) -> Any:
    from scipy.optimize import OptimizeResult

    return OptimizeResult(
        x=x,
        fun=float(now.derivatives.objective),
        nit=iteration,
        jac=now.derivatives.gradient.copy(),
        constr_violation=float(row.primal_infeasibility),
        barrier_parameter=float(row.mu),
    )


def violation(x: np.ndarray, rows: np.ndarray, bounds: Bounds) -> tuple[float, float]:
    """The largest violation of a bound or a row: as it is, and relative to ``max(1, |bound|)``. NaN where one is NaN."""
    values = np.concatenate([x, rows])
    largest = relative = 0.0
    for sign, limits in ((1.0, (bounds.lb, bounds.cl)), (-1.0, (bounds.ub, bounds.cu))):
        limit = np.concatenate([np.asarray(part) for part in limits])
        present = np.isfinite(limit)
        beyond = sign * (limit - values)[present]
        # NaN has to come through, which Python's `max` would drop.
        largest = np.maximum(largest, np.max(beyond, initial=0.0))
        relative = np.maximum(relative, np.max(beyond / np.maximum(1.0, np.abs(limit[present])), initial=0.0))
    return float(largest), float(relative)


def optimality_errors(info: Mapping[str, Any], here: HostDerivatives, bounds: Bounds) -> tuple[float, float]:
    """How far stationarity and complementarity are from holding at a point with the multipliers of ``info``."""
    y, lower, upper = info["mult_g"], info["mult_x_L"], info["mult_x_U"]
    # The multiplier of a fixed variable is whatever is left.
    free = np.asarray(bounds.lb) < np.asarray(bounds.ub)
    residual = np.where(free, here.gradient + y @ here.jacobian - lower + upper, 0.0)
    products = [
        np.where(np.isfinite(limit), multiplier * np.abs(value - np.where(np.isfinite(limit), limit, 0.0)), 0.0)
        for value, limit, multiplier in (
            (info["x"], bounds.lb, lower),
            (info["x"], bounds.ub, upper),
            (here.rows, bounds.cl, np.maximum(-y, 0.0)),
            (here.rows, bounds.cu, np.maximum(y, 0.0)),
        )
    ]
    return _largest(residual), _largest(*products)


def _largest(*vectors: np.ndarray) -> float:
    """The largest magnitude; NaN where one is NaN."""
    return float(np.max(np.abs(np.concatenate(vectors)), initial=0.0))


def optimize_result(info: dict[str, Any], functions: BoxedFunctions, bounds: Bounds, seconds: float) -> MinimizeResult:
    """The result of a solve that ended with ``info`` and took ``seconds`` with all that goes before it."""
    from .result import MinimizeResult

    x = np.clip(info["x"], bounds.lb, bounds.ub)
    info = info | {"x": x}
    here = functions.latest
    if functions.point is None or not np.array_equal(functions.point, x) or here is None:
        # Cut off at another point than the last one that derivatives were wanted for.
        here = functions.derivatives(x, np.zeros(functions.m), 1.0, False)
        info |= {"obj_val": here.objective, "g": here.rows}
        errors = optimality_errors(info, here, bounds)
        info |= dict(zip(("final_dual_inf", "final_compl"), errors, strict=True))
    largest, relative = violation(x, here.rows, bounds)
    info |= {"final_constr_viol": largest}
    finite = bool(np.isfinite(here.objective) and np.all(np.isfinite(x)) and np.all(np.isfinite(here.rows)))
    status = info["status"]
    solved = status in (Status.Solve_Succeeded, Status.Solved_To_Acceptable_Level)
    if status in _GAVE_UP:
        multipliers = (info[f"mult_{name}"] for name in ("g", "x_L", "x_U"))
        error = max(optimality_errors(info, here, bounds)) / max(1.0, _largest(*multipliers))
        solved = info["final_kkt_error"] <= GOOD_ENOUGH and error <= GOOD_ENOUGH
    message = info["status_msg"]
    if solved and not finite:
        message += ", but the point is not finite"
    elif solved and relative > GOOD_ENOUGH:
        message += f", but constraints are violated by {largest:.1e}"
    count = functions.evaluations
    return MinimizeResult(
        x=x,
        fun=here.objective,
        success=bool(solved and finite and relative <= GOOD_ENOUGH),
        status=status,
        message=message,
        nit=info["iter_count"],
        nfev=count.objective,
        njev=count.gradient,
        nhev=count.hessian,
        jac=here.gradient,
        constr_violation=largest,
        wall_time=seconds,
        info=info,
    )


def changed_result(result: Any, names: list[str], value: float) -> Any:
    """The same result, not a success, with the ``value`` of the objective now that functions of these ``names`` have changed."""
    result.success, result.fun = False, value
    result.message += f", but {' and '.join(names)} changed during the solve"
    return result


def empty_result() -> MinimizeResult:
    """The result for a problem without variables."""
    from .result import MinimizeResult

    info = nothing_to_solve(0)
    return MinimizeResult(
        x=info["x"], fun=np.nan, success=False, status=info["status"], message=info["status_msg"], nit=0, nfev=0, njev=0,
        nhev=0, jac=np.zeros(0), constr_violation=0.0, wall_time=0.0, info=info,
    )  # fmt: skip


def warm_start_of(earlier: Any, n: int) -> tuple[np.ndarray, WarmStart]:
    """Point and multipliers of an earlier result, or of its ``info``.

    Raises `TypeError` for what is neither, `ValueError` for another number of variables.
    """
    info = getattr(earlier, "info", earlier)
    keys = ("x", "mult_g", "mult_x_L", "mult_x_U")
    if not isinstance(info, Mapping) or any(key not in info for key in keys):
        raise TypeError(f"`warm_start` must be a result of `minimize` or its info, got {type(earlier).__name__}")
    x, rows, lower, upper = (real_vector(info[key], f"warm_start.{key}") for key in keys)
    for vector, key in ((x, "x"), (lower, "mult_x_L"), (upper, "mult_x_U")):
        if vector.size != n:
            raise ValueError(f"`warm_start.{key}` has {vector.size} entries but the problem has n = {n} variables")
    return x, WarmStart(rows, lower, upper)
