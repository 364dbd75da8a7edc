"""The KKT conditions of a nonlinear program, linearised for the derivative rule.

At a solution the active bounds and rows are held and the others dropped, which leaves a linear system in the tangents of
``x`` and of the row multipliers (Fiacco 1983, theorem 3.2.2). Which are active, and where the equations of that set hold, is
what the solve has found out (`ActiveSet`); nothing is compared here.

Where no derivative exists (dependent gradients of active constraints, no curvature, a kink), the matrix keeps a regularisation
of the order of the square root of the precision, relative to its size, so that what is returned is bounded.

With ``relaxation = mu > 0`` every slack-multiplier pair is replaced by its smoothing
``s' = (s - z)/2 + sqrt(((s - z)/2)^2 + mu)``, ``z' = mu / s'`` (Kanzow 1996), and the conditions of the central path are
differentiated instead: finite and useful where a constraint is weakly active.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._interior.start import Bounds
from .._linalg.equilibrated import Equilibrated, EquilibratedFactor, in_units, natural_units
from .._linalg.implicit import linear_solve
from .._linalg.kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .._linalg.matrix import Matrix, largest, masked, plus_diagonal, scaled
from .._problem.crossing import first_order_moves
from .._problem.nlp import AbstractNLP
from .._solution import Multipliers, Solution
from .._solve import ActiveFactor


REGULARIZATION = 10.0  # times the square root of the precision, in natural units, where no derivative exists


class Inputs(eqx.Module):
    """What a solution depends on."""

    nlp: AbstractNLP
    bounds: Bounds
    tables: PyTree  # the arrays of the linear solver; nothing depends on them


class Stiffness(eqx.Module):
    """How each bound or row reacts: held in place, or with a spring ``sigma`` to its lower and upper side."""

    held: Bool[Array, " k"]
    lower: Float[Array, " k"]  # spring constants; shares that sum to one where held
    upper: Float[Array, " k"]

    def side(
        self, lower: Float[Array | np.ndarray, " k"], upper: Float[Array | np.ndarray, " k"]
    ) -> Float[Array, " k"]:
        return self.lower * lower + self.upper * upper


class Side(eqx.Module):
    """Bounds of one side with their multipliers, and which of them are active."""

    bound: Float[Array | np.ndarray, " k"]
    multiplier: Float[Array, " k"]
    active: Bool[Array, " k"]


def _stiffness(value, lower: Side, upper: Side, limit: float, relaxation: float) -> Stiffness:
    has_lower, has_upper = lower.bound > -limit, upper.bound < limit
    equal = jnp.asarray(has_lower & has_upper & (lower.bound == upper.bound))
    if relaxation == 0:
        held = lower.active | upper.active | equal
        low, high = lower.active.astype(value.dtype), upper.active.astype(value.dtype)
    else:
        slacks = value - jnp.where(has_lower, lower.bound, 0.0), jnp.where(has_upper, upper.bound, 0.0) - value
        low, high = (
            jnp.where(exists & ~equal, _smoothed_ratio(slack, z, relaxation), 0.0)
            for exists, slack, z in ((has_lower, slacks[0], lower.multiplier), (has_upper, slacks[1], upper.multiplier))
        )
        held = equal
    return Stiffness(held, jnp.where(equal, 0.5, low), jnp.where(equal, 0.5, high))


def _smoothed_ratio(slack, z, relaxation: float):
    half = 0.5 * (slack - z)
    smooth = half + jnp.sqrt(half * half + relaxation)
    return relaxation / (smooth * smooth)


class Linearization(eqx.Module):
    """The KKT conditions linearised at a solution."""

    operator: KKTOperator
    units: KKTVector
    exists: Bool[Array, ""]  # whether there is a derivative
    variables: Stiffness
    rows: Stiffness


def linearize(nlp: AbstractNLP, solution: Solution, bounds: Bounds, limit: float, relaxation: float) -> Linearization:
    """The KKT matrix of a solution's active set (or of its smoothing)."""
    x, y = point(solution, relaxation)
    z, active = solution.multipliers, solution.active
    variables = _stiffness(
        x, Side(bounds.lb, z.lower, active.lower), Side(bounds.ub, z.upper, active.upper), limit, relaxation
    )
    rows = _stiffness(
        solution.constraints,
        Side(bounds.cl, jnp.maximum(-y, 0.0), active.rows_lower),
        Side(bounds.cu, jnp.maximum(y, 0.0), active.rows_upper),
        limit,
        relaxation,
    )
    d = nlp.derivatives(x, y, jnp.ones((), x.dtype), second_order=True)
    assert d.hessian is not None
    moving = ~variables.held
    springs = jnp.where(moving, variables.lower + variables.upper, 1.0)
    hessian = plus_diagonal(masked(d.hessian, moving, moving), springs)
    stiff = rows.lower + rows.upper
    connected = rows.held | (stiff > 0)
    diagonal = jnp.where(rows.held, 0.0, jnp.where(connected, 1.0 / jnp.where(connected, stiff, 1.0), 1.0))
    jacobian = masked(d.jacobian, connected, moving)
    operator = KKTOperator(hessian, jacobian, diagonal)
    exists = jnp.array(True)
    if solution.quality is not None and relaxation == 0:
        exists = solution.quality.differentiable
    curvature, of_moving, of_held = (
        masked(d.hessian, moving, moving),
        jnp.where(moving, x, 0.0),
        jnp.where(rows.held, y, 0.0),
    )
    units = _units(*jax.lax.stop_gradient((operator, curvature, moving, of_moving, of_held)))
    return Linearization(operator, units, exists, variables, rows)


def _units(operator: KKTOperator, curvature: Matrix, moving: Bool[Array, " n"], x, y) -> KKTVector:
    """`natural_units` in which, where there is hardly any curvature, multipliers are of the size of the variables: nothing else
    ties the two, and to be small is to be small beside one's own size."""
    of_x, of_y = natural_units(operator)
    size_x, size_y = (jnp.max(jnp.abs(value) / unit, initial=0.0) for value, unit in ((x, of_x), (y, of_y)))
    multipliers = jnp.where((size_x > 0) & (size_y > 0), size_y / jnp.where(size_x > 0, size_x, 1.0), 0.0)
    scale = jnp.maximum(largest(scaled(curvature, of_x, of_x)), multipliers)
    root = jnp.sqrt(jnp.where(scale > 0, scale, 1.0))
    return jnp.where(moving, of_x / root, of_x), of_y * root


def point(solution: Solution, relaxation: float) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """Where the conditions are linearised: at the solution of the equations of its active set, which moves as the solution
    does."""
    here = solution.x, solution.multipliers.constraints
    if relaxation > 0:
        return here
    nearer = jax.tree.map(
        lambda v: jnp.where(solved(solution), v, 0.0), (solution.active.x, solution.active.constraints)
    )
    return jax.tree.map(lambda v, w: w + jax.lax.stop_gradient(v - w), nearer, here)


class RescaledFactor(eqx.Module):
    """The factor of ``T K S``, where ``S`` and ``T`` are diagonal with these two parts each."""

    factor: Any
    left: tuple[Float[Array, " n"], Float[Array, " m"]]
    right: tuple[Float[Array, " n"], Float[Array, " m"]]


class Rescaled(AbstractKKTSolver[RescaledFactor]):
    """A KKT solver that can do with the factor of a solve in that solve's units."""

    solver: AbstractKKTSolver

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> RescaledFactor:
        ones = jnp.ones(operator.hessian.shape[0], operator.diagonal.dtype), jnp.ones_like(operator.diagonal)
        return RescaledFactor(self.solver.init(operator, options), ones, ones)

    def inertia(self, state: RescaledFactor) -> Inertia:
        return self.solver.inertia(state.factor)

    def compute(self, state: RescaledFactor, vector: KKTVector, options: dict[str, Any]):
        scaled = jax.tree.map(jnp.multiply, state.left, vector)
        solution, *rest = self.solver.compute(state.factor, scaled, options)
        return jax.tree.map(jnp.multiply, state.right, solution), *rest


def reused(kept: ActiveFactor, lin: Linearization) -> tuple[RescaledFactor, Bool[Array, ""]]:
    """The factor of a solve's last pass, and whether it is that of the linearisation, in its natural units.

    What the pass has factorised is the matrix of ``o f`` and ``r c`` in units of its own: rows and unknowns of what is held stand
    for themselves.
    """
    o, r, moving, held = kept.objective_scale, kept.row_scale, ~lin.variables.held, lin.rows.held
    same = kept.usable & jnp.all(kept.moving == moving) & jnp.all(kept.held == held)
    x, y = jax.tree.map(jnp.divide, kept.units, lin.units)
    left = jnp.where(moving, o, 1.0) * x, jnp.where(held, r, 1.0) * y
    right = x, jnp.where(held, r / o, 1.0) * y
    return jax.lax.stop_gradient((RescaledFactor(kept.factor, left, right), same))


def factorize(
    solver: AbstractKKTSolver, lin: Linearization, first: tuple[Any, Bool[Array, ""]] | None = None
) -> tuple[Linearization, EquilibratedFactor]:
    """A factor in natural units, and the linearisation it is of. ``first`` is a factor that may be at hand and whether it serves.

    Where the derivative exists, the factor may have a diagonal shift, which refinement undoes. Where it does not, the shift is
    part of the matrix: the smallest of a ladder that makes the reduced Hessian positive, and twice that, so that the matrix is
    far from singular.
    """
    units, share = lin.units, REGULARIZATION * jnp.sqrt(jnp.finfo(lin.operator.diagonal.dtype).eps)
    least = jnp.where(lin.exists, 0.0, share)
    base = jax.lax.stop_gradient(shifted(lin.operator, units, 0.0, least))

    def attempt(carry):
        amount, _, tries, last, _ = carry
        factor = solver.init(in_units(base, units, amount), {})
        correct = solver.inertia(factor).correct
        done = correct & (lin.exists | last)
        climbed = jnp.where(amount == 0, share, 100 * amount)
        following = jnp.where(correct, 2 * amount + least, climbed)
        return following, factor, jnp.where(done, 100, tries + 1), last | correct, amount

    if first is None:
        shapes = jax.eval_shape(lambda: solver.init(in_units(base, units), {}))
        first = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), jnp.array(False)
    factor, serves = first
    zero, no = jnp.zeros_like(least), jnp.array(False)
    start = (zero, factor, jnp.where(serves & lin.exists, 100, 0), no, zero)
    _, factor, _, _, amount = jax.lax.while_loop(lambda carry: carry[2] < 8, attempt, start)
    operator = shifted(lin.operator, units, jnp.where(lin.exists, 0.0, amount), least)
    lin = dataclasses.replace(lin, operator=operator)
    return lin, EquilibratedFactor(jax.lax.stop_gradient(operator), units, factor)


def shifted(operator: KKTOperator, units: KKTVector, primal, rows) -> KKTOperator:
    """With these shares of natural units on the diagonals."""
    hessian = plus_diagonal(operator.hessian, primal / units[0] ** 2)
    return KKTOperator(hessian, operator.jacobian, operator.diagonal + rows / units[1] ** 2)


def solved(solution: Solution) -> Bool[Array, ""]:
    """Whether there is a solution to differentiate."""
    return solution.success


def outputs(solution: Solution) -> tuple:
    """What of a solution has a derivative."""
    return solution.x, solution.objective, solution.constraints, solution.multipliers


class Held(eqx.Module):
    """The conditions linearised at a solution, with a factor of their matrix: what all derivatives at it share."""

    linearization: Linearization
    factor: EquilibratedFactor


def hold(
    inputs: Inputs,
    solution: Solution,
    kept: ActiveFactor | None,
    solver: AbstractKKTSolver,
    limit: float,
    relaxation: float,
) -> Held:
    """``kept``: the factor of the solve's last pass, which serves if it has the same active set."""
    lin = linearize(inputs.nlp, solution, inputs.bounds, limit, relaxation)
    first = None if kept is None else reused(kept, lin)
    return Held(*factorize(solver if kept is None else Rescaled(solver), lin, first))


def tangent(
    inputs: Inputs,
    tangents: Inputs,
    solution: Solution,
    kept: ActiveFactor | None,
    solver: AbstractKKTSolver,
    limit: float,
    relaxation: float,
) -> tuple:
    """Tangents of the `outputs` for tangents of the functions' parameters and the bounds."""
    held = hold(inputs, solution, kept, solver, limit, relaxation)
    return tangent_from(held, inputs, tangents, solution, solver, relaxation)


def tangent_from(
    held: Held, inputs: Inputs, tangents: Inputs, solution: Solution, solver: AbstractKKTSolver, relaxation: float
) -> tuple:
    """The same, once the conditions have been linearised there."""
    nlp, bounds, lin, factor = inputs.nlp, inputs.bounds, held.linearization, held.factor
    equilibrated = Equilibrated(Rescaled(solver) if isinstance(factor.factor, RescaledFactor) else solver)
    x, y = point(solution, relaxation)
    d_nlp, moves = tangents.nlp, first_order_moves(nlp, x, y)
    b = tangents.bounds
    variables, rows, moving = lin.variables, lin.rows, ~lin.variables.held
    shift = variables.side(b.lb, b.ub)
    pinned = jnp.where(moving, 0.0, shift)
    _, c_dot, gradient_dot = moves(d_nlp, pinned, jnp.zeros_like(y))
    r_x = jnp.where(moving, shift - gradient_dot, pinned)
    diagonal = lin.operator.diagonal
    connected = rows.held | (rows.lower + rows.upper > 0)
    pull = rows.side(b.cl, b.cu) * jnp.where(rows.held, 1.0, diagonal)
    r_y = jnp.where(connected, pull - c_dot, 0.0)
    dx, dy = linear_solve(lin.operator.mv, (r_x, r_y), equilibrated, factor, symmetric=True)
    df, dc, dgradient = moves(d_nlp, dx, dy)
    if relaxation == 0:
        rate = jnp.where(variables.held, dgradient, 0.0)
        lower_share = jnp.where(bounds.lb == bounds.ub, solution.multipliers.lower > 0, variables.lower > 0)
        d_lower, d_upper = jnp.where(lower_share, rate, 0.0), jnp.where(lower_share, 0.0, -rate)
    else:
        d_lower = jnp.where(moving, -variables.lower * (dx - b.lb), 0.0)
        d_upper = jnp.where(moving, -variables.upper * (b.ub - dx), 0.0)
    return dx, df, dc, Multipliers(dy, d_lower, d_upper)
