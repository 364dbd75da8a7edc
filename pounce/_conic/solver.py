"""The predictor-corrector method on the homogeneous embedding (Goulart and Chen 2024): find a point, measure it, conclude.

Whatever finds a point (a start, a step, a polish), it is measured and graded in one place, since that is what takes long to
compile.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg.kkt import AbstractKKTSolver
from .._once import computed_once, only_where
from .._results import ConicStatus
from . import termination
from .direction import Newton
from .iterate import Iterate, Residuals, Yardstick, evaluate
from .program import ConicProgram
from .start import shifted_start
from .state import Cautions, LastStep, Point, State, Task
from .system import factorize
from .termination import Levels


SMALL_STEP = 1e-4  # no progress
SHORT_STEP = 0.1  # nonsymmetric cones leave the primal-dual scaling
CROWDED_STEP = 1e-2  # symmetric cones get a better centred direction
MAX_RECENTERINGS = 3
MOST_REGULARIZATION = 1e-5
KEPT = 1e-10  # residuals that a polish may leave, whatever there was before


class Setting(eqx.Module):
    """What all turns of a solve share."""

    program: ConicProgram
    by: Yardstick
    levels: Levels
    prepared: PyTree  # what factorisations share
    max_iter: Int[Array, ""]
    until: Int[Array, ""]  # iterations after which to pause
    warm: Iterate | None


class Proposal(eqx.Module):
    """A point that a state may move to, and how it was found."""

    iterate: Iterate
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]
    regularization: Float[Array, ""]  # of the next factorisation
    solved: Bool[Array, ""]
    usable: Bool[Array, ""]  # the factorisation


class Conclusion(eqx.Module):
    """Whether a point is taken, and what follows."""

    stay: Bool[Array, ""]
    status: Int[Array, ""]
    cautions: Cautions


class ConicMethod(eqx.Module):
    """The method with the KKT solver it factorises with."""

    solver: AbstractKKTSolver

    def turn(self, setting: Setting, state: State) -> State:
        """The next point, by a step where one is due; its measures; and whether the state moves there."""
        yes = jnp.array(True)
        cautions = state.cautions
        given = Proposal(
            iterate=state.candidate,
            alpha=state.alpha,
            sigma=state.sigma,
            regularization=cautions.regularization,
            solved=yes,
            usable=yes,
        )
        stepping, starting = state.task == Task.ITERATE, None
        moving = stepping
        if setting.program.cones.symmetric:
            starting = state.task == Task.START
            moving = stepping | starting
        found = only_where(moving, lambda old: self._step(setting, state, starting, old), given)
        residuals, measures = evaluate(setting.program, setting.by, found.iterate)
        measured = computed_once((measures, termination.grade(measures, setting.levels)), state.iterations < 0)
        point = Point(found.iterate, *measured)
        conclusion = self._concluded(setting, state, found, point)
        # Many arrays are chosen by these.
        conclusion = computed_once(conclusion, state.iterations < 0)
        return self._moved(setting, state, found, point, residuals, conclusion)

    def _step(self, setting: Setting, state: State, starting: Bool[Array, ""] | None, given: Proposal) -> Proposal:
        """One factorisation, a predictor and a corrector; or the starting point of symmetric cones, by the system at their
        unit."""
        del given
        program, v, cautions = setting.program, state.iterate, state.cautions
        dual = jnp.array(False) if cautions.dual_scaling is None else cautions.dual_scaling
        scaling = program.cones.scaling(v.s, v.z, state.residuals.mu, dual)
        regularization = cautions.regularization
        if starting is not None:
            regularization = jnp.where(starting, 0.0, regularization)
        system = factorize(program, scaling, self.solver, setting.prepared, regularization)
        newton = Newton(program, system, v, state.residuals)
        found = newton.combined(cautions.least_sigma, state.iterations == 0, starting)
        alpha = found.alpha
        if cautions.dual_scaling is not None:
            alpha = self._centred(setting, v, found.step, alpha, cautions.dual_scaling)
        alpha = jnp.where(found.solved & jnp.isfinite(alpha), alpha, 0.0)
        solved, usable, advice = found.solved, system.usable(), self.solver.advised_regularization(system.factor)
        regularization = cautions.regularization
        if advice is not None:
            solved = solved & usable  # a factor that is none may give finite directions
            regularization = jnp.where(usable, advice, regularization)
        iterate = v.stepped(found.step, alpha)
        if starting is not None:
            first, last = found.solutions[0], found.solutions[-1 if program.linear is True else 0]
            if not isinstance(program.linear, bool):
                last = jnp.where(program.linear, found.solutions[-1], last)
            iterate = only_where(
                starting, lambda _: shifted_start(program, system.parted(first), system.parted(last)), iterate
            )
        return Proposal(
            iterate=iterate, alpha=alpha, sigma=found.sigma, regularization=regularization, solved=solved, usable=usable
        )

    def _centred(self, setting: Setting, v: Iterate, step: Iterate, alpha, dual_scaling) -> Float[Array, ""]:
        """With dual scaling, a step back into the neighbourhood of the central path where the barriers sum up to below one."""
        degree = setting.by.degree + 1.0

        def far(alpha):
            new = v.stepped(step, alpha)
            mu = (new.s @ new.z + new.tau * new.kappa) / degree
            barrier = setting.program.cones.barrier(new.s, new.z)
            value = degree * jnp.log(mu) - jnp.log(new.tau) - jnp.log(new.kappa) + barrier
            return ~(value < 1.0)

        alpha, _ = jax.lax.while_loop(
            lambda c: dual_scaling & (c[1] < 50) & far(c[0]), lambda c: (0.8 * c[0], c[1] + 1), (alpha, jnp.array(0))
        )
        return alpha

    def _concluded(self, setting: Setting, state: State, found: Proposal, point: Point) -> Conclusion:
        """Take the point, or stay and try otherwise, or give up."""
        stepping, confirming = state.task == Task.ITERATE, state.task == Task.CONFIRM
        old, cautions, measures = state.point, state.cautions, point.measures
        status = point.grade.status
        small = found.alpha <= SMALL_STEP
        finite = jnp.all(jnp.isfinite(measures.values))
        worse = termination.insufficient_progress(old.measures, measures, setting.levels.own) & (state.iterations > 0)
        worse = (worse & (status == ConicStatus.Running)) | ~finite
        worse, taken = computed_once((worse, self._confirmed(state, point)), state.iterations < 0)
        stuck = ~found.solved | small | worse
        # A failed factorisation is repeated with more regularisation, at the price of an iteration.
        refactor = ~found.usable & (cautions.regularization < MOST_REGULARIZATION)
        switch = jnp.array(False)
        if cautions.dual_scaling is not None:
            short = stuck | (found.alpha < SHORT_STEP)
            switch = ~cautions.dual_scaling & short & ~(found.solved & (status != ConicStatus.Running))
        recenter = found.solved & (small | worse) & ~switch & (cautions.recenterings < MAX_RECENTERINGS)
        given_up = stuck & ~switch & ~recenter & ~refactor
        crowded = (found.alpha < CROWDED_STEP) | recenter
        least = jnp.where(crowded, jnp.minimum(jnp.maximum(10.0 * found.sigma, 0.1), 0.9), 0.0)

        # Where a step was tried. Starting points are taken as they are, polished ones by what they are beside the old one.
        stay = stepping & (switch | stuck)
        started = 0 if state.attempt is None else state.attempt.started
        out = state.iterations + 1 - started >= setting.max_iter
        tried = jnp.where(given_up, old.grade.fallen, jnp.where(stay, ConicStatus.Running, status))
        tried = jnp.where(out & (tried == ConicStatus.Running), ConicStatus.Iteration_Limit, tried)
        status = jnp.where(stepping, tried, status)
        stay = stay | (confirming & ~taken)
        status = jnp.where(confirming & ~(taken & (status == ConicStatus.Optimal)), state.status, status)
        if setting.warm is not None:
            losing = (state.task == Task.WARM) & ~(_merit(measures) < _merit(old.measures))
            stay, status = stay | losing, jnp.where(losing, state.status, status)

        regularization = jnp.where(refactor, 100.0 * found.regularization, found.regularization)
        recenterings = jnp.where(recenter, cautions.recenterings + 1, jnp.where(stay, cautions.recenterings, 0))
        new = Cautions(
            jnp.where(switch, 0.0, least),
            recenterings,
            regularization,
            None if cautions.dual_scaling is None else cautions.dual_scaling | switch,
        )
        cautions = jax.tree.map(lambda a, b: jnp.where(stepping, a, b), new, cautions)
        return Conclusion(stay, status.astype(jnp.int32), cautions)

    def _confirmed(self, state: State, point: Point) -> Bool[Array, ""]:
        """Whether what a polish has found is taken: from a solution if it is as good, from elsewhere if it is one."""
        old, new = state.measures, point.measures
        kept = jnp.maximum(new.primal, new.dual) <= jnp.maximum(KEPT, jnp.maximum(old.primal, old.dual))
        kept = kept & (point.grade.defect <= jnp.maximum(1.0, state.point.grade.defect))
        solved = point.grade.status == ConicStatus.Optimal
        return jnp.where(termination.has_solution(state.status), kept, solved)

    def _moved(
        self,
        setting: Setting,
        state: State,
        found: Proposal,
        point: Point,
        residuals: Residuals,
        conclusion: Conclusion,
    ) -> State:
        """The state after a conclusion."""
        stay, status = conclusion.stay, conclusion.status
        stepping, confirming = state.task == Task.ITERATE, state.task == Task.CONFIRM
        current, residuals = jax.tree.map(
            lambda a, b: jnp.where(stay, b, a), (point, residuals), (state.point, state.residuals)
        )
        fresh = ~(stepping | confirming)
        nearer = ~stay & (fresh | (point.grade.defect < state.best.grade.defect))
        best = jax.tree.map(lambda a, b: jnp.where(nearer, a, b), point, state.best)
        margin = None if state.margin is None else jnp.where(confirming & stay, 0.0, state.margin)
        moved = State(
            course=dataclasses.replace(
                state.course, status=status, iterations=state.iterations + stepping.astype(jnp.int32)
            ),
            point=current,
            residuals=residuals,
            candidate=state.candidate,
            best=best,
            last=LastStep(
                alpha=jnp.where(stepping, jnp.where(stay, 0.0, found.alpha), state.alpha),
                sigma=jnp.where(stepping, found.sigma, state.sigma),
            ),
            cautions=conclusion.cautions,
            polish=dataclasses.replace(state.polish, margin=margin),
        )
        over = confirming & (status != ConicStatus.Running)
        # Without a verdict, and without a polish that is due, there is nothing to end.
        late = ~moved.promising() & (status == ConicStatus.Running)
        ending = jnp.where(late, Task.NOTHING, Task.END)
        task = jnp.where(over, Task.NOTHING, jnp.where(moved.paused(setting.until), ending, Task.ITERATE))
        candidate = state.candidate
        if setting.warm is not None:
            both = (state.task == Task.START) & _warm(state)
            task = jnp.where(both, Task.WARM, task)
            candidate = jax.tree.map(lambda a, b: jnp.where(both, a, b), setting.warm, candidate)
            attempt = state.attempt
            assert attempt is not None
            cold = (state.task == Task.WARM) & stay
            moved = eqx.tree_at(lambda s: s.attempt.warm, moved, attempt.warm & ~cold)
        return eqx.tree_at(lambda s: (s.task, s.candidate), moved, (task.astype(jnp.int32), candidate))


def _warm(state: State) -> Bool[Array, ""]:
    return jnp.array(False) if state.attempt is None else state.attempt.warm


def _merit(m) -> Float[Array, ""]:
    """How far from a solution an iterate is, for choosing between starting points."""
    return jnp.maximum(m.primal, m.dual) + m.relative_gap
