"""The native door of convex programs: one function that returns everything, as a JAX function."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from . import _check as check
from ._adjoint import conic
from ._adjoint.eager import eager_solve, pushed, run_by_itself
from ._adjoint.rule import OnFailure, differentiable_solve, guarded, heeded, sanitized
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
        return self._turned(solution, self.rows.restore)

    def _turned(self, solution: ConicSolution, turn: Callable) -> ConicSolution:
        return eqx.tree_at(lambda s: (s.z, s.s), solution, (turn(solution.z), turn(solution.s)))

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
        lane_bytes = self._lane_bytes(data)

        def plain(inputs: Inputs, warm: WarmPoint | None, controls: Controls) -> ConicSolution:
            if self.quality:
                return self._held(inputs, warm, controls)[0]
            return run_conic(self.method(inputs.sparse), inputs.data, self.rows.layout, warm, controls)

        def run_and_keep(inputs: Inputs, rest: Any) -> tuple[ConicSolution, tuple[Held, Scaling]]:
            solution, *kept = in_cache(self._held, lane_bytes)(inputs, *rest)
            return self.asked(solution), tuple(kept)

        def run(inputs: Inputs, rest: Any) -> ConicSolution:
            return in_cache(plain, lane_bytes)(inputs, *rest)

        rest = self._arranged_warm(warm), controls
        solution = differentiable_solve(
            run,
            Inputs(self.arranged(data), sparse),
            rest,
            conic.solved,
            conic.outputs,
            self._tangent,
            self.on_failure,
            run_and_keep,
        )
        return self.restored(solution)

    def kept(
        self, data: ConicData, warm: WarmPoint | None, controls: Controls, sparse: AbstractKKTSolver | None = None
    ) -> tuple[ConicSolution, tuple[Held, Scaling]]:
        """The solution without derivatives, and what they share."""
        run, inputs = in_cache(self._held, self._lane_bytes(data)), Inputs(self.arranged(data), sparse)
        solution, *kept = run(inputs, self._arranged_warm(warm), controls)
        return self.asked(self.restored(solution)), tuple(kept)

    def moves(self, moving: tuple, fixed: tuple, solution: ConicSolution, kept: tuple, rates: tuple) -> tuple:
        """Tangents of the outputs of a solution from `kept` for the ``rates`` of its data, which come in two parts."""
        inputs, moves = pushed(lambda given: Inputs(self.arranged(given[0]), given[3]), moving, fixed, rates)
        good, there = conic.solved(solution), self._turned(solution, self.rows.arrange)
        inputs, safe = sanitized(inputs, there, good, conic.outputs)
        tangent = guarded(lambda moves: self._tangent(inputs, moves, safe, *kept), good, self.on_failure)
        return conic.outputs(self.restored(eqx.tree_at(conic.outputs, there, tangent(moves))))

    def _held(self, inputs: Inputs, warm: WarmPoint | None, controls: Controls) -> tuple[ConicSolution, Held, Scaling]:
        method = self.method(inputs.sparse)
        return solve_and_hold(method, inputs.data, self.rows.layout, warm, controls, self.relaxation)

    def asked(self, solution: ConicSolution) -> ConicSolution:
        """The solution, without a quality where none is asked for."""
        return solution if self.quality else dataclasses.replace(solution, quality=None)

    def _tangent(self, inputs: Inputs, rates: Inputs, solution: ConicSolution, held: Held, scaling: Scaling) -> tuple:
        solver, lane_bytes = self._solver(inputs.sparse), self._lane_bytes(inputs.data)
        return conic.tangent(inputs.data, rates.data, solution, held, scaling, self.rows.layout, solver, lane_bytes)

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


def called(program: ConicSolve, *given: Any) -> ConicSolution:
    """The solution of ``program(*given)``, from wherever that is asked for."""
    place = place_of(given[:2])
    if not check.runs_now() or place is not None:
        return compiled(program, check.at_top_level(given[:2]), place)(*given)
    keep, hold, tangent = derivative(program)
    data, warm, *rest = given
    given = data, started_by_data(data, warm), *rest

    def kept(*given: Any) -> tuple[ConicSolution, tuple]:
        solution, shared = keep(*given)
        return program.asked(solution), shared

    if check.is_concrete(given):
        return kept(*given)[0]
    return eager_solve(compiled(program, True, None), kept, hold, tangent, conic.outputs, given)


def started_by_data(data: ConicData, warm: WarmPoint | None) -> WarmPoint:
    """A start for programs that take cold and warm ones."""
    if warm is None:
        warm = warm_point({}, data)
        return dataclasses.replace(warm, given=np.zeros((), bool))  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(warm, given=np.ones((), bool))  # pyright: ignore[reportArgumentType]


@program_cache(maxsize=512)
def derivative(program: ConicSolve) -> tuple:
    """The compiled solve of a static program that keeps what its derivatives share, and these in two parts, for `eager_solve`.

    With a quality, whether that is asked for or not: a solve that keeps what it knows has one.
    """
    if not program.quality:
        return derivative(dataclasses.replace(program, quality=True))

    def hold(given: tuple, solution: ConicSolution, kept: tuple) -> tuple[ConicSolution, tuple]:
        del given
        return heeded(solution, conic.solved(solution), program.on_failure), kept

    moves = jax.jit(program.moves)

    def tangent(moving: tuple, fixed: tuple, solution: ConicSolution, kept: tuple, rates: tuple) -> tuple:
        return moves(moving, fixed, dataclasses.replace(solution, quality=None), kept, rates)

    options = compiler_options()
    held = run_by_itself(hold, options) if program.on_failure == "raise" else hold
    return jax.jit(program.kept, compiler_options=options), held, tangent


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
    return called(program, data, warm, controls, sparse_solver(program, data))


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
