"""The one derivative rule: implicit differentiation of the KKT conditions.

At a solution the active bounds and rows are held and the others dropped, which leaves a linear system in the tangents of
``x`` and of the row multipliers (Fiacco 1983, theorem 3.2.2). Forward and reverse mode, batching and higher orders all come
from this rule: it is a JVP whose linear solve is `lineax.linear_solve` with the factor computed once at the solution.

With ``relaxation = mu > 0`` every slack-multiplier pair is replaced by its smoothing
``s' = (s - z)/2 + sqrt(((s - z)/2)^2 + mu)``, ``z' = mu / s'`` (Kanzow 1996), and the conditions of the central path are
differentiated instead: finite and useful where a constraint is weakly active.
"""

import warnings
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ._interior.start import Bounds
from ._linalg.kkt import AbstractKKTSolver, KKTOperator
from ._problem.nlp import AbstractNLP
from ._solution import Multipliers, Solution


OnFailure = Literal["zero", "nan", "raise", "warn"]


class Inputs(eqx.Module):
    """What a solution depends on."""

    nlp: AbstractNLP
    bounds: Bounds


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
    hessian = jnp.where(moving[:, None] & moving, d.hessian, 0.0) + jnp.diag(springs)
    stiff = rows.lower + rows.upper
    connected = rows.held | (stiff > 0)
    diagonal = jnp.where(rows.held, 0.0, jnp.where(connected, 1.0 / jnp.where(connected, stiff, 1.0), 1.0))
    jacobian = jnp.where(connected[:, None] & moving, d.jacobian, 0.0)
    return Linearization(KKTOperator(hessian, jacobian, diagonal), variables, rows)


def factorize(solver: AbstractKKTSolver, operator: KKTOperator):
    """A factor with the smallest diagonal shift that makes it usable: none at a regular solution.

    Where second-order conditions fail, the shifted system stands for a least-squares solution instead of NaN.
    """
    operator = jax.lax.stop_gradient(operator)
    scale = jnp.maximum(jnp.max(jnp.abs(operator.hessian), initial=0.0), 1.0)
    unit = jnp.eye(operator.hessian.shape[0], dtype=scale.dtype) * scale
    shift = jnp.sqrt(jnp.finfo(scale.dtype).eps)

    def attempt(carry):
        amount, _, tries = carry
        shifted = KKTOperator(operator.hessian + amount * unit, operator.jacobian, operator.diagonal)
        factor = solver.init(shifted, {})
        done = solver.inertia(factor).correct
        return jnp.where(amount == 0, shift, 100 * amount), factor, jnp.where(done, 100, tries + 1)

    shapes = jax.eval_shape(lambda: solver.init(operator, {}))
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    start = (jnp.zeros_like(scale), blank, jnp.array(0))
    return jax.lax.while_loop(lambda carry: carry[2] < 8, attempt, start)[1]


def solution_tangent(
    inputs: Inputs, tangents: Inputs, solution: Solution, solver: AbstractKKTSolver, limit: float, relaxation: float
) -> tuple:
    """Tangents of ``(x, objective, constraints, multipliers)`` for tangents of the functions' parameters and the bounds."""
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


def differentiable_solve(
    run: Callable[[Inputs, PyTree], Solution],
    inputs: Inputs,
    rest: PyTree,
    solver: AbstractKKTSolver,
    limit: float,
    relaxation: float,
    on_failure: OnFailure,
) -> Solution:
    """``run(inputs, rest)`` with the implicit derivative rule attached.

    **Arguments:**

    - `run`: solves; closes over no arrays.
    - `rest`: arrays the solution does not depend on (starting point, warm start, tolerances).
    - `limit`: magnitude from which a bound counts as absent.
    - `on_failure`: tangents of a lane that was not solved: zero, NaN, an error, or zero with a warning.
    """
    dynamic, fixed = eqx.partition(inputs, eqx.is_inexact_array)
    arrays, static = eqx.partition((fixed, rest), eqx.is_array)

    @jax.custom_jvp
    def solve(dynamic, arrays):
        fixed, rest = eqx.combine(arrays, static)
        return run(eqx.combine(dynamic, fixed), rest)

    @solve.defjvp
    def rule(primals, tangents):
        (dynamic, arrays), (rates, _) = primals, tangents
        solution = solve(dynamic, arrays)
        good = solution.success
        if on_failure == "raise":
            # On the solution, not on its tangent: what is only linear does not survive transposition.
            message = "pounce: a solve that is being differentiated did not succeed"
            solution = eqx.error_if(solution, ~good, message)
        rates = jax.tree.map(lambda t: _guarded(t, good, on_failure), rates)
        safe = _sanitized(solution, good)
        whole = eqx.combine(dynamic, eqx.combine(arrays, static)[0])
        dx, df, dc, dz = solution_tangent(whole, rates, safe, solver, limit, relaxation)
        dx, df, dc, dz = _on_failure((dx, df, dc, dz), good, on_failure)
        blank = jax.tree.map(_zero_tangent, solution)
        tangent = eqx.tree_at(lambda s: (s.x, s.objective, s.constraints, s.multipliers), blank, (dx, df, dc, dz))
        return solution, tangent

    return solve(dynamic, arrays)


def _zero_tangent(leaf: Array):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def _sanitized(solution: Solution, good: Bool[Array, ""]) -> Solution:
    """Finite numbers in the place of an unsolved lane's."""

    def clean(leaf):
        return jnp.where(good, leaf, jnp.zeros_like(leaf))

    return eqx.tree_at(
        lambda s: (s.x, s.constraints, s.multipliers),
        solution,
        (clean(solution.x), clean(solution.constraints), jax.tree.map(clean, solution.multipliers)),
    )


def _guarded(tangent: Array, good: Bool[Array, ""], on_failure: OnFailure) -> Array:
    """The tangent of an input, cut off from a failed lane at this end too.

    Transposed, this is the last thing that happens to a cotangent: the selection keeps NaN away from the parameters, the product
    makes it arrive there.
    """
    if on_failure == "nan":
        return tangent * jnp.where(good, 1.0, jnp.nan).astype(tangent.dtype)
    return jnp.where(good, tangent, jnp.zeros_like(tangent))


def _on_failure(tangents, good: Bool[Array, ""], on_failure: OnFailure):
    if on_failure == "warn":
        jax.debug.callback(_warn, jnp.all(good))
    fill = jnp.nan if on_failure == "nan" else 0.0
    return jax.tree.map(lambda t: jnp.where(good, t, fill), tangents)


def _warn(good) -> None:
    if not np.all(good):
        warnings.warn(
            "pounce: a solve that is being differentiated did not succeed; its derivative is zero", stacklevel=2
        )
