"""What the units of a cone's rows are made of."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


ROUNDING = 1e3  # times the precision: what a polished pair may have in the place of zero
APART = 1e-4  # s'z next to |s| |z|, where both are on the boundary


def price_share(
    slack: Float[Array, " size"], price: Float[Array, " size"], count: int
) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
    """What multipliers are of both, by rows of ``count`` blocks, and the sum of the two. Where that is rounding beside the rest
    of its block nobody knows, and it is a half."""
    total = slack + price
    largest = jnp.max(total.reshape(count, -1), axis=1, keepdims=True, initial=0.0)
    least = jnp.broadcast_to(ROUNDING * jnp.finfo(total.dtype).eps * largest, (count, total.size // max(count, 1)))
    known = total > least.reshape(-1)
    return jnp.where(known, price / jnp.where(known, total, 1.0), 0.5), total


def inverse_root(sizes: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``sizes**-1/2``, one where there is no size."""
    return jnp.where(sizes > 0, lax.rsqrt(jnp.where(sizes > 0, sizes, 1.0)), 1.0)


def quotient(above: Float[Array, "*shape"], below: Float[Array, "*shape"], wanted: Any) -> Float[Array, "*shape"]:
    """``above / below``, one where that is not wanted or not known."""
    known = wanted & (above > 0) & (below > 0) & jnp.isfinite(above) & jnp.isfinite(below)
    return jnp.where(known, above, 1.0) / jnp.where(known, below, 1.0)
