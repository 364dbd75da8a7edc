"""Sparse derivatives from as many directional derivatives as a colouring has colours (Curtis, Powell and Reid 1974)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._linalg.gather import taken
from .._linalg.sparse import SparseMatrix
from .coloring import Coloring


def seeds(coloring: Coloring, dtype) -> Float[Array, "count n"]:
    """The sum of the unit vectors of each colour."""
    # No constant for the compiler: it would work out what becomes of thousands of seeds, one scattered entry after the other.
    colors = lax.optimization_barrier(jnp.asarray(coloring.colors))
    return (colors == jnp.arange(coloring.count)[:, None]).astype(dtype)


def entries(products: Float[Array, "count k"], coloring: Coloring) -> SparseMatrix:
    """The matrix from its products with the seeds."""
    values = taken(products.reshape(-1), coloring.places)
    return SparseMatrix(values, coloring.pattern)


def sparse_jacobian(
    f: Callable[..., Float[Array, " m"]], x: Float[Array, " n"], coloring: Coloring, *args: Any
) -> SparseMatrix:
    """The Jacobian of ``f(x, *args)`` with respect to `x`, by one forward derivative per colour of columns or one reverse
    derivative per colour of rows.

    **Arguments:**

    - `f`: from ``(n,)`` to ``(m,)``.
    - `x`: the point.
    - `coloring`: of a pattern of shape ``(m, n)`` that holds all nonzeros, as from `color_jacobian`.

    **Returns:**

    A `SparseMatrix` with the pattern of the colouring. Composes with all transformations of JAX.
    """
    if coloring.count == 0:
        return SparseMatrix(jnp.zeros(coloring.pattern.nnz, x.dtype), coloring.pattern)
    function = lambda x: f(x, *args)
    if coloring.by == "columns":
        push = lambda seed: jax.jvp(function, (x,), (seed,))[1]
        return entries(jax.vmap(push)(seeds(coloring, x.dtype)), coloring)
    value, pullback = jax.vjp(function, x)
    return entries(jax.vmap(lambda seed: pullback(seed)[0])(seeds(coloring, value.dtype)), coloring)


def sparse_hessian(
    f: Callable[..., Float[Array, ""]], x: Float[Array, " n"], coloring: Coloring, *args: Any
) -> SparseMatrix:
    """The second derivative of a scalar ``f(x, *args)`` with respect to `x`, by one Hessian-vector product per colour.

    **Arguments:**

    - `coloring`: of a pattern of shape ``(n, n)``, or of one of its triangles, as from `color_symmetric`.

    **Returns:**

    A `SparseMatrix` with the pattern of the colouring.
    """
    return value_gradient_and_hessian(f, x, coloring, *args)[2]


def value_gradient_and_hessian(
    f: Callable[..., Float[Array, ""]], x: Float[Array, " n"], coloring: Coloring, *args: Any
) -> tuple[Float[Array, ""], Float[Array, " n"], SparseMatrix]:
    """As `sparse_hessian`, with what comes along: the value and the gradient, evaluated once for all colours."""
    both = jax.value_and_grad(lambda x: f(x, *args))
    if coloring.count == 0:
        return *both(x), SparseMatrix(jnp.zeros(coloring.pattern.nnz, x.dtype), coloring.pattern)

    def push(seed):
        (value, gradient), (_, product) = jax.jvp(both, (x,), (seed,))
        return value, gradient, product

    value, gradient, products = jax.vmap(push, out_axes=(None, None, 0))(seeds(coloring, x.dtype))
    return value, gradient, entries(products, coloring)
