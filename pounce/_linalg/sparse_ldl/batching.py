"""How factorisation and solve are batched, by columns or by levels.

Lanes become the last axis and take each step together, so that it takes a stretch of memory per block. Several right-hand
sides of one factor share a sweep.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from ..._lanes import by_parts
from . import by_columns, numeric
from .columns import ColumnSymbolic
from .numeric import Factor
from .symbolic import Symbolic


# On a processor, by columns: lanes, and right-hand sides of one factor, that go together (more of them save little, and outgrow
# the cache), and how large the factors of lanes may be together.
LANES, RIGHT_SIDES, CACHE_BYTES = 8, 32, 2**22


def _rules(symbolic: Symbolic | ColumnSymbolic) -> Any:
    """The numerical half that goes with the tables."""
    return by_columns if isinstance(symbolic, ColumnSymbolic) else numeric


def _together(symbolic: Symbolic | ColumnSymbolic, itemsize: int) -> bool:
    """Whether lanes with factors of their own are better off side by side than one after the other."""
    if symbolic.tail is not None:
        return False
    if isinstance(symbolic, Symbolic):
        return True
    return LANES * symbolic.below.shape[0] * symbolic.width**2 * itemsize <= CACHE_BYTES


def _lanes(function, symbolic: Symbolic | ColumnSymbolic, *trees, most: int = LANES):
    """``function(symbolic, ...)``, which takes lanes on the last axis, for lanes on the first.

    All of them at once by levels, ``most`` at a time by columns.
    """

    def side_by_side(trees):
        trees = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), trees)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), function(symbolic, *trees))

    size = jax.tree.leaves(trees)[0].shape[0]
    parts = 1 if isinstance(symbolic, Symbolic) else -(-size // most)
    return side_by_side(trees) if parts == 1 else by_parts(side_by_side, trees, size, -(-size // parts))


def _in_turn(function, *trees):
    """``function`` for one lane after the other."""
    return lax.map(lambda lane: function(*lane), trees)


def _spread(size, tree, batched):
    lead = lambda leaf, yes: leaf if yes else jnp.broadcast_to(leaf, (size, *leaf.shape))
    return jax.tree.map(lead, tree, batched)


def _any(batched) -> bool:
    return any(jax.tree.leaves(batched))


def _refuse(tables) -> None:
    if _any(tables):
        raise NotImplementedError("the tables of a sparse factorisation cannot be batched: one pattern per vmap")


@custom_vmap
def factorize(symbolic: Symbolic | ColumnSymbolic, values, regularization) -> Factor:
    """`numeric.factorize` or `by_columns.factorize`."""
    return _rules(symbolic).factorize(symbolic, values, regularization)


@factorize.def_vmap
def _(axis_size, in_batched, symbolic, values, regularization):
    _refuse(in_batched[0])
    numbers = _spread(axis_size, (values, regularization), tuple(in_batched[1:]))
    if _together(symbolic, values.dtype.itemsize):
        factor = _lanes(_rules(symbolic).factorize, symbolic, *numbers)
    else:
        factor = _in_turn(partial(factorize, symbolic), *numbers)
    return factor, jax.tree.map(lambda _: True, factor)


@custom_vmap
def solve(symbolic: Symbolic | ColumnSymbolic, factor: Factor, rhs):
    """The solve that goes with the factor, for ``rhs [u]``."""
    return _rules(symbolic).solve(symbolic, factor, rhs)


@solve.def_vmap
def _(axis_size, in_batched, symbolic, factor, rhs):
    tables, factors, vectors = in_batched
    _refuse(tables)
    rhs = _spread(axis_size, rhs, vectors)
    if not _any(factors):
        return solve_many(symbolic, factor, rhs), True
    factor = _spread(axis_size, factor, factors)
    if _together(symbolic, rhs.dtype.itemsize):
        return _lanes(_rules(symbolic).solve, symbolic, factor, rhs), True
    return _in_turn(partial(solve, symbolic), factor, rhs), True


@custom_vmap
def solve_many(symbolic: Symbolic | ColumnSymbolic, factor: Factor, rhs):
    """The same for several right-hand sides ``rhs [r, u]``."""
    each = lambda symbolic, rhs: _rules(symbolic).solve(symbolic, factor, rhs)
    return _lanes(each, symbolic, rhs, most=RIGHT_SIDES)


@solve_many.def_vmap
def _(axis_size, in_batched, symbolic, factor, rhs):
    tables, factors, vectors = in_batched
    _refuse(tables)
    rhs = _spread(axis_size, rhs, vectors)
    if not _any(factors):
        return solve_many(symbolic, factor, rhs.reshape(-1, rhs.shape[-1])).reshape(rhs.shape), True
    return _in_turn(partial(solve_many, symbolic), _spread(axis_size, factor, factors), rhs), True
