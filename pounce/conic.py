"""The native door of convex programs: one function that returns everything, as a JAX function."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import numpy as np

from . import _check as check
from ._adjoint import conic
from ._adjoint.rule import OnFailure, differentiable_solve
from ._compile import compiler_options, program_cache
from ._cone.layout import Layout
from ._cone_spec import Rows, orthant, parse
from ._conic.data import ConicData, presolve
from ._conic.solution import ConicSolution
from ._conic.solver import ConicMethod
from ._conic.system import kkt_operator, unit_scaling
from ._conic_solve import Controls, WarmPoint, solve_conic as run_conic
from ._convex_arguments import convex_data, iteration_limit, tolerance
from ._lanes import in_cache
from ._linalg.choice import quasi_definite_solver
from ._linalg.kkt import AbstractKKTSolver
from ._linalg.schur import SchurCholesky
from ._linalg.sparse import Pattern, SparseMatrix


class Inputs(eqx.Module):
    """What a solution depends on, and the index tables of the sparse solver, which are integers."""

    data: ConicData
    sparse: AbstractKKTSolver | None


class ConicSolve(eqx.Module):
    """The static half of a solve: hashable, so that equal calls share one compiled program."""

    rows: Rows = eqx.field(static=True)
    equalities: int = eqx.field(static=True)
    relaxation: float = eqx.field(static=True)
    on_failure: OnFailure = eqx.field(static=True)

    def method(self, sparse: AbstractKKTSolver | None) -> ConicMethod:
        """The interior-point method with its KKT solver, which is ``sparse`` unless the program is dense."""
        return ConicMethod(self._solver(sparse, tries=0))

    def _solver(self, sparse: AbstractKKTSolver | None, tries: int) -> AbstractKKTSolver:
        if sparse is not None:
            return sparse
        layout = self.rows.layout
        polyhedral = layout == Layout(nonnegative=layout.nonnegative)
        return SchurCholesky(self.equalities, tries=tries, invert=polyhedral)

    def arranged(self, data: ConicData) -> ConicData:
        """The program with its cone rows in the order of the solver."""
        if data.G is None or data.h is None:
            return data
        return dataclasses.replace(data, G=self.rows.arrange_matrix(data.G), h=self.rows.arrange(data.h))

    def restored(self, solution: ConicSolution) -> ConicSolution:
        """The solution with its cone rows in the user's order."""
        return eqx.tree_at(
            lambda s: (s.z, s.s), solution, (self.rows.restore(solution.z), self.rows.restore(solution.s))
        )

    def kkt_patterns(self, data: ConicData) -> tuple[Pattern, Pattern]:
        """Where the KKT matrix of a sparse program has entries: the lower triangle of H, and J."""

        def operator(data: ConicData):
            program = presolve(self.arranged(data), self.rows.layout).program
            return kkt_operator(program, unit_scaling(program.cones))

        found = jax.eval_shape(operator, data)
        return found.hessian.pattern, found.jacobian.pattern

    def __call__(
        self, data: ConicData, warm: WarmPoint | None, controls: Controls, sparse: AbstractKKTSolver | None = None
    ) -> ConicSolution:
        """``sparse``: the KKT solver of a sparse program, by `sparse_solver`."""
        layout: Layout = self.rows.layout

        n = data.c.shape[0]
        rows = n + self.equalities + (0 if data.h is None else data.h.shape[0])
        lane_bytes = 3 * n * rows * data.c.dtype.itemsize

        def run(inputs: Inputs, rest: Any) -> ConicSolution:
            def solve(inputs: Inputs, warm: WarmPoint | None, controls: Controls) -> ConicSolution:
                return run_conic(self.method(inputs.sparse), inputs.data, layout, warm, controls)

            return in_cache(solve, lane_bytes)(inputs, *rest)

        def tangent(inputs: Inputs, rates: Inputs, solution: ConicSolution) -> tuple:
            solver = self._solver(inputs.sparse, tries=5)
            return conic.tangent(inputs.data, rates.data, solution, layout, solver, self.relaxation, lane_bytes)

        if warm is not None:
            warm = eqx.tree_at(lambda w: w.z, warm, self.rows.arrange(warm.z))
        data = self.arranged(data)
        solution = differentiable_solve(
            run, Inputs(data, sparse), (warm, controls), conic.solved, conic.outputs, tangent, self.on_failure
        )
        return self.restored(solution)


def sparse_solver(program: ConicSolve, data: ConicData) -> AbstractKKTSolver | None:
    """The KKT solver of a sparse program, its tables in NumPy; None for a dense one."""
    if not any(isinstance(given, SparseMatrix) for given in (data.P, data.A, data.G)):
        return None
    return _solver_of(program, jax.tree.structure(data), tuple(np.shape(leaf) for leaf in jax.tree.leaves(data)))


@functools.lru_cache(maxsize=64)
def _solver_of(program: ConicSolve, structure: Any, shapes: tuple) -> AbstractKKTSolver:
    data = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes])
    return quasi_definite_solver(*program.kkt_patterns(data))


@program_cache(maxsize=512)
def compiled(program: ConicSolve, top_level: bool):
    """The compiled solve of a static program."""
    return jax.jit(program.__call__, compiler_options=compiler_options() if top_level else None)


def solve_conic(
    P: Any = None,
    c: Any = None,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    lb: Any = None,
    ub: Any = None,
    *,
    cones: Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: Any = None,
    relaxation: float = 0.0,
    on_failure: OnFailure = "zero",
) -> ConicSolution:
    """Solve ``min 1/2 x'Px + c'x  s.t.  Ax = b,  h - Gx in K,  lb <= x <= ub``: a JAX function of all its data.

    Works under `jit`, `vmap`, `grad`, `jvp`, `jacfwd`, `jacrev`, `hessian` with respect to any of ``P, c, A, b, G, h, lb, ub``;
    no host callback in its jaxpr. An infeasible or unbounded lane ends with its own status and a certificate, and touches no
    other.

    **Arguments:**

    - `P`: positive semidefinite ``(n, n)``, taken as its symmetric part; none for a linear objective. Not checked.
    - `c`: ``(n,)``. Its dtype and that of the others decide the dtype of the solve.
    - `A`, `b`: equality rows. `G`, `h`: cone rows, ``G x <= h`` where `cones` is None.
    - `lb`, `ub`: bounds, ``(n,)`` or a scalar; magnitudes from 1e20 on mean none. Equal bounds fix a variable.
    - `cones`: the cones that ``h - Gx`` is split by, in row order, as in `pounce.solve_socp`.
    - `tol`: 1e-8 by default (1e-4 in float32). `max_iter`: 200 by default.
    - `warm_start`: a former `ConicSolution` of a similar program. It changes the iterations, never the status for the worse.
    - `relaxation`: 0 differentiates the solution; a positive value differentiates the point of the central path at that barrier
      parameter, which is finite where strict complementarity fails.
    - `on_failure`: derivative of a lane that was not solved: ``"zero"``, ``"nan"``, ``"raise"`` or ``"warn"``.

    **Returns:** a `ConicSolution`, whose docstring has the sign conventions.

    **Raises:** `ValueError` naming the argument, before anything is compiled.
    """
    if on_failure not in ("zero", "nan", "raise", "warn"):
        raise ValueError(f"`on_failure` must be 'zero', 'nan', 'raise' or 'warn', got {on_failure!r}")
    if not isinstance(relaxation, (int, float)) or not 0 <= relaxation < float("inf"):
        raise ValueError(f"`relaxation` must be a finite number >= 0, got {relaxation!r}")
    data = convex_data(P, c, A, b, G, h, lb, ub)
    m = 0 if data.G is None else data.G.shape[0]
    p = 0 if data.A is None else data.A.shape[0]
    rows = orthant(m) if cones is None else parse(cones, m)
    dtype = data.c.dtype
    controls = Controls.of(tolerance(tol, dtype), iteration_limit(max_iter), dtype)
    warm = None if warm_start is None else warm_point(warm_start, data)
    program = ConicSolve(rows, p, float(relaxation), on_failure)
    return compiled(program, check.is_concrete((data, warm)))(data, warm, controls, sparse_solver(program, data))


def warm_point(warm_start: Any, data: ConicData) -> WarmPoint:
    """A former solution (an object or mapping with any of ``x, y, z, z_lb, z_ub``); what is missing or misfits is zero."""
    n, dtype = data.c.shape[0], data.c.dtype
    sizes = {"x": n, "y": 0 if data.b is None else data.b.shape[0], "z": 0 if data.h is None else data.h.shape[0]}
    sizes.update(z_lb=n, z_ub=n)

    def part(name: str) -> Any:
        value = warm_start.get(name) if hasattr(warm_start, "get") else getattr(warm_start, name, None)
        if value is None or np.shape(value) != (sizes[name],):
            return np.zeros(sizes[name], dtype)
        array = value if isinstance(value, jax.Array) else np.asarray(value)
        return jax.lax.stop_gradient(array.astype(dtype))

    return WarmPoint(*(part(name) for name in ("x", "y", "z", "z_lb", "z_ub")))
