"""Solves whose functions are evaluated by the caller, in Python, between compiled pieces ("reverse communication").

A pass of the interior-point method is cut where it needs the functions: ``begin`` asks for derivatives, ``look`` takes them
and asks for a trial point, ``conclude`` takes the values there and asks for the next trial or the next derivatives, ``finish``
turns the last state into a solution. The pieces know nothing of the functions, so every problem of a shape shares them, and
shapes are rounded up to a few sizes, which costs nothing but zeros: a variable too many is fixed, a row too many has no bounds.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from ._compile import compiler_options
from ._interior.finish import finish
from ._interior.history import shown_row
from ._interior.options import Numbers
from ._interior.search import SEARCHING
from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, WarmStart
from ._interior.state import REGULAR, RESTORING
from ._interior.trial import candidate, judge_trial
from ._packing import Handover, Packing, looked_at
from ._problem.host import AbstractHostFunctions, HostDerivatives
from ._problem.nlp import Derivatives
from ._results import Status
from ._solution import History, Multipliers, Solution


class Setting(eqx.Module):
    """Everything a solve takes but its functions, in float64. Arrays of NumPy outside, traced inside."""

    x0: np.ndarray
    bounds: Bounds
    warm: WarmStart | None
    scaling: tuple | None  # user's (objective, rows) factors
    traced_numbers: np.ndarray


class Values(NamedTuple):
    objective: jax.Array
    rows: jax.Array


class Question(NamedTuple):
    """What the method wants to know next: functions at a trial point, or derivatives, or (not running) nothing.

    ``flags``: trying, status, iteration, phase, weight of the objective in the Hessian; ``rows``: weights of the rows in it.
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


class Kernel:
    """The compiled pieces of a method for one shape. Each takes and gives vectors."""

    def __init__(self, method: InteriorPointMethod, setting: Setting):
        self.n, self.m = setting.x0.shape[0], setting.bounds.cl.shape[0]
        self._method, self.exact = method, method.choices.hessian_approximation == "exact"
        n, m = self.n, self.m
        number = jax.ShapeDtypeStruct((), np.float64)
        vectors = [jax.ShapeDtypeStruct(shape, np.float64) for shape in ((m,), (n,), (m, n), (n, n))]
        self.values = Packing(Values(number, vectors[0]))
        self.derivatives = Packing(Derivatives(number, *vectors[:3], vectors[3] if self.exact else None))
        self.setting = Packing(setting)
        given = self.setting.like()
        begun = jax.eval_shape(self._begin, given)
        self.state, self.question = Packing(begun[0]), Packing(begun[1])
        inputs = (given, self.state.like(), self.derivatives.like())
        look, looked = jax.make_jaxpr(self._look, return_shape=True)(*inputs)
        found, trial, glance = looked
        self.trial, self.glance, self.solution = Packing(trial), Packing(glance), Packing(self._finished(given))
        conclude = jax.make_jaxpr(self._conclude)(given, found, trial, self.values.like())
        self._found_leaves, self._found_structure = jax.tree.flatten(found)
        skipped, count = len(jax.tree.leaves(given)), len(self._found_leaves)
        judged = jax.tree.leaves(
            eqx.tree_at(lambda f: f.judged, jax.tree.map(lambda _: False, found), replace_fn=_true)
        )
        used = looked_at(conclude)[skipped : skipped + count]
        self._handover = Handover(look, count, [a or b for a, b in zip(used, judged)])
        self._look_function, self._conclude_function = jaxpr_as_fun(look), jaxpr_as_fun(conclude)
        compiled = functools.partial(jax.jit, compiler_options=compiler_options())
        self.begin, self.look, self.conclude = (
            compiled(f) for f in (self._run_begin, self._run_look, self._run_conclude)
        )
        self.judged, self.finish = compiled(self._run_judged), compiled(self._run_finish)

    def _run_begin(self, setting):
        state, question = self._begin(self.setting.unpack(setting))
        return self.state.pack(state), self.question.pack(question)

    def _inputs(self, setting, state, derivatives) -> list:
        vectors = (self.setting, setting), (self.state, state), (self.derivatives, derivatives)
        return [leaf for packing, vector in vectors for leaf in packing.leaves(vector)]

    def _run_look(self, setting, state, derivatives):
        results = self._look_function(*self._inputs(setting, state, derivatives))
        rest = results[len(self._found_leaves) :]
        size = len(rest) - self.glance.count
        return self._handover.pack(results), self.trial.pack(rest[:size]), self.glance.pack(rest[size:])

    def _run_conclude(self, setting, state, derivatives, found, trial, values):
        inputs = self._inputs(setting, state, derivatives)
        found = self._handover.unpack(found, inputs)
        rest = [packing.leaves(v) for packing, v in ((self.trial, trial), (self.values, values))]
        results = self._conclude_function(*inputs[: self.setting.count], *found, *rest[0], *rest[1])
        k, j = self.trial.count, self.trial.count + self.state.count
        return self.trial.pack(results[:k]), self.state.pack(results[k:j]), self.question.pack(results[j:])

    def _run_judged(self, setting, state, derivatives, found):
        leaves = self._handover.unpack(found, self._inputs(setting, state, derivatives))
        return self.state.pack(jax.tree.unflatten(self._found_structure, leaves).judged)

    def _run_finish(self, setting, state):
        return self.solution.pack(self._finish(self.setting.unpack(setting), self.state.unpack(state)))

    def _finished(self, setting):
        return jax.eval_shape(self._finish, setting, self.state.like())

    def _numbers(self, setting: Setting) -> Numbers:
        return Numbers.join(jnp.asarray(setting.traced_numbers), self._method.constants)

    def _ask(self, state, trying, point) -> Question:
        x, y, weight = self._method.asked(state)
        y, weight = state.frame.scaling.unscaled_weights(y, weight)
        x = jnp.where(trying, point, x)
        return Question(_flags(trying, state.status, state.iteration, state.phase, weight), x, y)

    def _begin(self, setting: Setting):
        state = self._method.init(setting.x0, setting.bounds, setting.scaling, self._numbers(setting))
        return state, self._ask(state, jnp.array(False), setting.x0)

    def _look(self, setting: Setting, state, derivatives: Derivatives):
        scaled = state.frame.scaling.derivatives(derivatives)
        found, trial = self._method.look(scaled, setting.warm, state, self._numbers(setting))
        judged, search = found.judged, found.search
        objective = judged.objective / judged.frame.objective_scale
        row = shown_row(objective, judged.report, judged.row, judged.phase == RESTORING)
        x = candidate(search, trial)[: self.n]
        trying = trial.result == SEARCHING
        flags = _flags(trying, found.shown, judged.iteration, judged.phase)
        return found, trial, Glance(flags, x, _flags(*jax.tree.leaves(row)))

    def _conclude(self, setting: Setting, found, trial, values: Values):
        numbers, choices, search = self._numbers(setting), self._method.choices, found.search
        f, rows = found.judged.frame.scaling.values(values.objective, values.rows)

        def judge(carry):
            return judge_trial(search, carry[0], f, rows, numbers, choices), jnp.array(False)

        # At most one trip: a conditional, and a wall that keeps XLA from computing the verdict anew in every kernel after it.
        trial, _ = jax.lax.while_loop(lambda carry: carry[1], judge, (trial, trial.result == SEARCHING))
        state = self._method.conclude(found, trial, numbers)
        trying = trial.result == SEARCHING
        return trial, state, self._ask(state, trying, candidate(search, trial)[: self.n])

    def _finish(self, setting: Setting, state):
        return finish(state, setting.bounds, self._numbers(setting), self._method.choices)


def _flags(*values) -> jax.Array:
    return jnp.stack([jnp.asarray(value, jnp.float64) for value in values])


def padded_size(size: int, smallest: int) -> int:
    """The size that a program of ``size`` variables or rows is compiled for."""
    if size == 0 or size > 128:
        return size
    if size <= 32:
        return max(smallest, 1 << (size - 1).bit_length())
    return -(-size // 16) * 16


def _true(node):
    return jax.tree.map(lambda _: True, node)


class Now:
    """The iterate of a solve under way, in user units."""

    def __init__(self, run: "_Run", judged, derivatives: HostDerivatives):
        self._run, self._judged, self.derivatives = run, judged, derivatives

    @functools.cached_property
    def solution(self) -> Solution:
        """As if the solve ended here."""
        return self._run.solution(self._judged)

    @property
    def scaling(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Factors of the objective, the variables and the rows."""
        frame = self._run.kernel.state.unpack_host(self._judged).frame
        variables = np.ones(self._run.n) if self._run.scale is None else self._run.scale
        return float(frame.objective_scale), variables, frame.row_scale[: self._run.m]


OnRow = Callable[[int, History, Now], bool]


@functools.lru_cache(maxsize=64)
def _kernel(method: InteriorPointMethod, structure) -> Kernel:
    shapes, tree = structure
    with jax.enable_x64(True):
        return Kernel(method, jax.tree.unflatten(tree, [np.zeros(shape) for shape in shapes]))


def kernel_for(method: InteriorPointMethod, setting: Setting) -> Kernel:
    """The pieces for a setting's shape, made once."""
    leaves, tree = jax.tree.flatten(setting)
    return _kernel(method, (tuple(np.shape(leaf) for leaf in leaves), tree))


def pad(setting: Setting, method: InteriorPointMethod) -> Setting:
    """The setting rounded up to a shape that others share."""
    n, m, b = setting.x0.shape[0], setting.bounds.cl.shape[0], setting.bounds
    # Variables too many must stay fixed, which they do unless too few others are free.
    too_few = np.sum(b.cl == b.cu) > np.sum(b.lb != b.ub)
    if too_few or method.choices.fixed_variable_treatment == "relax_bounds":
        return setting
    more_n, more_m = padded_size(n, 4) - n, padded_size(m, 4) - m
    zeros, ones = np.zeros(more_n), np.ones(more_m)
    bounds = Bounds(
        np.concatenate([b.lb, zeros]),
        np.concatenate([b.ub, zeros]),
        np.concatenate([b.cl, -np.inf * ones]),
        np.concatenate([b.cu, np.inf * ones]),
    )
    warm, scaling = setting.warm, setting.scaling
    if warm is not None:
        warm = WarmStart(
            np.concatenate([warm.rows, 0 * ones]),
            np.concatenate([warm.lower, zeros]),
            np.concatenate([warm.upper, zeros]),
        )
    if scaling is not None:
        scaling = (scaling[0], np.concatenate([scaling[1], ones]))
    return Setting(np.concatenate([setting.x0, zeros]), bounds, warm, scaling, setting.traced_numbers)


def _scaled(setting: Setting, scale: np.ndarray) -> Setting:
    """The setting in the variables ``scale * x``."""
    b, warm = setting.bounds, setting.warm
    if warm is not None:
        warm = WarmStart(warm.rows, warm.lower / scale, warm.upper / scale)
    bounds = Bounds(b.lb * scale, b.ub * scale, b.cl, b.cu)
    return Setting(setting.x0 * scale, bounds, warm, setting.scaling, setting.traced_numbers)


class _Run:
    """One solve: its functions, its setting, the shape it is padded to, and factors of its variables."""

    def __init__(self, method, functions: AbstractHostFunctions, setting: Setting, scale: np.ndarray | None):
        self.functions, self.n, self.m, self.scale = functions, functions.n, functions.m, scale
        padded = pad(setting if scale is None else _scaled(setting, scale), method)
        self.kernel = kernel_for(method, padded)
        self.setting = self.kernel.setting.pack_host(padded)
        self._no_values = self.kernel.values.blank()[0]

    def begin(self):
        """The first state and question."""
        with jax.enable_x64(True):
            state, question = self.kernel.begin(self.setting)
        return state, Asked(*self.kernel.question.leaves_host(question))

    def values(self, x: np.ndarray) -> list[np.ndarray]:
        """The answer to a trial."""
        x = x[: self.n].copy() if self.scale is None else x[: self.n] / self.scale
        vectors, (objective, rows) = self.kernel.values.blank()
        objective[()], rows[: self.m] = self.functions.values(x)
        return vectors

    def derivatives(self, asked: "Asked") -> tuple[list[np.ndarray], HostDerivatives]:
        """The answer to the question of a pass."""
        n, m, scale = self.n, self.m, self.scale
        x = asked.x[:n].copy() if scale is None else asked.x[:n] / scale
        wanted = self.kernel.exact and asked.phase >= REGULAR  # the starting passes look at first derivatives only
        d = self.functions.derivatives(x, asked.rows[:m].copy(), asked.weight, wanted)
        vectors, (objective, rows, gradient, jacobian, *hessian) = self.kernel.derivatives.blank()
        objective[()], rows[:m], gradient[:n], jacobian[:m, :n] = d.objective, d.rows, d.gradient, d.jacobian
        if wanted:
            hessian[0][:n, :n] = d.hessian
        if scale is not None:
            gradient[:n] /= scale
            jacobian[:m, :n] /= scale
            if wanted:
                hessian[0][:n, :n] /= scale[:, None] * scale
        return vectors, d

    def look(self, state, answer):
        """What a pass finds, its first trial, and what there is to see."""
        with jax.enable_x64(True):
            found, trial, glance = self.kernel.look(self.setting, state, answer)
        return found, trial, Seen(*self.kernel.glance.leaves_host(glance))

    def conclude(self, state, answer, found, trial, x: np.ndarray | None):
        """Try ``x`` (nothing, if None): the next trial or the state that this pass leads to, and the next question."""
        values = self._no_values if x is None else self.values(x)
        with jax.enable_x64(True):
            trial, state, question = self.kernel.conclude(self.setting, state, answer, found, trial, values)
        return trial, state, Asked(*self.kernel.question.leaves_host(question))

    def judged(self, state, answer, found):
        """The state that `look` judged, as if nothing followed."""
        with jax.enable_x64(True):
            return self.kernel.judged(self.setting, state, answer, found)

    def stopped(self, judged, status: Status):
        state = self.kernel.state.unpack_host(judged)
        return self.kernel.state.pack_host(eqx.tree_at(lambda s: s.status, state, np.asarray(int(status))))

    def solution(self, state) -> Solution:
        """In user units, without the padding."""
        with jax.enable_x64(True):
            vectors = self.kernel.finish(self.setting, state)
        s = self.kernel.solution.unpack_host(vectors)
        n, m, z = self.n, self.m, s.multipliers
        scale = 1.0 if self.scale is None else self.scale
        return Solution(
            s.x[:n] / scale,
            s.objective,
            s.constraints[:m],
            Multipliers(z.constraints[:m], z.lower[:n] * scale, z.upper[:n] * scale),
            s.status,
            s.residuals,
            s.stats,
            s.quality,
            s.mu,
            s.history,
        )


class Asked:
    """A `Question` in Python's numbers."""

    def __init__(self, flags: np.ndarray, x: np.ndarray, rows: np.ndarray):
        trying, status, _, phase, self.weight = flags.tolist()
        self.trying, self.status, self.phase, self.x, self.rows = trying != 0, int(status), int(phase), x, rows


class Seen:
    """A `Glance` in Python's numbers."""

    def __init__(self, flags: np.ndarray, x: np.ndarray, row: np.ndarray):
        trying, shown, iteration, phase = flags.tolist()
        self.trying, self.shown, self.iteration, self.phase = trying != 0, shown != 0, int(iteration), int(phase)
        self.x, self._row = x, row

    @property
    def row(self) -> History:
        """The row of the iteration table."""
        return History(*self._row)


class Clock:
    """Limits on wall-clock and processor time since its making."""

    def __init__(self, wall: float, cpu: float):
        self._wall, self._cpu = wall, cpu
        self._wall_start, self._cpu_start = time.perf_counter(), time.process_time()

    def verdict(self) -> Status | None:
        """The status to stop with, or None."""
        if self._wall < 1e20 and time.perf_counter() - self._wall_start > self._wall:
            return Status.Maximum_WallTime_Exceeded
        if self._cpu < 1e20 and time.process_time() - self._cpu_start > self._cpu:
            return Status.Maximum_CpuTime_Exceeded
        return None


def solve_from_host(
    method: InteriorPointMethod,
    functions: AbstractHostFunctions,
    setting: Setting,
    *,
    variable_scale: np.ndarray | None = None,
    on_row: OnRow | None = None,
    max_wall_time: float = 1e20,
    max_cpu_time: float = 1e20,
) -> Solution:
    """Solve, evaluating ``functions`` in this thread. The solution holds NumPy arrays.

    The solver sees ``variable_scale * x``; the setting and the functions are in user units, as the solution is.
    ``on_row(iteration, row, now)`` sees every judged iterate once and stops the solve by answering False. Time limits are
    looked at between evaluations. Exceptions of the functions, and Ctrl-C, pass through.
    """
    run = _Run(method, functions, setting, variable_scale)
    clock = Clock(max_wall_time, max_cpu_time)
    state, question = run.begin()
    while question.status == Status.Running:
        answer, derivatives = run.derivatives(question)
        found, trial, seen = run.look(state, answer)
        stop = None

        def show() -> bool:
            assert on_row is not None
            now = Now(run, run.judged(state, answer, found), derivatives)
            return on_row(seen.iteration, seen.row, now)

        shown = on_row is not None and seen.shown
        if shown and not show():
            stop = Status.User_Requested_Stop
        x = seen.x if seen.trying else None
        while stop is None:
            trial, next_state, question = run.conclude(state, answer, found, trial, x)
            if not question.trying:
                break
            x, stop = question.x, clock.verdict()
        if stop is None and question.status == Status.Running:
            stop = clock.verdict()
        elif stop is None and on_row is not None and not shown and seen.phase >= REGULAR:
            show()  # an iterate that a pass turned out to end on, though it meant to go on
        if stop is not None:
            return run.solution(run.stopped(run.judged(state, answer, found), stop))
        state = next_state
    return run.solution(state)
