"""Sparse matrices with a static pattern and traced values."""

import dataclasses
import functools
from typing import Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sps
from jaxtyping import Array, Float

from .._executables import registered
from .gather import taken
from .row_reductions import RowReductions


class Content:
    """Equal and hashable by content, so that it can be static under ``jit``."""

    @functools.cached_property
    def _key(self) -> tuple:
        raise NotImplementedError

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other) -> bool:
        return self is other or (type(other) is type(self) and self._hash == other._hash and self._key == other._key)


registered(Content, "_key")


class Pattern(Content):
    """Where the entries of a matrix are: a host object, hashable, equal by content, so that it can be static under ``jit``.

    ``rows`` and ``columns`` (int32, read-only) are sorted by row, then by column, without duplicates.
    """

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray

    def __init__(self, rows, columns, shape: tuple[int, int]):
        rows, columns = np.asarray(rows, np.int64).ravel(), np.asarray(columns, np.int64).ravel()
        if rows.shape != columns.shape:
            raise ValueError(f"a pattern needs as many rows as columns, got {rows.size} and {columns.size}")
        m, n = int(shape[0]), int(shape[1])
        for name, index, size in (("row", rows, m), ("column", columns, n)):
            if index.size and (index.min() < 0 or index.max() >= size):
                raise ValueError(f"a {name} index lies outside a pattern of shape {(m, n)}")
        keys = rows * max(n, 1) + columns
        if not (keys[1:] > keys[:-1]).all():
            keys = np.sort(keys)
            keys = keys[np.append(True, keys[1:] > keys[:-1])] if keys.size else keys
        self.shape = (m, n)
        self.rows, self.columns = (np.ascontiguousarray(v, np.int32) for v in np.divmod(keys, max(n, 1)))
        for index in (self.rows, self.columns):
            index.flags.writeable = False

    @classmethod
    def of(cls, matrix) -> "Pattern":
        """The nonzeros of a NumPy array, or the stored entries of a SciPy sparse matrix."""
        if sps.issparse(matrix):
            entries = matrix.tocoo()
            return cls(entries.row, entries.col, entries.shape)
        matrix = np.asarray(matrix)
        if matrix.ndim != 2:
            raise ValueError(f"a pattern is that of a matrix, got an array of shape {matrix.shape}")
        rows, columns = np.nonzero(matrix)
        return cls(rows, columns, matrix.shape)

    @classmethod
    def full(cls, m: int, n: int) -> "Pattern":
        """Every entry."""
        return cls(np.repeat(np.arange(m), n), np.tile(np.arange(n), m), (m, n))

    @classmethod
    def empty(cls, m: int, n: int) -> "Pattern":
        """No entry at all."""
        return cls([], [], (m, n))

    @property
    def nnz(self) -> int:
        return self.rows.size

    @property
    def density(self) -> float:
        """The share of entries that are there; zero for an empty matrix."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    def scipy(self, values=None) -> sps.csr_array:
        """As a SciPy matrix, with ones for values by default."""
        values = np.ones(self.nnz) if values is None else np.asarray(values)
        return sps.csr_array((values, (self.rows, self.columns)), shape=self.shape)

    @functools.cached_property
    def transpose(self) -> "Pattern":
        return Pattern(self.columns, self.rows, (self.shape[1], self.shape[0]))

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where the entries of each row begin, and where the last one's end."""
        return np.searchsorted(self.rows, np.arange(self.shape[0] + 1)).astype(np.int32)

    @functools.cached_property
    def diagonal(self) -> np.ndarray:
        """Where the entries of the diagonal stand in the order of the values; -1 for those that are not there."""
        index = np.arange(min(self.shape))
        return self.positions(index, index)

    @functools.cached_property
    def below(self) -> np.ndarray:
        """Where the entries off the diagonal stand in the order of the values."""
        return np.flatnonzero(self.rows != self.columns)

    @functools.cached_property
    def by_rows(self) -> RowReductions:
        """Reductions of values by rows."""
        return RowReductions(self.rows, self.shape[0])

    @functools.cached_property
    def by_columns(self) -> RowReductions:
        """Reductions of values by columns."""
        return RowReductions(self.columns, self.shape[1])

    @functools.cached_property
    def by_symmetric_rows(self) -> RowReductions:
        """Reductions by rows of the symmetric matrix of which this is one triangle: of the values, then of those off the
        diagonal once more."""
        return RowReductions(np.concatenate([self.rows, self.columns[self.below]]), self.shape[0])

    @functools.cached_property
    def lower(self) -> "Pattern":
        """The entries on and below the diagonal."""
        kept = self.rows >= self.columns
        return Pattern(self.rows[kept], self.columns[kept], self.shape)

    def __or__(self, other: "Pattern") -> "Pattern":
        if self.shape != other.shape:
            raise ValueError(f"patterns of shapes {self.shape} and {other.shape} have no union")
        rows, columns = (np.concatenate(v) for v in ((self.rows, other.rows), (self.columns, other.columns)))
        return Pattern(rows, columns, self.shape)

    def positions(self, rows, columns) -> np.ndarray:
        """Where entries stand in the order of the values; -1 for entries that are not there."""
        n = max(self.shape[1], 1)
        keys = self.rows.astype(np.int64) * n + self.columns
        wanted = np.asarray(rows, np.int64) * n + np.asarray(columns, np.int64)
        place = np.searchsorted(keys, wanted)
        place = np.minimum(place, max(keys.size - 1, 0))
        found = keys[place] == wanted if keys.size else np.zeros(wanted.shape, bool)
        return np.where(found, place, -1)

    @functools.cached_property
    def _key(self) -> tuple:
        return self.shape, self.rows.tobytes(), self.columns.tobytes()

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, nnz={self.nnz})"


class SparseMatrix(eqx.Module):
    """A matrix whose entries ``values[k]`` stand at ``pattern.rows[k], pattern.columns[k]``."""

    values: Float[Array, " nnz"]
    pattern: Pattern = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        return self.pattern.shape

    @property
    def dtype(self):
        return self.values.dtype

    def like(self, values: Float[Array, " nnz"]) -> Self:
        """Other values in the same places."""
        return dataclasses.replace(self, values=values)

    def __matmul__(self, v: Float[Array, " n"]) -> Float[Array, " m"]:
        return self.pattern.by_rows.sums(self.values * taken(v, self.pattern.columns))

    def transposed_times(self, v: Float[Array, " m"]) -> Float[Array, " n"]:
        """``A' v``."""
        return self.pattern.by_columns.sums(self.values * taken(v, self.pattern.rows))

    def symmetric_times(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """``A v`` of the symmetric matrix whose lower triangle this is."""
        pattern, below = self.pattern, self.pattern.below
        mirrored = taken(self.values, below) * taken(v, pattern.rows[below])
        return pattern.by_symmetric_rows.sums(jnp.concatenate([self.values * taken(v, pattern.columns), mirrored]))

    def todense(self) -> Float[Array, "m n"]:
        dense = jnp.zeros(self.shape, self.values.dtype)
        return dense.at[self.pattern.rows, self.pattern.columns].set(self.values)
