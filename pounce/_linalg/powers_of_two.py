"""Powers of two as factors: multiplying by one leaves every digit of a number as it is."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def _format(dtype) -> tuple[jnp.dtype, int, int]:
    """The integers of a floating-point type's width, its bits behind the point, and what its exponents are raised by."""
    facts = jnp.finfo(dtype)
    return jnp.dtype(f"int{facts.bits}"), int(facts.nmant), 1 - int(facts.minexp)


def nearest_power_of_two(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The power of two next to ``|x|`` by ratio, exactly; zero for zero, infinity for what is not finite.

    The bits of the exponent are kept and all others dropped, which no logarithm of a library does without rounding.
    """
    integers, _, _ = _format(x.dtype)
    bits, kept = (lax.bitcast_convert_type(v, integers) for v in (x * math.sqrt(2.0), jnp.asarray(jnp.inf, x.dtype)))
    return lax.bitcast_convert_type(bits & kept, x.dtype)


def geometric_mean(x: Float[Array, " n"], least: Float[Array, ""] | float = 0.0) -> Float[Array, ""]:
    """A power of two near the geometric mean of the magnitudes above ``least`` (of their nearest powers of two, all of it); one
    if there are none."""
    integers, behind, raised = _format(x.dtype)
    sizes = nearest_power_of_two(x)
    exponents = (lax.bitcast_convert_type(sizes, integers) >> behind) - raised
    some = sizes > least
    total = jnp.sum(jnp.where(some, exponents, 0)) / jnp.maximum(jnp.sum(some), 1)
    return power_of_two(jnp.round(total).astype(integers), x.dtype)


def power_of_two(exponent: Int[Array, "*shape"], dtype) -> Float[Array, "*shape"]:
    """Two to the power of integers, which the type has to hold as normal numbers."""
    integers, behind, raised = _format(dtype)
    return lax.bitcast_convert_type((exponent.astype(integers) + raised) << behind, dtype)
