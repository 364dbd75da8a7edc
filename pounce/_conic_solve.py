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
from ._conic.equilibration import Scaling, ruiz_equilibrate
from ._conic.iterate import Iterate, evaluate, measure
from ._conic.judgement import CLEAR, Held, nothing_held
from ._conic.polish import polish
from ._conic.program import ConicProgram
from ._conic.solution import ConicSolution, finish
from ._conic.solver import ConicMethod, State
from ._conic.start import warm_start
from ._conic.system import Vector, prepare
from ._conic.termination import Tolerances, defect, has_solution, verdict
from ._once import computed_once
from ._results import ConicStatus


_FOREVER: Any = np.asarray(np.iinfo(np.int32).max, np.int32)
# The tolerance from which on a quadratic program is polished for the first time, instead of being iterated further.
FIRST_POLISH = 1e-4


class WarmPoint(eqx.Module):
    """A former solution in user units."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    z: Float[Array, " m"]
    z_lb: Float[Array, " n"]
    z_ub: Float[Array, " n"]


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
    fallback: State | None


def begin(method: ConicMethod, data: ConicData, layout: Layout, warm: WarmPoint | None, controls: Controls) -> Run:
    """Presolve, equilibrate, start."""
    presolved = presolve(data, layout)
    scaled, scaling = ruiz_equilibrate(presolved.program)
    start = None
    if warm is not None:
        point = presolved.point(warm.x, warm.y, warm.z, warm.z_lb, warm.z_ub)
        start = warm_start(scaled, scaling, point)
    state, fallback = method.init(scaled, scaling, Tolerances.of(controls.tol), start)
    return Run(presolved, scaled, scaling, state, fallback)


class Ended(eqx.Module):
    """Where iterations have led: `pounce.Quality` has the ``margin``; ``held`` is there if it was asked for."""

    state: State
    margin: Float[Array, ""]
    held: Held | None


def advance(method: ConicMethod, run: Run, controls: Controls, until: Int[Array, ""], hold: bool = False) -> Ended:
    """Iterate to the end, but not beyond ``until`` iterations; polish what is solved, or may be by a polish.

    With ``hold``, a solution comes with what its derivatives share.
    """
    tolerances = Tolerances.of(controls.tol)
    prepared = prepare(run.scaled, method.solver)

    def step(state: State) -> State:
        state = method.step(run.scaled, run.scaling, state, tolerances, controls.max_iter, prepared)
        return state if run.fallback is None else method.restarted(state, run.fallback)

    def lap(carry: tuple[Ended, Any]) -> tuple[Ended, Any]:
        def pauses(state: State):
            return method.terminate(state, until) | _worth_a_polish(run, state, controls)

        state = jax.lax.while_loop(lambda state: ~pauses(state), step, carry[0].state)
        state = method.judged(run.scaled, state, tolerances, controls.max_iter)
        state = state if run.fallback is None else method.restarted(state, run.fallback)
        state = method.recalled(state, tolerances)
        ended = _polished(method, run, state, controls, prepared, nothing)
        return ended, ~method.terminate(ended.state, until)

    nothing = nothing_held(run.scaled, method.solver, prepared) if hold else None
    start = Ended(run.state, jnp.zeros_like(controls.tol), nothing)
    return jax.lax.while_loop(lambda carry: carry[1], lap, (start, jnp.array(True)))[0]


def _worth_a_polish(run: Run, state: State, controls: Controls) -> Bool[Array, ""]:
    """Whether a quadratic program is so nearly solved for the first time that its active rows may be known."""
    if run.scaled.P is None or not run.scaled.cones.polyhedral:
        return jnp.array(False)
    near = Tolerances.of(jnp.maximum(controls.tol, jnp.asarray(FIRST_POLISH, controls.tol.dtype)))
    return ~state.polished & (verdict(state.measures, near) == ConicStatus.Optimal)


def _polished(
    method: ConicMethod, run: Run, state: State, controls: Controls, prepared: Any, nothing: Held | None
) -> Ended:
    """The state with its solution taken to rounding errors, where it has one, or is or broke down close to one.

    The margin is zero where it was not.
    """
    v, scaled, tolerances = state.iterate, run.scaled, Tolerances.of(controls.tol)
    near = verdict(state.measures, Tolerances.of(jnp.finfo(v.x.dtype).eps ** (1 / 3) * jnp.ones_like(v.tau)))
    early = _worth_a_polish(run, state, controls) & (state.status == ConicStatus.Running)
    broken = early | (state.status == ConicStatus.Numerical_Failure) & (near == ConicStatus.Optimal)
    solution = has_solution(state.status)
    start, slack = Vector(v.x / v.tau, v.y / v.tau, v.z / v.tau), v.s / v.tau
    exact, held = polish(scaled, start, slack, method.solver, solution | broken, prepared, nothing)
    pair = exact.pair
    # Exactly complementary: a tiny multiplier of a large slack would be a gap.
    iterate = Iterate(exact.x, exact.y, pair.z, pair.s, jnp.ones_like(v.tau), jnp.zeros_like(v.kappa))
    residuals = evaluate(scaled, iterate)
    measures = measure(scaled, run.scaling, iterate, residuals)
    old = state.measures
    solved = verdict(measures, tolerances) == ConicStatus.Optimal
    kept = jnp.maximum(measures.primal, measures.dual) <= jnp.maximum(1e-10, jnp.maximum(old.primal, old.dual))
    kept = kept & (defect(measures, tolerances) <= jnp.maximum(1.0, defect(old, tolerances)))
    status = jnp.where(solved, ConicStatus.Optimal, state.status)
    new = dataclasses.replace(state, iterate=iterate, residuals=residuals, measures=measures, status=status)
    state = dataclasses.replace(state, polished=state.polished | early)
    taken = computed_once((solution & kept) | (broken & solved), state.iterations < 0)
    clarity = scaled.cones.clarity(slack, start.z, pair.s, pair.z)
    margin = jnp.where(taken & exact.solved, jnp.maximum(clarity, 0.0), 0.0)
    return Ended(jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, state), margin, held)


def solve_conic(
    method: ConicMethod, data: ConicData, layout: Layout, warm: WarmPoint | None, controls: Controls
) -> ConicSolution:
    """Solve to the end, without a word about derivatives. Traceable; not differentiable by itself."""
    run = begin(method, data, layout, warm, controls)
    return finish(data, run.presolved, run.scaling, advance(method, run, controls, _FOREVER).state)


def solve_and_hold(
    method: ConicMethod,
    data: ConicData,
    layout: Layout,
    warm: WarmPoint | None,
    controls: Controls,
    relaxation: float,
) -> tuple[ConicSolution, Held, Scaling]:
    """The same, with the quality of the solution, and what its derivatives share with the units it is in."""
    run = begin(method, data, layout, warm, controls)
    ended = advance(method, run, controls, _FOREVER, hold=relaxation == 0)
    v, found = ended.state.iterate, has_solution(ended.state.status)
    solution = finish(data, run.presolved, run.scaling, ended.state)
    held, clear = ended.held, ended.margin > CLEAR
    if held is None:
        point, prepared = Vector(v.x / v.tau, v.y / v.tau, v.z / v.tau), prepare(run.scaled, method.solver)
        held, clear = on_path(run.scaled, point, v.s / v.tau, relaxation, method.solver, found, prepared)
    quality = held.quality(ended.margin, found & clear)
    return dataclasses.replace(solution, quality=quality), held, run.scaling
