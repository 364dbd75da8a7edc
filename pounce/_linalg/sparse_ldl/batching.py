"""How factorisation and solve are batched: the batch last, in groups that fit the cache.

With the batch in front a gather fetches single numbers; with the batch last it fetches contiguous lanes, which is two to four
times as fast per lane. Groups of `LANES` keep a chunk below the size at which XLA splits it between threads.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from . import numeric
from .numeric import Factor
from .symbolic import Symbolic


LANES = 8


@custom_vmap
def factorize(symbolic: Symbolic, values) -> Factor:
    """`numeric.factorize`, with the batch last under `vmap`."""
    return numeric.factorize(symbolic, values)


@factorize.def_vmap
def _(axis_size, in_batched, symbolic, values):
    tables, values_batched = in_batched
    if any(jax.tree.leaves(tables)):
        raise NotImplementedError("the tables of a sparse factorisation cannot be batched: one pattern per vmap")
    del values_batched  # with unbatched tables, the values are what is batched
    run = lambda group: _first(numeric.factorize(symbolic, _last(group)))
    factor = _grouped(run, axis_size, values)
    return factor, jax.tree.map(lambda _: True, factor)


@custom_vmap
def solve(symbolic: Symbolic, factor: Factor, rhs):
    """`numeric.solve` for ``rhs [u]``; a batch of right-hand sides of one factor goes through one sweep."""
    return numeric.solve(symbolic, factor, rhs)


@solve.def_vmap
def _(axis_size, in_batched, symbolic, factor, rhs):
    tables, factors, rhs_batched = in_batched
    if any(jax.tree.leaves(tables)):
        raise NotImplementedError("the tables of a sparse factorisation cannot be batched: one pattern per vmap")
    if not any(jax.tree.leaves(factors)):
        return solve_many(symbolic, factor, rhs), True
    lead = lambda leaf, batched: leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
    factor, rhs = jax.tree.map(lead, (factor, rhs), (factors, rhs_batched))
    run = lambda group: _first(numeric.solve(symbolic, *_last(group)))
    return _grouped(run, axis_size, (factor, rhs)), True


@custom_vmap
def solve_many(symbolic: Symbolic, factor: Factor, rhs):
    """`solve` for several right-hand sides ``rhs [r, u]``."""
    run = lambda group: _first(numeric.solve(symbolic, factor, _last(group)))
    return _grouped(run, rhs.shape[0], rhs)


@solve_many.def_vmap
def _(axis_size, in_batched, symbolic, factor, rhs):
    # A batch of factors, each with several right-hand sides: one sweep per right-hand side is enough.
    tables, factors, rhs_batched = in_batched
    one = lambda factor, rhs: jax.vmap(lambda f, r: solve(symbolic, f, r), in_axes=(0 if _any(factors) else None, 0))(
        factor, rhs
    )
    lead = lambda leaf, batched: leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
    if _any(factors):
        factor = jax.tree.map(lead, factor, factors)
    rhs = lead(rhs, rhs_batched)
    return lax.map(lambda r: one(factor, r), jnp.moveaxis(rhs, 1, 0)).swapaxes(0, 1), True


def _any(batched) -> bool:
    return any(jax.tree.leaves(batched))


def _last(tree):
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), tree)


def _first(tree):
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), tree)


def _grouped(run, size: int, tree):
    """``run`` on groups of at most `LANES` of the leading axis."""
    if size <= LANES:
        return run(tree)
    groups = -(-size // LANES)
    # The last group is filled up with repetitions, whose results are dropped.
    padded = groups * LANES - size
    tree = jax.tree.map(lambda x: jnp.concatenate([x, x[:padded]]).reshape(groups, LANES, *x.shape[1:]), tree)
    result = lax.map(run, tree)
    return jax.tree.map(lambda x: x.reshape(groups * LANES, *x.shape[2:])[:size], result)
