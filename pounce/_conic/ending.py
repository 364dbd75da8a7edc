"""What is done where iterations have led to a verdict: certificates are judged, the best iterate recalled, solutions polished."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._linalg.kkt import AbstractKKTSolver
from .._once import computed_once, only_where
from .._results import ConicStatus
from . import certificate, termination
from .extent import extent
from .iterate import Iterate
from .judgement import Held
from .polish import polish
from .solver import Setting
from .state import Attempt, Polish, State, Task
from .system import Vector


def ended(setting: Setting, solver: AbstractKKTSolver, state: State, held: Held | None) -> tuple[State, Held | None]:
    """The state after a verdict, with a polished candidate where it is, or may be, a solution, and what derivatives share there
    if something is ``held``."""
    state = judged(setting, state)
    again = _to_be_restarted(state)
    state = recalled(state)
    state, held = _polished(setting, solver, state, ~again, held)
    if state.attempt is not None:
        cold = eqx.tree_at(
            lambda s: (s.iterations, s.attempt),
            State.before(setting.program, jnp.array(True), state.margin is not None),
            (state.iterations, Attempt(jnp.array(False), state.iterations)),
        )
        state = jax.tree.map(lambda a, b: jnp.where(again, a, b), cold, state)
    return state, held


def judged(setting: Setting, state: State) -> State:
    """A candidate for a certificate, without what is negligible in it, if it proves what it should; otherwise to be
    iterated further, as programs whose points are far away look like ones that have none until tau is that small."""
    program, m = setting.program, state.measures
    residuals = m.farkas_residual, m.ray_residual
    if not program.cones.polyhedral:
        # Near the boundary of a cone small residuals are worth much.
        residuals = (jnp.full_like(m.ratio, jnp.inf),) * 2

    candidate = termination.is_certificate(state.status)
    margin, farthest = jnp.zeros_like(state.iterate.z), jnp.full_like(state.iterate.x, jnp.inf)
    if not program.cones.polyhedral:
        margin, farthest = only_where(
            candidate, lambda _: (certificate.margins(program, state.iterate), extent(program)), (margin, farthest)
        )

    def attempt(carry):
        negligible = jnp.asarray(certificate.NEGLIGIBLE, m.ratio.dtype)[carry[0]]
        clean = computed_once(certificate.cleaned(program, state.iterate, negligible), carry[0] < 0)
        farkas, ray = (
            termination.proven(error, residual, m, setting.levels.own, state.alpha == 0)
            for error, residual in zip(certificate.errors(program, clean, margin, farthest), residuals)
        )
        return carry[0] + 1, clean, farkas, farkas | ray

    _, clean, farkas, taken = jax.lax.while_loop(
        lambda carry: candidate & ~carry[3] & (carry[0] < len(certificate.NEGLIGIBLE)),
        attempt,
        (jnp.zeros((), int), state.iterate, jnp.array(False), jnp.array(False)),
    )
    started = 0 if state.attempt is None else state.attempt.started
    out = state.iterations - started >= setting.max_iter
    open_status = jnp.where(out, ConicStatus.Iteration_Limit, ConicStatus.Running)
    open_status = jnp.where(state.alpha == 0, ConicStatus.Numerical_Failure, open_status)
    proven = jnp.where(farkas, ConicStatus.Primal_Infeasible, ConicStatus.Dual_Infeasible)
    status = jnp.where(candidate, jnp.where(taken, proven, open_status), state.status).astype(jnp.int32)
    iterate = jax.tree.map(lambda a, b: jnp.where(taken, a, b), clean, state.iterate)
    return eqx.tree_at(lambda s: (s.iterate, s.status), state, (iterate, status))


def recalled(state: State) -> State:
    """With the best iterate where rounding errors have led away from it before they ended the solve. As that is the end,
    the residuals are left as they are."""
    failed = (state.status == ConicStatus.Numerical_Failure) | (state.status == ConicStatus.Optimal_Inaccurate)
    status = state.best.grade.fallen
    better = failed & (state.best.grade.defect < state.point.grade.defect) & termination.has_solution(status)
    better, status = computed_once((better, status), state.iterations < 0)
    point, status = jax.tree.map(
        lambda a, b: jnp.where(better, a, b), (state.best, status), (state.point, state.status)
    )
    return eqx.tree_at(lambda s: (s.point, s.status), state, (point, status))


def _to_be_restarted(state: State) -> Bool[Array, ""]:
    """Whether a warm start has ended without a verdict: the cold one follows."""
    if state.attempt is None:
        return jnp.array(False)
    failed = (
        (state.status == ConicStatus.Iteration_Limit)
        | (state.status == ConicStatus.Numerical_Failure)
        | (state.status == ConicStatus.Optimal_Inaccurate)
    )
    return failed & state.attempt.warm


def _polished(
    setting: Setting, solver: AbstractKKTSolver, state: State, allowed: Bool[Array, ""], held: Held | None
) -> tuple[State, Held | None]:
    """The state with a candidate that is its solution taken to rounding errors, where it has one, or is or broke down close to
    one."""
    v, program = state.iterate, setting.program
    running = state.status == ConicStatus.Running
    early = state.promising() & running
    broken = early | (state.status == ConicStatus.Numerical_Failure) & state.point.grade.near
    wanted = allowed & (termination.has_solution(state.status) | broken)
    solution = Iterate(v.flat / v.tau, v.n, v.p)
    start, slack = Vector(solution.x, solution.y, solution.z), solution.s
    exact, held = polish(program, start, slack, solver, wanted, setting.prepared, held)
    pair = exact.pair
    # Exactly complementary: a tiny multiplier of a large slack would be a gap.
    candidate = Iterate.of(exact.x, exact.y, pair.z, pair.s, jnp.ones_like(exact.defect), jnp.zeros_like(exact.defect))
    margin = state.margin
    if margin is not None:
        clarity = program.cones.clarity(slack, start.z, pair.s, pair.z)
        margin = jnp.where(wanted & exact.solved, jnp.maximum(clarity, 0.0), 0.0)
    going = jnp.where(running & (state.iterations < setting.until), Task.ITERATE, Task.NOTHING)
    task = jnp.where(wanted, Task.CONFIRM, going).astype(jnp.int32)
    polishes = Polish(polished=None if state.polished is None else state.polished | early, margin=margin)
    return eqx.tree_at(lambda s: (s.candidate, s.task, s.polish), state, (candidate, task, polishes)), held
