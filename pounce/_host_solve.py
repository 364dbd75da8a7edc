"""What the doors for host callables share: options and arrays in, solution, log and `info` out. Always in float64."""

import time
import warnings
from typing import Any

import numpy as np

from ._interior.options import settled
from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, WarmStart
from ._linalg.choice import DENSE, SPARSE, dense_solver
from ._linalg.hints import PivotHints
from ._problem.host import AbstractHostFunctions
from ._problem.sparse_nlp import LEAST_SPARSE
from ._problem.typical import magnitudes
from ._results import Status
from ._reverse import Kernels, Now, OnRow, Setting, kernels_for, solve_from_host, sparse_kernels_for
from ._solution import History, Solution
from ._table import TablePrinter, summary
from ._waiting import Wait, one_solve
from .options import SolverOptions


ACTIVE_TOLERANCE = 1e-6


def wants_sparse(linear_solver: str, n: int, m: int, default: bool | None = None) -> bool | None:
    """As `HostSolver.wants_sparse`, for a linear solver of that name."""
    if linear_solver in DENSE + SPARSE:
        return linear_solver in SPARSE
    if default is not None:
        return default
    return None if n + m >= LEAST_SPARSE else False


class HostSolver:
    """A solver of host programs under validated options, to be kept for as long as these stay the same."""

    def __init__(self, options: SolverOptions):
        self._driver, self.choices = options.driver, options.choices
        # Silence that was asked for is kept; that of a door which prints nothing by default, unless somebody looks on.
        self._aloud = True if self._driver["print_level"] else False if "print_level" in options.given else None
        numbers, self._choices = settled(options.numbers, options.choices)
        self._numbers, constants = numbers.split()
        self._constants, self._linear_solver = constants, options.linear_solver
        self._dense: dict[int, Kernels] = {}

    def wants_sparse(self, n: int, m: int, default: bool | None = None) -> bool | None:
        """Whether matrices of a program are to be sparse: by the options, or else the ``default``, or else their size. None where
        it depends on the patterns."""
        return wants_sparse(self._linear_solver, n, m, default)

    def _kernels(self, functions: AbstractHostFunctions, x0: np.ndarray, bounds: Bounds) -> Kernels:
        structure = functions.structure
        if structure is not None:

            def hints() -> PivotHints:
                start = np.clip(x0, bounds.lb, bounds.ub)
                jacobian = functions.derivatives(start, np.zeros(functions.m), 1.0, False).jacobian
                fixed, equality = np.equal(bounds.lb, bounds.ub), np.equal(bounds.cl, bounds.cu)
                return PivotHints(magnitudes(np.asarray(jacobian.data), structure.jacobian), equality, fixed)

            return sparse_kernels_for(self._linear_solver, self._choices, self._constants, structure, hints)
        # Which dense solver it is depends on whether there are rows, not on how many.
        some = min(functions.m, 1)
        if some not in self._dense:
            solver = dense_solver(self._linear_solver, 1, some)
            self._dense[some] = kernels_for(InteriorPointMethod(solver, self._choices, self._constants, certify=False))
        return self._dense[some]

    def solve(
        self,
        functions: AbstractHostFunctions,
        x0: np.ndarray,
        bounds: Bounds,
        *,
        warm: WarmStart | None = None,
        scaling: tuple[float, np.ndarray, np.ndarray] | None = None,
        on_row: OnRow | None = None,
    ) -> tuple[Solution, dict[str, Any]]:
        """Solve a program of at least one variable.

        **Arguments:**

        - `functions`: called in this thread; their exceptions, and Ctrl-C, pass through.
        - `x0`, `bounds`: float64 vectors; a bound of magnitude 1e19 or more is absent.
        - `warm`: multipliers in user units; NaN means not given. Used with ``warm_start_init_point=yes``.
        - `scaling`: positive ``(objective, variables, rows)`` factors, used with ``nlp_scaling_method=user-scaling``.
        - `on_row`: sees every iterate; the solve stops when it answers False.

        From `print_level` 5 on, Ipopt's table is printed. What compiles for long is spoken of on standard error.

        **Returns:** the solution, its leaves NumPy arrays, and cyipopt's ``info`` with the keys of Ipopt's statistics beside it.
        """
        begin = time.perf_counter()
        seeds = (warm.rows, warm.lower, warm.upper) if warm is not None and self.choices.warm_start_init_point else None
        variable_scale, factors = None, (None, None)
        if self.choices.nlp_scaling_method == "user-scaling":
            objective, variable_scale, rows = scaling or (1.0, None, np.ones(functions.m))
            factors = np.asarray(objective), rows
        b = bounds
        setting = Setting(x0, b.lb, b.ub, b.cl, b.cu, *(seeds or (None, None, None)), *factors, self._numbers)  # pyright: ignore
        level = int(self._driver["print_level"])
        printer = TablePrinter(print, int(self._driver["print_frequency_iter"])) if level >= 5 else None

        def show(iteration: int, row: History, now: Now) -> bool:
            if printer is not None:
                printer.row(iteration, row)
            return True if on_row is None else on_row(iteration, row, now)

        with one_solve(Wait(functions.n, functions.m, self._aloud)):
            solution = solve_from_host(
                self._kernels(functions, x0, bounds),
                functions,
                setting,
                variable_scale=variable_scale,
                on_row=None if printer is None and on_row is None else show,
                max_wall_time=float(self._driver["max_wall_time"]),
                max_cpu_time=float(self._driver["max_cpu_time"]),
            )
        if level >= 3:
            print(summary(solution))
        return solution, _info(solution, bounds, functions, time.perf_counter() - begin)


def without_exact_hessian(given: dict[str, Any], needed: str, stacklevel: int) -> dict[str, Any]:
    """Options for functions that have no Hessian; a warning that says what would be ``needed`` if one was asked for."""
    if given.get("hessian_approximation") == "exact":
        warnings.warn(
            f"hessian_approximation=exact needs {needed}; limited-memory is used",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return given | {"hessian_approximation": "limited-memory"}


def nothing_to_solve(rows: int) -> dict[str, Any]:
    """``info`` of a problem without variables."""
    status, none, zeros = Status.Invalid_Problem_Definition, np.zeros(0), np.zeros(rows)
    return dict(
        x=none, status=int(status), status_msg=status.name, obj_val=np.nan, g=zeros, mult_g=zeros, mult_x_L=none,
        mult_x_U=none, iter_count=0,
    )  # fmt: skip


def _info(solution: Solution, bounds: Bounds, functions: AbstractHostFunctions, seconds: float) -> dict[str, Any]:
    status = Status(int(solution.status))
    z, r, stats, count = solution.multipliers, solution.residuals, solution.stats, functions.evaluations
    equality = np.asarray(bounds.cl) == np.asarray(bounds.cu)
    return dict(
        x=solution.x,
        status=int(status),
        status_msg=status.name,
        obj_val=float(solution.objective) if count.objective + count.gradient else np.nan,
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
