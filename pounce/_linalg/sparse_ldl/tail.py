"""The last unknowns of a factorisation as one dense matrix.

Where a factor fills in, its last columns are all but dense, and half a thousand of them cost more than everything before:
each entry two indices for each product, and each column a step of its own. So the factorisation may stop before them. What is
left of the matrix is quasi-definite: after the primal unknowns ``E`` and the dual ones ``-G`` have been put together it is
``[[E, F'], [F, -G]] = M diag(I, -I) M'`` with ``M = [[L, 0], [F L^-T, C]]``, two Cholesky factorisations (Vanderbei 1995).
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from .elimination import Columns
from .schedule import Sweep, Table, longest_first, sweep


# Nanoseconds on a CPU, and how many solves go with a factorisation. By levels, a product takes 3, and its place in the tables,
# made once for some thirty factorisations, takes 200.
PRODUCT, PRODUCT_OF_TABLES, ENTRY, LEVEL, SOLVES = 2.0, 10.0, 2.5, 1500.0, 12
DENSE_FLOP, DENSE_ENTRY, DENSE_START = 0.05, 0.7, 1e5
LARGEST_TAIL = 6000  # unknowns
BLOCK = 128  # unknowns that a triangular solve takes at a time


class DenseTail(NamedTuple):
    """Where each number of a block stands in the dense matrix, and which numbers of all pivots its primal and its dual unknowns
    are. ``vacant``: one (minus one) for what is no unknown but fills the primal (dual) ones up, zero for all others."""

    place: Int[Table, "e cc"]
    primal: Int[Table, " a"]
    dual: Int[Table, " b"]
    vacant: Int[Table, " ab"]

    def duals(self) -> Int[Array, ""]:
        """How many dual unknowns there are."""
        return jnp.sum(jnp.asarray(self.vacant)[self.primal.shape[0] :] == 0)


class Tail(NamedTuple):
    """Tables: which values of the matrix the blocks of the tail begin with, what is taken away from them, and what becomes of
    them."""

    source: Int[Table, "e cc"]
    sweep: Sweep
    dense: DenseTail


class TailFactor(NamedTuple):
    """``M``, filled up with ones on the diagonal to whole blocks, and the inverses of its diagonal blocks."""

    lower: Float[Array, "u u"]
    inverses: Float[Array, "k b b"]


def seconds(columns: Columns, widths: np.ndarray, stepwise: bool) -> tuple[float, int]:
    """Estimated time of a factorisation and the solves that go with it, and from which level on to be dense for it.
    ``stepwise``: whether each level costs a step."""
    heights = np.bincount(columns.column, weights=widths[columns.rows], minlength=widths.size)
    levels = int(columns.level.max(initial=-1)) + 1

    def below(per_column: np.ndarray) -> np.ndarray:
        """Sums over the columns below each level."""
        return np.concatenate([[0.0], np.cumsum(np.bincount(columns.level, weights=per_column, minlength=levels))])

    products, entries, unknowns = (
        below(v) for v in (widths * heights * (heights + 1) / 2, widths * heights, widths.astype(float))
    )
    left = unknowns[-1] - unknowns
    time = (PRODUCT_OF_TABLES if stepwise else PRODUCT) * products + 2 * SOLVES * ENTRY * entries
    if stepwise:
        time += LEVEL * (1 + 2 * SOLVES) * np.arange(levels + 1)
    dense = DENSE_FLOP * left**3 / 3 + 2 * SOLVES * DENSE_ENTRY * left**2 + DENSE_START
    time = time + np.where(left > 0, dense, 0.0)
    time[left > LARGEST_TAIL] = np.inf
    best = int(np.argmin(time))
    if not time[best] < 0.8 * time[-1]:
        best = levels
    return 1e-9 * float(time[best]), best


def truncated(columns: Columns, tail: int) -> Columns:
    """Nothing below the last columns, all of which are on the top level."""
    first = columns.start.size - 1 - tail
    start = np.minimum(columns.start, columns.start[first])
    level = columns.level.copy()
    level[first:] = level[:first].max(initial=-1) + 1
    return dataclasses.replace(columns, start=start, rows=columns.rows[: start[-1]], level=level)


def tail_tables(
    members: np.ndarray,
    dual: np.ndarray,
    forward: np.ndarray,
    products: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    entries: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    zeros: tuple[int, int],
) -> Tail:
    """**Arguments:**

    - `members`: whether pivot ``i`` of the tail has a first and a second unknown; `dual`: whether that is a row of J;
      `forward`: its number in the forward order.
    - `products`: left and right blocks, and the pivots they belong to, row and column.
    - `entries`: the number of a value of the matrix, row and column pivot, and the place in the block of both.
    - `zeros`: the block that is zero, and the value that is.
    """
    count, width = members.shape
    left, right, i, j = products
    target = i * (i + 1) // 2 + j
    total = count * (count + 1) // 2
    number = longest_first(np.zeros(total, np.int64), np.bincount(target, minlength=total))
    sums = sweep(
        np.zeros(total, np.int64), number[target], left, right, width=width, levels=1, zero=(zeros[0], zeros[0])
    )

    source = np.full((total, width, width), zeros[1], np.int32)
    value, p, q, u, v = entries
    source[number[p * (p + 1) // 2 + q], u, v] = value
    on = p == q
    source[number[p[on] * (p[on] + 1) // 2 + q[on]], v[on], u[on]] = value[on]

    rows = np.repeat(np.arange(count), np.arange(1, count + 1))
    columns = np.arange(total) - rows * (rows + 1) // 2
    dense = dense_tail(members, dual, forward, rows, columns)
    place = np.empty_like(dense.place)
    place[number] = dense.place
    return Tail(source.reshape(total, width * width), sums, dense._replace(place=place))


def dense_tail(
    members: np.ndarray, dual: np.ndarray, pivots: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> DenseTail:
    """**Arguments:**

    - `members`: whether pivot ``i`` of the tail has a first and a second unknown; `dual`: whether that is a row of J;
      `pivots`: its number among all pivots.
    - `rows`, `columns`: the pivots of each block.
    """
    count, width = members.shape
    # Unknowns of the dense matrix: the primal ones first.
    kind = np.where(members, np.where(dual, 1, 0), 2).ravel()
    order = np.argsort(kind, kind="stable")
    size, primal = int(np.sum(kind < 2)), int(np.sum(kind == 0))
    dense = np.full(count * width, size)
    dense[order[:size]] = np.arange(size)
    dense = dense.reshape(count, width)
    a, b = dense[rows][:, :, None], dense[columns][:, None, :]
    flat = np.maximum(a, b).astype(np.int64) * size + np.minimum(a, b)
    place = np.where(np.maximum(a, b) < size, flat, size * size).astype(np.int32).reshape(-1, width * width)
    at = (pivots[:, None] * width + np.arange(width)).ravel()[order]
    vacant = np.zeros(size, np.int8)
    return DenseTail(place, at[:primal].astype(np.int32), at[primal:size].astype(np.int32), vacant)


def factorize(tail: DenseTail, blocks: Float[Array, "e cc"], regularization: Float[Array, ""]) -> TailFactor:
    """The factor of what the sums have left of the blocks."""
    a, b = tail.primal.shape[0], tail.dual.shape[0]
    u, dtype = a + b, blocks.dtype
    matrix = jnp.zeros(u * u + 1, dtype).at[tail.place].set(blocks)[: u * u].reshape(u, u)
    matrix = matrix + jnp.diag(jnp.asarray(tail.vacant, dtype))
    lower = jnp.zeros((0, 0), dtype)
    if a:
        lower = _cholesky(matrix[:a, :a], regularization)
    if b:
        corner = -matrix[a:, a:]
        beside = jnp.zeros((b, 0), dtype)
        if a:
            # (F L^-T)' = L^-1 F'
            beside = lax.linalg.triangular_solve(lower, matrix[a:, :a], left_side=False, lower=True, transpose_a=True)
            corner = corner + beside @ beside.T
        corner = _cholesky(corner, regularization)
        lower = jnp.concatenate([jnp.pad(lower, ((0, 0), (0, b))), jnp.concatenate([beside, corner], axis=1)])
    size = -(-u // BLOCK) * BLOCK
    lower = jnp.pad(lower, (0, size - u)) + jnp.diag(jnp.where(jnp.arange(size) < u, 0.0, 1.0).astype(dtype))
    unit = jnp.eye(BLOCK, dtype=dtype)

    def inverse(k, inverses):
        own = lax.dynamic_slice(lower, (k * BLOCK, k * BLOCK), (BLOCK, BLOCK))
        return inverses.at[k].set(lax.linalg.triangular_solve(own, unit, left_side=True, lower=True))

    return TailFactor(lower, lax.fori_loop(0, size // BLOCK, inverse, jnp.zeros((size // BLOCK, BLOCK, BLOCK), dtype)))


def _cholesky(matrix: Float[Array, "k k"], regularization: Float[Array, ""]) -> Float[Array, "k k"]:
    lower = lax.linalg.cholesky(
        matrix + regularization * jnp.eye(matrix.shape[0], dtype=matrix.dtype), symmetrize_input=False
    )
    return jnp.tril(lower)


def solve(tail: DenseTail, factor: TailFactor, y: Float[Array, " s *r"]) -> Float[Array, " s *r"]:
    """The unknowns of the tail, from what the forward sweep has left in their places; nothing elsewhere."""
    places = jnp.concatenate([jnp.asarray(tail.primal), jnp.asarray(tail.dual)])
    a, u = tail.primal.shape[0], places.shape[0]
    count = factor.inverses.shape[0]
    v = jnp.pad(y[places], ((0, count * BLOCK - u), *((0, 0) for _ in y.shape[1:])))

    def forward(k, v):
        rows = lax.dynamic_slice_in_dim(factor.lower, k * BLOCK, BLOCK)
        # Unknowns from this block on do not count yet.
        known = jnp.where((jnp.arange(count * BLOCK) < k * BLOCK).reshape(-1, *(1 for _ in v.shape[1:])), v, 0.0)
        own = lax.dynamic_slice_in_dim(v, k * BLOCK, BLOCK) - rows @ known
        return lax.dynamic_update_slice_in_dim(v, factor.inverses[k] @ own, k * BLOCK, 0)

    def backward(i, v):
        k = count - 1 - i
        own = factor.inverses[k].T @ lax.dynamic_slice_in_dim(v, k * BLOCK, BLOCK)
        rows = lax.dynamic_slice_in_dim(factor.lower, k * BLOCK, BLOCK)
        v = jnp.where(
            (jnp.arange(count * BLOCK) < k * BLOCK).reshape(-1, *(1 for _ in v.shape[1:])), v - rows.T @ own, v
        )
        return lax.dynamic_update_slice_in_dim(v, own, k * BLOCK, 0)

    v = lax.fori_loop(0, count, forward, v)
    sign = jnp.where(jnp.arange(count * BLOCK) < a, 1.0, -1.0).astype(v.dtype)
    v = sign.reshape(-1, *(1 for _ in v.shape[1:])) * v
    v = lax.fori_loop(0, count, backward, v)
    return jnp.zeros_like(y).at[places].set(v[:u])
