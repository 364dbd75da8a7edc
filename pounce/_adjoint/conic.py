"""The optimality conditions of a convex program, linearised for the derivative rule.

With ``relaxation = mu > 0`` the complementary pair at the solution is replaced by the point of the central path with the
same ``s - z``, and the conditions of the central path are differentiated: finite and useful where strict complementarity
fails.
"""

import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Bool

from .._cone.layout import Layout
from .._cone.product import ConeProduct
from .._conic.data import ConicData, presolve
from .._conic.linearization import LinearizedSolver, Pair, conditions
from .._conic.solution import ConicSolution, assemble
from .._conic.system import Vector
from .._conic.termination import has_solution
from .._linalg.kkt import AbstractKKTSolver


def solved(solution: ConicSolution) -> Bool[Array, ""]:
    """Whether there is a solution to differentiate."""
    return has_solution(solution.status)


def outputs(solution: ConicSolution) -> tuple:
    """What of a solution has a derivative."""
    return (
        solution.x,
        solution.y,
        solution.z,
        solution.s,
        solution.z_lb,
        solution.z_ub,
        solution.objective,
    )


def _pair(cones: ConeProduct, s, z, relaxation: float) -> Pair:
    if relaxation > 0:
        return Pair(*cones.central_pair(s - z, jnp.asarray(relaxation, s.dtype)))
    # The numbers are those of the exactly complementary pair next to the solution; derivatives go through the solution, because
    # that of a projection is not always to be had (eigenvalues meet) and is never needed.
    near = lax.stop_gradient(Pair(*cones.linearization_pair(s - z)))

    def moving(value, source):
        return value + (source - lax.stop_gradient(source))

    return Pair(moving(near.s, s), moving(near.z, z))


def tangent(
    data: ConicData,
    rates: ConicData,
    solution: ConicSolution,
    layout: Layout,
    solver: AbstractKKTSolver,
    relaxation: float,
    lane_bytes: int,
) -> tuple:
    """Tangents of the `outputs` for tangents of everything in the program. ``lane_bytes``: what it works on, for `in_cache`."""
    presolved = presolve(data, layout)
    program = presolved.program
    point = presolved.point(solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub)
    slack = program.right_side() - program.rows(point.x)
    pair = _pair(program.cones, slack, point.z, relaxation)

    def defects(data: ConicData) -> Vector:
        """The conditions at the fixed point, as a function of the data; the third part is the slack."""
        program = presolve(data, layout).program
        return Vector(
            program.gradient(point.x, point.y, point.z),
            program.A @ point.x - program.b,
            program.right_side() - program.rows(point.x),
        )

    _, moved = jax.jvp(defects, (data,), (rates,))
    zero = jnp.zeros_like(point.z)
    right = Vector(-moved.x, -moved.y, -program.cones.linearized(pair.s, pair.z, moved.z, zero))
    adjoint = LinearizedSolver(solver, lane_bytes)
    state = adjoint.factorize(lax.stop_gradient(program), lax.stop_gradient(pair))
    operator = lx.FunctionLinearOperator(lambda v: conditions(program, pair, v), jax.eval_shape(lambda: right))
    step = lx.linear_solve(operator, right, adjoint, state=state, throw=False).value
    _, change = jax.jvp(lambda d, v: assemble(d, presolve(d, layout), v), (data, point), (rates, step))
    return change
