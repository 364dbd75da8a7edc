"""Factorisation ``S K S = L D L'`` and its solves, column after column, on the tables of a `ColumnSymbolic`.

Left-looking: a column is spread out in a working vector, what columns before it contribute is taken away, and it is gathered
again (Davis, "Direct Methods for Sparse Linear Systems", 2006, chapter 6). This is how a processor does it by itself; the loops
are native code (`..native`), and memory is linear in the entries of L. An accelerator wants many columns at once: `numeric`.

Lanes of a batch, and right-hand sides of one factor, are a last axis: what is done for one number is then done by instructions
for vectors, and what tables have to be read is read once.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..native import ONE, ZERO, item, native, put
from ..powers_of_two import nearest_power_of_two
from . import tail as dense_tail
from .columns import ColumnSymbolic
from .numeric import Factor, invert_pivots, spread


def _product(a, b):
    """``a b`` of small matrices, written out."""
    return functools.reduce(jnp.add, (a[:, k, None] * b[k, None, :] for k in range(a.shape[1])))


def _product_transposed(a, b):
    """``a b'``."""
    return functools.reduce(jnp.add, (a[:, k, None] * b[None, :, k] for k in range(a.shape[1])))


def _image(a, v):
    return functools.reduce(jnp.add, (a[:, k] * v[k] for k in range(a.shape[1])))


def _between(table, k):
    """The range that ``table`` gives for k."""
    return item(table, k), item(table, k + ONE)


def _value(symbolic: ColumnSymbolic, values, k):
    """The value of that number."""
    return item(values, item(symbolic.source, k))


def _equilibrate(symbolic: ColumnSymbolic, values, passes: int = 2):
    """Powers of two that bring the rows of the matrix near one (Ruiz 2001)."""
    scale = jnp.ones((symbolic.place.shape[0], *values.shape[1:]), values.dtype)
    for k in range(passes):

        def value(e, largest, scale=scale, first=k == 0):
            size, row, column = jnp.abs(_value(symbolic, values, e)), item(symbolic.row, e), item(symbolic.column, e)
            if not first:
                size = size * item(scale, row) * item(scale, column)
            largest = put(largest, jnp.maximum(item(largest, row), size), row)
            return put(largest, jnp.maximum(item(largest, column), size), column)

        largest = lax.fori_loop(ZERO, symbolic.counts.values, value, jnp.zeros_like(scale))
        usable = (largest > 0) & (largest < jnp.inf)
        scale = scale * lax.rsqrt(jnp.where(usable, largest, 1.0))
    return nearest_power_of_two(scale)


def _blocks(symbolic: ColumnSymbolic, scale, values):
    """The blocks of the scaled matrix."""
    width, lanes = symbolic.width, values.shape[1:]
    flat = jnp.zeros((symbolic.below.shape[0] * width * width, *lanes), values.dtype)

    def value(k, flat):
        scaled = (
            _value(symbolic, values, k) * item(scale, item(symbolic.row, k)) * item(scale, item(symbolic.column, k))
        )
        return put(put(flat, scaled, item(symbolic.target, k)), scaled, item(symbolic.mirror, k))

    flat = lax.fori_loop(ZERO, symbolic.counts.values, value, flat)
    one = jnp.ones(lanes, values.dtype)
    flat = lax.fori_loop(
        ZERO, jnp.uint32(symbolic.vacant.shape[0]), lambda k, flat: put(flat, one, item(symbolic.vacant, k)), flat
    )
    return flat.reshape(-1, width, width, *lanes)


def _factorize(symbolic: ColumnSymbolic, values, regularization):
    width, dtype, lanes = symbolic.width, values.dtype, values.shape[1:]
    scale = _equilibrate(symbolic, values)
    start, below = symbolic.start, symbolic.below
    sign = jnp.asarray(symbolic.sign, dtype)
    unit = jnp.eye(width, dtype=dtype)

    def column(j, work, blocks, inverses):
        """Column j of the matrix less what the columns before it contribute, in the places of its rows."""
        work = lax.fori_loop(*_between(start, j), lambda e, work: put(work, item(blocks, e), item(below, e)), work)

        def earlier(q, work):
            e, k = item(symbolic.prior, q), item(symbolic.prior_column, q)
            multiplier = _product(item(blocks, e), item(inverses, k))

            def down(f, work):
                row = item(below, f)
                return put(work, item(work, row) - _product_transposed(item(blocks, f), multiplier), row)

            return lax.fori_loop(e, item(start, k + ONE), down, work)

        return lax.fori_loop(*_between(symbolic.prior_start, j), earlier, work)

    def step(j, carry):
        blocks, inverses, work, counts, growth = carry
        work = column(j, work, blocks, inverses)
        own_sign = item(sign, j)
        pivot = item(work, j)
        shift = spread(item(symbolic.shift, j).astype(dtype)[:, None] * unit, pivot)
        pivot = (pivot + shift * regularization).reshape(1, width * width, *lanes)
        inverse, negative, bad = invert_pivots(pivot, own_sign[None])
        inverse = inverse.reshape(width, width, *lanes)
        of_row = (own_sign[0] < 0) | (own_sign[-1] < 0)
        counts = counts + jnp.stack([negative[0], jnp.where(bad[0], 1, 0), jnp.where(bad[0] & of_row, 1, 0)])
        # A pivot that is not finite may have no entries of L below it to show it.
        growth = jnp.where(jnp.all(jnp.isfinite(inverse), axis=(0, 1)), growth, jnp.nan)

        def gather(e, carry):
            blocks, growth = carry
            block = item(work, item(below, e))
            return put(blocks, block, e), jnp.maximum(growth, jnp.max(jnp.abs(_product(block, inverse)), axis=(0, 1)))

        first, last = _between(start, j)
        blocks, growth = lax.fori_loop(first + ONE, last, gather, (blocks, growth))
        return blocks, put(inverses, inverse, j), work, counts, growth

    none = jnp.zeros((sign.shape[0], width, width, *lanes), dtype)
    counts, growth = jnp.zeros((3, *lanes), jnp.int32), jnp.zeros(lanes, dtype)
    carry = _blocks(symbolic, scale, values), none, none, counts, growth
    blocks, inverses, work, counts, growth = lax.fori_loop(ZERO, symbolic.early, step, carry)
    if symbolic.tail is None:
        return scale, blocks, inverses, counts, growth, None

    def late(j, carry):
        blocks, work = carry
        work = column(j, work, blocks, inverses)
        gather = lambda e, blocks: put(blocks, item(work, item(below, e)), e)
        return lax.fori_loop(*_between(start, j), gather, blocks), work

    blocks, _ = lax.fori_loop(symbolic.early, symbolic.pivots, late, (blocks, work))
    count = symbolic.tail.place.shape[0]
    rest = lax.dynamic_slice_in_dim(blocks, item(start, symbolic.early), count)
    return scale, blocks, inverses, counts, growth, rest.reshape(count, width * width)


def _with_tail(symbolic: ColumnSymbolic, make: Callable, otherwise):
    """What is made of the tail; ``otherwise`` (None: zeros) where the tables have room for one that is not used."""
    if not symbolic.optional:
        return make()
    if otherwise is None:
        otherwise = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(make))
    return lax.cond(symbolic.early < symbolic.pivots, make, lambda: otherwise)


def factorize(
    symbolic: ColumnSymbolic, values: Float[Array, " k *lanes"], regularization: Float[Array, " *lanes"]
) -> Factor:
    """As `numeric.factorize`, but for ``blocks``: those of ``L D``, column by column, so that one buffer does."""
    found = native(_factorize)(symbolic, values, jnp.asarray(regularization, values.dtype))
    scale, blocks, inverses, (negative, perturbed, dependent), growth, rest = found
    dense = None
    if symbolic.tail is not None:
        tail = symbolic.tail
        dense = _with_tail(symbolic, lambda: dense_tail.factorize(tail, rest, regularization), None)
        growth = jnp.where(jnp.all(jnp.isfinite(dense.inverses)), growth, jnp.nan)
        negative = negative + symbolic.tail.duals()
    return Factor(scale, blocks, inverses, negative, perturbed, dependent, growth, dense)


def _forward(symbolic: ColumnSymbolic, blocks, inverses, y):
    """The forward sweep; what it leaves is yet to be divided by D."""

    def column(j, y):
        own = _image(item(inverses, j), item(y, j))

        def down(e, y):
            row = item(symbolic.below, e)
            return put(y, item(y, row) - _image(item(blocks, e), own), row)

        first, last = _between(symbolic.start, j)
        return lax.fori_loop(first + ONE, last, down, y)

    return lax.fori_loop(ZERO, symbolic.early, column, y)


def _backward(symbolic: ColumnSymbolic, blocks, inverses, y):
    """The division by D and the backward sweep."""

    def column(i, z):
        j = symbolic.early - ONE - i

        def up(e, total):
            return total + _image(jnp.swapaxes(item(blocks, e), 0, 1), item(z, item(symbolic.below, e)))

        first, last = _between(symbolic.start, j)
        total = lax.fori_loop(first + ONE, last, up, jnp.zeros_like(item(z, j)))
        return put(z, _image(item(inverses, j), item(z, j) - total), j)

    return lax.fori_loop(ZERO, symbolic.early, column, y)


def _spread_out(symbolic: ColumnSymbolic, scale, rhs):
    """The scaled right-hand side by pivots."""
    place, width = symbolic.place, symbolic.width
    flat = jnp.zeros((symbolic.sign.shape[0] * width, *rhs.shape[1:]), rhs.dtype)

    def unknown(k, flat):
        i = item(symbolic.unknown, k)
        return put(flat, item(scale, i) * item(rhs, i), item(place, k))

    return lax.fori_loop(ZERO, symbolic.counts.unknowns, unknown, flat).reshape(-1, width, *rhs.shape[1:])


def _collected(symbolic: ColumnSymbolic, scale, z):
    flat, place = z.reshape(-1, *z.shape[2:]), symbolic.place

    def unknown(k, x):
        i = item(symbolic.unknown, k)
        return put(x, item(scale, i) * item(flat, item(place, k)), i)

    none = jnp.zeros((place.shape[0], *z.shape[2:]), z.dtype)
    return lax.fori_loop(ZERO, symbolic.counts.unknowns, unknown, none)


def _begin(symbolic: ColumnSymbolic, scale, blocks, inverses, rhs):
    return _forward(symbolic, blocks, inverses, _spread_out(symbolic, scale, rhs))


def _end(symbolic: ColumnSymbolic, scale, blocks, inverses, y):
    return _collected(symbolic, scale, _backward(symbolic, blocks, inverses, y))


def _solve(symbolic: ColumnSymbolic, scale, blocks, inverses, rhs):
    return _end(symbolic, scale, blocks, inverses, _begin(symbolic, scale, blocks, inverses, rhs))


def solve(symbolic: ColumnSymbolic, factor: Factor, rhs: Float[Array, " u *lanes"]) -> Float[Array, " u *lanes"]:
    """``K^-1 rhs`` by the factor. One without lanes serves right-hand sides with one more axis."""
    parts = factor.scale, factor.blocks, factor.inverse
    if rhs.ndim > factor.scale.ndim:
        parts = tuple(part[..., None] for part in parts)
    if symbolic.tail is None or factor.tail is None:
        return native(_solve)(symbolic, *parts, rhs)
    y = native(_begin)(symbolic, *parts, rhs)
    tail, of_tail = symbolic.tail, factor.tail
    solved = lambda: dense_tail.solve(tail, of_tail, y.reshape(-1, *rhs.shape[1:])).reshape(y.shape)
    late = _with_tail(symbolic, solved, y)
    return native(_end)(symbolic, *parts, jnp.where(spread(symbolic.dense, y), late, y))
