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
from .symbolic import SLICE, Pivots, Symbolic


class Factor(eqx.Module):
    """``entries``: L below its diagonal blocks. ``own, cross``: the inverse of D row by row, in the backward order."""

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
    """Determinant and entries of a pivot, made safe: a pivot singular to working precision is moved in the direction of its
    expected signs, which `negative` and `perturbed` report."""
    eps = jnp.finfo(own.dtype).eps
    product, square = own * other, off * off
    bad = jnp.abs(product - square) <= eps * (10 + 100 * jnp.maximum(jnp.abs(product), square))
    shift = jnp.where(bad, jnp.sqrt(eps) * sign, 0.0)
    own, other = own + shift, other - shift
    return own, other, own * other - square, bad


def _gathered(buffer, pivots: Pivots):
    sign = _spread(pivots.sign, buffer).astype(buffer.dtype)
    return _take(buffer, pivots.own), _take(buffer, pivots.other), _take(buffer, pivots.off), sign


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


def equilibrate(symbolic: Symbolic, values, passes: int = 2):
    """Powers of two that bring the rows of the matrix near one (Ruiz 2001); ``values`` end with a zero."""
    size = jnp.abs(_take(values, symbolic.rows.value))
    count = symbolic.from_backward.shape[0]
    scale = jnp.ones((count, *values.shape[1:]), values.dtype)
    for _ in range(passes):
        pieces = jnp.max(size * _take(scale, symbolic.rows.column), axis=1)
        largest = jax.ops.segment_max(pieces, symbolic.rows.row, count + 1, indices_are_sorted=True)[:count]
        largest = largest * scale
        usable = (largest > 0) & jnp.isfinite(largest)
        scale = scale * lax.rsqrt(jnp.where(usable, largest, 1.0))
    return jnp.exp2(jnp.round(jnp.log2(scale)))


def factorize(symbolic: Symbolic, values: Float[Array, " k"]) -> Factor:
    """``values``: the lower triangle of H, J, and -D, one behind the other; with a trailing batch dimension or without."""
    tail = jnp.zeros((1, *values.shape[1:]), values.dtype)
    scale = equilibrate(symbolic, jnp.concatenate([values, tail]))
    scaled = values * _take(scale, symbolic.row) * _take(scale, symbolic.column)
    buffer = _take(jnp.concatenate([scaled, tail, tail + 1.0]), symbolic.source)
    pivots = symbolic.entry_pivots

    def divide(k, carry, begin):
        lower, done, buffer = carry
        start = begin + k * SLICE

        def cut(table):
            return lax.dynamic_slice_in_dim(table, start, SLICE)

        here = Pivots(cut(pivots.own), cut(pivots.other), cut(pivots.off), cut(pivots.sign))
        own, other, off, sign = _gathered(buffer, here)
        _, other, determinant, _ = _pivot(own, other, off, sign)
        beside = _take(buffer, cut(symbolic.mate))
        entries = (other * cut(buffer) - off * beside) / determinant
        lower = lax.dynamic_update_slice_in_dim(lower, entries, start, axis=0)
        return lower, lax.dynamic_update_slice_in_dim(done, cut(buffer), start, axis=0), buffer

    def step(level, carry):
        lower, done, buffer = carry
        buffer = _level(symbolic.factor, level, lower, done, buffer)
        begin = symbolic.slices[level, 0]
        count = symbolic.slices[level, 2]
        return lax.fori_loop(0, count, lambda k, c: divide(k, c, begin), (lower, done, buffer))

    zero = jnp.zeros_like(buffer)
    lower, _, buffer = lax.fori_loop(0, symbolic.levels, step, (zero, zero, buffer))
    own, other, off, sign = _gathered(buffer, symbolic.unknown_pivots)
    own, other, determinant, bad = _pivot(own, other, off, sign)
    counts = _spread(symbolic.counts, buffer)
    alone = jnp.where(own < 0, 1, 0)
    pair = jnp.where(determinant < 0, 1, 2 * alone)
    negative = jnp.sum(jnp.where(counts == 2, pair, jnp.where(counts == 1, alone, 0)), axis=0)
    perturbed = jnp.sum(jnp.where(bad & (counts > 0), 1, 0), axis=0)
    dual = (counts == 2) | (_spread(symbolic.unknown_pivots.sign, buffer) < 0)
    dependent = jnp.sum(jnp.where(bad & (counts > 0) & dual, 1, 0), axis=0)
    diagonal = _spread(pivots.own, buffer) == buffer.shape[0] - 1
    growth = jnp.max(jnp.where(diagonal, 0.0, jnp.abs(lower)), axis=0)
    return Factor(scale, lower, other / determinant, -off / determinant, negative, perturbed, dependent, growth)


def solve(symbolic: Symbolic, factor: Factor, rhs: Float[Array, " u"]) -> Float[Array, " u"]:
    """``K^-1 rhs`` by the factor. ``rhs`` may have more trailing dimensions than the factor; the shared ones are last."""
    extra = rhs.ndim - factor.scale.ndim

    def widened(array):
        return array.reshape(array.shape[:1] + (1,) * extra + array.shape[1:])

    scale, lower, own, cross = (widened(v) for v in (factor.scale, factor.entries, factor.own, factor.cross))
    scaled = scale * rhs
    y = _take(jnp.concatenate([scaled, jnp.zeros_like(scaled[:1])]), symbolic.to_forward)
    y = lax.fori_loop(0, symbolic.levels, lambda level, y: _level(symbolic.forward, level, lower, None, y), y)
    z = own * _take(y, symbolic.own_forward) + cross * _take(y, symbolic.mate_forward)
    z = lax.fori_loop(0, symbolic.levels, lambda level, z: _level(symbolic.backward, level, lower, None, z), z)
    return scale * _take(z, symbolic.from_backward)
