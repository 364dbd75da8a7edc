"""How factorisation and solve are batched.

On a CPU, lane by lane: a factor fills the cache, and lanes side by side were no faster than one after the other, while each
lane costs the transposes of its factor. Elsewhere all lanes take each step together. Several right-hand sides of one factor
share a sweep.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from . import numeric
from .numeric import Factor
from .symbolic import Symbolic


def _lanes(one, plain, *trees):
    """``one`` lane after the other on a CPU; elsewhere ``plain``, the same function without a batching rule of its own."""

    def in_turn(trees):
        return lax.map(lambda lane: one(*lane), trees)

    def together(trees):
        return jax.vmap(plain)(*trees)

    return lax.platform_dependent(trees, cpu=in_turn, default=together)


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
    factor = _lanes(partial(factorize, symbolic), partial(numeric.factorize, symbolic), *numbers)
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
    return _lanes(
        partial(solve, symbolic), partial(numeric.solve, symbolic), _spread(axis_size, factor, factors), rhs
    ), True


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
    return _lanes(
        partial(solve_many, symbolic), partial(_columns, symbolic), _spread(axis_size, factor, factors), rhs
    ), True
