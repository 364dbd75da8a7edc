"""The second half of a pass: what follows from its last trial."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._choose import merge, select, where
from .._once import computed_once, only_where
from .._results import Status
from .barrier import AbstractBarrier
from .certification import to_certify
from .iterate import maximum_norm
from .options import Choices, Numbers
from .passing import Pass
from .reporting import answering
from .search import end_search, trials_of
from .state import Counts, Globalization, Phase, Row, State
from .transitions import accepted, certified, estimated, leaving_restoration, restoration, scaled, stopped
from .trial_records import Outcome, Result, Trial


class Transition(NamedTuple):
    """One of the outcomes of a pass, which exclude each other."""

    name: str
    when: Bool[Array, ""]
    after: State  # what it leaves alone is the same object as in the judged state, and costs nothing


def concluded(found: Pass, last: Trial, barrier: AbstractBarrier, o: Numbers, choices: Choices) -> State:
    """The state that the last trial of a pass leads to."""
    judged, events, searching = found.judged, found.events, found.search.mode.enabled
    restoring = found.seen.view.restoring
    outcome = end_search(found.search, last, o, choices)
    g = select(searching, outcome.globalization, found.search.globalization)
    failed = searching & (outcome.result == Result.FAILED)
    took = searching & ~failed
    row = _row(found, last, outcome, g)

    base = select(events.relapse, judged.memory.stored, outcome.base)
    sure = found.is_acceptable & ~events.relapse & ~last.reverted
    clip_mu = barrier.clipping_mu(found.search.view, outcome.point.iterate, g, o)
    table = [
        Transition("a step", took, accepted(found, outcome, g, clip_mu, last.reverted, row, o)),
        Transition("no step", failed | events.relapse, restoration(found, base, g, sure, row, o)),
        Transition("multipliers", events.least_squares, estimated(found, o)),
        Transition("stopped", events.stuck, stopped(found, o)),
        Transition(
            "scaled", events.running & (judged.phase == Phase.SCALING), scaled(judged, found.frame, found.seen.iterate)
        ),
    ]
    if events.going_back is not None:
        table.append(Transition("gone back", events.going_back, barrier.gone_back(judged, g)))
    result = _merged(judged, table)

    # What may follow from that, one after the other. Leaving restoration is seldom, and half of the state: nothing that other
    # passes should pay for.
    square = found.seen.original.square
    result = only_where(took & restoring, lambda now: leaving_restoration(now, square, barrier, o), result)
    if events.certifying is not None:  # and nothing else has come of the pass
        result = certified(result, found.seen, found.solved, last, events.certifying)
    restored = (failed | events.relapse) & (result.status == Status.Running) & ~restoring
    result = _counted(result, found, last, restored, took & restoring)
    result = _looked_at(result, judged.phase)
    return answering(result, to_certify(result, result.status), o, choices)


def _merged(judged: State, table: list[Transition]) -> State:
    """The state after the one that happens; the judged one where none does."""
    conditions = computed_once([transition.when for transition in table], judged.iteration < 0)
    return merge(judged, list(zip(conditions, (transition.after for transition in table), strict=True)))


def _row(found: Pass, last: Trial, outcome: Outcome, g: Globalization) -> Row:
    """How the iteration table shows the step."""
    search, frame = found.search, found.frame
    step = search.departure(jnp.zeros_like(search.mode.enabled), lambda base: base.direction.primal)
    main = jnp.arange(step.shape[0]) < frame.free.shape[0] + frame.equality.shape[0]
    restoring = found.seen.view.restoring
    figures = (
        g.mu,
        maximum_norm(where(main | restoring, step, 0.0)),
        found.solved.perturbation.dw,
        outcome.alpha_dual,
        outcome.alpha,
    )
    return Row(jnp.stack(figures), outcome.tag, trials_of(search, last))


def _counted(result: State, found: Pass, last: Trial, restored: Bool[Array, ""], restoring: Bool[Array, ""]) -> State:
    """With the work of the pass. ``restored``: it has entered restoration; ``restoring``: its step was one of that."""
    done = last.evaluations, found.solved.factorizations, restored.astype(int), restoring.astype(int)
    counts = Counts(found.judged.counts.numbers + jnp.stack(done))
    return eqx.tree_at(lambda s: s.counts, result, counts)


def _looked_at(result: State, before: Int[Array, ""]) -> State:
    """With the phase after a pass that only looked at the answer of a solve, in the phase ``before``."""
    looked = where(
        before == Phase.REPORTING, Phase.REPORTED, where(result.phase == Phase.UNSEEN, Phase.REGULAR, result.phase)
    )
    return eqx.tree_at(lambda s: s.phase, result, where(before >= Phase.UNSEEN, looked, result.phase))
