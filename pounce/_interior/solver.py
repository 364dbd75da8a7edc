"""The interior-point method as ``init`` / ``step`` / ``terminate``: one pass of the loop, for every phase.

A pass asks for derivatives once, judges the iterate, updates the barrier parameter, solves one linear system, and searches
along the direction. The two passes before the first iteration (scaling factors at the user's point, least-squares
multipliers at the pushed one) go through the same code with most of it switched off, so that derivatives, factorisation and
function evaluation appear once each in the compiled program.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._linalg.kkt import AbstractKKTSolver
from .._problem.nlp import AbstractNLP, Derivatives, ScaledNLP
from .._results import Status
from . import start
from .barrier import monotone_update
from .direction import active_set_system, least_squares_system, newton_system, Solved, solve_system, System
from .filter import Filter, Reference
from .iterate import Iterate, maximum_norm, select, View
from .observation import finite_derivatives, Observation, observe
from .options import Choices, Numbers
from .perturbation import Perturbation
from .restoration import phase_view
from .search import ACCEPTED, bound_direction, FAILED, line_search, PASSED, SOFT_ACCEPTED, SOFT_TENTATIVE
from .start import Bounds, WarmStart
from .state import (
    Backup,
    Counts,
    Direction,
    Entry,
    Frame,
    Globalization,
    Point,
    REGULAR,
    Report,
    RESTORING,
    Row,
    SCALING,
    STARTING,
    State,
    Watchdog,
)
from .termination import infeasible_or_failed, judge
from .transitions import accepted, certified, estimated, restoration


class InteriorPointMethod(eqx.Module):
    """A primal-dual interior-point filter line-search method (Waechter and Biegler 2006)."""

    linear_solver: AbstractKKTSolver
    choices: Choices
    filter_capacity: int = eqx.field(static=True, default=64)
    history: int = eqx.field(static=True, default=0)

    def init(
        self,
        nlp: AbstractNLP,
        x0: Float[Array, " n"],
        bounds: Bounds,
        user_scaling: tuple[Float[Array, ""], Float[Array, " m"]] | None,
        numbers: Numbers,
    ) -> State:
        """State before the first pass."""
        choices = self.choices
        frame, status = start.build_frame(bounds, numbers, choices)
        x = start.starting_variables(frame, bounds, x0)
        m = frame.equality.shape[0]
        scale_first = choices.nlp_scaling_method == "gradient-based"
        if choices.nlp_scaling_method == "user-scaling" and user_scaling is not None:
            objective, rows = user_scaling
            frame = start.scaled_frame(frame, objective * numbers.obj_scaling_factor, frame.row_scale * jnp.abs(rows))
        elif not scale_first:
            frame = start.scaled_frame(frame, numbers.obj_scaling_factor, frame.row_scale)
        if not scale_first:
            x = start.push_variables(frame, x, numbers, choices)
        zero, none, no = jnp.zeros((), x.dtype), jnp.array(0), jnp.array(False)
        y = jnp.zeros(m, x.dtype)
        iterate = Iterate(jnp.concatenate([x, jnp.zeros(3 * m, x.dtype)]), y, jnp.zeros(frame.bound.shape, x.dtype))
        point = Point(iterate, zero, y)
        globalization = _fresh_globalization(point, numbers, self.filter_capacity)
        row = Row(zero, zero, zero, zero, zero, zero, zero, zero, none, none, no)
        history = None
        if self.history:
            history = _broadcast_rows(row, self.history)
        return State(
            jnp.array(SCALING if scale_first else STARTING),
            status,
            none,
            iterate,
            frame,
            globalization,
            globalization,
            Entry(iterate, zero, none),
            Backup(no, point, zero),
            no,
            row,
            Report(zero, zero, zero, zero, zero, zero, zero, no, no),
            jnp.zeros_like(x),
            zero,
            y,
            Counts(none, none, none, none),
            history,
        )

    def terminate(self, state: State) -> Bool[Array, ""]:
        return state.status != Status.Running

    def step(self, nlp: AbstractNLP, bounds: Bounds, warm: WarmStart | None, state: State, numbers: Numbers) -> State:
        """One pass. A state that has ended comes back unchanged."""
        o, choices, phase = numbers, self.choices, state.phase
        n = state.frame.free.shape[0]
        restoring, starting, iterating = phase == RESTORING, phase == STARTING, phase >= REGULAR
        scaled = ScaledNLP(nlp, state.frame.objective_scale, state.frame.row_scale, state.frame.row_shift)
        weight = jnp.where(restoring, 0.0, 1.0).astype(o.tol.dtype)
        d = scaled.derivatives(state.iterate.primal[:n], state.iterate.rows, weight, second_order=True)
        frame, iterate = self._prepare(state, d, warm, o)
        seen = observe(d, frame, iterate, state, o)
        fixed_gradient = d.gradient + iterate.rows @ d.jacobian
        state = eqx.tree_at(
            lambda s: (s.objective, s.rows, s.fixed_gradient), state, (d.objective, d.rows, fixed_gradient)
        )
        running = state.status == Status.Running

        # A soft restoration step is kept only if it reduced the primal-dual error, which takes derivatives to see.
        backup = state.backup
        reduced = seen.errors.system <= o.soft_resto_pderror_reduction_factor * backup.system_error
        relapse = running & iterating & backup.pending & ~reduced

        judged, is_acceptable = self._judge(state, seen, iterating & ~relapse, o)
        running = judged.status == Status.Running
        feasible = seen.errors.unscaled_violation <= o.constr_viol_tol
        ended = ~running & (state.status == Status.Running) & (phase == REGULAR)
        squared = running & (phase == REGULAR) & seen.square & feasible & ~state.estimated & ~relapse
        least_squares = (running & starting) | squared
        searching = running & iterating & ~squared & ~relapse

        g, stuck = self._update_barrier(judged.globalization, seen, frame, state, searching, o)
        searching = searching & ~stuck
        view = phase_view(frame, phase, g.mu, state.entry, o)
        gradient = view.objective_gradient(d.gradient, iterate.primal)
        solved, system, rhs = self._solve(seen, view, gradient, g, squared, least_squares, ended, searching, o)
        g = eqx.tree_at(lambda q: q.perturbation, g, solved.perturbation)
        bound_step = bound_direction(view, iterate, seen.slack, g.mu, solved.primal)
        direction = Direction(solved.primal, solved.rows, bound_step)

        def correct(rows):
            """The same matrix and dual residual with other row residuals; one refinement, no test."""
            wanted, dw, dc = (rhs[0], -rows), solved.perturbation.dw, solved.perturbation.dc
            step = system.solve(self.linear_solver, solved.factor, dw, wanted)
            left = [a - b for a, b in zip(wanted, system.apply(dw, dc, step))]
            more = system.solve(self.linear_solver, solved.factor, dw, tuple(left))
            return step[0] + more[0], step[1] + more[1]

        slope = -jnp.sum(_barrier_rhs(view, gradient, seen.slack, g.mu) * direction.primal)
        force = (state.iteration == 0) & (phase == REGULAR) & choices.start_with_resto
        here = Point(iterate, d.objective, d.rows)
        outcome = line_search(
            scaled, view, here, seen.slack, direction, solved.success, slope, correct, g, searching, force, o, choices
        )
        g = select(searching, outcome.globalization, g)
        failed = searching & (outcome.result == FAILED)
        took = searching & ~failed

        main = jnp.arange(direction.primal.shape[0]) < n + frame.equality.shape[0]
        row = Row(
            judged.row.objective,
            judged.row.primal_infeasibility,
            judged.row.dual_infeasibility,
            g.mu,
            maximum_norm(jnp.where(main | restoring, direction.primal, 0.0)),
            solved.perturbation.dw,
            outcome.alpha_dual,
            outcome.alpha,
            outcome.tag,
            outcome.trials,
            restoring,
        )
        origin = select(relapse, backup.point, outcome.origin)
        sure = is_acceptable & ~relapse & ~outcome.reverted
        result = eqx.tree_at(lambda s: (s.globalization), judged, select(searching | relapse, g, judged.globalization))
        results = (
            (took, accepted(judged, seen, view, frame, g, outcome, g.mu, row, o)),
            (failed | relapse, restoration(judged, seen, g, frame, origin, sure, relapse, row, o)),
            (least_squares, estimated(judged, seen, frame, solved, squared, choices.warm_start_init_point, o)),
            (ended, certified(judged, seen, solved)),
            (stuck, _stopped(judged, seen, restoring, o)),
            (running & (phase == SCALING), _scaled_state(judged, frame, iterate)),
        )
        result = judged
        for condition, candidate in results:
            result = select(condition, candidate, result)
        counts = Counts(
            state.counts.evaluations + outcome.evaluations,
            state.counts.factorizations + solved.factorizations,
            result.counts.restorations,
            state.counts.restoration_iterations + (took & restoring),
        )
        return eqx.tree_at(lambda s: s.counts, result, counts)

    def _prepare(self, state: State, d: Derivatives, warm: WarmStart | None, o: Numbers) -> tuple[Frame, Iterate]:
        """Frame and iterate, with what the two starting phases add to them."""
        frame, iterate, choices = state.frame, state.iterate, self.choices
        n, m = frame.free.shape[0], frame.equality.shape[0]
        if choices.nlp_scaling_method == "gradient-based":
            objective, rows = start.scaling_factors(frame, d, o)
            scaled = start.scaled_frame(frame, objective * o.obj_scaling_factor, rows)
            x = start.push_variables(scaled, iterate.primal[:n], o, choices)
            pushed = eqx.tree_at(lambda i: i.primal, iterate, jnp.concatenate([x, iterate.primal[n:]]))
            frame, iterate = select(state.phase == SCALING, (scaled, pushed), (frame, iterate))
        slacks = start.push_slacks(frame, d.rows, o, choices)
        primal = jnp.concatenate([iterate.primal[:n], slacks, jnp.zeros(2 * m, slacks.dtype)])
        first = start.first_multipliers(frame, primal, o.mu_init, warm, o, choices)
        return frame, select(state.phase == STARTING, first, iterate)

    def _judge(self, state: State, seen: Observation, judging: Bool[Array, ""], o: Numbers):
        """The state with its verdict, table row and errors; and whether its iterate is acceptable."""
        errors, g, restoring = seen.errors, state.globalization, state.phase == RESTORING
        verdict = judge(state, errors, seen.infeasibility, seen.finite, seen.square, o)
        # The starting passes only look for functions that cannot be evaluated at all.
        broken = (state.phase == STARTING) & ~finite_derivatives(seen.derivatives, restoring)
        status = jnp.where(judging, verdict.status, jnp.where(broken, Status.Invalid_Number_Detected, Status.Running))
        status = jnp.where(state.status == Status.Running, status, state.status).astype(jnp.int32)
        violation = errors.primal if self.choices.inf_pr_output == "internal" else seen.row_violation
        row = eqx.tree_at(
            lambda r: (r.objective, r.primal_infeasibility, r.dual_infeasibility, r.restoring, r.mu),
            state.row,
            (
                state.objective / state.frame.objective_scale,
                violation,
                errors.dual,
                restoring,
                jnp.where(state.iteration == 0, g.mu, state.row.mu),
            ),
        )
        report = eqx.tree_at(
            lambda r: (r.kkt_error, r.stationarity, r.violation, r.complementarity, r.mu),
            state.report,
            (
                errors.overall(o.mu_target),
                errors.unscaled_dual,
                seen.row_violation,
                errors.unscaled_complementarity,
                g.mu,
            ),
        )
        fine = verdict.acceptable & judging
        g = eqx.tree_at(
            lambda q: (q.tol, q.acceptable_count, q.acceptable, q.has_acceptable, q.last_objective),
            g,
            (
                verdict.tol,
                jnp.where(fine, g.acceptable_count + 1, 0),
                select(fine, seen.iterate, g.acceptable),
                g.has_acceptable | fine,
                state.objective,
            ),
        )
        g = select(judging, g, state.globalization)
        history = state.history
        if history is not None:
            here = (jnp.arange(self.history) == state.iteration) & judging
            history = _written(history, row, here)
        judged = eqx.tree_at(
            lambda s: (s.status, s.row, s.report, s.globalization, s.history),
            state,
            (status, row, report, g, history),
            is_leaf=lambda leaf: leaf is None,
        )
        return judged, fine

    def _update_barrier(
        self, g: Globalization, seen: Observation, frame: Frame, state: State, searching: Bool[Array, ""], o: Numbers
    ) -> tuple[Globalization, Bool[Array, ""]]:
        """The globalisation state with its new barrier parameter, and whether tiny steps end the solve."""
        scale = jnp.where(seen.view.restoring, 1.0, jnp.abs(frame.objective_scale))
        update = monotone_update(
            seen.error_at,
            g.mu,
            g.tau,
            g.tol,
            o.compl_inf_tol * scale,
            g.tiny_flag,
            g.first | ~searching,
            state.iteration > 0,
            o,
            self.choices,
        )
        kept = ~update.reset
        g_new = eqx.tree_at(
            lambda q: (q.mu, q.tau, q.first, q.tiny_flag, q.filter, q.watchdog.active, q.soft, q.soft_count, q.shortened),
            g,
            (
                update.mu,
                update.tau,
                jnp.array(False),
                jnp.array(False),
                g.filter.cleared(update.reset),
                g.watchdog.active & kept,
                g.soft & kept,
                jnp.where(kept, g.soft_count, 0),
                jnp.where(kept, g.shortened, 0),
            ),
        )
        return select(searching, g_new, g), searching & update.stuck

    def _solve(
        self, seen: Observation, view: View, gradient, g: Globalization, squared, least_squares, ended, searching, o: Numbers
    ) -> tuple[Solved, System, tuple]:
        """One linear system: Newton's, the least-squares problem for the row multipliers, or, at the end, that of the
        active set, solved for no particular right-hand side to learn whether the solution can be differentiated."""
        d, iterate, slack = seen.derivatives, seen.iterate, seen.slack
        barrier = _barrier_rhs(view, gradient, slack, g.mu) - view.transposed_rows(d.jacobian, iterate.rows)
        z = jnp.where(squared, 0.0, iterate.bounds)
        dual = jnp.where(view.active, z[0] - z[1] - gradient, 0.0)
        residual = view.residual(d.rows, iterate.primal)
        sigma = jnp.sum(iterate.bounds / slack, axis=0)
        system = newton_system(view, d.hessian, d.jacobian, sigma)
        system = select(least_squares, least_squares_system(view, d.jacobian), system)
        final = active_set_system(view, d.hessian, d.jacobian, seen.bound_active)
        system = select(ended, final, system)
        primal_rhs, row_rhs = jnp.where(least_squares, dual, barrier), jnp.where(least_squares, 0.0, -residual)
        probe = jnp.cos(jnp.arange(primal_rhs.shape[0], dtype=primal_rhs.dtype))
        rhs = (
            jnp.where(ended, jnp.where(final.active, probe, 0.0), primal_rhs),
            jnp.where(ended, jnp.where(final.present, probe[: residual.shape[0]], 0.0), row_rhs),
        )
        solved = solve_system(
            self.linear_solver,
            system,
            rhs,
            g.perturbation,
            g.mu,
            least_squares | ended,
            searching | least_squares | ended,
            o,
            self.choices.perturb_always_cd,
        )
        return solved, system, rhs


def _barrier_rhs(view: View, gradient, slack, mu) -> Float[Array, " N"]:
    """Minus the gradient of the barrier objective on the unknowns of the phase."""
    return jnp.where(view.active, -view.barrier_gradient(gradient, slack, mu), 0.0)


def _stopped(judged: State, seen: Observation, restoring: Bool[Array, ""], o: Numbers) -> State:
    """Tiny steps at the smallest barrier parameter."""
    end = jnp.where(
        restoring, infeasible_or_failed(seen.infeasibility, o), Status.Search_Direction_Becomes_Too_Small
    )
    return eqx.tree_at(lambda s: s.status, judged, end.astype(jnp.int32))


def _scaled_state(judged: State, frame: Frame, iterate: Iterate) -> State:
    return eqx.tree_at(lambda s: (s.phase, s.frame, s.iterate), judged, (jnp.array(STARTING), frame, iterate))


def _fresh_globalization(point: Point, o: Numbers, capacity: int) -> Globalization:
    dtype, iterate = point.objective.dtype, point.iterate
    zero, none, no = jnp.zeros((), dtype), jnp.array(0), jnp.array(False)
    reference = Reference(zero, zero, zero)
    direction = Direction(*(jnp.zeros_like(leaf) for leaf in (iterate.primal, iterate.rows, iterate.bounds)))
    return Globalization(
        mu=o.mu_init,
        tau=jnp.maximum(o.tau_min, 1 - o.mu_init),
        tol=o.tol,
        first=no,
        filter=Filter.empty(capacity, dtype),
        theta_max=zero - 1,
        theta_min=zero - 1,
        reference=reference,
        last_rejected_by_filter=no,
        filter_rejections=none,
        perturbation=Perturbation.fresh(dtype),
        acceptable_count=none,
        acceptable=iterate,
        has_acceptable=no,
        last_objective=zero + jnp.inf,
        tiny_last=no,
        tiny_flag=no,
        shortened=none,
        watchdog=Watchdog(no, none, point, direction, zero, reference),
        soft=no,
        soft_count=none,
        adaptive=None,
        quasi_newton=None,
    )


def _broadcast_rows(row: Row, length: int) -> Row:
    return jax.tree.map(lambda leaf: jnp.zeros((length,), leaf.dtype), row)


def _written(history: Row, row: Row, here: Bool[Array, " h"]) -> Row:
    return jax.tree.map(lambda column, value: jnp.where(here, value, column), history, row)
