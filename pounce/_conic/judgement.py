"""What all derivatives at a pair share, and what a solve with their matrix tells of it."""

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg.conjugate_residuals import Solved
from .._linalg.kkt import AbstractKKTSolver
from .._solution import Quality
from .balance import Balance
from .linearization import RIDGE, LinearizedSolver, Pair, Rows
from .program import ConicProgram
from .system import Vector


ACCURATE = 1e-8  # what a solve with a regular matrix may leave
LARGEST = 1e-3  # how much larger than its right-hand side a solution may be, times the inverse of the precision
CLEAR = 1e-2  # the margin from which slacks and multipliers can be told apart


class Level(enum.IntEnum):
    """Of a loop: which matrix it has yet to factorise, if any."""

    SETTLED = 0
    REGULAR = 1  # the matrix itself
    SINGULAR = 2  # the regularised one


class Report(eqx.Module):
    """What a solve left of its right-hand side, and whether the matrix takes steps of the variables (of the multipliers) to
    zero."""

    share: Float[Array, ""]
    flat: Bool[Array, ""]
    dependent: Bool[Array, ""]


Judged = tuple[Rows, Report]


class Held(eqx.Module):
    """The conditions linearised at a pair, in these ``units`` of the equilibrated program, with their factor; and the point of
    that pair where it is not the solution."""

    units: Balance
    point: Vector | None
    pair: Pair
    rows: Rows
    report: Report

    def quality(self, margin: Float[Array, ""], clear: Bool[Array, ""]) -> Quality:
        """Of the solution; ``clear``: whether its pairs can be told apart, or need not be."""
        convex, regular = ~self.report.flat, ~self.report.dependent
        return Quality(
            margin=margin,
            linear_residual=self.report.share,
            inertia_correct=convex,
            regular=regular,
            differentiable=clear & convex & regular,
        )


def probe_of(like: Vector) -> Vector:
    """A right-hand side with something of everything."""
    parts = (like.x, like.y, like.z)
    return Vector(*(jnp.cos(1.0 + k + jnp.arange(v.shape[0], dtype=v.dtype)) for k, v in enumerate(parts)))


def judgement(
    rows: Rows,
    solved: Solved,
    probe: Vector,
    level: Int[Array, ""],
    before: Judged,
    confirmed: Bool[Array, ""] | None = None,
) -> tuple[Judged, Int[Array, ""]]:
    """What the solve for the probe tells, at the level where it is asked, and the next level. Where the pair is not ``confirmed``
    to be a solution, its matrix is as regular as chance has it, and takes no more than a ridge would leave of it."""
    size = _norm(probe.x, probe.y, probe.z)
    eps = jnp.finfo(size.dtype).eps
    largest, accurate = LARGEST / eps * size, max(ACCURATE, 100.0 * float(eps)) * size
    if confirmed is not None:
        largest = jnp.where(confirmed, largest, eps**-RIDGE * size)

    def lost(*parts):
        left, solution = (_norm(*(getattr(v, part) for part in parts)) for v in (solved.residual, solved.solution))
        return ~((left <= accurate) & (solution <= largest))

    new = Report(solved.share, lost("x"), lost("y", "z"))
    report = jax.tree.map(lambda a, b: jnp.where(level == Level.REGULAR, a, b), new, before[1])
    failed = (level == Level.REGULAR) & (report.flat | report.dependent)
    return (rows, report), jnp.where(failed, Level.SINGULAR, Level.SETTLED)


def nothing_held(program: ConicProgram, solver: AbstractKKTSolver, prepared: PyTree) -> Held:
    """What there is without a solution."""
    zero = jnp.zeros_like(program.right_side())
    pair, dtype = Pair(zero, zero), zero.dtype
    rows = jax.eval_shape(lambda: LinearizedSolver(solver).factorize(program, pair, prepared, jnp.array(False)))
    rows = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), rows)
    report = Report(jnp.asarray(jnp.inf, dtype), jnp.array(True), jnp.array(True))
    return Held(units=Balance.none(zero), point=None, pair=pair, rows=rows, report=report)


def _norm(*parts: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(jnp.concatenate(parts) ** 2))
