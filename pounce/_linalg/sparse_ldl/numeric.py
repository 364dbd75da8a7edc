"""Factorisation ``S K S = L D L'`` and its solves in `lax`, on the tables of a `Symbolic`.

No conditional may stand inside a loop that carries a buffer: XLA would copy the whole buffer in every iteration. Nor may a
loop gather from the large buffer it updates: that makes two kernels of a chunk instead of one, and XLA splits the first of them
between threads, at several microseconds. The factorisation therefore gathers from copies of what is finished.

Values may have a trailing axis of lanes, which share the tables; then so have all arrays of the factor, and right-hand sides.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..gather import taken
from ..powers_of_two import nearest_power_of_two
from . import tail as dense_tail
from .schedule import Sweep
from .symbolic import ENTRIES, PIVOTS, Rows, Symbolic
from .tail import TailFactor


class Factor(eqx.Module):
    """``blocks``: L below its diagonal, row by row. ``inverse``: of the pivots, in forward order."""

    scale: Float[Array, " u"]
    blocks: Float[Array, "e cc"]
    inverse: Float[Array, "s cc"]
    negative: Int[Array, ""]  # how many negative eigenvalues D has
    perturbed: Int[Array, ""]  # how many pivots were too small and replaced
    dependent: Int[Array, ""]  # how many of these belong to a row of J: its rows may be dependent
    growth: Float[Array, ""]  # the largest entry of L
    tail: TailFactor | None = None


def _slice(array, start, size: int):
    return lax.dynamic_slice_in_dim(array, start, size)


def _put(array, piece, start):
    return lax.dynamic_update_slice_in_dim(array, piece, start, axis=0)


def spread(table, like):
    """What all lanes share, with an axis of length one for them."""
    return table.reshape(*table.shape, *(1,) * (like.ndim - table.ndim))


def _sum(products):
    """Written out, for XLA's reductions over short axes are slow, and do not use vector units over lanes."""
    return functools.reduce(jnp.add, products)


def _square(blocks, width: int, lanes: tuple[int, ...]):
    """Blocks ``[..., cc, *lanes]`` by rows and columns."""
    return blocks.reshape(*blocks.shape[: blocks.ndim - 1 - len(lanes)], width, width, *lanes)


def _terms(chunk) -> list[tuple[int, int]]:
    """The depths of a chunk of square blocks, and the places in a row of each."""
    return [(j, k) for j in range(chunk.shape[1]) for k in range(chunk.shape[2])]


def equilibrate(rows: Rows, count: int, values, passes: int = 2):
    """Powers of two that bring the ``count`` rows of the matrix near one (Ruiz 2001); ``values`` end with a zero."""
    scale = jnp.ones((count, *values.shape[1:]), values.dtype)
    magnitudes = jnp.abs(values)
    for k in range(passes):
        pieces = [taken(magnitudes, v) * (taken(scale, c) if k else 1.0) for v, c in zip(rows.value, rows.column)]
        pieces = functools.reduce(jnp.maximum, pieces)
        largest = scale * jax.ops.segment_max(pieces, rows.row, count + 1, indices_are_sorted=True)[:count]
        usable = (largest > 0) & jnp.isfinite(largest)
        scale = scale * lax.rsqrt(jnp.where(usable, largest, 1.0))
    return nearest_power_of_two(scale)


# XLA splits kernels that touch more bytes than this between threads.
SPLIT = 400_000


def _level(sweep: Sweep, level, left, right, contract, target, spare=None):
    """All chunks of a level: ``target[t] -= contract(left[a], right[b])``. ``right`` None: the target itself.

    ``spare``: room for what a chunk gathers, by kind of chunk (`_spare`). A gather that is a kernel of its own would be
    split between threads if it gathers from a large buffer; one that goes into a slice of another buffer is not.
    """
    rooms = []
    for kind, chunks in enumerate(sweep.chunks):

        def body(k, carry, chunks=chunks):
            target, room = carry
            first, a, b = (lax.dynamic_index_in_dim(v, k, 0, keepdims=False) for v in chunks)
            x, y = taken(left, a), taken(target if right is None else right, b)
            if room is not None:
                room = _put(room[0], x, 0), _put(room[1], y, 0)
                # Without the barrier XLA would see that what is put is what is taken.
                x, y = (_slice(v, 0, a.shape[0]) for v in lax.optimization_barrier(room))
            return _put(target, _slice(target, first, a.shape[0]) - contract(x, y), first), room

        room = None if spare is None else spare[kind]
        bounds = sweep.bounds[level, kind]
        target, room = lax.fori_loop(bounds[0], bounds[1], body, (target, room))
        rooms.append(room)
    return target, None if spare is None else tuple(rooms)


def _spare(sweep: Sweep, left, right):
    shapes = [chunks.left.shape[1:] for chunks in sweep.chunks]
    return tuple(tuple(jnp.zeros((m + 1, d, *v.shape[1:]), v.dtype) for v in (left, right)) for m, d in shapes)


def _sweep(sweep: Sweep, levels, left, contract, target):
    """All levels of a triangular sweep."""
    spare = _spare(sweep, left, target) if target.size * target.dtype.itemsize > SPLIT else None

    def step(level, carry):
        target, spare = carry
        return _level(sweep, level, left, None, contract, target, spare)

    return lax.fori_loop(0, levels, step, (target, spare))[0]


def invert_pivots(blocks, sign):
    """Inverses of pivots ``[s, c * c]``, the number of negative eigenvalues of each, and which were singular to working
    precision: those are moved in the direction of their expected signs first."""
    root = jnp.sqrt(jnp.finfo(blocks.dtype).eps)
    sign = spread(sign, blocks)
    if sign.shape[1] == 1:
        a = blocks[:, 0]
        bad = jnp.abs(a) <= 10 * root**2
        a = a + jnp.where(bad, root, 0.0) * sign[:, 0]
        return (1.0 / a)[:, None], jnp.where(a < 0, 1, 0), bad
    a, b, c = blocks[:, 0], blocks[:, 1], blocks[:, 3]
    product, square = a * c, b * b
    bad = jnp.abs(product - square) <= root**2 * (10 + 100 * jnp.maximum(jnp.abs(product), square))
    shift = jnp.where(bad, root, 0.0)
    a, c = a + shift * sign[:, 0], c + shift * sign[:, 1]
    determinant = a * c - square
    inverse = jnp.stack([c, -b, -b, a], axis=1) / determinant[:, None]
    return inverse, jnp.where(determinant < 0, 1, jnp.where(a + c < 0, 2, 0)), bad


def factorize(symbolic: Symbolic, values: Float[Array, " k *lanes"], regularization: Float[Array, " *lanes"]) -> Factor:
    """``values``: the lower triangle of H, J, and -D, one behind the other. ``regularization``: what is added to the
    equilibrated diagonal where the tables say so."""
    tail = jnp.zeros_like(values[:1])
    scale = equilibrate(symbolic.rows, symbolic.from_backward.shape[0], jnp.concatenate([values, tail]))
    scaled = values * taken(scale, symbolic.row) * taken(scale, symbolic.column)
    buffer = taken(jnp.concatenate([scaled, tail, tail + 1.0]), symbolic.source)
    width, dtype, lanes = symbolic.width, values.dtype, values.shape[1:]
    sign = jnp.asarray(symbolic.sign, dtype)
    shift = jnp.asarray(symbolic.shift, dtype)[:, :, None] * jnp.eye(width, dtype=dtype)
    shift = spread(shift.reshape(-1, width * width), buffer) * regularization

    square = functools.partial(_square, width=width, lanes=lanes)

    def contract(w, v):
        w, v = square(w), square(v)
        total = _sum(w[:, j, :, None, k] * v[:, j, None, :, k] for j, k in _terms(w))
        return total.reshape(-1, width * width, *lanes)

    def step(level, carry):
        lower, done, buffer, pivots, inverse, spare, room = carry

        buffer, spare = _level(symbolic.factor, level, lower, done, contract, buffer, spare)

        def invert(k, carry):
            pivots, inverse = carry
            start = symbolic.pivot_slices[level, 0] + k * PIVOTS
            # A gather whose result goes nowhere but into a slice is one kernel with it, never split between threads.
            pivots = _put(pivots, taken(buffer, _slice(symbolic.pivot_entry, start, PIVOTS)), start)
            blocks = _slice(pivots, start, PIVOTS) + _slice(shift, start, PIVOTS)
            return pivots, _put(inverse, invert_pivots(blocks, _slice(sign, start, PIVOTS))[0], start)

        pivots, inverse = lax.fori_loop(0, symbolic.pivot_slices[level, 1], invert, (pivots, inverse))

        def divide(k, carry):
            lower, done, room = carry
            start = symbolic.entry_slices[level, 0] + k * ENTRIES
            here = _slice(buffer, start, ENTRIES)
            room = _put(room, taken(inverse, _slice(symbolic.entry_column, start, ENTRIES)), 0)
            w, by = square(here), square(_slice(lax.optimization_barrier(room), 0, ENTRIES))
            product = _sum(w[:, :, k, None] * by[:, None, k] for k in range(width)).reshape(here.shape)
            return _put(lower, product, start), _put(done, here, start), room

        lower, done, room = lax.fori_loop(0, symbolic.entry_slices[level, 1], divide, (lower, done, room))
        return lower, done, buffer, pivots, inverse, spare, room

    empty, none = jnp.zeros_like(buffer), jnp.zeros((sign.shape[0], width * width, *lanes), dtype)
    # Entries of blocks of one are gathered for one product each, in the kernel that sums them.
    spare = _spare(symbolic.factor, empty, empty) if width > 1 or lanes else None
    carry = empty, empty, buffer, none, none, spare, jnp.zeros((ENTRIES + 1, width * width, *lanes), dtype)
    lower, done, _, pivots, *_ = lax.fori_loop(0, symbolic.levels, step, carry)
    inverse, negative, bad = invert_pivots(pivots + shift, sign)
    real = spread(symbolic.real, bad)
    bad = bad & real
    inverse = jnp.where(real[:, None], inverse, 0.0)
    dense, finite, rest = None, jnp.all(jnp.isfinite(inverse), axis=(0, 1)), 0
    if symbolic.tail is not None:
        blocks = taken(jnp.concatenate([scaled, tail]), symbolic.tail.source)
        room = _spare(symbolic.tail.sweep, empty, empty)
        blocks, _ = _level(symbolic.tail.sweep, 0, lower, done, contract, blocks, room)
        dense = dense_tail.factorize(symbolic.tail.dense, blocks, regularization)
        finite, rest = finite & jnp.all(jnp.isfinite(dense.inverses)), symbolic.tail.dense.duals()
    return Factor(
        scale,
        lower,
        inverse,
        negative=jnp.sum(jnp.where(real, negative, 0), axis=0) + rest,
        perturbed=jnp.sum(jnp.where(bad, 1, 0), axis=0),
        dependent=jnp.sum(jnp.where(bad & spread(jnp.any(sign < 0, axis=1), bad), 1, 0), axis=0),
        # A pivot that is not finite may have no entries of L below it to show it.
        growth=jnp.where(finite, jnp.max(jnp.abs(lower), axis=(0, 1)), jnp.nan),
        tail=dense,
    )


def solve(symbolic: Symbolic, factor: Factor, rhs: Float[Array, " u *r"]) -> Float[Array, " u *r"]:
    """``K^-1 rhs`` by the factor, for one right-hand side or for several, in columns; for a factor of lanes, one of each."""
    width, several = symbolic.width, rhs.shape[1:]
    scale = spread(factor.scale, rhs)
    scaled = scale * rhs
    y = taken(jnp.concatenate([scaled, jnp.zeros_like(scaled[:1])]), symbolic.to_forward)

    lanes = factor.scale.shape[1:]

    def square(blocks):
        blocks = _square(blocks, width, lanes)
        return blocks.reshape(*blocks.shape, *(1,) * (len(several) - len(lanes)))

    def forward(w, y):
        w = square(w)
        return _sum(w[:, j, :, k] * y[:, j, None, k] for j, k in _terms(w))

    def backward(w, z):
        w = square(w)
        return _sum(w[:, j, k] * z[:, j, k, None] for j, k in _terms(w))

    y = _sweep(symbolic.forward, symbolic.levels, factor.blocks, forward, y)
    last = y.reshape(-1, *several)
    inverse = square(factor.inverse)
    y = _sum(inverse[:, :, k] * y[:, None, k] for k in range(width))
    if symbolic.tail is not None and factor.tail is not None:
        y = y + dense_tail.solve(symbolic.tail.dense, factor.tail, last).reshape(y.shape)
    z = taken(y, symbolic.to_backward)
    z = _sweep(symbolic.backward, symbolic.levels, factor.blocks, backward, z)
    return scale * taken(z.reshape(-1, *several), symbolic.from_backward)
