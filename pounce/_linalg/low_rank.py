"""Symmetric matrices that are a diagonal and a few columns: what limited-memory Hessians are beside sparse Jacobians."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where


class LowRankMatrix(eqx.Module):
    """``diag(d) + C diag(w) C'`` with signs ``w``. A column whose sign is zero counts as absent."""

    diagonal: Float[Array, " n"]
    columns: Float[Array, "n k"]
    signs: Float[Array, " k"]

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[0]
        return n, n

    @property
    def dtype(self):
        return self.diagonal.dtype

    def symmetric_times(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """The product with a vector."""
        return self.diagonal * v + self.columns @ (self.signs * (v @ self.columns))

    def masked(self, wanted: Bool[Array, " n"]) -> "LowRankMatrix":
        """Zero wherever the row or the column is not wanted."""
        diagonal, columns = where(wanted, self.diagonal, 0.0), where(wanted[:, None], self.columns, 0.0)
        return LowRankMatrix(diagonal, columns, self.signs)

    def scaled(self, factors: Float[Array, " n"]) -> "LowRankMatrix":
        """Rows and columns times these numbers."""
        return LowRankMatrix(factors**2 * self.diagonal, factors[:, None] * self.columns, self.signs)

    def column_sizes(self, rows: Float[Array, " n"]) -> Float[Array, " n"]:
        """At least the largest magnitude of each column when rows are multiplied by positive numbers."""
        largest = jnp.max(rows[:, None] * jnp.abs(self.columns), axis=0, initial=0.0)
        return rows * jnp.abs(self.diagonal) + jnp.abs(self.columns) @ largest

    def plus_diagonal(self, diagonal: Float[Array, " n"]) -> "LowRankMatrix":
        """With something added to its diagonal."""
        return LowRankMatrix(self.diagonal + diagonal, self.columns, self.signs)

    def todense(self) -> Float[Array, "n n"]:
        """All entries."""
        return jnp.diag(self.diagonal) + (self.columns * self.signs) @ self.columns.T
