"""What the units of a cone's rows are made of."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


APART = 1e-4  # s'z next to |s| |z|, where both are on the boundary


def inverse_root(sizes: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``sizes**-1/2``, one where there is no size."""
    return jnp.where(sizes > 0, lax.rsqrt(jnp.where(sizes > 0, sizes, 1.0)), 1.0)


def quotient(above: Float[Array, "*shape"], below: Float[Array, "*shape"], wanted: Any) -> Float[Array, "*shape"]:
    """``above / below``, one where that is not wanted or not known."""
    known = wanted & (above > 0) & (below > 0) & jnp.isfinite(above) & jnp.isfinite(below)
    return jnp.where(known, above, 1.0) / jnp.where(known, below, 1.0)
