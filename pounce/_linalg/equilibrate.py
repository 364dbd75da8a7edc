"""Diagonal scaling of KKT systems."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def symmetric_scale(hessian: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Positive ``s`` with every diagonal entry of ``diag(s) |H| diag(s)`` at most one and entries below one left alone.

    Barrier terms put entries of 1e10 beside entries of 1e-4 on the diagonal; scaled away, they cannot drown curvature
    elsewhere. A congruence keeps the inertia.
    """
    return lax.rsqrt(jnp.maximum(jnp.abs(jnp.diagonal(hessian)), 1.0))
