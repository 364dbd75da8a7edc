"""The compiled pieces of a convex solve for the host: all in one go, or some iterations at a time."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._compile import program_cache
from .._conic.data import ConicData
from .._conic.program import Facts
from .._conic.solution import ConicResiduals, ConicSolution, finish
from .._conic.state import State
from .._conic_solve import Controls, Run, WarmPoint, advance, begin
from .._executables import Executable, known
from .._linalg.entries import TabledMatrix
from .._packing import Packing
from .._waiting import Wait
from ..conic import ConicSolve
from .data import Tables


class Form(NamedTuple):
    """What of a program's numbers is compiled in: their shapes, and which of them differ between lanes.

    The index tables of a sparse program are numbers too.
    """

    structure: Any  # of the `Inputs`
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[int | None, ...] | None  # None: not a batch
    lanes: int
    tables: Any = None  # shapes, dtypes and structure of the `Tables` of a sparse program


class Held(NamedTuple):
    """The part of a solve under way that does not change: that of `pounce._conic_solve.Run`."""

    presolved: Any
    scaled: Any
    scaling: Any
    warm: Any


class Glance(NamedTuple):
    """What there is to see of an iterate, in user units; an array of float64."""

    status: Any
    iteration: Any
    objective: Any
    primal_infeasibility: Any
    dual_infeasibility: Any
    mu: Any
    alpha: Any


def _glance(held: Held, state: State) -> jax.Array:
    m, tau, cost = state.measures, state.iterate.tau, held.scaling.cost
    mu = state.residuals.mu / tau**2 / cost
    shown = Glance(
        state.status,
        state.iterations,
        m.primal_objective,
        m.primal_infeasibility,
        m.dual_infeasibility,
        mu,
        state.alpha,
    )
    return jnp.stack([jnp.asarray(value, jnp.float64) for value in shown])


class Kernel:
    """The pieces of a program of one form. Each is compiled when it is first asked for, and only then."""

    def __init__(self, program: ConicSolve, form: Form):
        self._program, self._form = program, form
        lane = () if form.axes is None else (form.lanes,)
        data, *_ = jax.tree.unflatten(form.structure, [self._lane_shape(k) for k in range(len(form.shapes))])
        n, p, m = self.sizes = data.sizes

        def like(*shape: int, dtype: Any = np.float64) -> Any:
            return jax.ShapeDtypeStruct((*lane, *shape), dtype)

        count = like(dtype=np.int32)
        self.solution = Packing(
            ConicSolution(
                like(n), like(p), like(m), like(m), like(n), like(n), like(), count, count,
                ConicResiduals(like(), like(), like(), like()),
            )
        )  # fmt: skip

    @property
    def _tables(self) -> Any:
        if self._form.tables is None:
            return None
        leaves, structure = self._form.tables
        return jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    def _lane_shape(self, leaf: int) -> jax.ShapeDtypeStruct:
        shape, axes = self._form.shapes[leaf], self._form.axes
        return jax.ShapeDtypeStruct(shape if axes is None or axes[leaf] is None else shape[1:], np.float64)

    def _inputs(self, leaves: list[Any], tables: Tables | None) -> tuple[ConicData, WarmPoint | None, Facts | None]:
        data, warm, facts = jax.tree.unflatten(self._form.structure, leaves)
        facts = None if facts is None else Facts(facts.variables, facts.linear != 0)
        if tables is not None and tables.patterns is not None:
            P, A, G = (TabledMatrix(*pair) for pair in zip((data.P, data.A, data.G), tables.patterns, strict=True))
            data = data._replace(P=P, A=A, G=G)
        return ConicData(*data), None if warm is None else WarmPoint(*warm), facts

    def _over_lanes(self, function, *axes):
        """``function``, whose first argument is the leaves, for every lane; ``axes`` of its other arguments."""
        if self._form.axes is None:
            return function
        return jax.vmap(function, in_axes=(list(self._form.axes), *axes))

    def _compiled(self, piece: str, function, *like) -> Executable:
        leaves = [jax.ShapeDtypeStruct(shape, np.float64) for shape in self._form.shapes]
        n, p, m = self.sizes
        with Wait(n, p + m).during():
            identity = "convex", piece, self._program, self._form
            return Executable(function, (leaves, *like), *identity, heavy=self._form.axes is not None)

    @functools.cached_property
    def whole(self) -> Executable:
        """``(leaves, controls, tables)`` to the vectors of the solution."""

        def solve(leaves, controls, tables):
            data, warm, facts = self._inputs(leaves, tables)
            return self._program.solved(data, warm, controls, tables and tables.solver, facts)

        def packed(*inputs):
            return self.solution.pack(self._over_lanes(solve, None, None)(*inputs))

        return self._compiled("whole", packed, CONTROLS, self._tables)

    def _arranged(self, leaves, tables):
        data, warm, facts = self._inputs(leaves, tables)
        if warm is not None:
            warm = eqx.tree_at(lambda w: w.z, warm, self._program.rows.arrange(warm.z))
        return self._program.arranged(data), warm, facts

    def _begin(self, leaves, tables):
        data, warm, facts = self._arranged(leaves, tables)
        run = begin(data, self._program.rows.layout, warm, facts=facts)
        return Held(run.presolved, run.scaled, run.scaling, run.warm), run.state

    def _begun(self):
        """The shapes of what is held and of a state."""
        leaves = [jax.ShapeDtypeStruct(shape, np.float64) for shape in self._form.shapes]
        with jax.enable_x64(True):
            return jax.eval_shape(self._over_lanes(self._begin, None), leaves, self._tables)

    @functools.cached_property
    def pieces(self) -> tuple[Executable, Executable]:
        """Two functions.

        ``begin(leaves, tables)`` gives what is held, and the state before it has a starting point, each as its leaves.
        ``proceed(leaves, held, state, controls, until, tables)`` gives a later state, a `Glance` at it, and the vectors of the
        solution as it is then.
        """

        def begin_packed(leaves, tables):
            held, state = self._over_lanes(self._begin, None)(leaves, tables)
            return tuple(jax.tree.leaves(held)), tuple(jax.tree.leaves(state))

        def proceed_piece(leaves, held, state, controls, until, tables):
            run = Run(held.presolved, held.scaled, held.scaling, state, held.warm)
            state = advance(self._program.method(tables and tables.solver), run, controls, until)[0]
            solution = finish(self._arranged(leaves, tables)[0], held.presolved, held.scaling, state)
            return state, _glance(held, state), self._program.restored(solution)

        def proceed_packed(leaves, held, state, *inputs):
            held, state = map(jax.tree.unflatten, map(jax.tree.structure, self._begun()), (held, state))
            piece = self._over_lanes(proceed_piece, 0, 0, None, None, None)
            state, glance, solution = piece(leaves, held, state, *inputs)
            return tuple(jax.tree.leaves(state)), glance, self.solution.pack(solution)

        first = self._compiled("begin", begin_packed, self._tables)
        shapes = known(lambda: tuple(map(jax.tree.leaves, self._begun())), "convex", self._program, self._form)
        until = jax.ShapeDtypeStruct((), np.int32)
        return first, self._compiled("proceed", proceed_packed, *shapes, CONTROLS, until, self._tables)


CONTROLS = Controls(jax.ShapeDtypeStruct((), np.float64), jax.ShapeDtypeStruct((), np.int32))  # pyright: ignore


@program_cache(maxsize=512)
def kernel_for(program: ConicSolve, form: Form) -> Kernel:
    """The one kernel of a program and a form."""
    return Kernel(program, form)
