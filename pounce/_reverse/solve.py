"""The loop between the pieces: it evaluates the functions and watches limits, callbacks and Ctrl-C."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.sparse as sps

from .._interior.state import Phase
from .._problem.host import AbstractHostFunctions, HostDerivatives
from .._results import Status
from .._solution import History, Solution
from .._stopwatch import counted, since
from .kernel import Kernels
from .setting import Setting, packed_setting, scaled_setting


class Now:
    """The iterate of a solve under way, in user units. What nobody asks for is not computed."""

    def __init__(self, run: "_Run", judge: Callable, derivatives: HostDerivatives):
        self._run, self._judge, self.derivatives = run, judge, derivatives

    @functools.cached_property
    def _judged(self):
        return self._judge()

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


class _Run:
    """One solve: its functions, its setting, the shape it is padded to, and factors of its variables."""

    def __init__(self, kernels: Kernels, functions: AbstractHostFunctions, setting: Setting, scale: np.ndarray | None):
        self.functions, self.n, self.m, self.scale = functions, functions.n, functions.m, scale
        if scale is not None:
            setting = scaled_setting(setting, scale)
        self.kernel = kernels.fitting(setting)
        self.setting = packed_setting(setting, self.kernel.setting)
        self._no_values = self.kernel.values.blank()[0]

    def begin(self):
        """The first state and question."""
        with jax.enable_x64(True):
            state, question = self.kernel.begin(self.setting)
        return state, Asked(*self.kernel.question.leaves_host(question))

    def find_scaling(self, state, answer):
        """The state and question after the pass that only looks at scaling factors."""
        with jax.enable_x64(True):
            state, question = self.kernel.scale(self.setting, state, answer)
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
        # Passes without a step look at first derivatives only.
        wanted = self.kernel.exact and asked.phase in (Phase.REGULAR, Phase.RESTORING)
        d = self.functions.derivatives(x, asked.rows[:m].copy(), asked.weight, wanted)
        vectors, (objective, rows, gradient, jacobian, *hessian) = self.kernel.derivatives.blank()
        objective[()], rows[:m], gradient[:n] = d.objective, d.rows, d.gradient
        if scale is not None:
            gradient[:n] /= scale
        _fill(jacobian, d.jacobian, None, scale)
        if wanted:
            _fill(hessian[0], d.hessian, scale, scale)
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

    def stop(self, judged, status: Status):
        """The state that a judged one ends in with this status, and the next question."""
        with jax.enable_x64(True):
            state, question = self.kernel.stop(self.setting, judged, np.asarray(int(status)))
        return state, Asked(*self.kernel.question.leaves_host(question))

    def solution(self, state) -> Solution:
        """In user units, without the padding."""
        with jax.enable_x64(True):
            vectors = self.kernel.finish(self.setting, state)
        leaves, n, m = self.kernel.solution.leaves([np.asarray(vector) for vector in vectors]), self.n, self.m
        x, _, rows, multipliers, lower, upper = range(6)  # the first leaves of a Solution
        for index, size in ((x, n), (rows, m), (multipliers, m), (lower, n), (upper, n)):
            leaves[index] = leaves[index][:size]
        if self.scale is not None:
            leaves[x] = leaves[x] / self.scale
            leaves[lower], leaves[upper] = leaves[lower] * self.scale, leaves[upper] * self.scale
        return self.kernel.solution.join(leaves)


def _fill(place: np.ndarray, matrix: Any, rows: np.ndarray | None, columns: np.ndarray | None) -> None:
    """Writes a matrix, divided by factors of its rows and columns, into a larger one; a sparse one into a vector."""
    if sps.issparse(matrix):
        place[:] = matrix.data
        if rows is not None:
            place /= np.repeat(rows, np.diff(matrix.indptr))
        if columns is not None:
            place /= columns[matrix.indices]
        return
    m, n = matrix.shape
    place[:m, :n] = matrix
    for scale in (None if rows is None else rows[:, None], columns):
        if scale is not None:
            place[:m, :n] /= scale


class Asked:
    """A `Question` in Python's numbers."""

    def __init__(self, flags: np.ndarray, x: np.ndarray, rows: np.ndarray):
        trying, status, phase, self.weight = flags.tolist()
        self.trying, self.status, self.phase, self.x, self.rows = trying != 0, int(status), int(phase), x, rows

    @property
    def open(self) -> bool:
        """A pass is to follow."""
        return self.status == Status.Running or self.phase == Phase.REPORTING


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
    """Limits on wall-clock and processor time since its making; compiling does not count."""

    def __init__(self, wall: float, cpu: float):
        self._wall, self._cpu, self._start = wall, cpu, counted()

    def verdict(self) -> Status | None:
        """The status to stop with, or None."""
        if min(self._wall, self._cpu) >= 1e20:
            return None
        spent = since(self._start)
        if self._wall < 1e20 and spent.wall > self._wall:
            return Status.Maximum_WallTime_Exceeded
        if self._cpu < 1e20 and spent.cpu > self._cpu:
            return Status.Maximum_CpuTime_Exceeded
        return None


def solve_from_host(
    kernels: Kernels,
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
    run = _Run(kernels, functions, setting, variable_scale)
    clock = Clock(max_wall_time, max_cpu_time)
    state, question = run.begin()
    if question.status == Status.Running and question.phase == Phase.SCALING:
        state, question = run.find_scaling(state, run.derivatives(question)[0])
    while question.open:
        answer, derivatives = run.derivatives(question)
        found, trial, seen = run.look(state, answer)
        stop = None

        def show() -> bool:
            assert on_row is not None
            now = Now(run, functools.partial(run.judged, state, answer, found), derivatives)
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
        elif stop is None and on_row is not None and not shown and seen.phase in (Phase.REGULAR, Phase.RESTORING):
            show()  # an iterate that a pass turned out to end on, though it meant to go on
        if stop is None:
            state = next_state
        else:
            state, question = run.stop(run.judged(state, answer, found), stop)
    return run.solution(state)
