"""`pounce.Problem`: the cyipopt-shaped door. Host arrays in, host arrays out, always in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._compile import compiler_options
from ._results import Status
from ._solution import Solution
from ._solve import Stepper, drive, solve_nlp
from ._table import TablePrinter, summary
from .nlp import NLP, Data, InteriorPoint, Program, prepare
from .options import check_option, split_options


ACTIVE_TOLERANCE = 1e-6


class Problem:
    """A nonlinear program in cyipopt's form, on callbacks that JAX can trace.

    ``problem_obj`` has ``objective(x) -> scalar`` and, for ``m > 0``, ``constraints(x) -> (m,)``, both JAX functions; exact
    first and second derivatives are taken from them.
    """

    def __init__(
        self, n: int, m: int, problem_obj: Any, lb: Any = None, ub: Any = None, cl: Any = None, cu: Any = None
    ):
        """**Arguments:** as `cyipopt.Problem`. Raises `ValueError` for wrong sizes, missing row bounds or missing callbacks."""
        for value, name in ((n, "n"), (m, "m")):
            if not isinstance(value, (int, np.integer)) or not 0 <= value < 2**31:
                raise ValueError(f"`{name}` must be a non-negative integer, got {value!r}")
        for method in ("objective", "constraints")[: 1 + (m > 0)]:
            if not callable(getattr(problem_obj, method, None)):
                raise ValueError(
                    f"`problem_obj` needs a callable `{method}`, got {type(problem_obj).__name__} without one"
                )
        if m > 0 and (cl is None or cu is None):
            raise ValueError(f"`cl` and `cu` are both required for m = {m} rows")
        self.n, self.m, self.problem_obj = int(n), int(m), problem_obj
        bounds = ((lb, "lb", n, -np.inf), (ub, "ub", n, np.inf), (cl, "cl", m, -np.inf), (cu, "cu", m, np.inf))
        lb, ub, cl, cu = (_host_vector(value, name, size, default) for value, name, size, default in bounds)
        self._problem = NLP(
            lambda x, _: problem_obj.objective(x),
            (lambda x, _: problem_obj.constraints(x)) if m else None,
            lb=lb,
            ub=ub,
            cl=cl if m else None,
            cu=cu if m else None,
        )
        self._options: dict[str, Any] = {}
        self._scaling: tuple | None = None

    def add_option(self, name: str | bytes, value: Any) -> None:
        """Set an Ipopt option. Raises `pounce.OptionError` for an unknown name or a bad value."""
        canonical, checked = check_option(name, value)
        self._options[canonical] = checked

    addOption = add_option

    def set_problem_scaling(self, obj_scaling: float = 1.0, x_scaling: Any = None, g_scaling: Any = None) -> None:
        """Factors used with ``nlp_scaling_method="user-scaling"``; results come back in user units."""
        if x_scaling is not None and not np.all(np.asarray(x_scaling) == 1):
            raise ValueError("`x_scaling` is not supported: only the objective and the rows are scaled")
        rows = np.ones(self.m) if g_scaling is None else _host_vector(g_scaling, "g_scaling", self.m, 1.0)
        self._scaling = (float(obj_scaling), rows)

    def solve(self, x0: Any, lagrange: Any = None, zl: Any = None, zu: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Solve from ``x0``; multiplier seeds matter with ``warm_start_init_point="yes"``.

        **Returns:** ``(x, info)`` with cyipopt's keys and ``iter_count``, ``mu``, ``final_kkt_error`` and their kin.
        """
        chosen = split_options(self._options)
        start = _host_vector(x0, "x0", self.n, 0.0)
        warm = None
        if any(value is not None for value in (lagrange, zl, zu)):
            seeds = ((lagrange, "lagrange", self.m), (zl, "zl", self.n), (zu, "zu", self.n))
            warm = tuple(_host_vector(value, name, size, np.nan) for value, name, size in seeds)
        if np.any(np.asarray(self._problem.lb) > self._problem.ub) or self.n == 0:
            return start, self._invalid_definition()
        if self.m and np.any(np.asarray(self._problem.cl) > self._problem.cu):
            return start, self._invalid_definition()
        solver = InteriorPoint(**{name: value for name, value in self._options.items() if name not in chosen.driver})
        with jax.enable_x64(True):
            program, data = prepare(
                self._problem, solver, jnp.asarray(start, jnp.float64), None, warm_start=warm, scaling=self._scaling
            )
            solution = self._run(program, data, chosen.driver)
            return np.asarray(solution.x), _info(solution, data)

    def _run(self, program: Program, data: Data, driver: dict[str, Any]) -> Solution:
        limits = {name: float(driver.get(name, 1e20)) for name in ("max_wall_time", "max_cpu_time")}
        level = int(driver.get("print_level", 5))
        if level < 5 and min(limits.values()) >= 1e20:
            return _whole(program)(data)
        init, step, finish = _stepped(program)
        printer = TablePrinter(print, int(driver.get("print_frequency_iter", 1))) if level >= 5 else None

        def on_row(iteration, row):
            if printer is not None:
                printer.row(iteration, row)
            return True

        state = drive(lambda: init(data), lambda state: step(data, state), on_row=on_row, **limits)
        solution = finish(data, state)
        if level >= 3:
            print(summary(solution))
        return solution

    def _invalid_definition(self) -> dict[str, Any]:
        status = Status.Invalid_Problem_Definition
        empty_n, empty_m = np.zeros(self.n), np.zeros(self.m)
        return dict(
            status=int(status), status_msg=status.name, obj_val=np.nan, x=empty_n, g=empty_m, mult_g=empty_m,
            mult_x_L=empty_n, mult_x_U=empty_n, iter_count=0,
        )  # fmt: skip


@functools.lru_cache(maxsize=512)
def _whole(program: Program):
    return jax.jit(
        lambda data: solve_nlp(program.method, program.nlp(data), data.start), compiler_options=compiler_options()
    )


@functools.lru_cache(maxsize=512)
def _stepped(program: Program):
    stepper = Stepper(program.method)
    options = compiler_options()
    return (
        jax.jit(lambda data: stepper.init(program.nlp(data), data.start), compiler_options=options),
        jax.jit(lambda data, state: stepper.step(program.nlp(data), data.start, state), compiler_options=options),
        jax.jit(lambda data, state: stepper.finish(data.start, state), compiler_options=options),
    )


def _host_vector(value: Any, name: str, size: int, default: float) -> np.ndarray:
    if value is None:
        return np.full(size, default)
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be a vector of {size} real numbers, got {type(value).__name__}") from error
    if array.shape != (size,):
        raise ValueError(f"`{name}` must have shape ({size},), got {array.shape}")
    return array


def _info(solution: Solution, data: Data) -> dict[str, Any]:
    status = Status(int(solution.status))
    z, r, bounds = solution.multipliers, solution.residuals, data.start.bounds
    lower, upper, rows = np.asarray(z.lower), np.asarray(z.upper), np.asarray(z.constraints)
    equality = np.asarray(bounds.cl) == np.asarray(bounds.cu)
    return dict(
        x=np.asarray(solution.x),
        status=int(status),
        status_msg=status.name,
        obj_val=float(solution.objective),
        g=np.asarray(solution.constraints),
        mult_g=rows,
        mult_x_L=lower,
        mult_x_U=upper,
        iter_count=int(solution.stats.iterations),
        mu=float(solution.mu),
        final_kkt_error=float(r.kkt_error),
        final_dual_inf=float(r.stationarity),
        final_constr_viol=float(r.constraint_violation),
        final_compl=float(r.complementarity),
        pinned_vars=(lower > ACTIVE_TOLERANCE) | (upper > ACTIVE_TOLERANCE),
        active_constraints=equality | (np.abs(rows) > ACTIVE_TOLERANCE),
        active_tol=ACTIVE_TOLERANCE,
        working_set=None,
    )
