"""Sparse matrices whose pattern is handed to a compiled program in arrays, beside the values.

One program serves all patterns that fit into the arrays. Sums over rows and columns are native loops (`native`) that end where
the entries do, so that places which are not used cost next to nothing.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt

from .native import ONE, ZERO, item, native, put
from .sparse import Pattern, SparseMatrix


Table = Array | np.ndarray


class Groups(eqx.Module):
    """Sums over groups of terms: group i has those from ``starts[i]`` to ``starts[i + 1]``. ``terms``: the value each of them is,
    and ``others`` which entry of a vector it is multiplied by."""

    terms: UInt[Table, " t"]
    others: UInt[Table, " t"]
    starts: UInt[Table, " g1"]

    @classmethod
    def of(cls, groups: np.ndarray, terms: np.ndarray, others: np.ndarray, count: int, size: int) -> "Groups":
        """Of terms that belong to ``groups``, in tables of that size for ``count`` groups."""
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(count + 1)).astype(np.uint32)
        return cls(_filled(terms[order], size), _filled(others[order], size), starts)

    @property
    def count(self) -> int:
        return self.starts.shape[0] - 1

    def sums(self, values: Float[Array, " k"]) -> Float[Array, " g"]:
        """The sum of each group."""
        return self._reduced(_sums, values, 0.0)

    def largest(self, values: Float[Array, " k"]) -> Float[Array, " g"]:
        """The largest of each group, of values that are not negative."""
        return self._reduced(_largest, values, 0.0)

    def smallest(self, values: Float[Array, " k"]) -> Float[Array, " g"]:
        """The smallest of each group; infinite for one without terms."""
        return self._reduced(_smallest, values, jnp.inf)

    def _reduced(self, reduce: Callable, values, neutral: float):
        return native(reduce)(self.terms, self.starts, values, jnp.full(self.count, neutral, values.dtype))

    def products(self, values: Float[Array, " k"], v: Float[Array, " n"]) -> Float[Array, " g"]:
        """The sum of the products of each group."""
        return native(_products)(self, values, v, jnp.zeros(self.count, v.dtype))


class Entries(eqx.Module):
    """As `Pattern`, in arrays that may be longer. Places that are not used stand off the diagonal, and are in no sum.

    ``by_symmetric_rows``: of a lower triangle, for products of the symmetric matrix.
    """

    rows: UInt[Table, " k"]
    columns: UInt[Table, " k"]
    by_rows: Groups
    by_columns: Groups
    by_symmetric_rows: Groups | None

    @classmethod
    def of(cls, pattern: Pattern, size: int, shape: tuple[int, int], symmetric: bool = False) -> "Entries":
        """A pattern in tables of that size, of a matrix of a larger shape, in NumPy."""
        rows, columns, terms, below = pattern.rows, pattern.columns, np.arange(pattern.nnz), pattern.below
        both = None
        if symmetric:
            r, c, t = (
                np.concatenate(v) for v in ((rows, columns[below]), (columns, rows[below]), (terms, terms[below]))
            )
            both = Groups.of(r, t, c, shape[0], 2 * size)
        return cls(
            _filled(rows, size, min(1, shape[0] - 1)),
            _filled(columns, size),
            Groups.of(rows, terms, columns, shape[0], size),
            Groups.of(columns, terms, rows, shape[1], size),
            both,
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.by_rows.count, self.by_columns.count

    def times(self, values: Float[Array, " k"], v: Float[Array, " n"]) -> Float[Array, " m"]:
        """``A v``."""
        return self.by_rows.products(values, v)

    def transposed_times(self, values: Float[Array, " k"], v: Float[Array, " m"]) -> Float[Array, " n"]:
        """``A'v``."""
        return self.by_columns.products(values, v)

    def symmetric_times(self, values: Float[Array, " k"], v: Float[Array, " n"]) -> Float[Array, " n"]:
        """``A v`` of the symmetric matrix whose lower triangle this is."""
        assert self.by_symmetric_rows is not None
        return self.by_symmetric_rows.products(values, v)


class Pair(eqx.Module):
    """The entries of two matrices that stand one above the other."""

    upper: Entries
    lower: Entries

    @property
    def shape(self) -> tuple[int, int]:
        return self.upper.shape[0] + self.lower.shape[0], self.upper.shape[1]

    @property
    def rows(self) -> UInt[Array, " k"]:
        """Of each value, as those of `Entries`."""
        return jnp.concatenate([self.upper.rows, self.lower.rows + np.uint32(self.upper.shape[0])])

    @property
    def columns(self) -> UInt[Array, " k"]:
        """Likewise."""
        return jnp.concatenate([self.upper.columns, self.lower.columns])

    def times(self, values: Float[Array, " k"], v: Float[Array, " n"]) -> Float[Array, " m"]:
        """``A v``."""
        size = self.upper.rows.shape[0]
        return jnp.concatenate([self.upper.times(values[:size], v), self.lower.times(values[size:], v)])

    def transposed_times(self, values: Float[Array, " k"], v: Float[Array, " m"]) -> Float[Array, " n"]:
        """``A'v``."""
        size, rows = self.upper.rows.shape[0], self.upper.shape[0]
        above = self.upper.transposed_times(values[:size], v[:rows])
        return above + self.lower.transposed_times(values[size:], v[rows:])


def _filled(index: np.ndarray, size: int, rest: int = 0) -> np.ndarray:
    result = np.full(size, rest, np.uint32)
    result[: index.size] = index
    return result


class TabledMatrix(SparseMatrix):
    """A `SparseMatrix` whose pattern is data."""

    pattern: Entries | Pair  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]

    def __matmul__(self, v: Float[Array, " n"]) -> Float[Array, " m"]:
        return self.pattern.times(self.values, v)

    def transposed_times(self, v: Float[Array, " m"]) -> Float[Array, " n"]:
        """``A'v``."""
        return self.pattern.transposed_times(self.values, v)

    def symmetric_times(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """``A v`` of the symmetric matrix whose lower triangle this is."""
        assert isinstance(self.pattern, Entries)
        return self.pattern.symmetric_times(self.values, v)

    def above(self, lower: "TabledMatrix") -> "TabledMatrix":
        """This one above another."""
        assert isinstance(self.pattern, Entries) and isinstance(lower.pattern, Entries)
        return TabledMatrix(jnp.concatenate([self.values, lower.values]), Pair(self.pattern, lower.pattern))

    def diagonal(self) -> Float[Array, " n"]:
        """The entries of the diagonal; zero where there is none."""
        assert isinstance(self.pattern, Entries)
        pattern = self.pattern
        return pattern.by_rows.sums(jnp.where(pattern.rows == pattern.columns, self.values, 0.0))


def _products(groups: Groups, values, v, result):
    def group(i, result):
        def add(t, total):
            return total + item(values, item(groups.terms, t)) * item(v, item(groups.others, t))

        first, last = item(groups.starts, i), item(groups.starts, i + ONE)
        return put(result, lax.fori_loop(first, last, add, jnp.zeros((), v.dtype)), i)

    return lax.fori_loop(ZERO, np.uint32(groups.count), group, result)


def _reduction(operation: Callable) -> Callable:
    def reduced(terms, starts, values, result):
        def group(i, result):
            def step(t, reached):
                return operation(reached, item(values, item(terms, t)))

            return put(result, lax.fori_loop(item(starts, i), item(starts, i + ONE), step, item(result, i)), i)

        return lax.fori_loop(ZERO, np.uint32(result.shape[0]), group, result)

    return reduced


_sums, _largest, _smallest = (_reduction(operation) for operation in (jnp.add, jnp.maximum, jnp.minimum))
