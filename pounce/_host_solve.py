"""What the doors for host callables share: options and arrays in, solution, log and `info` out. Always in float64."""

import time
from typing import Any

import numpy as np

from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, WarmStart
from ._linalg.choice import dense_solver
from ._problem.host import AbstractHostFunctions
from ._results import Status
from ._reverse import Now, OnRow, Setting, padded_size, solve_from_host
from ._solution import History, Solution
from ._table import TablePrinter, summary
from .options import SolverOptions


ACTIVE_TOLERANCE = 1e-6


def solve_host_program(
    functions: AbstractHostFunctions,
    x0: np.ndarray,
    bounds: Bounds,
    options: SolverOptions,
    *,
    warm: WarmStart | None = None,
    scaling: tuple[float, np.ndarray, np.ndarray] | None = None,
    on_row: OnRow | None = None,
) -> tuple[Solution, dict[str, Any]]:
    """Solve a program of host functions under validated options.

    **Arguments:**

    - `functions`: called in this thread; their exceptions, and Ctrl-C, pass through.
    - `x0`, `bounds`: float64 vectors; a bound of magnitude 1e19 or more is absent.
    - `options`: as `pounce.options.split_options` returns them. From `print_level` 5 on, Ipopt's table is printed.
    - `warm`: multipliers in user units; NaN means not given. Used with ``warm_start_init_point=yes``.
    - `scaling`: positive ``(objective, variables, rows)`` factors, used with ``nlp_scaling_method=user-scaling``.
    - `on_row`: sees every iterate; the solve stops when it answers False.

    **Returns:** the solution, its leaves NumPy arrays, and cyipopt's ``info`` with the keys of Ipopt's statistics beside it.
    """
    begin = time.perf_counter()
    if functions.n == 0:
        raise ValueError("there is nothing to solve for: n = 0")
    choices, driver = options.choices, options.driver
    traced, constants = options.numbers.split()
    sizes = padded_size(functions.n, 4), padded_size(functions.m, 4)
    method = InteriorPointMethod(dense_solver(options.linear_solver, *sizes), choices, constants)
    if choices.nlp_scaling_method != "user-scaling":
        scaling = None
    elif scaling is None:
        scaling = (1.0, np.ones(functions.n), np.ones(functions.m))
    if not choices.warm_start_init_point:
        warm = None
    variable_scale, factors = None, None
    if scaling is not None:
        variable_scale, factors = scaling[1], (np.asarray(scaling[0]), scaling[2])
    level = int(driver["print_level"])
    printer = TablePrinter(print, int(driver["print_frequency_iter"])) if level >= 5 else None

    def show(iteration: int, row: History, now: Now) -> bool:
        if printer is not None:
            printer.row(iteration, row)
        return True if on_row is None else on_row(iteration, row, now)

    solution = solve_from_host(
        method,
        functions,
        Setting(x0, bounds, warm, factors, traced),
        variable_scale=variable_scale,
        on_row=None if printer is None and on_row is None else show,
        max_wall_time=float(driver["max_wall_time"]),
        max_cpu_time=float(driver["max_cpu_time"]),
    )
    if level >= 3:
        print(summary(solution))
    return solution, _info(solution, bounds, functions, time.perf_counter() - begin)


def _info(solution: Solution, bounds: Bounds, functions: AbstractHostFunctions, seconds: float) -> dict[str, Any]:
    status = Status(int(solution.status))
    z, r, stats, count = solution.multipliers, solution.residuals, solution.stats, functions.evaluations
    equality = np.asarray(bounds.cl) == np.asarray(bounds.cu)
    return dict(
        x=solution.x,
        status=int(status),
        status_msg=status.name,
        obj_val=float(solution.objective) if count.objective else np.nan,
        g=solution.constraints,
        mult_g=z.constraints,
        mult_x_L=z.lower,
        mult_x_U=z.upper,
        iter_count=int(stats.iterations),
        mu=float(solution.mu),
        final_kkt_error=float(r.kkt_error),
        final_dual_inf=float(r.stationarity),
        final_constr_viol=float(r.constraint_violation),
        final_compl=float(r.complementarity),
        pinned_vars=(z.lower > ACTIVE_TOLERANCE) | (z.upper > ACTIVE_TOLERANCE),
        active_constraints=equality | (np.abs(z.constraints) > ACTIVE_TOLERANCE),
        active_tol=ACTIVE_TOLERANCE,
        working_set=None,
        n_obj_evals=count.objective,
        n_grad_evals=count.gradient,
        n_constr_evals=count.constraints,
        n_jac_evals=count.jacobian,
        n_hess_evals=count.hessian,
        restoration_calls=int(stats.restoration_calls),
        restoration_inner_iters=int(stats.restoration_iterations),
        wall_time=seconds,
    )
