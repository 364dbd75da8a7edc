"""What the iterations of a convex solve carry."""

import enum

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._records import within
from .._results import ConicStatus
from .iterate import Iterate, Measures, Residuals
from .program import ConicProgram
from .start import unit_point
from .termination import Grade


LEAST_REGULARIZATION = 100.0  # times the precision


class Task(enum.IntEnum):
    """What is to be done with a state next."""

    START = 0  # find a cold starting point
    WARM = 1  # see whether the warm one is better
    ITERATE = 2
    CONFIRM = 3  # measure what a polish has found, and take it if it is a solution
    END = 4  # judge, recall, polish
    NOTHING = 5


class Point(eqx.Module):
    """An iterate with its measures and its worth."""

    iterate: Iterate
    measures: Measures
    grade: Grade


class Cautions(eqx.Module):
    """What follows from steps that led nowhere."""

    least_sigma: Float[Array, ""]  # raised while steps are too short
    recenterings: Int[Array, ""]
    regularization: Float[Array, ""]  # of factorisations, relative
    dual_scaling: Bool[Array, ""] | None  # None where all cones are symmetric

    @classmethod
    def none(cls, program: ConicProgram) -> "Cautions":
        """Those that a solve begins with."""
        dtype = program.c.dtype
        least = jnp.asarray(LEAST_REGULARIZATION * jnp.finfo(dtype).eps, dtype)
        dual = None if program.cones.symmetric else jnp.array(False)
        return cls(jnp.zeros((), dtype), jnp.zeros((), jnp.int32), least, dual)


class Attempt(eqx.Module):
    """Of a solve with a warm start: whether it is still that, and the iterations before it fell back on the cold one."""

    warm: Bool[Array, ""]
    started: Int[Array, ""]


class Course(eqx.Module):
    """How far a solve has come."""

    task: Int[Array, ""]
    status: Int[Array, ""]
    iterations: Int[Array, ""]
    attempt: Attempt | None  # None without a warm start


class LastStep(eqx.Module):
    """Of the last step: its length, and how much it was centred."""

    alpha: Float[Array, ""]
    sigma: Float[Array, ""]


class Polish(eqx.Module):
    """What polishes have come to."""

    polished: Bool[Array, ""] | None  # whether a first one has been tried, where there is one
    margin: Float[Array, ""] | None  # of the polished solution, zero without one; None where nobody asks


class State(eqx.Module):
    """A solve under way."""

    course: Course
    point: Point
    residuals: Residuals
    candidate: Iterate  # to be measured next, unless a step is to find it
    best: Point  # the nearest to a solution so far
    last: LastStep
    cautions: Cautions
    polish: Polish

    task = within("course", "task")
    status = within("course", "status")
    iterations = within("course", "iterations")
    attempt = within("course", "attempt")
    alpha = within("last", "alpha")
    sigma = within("last", "sigma")
    polished = within("polish", "polished")
    margin = within("polish", "margin")

    @property
    def iterate(self) -> Iterate:
        """The current iterate."""
        return self.point.iterate

    @property
    def measures(self) -> Measures:
        """Those of the current iterate."""
        return self.point.measures

    @classmethod
    def before(cls, program: ConicProgram, warm: Bool[Array, ""] | None, margin: bool) -> "State":
        """A solve that has yet to find its starting point. ``warm``: by comparison with another one, if there may be one;
        ``margin``: wanted."""
        unit = unit_point(program)
        zero = jnp.zeros_like(unit.tau)
        nothing = Point(unit, Measures.nothing(zero), Grade.nothing(zero))
        zeros = jnp.zeros((), jnp.int32)
        return cls(
            course=Course(
                task=jnp.asarray(Task.START, jnp.int32),
                status=jnp.asarray(ConicStatus.Running, jnp.int32),
                iterations=zeros,
                attempt=None if warm is None else Attempt(warm, zeros),
            ),
            point=nothing,
            residuals=Residuals(jnp.zeros_like(unit.flat[: -unit.z.shape[0] - 2]), zero, zero, unit.x),
            candidate=unit,
            best=nothing,
            last=LastStep(alpha=zero, sigma=jnp.ones_like(zero)),
            cautions=Cautions.none(program),
            polish=Polish(
                polished=jnp.asarray(program.linear) if program.P is not None and program.cones.polyhedral else None,
                margin=zero if margin else None,
            ),
        )

    def paused(self, until: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether iterations pause here: with a status, after ``until`` of them, or for a first polish."""
        return (self.status != ConicStatus.Running) | (self.iterations >= until) | self.promising()

    def promising(self) -> Bool[Array, ""]:
        """Whether a quadratic program is so nearly solved for the first time that its active rows may be known."""
        return jnp.array(False) if self.polished is None else ~self.polished & self.point.grade.promising
