"""Refinement by the best combination of all its steps."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .system import Vector


DIRECTIONS, PASSES = 10, 40  # how many steps are remembered, and made
ROUNDING = 50.0  # times the precision
SOLVED = 0.6  # the power of the precision that is little to be left
STALLED = 0.999  # of the residual, left by a step that ends it


class Solved(eqx.Module):
    """A solution, and what it leaves of the right-hand side."""

    solution: Vector
    residual: Vector
    share: Float[Array, ""]  # the norm of that, relative to the right-hand side's


def minimal_residual(
    apply: Callable[[Vector], Vector], approximate: Callable[[Vector], Vector], right: Vector
) -> Solved:
    """Solve ``apply(v) = right`` given an approximate inverse: generalised conjugate residuals (Eisenstat, Elman and
    Schultz 1983), truncated.

    Where the approximate inverse is a good one, this is iterative refinement. What it damps, as a regularisation does with all
    that is softer than itself, costs one step more for each such direction instead of an answer that is short of it.
    """
    b, unravel = _flat(right)
    eps = jnp.finfo(b.dtype).eps
    size = jnp.sqrt(jnp.sum(b * b))
    target = 100 * eps * size

    def body(carry):
        x, residual, past, error, count, _ = carry
        step = approximate(unravel(residual))
        both = jnp.stack([_flat(step)[0], _flat(apply(step))[0]])
        both = both - jnp.einsum("k,kij->ij", past[:, 1] @ both[1], past)
        squares = jnp.sum(both * both, axis=1)
        # The image of what a singular matrix takes to zero is rounding.
        usable = (squares[1] > (ROUNDING * eps) ** 2 * squares[0]) & jnp.isfinite(squares[1])
        both = jnp.where(usable, both * lax.rsqrt(jnp.where(usable, squares[1], 1.0)), 0.0)
        share = both[1] @ residual
        x, residual = x + share * both[0], residual - share * both[1]
        new = jnp.sqrt(jnp.sum(residual * residual))
        # Steps are slow where many directions are damped, or where the residual is all rounding.
        allowed = jnp.where(new > eps**SOLVED * size, STALLED, 0.5)
        going = usable & (new > target) & (new < allowed * error) & (count + 1 < PASSES)
        return x, residual, past.at[count % DIRECTIONS].set(both), new, count + 1, going

    none = jnp.zeros((DIRECTIONS, 2, b.shape[0]), b.dtype)
    start = (jnp.zeros_like(b), b, none, size, jnp.zeros((), int), size > 0)
    x, residual, *_ = lax.while_loop(lambda carry: carry[-1], body, start)
    left = jnp.sqrt(jnp.sum(residual * residual)) / jnp.where(size > 0, size, 1.0)
    return Solved(unravel(x), unravel(residual), left)


def _flat(v: Vector):
    n, p = v.x.shape[0], v.y.shape[0]

    def unravel(flat: Array) -> Vector:
        return Vector(flat[:n], flat[n : n + p], flat[n + p :])

    return jnp.concatenate(jax.tree.leaves(v)), unravel
