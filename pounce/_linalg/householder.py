"""A QR factorisation of ``J'`` together with the matrix of a quadratic form in its basis."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._choose import where


# Up to so many variables a loop of reflections over the whole batch beats LAPACK, which is called once a lane.
LOOP_UP_TO = 6


class OrthogonalBasis(NamedTuple):
    """``J' = basis @ rows`` with an orthogonal ``basis`` and an upper triangular ``rows``; ``form = basis' H basis``."""

    basis: Float[Array, "n n"]
    rows: Float[Array, "n m"]
    form: Float[Array, "n n"]


def orthogonal_basis(jacobian: Float[Array, "m n"], hessian: Float[Array, "n n"]) -> OrthogonalBasis:
    """Orthogonal coordinates in which the rows of ``jacobian`` come one after the other."""
    if jacobian.shape[1] <= LOOP_UP_TO:
        return _reflected(jacobian, hessian)
    basis, rows = jnp.linalg.qr(jacobian.T, mode="complete")
    return OrthogonalBasis(basis, rows, basis.T @ hessian @ basis)


def _reflected(jacobian: Float[Array, "m n"], hessian: Float[Array, "n n"]) -> OrthogonalBasis:
    """By Householder reflections ``I - 2 v v'`` (Golub and Van Loan, algorithm 5.2.1), one row of J at a time."""
    m, n = jacobian.shape
    index = jnp.arange(n)

    def reflect(k, carry):
        basis, rows, form = carry
        column = where(index >= k, lax.dynamic_index_in_dim(rows, k, 1, keepdims=False), 0.0)
        size = jnp.max(jnp.abs(column))
        column = column / where(size > 0, size, 1.0)
        head = jnp.sum(where(index == k, column, 0.0))
        norm = jnp.sqrt(jnp.sum(column * column))
        v = column + where(index == k, where(head < 0, -norm, norm), 0.0)
        # `v` over its norm; nothing is reflected where the column is zero already.
        v = v * lax.rsqrt(where(norm > 0, 2 * norm * (norm + jnp.abs(head)), 1.0))
        once = jnp.sum(form * v, axis=1)
        twice = jnp.sum(once * v)
        side = 2 * (once - twice * v)
        return (
            basis - 2 * jnp.sum(basis * v, axis=1)[:, None] * v,
            rows - 2 * v[:, None] * jnp.sum(v[:, None] * rows, axis=0),
            form - side[:, None] * v - v[:, None] * side,
        )

    start = (jnp.eye(n, dtype=hessian.dtype), jacobian.T, hessian)
    basis, rows, form = lax.fori_loop(0, min(m, n), reflect, start)
    return OrthogonalBasis(basis, where(index[:, None] <= jnp.arange(m), rows, 0.0), form)
