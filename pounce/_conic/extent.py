"""How far from zero the variables of a feasible point can be, as far as the rows tell one at a time.

Bounds travel from variables to rows and back (feasibility-based tightening: Brearley, Mitra and Williams 1975): where all other
terms of a row are bounded and its slack is, the last one is. Slacks of cones bound each other, as the diagonal of a semidefinite
matrix bounds the rest of it. No feasible point is lost; where bounds follow only from several rows together, there is none.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._linalg import matrix
from .._linalg.gather import taken
from .._linalg.matrix import Matrix
from .._linalg.sparse import SparseMatrix
from .program import ConicProgram


SWEEPS = 6  # a cone in a cone takes two more
ROUNDING = 100.0  # times the precision, of the terms of a row


class _Entries:
    """The entries of a matrix in any of its forms, and what is done with numbers that have the same form."""

    def __init__(self, given: Matrix):
        self._pattern = given.pattern if isinstance(given, SparseMatrix) else None
        self.values = given.values if isinstance(given, SparseMatrix) else given

    def of_rows(self, v: Float[Array, " m"]) -> Array:
        """The number of each entry's row."""
        return v[:, None] if self._pattern is None else taken(v, self._pattern.rows)

    def of_columns(self, v: Float[Array, " n"]) -> Array:
        """The number of each entry's column."""
        return v[None, :] if self._pattern is None else taken(v, self._pattern.columns)

    def row_sums(self, entries: Array) -> Float[Array, " m"]:
        return jnp.sum(entries, axis=1) if self._pattern is None else self._pattern.by_rows.sums(entries)

    def column_least(self, entries: Array) -> Float[Array, " n"]:
        if self._pattern is None:
            return jnp.min(entries, axis=0, initial=jnp.inf)
        return self._pattern.by_columns.smallest(entries)


def extent(program: ConicProgram) -> Float[Array, " n"]:
    """An upper bound of each ``|x_j|`` over the feasible points, infinite where none is found."""
    p = program.b.shape[0]
    entries = _Entries(matrix.stacked(program.A, program.G))
    right = jnp.concatenate([program.b, program.h])
    unknown = jnp.full(program.cones.size - program.h.shape[0], jnp.inf, right.dtype)  # rows of bounds
    size, positive = jnp.abs(entries.values), entries.values > 0
    tolerance = ROUNDING * jnp.finfo(right.dtype).eps

    def most(x: Array, minus_x: Array) -> tuple[Float[Array, " rows"], Array]:
        """Of each row, and of each row without an entry: the most that it can be. ``minus_x``: bounds of ``-x``."""
        terms = jnp.where(positive, entries.of_columns(x), entries.of_columns(minus_x))
        terms = jnp.where(size > 0, size * terms, 0.0)
        endless = jnp.isinf(terms).astype(terms.dtype)
        known = jnp.where(endless > 0, 0.0, terms)
        sums, sizes, count = (entries.row_sums(v) for v in (known, jnp.abs(known), endless))
        others = entries.of_rows(sums + tolerance * sizes) - known
        others = jnp.where(entries.of_rows(count) > endless, jnp.inf, others)
        return jnp.where(count > 0, jnp.inf, sums), others

    def sweep(_, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        (_, up), (row, down) = most(*bounds), most(*bounds[::-1])
        low, high = program.cones.enclosed(jnp.concatenate([(right + row)[p:], unknown]))
        low, high = (jnp.concatenate([jnp.zeros(p, v.dtype), v[: right.shape[0] - p]]) for v in (low, high))
        slip = tolerance * jnp.abs(right)
        above, below = entries.of_rows(right - low + slip) + down, entries.of_rows(high - right + slip) + up
        above, below = (jnp.where(size > 0, v / jnp.where(size > 0, size, 1.0), jnp.inf) for v in (above, below))
        new = jnp.where(positive, above, below), jnp.where(positive, below, above)
        return jnp.minimum(bounds[0], entries.column_least(new[0])), jnp.minimum(
            bounds[1], entries.column_least(new[1])
        )

    def given(side, sign: float) -> Array:
        if side is None:
            return jnp.full_like(program.c, jnp.inf)
        return jnp.where(side.mask > 0, sign * side.value, jnp.inf)

    up, down = lax.fori_loop(0, SWEEPS, sweep, (given(program.upper, 1.0), given(program.lower, -1.0)))
    return jnp.maximum(jnp.maximum(up, down), 0.0)
