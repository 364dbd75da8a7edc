"""How factorisation and solve by levels are batched.

Lanes become the last axis and take each step together, so that it takes a stretch of memory per block. Several right-hand
sides of one factor share a sweep.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from . import numeric
from .numeric import Factor
from .symbolic import Symbolic


def _lanes(function, symbolic: Symbolic, *trees):
    """``function(symbolic, ...)``, which takes lanes on the last axis, for lanes on the first."""
    trees = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), trees)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), function(symbolic, *trees))


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
def factorize(symbolic: Symbolic, values, regularization) -> Factor:
    """`numeric.factorize`."""
    return numeric.factorize(symbolic, values, regularization)


@factorize.def_vmap
def _(axis_size, in_batched, symbolic, values, regularization):
    _refuse(in_batched[0])
    numbers = _spread(axis_size, (values, regularization), tuple(in_batched[1:]))
    if symbolic.tail is None:
        factor = _lanes(numeric.factorize, symbolic, *numbers)
    else:
        factor = _in_turn(partial(factorize, symbolic), *numbers)
    return factor, jax.tree.map(lambda _: True, factor)


@custom_vmap
def solve(symbolic: Symbolic, factor: Factor, rhs):
    """`numeric.solve` for ``rhs [u]``."""
    return numeric.solve(symbolic, factor, rhs)


@solve.def_vmap
def _(axis_size, in_batched, symbolic, factor, rhs):
    tables, factors, vectors = in_batched
    _refuse(tables)
    rhs = _spread(axis_size, rhs, vectors)
    if not _any(factors):
        return solve_many(symbolic, factor, rhs), True
    factor = _spread(axis_size, factor, factors)
    if symbolic.tail is None:
        return _lanes(numeric.solve, symbolic, factor, rhs), True
    return _in_turn(partial(solve, symbolic), factor, rhs), True


@custom_vmap
def solve_many(symbolic: Symbolic, factor: Factor, rhs):
    """`numeric.solve` for several right-hand sides ``rhs [r, u]``."""
    return _columns(symbolic, factor, rhs)


def _columns(symbolic: Symbolic, factor: Factor, rhs):
    return numeric.solve(symbolic, factor, rhs.T).T


@solve_many.def_vmap
def _(axis_size, in_batched, symbolic, factor, rhs):
    tables, factors, vectors = in_batched
    _refuse(tables)
    rhs = _spread(axis_size, rhs, vectors)
    if not _any(factors):
        return solve_many(symbolic, factor, rhs.reshape(-1, rhs.shape[-1])).reshape(rhs.shape), True
    return _in_turn(partial(solve_many, symbolic), _spread(axis_size, factor, factors), rhs), True
