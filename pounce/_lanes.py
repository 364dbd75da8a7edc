"""Batches on a CPU: a few lanes at a time, so that what they work on stays in the cache.

`vmap` takes every operation through all lanes before the next one begins. Once the matrices of all lanes outgrow the cache,
each operation waits for memory; a loop over smaller batches does not. Lanes of one small batch also wait only for each other.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import PyTree


CACHE_BYTES = 2**20


def in_cache(function: Callable, lane_bytes: int) -> Callable:
    """``function`` with a batching rule of its own: at most as many lanes at once as find room in the cache.

    ``lane_bytes`` is the size of what one lane works on. Elsewhere than on a CPU the rule is that of `jax.vmap`.
    """
    most = max(1, CACHE_BYTES // max(lane_bytes, 1))
    size = 1 << (most.bit_length() - 1)

    @custom_vmap
    def call(*arguments: Any):
        return function(*arguments)

    @call.def_vmap
    def batched(axis_size: int, in_batched: list, *arguments: Any):
        leaves, structure = jax.tree.flatten(arguments)
        moving = jax.tree.leaves(in_batched)
        lanes = [leaf for leaf, moves in zip(leaves, moving, strict=True) if moves]

        def lane(own: list):
            rest = iter(own)
            given = [next(rest) if moves else leaf for leaf, moves in zip(leaves, moving, strict=True)]
            return function(*jax.tree.unflatten(structure, given))

        if jax.default_backend() != "cpu" or size >= axis_size:
            result = jax.vmap(lane)(lanes)
        elif size == 1:
            result = jax.lax.map(lane, lanes)
        else:
            result = by_parts(jax.vmap(lane), lanes, axis_size, size)
        return result, jax.tree.map(lambda _: True, result)

    return call


def by_parts(function: Callable, lanes: Any, count: int, size: int) -> Any:
    """``function`` of a pytree of ``count`` lanes, ``size`` at a time; the last part is filled up with copies of a lane."""
    parts = -(-count // size)

    def divided(leaf):
        missing = parts * size - count
        if missing:
            leaf = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
        return leaf.reshape(parts, size, *leaf.shape[1:])

    result = jax.lax.map(function, jax.tree.map(divided, lanes))
    return jax.tree.map(lambda leaf: leaf.reshape(parts * size, *leaf.shape[2:])[:count], result)


def in_each_lane(tree: PyTree, along: PyTree) -> PyTree:
    """``tree`` as it is; in a batch, with a copy for each lane of what is the same in all, if anything in it or ``along`` is not.

    The loop that starts with it is then known to have lanes everywhere. `vmap` would find that out by going through its body,
    and the bodies of the loops in it, once for each array that follows from another.
    """
    leaves, structure = jax.tree.flatten(tree)

    @custom_vmap
    def spread(leaves, along):
        return leaves

    @spread.def_vmap
    def _(size, batched, leaves, along):
        everywhere = [
            leaf if yes else jnp.broadcast_to(leaf, (size, *jnp.shape(leaf))) for leaf, yes in zip(leaves, batched[0])
        ]
        return everywhere, [True] * len(leaves)

    return jax.tree.unflatten(structure, spread(leaves, jax.tree.leaves(along)))
