"""The optimality conditions of a convex program, linearised for the derivative rule: at its solution or, with a ``relaxation``,
at a point of the central path."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from .._cone.layout import Layout
from .._conic.data import ConicData, presolve
from .._conic.equilibration import Scaling
from .._conic.judgement import Held
from .._conic.linearization import InScaledUnits, LinearizedFactor, LinearizedSolver, Pair, conditions, moving_relation
from .._conic.solution import ConicSolution, assemble
from .._conic.system import Vector
from .._conic.termination import has_solution
from .._linalg.implicit import linear_solve
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


def _moving(value: Array, source: Array) -> Array:
    """The number of ``value`` with the derivatives of ``source``."""
    return lax.stop_gradient(value) + (source - lax.stop_gradient(source))


def tangent(
    data: ConicData,
    rates: ConicData,
    solution: ConicSolution,
    held: Held,
    scaling: Scaling,
    layout: Layout,
    solver: AbstractKKTSolver,
    lane_bytes: int,
) -> tuple:
    """Tangents of the `outputs` for tangents of everything in the program.

    ``held`` has the numbers of the point that is differentiated, in the units of ``scaling``; how these move, for derivatives
    beyond the first, is what the `outputs` say, since their tangents are that point's. ``lane_bytes``: what it works on, for
    `in_cache`.
    """
    presolved = presolve(data, layout)
    program, rows = presolved.program, held.rows
    scaling = held.units.scaling(scaling)
    own = presolved.point(solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub)
    units = Vector(scaling.variables, scaling.equalities / scaling.cost, scaling.rows / scaling.cost)
    point = own
    if held.point is not None:
        point = jax.tree.map(lambda unit, value, source: _moving(unit * value, source), units, held.point, own)
    slack = scaling.rows * (program.right_side() - program.rows(point.x))
    pair = Pair(_moving(held.pair.s, slack), _moving(held.pair.z, point.z / units.z), held.pair.mu)

    def defects(data: ConicData) -> Vector:
        """The conditions at the fixed point, as a function of the data; the third part is the slack."""
        program = presolve(data, layout).program
        return Vector(
            program.gradient(point.x, point.y, point.z),
            program.A @ point.x - program.b,
            program.right_side() - program.rows(point.x),
        )

    _, moved = jax.jvp(defects, (data,), (rates,))
    products = moving_relation(program.cones, rows, pair, scaling.rows * moved.z, jnp.zeros_like(moved.z))
    stationarity = scaling.cost * scaling.variables * moved.x
    right = Vector(-stationarity, -scaling.equalities * moved.y, -products)
    view = InScaledUnits(program, scaling)
    state = lax.stop_gradient(LinearizedFactor(view, rows, False))
    adjoint = LinearizedSolver(solver, lane_bytes)
    step = linear_solve(lambda v: conditions(view, rows, v, pair), right, adjoint, state, symmetric=False)
    step = jax.tree.map(jnp.multiply, units, step)
    _, change = jax.jvp(lambda d, v: assemble(d, presolve(d, layout), v), (data, point), (rates, step))
    return change
