"""The loop drivers: one compiled program, or a Python loop around the same compiled step."""

import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._interior.finish import finish
from ._interior.options import Numbers
from ._interior.solver import InteriorPointMethod, shown_row
from ._interior.start import Bounds, WarmStart
from ._interior.state import REGULAR, RESTORING, State
from ._problem.nlp import AbstractNLP
from ._results import Status
from ._solution import History, Solution


class Start(eqx.Module):
    """Everything a solve takes but the program itself."""

    x0: Float[Array, " n"]
    bounds: Bounds
    warm: WarmStart | None
    scaling: tuple | None  # user's (objective, rows) factors
    traced_numbers: Float[Array | np.ndarray, " k"]

    def numbers(self, method: InteriorPointMethod) -> Numbers:
        """All numbers of the solve, in its dtype."""
        return Numbers.join(jnp.asarray(self.traced_numbers).astype(self.x0.dtype), method.constants)


def solve_nlp(method: InteriorPointMethod, nlp: AbstractNLP, start: Start) -> Solution:
    """Run the method to its end with ``lax.while_loop``. Traceable; not differentiable by itself."""
    numbers = start.numbers(method)
    last = jax.lax.while_loop(
        lambda state: ~method.terminate(state),
        lambda state: method.step(nlp, start.bounds, start.warm, state, numbers),
        method.init(nlp, start.x0, start.bounds, start.scaling, numbers),
    )
    return finish(last, start.bounds, numbers, method.choices)


class Stepper(eqx.Module):
    """The same method as three functions for a Python loop; compile `init`, `step` and `finish` once each."""

    method: InteriorPointMethod

    def init(self, nlp: AbstractNLP, start: Start) -> State:
        return self.method.init(nlp, start.x0, start.bounds, start.scaling, start.numbers(self.method))

    def step(self, nlp: AbstractNLP, start: Start, state: State) -> State:
        return self.method.step(nlp, start.bounds, start.warm, state, start.numbers(self.method))

    def finish(self, start: Start, state: State) -> Solution:
        return finish(state, start.bounds, start.numbers(self.method), self.method.choices)


def drive(
    init: Callable[[], State],
    step: Callable[[State], State],
    *,
    on_row: Callable[[int, History], bool] | None = None,
    max_wall_time: float = 1e20,
    max_cpu_time: float = 1e20,
) -> State:
    """A Python loop around one compiled step.

    ``on_row(iteration, row)`` sees every judged iterate once and stops the solve by answering False. Time limits are looked
    at between steps, and Ctrl-C ends the loop between steps as itself.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    state = init()
    while int(state.status) == Status.Running:
        previous, state = state, step(state)
        if int(previous.phase) < REGULAR:
            continue
        iteration = int(previous.iteration)
        status = None
        # A pass that neither moves on nor ends (new multipliers, a soft step taken back) comes before the judged one.
        if int(state.iteration) > iteration or int(state.status) != Status.Running:
            if on_row is not None and not on_row(iteration, _judged_row(previous, state)):
                status = Status.User_Requested_Stop
        if time.perf_counter() - wall > max_wall_time:
            status = Status.Maximum_WallTime_Exceeded
        elif time.process_time() - cpu > max_cpu_time:
            status = Status.Maximum_CpuTime_Exceeded
        if status is not None and int(state.status) == Status.Running:
            state = eqx.tree_at(lambda s: s.status, state, jnp.asarray(status, state.status.dtype))
    return state


def _judged_row(before: State, after: State) -> History:
    """The table row of the iterate a step judged: its errors, with the figures of the step that led to it."""
    objective = before.objective / before.frame.objective_scale
    return shown_row(objective, after.report, before.row, before.phase == RESTORING)
