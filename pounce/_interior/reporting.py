"""Which point a solve answers with, once it has ended; and whether that point is to be looked at once more.

What is said of a solution has to be true of the point that comes back. A solve that has ended without success goes back from
where its watchdog stood to where that started, and to the user's point if it found none better. Wherever this, or the
restoration phase, leaves a report of something else than the answer, one more pass looks at the answer in the problem itself.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where
from .._once import only_where
from .._problem.nlp import Derivatives
from .._results import Status
from .._solution import is_solved
from .iterate import Iterate
from .options import Choices, Numbers
from .state import Beginning, Frame, Phase, Point, State


def begun(beginning: Beginning, d: Derivatives, frame: Frame, now: Bool[Array, ""]) -> Beginning:
    """Where ``now``, with the functions at its point, which ``d`` has in the scale of ``frame``."""
    values = jnp.concatenate([(d.objective / frame.objective_scale)[None], d.rows / frame.row_scale])
    return Beginning(beginning.x, where(now, values, beginning.values))


def answering(state: State, more: Bool[Array, ""], o: Numbers, choices: Choices) -> State:
    """The state; where it has ended and ``more`` is not to be found out about it, with the iterate that it answers with, and in
    the phase REPORTING where one more pass is to look at that."""
    # A problem that is none has been looked at nowhere.
    looked_at = (state.phase < Phase.REPORTING) & (state.beginning.objective != jnp.inf)
    ended = (state.status != Status.Running) & ~more & looked_at

    def answer(known: tuple) -> tuple:
        return _answer(eqx.tree_at(_of_an_answer, state, known), o, choices)

    return eqx.tree_at(_of_an_answer, state, only_where(ended, answer, _of_an_answer(state)))


def _of_an_answer(state: State) -> tuple:
    return state.status, state.iterate, state.iteration, state.phase


def _answer(state: State, o: Numbers, choices: Choices) -> tuple:
    """What `_of_an_answer` becomes at the end."""
    frame, first, phase, status, n = state.frame, state.beginning, state.phase, state.status, state.frame.free.size
    failed = ~is_solved(status)
    back = failed & state.memory.watchdog
    point = only_where(
        back, lambda here: state.memory.stored_point(here.iterate.primal.size, here.rows.size), state.point
    )
    iterate, no = point.iterate, jnp.zeros_like(failed)
    restart, refuted = only_where(failed, lambda _: _compared_with_start(state, point, o), (no, no))
    x = where(restart, first.x, iterate.primal[:n])
    again = back | restart | (phase == Phase.RESTORING) | (phase == Phase.STARTING) | (phase == Phase.UNSEEN)
    if choices.honor_original_bounds:
        has, stated = frame.has[:, :n], frame.stated[:, :n]
        clipped = jnp.clip(x, where(has[0], stated[0], -jnp.inf), where(has[1], stated[1], jnp.inf))
        again = again | jnp.any(clipped != x)
        x = clipped
    # The step that certifies a verdict of the restoration phase is not counted (nor printed by Ipopt).
    verdict = (status == Status.Infeasible_Problem_Detected) | (status == Status.Restoration_Failed)
    certified = (phase == Phase.RESTORING) & verdict & (state.entry.steps > 0)
    return (
        where(refuted, jnp.asarray(Status.Restoration_Failed, status.dtype), status),
        eqx.tree_at(lambda i: i.primal, iterate, jnp.concatenate([x, iterate.primal[n:]])),
        state.iteration - certified,
        where(again, Phase.REPORTING, where(failed, Phase.REPORTED, phase)),
    )


def _compared_with_start(state: State, point: Point, o: Numbers) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether a solve that failed answers with the user's point, as it found none better or calls a problem infeasible which that
    point proves feasible; and whether it is the latter."""
    frame, first = state.frame, state.beginning
    iterate, objective, rows = point.iterate, point.objective, point.rows
    x = iterate.primal[: first.x.size]
    values = jnp.sign(frame.objective_scale) * jnp.stack([first.objective, objective / frame.objective_scale])
    violations = _stated_violations(frame, jnp.stack([first.x, x]), jnp.stack([first.rows * frame.row_scale, rows]))
    # Written so that a NaN counts as worse than any number.
    no_better = ~(values[1] < values[0]) & ~(violations[1] < violations[0])
    unequal = (values[1] != values[0]) | (violations[1] != violations[0])
    finite = jnp.isfinite(values[0]) & jnp.isfinite(violations[0])
    refuted = (state.status == Status.Infeasible_Problem_Detected) & (violations[0] <= o.tol)
    return refuted | (no_better & unequal & finite), refuted


def _stated_violations(frame: Frame, x: Float[Array, "k n"], rows: Float[Array, "k m"]) -> Float[Array, " k"]:
    """Largest violations of the user's bounds of variables and rows, in user units. ``rows`` are scaled and shifted."""
    n, m = x.shape[1], rows.shape[1]
    values, has, stated = jnp.concatenate([x, rows], axis=1), frame.has[:, : n + m], frame.stated[:, : n + m]
    below, above = where(has[0], stated[0] - values, 0.0), where(has[1], values - stated[1], 0.0)
    missed = jnp.pad(where(frame.equality, jnp.abs(rows), 0.0), ((0, 0), (n, 0)))
    size = jnp.maximum(jnp.maximum(below, above), missed)
    return jnp.max(size / jnp.pad(frame.row_scale, (n, 0), constant_values=1.0), axis=1, initial=0.0)


def placed(frame: Frame, iterate: Iterate, rows: Float[Array, " m"]) -> Iterate:
    """An iterate whose slacks are what the rows say, within their bounds."""
    n, m = frame.free.shape[0], rows.shape[0]
    block = slice(n, n + m)
    has, bound = frame.has[:, block], frame.bound[:, block]
    slacks = jnp.clip(rows, where(has[0], bound[0], -jnp.inf), where(has[1], bound[1], jnp.inf))
    slacks = where(frame.inequality, slacks, 0.0)
    primal = jnp.concatenate([iterate.primal[:n], slacks, jnp.zeros(2 * m, slacks.dtype)])
    return eqx.tree_at(lambda i: i.primal, iterate, primal)
