"""The native door of convex programs: one function that returns everything, as a JAX function."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from . import _check as check
from ._adjoint import conic
from ._adjoint.rule import OnFailure, differentiable_solve
from ._compile import compiler_options, program_cache
from ._cone.layout import Layout
from ._cone_spec import Rows, orthant, parse
from ._conic.data import ConicData, presolve
from ._conic.equilibration import Scaling
from ._conic.judgement import Held
from ._conic.program import Facts
from ._conic.solution import ConicSolution
from ._conic.solver import ConicMethod
from ._conic.system import kkt_operator, unit_scaling
from ._conic_solve import Controls, WarmPoint, solve_and_hold, solve_conic as run_conic
from ._convex_arguments import closed_cones, convex_data, iteration_limit, tolerance
from ._lanes import in_cache
from ._linalg.choice import quasi_definite_solver
from ._linalg.kkt import AbstractKKTSolver
from ._linalg.schur import SchurCholesky
from ._linalg.sparse import Pattern, SparseMatrix
from ._meshes import place_of, placed


__all__ = ["solve_conic"]


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
    quality: bool = eqx.field(static=True, default=True)  # whether a solution has one

    def method(self, sparse: AbstractKKTSolver | None) -> ConicMethod:
        """The interior-point method with its KKT solver, which is ``sparse`` unless the program is dense."""
        return ConicMethod(self._solver(sparse))

    def _solver(self, sparse: AbstractKKTSolver | None) -> AbstractKKTSolver:
        if sparse is not None:
            return sparse
        layout = self.rows.layout
        polyhedral = layout == Layout(nonnegative=layout.nonnegative)
        return SchurCholesky(self.equalities, invert=polyhedral)

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

    def solved(
        self,
        data: ConicData,
        warm: WarmPoint | None,
        controls: Controls,
        sparse: AbstractKKTSolver | None = None,
        facts: Facts | None = None,
    ) -> ConicSolution:
        """The solution without its quality and without derivatives. ``sparse``: the KKT solver of a sparse program. ``facts``: of
        a program that was rounded up to a larger one."""

        def solve(sparse: Any, data: ConicData, warm: Any, controls: Controls, facts: Any) -> ConicSolution:
            return run_conic(self.method(sparse), data, self.rows.layout, warm, controls, facts)

        run = in_cache(solve, self._lane_bytes(data))
        return self.restored(run(sparse, self.arranged(data), self._arranged_warm(warm), controls, facts))

    def __call__(
        self, data: ConicData, warm: WarmPoint | None, controls: Controls, sparse: AbstractKKTSolver | None = None
    ) -> ConicSolution:
        """``sparse``: the KKT solver of a sparse program, by `sparse_solver`."""
        layout, lane_bytes = self.rows.layout, self._lane_bytes(data)

        def solve(inputs: Inputs, warm: WarmPoint | None, controls: Controls) -> tuple[ConicSolution, Held, Scaling]:
            return solve_and_hold(self.method(inputs.sparse), inputs.data, layout, warm, controls, self.relaxation)

        def plain(inputs: Inputs, warm: WarmPoint | None, controls: Controls) -> ConicSolution:
            if self.quality:
                return solve(inputs, warm, controls)[0]
            return run_conic(self.method(inputs.sparse), inputs.data, layout, warm, controls)

        def run_and_keep(inputs: Inputs, rest: Any) -> tuple[ConicSolution, tuple[Held, Scaling]]:
            solution, *kept = in_cache(solve, lane_bytes)(inputs, *rest)
            if not self.quality:
                solution = dataclasses.replace(solution, quality=None)
            return solution, tuple(kept)

        def run(inputs: Inputs, rest: Any) -> ConicSolution:
            return in_cache(plain, lane_bytes)(inputs, *rest)

        def tangent(inputs: Inputs, rates: Inputs, solution: ConicSolution, held: Held, scaling: Scaling) -> tuple:
            solver = self._solver(inputs.sparse)
            return conic.tangent(inputs.data, rates.data, solution, held, scaling, layout, solver, lane_bytes)

        rest = self._arranged_warm(warm), controls
        solution = differentiable_solve(
            run,
            Inputs(self.arranged(data), sparse),
            rest,
            conic.solved,
            conic.outputs,
            tangent,
            self.on_failure,
            run_and_keep,
        )
        return self.restored(solution)

    def _arranged_warm(self, warm: WarmPoint | None) -> WarmPoint | None:
        return None if warm is None else eqx.tree_at(lambda w: w.z, warm, self.rows.arrange(warm.z))

    def _lane_bytes(self, data: ConicData) -> int:
        n = data.c.shape[0]
        rows = n + self.equalities + (0 if data.h is None else data.h.shape[0])
        return 3 * n * rows * data.c.dtype.itemsize


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
def compiled(program: ConicSolve, top_level: bool, place: NamedSharding | None):
    """The compiled solve of a static program."""
    return jax.jit(placed(program.__call__, place), compiler_options=compiler_options() if top_level else None)


def solve_conic(
    P: Float[Array, "n n"] | Any = None,
    c: Float[Array, " n"] | Any = None,
    A: Float[Array, "p n"] | Any = None,
    b: Float[Array, " p"] | Any = None,
    G: Float[Array, "m n"] | Any = None,
    h: Float[Array, " m"] | Any = None,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
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

    - `P`: ``(n, n)``, symmetric, or zero above the diagonal and then mirrored; of another one a traced call takes the symmetric
      part. None for a linear objective. That it is positive semidefinite is not checked.
    - `c`: ``(n,)``. Its dtype and that of the others decide the dtype of the solve.
    - `A`, `b`: equality rows. `G`, `h`: cone rows, ``G x <= h`` where `cones` is None. An inequality whose entry of ``h`` is
      infinite (1e20 or more) is absent.
    - `lb`, `ub`: bounds, ``(n,)`` or a scalar; magnitudes from 1e20 on mean none. Equal bounds fix a variable.
    - `cones`: the cones that ``h - Gx`` is split by, in row order, as in `pounce.solve_socp`.
    - `tol`: 1e-8 by default (1e-4 in float32). `max_iter`: 200 by default.
    - `warm_start`: a former `ConicSolution` of a similar program. It changes the iterations, never the status for the worse.
    - `relaxation`: 0 differentiates the solution; a positive value ``mu`` the point of the central path whose duality gap is
      ``mu`` times the sum of the magnitudes of all terms of both objectives at the solution (a pure number, whatever the units).
      That derivative is finite where strict complementarity fails, and not zero where the solution is a vertex.
    - `on_failure`: derivative of a lane that was not solved: ``"zero"``, ``"nan"``, ``"raise"`` or ``"warn"``.

    **Returns:** a `ConicSolution`, whose docstring has the sign conventions.

    **Raises:** `ValueError` naming the argument, before anything is compiled.
    """
    how: dict[str, Any] = dict(
        tol=tol, max_iter=max_iter, warm_start=warm_start, relaxation=relaxation, on_failure=on_failure
    )
    return solution_of(P, c, A, b, G, h, lb, ub, cones=cones, quality=True, **how)


def solution_of(
    P: Float[Array, "n n"] | Any,
    c: Float[Array, " n"] | Any,
    A: Float[Array, "p n"] | Any,
    b: Float[Array, " p"] | Any,
    G: Float[Array, "m n"] | Any,
    h: Float[Array, " m"] | Any,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    *,
    quality: bool,
    cones: Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: Any = None,
    relaxation: float = 0.0,
    on_failure: OnFailure = "zero",
) -> ConicSolution:
    """`solve_conic`, without a ``quality`` if that is not wanted: it costs a factorisation unless derivatives are taken."""
    if on_failure not in ("zero", "nan", "raise", "warn"):
        raise ValueError(f"`on_failure` must be 'zero', 'nan', 'raise' or 'warn', got {on_failure!r}")
    if not isinstance(relaxation, (int, float)) or not 0 <= relaxation < float("inf"):
        raise ValueError(f"`relaxation` must be a finite number >= 0, got {relaxation!r}")
    data = convex_data(P, c, A, b, G, h, lb, ub)
    m = 0 if data.G is None else data.G.shape[0]
    p = 0 if data.A is None else data.A.shape[0]
    rows = orthant(m) if cones is None else parse(cones, m)
    closed_cones(data.h, rows.inequalities)
    dtype = data.c.dtype
    controls = Controls.of(tolerance(tol, dtype), iteration_limit(max_iter), dtype)
    warm = None if warm_start is None else warm_point(warm_start, data)
    program = ConicSolve(rows, p, float(relaxation), on_failure, quality)
    call = compiled(program, check.at_top_level((data, warm)), place_of((data, warm)))
    return call(data, warm, controls, sparse_solver(program, data))


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
