"""The predictor-corrector method on the homogeneous embedding (Goulart and Chen 2024): init, step, terminate."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg.kkt import AbstractKKTSolver
from .._once import computed_once, only_where
from .._results import ConicStatus
from . import certificate, termination
from .direction import Newton
from .equilibration import Scaling
from .extent import extent
from .iterate import Iterate, Measures, Residuals, evaluate, measure
from .program import ConicProgram
from .start import cold_start
from .system import factorize


STEP_FRACTION = 0.99
MOST_STEP_FRACTION = 1.0 - 1e-5  # far enough from one for rounding not to end outside
SMALL_STEP = 1e-4  # no progress
SHORT_PREDICTOR = 0.3
SHORT_STEP = 0.1  # nonsymmetric cones leave the primal-dual scaling
CROWDED_STEP = 1e-2  # symmetric cones get a better centred direction
MAX_RECENTERINGS = 3
LEAST_REGULARIZATION = 100.0  # times the precision
MOST_REGULARIZATION = 1e-5


class State(eqx.Module):
    """Everything the loop carries."""

    iterate: Iterate
    residuals: Residuals
    measures: Measures
    status: Int[Array, ""]
    iterations: Int[Array, ""]
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]
    dual_scaling: Bool[Array, ""]
    least_sigma: Float[Array, ""]  # raised while steps are too short
    recenterings: Int[Array, ""]
    warm: Bool[Array, ""]  # started from a warm point, and not yet fallen back
    started: Int[Array, ""]  # iterations before the last (re)start
    regularization: Float[Array, ""]  # of factorisations, relative
    polished: Bool[Array, ""]  # whether a polish has been tried
    best: Iterate  # the nearest to a solution so far
    best_measures: Float[Array, " k"]
    defect: Float[Array, ""]  # how near it is


class ConicMethod(eqx.Module):
    """The method with the KKT solver it factorises with."""

    solver: AbstractKKTSolver

    def init(
        self, program: ConicProgram, scaling: Scaling, tolerances: termination.Tolerances, warm: Iterate | None = None
    ) -> tuple[State, State | None]:
        """The state at the starting point, and the one to fall back on if a warm start leads nowhere.

        A warm point is used only where it is closer to a solution than the cold start.
        """
        cold = self._at(program, scaling, tolerances, cold_start(program, self.solver))
        if warm is None:
            return cold, None
        state = self._at(program, scaling, tolerances, warm)
        better = _merit(state.measures) < _merit(cold.measures)
        chosen = jax.tree.map(lambda a, b: jnp.where(better, a, b), state, cold)
        return eqx.tree_at(lambda s: s.warm, chosen, better), cold

    def _at(self, program, scaling, tolerances, iterate: Iterate) -> State:
        residuals = evaluate(program, iterate)
        measures = measure(program, scaling, iterate, residuals)
        dtype = iterate.x.dtype
        return State(
            iterate=iterate,
            residuals=residuals,
            measures=measures,
            status=termination.verdict(measures, tolerances),
            iterations=jnp.zeros((), jnp.int32),
            alpha=jnp.zeros((), dtype),
            sigma=jnp.ones((), dtype),
            dual_scaling=jnp.array(False),
            least_sigma=jnp.zeros((), dtype),
            recenterings=jnp.zeros((), jnp.int32),
            warm=jnp.array(False),
            started=jnp.zeros((), jnp.int32),
            regularization=jnp.asarray(LEAST_REGULARIZATION * jnp.finfo(dtype).eps, dtype),
            polished=jnp.array(False),
            best=iterate,
            best_measures=measures.stacked(),
            defect=termination.defect(measures, tolerances),
        )

    def recalled(self, state: State, tolerances: termination.Tolerances) -> State:
        """With the best iterate where rounding errors have led away from it before they ended the solve. As that is the end,
        the residuals are left as they are."""
        measures = state.measures.unstacked(state.best_measures)
        failed = (state.status == ConicStatus.Numerical_Failure) | (state.status == ConicStatus.Optimal_Inaccurate)
        status = termination.fallen(measures, tolerances)
        better = failed & (state.defect < termination.defect(state.measures, tolerances))
        better, status = computed_once((better & termination.has_solution(status), status), state.iterations < 0)
        best = dataclasses.replace(state, iterate=state.best, measures=measures, status=status)
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), best, state)

    def judged(
        self, program: ConicProgram, state: State, tolerances: termination.Tolerances, max_iter: Int[Array, ""]
    ) -> State:
        """A candidate for a certificate, without what is negligible in it, if it proves what it should; otherwise to be
        iterated further, as programs whose points are far away look like ones that have none until tau is that small."""
        m = state.measures
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
            clean = certificate.cleaned(
                program, state.iterate, jnp.asarray(certificate.NEGLIGIBLE, m.ratio.dtype)[carry[0]]
            )
            farkas, ray = (
                termination.proven(error, residual, m, tolerances, state.alpha == 0)
                for error, residual in zip(certificate.errors(program, clean, margin, farthest), residuals)
            )
            return carry[0] + 1, clean, farkas, farkas | ray

        _, clean, farkas, taken = jax.lax.while_loop(
            lambda carry: candidate & ~carry[3] & (carry[0] < len(certificate.NEGLIGIBLE)),
            attempt,
            (jnp.zeros((), int), jax.tree.map(jnp.zeros_like, state.iterate), jnp.array(False), jnp.array(False)),
        )
        out = state.iterations - state.started >= max_iter
        open_status = jnp.where(out, ConicStatus.Iteration_Limit, ConicStatus.Running)
        open_status = jnp.where(state.alpha == 0, ConicStatus.Numerical_Failure, open_status)
        proven = jnp.where(farkas, ConicStatus.Primal_Infeasible, ConicStatus.Dual_Infeasible)
        status = jnp.where(candidate, jnp.where(taken, proven, open_status), state.status).astype(jnp.int32)
        iterate = jax.tree.map(lambda a, b: jnp.where(taken, a, b), clean, state.iterate)
        return dataclasses.replace(state, iterate=iterate, status=status)

    def restarted(self, state: State, fallback: State) -> State:
        """The cold start where a warm one has ended without a verdict."""
        failed = (
            (state.status == ConicStatus.Iteration_Limit)
            | (state.status == ConicStatus.Numerical_Failure)
            | (state.status == ConicStatus.Optimal_Inaccurate)
        )
        fallback = eqx.tree_at(lambda s: (s.iterations, s.started), fallback, (state.iterations, state.iterations))
        return jax.tree.map(lambda a, b: jnp.where(failed & state.warm, a, b), fallback, state)

    def step(
        self,
        program: ConicProgram,
        scaling: Scaling,
        state: State,
        tolerances: termination.Tolerances,
        max_iter: Int[Array, ""],
        prepared: PyTree = None,
    ) -> State:
        """One factorisation, a predictor, a corrector and a step; then the verdict on where it leads.

        ``prepared`` is what the factorisations share.
        """
        v, r = state.iterate, state.residuals
        mu = r.mu
        dtype = v.x.dtype
        cones = program.cones
        cone_scaling = cones.scaling(v.s, v.z, mu, state.dual_scaling)
        system = factorize(program, cone_scaling, self.solver, prepared, state.regularization)
        newton = Newton.at(program, system, v, r)

        affine = newton.affine()
        alpha = self._longest(program, cone_scaling, v, affine, jnp.ones((), dtype))
        affine_alpha = alpha
        sigma = jnp.maximum((1.0 - alpha) ** 3, state.least_sigma)
        # The second-order term is that of a full step. At a badly centred start, or where the predictor does not come far, all of
        # it would lead astray (two iterates can then follow each other for ever).
        damping = jnp.where((state.iterations == 0) | (alpha < SHORT_PREDICTOR), alpha, 1.0)
        target = sigma * mu
        q = cones.combined(cone_scaling, v.s, v.z, affine.s, damping * affine.z, target)
        products = v.tau * v.kappa + damping * affine.tau * affine.kappa - target
        combined, solved = newton.combined(sigma, products, q)
        fraction: Float[Array, ""] | float = STEP_FRACTION
        if cones.polyhedral:
            # Where nothing curves, a predictor that comes close to the boundary may be followed closer to it.
            fraction = jnp.clip(1.0 - 0.1 * (1.0 - affine_alpha), STEP_FRACTION, MOST_STEP_FRACTION)
        alpha = fraction * self._longest(program, cone_scaling, v, combined, jnp.ones((), dtype))
        if not cones.symmetric:
            alpha = self._centred(program, v, combined, alpha, state.dual_scaling)
        alpha = jnp.where(solved & jnp.isfinite(alpha), alpha, 0.0)

        new = v.stepped(combined, alpha)
        residuals = evaluate(program, new)
        measures = measure(program, scaling, new, residuals)
        moved = Progress(new, residuals, measures, alpha, sigma)
        usable, advice = system.usable(), self.solver.advised_regularization(system.factor)
        if advice is not None:
            solved = solved & usable  # a factor that is none may give finite directions
            regularization = jnp.where(usable, advice, state.regularization)
            state = eqx.tree_at(lambda s: s.regularization, state, regularization)
        return self._concluded(state, moved, solved, usable, cones.symmetric, tolerances, max_iter)

    def terminate(self, state: State, until: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether the loop pauses here: with a status, or after ``until`` iterations."""
        return (state.status != ConicStatus.Running) | (state.iterations >= until)

    def _longest(self, program, scaling, v: Iterate, step: Iterate, most) -> Float[Array, ""]:
        for value, change in ((v.tau, step.tau), (v.kappa, step.kappa)):
            most = jnp.where(change < 0, jnp.minimum(most, -value / jnp.where(change < 0, change, -1.0)), most)
        alpha = program.cones.step_length(scaling, v.s, v.z, step.s, step.z, most)
        return jnp.where(jnp.isnan(alpha), 0.0, alpha)

    def _centred(self, program, v: Iterate, step: Iterate, alpha, dual_scaling) -> Float[Array, ""]:
        """With dual scaling, a step back into the neighbourhood of the central path where the barriers sum up to below one."""
        cones = program.cones
        degree = cones.degree().astype(alpha.dtype)

        def far(alpha):
            new = v.stepped(step, alpha)
            mu = (new.s @ new.z + new.tau * new.kappa) / (degree + 1.0)
            value = (degree + 1.0) * jnp.log(mu) - jnp.log(new.tau) - jnp.log(new.kappa) + cones.barrier(new.s, new.z)
            return ~(value < 1.0)

        alpha, _ = jax.lax.while_loop(
            lambda c: dual_scaling & (c[1] < 50) & far(c[0]), lambda c: (0.8 * c[0], c[1] + 1), (alpha, jnp.array(0))
        )
        return alpha

    def _concluded(self, state, moved: "Progress", solved, usable, symmetric: bool, tolerances, max_iter) -> State:
        """Take the step, or stay and try otherwise, or give up."""
        status = termination.verdict(moved.measures, tolerances)
        small = moved.alpha <= SMALL_STEP
        worse = termination.insufficient_progress(state.measures, moved.measures, tolerances) & (state.iterations > 0)
        worse = (worse & (status == ConicStatus.Running)) | ~moved.finite()
        stuck = ~solved | small | worse
        # A failed factorisation is repeated with more regularisation, at the price of an iteration.
        refactor = ~usable & (state.regularization < MOST_REGULARIZATION)
        if symmetric:
            switch = jnp.array(False)
        else:
            switch = (
                ~state.dual_scaling & (stuck | (moved.alpha < SHORT_STEP)) & ~(solved & (status != ConicStatus.Running))
            )
        recenter = solved & (small | worse) & ~switch & (state.recenterings < MAX_RECENTERINGS)
        stay = switch | stuck
        given_up = stuck & ~switch & ~recenter & ~refactor
        fallen = termination.fallen(state.measures, tolerances)
        crowded = (moved.alpha < CROWDED_STEP) | recenter
        least = jnp.where(crowded, jnp.minimum(jnp.maximum(10.0 * moved.sigma, 0.1), 0.9), 0.0)

        def pick(new, old):
            return jax.tree.map(lambda a, b: jnp.where(stay, b, a), new, old)

        status = jnp.where(given_up, fallen, jnp.where(stay, ConicStatus.Running, status))
        defect = jnp.where(stay, jnp.inf, termination.defect(moved.measures, tolerances))
        nearer = defect < state.defect
        out = (status == ConicStatus.Running) & (state.iterations + 1 - state.started >= max_iter)
        status = jnp.where(out, ConicStatus.Iteration_Limit, status).astype(jnp.int32)
        stay, nearer, status = computed_once((stay, nearer, status), state.iterations < 0)
        return State(
            iterate=pick(moved.iterate, state.iterate),
            residuals=pick(moved.residuals, state.residuals),
            measures=pick(moved.measures, state.measures),
            status=status,
            iterations=state.iterations + 1,
            alpha=jnp.where(stay, 0.0, moved.alpha),
            sigma=moved.sigma,
            dual_scaling=state.dual_scaling | switch,
            least_sigma=jnp.where(switch, 0.0, least),
            recenterings=jnp.where(recenter, state.recenterings + 1, jnp.where(stay, state.recenterings, 0)),
            warm=state.warm,
            started=state.started,
            regularization=jnp.where(refactor, 100.0 * state.regularization, state.regularization),
            polished=state.polished,
            best=jax.tree.map(lambda a, b: jnp.where(nearer, a, b), moved.iterate, state.best),
            best_measures=jnp.where(nearer, moved.measures.stacked(), state.best_measures),
            defect=jnp.minimum(defect, state.defect),
        )


class Progress(eqx.Module):
    """Where a step leads."""

    iterate: Iterate
    residuals: Residuals
    measures: Measures
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]

    def finite(self) -> Bool[Array, ""]:
        """Nothing that a stopping test looks at is NaN or infinite."""
        return jnp.all(jnp.isfinite(self.measures.stacked()))


def _merit(m: Measures) -> Float[Array, ""]:
    """How far from a solution an iterate is, for choosing between starting points."""
    return jnp.maximum(m.primal, m.dual) + m.relative_gap
