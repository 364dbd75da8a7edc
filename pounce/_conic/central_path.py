"""The point of the central path that is differentiated in the place of a solution.

The path is followed with the equation ``s = P(s - z)``, where ``P`` is the smoothed projection onto the cone: the slack of the
central pair with that difference (Chen and Harker 1993, Kanzow 1996, for the orthant). It is the semismooth equation of `polish`
at ``mu = 0``, and has the same linear system.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from .._linalg import matrix
from .._linalg.kkt import AbstractKKTSolver
from .balance import balance
from .judgement import Held, Level, judgement, nothing_held, probe_of
from .linearization import InScaledUnits, LinearizedFactor, LinearizedSolver, Pair, relation
from .polish import left_over
from .program import ConicProgram
from .system import Vector


MAX_STEPS = 60
ACCURACY = 0.625  # the power of the precision that is enough
NOTHING = 0.9  # the power of the precision below which terms are rounding
SHORTEST = 1e-3  # a share of a step, below which none helps


def natural_unit(program: ConicProgram, point: Vector) -> Float[Array, ""]:
    """The unit of ``mu``: the magnitudes of all terms of the primal and the dual objective at a solution, summed up and divided
    by the number of complementary pairs (the degree of the cones). Where all terms vanish, of ``c_j^2 / P_jj``.

    With ``mu`` that many units, the duality gap on the path is the share ``mu`` of all that the objectives consist of. These are
    products of data and solution, so that no unit of the cost, of a row or of a variable enters.
    """
    products = [program.c * point.x, point.x * program.curvature(point.x), program.b * point.y]
    products.append(program.right_side() * point.z)
    total = jnp.sum(jnp.abs(jnp.concatenate(products)))
    if program.P is not None:
        curvature = matrix.diagonal(program.P)
        bare = jnp.sum(jnp.where(curvature > 0, program.c**2 / jnp.where(curvature > 0, curvature, 1.0), 0.0))
        total = jnp.where(total < jnp.finfo(total.dtype).eps ** NOTHING * bare, bare, total)
    return total / jnp.maximum(program.cones.degree(), 1).astype(total.dtype)


def on_path(
    program: ConicProgram,
    point: Vector,
    s: Float[Array, " size"],
    relaxation: float,
    solver: AbstractKKTSolver,
    wanted: Bool[Array, ""],
    prepared: PyTree,
) -> tuple[Held, Bool[Array, ""]]:
    """The point of the central path at ``relaxation`` natural units, by Newton's method from a solution with its pair smoothed,
    with the factor of the system of derivatives there; and whether it is on the path."""
    linearized, cones = LinearizedSolver(solver), program.cones
    eps = jnp.finfo(s.dtype).eps
    enough = eps**ACCURACY
    units = balance(program, s, point.z)
    program, point, s = units.program(program), units.point(point), units.rows * s
    # Away from zero, where the pair of a kink at zero would have no numbers left.
    mu = jnp.maximum(relaxation * natural_unit(program, point), jnp.asarray(eps**2, s.dtype))
    probe = probe_of(point)

    def central(v) -> Pair:
        return Pair(*cones.central_pair(v, mu), mu)

    def body(carry):
        x, y, v, length, defect, level, judged, count = carry
        pair, judging = central(v), level > Level.SETTLED
        left, _ = left_over(program, x, y, pair)
        rows = linearized.factorize(program, pair, prepared, level == Level.SINGULAR)
        right = Vector(left.x, left.y, -relation(rows, left.z, jnp.zeros_like(left.z)))
        right = jax.tree.map(lambda a, b: jnp.where(judging, a, b), probe, right)
        found = linearized.solve(LinearizedFactor(InScaledUnits(program), rows, False), right)
        step = found.solution
        slack = left.z - program.rows(step.x)
        new = x + length * step.x, y + length * step.y, v + length * (slack - step.z)
        trial = left_over(program, new[0], new[1], central(new[2]))[1]
        better = ~judging & (trial < (1.0 - 0.1 * length) * defect)
        x, y, v = (jnp.where(better, a, b) for a, b in zip(new, (x, y, v), strict=True))
        length = jnp.where(better, jnp.minimum(1.0, 2.0 * length), 0.5 * length)
        defect = jnp.where(better, trial, defect)
        judged, following = judgement(rows, found, probe, level, judged)
        done = (defect <= enough) | (length <= SHORTEST) | (count >= MAX_STEPS)
        level = jnp.where(judging, following, jnp.where(done, Level.REGULAR, Level.SETTLED))
        return x, y, v, length, defect, level, judged, count + 1

    def going(carry):
        *_, level, _, count = carry
        return wanted & ((level > Level.SETTLED) | (count <= MAX_STEPS) & ~_judged(carry))

    def _judged(carry):
        return carry[6][1].share < jnp.inf

    v = s - point.z
    _, defect = left_over(program, point.x, point.y, central(v))
    nothing = nothing_held(program, solver, prepared)
    none = jnp.zeros((), int)
    start = point.x, point.y, v, jnp.ones_like(mu), defect, none, (nothing.rows, nothing.report), none
    x, y, v, _, defect, _, judged, _ = lax.while_loop(going, body, start)
    pair = central(v)
    return Held(units, Vector(x, y, pair.z), pair, *judged), defect <= jnp.sqrt(enough)
