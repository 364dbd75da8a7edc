"""Newton steps on the exact optimality conditions from a solution of the interior-point method.

An interior point ends where complementarity is small, which leaves the variables of a nearly degenerate constraint wrong
by the square root of that. The conditions ``s = project(s - z)`` are piecewise smooth and have no such root: from there one
or two steps of a semismooth Newton method (Qi and Sun 1993) end at rounding errors, wherever the solution is regular.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from .._linalg.kkt import AbstractKKTSolver
from .linearization import LinearizedSolver, complementary_pair
from .program import ConicProgram
from .system import Vector


MAX_STEPS = 4


def _defect(program: ConicProgram, v: Vector) -> Vector:
    """What is left of stationarity, the equality rows and ``s = project(s - z)``, with its sign turned."""
    s = program.right_side() - program.rows(v.x)
    near = complementary_pair(program.cones, s - v.z).s
    return Vector(
        -program.gradient(v.x, v.y, v.z),
        program.b - program.A @ v.x,
        near - s,
    )


def polish(
    program: ConicProgram, point: Vector, solver: AbstractKKTSolver, wanted: Bool[Array, ""], prepared: PyTree
) -> Vector:
    """The point with the smallest defect of the first steps; the point itself where no step helps or none is ``wanted``."""
    eps = jnp.finfo(point.x.dtype).eps
    linearized = LinearizedSolver(solver)

    def small(v: Vector) -> Float[Array, ""]:
        return 100 * eps * (1.0 + v.size())

    def body(carry):
        (v, defect), best, _, count = carry
        s = program.right_side() - program.rows(v.x)
        pair = complementary_pair(program.cones, s - v.z)
        right = Vector(defect.x, defect.y, program.cones.linearized(pair.s, pair.z, defect.z, defect.z))
        step, _, _ = linearized.compute(linearized.factorize(program, pair, prepared), right, {})
        v = v + step
        defect = _defect(program, v)
        # The first step from the wrong side of a kink may lead away, and the next one home.
        better = defect.size() < best[1].size()
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), (v, defect), best)
        going = (defect.size() > small(v)) & (count + 1 < MAX_STEPS)
        return (v, defect), best, going, count + 1

    start = point, _defect(program, point)
    carry = (start, start, wanted & (start[1].size() > small(point)), jnp.zeros((), int))
    return lax.while_loop(lambda c: c[2], body, carry)[1][0]
