"""Solutions held with what their derivatives have in common: the conditions linearised there and the factor of their matrix."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ._adjoint import nonlinear
from ._adjoint.nonlinear import Held, Inputs
from ._adjoint.rule import guarded, heeded, sanitized
from ._program import NO_BOUND, Data, Program, rest_of
from ._results import Status
from ._solution import ActiveSet, Multipliers, Solution
from ._solve import ActiveFactor, solve_and_keep, solve_nlp


class Anchor(eqx.Module):
    """A solution and what its derivatives share, one per lane: a pytree of arrays.

    Those of a lane that was not solved are what the program's `on_failure` says.
    """

    solution: Solution
    held: Held


@jax.custom_jvp
def _undifferentiated(arrays: PyTree) -> PyTree:
    """The same arrays, and an error instead of derivatives of the iterations."""
    return arrays


@_undifferentiated.defjvp
def _(primals, tangents):
    raise TypeError(
        "pounce: a state that is held is not differentiable: ask it for products, or use `solve` or "
        "`batched_solve_with_jacobian`, whose results are"
    )


def anchor(program: Program, data: Data) -> Anchor:
    """Solve, and hold the factor. Traceable; not differentiable, for derivatives are what is held."""
    data = _undifferentiated(data)
    inputs, rest = program.inputs(data), rest_of(data)
    if program.reusable:
        solution, (kept,) = program.runner(solve_and_keep, data)(inputs, rest)
    else:
        solution, kept = program.runner(solve_nlp, data)(inputs, rest), None
    return held_at(program, data, solution, kept)


def anchor_at(program: Program, data: Data, x: Float[Array, " n"], multipliers: Multipliers) -> Anchor:
    """The same at a point that is known to satisfy the optimality conditions, without a solve and what only a solve knows."""
    objective, constraints = program.nlp(data).evaluate(x)
    status = jnp.asarray(Status.Solve_Succeeded, jnp.int32)
    unknown: Any = None
    bounds, y = data.start.bounds, multipliers.constraints
    lower, upper = _larger(x, bounds.lb, bounds.ub, multipliers.lower, multipliers.upper)
    rows_lower, rows_upper = _larger(constraints, bounds.cl, bounds.cu, -y, y)
    active = ActiveSet(lower, upper, rows_lower, rows_upper, x, y)
    solution = Solution(
        x, objective, constraints, multipliers, status, unknown, unknown, unknown, active, unknown, None
    )  # fmt: skip
    return held_at(program, data, solution, None)


def _larger(value, lower, upper, z_lower, z_upper) -> tuple[Array, Array]:
    """Which sides are active at a point that came without a solve: all that is known is whether slack or multiplier is zero."""
    inequality = lower < upper
    low = inequality & (lower > -NO_BOUND) & (z_lower > value - lower)
    high = inequality & (upper < NO_BOUND) & (z_upper > upper - value)
    return low & ~(high & (z_upper > z_lower)), high & ~(low & (z_lower >= z_upper))


def held_at(program: Program, data: Data, solution: Solution, kept: ActiveFactor | None) -> Anchor:
    """The same at the solution of a solve, of which the last factor may have been ``kept``."""
    solution = heeded(solution, nonlinear.solved(solution), program.on_failure)
    solver, inputs, safe = _at(program, data, program.inputs(data), solution)
    return Anchor(solution, nonlinear.hold(inputs, safe, kept, solver, NO_BOUND, program.relaxation))


def _at(program: Program, data: Data, inputs: Inputs, solution: Solution, *rates: Inputs) -> tuple:
    """Solver, inputs and solution for derivatives, finite in any case; and the ``rates`` of the inputs."""
    solver, inputs, *rates = program.differentiated(data, inputs, *rates)  # pyright: ignore[reportAssignmentType]
    return solver, *sanitized(inputs, solution, nonlinear.solved(solution), nonlinear.outputs), *rates


def moves_at(program: Program, data: Data, inputs: Inputs, rates: Inputs, at: Anchor) -> tuple:
    """Tangents of the solution for tangents of the inputs that are inexact arrays: one solve with the held factor."""
    solver, inputs, safe, rates = _at(program, data, inputs, at.solution, rates)

    def tangent(rates: Inputs) -> tuple:
        return nonlinear.tangent_from(at.held, inputs, rates, safe, solver, program.relaxation)

    return guarded(tangent, nonlinear.solved(at.solution), program.on_failure)(rates)


def rates(program: Program, data: Data, at: Anchor, dp: PyTree) -> tuple[Array, Array]:
    """How the solution and the row multipliers move with the parameters."""
    inputs = program.inputs(data)
    still = jax.tree.map(jnp.zeros_like, eqx.filter(inputs, eqx.is_inexact_array))
    moving = eqx.tree_at(lambda i: i.nlp.parameters, still, eqx.filter(dp, eqx.is_inexact_array))
    dx, _, _, multipliers = moves_at(program, data, inputs, moving, at)
    return dx, multipliers.constraints


def pulled(program: Program, data: Data, at: Anchor, x_bar: Float[Array, " n"]) -> Float[Array, " k"]:
    """What cotangents of the solution are for the parameters, raveled: the transpose of `rates`."""
    flat, restored = ravel_pytree(data.parameters)
    _, pull = jax.vjp(lambda dp: rates(program, data, at, restored(dp))[0], jnp.zeros_like(flat))
    return pull(x_bar)[0]


def jacobian(program: Program, data: Data, at: Anchor, basis: Float[Array, "k p"]) -> Float[Array, "n k"]:
    """The derivatives of the solution along directions of the raveled parameters: one solve for many right-hand sides."""
    flat, restored = ravel_pytree(data.parameters)
    basis = basis.astype(flat.dtype)
    n = at.solution.x.shape[0]
    if basis.shape[0] <= n:
        return jax.vmap(lambda dp: rates(program, data, at, restored(dp))[0], out_axes=1)(basis)
    return jax.vmap(lambda x_bar: pulled(program, data, at, x_bar))(jnp.eye(n, dtype=at.solution.x.dtype)) @ basis.T
