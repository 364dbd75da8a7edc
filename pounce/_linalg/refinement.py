"""Iterative refinement against the exact operator."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


Vector = TypeVar("Vector")


class Refined(eqx.Module):
    """A solution and the size of what is left of the right-hand side, as Ipopt measures it."""

    solution: tuple
    ratio: Float[Array, ""]


class _Carry(eqx.Module):
    solution: tuple
    residual: tuple
    ratio: Float[Array, ""]
    previous: Float[Array, ""]
    steps: Int[Array, ""]


def _max_abs(vector) -> Float[Array, ""]:
    return jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(vector)]).max()


def refined_solve(
    apply: Callable,
    solve: Callable,
    rhs: tuple,
    *,
    enabled: Array | bool = True,
    min_steps: Array | float = 1.0,
    max_steps: Array | float = 10.0,
    ratio_max: Array | float = 1e-10,
    improvement: Array | float = 0.999999999,
    start: tuple | None = None,
) -> Refined:
    """Solve ``apply(v) = rhs`` with the approximate inverse ``solve``, refined while it helps.

    The ratio is ``|resid| / (min(|v|, 1e6 |rhs|) + |rhs|)`` in the max norm (Ipopt's `PDFullSpaceSolver`); refinement makes
    at least ``min_steps`` corrections and goes on while the ratio exceeds ``ratio_max`` and still falls. Nothing runs where
    ``enabled`` is false (the answer is then ``start`` or zero, with an infinite ratio).
    """
    size = _max_abs(rhs)

    def proceed(c: _Carry):
        wanted = (c.steps <= min_steps) | ((c.ratio > ratio_max) & (c.ratio <= improvement * c.previous))
        return enabled & wanted & (c.steps <= max_steps)

    def body(c: _Carry):
        correction = solve(c.residual)
        solution = jax.tree.map(jnp.add, c.solution, correction)
        residual = jax.tree.map(jnp.subtract, rhs, apply(solution))
        ratio = _max_abs(residual) / (jnp.minimum(_max_abs(solution), 1e6 * size) + size)
        ratio = jnp.where(size == 0, 0.0, ratio)
        # A correction that makes things worse is not taken; NaN counts as worse.
        keep = (ratio <= c.ratio) | (c.steps == 0)
        solution, residual = jax.tree.map(
            lambda new, old: jnp.where(keep, new, old), (solution, residual), (c.solution, c.residual)
        )
        return _Carry(solution, residual, jnp.where(keep, ratio, c.ratio), c.ratio, jnp.where(keep, c.steps + 1, 1000))

    zero = jax.tree.map(jnp.zeros_like, rhs)
    infinity = jnp.full_like(size, jnp.inf)
    if start is None:
        first = _Carry(zero, rhs, infinity, infinity, jnp.array(0))
    else:
        first = _Carry(start, jax.tree.map(jnp.subtract, rhs, apply(start)), infinity, infinity, jnp.array(0))
    last = lax.while_loop(proceed, body, first)
    return Refined(last.solution, last.ratio)
