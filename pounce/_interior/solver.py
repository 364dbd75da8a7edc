"""The interior-point method as ``init`` / ``step`` / ``terminate``: one pass of the loop, for every phase.

A step is ``look``, trials, ``conclude``; a caller that evaluates the functions itself goes through these one by one.

A pass asks for derivatives once, judges the iterate, updates the barrier parameter, solves one linear system, and searches
along the direction. The two passes before the first iteration (scaling factors at the user's point, least-squares
multipliers at the pushed one) go through the same code with most of it switched off, so that derivatives, factorisation and
function evaluation appear once each in the compiled program.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._choose import select, where
from .._linalg.kkt import AbstractKKTSolver
from .._linalg.matrix import transposed_times
from .._linalg.sparse import Pattern
from .._once import only_where
from .._problem.nlp import AbstractNLP, Derivatives, ScaledNLP
from .._results import Status
from . import certification, quasi_newton, start
from .barrier import AbstractBarrier, Linear
from .barriers import barrier_of
from .certification import to_certify
from .conclusion import concluded
from .direction import Correction
from .globalization import first_globalization, first_memory
from .history import blank_history, blank_report
from .iterate import Iterate
from .judging import judged_state
from .newton import barrier_rhs, solve_pass
from .observation import observe
from .options import Choices, Numbers
from .passing import Events, Pass
from .records import Packed
from .reporting import begun, placed
from .search import begin_search, bound_direction
from .start import Bounds, Seeds
from .state import (
    Answer,
    Beginning,
    Counts,
    Direction,
    Entry,
    Frame,
    Log,
    Phase,
    Point,
    Row,
    Standing,
    State,
    Suspended,
)
from .transitions import rows_outdated, scaled
from .trial import candidate, judge_trial, measuring
from .trial_records import Result, Trial


MOST_STALLS = 6


class InteriorPointMethod(eqx.Module):
    """A primal-dual interior-point filter line-search method (Waechter and Biegler 2006)."""

    linear_solver: AbstractKKTSolver
    choices: Choices
    constants: tuple[float, ...] = eqx.field(static=True, default=Numbers().split()[1])
    filter_capacity: int = eqx.field(static=True, default=32)
    history: int = eqx.field(static=True, default=0)
    sparse: Pattern | None = eqx.field(static=True, default=None)  # where the entries of a sparse Jacobian are
    # Whether solutions say what is active and if they can be differentiated.
    certify: bool = eqx.field(static=True, default=True)

    @property
    def barrier(self) -> AbstractBarrier:
        """The strategy for the barrier parameter."""
        return barrier_of(self.choices)

    def init(
        self,
        x0: Float[Array | np.ndarray, " n"],
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
            x = start.push_inside(frame, x, jnp.zeros(m, x.dtype), numbers)[: x.shape[0]]
        zero, none, no = jnp.zeros((), x.dtype), jnp.array(0), jnp.array(False)
        y = jnp.zeros(m, x.dtype)
        iterate = Iterate(jnp.concatenate([x, jnp.zeros(3 * m, x.dtype)]), y, jnp.zeros(frame.bound.shape, x.dtype))
        point = Point(iterate, zero, y)
        capacity = self.filter_capacity
        barrier = self.barrier.first(point, capacity, numbers)
        globalization = first_globalization(point, numbers, choices, capacity, barrier, self.sparse)
        row = Row(jnp.stack([globalization.mu, *[zero] * 4]), none, none)
        history = None
        if self.history:
            history = blank_history(row, zero, no, self.history)
        return State(
            standing=Standing(
                phase=jnp.array(Phase.SCALING if scale_first else Phase.STARTING),
                status=status,
                iteration=none,
                estimated=no,
            ),
            point=point,
            frame=frame,
            globalization=globalization,
            memory=first_memory(point),
            suspended=Suspended(
                outer=Packed.of(globalization),
                entry=Entry(iterate.primal, iterate.bounds, infeasibility=zero, steps=none, tightened=no),
            ),
            log=Log(row=row, report=blank_report(zero), counts=Counts(jnp.zeros(4, int)), history=history),
            answer=Answer(
                beginning=Beginning(x, jnp.concatenate([zero[None] + jnp.inf, y])),
                finding=certification.nothing_found(x, y) if self.certify else None,
                lagrangian=jnp.zeros_like(x),
            ),
        )

    def terminate(self, state: State) -> Bool[Array, ""]:
        more = to_certify(state, state.status) | (state.phase == Phase.REPORTING)
        return (state.status != Status.Running) & ~more

    def step(self, nlp: AbstractNLP, warm: Seeds | None, state: State, numbers: Numbers) -> State:
        """One pass. A state that has ended comes back unchanged."""
        return self.step_and_pass(nlp, warm, state, numbers)[0]

    def step_and_pass(self, nlp: AbstractNLP, warm: Seeds | None, state: State, numbers: Numbers) -> tuple[State, Pass]:
        """As `step`, with what the pass knew."""
        scaled = ScaledNLP(nlp, state.frame.scaling)
        d = scaled.derivatives(*self.asked(state), second_order=self.choices.hessian_approximation == "exact")
        found, first = self.look(d, warm, state, numbers)

        def attempt(trial: Trial) -> Trial:
            f, rows = scaled.evaluate(candidate(found.search, trial)[: found.search.view.n])
            return judge_trial(found.search, trial, f, rows, numbers, self.choices)

        def wanted(trial: Trial) -> Bool[Array, ""]:
            return (trial.result == Result.SEARCHING) | (trial.result == Result.MEASURING)

        last = jax.lax.while_loop(wanted, attempt, first)
        return self.conclude(found, last, numbers), found

    def asked(self, state: State) -> tuple[Float[Array, " n"], Float[Array, " m"], Float[Array, ""]]:
        """Point, row multipliers and objective weight that the next pass wants the scaled derivatives for."""
        weight = where(state.phase == Phase.RESTORING, 0.0, 1.0).astype(state.objective.dtype)
        x, y = state.iterate.primal[: state.frame.free.shape[0]], state.iterate.rows
        if state.finding is not None:
            x, y = select(state.phase == Phase.CERTIFYING, (state.finding.x, state.finding.rows), (x, y))
        return x, y, weight

    def scale(self, d: Derivatives, state: State, numbers: Numbers) -> State:
        """What the pass of the phase SCALING comes to, without the rest of a pass."""
        beginning = begun(state.beginning, d, state.frame, jnp.array(True))
        frame, iterate = self._prepare(state, d, None, numbers)
        return scaled(eqx.tree_at(lambda s: s.beginning, state, beginning), frame, iterate)

    def look(self, d: Derivatives, warm: Seeds | None, state: State, numbers: Numbers) -> tuple[Pass, Trial]:
        """The first half of a pass: everything up to its first trial, from the scaled derivatives."""
        o, choices, phase = numbers, self.choices, state.phase
        starting, iterating = phase == Phase.STARTING, (phase == Phase.REGULAR) | (phase == Phase.RESTORING)
        first_phase = Phase.SCALING if choices.nlp_scaling_method == "gradient-based" else Phase.STARTING
        beginning = begun(state.beginning, d, state.frame, phase == first_phase)
        frame, iterate = self._prepare(state, d, warm, o)
        seen = observe(d, frame, iterate, state, o)
        lagrangian = d.gradient + transposed_times(d.jacobian, iterate.rows)
        here = select(
            phase == Phase.CERTIFYING,
            (state.objective, state.rows, state.lagrangian),
            (d.objective, d.rows, lagrangian),
        )
        state = eqx.tree_at(lambda s: (s.objective, s.rows, s.lagrangian, s.beginning), state, (*here, beginning))
        running = state.status == Status.Running

        # A soft restoration step is kept only if it reduced the primal-dual error, which takes derivatives to see.
        reduced = seen.errors.system <= o.soft_resto_pderror_reduction_factor * state.memory.stored_error
        relapse = running & iterating & state.row.soft & ~reduced

        recalculating = jnp.array(False)
        if choices.recalc_y:
            relapse = relapse & ~state.estimated  # settled before the estimate
            recalculating = running & iterating & ~relapse & rows_outdated(state, seen, o)
        judging = iterating & ~relapse & ~recalculating
        judged, is_acceptable = judged_state(state, seen, judging, o, choices)
        running = judged.status == Status.Running
        feasible = seen.errors.unscaled.violation <= o.constr_viol_tol
        ended = ~running & (state.status == Status.Running) & (phase == Phase.REGULAR)
        certifying = to_certify(state, judged.status) if self.certify else None
        squared = running & (phase == Phase.REGULAR) & seen.original.square & feasible & ~state.estimated & ~relapse
        least_squares = (running & starting) | squared | recalculating
        searching = running & judging & ~squared

        last_dw = state.row.regularization
        g = quasi_newton.updated(judged.globalization, seen.view, iterate, d, last_dw, searching, o, choices)
        judged = eqx.tree_at(lambda s: s.globalization, judged, g)

        updated = self.barrier.update(judged, seen, frame, searching, o)
        going_back = updated.going_back
        # A function whose searches stall again and again, with luck between, is noise.
        stuck = updated.stuck | (searching & (judged.memory.stalls >= MOST_STALLS))
        searching = searching & ~(stuck if going_back is None else stuck | going_back)
        always_dc = choices.perturb_always_cd
        solved, system, rhs = solve_pass(
            self.linear_solver, seen, updated.globalization, squared, least_squares, searching, o, always_dc,
            certifying, state,
        )  # fmt: skip
        g = eqx.tree_at(lambda q: q.perturbation, updated.globalization, solved.perturbation)
        linear = Linear(solver=self.linear_solver, system=system, rhs=rhs, solved=solved)
        aimed = self.barrier.aim(judged, seen, frame, g, linear, searching, o)
        g, solved, view = aimed.globalization, aimed.solved, aimed.view
        bound_step = bound_direction(view, iterate, seen.slack, aimed.target, solved.primal)
        direction = Direction(solved.primal, solved.rows, bound_step)
        correction = Correction(
            linear_solver=self.linear_solver,
            system=system,
            factor=solved.factor,
            perturbation=solved.perturbation,
            primal_rhs=aimed.primal_rhs,
        )
        slope = -jnp.sum(barrier_rhs(view, aimed.gradient, seen.slack, g.mu) * direction.primal)
        force = (state.iteration == 0) & (phase == Phase.REGULAR) & choices.start_with_resto
        here = Point(iterate, d.objective, d.rows)
        if certifying is not None:
            origin = jnp.concatenate([self.asked(state)[0], iterate.primal[view.n :]])
            here = eqx.tree_at(
                lambda p: p.iterate.primal, here, where(phase == Phase.CERTIFYING, origin, iterate.primal)
            )
        search, first = begin_search(
            view, here, seen.slack, direction, solved.success, slope, correction, g, updated.memory, state.row,
            updated.soft, searching, force, o, choices,
        )  # fmt: skip
        if certifying is not None:
            first = measuring(first, certifying, solved.examined.reach)
        events = Events(
            running=running,
            shown=judging & (searching | ended | stuck),
            relapse=relapse,
            least_squares=least_squares,
            squared=squared,
            certifying=certifying,
            stuck=stuck,
            going_back=going_back,
        )
        found = Pass(
            judged=judged,
            seen=seen,
            frame=frame,
            search=search,
            solved=solved,
            is_acceptable=is_acceptable,
            events=events,
        )
        return found, first

    def conclude(self, found: Pass, last: Trial, numbers: Numbers) -> State:
        """The second half: the state that the last trial of a pass leads to."""
        return concluded(found, last, self.barrier, numbers, self.choices)

    def _prepare(self, state: State, d: Derivatives, warm: Seeds | None, o: Numbers) -> tuple[Frame, Iterate]:
        """Frame and iterate, with what the two starting phases add to them."""
        phase = state.phase
        return only_where(
            (phase == Phase.SCALING) | (phase == Phase.STARTING) | (phase == Phase.REPORTING),
            lambda known: self._prepared(state, known[0], known[1], d, warm, o),
            (state.frame, state.iterate),
        )

    def _prepared(
        self, state: State, frame: Frame, iterate: Iterate, d: Derivatives, warm: Seeds | None, o: Numbers
    ) -> tuple[Frame, Iterate]:
        """Frame and iterate, with what such a phase adds to them."""
        choices = self.choices
        n, m = frame.free.shape[0], frame.equality.shape[0]
        if choices.nlp_scaling_method == "gradient-based":
            objective, rows = start.scaling_factors(frame, d, o)
            scaled = start.scaled_frame(frame, objective * o.obj_scaling_factor, rows)
            frame = select(state.phase == Phase.SCALING, scaled, frame)
        inside = start.push_inside(frame, iterate.primal[:n], d.rows, o)
        first = start.first_multipliers(
            frame, jnp.concatenate([inside, jnp.zeros(2 * m, inside.dtype)]), o.mu_init, warm, o, choices
        )
        return frame, select(state.phase == Phase.REPORTING, placed(frame, iterate, d.rows), first)
