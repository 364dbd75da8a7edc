"""The KKT conditions of a nonlinear program, linearised for the derivative rule.

At a solution the active bounds and rows are held and the others dropped, which leaves a linear system in the tangents of
``x`` and of the row multipliers (Fiacco 1983, theorem 3.2.2). Which are active, and where the equations of that set hold, is
what the solve has found out (`ActiveSet`); nothing is compared here.

Where no derivative exists (dependent gradients of active constraints, no curvature), the matrix keeps a regularisation of the
square root of the precision, relative to its size, so that what is returned is bounded.

With ``relaxation = mu > 0`` every slack-multiplier pair is replaced by its smoothing
``s' = (s - z)/2 + sqrt(((s - z)/2)^2 + mu)``, ``z' = mu / s'`` (Kanzow 1996), and the conditions of the central path are
differentiated instead: finite and useful where a constraint is weakly active.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._interior.start import Bounds
from .._linalg.kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .._linalg.matrix import largest, masked, plus_diagonal, row_squares
from .._linalg.refined import Refined, RefinedFactor
from .._problem.crossing import first_order_moves
from .._problem.nlp import AbstractNLP
from .._solution import Multipliers, Solution
from .._solve import ActiveFactor


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
    equal = has_lower & has_upper & (lower.bound == upper.bound)
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
    if solution.quality is not None:
        scale = jnp.maximum(largest(hessian), 1.0)
        exists = solution.quality.inertia_correct & solution.quality.regular
        share = jnp.where(exists, 0.0, jnp.sqrt(jnp.finfo(x.dtype).eps))
        hessian = plus_diagonal(hessian, jnp.broadcast_to(share * scale, x.shape))
        diagonal = diagonal + share / scale * row_squares(jacobian)
    return Linearization(KKTOperator(hessian, jacobian, diagonal), variables, rows)


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


def reused(kept: ActiveFactor, lin: Linearization) -> tuple[RefinedFactor, Bool[Array, ""]]:
    """The factor of a solve's last pass, and whether it is that of the linearisation.

    What the pass has factorised is the matrix of ``o f`` and ``r c``: rows and unknowns of what is held stand for themselves.
    """
    o, r, moving, held = kept.objective_scale, kept.row_scale, ~lin.variables.held, lin.rows.held
    same = kept.usable & jnp.all(kept.moving == moving) & jnp.all(kept.held == held)
    left = jnp.where(moving, o, 1.0), jnp.where(held, r, 1.0)
    right = jnp.ones_like(left[0]), jnp.where(held, r / o, 1.0)
    factor = RefinedFactor(lin.operator, RescaledFactor(kept.factor, left, right))
    return jax.lax.stop_gradient((factor, same))


def factorize(
    solver: AbstractKKTSolver, operator: KKTOperator, first: tuple[Any, Bool[Array, ""]] | None = None
) -> Any:
    """A factor with the smallest diagonal shift that makes it usable: none at a regular solution.

    Where second-order conditions fail, the shifted system stands for a least-squares solution instead of NaN. ``first`` is a
    factor that may be at hand and whether it serves.
    """
    operator = jax.lax.stop_gradient(operator)
    scale = jnp.maximum(largest(operator.hessian), 1.0)
    unit = jnp.full(operator.hessian.shape[0], scale)
    shift = jnp.sqrt(jnp.finfo(scale.dtype).eps)

    def attempt(carry):
        amount, _, tries = carry
        hessian = plus_diagonal(operator.hessian, amount * unit)
        shifted = KKTOperator(hessian, operator.jacobian, operator.diagonal)
        factor = solver.init(shifted, {})
        done = solver.inertia(factor).correct
        return jnp.where(amount == 0, shift, 100 * amount), factor, jnp.where(done, 100, tries + 1)

    if first is None:
        shapes = jax.eval_shape(lambda: solver.init(operator, {}))
        first = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), jnp.array(False)
    factor, serves = first
    start = (jnp.zeros_like(scale), factor, jnp.where(serves, 100, 0))
    return jax.lax.while_loop(lambda carry: carry[2] < 8, attempt, start)[1]


def solved(solution: Solution) -> Bool[Array, ""]:
    """Whether there is a solution to differentiate."""
    return solution.success


def outputs(solution: Solution) -> tuple:
    """What of a solution has a derivative."""
    return solution.x, solution.objective, solution.constraints, solution.multipliers


class Held(eqx.Module):
    """The conditions linearised at a solution, with a factor of their matrix: what all derivatives at it share."""

    linearization: Linearization
    factor: RefinedFactor


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
    return Held(lin, factorize(_refined(solver, kept is not None), lin.operator, first))


def _refined(solver: AbstractKKTSolver, reuse: bool) -> Refined:
    """The solver that has made, or can take over, a factor."""
    return Refined(Rescaled(solver), fewest=1) if reuse else Refined(solver)


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
    solver = _refined(solver, isinstance(factor.factor, RescaledFactor))
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
    dx, dy = lx.linear_solve(lin.operator, (r_x, r_y), solver, state=factor, throw=False).value
    df, dc, dgradient = moves(d_nlp, dx, dy)
    if relaxation == 0:
        rate = jnp.where(variables.held, dgradient, 0.0)
        lower_share = jnp.where(bounds.lb == bounds.ub, solution.multipliers.lower > 0, variables.lower > 0)
        d_lower, d_upper = jnp.where(lower_share, rate, 0.0), jnp.where(lower_share, 0.0, -rate)
    else:
        d_lower = jnp.where(moving, -variables.lower * (dx - b.lb), 0.0)
        d_upper = jnp.where(moving, -variables.upper * (b.ub - dx), 0.0)
    return dx, df, dc, Multipliers(dy, d_lower, d_upper)
