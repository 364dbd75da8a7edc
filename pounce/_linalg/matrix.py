"""What the solvers do with matrices, whether these are dense arrays or `SparseMatrix`.

A symmetric matrix that is sparse is given by its lower triangle, with the whole diagonal in its pattern.
"""

from typing import overload

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._choose import where
from .entries import TabledMatrix
from .gather import taken
from .low_rank import LowRankMatrix
from .sparse import Pattern, SparseMatrix


Matrix = Float[Array, "m n"] | SparseMatrix
Hessian = Matrix | LowRankMatrix


# A product of a matrix with so few entries is a sum that becomes part of whatever uses it; larger ones are a call of a library,
# which XLA surrounds with kernels of their own.
FEW_ENTRIES = 64


def times(matrix: Matrix, x: Float[Array, " n"]) -> Float[Array, " m"]:
    """``A x``."""
    if isinstance(matrix, SparseMatrix) or matrix.size > FEW_ENTRIES:
        return matrix @ x
    return jnp.sum(matrix * x, axis=1)


def transposed_times(matrix: Matrix, y: Float[Array, " m"]) -> Float[Array, " n"]:
    """``A'y``."""
    if isinstance(matrix, SparseMatrix):
        return matrix.transposed_times(y)
    return y @ matrix if matrix.size > FEW_ENTRIES else jnp.sum(matrix * y[:, None], axis=0)


def symmetric_times(matrix: Hessian, x: Float[Array, " n"]) -> Float[Array, " n"]:
    """``H x``."""
    return matrix.symmetric_times(x) if isinstance(matrix, SparseMatrix | LowRankMatrix) else times(matrix, x)


@overload
def masked(matrix: Matrix, rows: Bool[Array, " m"], columns: Bool[Array, " n"]) -> Matrix: ...
@overload
def masked(matrix: LowRankMatrix, rows: Bool[Array, " n"], columns: Bool[Array, " n"]) -> LowRankMatrix: ...
def masked(matrix: Hessian, rows: Bool[Array, " m"], columns: Bool[Array, " n"]) -> Hessian:
    """Zero wherever the row or the column is not wanted."""
    if isinstance(matrix, LowRankMatrix):
        return matrix.masked(rows & columns)
    if isinstance(matrix, SparseMatrix):
        pattern = matrix.pattern
        return matrix.like(where(taken(rows, pattern.rows) & taken(columns, pattern.columns), matrix.values, 0.0))
    return where(rows[:, None] & columns, matrix, 0.0)


@overload
def plus_diagonal(matrix: Matrix, diagonal: Float[Array, " n"]) -> Matrix: ...
@overload
def plus_diagonal(matrix: LowRankMatrix, diagonal: Float[Array, " n"]) -> LowRankMatrix: ...
def plus_diagonal(matrix: Hessian, diagonal: Float[Array, " n"]) -> Hessian:
    """A symmetric matrix with something added to its diagonal."""
    if isinstance(matrix, LowRankMatrix):
        return matrix.plus_diagonal(diagonal)
    if isinstance(matrix, SparseMatrix):
        # Every entry gets what belongs to its row or, off the diagonal, nothing.
        pattern = matrix.pattern
        return matrix.like(matrix.values + where(pattern.rows == pattern.columns, taken(diagonal, pattern.rows), 0.0))
    return matrix + jnp.diag(diagonal)


def row_scaled(matrix: Matrix, scale: Float[Array, " m"]) -> Matrix:
    """Each row times its number."""
    if isinstance(matrix, SparseMatrix):
        return matrix.like(taken(scale, matrix.pattern.rows) * matrix.values)
    return scale[:, None] * matrix


def column_scaled(matrix: Matrix, scale: Float[Array, " n"]) -> Matrix:
    """Each column times its number."""
    if isinstance(matrix, SparseMatrix):
        return matrix.like(matrix.values * taken(scale, matrix.pattern.columns))
    return matrix * scale


def scaled(matrix: Matrix, rows: Float[Array, " m"], columns: Float[Array, " n"]) -> Matrix:
    """Each row and each column times its number (of a symmetric matrix: the same up to a common factor)."""
    if isinstance(matrix, SparseMatrix):
        pattern = matrix.pattern
        return matrix.like(taken(rows, pattern.rows) * matrix.values * taken(columns, pattern.columns))
    return rows[:, None] * matrix * columns


def symmetric_scaled(matrix: Hessian, factors: Float[Array, " n"]) -> Hessian:
    """Rows and columns of a symmetric matrix times the same numbers."""
    return matrix.scaled(factors) if isinstance(matrix, LowRankMatrix) else scaled(matrix, factors, factors)


def magnitudes(matrix: Matrix) -> Matrix:
    """Without signs."""
    return matrix.like(jnp.abs(matrix.values)) if isinstance(matrix, SparseMatrix) else jnp.abs(matrix)


def row_squares(matrix: Matrix) -> Float[Array, " m"]:
    """The sum of the squares of each row."""
    if isinstance(matrix, SparseMatrix):
        return matrix.like(matrix.values**2) @ jnp.ones(matrix.shape[1], matrix.dtype)
    return jnp.sum(matrix * matrix, axis=1)


def column_sizes(matrix: Matrix) -> Float[Array, " n"]:
    """The largest magnitude of each column; zero for an empty one."""
    if isinstance(matrix, SparseMatrix):
        return matrix.pattern.by_columns.largest(jnp.abs(matrix.values))
    return jnp.max(jnp.abs(matrix), axis=0, initial=0.0)


def symmetric_column_sizes(matrix: Hessian, rows: Float[Array, " n"]) -> Float[Array, " n"]:
    """`column_sizes` of a symmetric matrix whose rows are multiplied by these positive numbers."""
    if isinstance(matrix, LowRankMatrix):
        return matrix.column_sizes(rows)
    below = column_sizes(row_scaled(matrix, rows))
    if not isinstance(matrix, SparseMatrix):
        return below
    columns = matrix.pattern.columns
    return jnp.maximum(below, row_sizes(matrix.like(taken(rows, columns) * matrix.values)))


def group_sizes(matrix: Matrix, y: Float[Array, " m"], groups: np.ndarray | None) -> Float[Array, " n"]:
    """``sum |A_g' y_g|`` over groups of rows; ``groups`` has the number of each row's, ascending. None: every row is one."""
    if groups is None:
        return transposed_times(magnitudes(matrix), jnp.abs(y))
    if not isinstance(matrix, SparseMatrix):
        count = int(groups[-1]) + 1 if groups.size else 0
        sums = jnp.zeros((count, matrix.shape[1]), matrix.dtype).at[groups].add(y[:, None] * matrix)
        return jnp.sum(jnp.abs(sums), axis=0)
    pattern, n = matrix.pattern, matrix.shape[1]
    keys, places = np.unique(groups[pattern.rows].astype(np.int64) * n + pattern.columns, return_inverse=True)
    sums = jnp.zeros(keys.size, matrix.dtype).at[places].add(matrix.values * taken(y, pattern.rows))
    return jnp.zeros(n, matrix.dtype).at[keys % n].add(jnp.abs(sums))


def row_sizes(matrix: Matrix) -> Float[Array, " m"]:
    """The largest magnitude of each row; zero for an empty one."""
    if isinstance(matrix, SparseMatrix):
        return matrix.pattern.by_rows.largest(jnp.abs(matrix.values))
    return jnp.max(jnp.abs(matrix), axis=1, initial=0.0)


def largest(matrix: Matrix) -> Float[Array, ""]:
    """The largest magnitude of all entries; zero without any."""
    return jnp.max(jnp.abs(_entries(matrix)), initial=0.0)


def all_finite(matrix: Hessian) -> Bool[Array, ""]:
    """Whether no entry is infinite or NaN."""
    if isinstance(matrix, LowRankMatrix):
        return jnp.all(jnp.isfinite(matrix.diagonal)) & jnp.all(jnp.isfinite(matrix.columns))
    return jnp.all(jnp.isfinite(_entries(matrix)))


def _entries(matrix: Matrix) -> Array:
    return matrix.values if isinstance(matrix, SparseMatrix) else matrix


def diagonal(matrix: Hessian) -> Float[Array, " n"]:
    """The diagonal of a symmetric matrix."""
    if isinstance(matrix, LowRankMatrix):
        return matrix.diagonal + matrix.columns**2 @ matrix.signs
    if isinstance(matrix, TabledMatrix):
        return matrix.diagonal()
    if isinstance(matrix, SparseMatrix):
        places = matrix.pattern.diagonal
        extended = jnp.concatenate([matrix.values, jnp.zeros(1, matrix.dtype)])
        return taken(extended, np.where(places < 0, matrix.pattern.nnz, places))
    return jnp.diagonal(matrix)


@overload
def rows_taken(matrix: SparseMatrix, order: np.ndarray) -> SparseMatrix: ...
@overload
def rows_taken(matrix: Float[Array, "m n"], order: np.ndarray) -> Float[Array, "k n"]: ...
def rows_taken(matrix: Matrix, order: np.ndarray) -> Matrix:
    """The rows of these numbers, in this order; each at most once."""
    if not isinstance(matrix, SparseMatrix):
        return matrix[order]
    pattern, (m, n) = matrix.pattern, matrix.shape
    place = np.full(m, -1)
    place[order] = np.arange(order.size)
    kept = np.flatnonzero(place[pattern.rows] >= 0)
    chosen = kept[np.argsort(place[pattern.rows[kept]], kind="stable")]
    moved = Pattern(place[pattern.rows[chosen]], pattern.columns[chosen], (order.size, n))
    return SparseMatrix(taken(matrix.values, chosen), moved)


def stacked(upper: Matrix, lower: Matrix) -> Matrix:
    """One above the other, both of a kind."""
    if not isinstance(upper, SparseMatrix) and not isinstance(lower, SparseMatrix):
        return jnp.concatenate([upper, lower])
    if isinstance(upper, TabledMatrix) and isinstance(lower, TabledMatrix):
        return upper.above(lower)
    assert isinstance(upper, SparseMatrix) and isinstance(lower, SparseMatrix)
    a, b, count = upper.pattern, lower.pattern, upper.shape[0]
    rows, columns = np.concatenate([a.rows, count + b.rows]), np.concatenate([a.columns, b.columns])
    pattern = Pattern(rows, columns, (count + lower.shape[0], upper.shape[1]))
    return SparseMatrix(jnp.concatenate([upper.values, lower.values]), pattern)


def zero_rows(like: Matrix | None, n: int, dtype) -> Matrix:
    """No rows at all, sparse or dense as another matrix is."""
    if isinstance(like, SparseMatrix):
        return SparseMatrix(jnp.zeros(0, dtype), Pattern([], [], (0, n)))
    return jnp.zeros((0, n), dtype)


def zero_symmetric(like: Matrix, n: int, dtype) -> Matrix:
    """A symmetric matrix of zeros, sparse or dense as another matrix is."""
    if isinstance(like, SparseMatrix):
        return SparseMatrix(jnp.zeros(n, dtype), Pattern(np.arange(n), np.arange(n), (n, n)))
    return jnp.zeros((n, n), dtype)


def dense(matrix: Matrix) -> Float[Array, "m n"]:
    """All entries."""
    return matrix.todense() if isinstance(matrix, SparseMatrix) else matrix


def symmetric_dense(matrix: Hessian) -> Float[Array, "n n"]:
    """All entries of a symmetric matrix."""
    if isinstance(matrix, LowRankMatrix):
        return matrix.todense()
    whole = dense(matrix)
    return whole + jnp.tril(whole, -1).T if isinstance(matrix, SparseMatrix) else whole
