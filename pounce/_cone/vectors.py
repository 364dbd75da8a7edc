"""Stacks of vectors and matrices of three dimensions, and scalar equations of each of them.

Sums are written out, because a batch of tiny products is slow as a matrix product on a CPU and inexact on a GPU.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


ROOT_ITERATIONS = 100  # some 60 bisections exhaust the digits of a bracket; most roots take 5 to 15 steps

Vectors = Float[Array, "*stack 3"]
Matrices = Float[Array, "*stack 3 3"]
Numbers = Float[Array, "*stack"]


def components(v: Vectors) -> tuple[Numbers, Numbers, Numbers]:
    first, second, third = (lax.squeeze(part, (v.ndim - 1,)) for part in lax.split(v, (1, 1, 1), axis=v.ndim - 1))
    return first, second, third


def dot(u: Vectors, v: Vectors) -> Numbers:
    return jnp.sum(u * v, axis=-1)


def cross(u: Vectors, v: Vectors) -> Vectors:
    u0, u1, u2 = components(u)
    v0, v1, v2 = components(v)
    return jnp.stack([u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0], axis=-1)


def norm(v: Vectors) -> Numbers:
    """Euclidean norm of vectors other than zero, however small."""
    scale = lax.stop_gradient(jnp.max(jnp.abs(v), axis=-1))
    return scale * jnp.sqrt(dot(v / scale[..., None], v / scale[..., None]))


def log_size(v: Vectors) -> Vectors:
    """``log |v|`` with derivative zero where an entry is lost in the rounding errors of its vector."""
    fixed = lax.stop_gradient(v)
    size = jnp.abs(fixed)
    resolved = size > jnp.finfo(v.dtype).eps * jnp.max(size, axis=-1, keepdims=True)
    # log(1 + 0), so that negative powers of v, which overflow, appear in no derivative.
    return jnp.log(size) + jnp.log1p(jnp.where(resolved, (v - fixed) / fixed, 0.0))


def from_rows(rows) -> Matrices:
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def product(a: Matrices, b: Float[Array, "*stack 3 k"]) -> Float[Array, "*stack 3 k"]:
    """``a b``."""
    return jnp.sum(a[..., None] * b[..., None, :, :], axis=-2)


def transposed_product(a: Matrices, b: Float[Array, "*stack 3 k"]) -> Float[Array, "*stack 3 k"]:
    """``a' b``."""
    return jnp.sum(a[..., None] * b[..., None, :], axis=-3)


def times(a: Matrices, v: Vectors) -> Vectors:
    """``a v``."""
    return jnp.sum(a * v[..., None, :], axis=-1)


def transposed_times(a: Matrices, v: Vectors) -> Vectors:
    """``a' v``."""
    return jnp.sum(a * v[..., None], axis=-2)


def squared(a: Matrices) -> Matrices:
    """``a a'``."""
    return product(a, jnp.swapaxes(a, -1, -2))


def lower_inverse(l: Matrices) -> Matrices:
    """The inverse of lower triangular matrices."""
    i0, i1, i2 = (1.0 / l[..., i, i] for i in range(3))
    zero = jnp.zeros_like(i0)
    rows = (
        (i0, zero, zero),
        (-l[..., 1, 0] * i0 * i1, i1, zero),
        ((l[..., 1, 0] * l[..., 2, 1] * i1 - l[..., 2, 0]) * i0 * i2, -l[..., 2, 1] * i1 * i2, i2),
    )
    return from_rows(rows)


def positive_root(b: Numbers, c: Numbers) -> Numbers:
    """The positive root of ``x**2 - b x - c`` for positive c, to full relative accuracy."""
    root = jnp.sqrt(b * b + 4.0 * c)
    return jnp.where(b > 0, 0.5 * (b + root), 2.0 * c / (root - jnp.where(b > 0, 0.0, b)))


def increasing_root(function, shape: tuple[int, ...], dtype) -> Numbers:
    """The zeros of a function of each element that changes its sign once, from - to +. Newton's method within a bisection."""
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    bound = jnp.full(shape, -0.45 * math.log(tiny), dtype)  # so that the square of its exponential is finite

    def compressed(x):
        # Newton's method meets values of 1 / mu on one side of the root and of one on the other.
        return jnp.arcsinh(function(x))

    def body(carry):
        low, high, x, previous, _, count = carry
        value, slope = jax.jvp(compressed, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        newton = -value / slope
        # Newton's method is trusted as long as it halves its steps, which bisection would do too.
        least = 2.0 * eps * (1.0 + jnp.abs(x))
        limit = jnp.maximum(0.5 * jnp.abs(previous), 4.0 * least)
        good = (x + newton >= low) & (x + newton <= high) & (jnp.abs(newton) < limit)
        # Steps beyond the root close the bracket. Short steps alone prove nothing: they end in kinks, too.
        newton = jnp.where(value < 0, jnp.maximum(newton, least), jnp.minimum(newton, -least))
        step = jnp.where(good, newton, 0.5 * (low + high) - x)
        return low, high, x + step, step, high - low > 2.0 * least, count + 1

    def unfinished(carry):
        return jnp.any(carry[4]) & (carry[5] < ROOT_ITERATIONS)

    start = (-bound, bound, jnp.zeros_like(bound), 2.0 * bound, jnp.ones(shape, bool), jnp.zeros((), jnp.int32))
    return lax.while_loop(unfinished, body, start)[2]
