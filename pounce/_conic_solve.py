"""The compiled driver of convex programs: a whole solve as one JAX function, or in pieces for a host that watches the clock."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._cone.layout import Layout
from ._conic.central_path import on_path
from ._conic.data import ConicData, Presolved, presolve
from ._conic.ending import ended
from ._conic.equilibration import Scaling, ruiz_equilibrate
from ._conic.iterate import Iterate, Yardstick
from ._conic.judgement import CLEAR, Held, nothing_held
from ._conic.program import ConicProgram, Facts
from ._conic.solution import ConicSolution, finish
from ._conic.solver import ConicMethod, Setting
from ._conic.start import warm_start
from ._conic.state import State, Task
from ._conic.system import Vector, prepare
from ._conic.termination import Levels, has_solution
from ._once import only_where


_FOREVER: Any = np.asarray(np.iinfo(np.int32).max, np.int32)


class WarmPoint(eqx.Module):
    """A former solution in user units, if it is ``given``: without one, numbers that nobody looks at."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    z: Float[Array, " m"]
    z_lb: Float[Array, " n"]
    z_ub: Float[Array, " n"]
    given: Bool[Array, ""] | None = None  # None: yes


class Controls(eqx.Module):
    """The numbers of a solve."""

    tol: Float[Array, ""]
    max_iter: Int[Array, ""]

    @classmethod
    def of(cls, tol: float, max_iter: int, dtype) -> "Controls":
        """From the host, as arrays of NumPy: to convert them before the call would cost as much as a small solve."""
        numbers: Any = np.asarray(tol, dtype), np.asarray(max_iter, np.int32)
        return cls(*numbers)


class Run(eqx.Module):
    """A solve under way: everything `advance` needs."""

    presolved: Presolved
    scaled: ConicProgram
    scaling: Scaling
    state: State
    warm: Iterate | None


def begin(
    data: ConicData, layout: Layout, warm: WarmPoint | None, margin: bool = False, facts: Facts | None = None
) -> Run:
    """Presolve and equilibrate; everything else is for `advance`. ``margin``: whether the state is to have one; ``facts``: of a
    program that was rounded up to a larger one."""
    presolved = presolve(data, layout, facts)
    scaled, scaling = ruiz_equilibrate(presolved.program)
    start = given = None
    if warm is not None:
        given = jnp.array(True) if warm.given is None else jnp.asarray(warm.given)
        point = presolved.point(warm.x, warm.y, warm.z, warm.z_lb, warm.z_ub)
        start = warm_start(scaled, scaling, point)
    return Run(presolved, scaled, scaling, State.before(scaled, given, margin), start)


def advance(
    method: ConicMethod, run: Run, controls: Controls, until: Int[Array, ""], hold: bool = False
) -> tuple[State, Held | None]:
    """Iterate to the end, but not beyond ``until`` iterations; polish what is solved, or may be by a polish.

    With ``hold``, a solution comes with what its derivatives share.
    """
    program = run.scaled.with_constants()
    prepared = prepare(program, method.solver)
    setting = Setting(
        program,
        Yardstick.of(program, run.scaling),
        Levels.of(jnp.asarray(controls.tol)),
        prepared,
        controls.max_iter,
        until,
        run.warm,
    )

    def lap(carry: tuple[State, Held | None]) -> tuple[State, Held | None]:
        # Lanes wait for each other before any of them is ended, which may take as long as some iterations.
        state = jax.lax.while_loop(
            lambda state: state.task < Task.END, lambda state: method.turn(setting, state), carry[0]
        )
        ending = state.task == Task.END
        return only_where(ending, lambda now: ended(setting, method.solver, *now), (state, carry[1]))

    state = run.state
    waiting = (state.task == Task.NOTHING) & ~state.paused(until)
    task = jnp.where(waiting, Task.ITERATE, state.task).astype(jnp.int32)
    state = eqx.tree_at(lambda s: s.task, state, task)
    held = nothing_held(program, method.solver, prepared) if hold else None
    return jax.lax.while_loop(lambda carry: carry[0].task != Task.NOTHING, lap, (state, held))


def solve_conic(
    method: ConicMethod,
    data: ConicData,
    layout: Layout,
    warm: WarmPoint | None,
    controls: Controls,
    facts: Facts | None = None,
) -> ConicSolution:
    """Solve to the end, without a word about derivatives. Traceable; not differentiable by itself."""
    run = begin(data, layout, warm, facts=facts)
    return finish(data, run.presolved, run.scaling, advance(method, run, controls, _FOREVER)[0])


def solve_and_hold(
    method: ConicMethod,
    data: ConicData,
    layout: Layout,
    warm: WarmPoint | None,
    controls: Controls,
    relaxation: float,
) -> tuple[ConicSolution, Held, Scaling]:
    """The same, with the quality of the solution, and what its derivatives share with the units it is in."""
    run = begin(data, layout, warm, margin=True)
    state, held = advance(method, run, controls, _FOREVER, hold=relaxation == 0)
    v, found, margin = state.iterate, has_solution(state.status), state.margin
    solution = finish(data, run.presolved, run.scaling, state)
    assert margin is not None
    clear = margin > CLEAR
    if held is None:
        point, prepared = Vector(v.x / v.tau, v.y / v.tau, v.z / v.tau), prepare(run.scaled, method.solver)
        held, clear = on_path(run.scaled, point, v.s / v.tau, relaxation, method.solver, found, prepared)
    quality = held.quality(margin, found & clear)
    return dataclasses.replace(solution, quality=quality), held, run.scaling
