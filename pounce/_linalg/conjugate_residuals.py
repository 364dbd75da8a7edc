"""Linear systems by the best combination of all steps of an approximate inverse."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree


class Solved(eqx.Module):
    """A solution, and what it leaves of the right-hand side."""

    solution: PyTree
    residual: PyTree
    share: Float[Array, ""]  # the norm of that, relative to the right-hand side's


class Rule(eqx.Module):
    """How many steps are made and remembered, and when they end."""

    target: float = eqx.field(static=True)  # what may be left of the norm of the right-hand side
    passes: int = eqx.field(static=True)
    directions: int = eqx.field(static=True)  # how many of the last ones new ones are made orthogonal to
    sweeps: int = eqx.field(static=True, default=1)  # of that; the second removes the rounding of the first
    # Whether directions are looked at one by one, as many as there are, instead of all that may be remembered: for long vectors.
    one_by_one: bool = eqx.field(static=True, default=False)
    rounding: float = eqx.field(static=True, default=0.0)  # the share of a step below which its image is rounding
    # What a step may leave of the residual without being the last; above and below a share of the right-hand side. None: steps
    # go on whatever they bring.
    stalled: tuple[float, float, float] | None = eqx.field(static=True, default=None)


def minimal_residual(
    apply: Callable[[PyTree], PyTree], approximate: Callable[[PyTree], PyTree], right: PyTree, rule: Rule
) -> Solved:
    """Solve ``apply(v) = right`` given an approximate inverse: generalised conjugate residuals (Eisenstat, Elman and
    Schultz 1983), truncated.

    Where the approximate inverse is a good one, this is iterative refinement. What it damps, as a regularisation does with all
    that is softer than itself, costs one step more for each such direction instead of an answer that is short of it.
    """
    b, unravel = ravel_pytree(right)
    size = jnp.sqrt(jnp.sum(b * b))

    def body(carry):
        x, residual, past, error, count, _ = carry
        step = approximate(unravel(residual))
        both = jnp.stack([ravel_pytree(step)[0], ravel_pytree(apply(step))[0]])
        for _ in range(rule.sweeps):
            both = _orthogonal(both, past, jnp.minimum(count, rule.directions) if rule.one_by_one else None)
        squares = jnp.sum(both * both, axis=1)
        # The image of what a singular matrix takes to zero is rounding.
        usable = (squares[1] > rule.rounding**2 * squares[0]) & jnp.isfinite(squares[1])
        both = jnp.where(usable, both * lax.rsqrt(jnp.where(usable, squares[1], 1.0)), 0.0)
        share = both[1] @ residual
        x, residual = x + share * both[0], residual - share * both[1]
        new = jnp.sqrt(jnp.sum(residual * residual))
        going = usable & (new > rule.target * size) & (count + 1 < rule.passes)
        if rule.stalled is not None:
            little, above, below = rule.stalled
            # Steps are slow where many directions are damped, or where the residual is all rounding.
            going = going & (new < jnp.where(new > little * size, above, below) * error)
        return x, residual, past.at[count % rule.directions].set(both), new, count + 1, going

    none = jnp.zeros((rule.directions, 2, b.shape[0]), b.dtype)
    start = (jnp.zeros_like(b), b, none, size, jnp.zeros((), int), size > 0)
    x, residual, *_ = lax.while_loop(lambda carry: carry[-1], body, start)
    left = jnp.sqrt(jnp.sum(residual * residual)) / jnp.where(size > 0, size, 1.0)
    return Solved(unravel(x), unravel(residual), left)


def _orthogonal(both: Float[Array, "2 k"], past: Float[Array, "d 2 k"], used: Int[Array, ""] | None):
    """A step and its image, that orthogonal to the images of all former ones, or of the first ``used``."""
    if used is None:
        return both - jnp.einsum("k,kij->ij", past[:, 1] @ both[1], past)

    def less(k, rest):
        own = lax.dynamic_index_in_dim(past, k, keepdims=False)
        return rest - (own[1] @ both[1]) * own

    return lax.fori_loop(0, used, less, both)


def to_rounding(like: Array) -> Rule:
    """Until nothing but rounding is left."""
    eps = float(jnp.finfo(like.dtype).eps)
    return Rule(100 * eps, passes=40, directions=10, rounding=50 * eps, stalled=(eps**0.6, 0.999, 0.5))
