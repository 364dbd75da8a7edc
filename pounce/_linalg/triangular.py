"""Cholesky factors that are quick to solve with.

A triangular solve with one right-hand side is a chain of ``n`` short steps: LAPACK needs ten times as long for it as for a
product with a matrix of the same size, and a GPU longer still. Up to `LARGEST_INVERSE` rows the factor can be inverted as it
is made, block by block, mostly in matrix products; that costs as much as the solves of one iteration of an interior-point
method save several times over. Products with the inverse lose more digits than substitution where the matrix is very ill
conditioned (Higham 2002, section 14.2): refinement makes up for that in linear and quadratic programs, but not at the end of
degenerate semidefinite ones.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


LARGEST_INVERSE = 256
LEAF = 32  # blocks up to this size go to LAPACK


class AbstractCholeskyFactor(eqx.Module):
    """``L`` with ``L L'`` the matrix."""

    @abc.abstractmethod
    def forward(self, v: Float[Array, " n *k"]) -> Float[Array, " n *k"]:
        """``L^-1 v``."""

    @abc.abstractmethod
    def backward(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """``L^-T v``."""

    @abc.abstractmethod
    def finite(self) -> Bool[Array, ""]:
        """Whether the matrix was positive definite to working precision."""


class Substitution(AbstractCholeskyFactor):
    """The factor itself."""

    lower: Float[Array, "n n"]

    def forward(self, v):
        columns = v.reshape(v.shape[0], -1)
        return lax.linalg.triangular_solve(self.lower, columns, left_side=True, lower=True).reshape(v.shape)

    def backward(self, v):
        return lax.linalg.triangular_solve(self.lower, v[:, None], left_side=True, lower=True, transpose_a=True)[:, 0]

    def finite(self):
        return jnp.isfinite(self.lower[-1, -1])


class Inverse(AbstractCholeskyFactor):
    """The inverse of the factor."""

    inverse: Float[Array, "n n"]

    def forward(self, v):
        return self.inverse @ v

    def backward(self, v):
        return v @ self.inverse

    def finite(self):
        return jnp.isfinite(self.inverse[-1, -1])


def cholesky_factor(matrix: Float[Array, "n n"], invert: bool) -> AbstractCholeskyFactor:
    """The factor of a symmetric matrix, NaN where it is not positive definite; its inverse if that is allowed and small."""
    if invert and matrix.shape[0] <= LARGEST_INVERSE:
        return Inverse(_inverse_factor(matrix))
    return Substitution(lax.linalg.cholesky(matrix, symmetrize_input=False))


def _inverse_factor(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """``L^-1``, from the blocks ``[[A, 0], [-C Y A, C]]`` with A and C of that kind and ``Y`` the lower left block of L."""
    k = matrix.shape[0]
    if k <= LEAF:
        lower = lax.linalg.cholesky(matrix, symmetrize_input=False)
        return lax.linalg.triangular_solve(lower, jnp.eye(k, dtype=matrix.dtype), left_side=True, lower=True)
    half = (k // 2 + 7) // 8 * 8
    a = _inverse_factor(matrix[:half, :half])
    y = matrix[half:, :half] @ a.T
    c = _inverse_factor(matrix[half:, half:] - y @ y.T)
    return jnp.block([[a, jnp.zeros((half, k - half), matrix.dtype)], [-c @ (y @ a), c]])
