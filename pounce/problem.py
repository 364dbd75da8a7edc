"""`pounce.Problem`: the cyipopt-shaped door. Host arrays in, host arrays out, always in float64."""

import contextvars
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_context

from ._check import finite_start, no_nan, real_array
from ._current import current_iterate, current_violations
from ._derivative_test import run_derivative_test
from ._host_solve import HostSolver, nothing_to_solve, without_exact_hessian
from ._interior.start import Bounds, WarmStart
from ._linalg.sparse import Pattern
from ._problem.callbacks import CallbackFunctions
from ._problem.host import AbstractHostFunctions
from ._problem.replaceable import Replaceable
from ._problem.sparse_nlp import is_sparse
from ._problem.sparse_tracing import SparseTracedFunctions, traced_structure
from ._problem.tracing import TracedFunctions, TracedProgram, trace
from ._problem.watch import ChangedError, Part, Watch
from ._report import write_report
from ._reverse import Now, OnRow
from ._solution import History, Solution
from .options import SolverOptions, check_option, split_options


__all__ = ["Problem"]

INTERMEDIATE = (
    "alg_mod", "iter_count", "obj_value", "inf_pr", "inf_du", "mu", "d_norm", "regularization_size", "alpha_du",
    "alpha_pr", "ls_trials",
)  # fmt: skip
# The solve under way in this thread, for `get_current_iterate`.
_under_way: contextvars.ContextVar[tuple["Problem", Now] | None] = contextvars.ContextVar("_under_way", default=None)


class Sparsity(NamedTuple):
    """What is known about derivatives that JAX takes: whether they are to be sparse (None: what they look like decides) and the
    patterns of the Jacobian and the Hessian, where they are known."""

    wanted: bool | None = None
    patterns: tuple[Pattern | None, Pattern | None] = (None, None)


class Problem:
    """A nonlinear program ``min f(x)  s.t.  cl <= g(x) <= cu,  lb <= x <= ub`` in cyipopt's form.

    ``problem_obj`` has cyipopt's callbacks: ``objective(x)``, ``gradient(x)`` and, for ``m > 0``, ``constraints(x)``,
    ``jacobian(x)`` with ``jacobianstructure()`` (dense by rows without it); optionally ``hessian(x, lagrange, obj_factor)``
    with ``hessianstructure()`` (one triangle; the dense lower one without it), and ``intermediate``. A subclass may have them
    as methods and leave ``problem_obj`` out.

    Where ``gradient`` or ``jacobian`` is missing, ``objective`` and ``constraints`` must be JAX functions: exact first and
    second derivatives are taken from them. Without a Hessian, ``hessian_approximation`` is ``limited-memory``.

    Programs with 400 variables and rows or more and structures with few entries, with a Hessian or without, keep sparse matrices
    up to the linear solver; the option ``linear_solver`` decides otherwise (``sparse-ldl``, or one of the dense ones).
    """

    def __init__(
        self, n: int, m: int, problem_obj: Any = None, lb: Any = None, ub: Any = None, cl: Any = None, cu: Any = None
    ):
        """**Arguments:**

        - `n`, `m`: numbers of variables and rows.
        - `problem_obj`: the callbacks; this object itself by default.
        - `lb`, `ub`: bounds of the variables, ``(n,)``; none by default. Magnitudes from 1e19 on mean no bound.
        - `cl`, `cu`: bounds of the rows, ``(m,)``; both required for ``m > 0``. Equal ones make an equality.

        Raises `ValueError` for wrong sizes, NaN, missing row bounds or missing callbacks, `TypeError` for what is not a
        number. Reversed bounds are not an error here: the solve answers with status -11.
        """
        for value, name in ((n, "n"), (m, "m")):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**31:
                raise ValueError(f"`{name}` must be an integer from 0 to 2**31 - 1, got {value!r}")
        self.n, self.m = int(n), int(m)
        self.problem_obj: Any = self if problem_obj is None else problem_obj
        for method in ("objective", "constraints")[: 1 + (m > 0)]:
            if not callable(getattr(self.problem_obj, method, None)):
                raise ValueError(
                    f"`problem_obj` needs a callable `{method}`, got {type(self.problem_obj).__name__} without one"
                )
        if m > 0 and (cl is None or cu is None):
            raise ValueError(f"`cl` and `cu` are both required for m = {m} rows")
        if m == 0:
            cl = cu = None
        bounds = ((lb, "lb", n, -np.inf), (ub, "ub", n, np.inf), (cl, "cl", m, -np.inf), (cu, "cu", m, np.inf))
        self._bounds = Bounds(*(_bound_vector(value, name, size, default) for value, name, size, default in bounds))
        self._options: dict[str, Any] = {}
        self._prepared: tuple[dict[str, Any], SolverOptions, HostSolver] | None = None
        self._scaling: tuple | None = None
        self._sparsity = Sparsity()
        self._names: tuple[str, str] = ("objective", "constraints")  # what messages call the functions

    @property
    def has_hessian(self) -> bool:
        """Whether second derivatives are exact."""
        return self._needs_jax() or callable(getattr(self.problem_obj, "hessian", None))

    def _needs_jax(self) -> bool:
        wanted = ("gradient", "jacobian")[: 1 + (self.m > 0)]
        return not all(callable(getattr(self.problem_obj, name, None)) for name in wanted)

    def get_bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Copies of ``lb, ub, cl, cu``."""
        b = self._bounds
        return np.array(b.lb), np.array(b.ub), np.array(b.cl), np.array(b.cu)

    def add_option(self, name: str | bytes, value: Any) -> None:
        """Set an Ipopt option.

        **Arguments:** `name`: Ipopt's, in any case. `value`: text, a number, or a bool for yes and no.

        **Raises:** `pounce.OptionError` for an unknown name or a bad value.
        """
        canonical, checked = check_option(name, value)
        self._options[canonical] = checked

    addOption = add_option

    def options_snapshot(self) -> dict[str, Any]:
        """The options set so far, to be given to `restore_options`."""
        return dict(self._options)

    def restore_options(self, snapshot: dict[str, Any]) -> None:
        """Set exactly the options of a snapshot.

        **Arguments:** `snapshot`: what `options_snapshot` returned.
        """
        self._options = dict(check_option(name, value) for name, value in snapshot.items())

    def set_problem_scaling(self, obj_scaling: float = 1.0, x_scaling: Any = None, g_scaling: Any = None) -> None:
        """Factors used with ``nlp_scaling_method="user-scaling"``.

        The solver sees ``obj_scaling * f``, ``x_scaling * x`` and ``g_scaling * g``; results come back in user units.

        **Arguments:** `obj_scaling`: not zero; a negative one maximises. `x_scaling`, `g_scaling`: positive, ``(n,)`` and
        ``(m,)``; one by default.
        """
        if not np.isfinite(obj_scaling) or obj_scaling == 0:
            raise ValueError(f"`obj_scaling` must be finite and not zero, got {obj_scaling!r}")
        factors = []
        for value, name, size in ((x_scaling, "x_scaling", self.n), (g_scaling, "g_scaling", self.m)):
            factor = _host_vector(value, name, size, 1.0)
            if not (np.all(np.isfinite(factor)) and np.all(factor > 0)):
                raise ValueError(f"`{name}` must be positive, got {factor}")
            factors.append(factor)
        self._scaling = (float(obj_scaling), *factors)

    def get_problem_scaling(self) -> tuple[float, np.ndarray, np.ndarray] | None:
        """``(obj_scaling, x_scaling, g_scaling)`` as set, or None."""
        return self._scaling

    def clear_problem_scaling(self) -> None:
        """Forget the scaling."""
        self._scaling = None

    def close(self) -> None:
        """Nothing is held that would have to be released; here because cyipopt has it."""

    def solve(
        self,
        x0: Any = None,
        lagrange: Any = None,
        zl: Any = None,
        zu: Any = None,
        working_set: Any = None,
        *,
        x: Any = None,
        warm_start: dict[str, Any] | None = None,
        report_path: Any = None,
        report_detail: str | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Solve from a starting point.

        **Arguments:**

        - `x0`, or `x` as cyipopt calls it: starting point, ``(n,)``.
        - `lagrange`, `zl`, `zu`: multipliers to start from, used with ``warm_start_init_point="yes"``; NaN: not given.
        - `warm_start`: the ``info`` of an earlier solve; its multipliers are used and ``warm_start_init_point`` is set.
        - `working_set`: for ``algorithm="active-set-sqp"`` only, which is not here; warns.
        - `report_path`, `report_detail`: write ``info`` as JSON to a file; ``"full"`` with its vectors, else without.

        **Returns:** ``(x, info)`` with cyipopt's keys and ``iter_count``, ``mu``, ``final_kkt_error`` and their kin.
        Multipliers satisfy ``grad f + J' mult_g - mult_x_L + mult_x_U = 0``.

        **Raises:** `ValueError` for wrong lengths, and whatever a callback raises.
        """
        if (x0 is None) == (x is None):
            raise TypeError("`solve` takes a starting point `x0` (or `x`), once")
        start = _start_vector(x0 if x is None else x, self.n)
        if working_set is not None:
            warnings.warn("`working_set` has no effect on the interior-point method", UserWarning, stacklevel=2)
        given = dict(self._options)
        if warm_start is not None:
            seeds = (warm_start["mult_g"], warm_start["mult_x_L"], warm_start["mult_x_U"])
            lagrange, zl, zu = (new if old is None else old for new, old in zip(seeds, (lagrange, zl, zu)))
            given["warm_start_init_point"] = "yes"
        seeds = ((lagrange, "lagrange", self.m), (zl, "zl", self.n), (zu, "zu", self.n))
        warm = WarmStart(*(_seed_vector(value, name, size) for value, name, size in seeds))
        options, solver = self._prepare(given)
        if self.n == 0:
            return start, nothing_to_solve(self.m)
        with eval_context():  # numbers are NumPy's here, and no part of what is being traced around it
            solution, info = self._run(start, warm, options, solver)
        if report_path is not None:
            write_report(report_path, info, full=report_detail == "full")
        return np.asarray(solution.x), info

    def _prepare(self, given: dict[str, Any]) -> tuple[SolverOptions, HostSolver]:
        """Validated options, with the quasi-Newton Hessian where there is no other, and the solver that has them."""
        if not self.has_hessian:
            given = without_exact_hessian(given, "a `hessian` callback", stacklevel=3)
        if self._prepared is None or self._prepared[0] != given:
            options = split_options(given, stacklevel=3)
            self._prepared = given, options, HostSolver(options)
        return self._prepared[1:]

    def _functions(self, solver: HostSolver) -> tuple[AbstractHostFunctions, tuple[Part, ...]]:
        """The functions, and what they were traced from."""
        obj, exact = self.problem_obj, solver.choices.hessian_approximation == "exact"
        sparse = solver.wants_sparse(self.n, self.m, self._sparsity.wanted)
        if not self._needs_jax():
            functions = CallbackFunctions(obj, self.n, self.m, exact)
            if functions.has_both_triangles:
                warnings.warn(
                    "`hessianstructure` lists entries on both sides of the diagonal. They are taken for one symmetric "
                    "matrix, each pair by its mean; list one triangle, whose entries stand for both",
                    UserWarning,
                    stacklevel=4,
                )
            if sparse or (sparse is None and functions.has_structures and is_sparse(*functions.patterns)):
                functions.become_sparse()
            return functions, ()

        try:
            originals = [obj.objective, obj.constraints] if self.m else [obj.objective]
            traced = [trace(function, self.n) for function in originals]
            program = TracedProgram(traced, self.n)
        except jax.errors.JAXTypeError as error:
            raise TypeError(
                "`problem_obj` has no `gradient` (or no `jacobian`), so derivatives are taken by JAX, but its functions "
                "cannot be traced: write them with jax.numpy, or add the missing callbacks"
            ) from error
        if program.size != 1 + self.m:
            raise ValueError(f"`constraints` must return {self.m} numbers, got {program.size - 1}")
        program.check(self._names, exact)
        structure = traced_structure(program, sparse, *self._sparsity.patterns, exact=exact)
        parts = tuple(
            Part(name, function, closed, place, functools.partial(_values_now, function), ())
            for name, function, closed, place in zip(self._names, originals, traced, (0, 1))
        )
        if structure is not None:
            return SparseTracedFunctions(program, structure, exact), parts
        return TracedFunctions(program, exact), parts

    def __getstate__(self) -> dict[str, Any]:
        """Without compiled programs, which the receiving process makes for itself."""
        return self.__dict__ | {"_prepared": None}

    def _run(
        self, start: np.ndarray, warm: WarmStart, options: SolverOptions, solver: HostSolver
    ) -> tuple[Solution, dict[str, Any]]:
        (made, parts), again = self._functions(solver), True
        run_derivative_test(made, start, options)
        callback = getattr(self.problem_obj, "intermediate", None)
        on_row = self._intermediate(callback) if callable(callback) else None
        if not parts:
            return solver.solve(made, start, self._bounds, warm=warm, scaling=self._scaling, on_row=on_row)
        while True:
            functions = Replaceable(made)
            watch = Watch(functions, parts, lambda _: self._functions(solver))
            watched = None if on_row is None else watch.around(on_row)
            try:
                found = solver.solve(functions, start, self._bounds, warm=warm, scaling=self._scaling, on_row=watched)
            except ChangedError as error:
                x, names, found = error.x, ["`problem_obj`"], None
            else:
                x = np.asarray(found[0].x)
                names = watch.changed_last() or watch.changed(x, functools.partial(functions.values, x))
                if not names:
                    return found
            again = again and (found is None or found[1]["status"] in (0, 1))
            what = "solving again from where that ended" if again else "the answer is that of what was traced before"
            warnings.warn(
                f"{' and '.join(names)} changed during the solve, by `intermediate` or by itself: {what}",
                UserWarning,
                stacklevel=3,
            )
            if not again and found is not None:
                return found
            again, start, (made, parts) = False, x, self._functions(solver)

    def _intermediate(self, callback: Callable) -> OnRow:
        """The callback as the driver calls it: with keywords where it has cyipopt's names, else in cyipopt's order."""
        by_keyword = _takes_keywords(callback)

        def on_row(iteration: int, row: History, now: Now) -> bool:
            figures = (
                int(row.restoring), iteration, float(row.objective), float(row.primal_infeasibility),
                float(row.dual_infeasibility), float(row.mu), float(row.step), float(row.regularization),
                float(row.alpha_dual), float(row.alpha_primal), int(row.trials),
            )  # fmt: skip
            token = _under_way.set((self, now))
            try:
                answer = callback(**dict(zip(INTERMEDIATE, figures))) if by_keyword else callback(*figures)
            finally:
                _under_way.reset(token)
            return _goes_on(answer)

        return on_row

    def get_current_iterate(self, scaled: bool = False) -> dict[str, np.ndarray]:
        """The iterate, inside ``intermediate``: ``x, mult_x_L, mult_x_U, g, mult_g``.

        **Arguments:** `scaled`: in the solver's units instead of the user's.

        **Raises:** `RuntimeError` elsewhere.
        """
        return current_iterate(self._now(), scaled)

    def get_current_violations(self, scaled: bool = False) -> dict[str, np.ndarray]:
        """How far the optimality conditions are from holding, inside ``intermediate``.

        **Arguments:** `scaled`: in the solver's units instead of the user's.

        **Returns:** ``x_L_violation, x_U_violation, compl_x_L, compl_x_U, grad_lag_x`` of shape ``(n,)`` and ``g_violation,
        compl_g`` of shape ``(m,)``.

        **Raises:** `RuntimeError` elsewhere.
        """
        return current_violations(self._now(), self._bounds, scaled)

    def _now(self) -> Now:
        under_way = _under_way.get()
        if under_way is None or under_way[0] is not self:
            raise RuntimeError("there is a current iterate only inside the `intermediate` callback of a solve")
        return under_way[1]


def _values_now(function: Callable, x: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(function(jnp.asarray(x)), np.float64).reshape(-1)


def _goes_on(answer: Any) -> bool:
    """What an answer of ``intermediate`` means: what Python calls false stops, but for None; an array if any of it does."""
    if answer is None:
        return True
    if hasattr(answer, "__array__"):
        return bool(np.size(answer)) and bool(np.all(answer))
    return bool(answer)


def _takes_keywords(callback: Callable) -> bool:
    try:
        inspect.signature(callback).bind(**dict.fromkeys(INTERMEDIATE))
    except (TypeError, ValueError):
        return False
    return True


def _host_vector(value: Any, name: str, size: int, default: float) -> np.ndarray:
    if value is None:
        return np.full(size, default)
    array = real_array(value, name, f"be a vector of {size}")
    if array.shape != (size,):
        raise ValueError(f"`{name}` must have shape ({size},), got {array.shape}")
    return array


def _bound_vector(value: Any, name: str, size: int, default: float) -> np.ndarray:
    array = _host_vector(value, name, size, default)
    no_nan(array, name)
    return array


def _start_vector(value: Any, size: int) -> np.ndarray:
    array = _host_vector(value, "x0", size, 0.0)
    finite_start(array)
    return array


def _seed_vector(value: Any, name: str, size: int) -> np.ndarray:
    """cyipopt's way to leave a seed out is an empty list."""
    return _host_vector(None if value is not None and np.size(value) == 0 else value, name, size, np.nan)
