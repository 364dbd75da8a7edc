"""What the solvers do with matrices, whether these are dense arrays or `SparseMatrix`.

A symmetric matrix that is sparse is given by its lower triangle, with the whole diagonal in its pattern.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .sparse import SparseMatrix


Matrix = Float[Array, "m n"] | SparseMatrix


def transposed_times(matrix: Matrix, y: Float[Array, " m"]) -> Float[Array, " n"]:
    """``A'y``."""
    return matrix.transposed_times(y) if isinstance(matrix, SparseMatrix) else y @ matrix


def symmetric_times(matrix: Matrix, x: Float[Array, " n"]) -> Float[Array, " n"]:
    """``H x``."""
    return matrix.symmetric_times(x) if isinstance(matrix, SparseMatrix) else matrix @ x


def masked(matrix: Matrix, rows: Bool[Array, " m"], columns: Bool[Array, " n"]) -> Matrix:
    """Zero wherever the row or the column is not wanted."""
    if isinstance(matrix, SparseMatrix):
        pattern = matrix.pattern
        return SparseMatrix(jnp.where(rows[pattern.rows] & columns[pattern.columns], matrix.values, 0.0), pattern)
    return jnp.where(rows[:, None] & columns, matrix, 0.0)


def plus_diagonal(matrix: Matrix, diagonal: Float[Array, " n"]) -> Matrix:
    """A symmetric matrix with something added to its diagonal."""
    if isinstance(matrix, SparseMatrix):
        places = matrix.pattern.diagonal
        return SparseMatrix(matrix.values.at[places].add(diagonal, unique_indices=True), matrix.pattern)
    return matrix + jnp.diag(diagonal)


def row_scaled(matrix: Matrix, scale: Float[Array, " m"]) -> Matrix:
    """Each row times its number."""
    if isinstance(matrix, SparseMatrix):
        return SparseMatrix(scale[matrix.pattern.rows] * matrix.values, matrix.pattern)
    return scale[:, None] * matrix


def row_sizes(matrix: Matrix) -> Float[Array, " m"]:
    """The largest magnitude of each row; zero for an empty one."""
    if isinstance(matrix, SparseMatrix):
        rows, count = matrix.pattern.rows, matrix.shape[0]
        sizes = jax.ops.segment_max(jnp.abs(matrix.values), rows, count, indices_are_sorted=True)
        return jnp.where(np.bincount(rows, minlength=count) > 0, sizes, 0.0)
    return jnp.max(jnp.abs(matrix), axis=1, initial=0.0)


def largest(matrix: Matrix) -> Float[Array, ""]:
    """The largest magnitude of all entries; zero without any."""
    return jnp.max(jnp.abs(_entries(matrix)), initial=0.0)


def all_finite(matrix: Matrix) -> Bool[Array, ""]:
    """Whether no entry is infinite or NaN."""
    return jnp.all(jnp.isfinite(_entries(matrix)))


def _entries(matrix: Matrix) -> Array:
    return matrix.values if isinstance(matrix, SparseMatrix) else matrix


def diagonal(matrix: Matrix) -> Float[Array, " n"]:
    """The diagonal of a symmetric matrix."""
    if isinstance(matrix, SparseMatrix):
        places = matrix.pattern.diagonal
        extended = jnp.concatenate([matrix.values, jnp.zeros(1, matrix.dtype)])
        return extended[places]  # the last one stands for those that are not there
    return jnp.diagonal(matrix)


def dense(matrix: Matrix) -> Float[Array, "m n"]:
    """All entries."""
    return matrix.todense() if isinstance(matrix, SparseMatrix) else matrix


def symmetric_dense(matrix: Matrix) -> Float[Array, "n n"]:
    """All entries of a symmetric matrix."""
    whole = dense(matrix)
    return whole + jnp.tril(whole, -1).T if isinstance(matrix, SparseMatrix) else whole
