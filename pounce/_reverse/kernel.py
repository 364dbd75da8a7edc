"""The compiled pieces of a method for one shape."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from .._compile import forgettable, make_room
from .._executables import Executable, known
from .._interior.finish import finish
from .._interior.history import shown_row
from .._interior.options import Choices, Numbers
from .._interior.reporting import answering
from .._interior.solver import InteriorPointMethod
from .._interior.start import Bounds, WarmStart
from .._interior.state import Phase
from .._interior.trial import candidate, judge_trial
from .._interior.trial_records import Result
from .._linalg.choice import sparse_solver
from .._linalg.hints import FirstSeen, PivotHints
from .._linalg.sparse import SparseMatrix
from .._linalg.woodbury import Woodbury
from .._packing import Handover, Packing, looked_at
from .._problem.host import HostStructure
from .._problem.nlp import Derivatives
from .._waiting import compiling, once_made
from .setting import Setting, blank_setting, padded_shape


class Values(NamedTuple):
    objective: jax.Array
    rows: jax.Array


class Question(NamedTuple):
    """What the method wants to know next: functions at a trial point, or derivatives, or (not running) nothing.

    ``flags``: trying, status, phase, weight of the objective in the Hessian; ``rows``: weights of the rows in it.
    """

    flags: jax.Array
    x: jax.Array
    rows: jax.Array


class Glance(NamedTuple):
    """What `look` saw: whether a trial follows and where, and the row of the iteration table.

    ``flags``: trying, shown, iteration, phase.
    """

    flags: jax.Array
    x: jax.Array
    row: jax.Array


class Shapes(NamedTuple):
    """What the pieces hand to each other: pytrees of shapes."""

    state: Any
    question: Any
    found: Any  # the vectors that `conclude` is handed
    trial: Any
    glance: Any
    solution: Any


class Traced(NamedTuple):
    """The two halves of a pass as jaxprs, and what of the first one's results the second one is handed."""

    look: ClosedJaxpr
    conclude: ClosedJaxpr
    found: Any  # the structure of what is found
    handover: Handover
    shapes: Shapes


class Kernel:
    """The compiled pieces of a method for one shape, or one sparse structure. Each takes and gives vectors; those that solve
    linear systems take the linear solver's tables as well. They are loaded or compiled when they are first called."""

    def __init__(self, method: InteriorPointMethod, setting: Setting, structure: HostStructure | None):
        self.n, self.m = setting.x0.shape[0], setting.cl.shape[0]
        self.exact = method.choices.hessian_approximation == "exact"
        self._tables, self._method = eqx.partition(method, lambda leaf: isinstance(leaf, (np.ndarray, jax.Array)))
        self._table_leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(self._tables)]
        n, m = self.n, self.m
        number: Any = jax.ShapeDtypeStruct((), np.float64)
        vectors: list[Any] = [jax.ShapeDtypeStruct(shape, np.float64) for shape in ((m,), (n,), (m, n), (n, n))]
        if structure is not None:
            vectors[2:] = [
                SparseMatrix(jax.ShapeDtypeStruct((pattern.nnz,), np.float64), pattern)  # pyright: ignore
                for pattern in structure
            ]
        self.values = Packing(Values(number, vectors[0]))
        self.derivatives = Packing(
            Derivatives(number, vectors[0], vectors[1], vectors[2], vectors[3] if self.exact else None)
        )
        self.setting = Packing(setting)
        tables = [(leaf.shape, leaf.dtype.name) for leaf in self._table_leaves]
        self._identity = (
            "nonlinear",
            self._method,
            jax.tree.structure(self._tables),
            tables,
            self.setting.like(),
            structure,
        )
        self._shapes = known(self._find_shapes, *self._identity)
        self.state, self.question, _, self.trial, self.glance, self.solution = map(Packing, self._shapes)
        given, found, table_leaves = (
            (self.setting, self.state, self.derivatives),
            self._shapes.found,
            self._table_leaves,
        )
        self.begin = self._piece(self._run_begin, self.setting)
        self.scale = self._piece(self._run_scale, *given)
        look = self._piece(self._run_look, table_leaves, *given)
        conclude = self._piece(self._run_conclude, table_leaves, *given, found, self.trial, self.values)
        judged = self._piece(self._run_judged, table_leaves, *given, found)
        self.look, self.conclude, self.judged = (
            functools.partial(piece, table_leaves) for piece in (look, conclude, judged)
        )
        self.stop = self._piece(self._run_stop, self.setting, self.state, jax.ShapeDtypeStruct((), np.int64))
        self.finish = self._piece(self._run_finish, self.setting, self.state)

    def _piece(self, function: Callable, *given: Any) -> Callable:
        """``function`` of the vectors of packings, and of arrays like these."""
        like = tuple(each.vectors_like() if isinstance(each, Packing) else each for each in given)
        return once_made(lambda: Executable(function, like, function.__name__, *self._identity))

    @functools.cached_property
    def _traced(self) -> Traced:
        given = self.setting.like()
        state, question = jax.eval_shape(self._begin, given)
        inputs = (given, state, self.derivatives.like(), self._table_leaves)
        look, (found, trial, glance) = jax.make_jaxpr(self._look, return_shape=True)(*inputs)
        conclude = jax.make_jaxpr(self._conclude)(given, found, trial, self.values.like())
        leaves, structure = jax.tree.flatten(found)
        skipped, count = len(jax.tree.leaves(given)), len(leaves)
        judged = jax.tree.leaves(
            eqx.tree_at(lambda f: f.judged, jax.tree.map(lambda _: False, found), replace_fn=_true)
        )
        used = looked_at(conclude)[skipped : skipped + count]
        handover = Handover(look, count, [a or b for a, b in zip(used, judged)])
        solution = jax.eval_shape(self._finish, given, state)
        shapes = Shapes(state, question, handover.vectors_like(), trial, glance, solution)
        return Traced(look, conclude, structure, handover, shapes)

    def _find_shapes(self) -> Shapes:
        with jax.enable_x64(True):
            return self._traced.shapes

    def _run_begin(self, setting):
        state, question = self._begin(self.setting.unpack(setting))
        return self.state.pack(state), self.question.pack(question)

    def _run_scale(self, *vectors):
        setting, state, derivatives = (p.unpack(v) for p, v in zip(self._given, vectors))
        state, question = self._scale(setting, state, derivatives)
        return self.state.pack(state), self.question.pack(question)

    @property
    def _given(self) -> tuple[Packing, ...]:
        """What a pass is given."""
        return self.setting, self.state, self.derivatives

    def _inputs(self, tables, *vectors) -> list:
        leaves = [leaf for packing, vector in zip(self._given, vectors) for leaf in packing.leaves(vector)]
        return leaves + tables

    def _run_look(self, tables, setting, state, derivatives):
        traced = self._traced
        results = jaxpr_as_fun(traced.look)(*self._inputs(tables, setting, state, derivatives))
        rest = results[traced.found.num_leaves :]
        size = len(rest) - self.glance.count
        return traced.handover.pack(results), self.trial.pack(rest[:size]), self.glance.pack(rest[size:])

    def _run_conclude(self, tables, setting, state, derivatives, found, trial, values):
        inputs = self._inputs(tables, setting, state, derivatives)
        found = self._traced.handover.unpack(found, inputs)
        rest = [packing.leaves(v) for packing, v in ((self.trial, trial), (self.values, values))]
        results = jaxpr_as_fun(self._traced.conclude)(*inputs[: self.setting.count], *found, *rest[0], *rest[1])
        k, j = self.trial.count, self.trial.count + self.state.count
        return self.trial.pack(results[:k]), self.state.pack(results[k:j]), self.question.pack(results[j:])

    def _run_judged(self, tables, setting, state, derivatives, found):
        leaves = self._traced.handover.unpack(found, self._inputs(tables, setting, state, derivatives))
        return self.state.pack(jax.tree.unflatten(self._traced.found, leaves).judged)

    def _run_stop(self, setting, state, status):
        state, question = self._stop(self.setting.unpack(setting), self.state.unpack(state), status)
        return self.state.pack(state), self.question.pack(question)

    def _run_finish(self, setting, state):
        return self.solution.pack(self._finish(self.setting.unpack(setting), self.state.unpack(state)))

    def _bounds(self, setting: Setting) -> Bounds:
        return Bounds(setting.lb, setting.ub, setting.cl, setting.cu)

    def _numbers(self, setting: Setting) -> Numbers:
        return Numbers.join(jnp.asarray(setting.traced_numbers), self._method.constants)

    def _ask(self, state, trying, point) -> Question:
        x, y, weight = self._method.asked(state)
        y, weight = state.frame.scaling.unscaled_weights(y, weight)
        x = jnp.where(trying, point, x)
        return Question(_flags(trying, state.status, state.phase, weight), x, y)

    def _begin(self, setting: Setting):
        scaling = None if setting.objective_scale is None else (setting.objective_scale, setting.row_scale)
        state = self._method.init(setting.x0, self._bounds(setting), scaling, self._numbers(setting))
        return state, self._ask(state, jnp.array(False), setting.x0)

    def _scale(self, setting: Setting, state, derivatives: Derivatives):
        scaled = state.frame.scaling.derivatives(derivatives)
        state = self._method.scale(scaled, state, self._numbers(setting))
        return state, self._ask(state, jnp.array(False), setting.x0)

    def _look(self, setting: Setting, state, derivatives: Derivatives, tables: list):
        scaled, warm = state.frame.scaling.derivatives(derivatives), None
        if setting.warm_rows is not None:
            warm = WarmStart(setting.warm_rows, setting.warm_lower, setting.warm_upper).seeds()
        method = eqx.combine(jax.tree.unflatten(jax.tree.structure(self._tables), tables), self._method)
        found, trial = method.look(scaled, warm, state, self._numbers(setting))
        judged, search = found.judged, found.search
        objective = judged.objective / judged.frame.objective_scale
        row = shown_row(objective, judged.report, judged.row, judged.phase == Phase.RESTORING)
        x = candidate(search, trial)[: self.n]
        trying = trial.result == Result.SEARCHING
        flags = _flags(trying, found.events.shown, judged.iteration, judged.phase)
        return found, trial, Glance(flags, x, _flags(*jax.tree.leaves(row)))

    def _conclude(self, setting: Setting, found, trial, values: Values):
        numbers, choices, search = self._numbers(setting), self._method.choices, found.search
        f, rows = found.judged.frame.scaling.values(values.objective, values.rows)

        def judge(carry):
            return judge_trial(search, carry[0], f, rows, numbers, choices), jnp.array(False)

        # At most one trip: a conditional, and a wall that keeps XLA from computing the verdict anew in every kernel after it.
        trial, _ = jax.lax.while_loop(lambda carry: carry[1], judge, (trial, trial.result == Result.SEARCHING))
        state = self._method.conclude(found, trial, numbers)
        trying = trial.result == Result.SEARCHING
        return trial, state, self._ask(state, trying, candidate(search, trial)[: self.n])

    def _stop(self, setting: Setting, state, status):
        stopped = eqx.tree_at(lambda s: s.status, state, status.astype(state.status.dtype))
        numbers = self._numbers(setting)
        state = answering(stopped, jnp.array(False), numbers, self._method.choices)
        return state, self._ask(state, jnp.array(False), state.beginning.x)

    def _finish(self, setting: Setting, state):
        return finish(state, self._bounds(setting), self._method.choices)


def _flags(*values) -> jax.Array:
    return jnp.stack([jnp.asarray(value, jnp.float64) for value in values])


def _true(node):
    return jax.tree.map(lambda _: True, node)


class Kernels:
    """The kernels of a method, made once for each shape; those of a sparse one for programs of one structure."""

    def __init__(self, method: InteriorPointMethod, structure: HostStructure | None = None):
        self.method, self._structure = method, structure
        self._made: dict[tuple, Kernel] = {}
        forgettable(self)

    def cache_clear(self) -> None:
        self._made.clear()

    def fitting(self, setting: Setting) -> Kernel:
        """The kernel that a setting is rounded up to."""
        n, m = setting.x0.shape[0], setting.cl.shape[0]
        if self._structure is None:
            n, m = padded_shape(setting, self.method.choices)
        key = (n, m, setting.warm_rows is None, setting.objective_scale is None)
        kernel = self._made.get(key)
        if kernel is None:
            make_room()
            with jax.enable_x64(True), compiling():
                kernel = self._made.setdefault(key, Kernel(self.method, blank_setting(setting, n, m), self._structure))
        return kernel


@functools.lru_cache(maxsize=128)
def kernels_for(method: InteriorPointMethod) -> Kernels:
    """The kernels of a method, shared by all who use an equal one."""
    return Kernels(method)


def sparse_kernels_for(
    solver: str,
    choices: Choices,
    constants: tuple[float, ...],
    structure: HostStructure,
    hints: Callable[[], PivotHints],
) -> Kernels:
    """The kernels for programs of one sparse structure, with the sparse linear solver of that name. Those that come first say
    by ``hints`` how its pivots are chosen."""

    def make() -> Kernels:
        linear_solver = sparse_solver(solver, structure.hessian, structure.jacobian, hints())
        if choices.hessian_approximation != "exact":
            linear_solver = Woodbury(linear_solver)
        method = InteriorPointMethod(linear_solver, choices, constants, sparse=structure.jacobian, certify=False)
        return Kernels(method, structure)

    return _sparse_kernels.get((solver, choices, constants, structure), make)


_sparse_kernels: FirstSeen[Kernels] = FirstSeen(32)
