"""What an interior-point solve carries from one pass to the next."""

import abc
import enum
from typing import Any, Self

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._linalg.matrix import Hessian, Matrix
from .._problem.nlp import Scaling
from .._records import entry, within
from .._solution import History
from .filter import Filter, Reference
from .iterate import Iterate
from .perturbation import Perturbation
from .records import Packed


class Phase(enum.IntEnum):
    """Phases of a solve."""

    SCALING = 0  # one pass: scaling factors at the user's point
    STARTING = 1  # one pass: multipliers at the pushed point
    REGULAR = 2
    RESTORING = 3
    CERTIFYING = 4  # a solution is looked at again, nearer to where the equations of its active set hold
    # Of solves that end with another point than the one they looked at last (`reporting`)
    UNSEEN = 5
    REPORTING = 6
    REPORTED = 7


class Tag(enum.IntEnum):
    """The character of a step in the iteration table; a lower-case letter less 32 is the capital one."""

    NONE = 0  # row 0
    F_TYPE = ord("f")  # accepted for its objective; capital after a second-order correction
    H_TYPE = ord("h")  # accepted by the filter; capital likewise
    F_TYPE_CORRECTED = ord("F")
    H_TYPE_CORRECTED = ord("H")
    WATCHDOG = ord("w")  # let pass
    SOFT = ord("S")  # of soft restoration
    SOFT_TENTATIVE = ord("s")
    TINY = ord("t")
    TINY_AGAIN = ord("T")
    RESTORATION = ord("R")  # its first row


class Frame(eqx.Module):
    """The scaled, relaxed problem the iterations see. Which rows and bounds exist is data."""

    bound: Float[Array, "2 N"]
    stated: Float[Array, "2 N"]  # as the user has them, not relaxed
    has: Bool[Array, "2 N"]
    free: Bool[Array, " n"]  # variables that are not fixed
    equality: Bool[Array, " m"]
    inequality: Bool[Array, " m"]
    scaling: Scaling  # of rows less the right-hand sides of equality rows

    objective_scale = within("scaling", "objective_scale")
    row_scale = within("scaling", "row_scale")
    row_shift = within("scaling", "row_shift")


class Point(eqx.Module):
    """An iterate with the scaled function values there."""

    iterate: Iterate
    objective: Float[Array, ""]
    rows: Float[Array, " m"]


class Direction(eqx.Module):
    """A step in all primal and dual variables."""

    primal: Float[Array, " N"]
    rows: Float[Array, " m"]
    bounds: Float[Array, "2 N"]


class Departure(eqx.Module):
    """Where a search starts and along what."""

    point: Point
    direction: Direction
    alpha: Float[Array, ""]  # largest step length that keeps away from the bounds
    least: Float[Array, ""]  # step length from which on the step is out of proportion

    @staticmethod
    def shapes(primal: int, rows: int, dtype) -> "Departure":
        """Those of its arrays, for so many primal unknowns and rows."""

        def array(*shape: int) -> Any:
            return jax.ShapeDtypeStruct(shape, dtype)

        iterate = Iterate(array(primal), array(rows), array(2, primal))
        direction = Direction(array(primal), array(rows), array(2, primal))
        return Departure(Point(iterate, array(), array(rows)), direction, array(), array())


class BarrierMemory(eqx.Module):
    """What a strategy for the barrier parameter remembers (`barrier`); a restoration run has its own."""

    @abc.abstractmethod
    def restarted(self) -> Self:
        """As at the start of a run."""


class Pairs(eqx.Module):
    """Limited memory: steps and gradient changes as columns, the newest last, and the matrix made from them."""

    steps: Float[Array, "n k"]
    changes: Float[Array, "n k"]  # in restoration without the proximity term
    present: Bool[Array, " k"]
    matrix: Hessian


class QuasiNewton(eqx.Module):
    """Limited-memory Hessian approximation, and the point it saw last."""

    pairs: Pairs
    backup: Pairs | None  # before the latest pair (SR1 only)
    skipped: Int[Array, ""]  # updates left out in a row
    ready: Bool[Array, ""]  # there is a previous point
    previous_x: Float[Array, " n"]
    previous_gradient: Float[Array, " n"]
    previous_jacobian: Matrix


class Acceptance(eqx.Module):
    """What trials are accepted by."""

    filter: Filter
    theta_max: Float[Array, ""]  # negative until the first trial
    theta_min: Float[Array, ""]
    reference: Reference  # of the latest line search
    rejections: Int[Array, ""]  # successive searches whose last rejection came from the filter


class Globalization(eqx.Module):
    """What a restoration run owns a copy of."""

    mu: Float[Array, ""]
    tau: Float[Array, ""]
    acceptance: Acceptance
    perturbation: Perturbation
    acceptable_count: Int[Array, ""]
    barrier: BarrierMemory | None
    quasi_newton: QuasiNewton | None


class Memory(eqx.Module):
    """What a search remembers beside its filter; forgotten when a restoration run begins or ends."""

    watchdog: Bool[Array, ""]  # steps are let pass
    stored: Packed  # `Departure` that the watchdog or a tentative soft restoration step would go back to
    stored_error: Float[Array, ""]  # primal-dual error there
    counters: Int[Array, " 5"]
    acceptable: Packed  # latest `Iterate` of the main phase that met the acceptable tolerances
    has_acceptable: Bool[Array, ""]
    last_objective: Float[Array, ""]

    trials = entry("counters", 0)  # steps that the watchdog has let pass
    shortened = entry("counters", 1)  # successive steps that were cut
    soft_count = entry("counters", 2)  # successive soft restoration steps
    deep = entry("counters", 3)  # successive steps that came to next to nothing
    stalls = entry("counters", 4)  # searches of the whole solve that ended where they began

    def stored_point(self, primal: int, rows: int) -> Point:
        """Of what is stored, for so many primal unknowns and rows."""
        return self.stored.unpacked(Departure.shapes(primal, rows, self.stored_error.dtype), lambda base: base.point)

    def forgotten(self, when: Bool[Array, ""]) -> "Memory":
        """Without what belongs to one barrier problem, where ``when``."""
        kept = ~when
        counters = self.counters * (kept | np.array([True, False, False, True, True]))
        return eqx.tree_at(lambda k: (k.watchdog, k.counters), self, (self.watchdog & kept, counters))


class Entry(eqx.Module):
    """Where the restoration phase was entered."""

    primal: Float[Array, " N"]
    bounds: Float[Array, "2 N"]
    infeasibility: Float[Array, ""]  # |c - s|_inf there
    steps: Int[Array, ""]  # accepted restoration steps since
    tightened: Bool[Array, ""]  # the tolerance of this run was lowered once


class Row(eqx.Module):
    """The step into the present iterate, as the iteration table shows it. ``tag`` is a `Tag`."""

    figures: Float[Array, " 5"]
    tag: Int[Array, ""]
    trials: Int[Array, ""]

    mu = entry("figures", 0)
    step = entry("figures", 1)
    regularization = entry("figures", 2)
    alpha_dual = entry("figures", 3)
    alpha_primal = entry("figures", 4)

    @property
    def soft(self) -> Bool[Array, ""]:
        """It was a tentative soft restoration step."""
        return self.tag == Tag.SOFT_TENTATIVE

    @property
    def tiny(self) -> Bool[Array, ""]:
        return (self.tag == Tag.TINY) | (self.tag == Tag.TINY_AGAIN)

    @property
    def second_tiny(self) -> Bool[Array, ""]:
        return self.tag == Tag.TINY_AGAIN


class Beginning(eqx.Module):
    """The first point that functions are looked at: the user's, where its derivatives give scaling factors."""

    x: Float[Array, " n"]
    values: Float[Array, " k"]  # user units; infinite before anybody looks

    objective = entry("values", 0)

    @property
    def rows(self) -> Float[Array, " m"]:
        """Less the right-hand sides of equality rows."""
        return self.values[1:]


class Report(eqx.Module):
    """What the present iterate says about itself."""

    figures: Float[Array, " 3"]

    kkt_error = entry("figures", 0)  # E_0, scaled
    primal_infeasibility = entry("figures", 1)  # as the iteration table shows it
    dual_infeasibility = entry("figures", 2)


class Finding(eqx.Module):
    """What has been found out about the active set of a solution (`certification`); blank until there is one."""

    passes: Int[Array, ""]
    settled: Bool[Array, ""]  # no more passes are wanted
    active: Bool[Array, "2 k"]  # lower and upper bounds of variables and rows
    x: Float[Array, " n"]  # where the equations of the active set hold, and the multipliers there
    rows: Float[Array, " m"]
    figures: Float[Array, " 3"]
    flags: Bool[Array, " 2"]

    change = entry("figures", 0)  # the last change of the point, relative
    margin = entry("figures", 1)
    linear_residual = entry("figures", 2)
    inertia_correct = entry("flags", 0)
    regular = entry("flags", 1)


class Counts(eqx.Module):
    """How much work was done."""

    numbers: Int[Array, " 4"]

    evaluations = entry("numbers", 0)
    factorizations = entry("numbers", 1)
    restorations = entry("numbers", 2)
    restoration_iterations = entry("numbers", 3)


class Standing(eqx.Module):
    """How far a solve has come."""

    phase: Int[Array, ""]
    status: Int[Array, ""]
    iteration: Int[Array, ""]
    estimated: Bool[Array, ""]  # multipliers were re-estimated at this iterate


class Suspended(eqx.Module):
    """The main phase, while restoring."""

    outer: Packed  # its `Globalization`
    entry: Entry


class Log(eqx.Module):
    """What is told of a solve."""

    row: Row
    report: Report
    counts: Counts
    history: History | None


class Answer(eqx.Module):
    """What only the answer of a solve is made of."""

    beginning: Beginning
    finding: Finding | None  # where solutions are certified
    lagrangian: Float[Array, " n"]  # scaled gradient of f + y'c


class State(eqx.Module):
    """The whole state of a solve."""

    standing: Standing
    point: Point
    frame: Frame
    globalization: Globalization
    memory: Memory
    suspended: Suspended
    log: Log
    answer: Answer

    phase = within("standing", "phase")
    status = within("standing", "status")
    iteration = within("standing", "iteration")
    estimated = within("standing", "estimated")
    iterate = within("point", "iterate")
    objective = within("point", "objective")
    rows = within("point", "rows")
    outer = within("suspended", "outer")
    entry = within("suspended", "entry")
    row = within("log", "row")
    report = within("log", "report")
    counts = within("log", "counts")
    history = within("log", "history")
    beginning = within("answer", "beginning")
    finding = within("answer", "finding")
    lagrangian = within("answer", "lagrangian")
