"""Which constraints are active at the end of a solve, and whether the solution can be differentiated there.

Multiplying the objective, a row or a variable by a positive number changes neither the solution nor what is active there, so
nothing is decided by comparing a slack with a multiplier, or either with a number. What is decided is decided by systems of the
last pass, in the same way in all units:

1. A Newton step for the equations of a set (bounds and rows held, the others dropped) confirms it: the multipliers of what is
   held and the slacks of what is not keep their signs. The first guess, multipliers larger than slacks, needs no system and is
   confirmed wherever units are ordinary.
2. If it is not, the guess is that of the affine-scaling step at the end point, ``s dz + z ds = -s z`` and no other residual:
   ``-ds / s`` tends to one where a bound is active, to zero where it is not, and is one half at a kink (the indicators of Tapia;
   El-Bakry, Tapia and Zhang, "A study of indicators for identifying zero variables in interior-point methods", SIAM Review 36,
   1994). What a step for that set does not confirm changes sides, and the step is repeated, as in a primal-dual active-set
   method.
3. A right-hand side of all frequencies tells whether the matrix of the set is regular. Equality rows come first: while active
   gradients are dependent, the bound or inequality row that limits a move along the dependence gives way.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .._linalg import matrix
from .._linalg.equilibrated import natural_units
from .._linalg.kkt import Inertia, KKTOperator
from .._linalg.matrix import Hessian, Matrix, magnitudes, symmetric_times, times, transposed_times
from .._solution import LEAST_MARGIN, is_solved
from .direction import Unknowns
from .examination import Examination, Stage
from .iterate import SIDES, Iterate, View, bound_steps
from .observation import Observation
from .state import Finding, Phase, State
from .trial_records import Trial


MOST_CHANGES = 8  # systems until a set is left unconfirmed
MOST_SYSTEMS = 60
WEAK = 1e-2  # a share of the slack or multiplier at the end point below which the confirmed one is nothing
NEAR = 100.0  # relative changes, times the square root of the precision, from which on the point is taken as it is
CONTRACTION = 0.5  # that a Newton step must be shorter by
MOST_PASSES = 5
GROWN = 1e6  # multipliers of the probe, in units of its rows, from which on rows are dependent


def nothing_found(x: Float[Array, " n"], rows: Float[Array, " m"]) -> Finding:
    """Before there is a solution."""
    unknown, no = jnp.full((), jnp.nan, x.dtype), jnp.array(False)
    active = jnp.zeros((2, x.size + rows.size), bool)
    figures, flags = jnp.stack([unknown] * 3), jnp.stack([no, no])
    return Finding(passes=jnp.array(0), settled=no, active=active, x=x, rows=rows, figures=figures, flags=flags)


def to_certify(state: State, status: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether more is to be found out about a solution of the main phase."""
    if state.finding is None:
        return jnp.array(False)
    main = (state.phase == Phase.REGULAR) | (state.phase == Phase.CERTIFYING) | (state.phase == Phase.UNSEEN)
    return is_solved(status) & main & ~state.finding.settled


class Before(eqx.Module):
    """What has been found out from a point farther away."""

    active: Bool[Array, "2 k"]  # the set that has been confirmed
    some: Bool[Array, ""]  # there is one, and derivatives are those nearer to its solution


class Examiner(eqx.Module):
    """The end point, which system is wanted there next, and what follows from its solution."""

    view: View
    iterate: Iterate
    slack: Float[Array, "2 N"]
    gradient: Float[Array, " n"]
    rows: Float[Array, " m"]
    hessian: Hessian
    jacobian: Matrix
    before: Before

    @classmethod
    def at(cls, seen: Observation, hessian: Hessian, state: State, again: Bool[Array, ""]) -> "Examiner":
        """``again``: derivatives are those at the point of the finding."""
        d, view, iterate, found = seen.derivatives, seen.view, seen.iterate, state.finding
        assert found is not None
        free = view.active[: view.n]
        view = eqx.tree_at(lambda v: v.bound, view, state.frame.stated)
        x, y = select(again, (found.x, found.rows), (iterate.primal[: view.n], iterate.rows))
        return cls(
            view=view,
            iterate=Iterate(jnp.concatenate([x, iterate.primal[view.n :]]), y, iterate.bounds),
            slack=seen.slack,
            gradient=where(free, d.gradient, 0.0),
            rows=d.rows,
            hessian=matrix.masked(hessian, free, free),
            jacobian=matrix.masked(d.jacobian, view.present, free),
            before=Before(found.active, again),
        )

    def _active(self, c: Examination) -> Bool[Array, "2 N"]:
        """The set that is looked at: before the first system the one known from before, or the first guess."""
        pad = ((0, 0), (0, self.iterate.bounds.shape[1] - self.before.active.shape[1]))
        guess = where(
            self.before.some, jnp.pad(self.before.active, pad), self._one_side(self.iterate.bounds, self.slack)
        )
        return where(c.systems > 0, c.active, guess)

    def _one_side(self, larger: Float[Array, "2 N"], than: Float[Array, "2 N"]) -> Bool[Array, "2 N"]:
        """The bounds where one exceeds the other, of both sides the one where it is larger."""
        has = self.view.has
        first = jnp.stack([larger[0] >= larger[1], larger[0] < larger[1]])
        return has & (larger > than) & (first | ~has[::-1])

    def _held(self, active: Bool[Array, "2 N"]) -> tuple[Bool[Array, " N"], Bool[Array, " m"]]:
        """What moves and which rows are held where these bounds are."""
        view, n, m = self.view, self.view.n, self.rows.size
        held = jnp.any(active, axis=0)
        moving = view.active & ~held & (jnp.arange(view.active.size) < n)
        return moving, view.equality | held[n : n + m]

    def system(self, c: Examination) -> tuple[Unknowns, tuple]:
        """The next system: what it is solved for, and its right-hand side."""
        z, view, active, nothing = self.iterate.bounds, self.view, self._active(c), jnp.zeros_like(self.iterate.primal)
        moving, rows = self._held(active)
        free = moving[: view.n]
        hessian: Any = matrix.masked(self.hessian, free, free)
        jacobian = matrix.masked(self.jacobian, rows, free)
        unit, row_unit = natural_units(KKTOperator(hessian, jacobian, jnp.zeros_like(self.rows)))
        slope, left = select(c.stage == Stage.PROBING, self._waves(), self._newton_step(active, unit, row_unit))
        slope = jnp.concatenate([slope, jnp.zeros(3 * left.size, left.dtype)])
        rhs = where(moving, slope, 0.0), where(rows, left, 0.0)
        of_set = Unknowns(moving, rows, nothing, (unit, row_unit)), rhs
        affine = where(view.active, z[1] - z[0], 0.0), jnp.zeros_like(self.rows)
        ones = jnp.ones_like(unit), jnp.ones_like(row_unit)
        newton = Unknowns(view.active, view.present, jnp.sum(z / self.slack, axis=0), ones)
        return select(c.stage == Stage.AFFINE, (newton, affine), of_set)

    def __call__(
        self,
        c: Examination,
        unknowns: Unknowns,
        solution: tuple,
        inertia: Inertia,
        ratio: Float[Array, ""],
        solved: Bool[Array, ""],
    ) -> Examination:
        """What is known once that system has been solved."""
        reliable, active = ratio <= jnp.sqrt(jnp.finfo(ratio.dtype).eps), self._active(c)
        outcomes = (
            (Stage.AFFINE, self._indicated(active, solution, solved)),
            (Stage.CONFIRMING, self._confirmed(c, active, unknowns, solution, reliable)),
            (Stage.PROBING, self._probed(c, active, unknowns, solution, inertia, reliable)),
        )
        known = c.asdict() | dict(active=active)
        for stage, changes in outcomes:
            here = c.stage == stage
            known |= {name: where(here, value, known[name]) for name, value in changes.items()}
        return Examination.of(**known | dict(systems=c.systems + 1, units=unknowns.units))

    def _indicated(self, active: Bool[Array, "2 N"], solution: tuple, solved: Bool[Array, ""]) -> dict[str, Array]:
        """After the affine-scaling step: its indicators; without a solution, the first guess stays."""
        t = -bound_steps(solution[0]) / self.slack
        solved = solved & jnp.all(jnp.isfinite(where(self.view.has, t, 0.0)))
        indicated = where(solved, self._one_side(t, jnp.full_like(t, 0.5)), active)
        return dict(stage=jnp.array(Stage.CONFIRMING), active=indicated)

    def _confirmed(
        self,
        c: Examination,
        active: Bool[Array, "2 N"],
        unknowns: Unknowns,
        solution: tuple,
        reliable: Bool[Array, ""],
    ) -> dict[str, Array]:
        """After a Newton step for the equations of a set: another set, or the same again to be probed."""
        has, (ratios, x, rows, change) = self.view.has, self._after_step(active, unknowns, solution)
        wrong = has & ~(ratios > -WEAK)
        changing = jnp.any(wrong)
        confirmed = reliable & ~changing
        margin = jnp.min(where(has, jnp.minimum(ratios, 1.0 / jnp.maximum(ratios, WEAK)), jnp.inf), initial=jnp.inf)
        asking = ~confirmed & ~c.indicated
        again = reliable & changing & c.indicated & (c.systems < MOST_CHANGES)
        turned = active ^ wrong
        turned = turned & ~(jnp.all(turned, axis=0) & ~wrong)
        return dict(
            stage=where(asking, Stage.AFFINE, where(again, Stage.CONFIRMING, Stage.PROBING)),
            active=where(again, turned, active),
            indicated=c.indicated | asking,
            margin=where(confirmed, margin, 0.0),
            x=where(confirmed, x, c.x),
            rows=where(confirmed, rows, c.rows),
            change=where(confirmed, change, c.change),
        )

    def _probed(
        self,
        c: Examination,
        active: Bool[Array, "2 N"],
        unknowns: Unknowns,
        solution: tuple,
        inertia: Inertia,
        reliable: Bool[Array, ""],
    ) -> dict[str, Array]:
        """After a solution for all frequencies: the end, unless something has to give way."""
        singular, correct = inertia.singular | ~reliable, inertia.correct
        if inertia.doubtful is not None and inertia.counted is not None:
            # Where refinement undoes the replacement of pivots, their signs are those of the matrix.
            singular, correct = ~reliable, correct | (inertia.doubtful & inertia.counted & reliable)
        limiting, dependent = self._limiting(active, unknowns, solution[1])
        release = singular & dependent & (c.systems < MOST_SYSTEMS)
        return dict(
            stage=where(release, Stage.PROBING, Stage.DONE),
            active=active & ~(release & limiting),
            dependent=c.dependent | release,
            regular=~singular & ~c.dependent,
            inertia_correct=correct,
            **self._measurement(unknowns, solution[0]),
        )

    def _sides(self, of_variables: Float[Array, "2 n"], of_rows: Float[Array, "2 m"]) -> Float[Array, "2 N"]:
        nothing = jnp.zeros((2, 2 * self.rows.size), self.iterate.primal.dtype)
        return jnp.concatenate([of_variables, of_rows, nothing], axis=1)

    def _shift(self, active: Bool[Array, "2 N"]) -> Float[Array, " n"]:
        """How far variables are from the bounds that hold them."""
        n = self.view.n
        return jnp.sum(where(active, self.view.bound - self.iterate.primal, 0.0), axis=0)[:n]

    def _newton_step(self, active: Bool[Array, "2 N"], unit: Float[Array, " n"], row_unit: Float[Array, " m"]) -> tuple:
        """Right-hand side of the Newton step for the equations of a set, in these units; its row part solves for the multipliers
        themselves."""
        shift, n, m = self._shift(active), self.view.n, self.rows.size
        target = jnp.sum(where(active, self.view.bound, 0.0), axis=0)[n : n + m]
        left = target - self.rows - times(self.jacobian, shift)
        return unit * (-self.gradient - symmetric_times(self.hessian, shift)), row_unit * left

    def _after_step(self, active: Bool[Array, "2 N"], unknowns: Unknowns, solution: tuple) -> tuple:
        """After the step for the equations of a set: multipliers of what is held and slacks of what is not, as shares of those at
        the end point; the point, its row multipliers, and by how much these have changed, relative to their size."""
        n, m, sides = self.view.n, self.rows.size, jnp.asarray(SIDES, self.iterate.primal.dtype)
        bound, (unit, row_unit) = self.view.bound, unknowns.units
        step = solution[0][:n] + self._shift(active)
        y = where(unknowns.rows, solution[1], 0.0)
        slope = self.gradient + symmetric_times(self.hessian, step) + transposed_times(self.jacobian, y)
        x, rows = self.iterate.primal[:n] + step, self.rows + times(self.jacobian, step)
        slack = self._sides(sides * (x - bound[:, :n]), sides * (rows - bound[:, n : n + m]))
        z = self._sides(sides * slope, -sides * y)
        ratios = where(active, z / self.iterate.bounds, slack / self.slack)

        def change(difference, new, unit):
            largest = jnp.max(jnp.abs(new) / unit, initial=0.0)
            return jnp.max(jnp.abs(difference) / unit, initial=0.0) / where(largest > 0, largest, 1.0)

        return ratios, x, y, jnp.maximum(change(step, x, unit), change(y - self.iterate.rows, y, row_unit))

    def _waves(self) -> tuple:
        """Right-hand side of the probe, in natural units."""
        waves = jnp.cos(jnp.arange(self.iterate.primal.size, dtype=self.iterate.primal.dtype))
        return waves[: self.view.n], waves[: self.rows.size]

    def _limiting(
        self, active: Bool[Array, "2 N"], unknowns: Unknowns, y: Float[Array, " m"]
    ) -> tuple[Bool[Array, "2 N"], Bool[Array, ""]]:
        """The bound or inequality that gives way where active gradients are dependent, and whether there is one.

        Multipliers of the probe are then large along the dependence ``w``. Adding ``t w`` to the multipliers of the rows and
        ``-t J'w`` to those of the bounds changes no stationarity; what reaches zero first gives way, as in the ratio test of the
        dual simplex method.
        """
        sizes = where(unknowns.rows, jnp.abs(y) / unknowns.units[1], 0.0)
        largest = jnp.max(sizes, initial=0.0)
        w = where(sizes >= 1e-4 * largest, where(unknowns.rows, y, 0.0), 0.0)
        pull, most = transposed_times(self.jacobian, w), transposed_times(magnitudes(self.jacobian), jnp.abs(w))
        pull = where(jnp.abs(pull) > 1e-6 * most, jnp.abs(pull), 0.0)
        moves = self._sides(jnp.stack([pull, pull]), jnp.stack([jnp.abs(w), jnp.abs(w)]))
        candidates = active & (moves > 0)
        ratios = where(candidates, self.iterate.bounds / where(moves > 0, moves, 1.0), jnp.inf)
        limiting = candidates & (ratios == jnp.min(ratios, initial=jnp.inf))
        return limiting, (largest > GROWN) & jnp.any(candidates)

    def _measurement(self, unknowns: Unknowns, primal: Float[Array, " N"]) -> dict[str, Array]:
        """How far to go along a direction, slopes and curvature along it, and whether curvature matters."""
        n, eps = self.view.n, jnp.finfo(primal.dtype).eps
        unit, moving = unknowns.units[0], unknowns.primal[:n]
        x, d = self.iterate.primal[:n], where(moving, primal[:n], 0.0)
        tiny = jnp.finfo(primal.dtype).tiny
        # A fourth root: what a second difference measures is then exact to the square root of the precision.
        length = jnp.maximum(jnp.max(jnp.abs(d) / unit, initial=0.0), tiny)
        size = jnp.max(where(moving, jnp.abs(x) / unit, 0.0), initial=0.0)
        reach = eps**0.25 * where(size > 0, size, 1.0) / length
        has, slack = self.view.has[:, :n], self.slack[:, :n]
        nearest = jnp.max(where(has, -bound_steps(d) / slack, 0.0), initial=0.0)
        reach = jnp.minimum(reach, 0.5 / jnp.maximum(nearest, tiny))
        return dict(
            reach=reach,
            slope=jnp.sum(self.gradient * d),
            slope_of_rows=jnp.sum(self.iterate.rows * times(self.jacobian, d)),
            curvature=jnp.sum(d * symmetric_times(self.hessian, d)),
            terms=jnp.sum(jnp.abs(matrix.diagonal(self.hessian)) * d * d),
            curved=jnp.sum(unknowns.primal) > jnp.sum(unknowns.rows),
        )


def conclusion(
    before: Finding,
    c: Examination,
    ratio: Float[Array, ""],
    seen: Observation,
    measured: Trial,
    error: Float[Array, ""],
) -> Finding:
    """What is known of a solution after a pass, and whether to look again, from where the equations of its set hold better.

    ``ratio``: of the last system. ``measured``: functions along its solution. ``error``: of the end point.
    """
    d, size = seen.derivatives, before.active.shape[1]
    y = where(before.passes > 0, before.rows, seen.iterate.rows)
    here, there = (d.objective, jnp.sum(y * d.rows)), (measured.last.objective, jnp.sum(y * measured.last.rows))
    sound = c.inertia_correct & c.regular & (c.margin > LEAST_MARGIN)
    slow = (before.passes > 0) & ~(c.change < CONTRACTION * before.change)
    far = c.change > NEAR * jnp.finfo(error.dtype).eps ** 0.5
    again = sound & far & ~slow & (before.passes + 1 < MOST_PASSES)
    return Finding(
        passes=before.passes + 1,
        settled=~again,
        active=c.active[:, :size],
        x=c.x,
        rows=c.rows,
        # Equations that are not solved confirm nothing.
        figures=jnp.stack([c.change, where(far & ~again, 0.0, c.margin), ratio]),
        flags=jnp.stack([c.inertia_correct & ~flat(c, here, there, error), c.regular]),
    )


def flat(
    c: Examination,
    here: tuple[Float[Array, ""], Float[Array, ""]],
    there: tuple[Float[Array, ""], Float[Array, ""]],
    error: Float[Array, ""],
) -> Bool[Array, ""]:
    """Whether the curvature of the Lagrangian along the last solution is no more than what is uncertain in it.

    It is that of ``f`` plus that of ``y'c``, and where these cancel, the sign of their sum is that of the solver's error. Both
    are measured: ``here`` and ``there`` are the values of ``f`` and ``y'c`` at the end point and `Examination.reach` away.
    ``error``: how far the optimality conditions are from holding. What cancels within the Hessian is uncertain by rounding only.
    """
    first, last = jnp.stack(here), jnp.stack(there)
    predicted = jnp.stack([c.slope, c.slope_of_rows])
    parts = 2.0 * (last - first - c.reach * predicted) / (c.reach * c.reach)
    eps = jnp.finfo(error.dtype).eps
    share = jnp.maximum(jnp.sqrt(eps), 100.0 * error)
    uncertain = jnp.maximum(share * jnp.sum(jnp.abs(parts)), eps**0.625 * c.terms)
    return c.curved & ~(jnp.abs(c.curvature) > uncertain)
