"""The KKT conditions of a nonlinear program, linearised for the derivative rule.

At a solution the active bounds and rows are held and the others dropped, which leaves a linear system in the tangents of
``x`` and of the row multipliers (Fiacco 1983, theorem 3.2.2).

With ``relaxation = mu > 0`` every slack-multiplier pair is replaced by its smoothing
``s' = (s - z)/2 + sqrt(((s - z)/2)^2 + mu)``, ``z' = mu / s'`` (Kanzow 1996), and the conditions of the central path are
differentiated instead: finite and useful where a constraint is weakly active.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._interior.start import Bounds
from .._linalg.kkt import AbstractKKTSolver, KKTOperator
from .._linalg.matrix import largest, masked, plus_diagonal
from .._problem.nlp import AbstractNLP
from .._solution import Multipliers, Solution


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


def _stiffness(value, lower, upper, z_lower, z_upper, limit: float, relaxation: float) -> Stiffness:
    has_lower, has_upper = lower > -limit, upper < limit
    equal = has_lower & has_upper & (lower == upper)
    slacks = value - jnp.where(has_lower, lower, 0.0), jnp.where(has_upper, upper, 0.0) - value
    if relaxation == 0:
        low = has_lower & (z_lower > slacks[0])
        high = has_upper & (z_upper > slacks[1]) & ~(low & (z_lower >= z_upper))
        low = low & ~high
        held = low | high | equal
        low, high = low.astype(value.dtype), high.astype(value.dtype)
    else:
        low, high = (
            jnp.where(exists & ~equal, _smoothed_ratio(slack, z, relaxation), 0.0)
            for exists, slack, z in ((has_lower, slacks[0], z_lower), (has_upper, slacks[1], z_upper))
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
    x, y = solution.x, solution.multipliers.constraints
    z = solution.multipliers
    variables = _stiffness(x, bounds.lb, bounds.ub, z.lower, z.upper, limit, relaxation)
    y_lower, y_upper = jnp.maximum(-y, 0.0), jnp.maximum(y, 0.0)
    rows = _stiffness(solution.constraints, bounds.cl, bounds.cu, y_lower, y_upper, limit, relaxation)
    d = nlp.derivatives(x, y, jnp.ones((), x.dtype), second_order=True)
    assert d.hessian is not None
    moving = ~variables.held
    springs = jnp.where(moving, variables.lower + variables.upper, 1.0)
    hessian = plus_diagonal(masked(d.hessian, moving, moving), springs)
    stiff = rows.lower + rows.upper
    connected = rows.held | (stiff > 0)
    diagonal = jnp.where(rows.held, 0.0, jnp.where(connected, 1.0 / jnp.where(connected, stiff, 1.0), 1.0))
    jacobian = masked(d.jacobian, connected, moving)
    return Linearization(KKTOperator(hessian, jacobian, diagonal), variables, rows)


def factorize(solver: AbstractKKTSolver, operator: KKTOperator):
    """A factor with the smallest diagonal shift that makes it usable: none at a regular solution.

    Where second-order conditions fail, the shifted system stands for a least-squares solution instead of NaN.
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

    shapes = jax.eval_shape(lambda: solver.init(operator, {}))
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    start = (jnp.zeros_like(scale), blank, jnp.array(0))
    return jax.lax.while_loop(lambda carry: carry[2] < 8, attempt, start)[1]


def solved(solution: Solution) -> Bool[Array, ""]:
    """Whether there is a solution to differentiate."""
    return solution.success


def outputs(solution: Solution) -> tuple:
    """What of a solution has a derivative."""
    return solution.x, solution.objective, solution.constraints, solution.multipliers


def tangent(
    inputs: Inputs, tangents: Inputs, solution: Solution, solver: AbstractKKTSolver, limit: float, relaxation: float
) -> tuple:
    """Tangents of the `outputs` for tangents of the functions' parameters and the bounds."""
    nlp, bounds = inputs.nlp, inputs.bounds
    lin = linearize(nlp, solution, bounds, limit, relaxation)
    factor = factorize(solver, lin.operator)
    x, y = solution.x, solution.multipliers.constraints
    dynamic, static = eqx.partition(nlp, eqx.is_inexact_array)
    d_nlp = tangents.nlp

    def first_order(nlp_arrays, x, y):
        """f, c and the gradient of the Lagrangian."""
        program = eqx.combine(nlp_arrays, static)
        (f, c), pullback = jax.vjp(program.evaluate, x)
        return f, c, pullback((jnp.ones_like(f), y))[0]

    b = tangents.bounds
    variables, rows, moving = lin.variables, lin.rows, ~lin.variables.held
    shift = variables.side(b.lb, b.ub)
    pinned = jnp.where(moving, 0.0, shift)
    zero_y = jnp.zeros_like(y)
    _, (_, c_dot, gradient_dot) = jax.jvp(first_order, (dynamic, x, y), (d_nlp, pinned, zero_y))
    r_x = jnp.where(moving, shift - gradient_dot, pinned)
    diagonal = lin.operator.diagonal
    connected = rows.held | (rows.lower + rows.upper > 0)
    pull = rows.side(b.cl, b.cu) * jnp.where(rows.held, 1.0, diagonal)
    r_y = jnp.where(connected, pull - c_dot, 0.0)
    dx, dy = lx.linear_solve(lin.operator, (r_x, r_y), solver, state=factor, throw=False).value
    _, (df, dc, dgradient) = jax.jvp(first_order, (dynamic, x, y), (d_nlp, dx, dy))
    if relaxation == 0:
        held = variables.held
        rate = jnp.where(held, dgradient, 0.0)
        lower_share = jnp.where(bounds.lb == bounds.ub, solution.multipliers.lower > 0, variables.lower > 0)
        d_lower, d_upper = jnp.where(lower_share, rate, 0.0), jnp.where(lower_share, 0.0, -rate)
    else:
        d_lower = jnp.where(moving, -variables.lower * (dx - b.lb), 0.0)
        d_upper = jnp.where(moving, -variables.upper * (b.ub - dx), 0.0)
    return dx, df, dc, Multipliers(dy, d_lower, d_upper)
