"""Factorisation ``S K S = L D L'`` and its solves in `lax`, on the tables of a `Symbolic`.

Buffers have their index first and, under batching, the batch last. No conditional may stand inside a loop that carries a
buffer: XLA would copy the whole buffer in every iteration. The same tables serve every batch size.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .schedule import Sweep
from .symbolic import ENTRIES, UNKNOWNS, Rows, Symbolic


class Factor(eqx.Module):
    """``entries``: L below its diagonal blocks. ``own, cross``: the inverse of D row by row, in the forward order."""

    scale: Float[Array, " u"]
    entries: Float[Array, " e"]
    own: Float[Array, " s"]
    cross: Float[Array, " s"]
    negative: Int[Array, ""]  # how many negative eigenvalues D has
    perturbed: Int[Array, ""]  # how many pivots were too small and replaced
    dependent: Int[Array, ""]  # how many of these belong to a row of J: its rows may be dependent
    growth: Float[Array, ""]  # the largest entry of L


def _take(array, index):
    return array.at[index].get(mode="promise_in_bounds")


def _spread(table, like):
    """A table broadcast against the trailing dimensions of a buffer."""
    return table.reshape(table.shape + (1,) * (like.ndim - 1))


def _pivot(own, other, off, sign):
    """Entries and determinant of a pivot, made safe: a pivot singular to working precision is moved in the direction of its
    expected signs, which `negative` and `perturbed` report."""
    eps = jnp.finfo(own.dtype).eps
    sign = _spread(sign, own).astype(own.dtype)
    product, square = own * other, off * off
    bad = jnp.abs(product - square) <= eps * (10 + 100 * jnp.maximum(jnp.abs(product), square))
    shift = jnp.where(bad, jnp.sqrt(eps) * sign, 0.0)
    own, other = own + shift, other - shift
    return own, other, off, own * other - square, bad


def _level(sweep: Sweep, level, left, right, target):
    """All chunks of a level: ``target[t] -= sum left[a] right[b]``. ``right`` None: the target itself.

    A buffer that is updated in place and gathered from makes two kernels of a chunk instead of one, and the first of them
    is split between threads once the buffer is large, at several microseconds; hence the factorisation gathers from copies.
    """
    for kind, chunks in enumerate(sweep.chunks):

        def body(k, target, chunks=chunks):
            a, b, first = (
                lax.dynamic_index_in_dim(v, k, 0, keepdims=False) for v in (chunks.left, chunks.right, chunks.first)
            )
            change = jnp.sum(_take(left, a) * _take(target if right is None else right, b), axis=1)
            old = lax.dynamic_slice_in_dim(target, first, change.shape[0])
            return lax.dynamic_update_slice_in_dim(target, old - change, first, axis=0)

        target = lax.fori_loop(sweep.bounds[level, kind, 0], sweep.bounds[level, kind, 1], body, target)
    return target


def equilibrate(rows: Rows, count: int, values, passes: int = 2):
    """Powers of two that bring the ``count`` rows of the matrix near one (Ruiz 2001); ``values`` end with a zero."""
    size = jnp.abs(_take(values, rows.value))
    scale = jnp.ones((count, *values.shape[1:]), values.dtype)
    for k in range(passes):
        pieces = jnp.max(size * _take(scale, rows.column) if k else size, axis=1)
        largest = jax.ops.segment_max(pieces, rows.row, count + 1, indices_are_sorted=True)[:count]
        largest = largest * scale
        usable = (largest > 0) & jnp.isfinite(largest)
        scale = scale * lax.rsqrt(jnp.where(usable, largest, 1.0))
    return jnp.exp2(jnp.round(jnp.log2(scale)))


def factorize(symbolic: Symbolic, values: Float[Array, " k"]) -> Factor:
    """``values``: the lower triangle of H, J, and -D, one behind the other; with a trailing batch dimension or without."""
    tail = jnp.zeros((1, *values.shape[1:]), values.dtype)
    scale = equilibrate(symbolic.rows, symbolic.from_backward.shape[0], jnp.concatenate([values, tail]))
    scaled = values * _take(scale, symbolic.row) * _take(scale, symbolic.column)
    buffer = _take(jnp.concatenate([scaled, tail, tail + 1.0]), symbolic.source)
    nothing = jnp.zeros((symbolic.counts.shape[0], *buffer.shape[1:]), buffer.dtype)
    tables, root = symbolic.pivots, jnp.sqrt(jnp.finfo(values.dtype).eps)

    def step(level, carry):
        lower, done, buffer, blocks, own, cross = carry
        buffer = _level(symbolic.factor, level, lower, done, buffer)

        def invert(k, carry):
            blocks, own_inverse, cross = carry
            start = symbolic.unknown_slices[level, 0] + k * UNKNOWNS
            here = jax.tree.map(lambda v: _slice(v, start, UNKNOWNS), tables)
            # A gather whose result goes nowhere but into a slice is one kernel with it, never split between threads.
            index = here.own, here.other, here.off
            blocks = tuple(_put(block, _take(buffer, i), start) for block, i in zip(blocks, index))
            own, other, off = (_slice(block, start, UNKNOWNS) for block in blocks)
            own = own + _spread(here.shift, own).astype(own.dtype) * root
            _, other, off, determinant, _ = _pivot(own, other, off, here.sign)
            return blocks, _put(own_inverse, other / determinant, start), _put(cross, -off / determinant, start)

        blocks, own, cross = lax.fori_loop(0, symbolic.unknown_slices[level, 1], invert, (blocks, own, cross))

        def divide(k, carry):
            lower, done = carry
            start = symbolic.entry_slices[level, 0] + k * ENTRIES
            here = _slice(buffer, start, ENTRIES)
            column, mate = _slice(symbolic.entry_column, start, ENTRIES), _slice(symbolic.mate, start, ENTRIES)
            divided = here * _take(own, column) + _take(buffer, mate) * _take(cross, column)
            return _put(lower, divided, start), _put(done, here, start)

        lower, done = lax.fori_loop(0, symbolic.entry_slices[level, 1], divide, (lower, done))
        return lower, done, buffer, blocks, own, cross

    empty = jnp.zeros_like(buffer)
    carry = empty, empty, buffer, (nothing,) * 3, nothing, nothing
    lower, _, _, blocks, _, _ = lax.fori_loop(0, symbolic.levels, step, carry)
    own, other, off = blocks
    own = own + _spread(tables.shift, own).astype(own.dtype) * root
    own, other, off, determinant, bad = _pivot(own, other, off, tables.sign)
    counts = _spread(symbolic.counts, buffer)
    alone = jnp.where(own < 0, 1, 0)
    pair = jnp.where(determinant < 0, 1, 2 * alone)
    bad = bad & (counts > 0)
    dual = (counts == 2) | (_spread(tables.sign, buffer) < 0)
    real = _spread(symbolic.real, buffer)
    return Factor(
        scale,
        lower,
        jnp.where(real, other / determinant, 0.0),
        jnp.where(real, -off / determinant, 0.0),
        negative=jnp.sum(jnp.where(counts == 2, pair, jnp.where(counts == 1, alone, 0)), axis=0),
        perturbed=jnp.sum(jnp.where(bad, 1, 0), axis=0),
        dependent=jnp.sum(jnp.where(bad & dual, 1, 0), axis=0),
        growth=jnp.max(jnp.abs(lower), axis=0),
    )


def _slice(array, start, size: int):
    return lax.dynamic_slice_in_dim(array, start, size)


def _put(array, piece, start):
    return lax.dynamic_update_slice_in_dim(array, piece, start, axis=0)


def solve(symbolic: Symbolic, factor: Factor, rhs: Float[Array, " u"]) -> Float[Array, " u"]:
    """``K^-1 rhs`` by the factor. ``rhs`` may have more trailing dimensions than the factor; the shared ones are last."""
    extra = rhs.ndim - factor.scale.ndim

    def widened(array):
        return array.reshape(array.shape[:1] + (1,) * extra + array.shape[1:])

    scale, lower, own, cross = (widened(v) for v in (factor.scale, factor.entries, factor.own, factor.cross))
    scaled = scale * rhs
    y = _take(jnp.concatenate([scaled, jnp.zeros_like(scaled[:1])]), symbolic.to_forward)
    y = lax.fori_loop(0, symbolic.levels, lambda level, y: _level(symbolic.forward, level, lower, None, y), y)
    z = _take(own * y + cross * _take(y, symbolic.beside), symbolic.to_backward)
    z = lax.fori_loop(0, symbolic.levels, lambda level, z: _level(symbolic.backward, level, lower, None, z), z)
    return scale * _take(z, symbolic.from_backward)
