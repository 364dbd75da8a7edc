"""Records in few arrays.

What a solve carries from pass to pass costs a kernel for each array that a pass may change, and in a batch a choice between lanes
for each. So small numbers of a record lie in one vector, under names, and what passes seldom look at is one vector altogether.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from .._packing import LARGEST_GROUP


class Packed(eqx.Module):
    """All numbers of a pytree in a few vectors of one dtype. Truth values and counters are exact in it."""

    vectors: tuple[Float[Array, " k"], ...]

    @staticmethod
    def of(tree: PyTree) -> "Packed":
        """In the dtype of the first inexact leaf."""
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        dtype = next(leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))
        groups = _groups(leaves)
        return Packed(tuple(jnp.concatenate([leaf.ravel().astype(dtype) for leaf in group]) for group in groups))

    def unpacked(self, like: PyTree, which: Callable[[Any], Any] = lambda tree: tree) -> Any:
        """Which part is wanted of the pytree that was packed, of the structure, shapes and dtypes of ``like``."""
        leaves, structure = jax.tree.flatten(like)
        places = []
        for vector, group in zip(self.vectors, _groups(leaves), strict=True):
            begin = 0
            for leaf in group:
                places.append(_Place(vector, begin, leaf))
                begin += math.prod(leaf.shape)
        wanted = which(jax.tree.unflatten(structure, places))
        return jax.tree.map(_Place.numbers, wanted, is_leaf=lambda leaf: isinstance(leaf, _Place))

    def last(self, k: int) -> Float[Array, ""]:
        """The ``k``-th number from the end."""
        return self.vectors[-1][-k]


class _Place(NamedTuple):
    """Where a leaf lies."""

    vector: Float[Array, " k"]
    begin: int
    like: Any

    def numbers(self) -> Array:
        shape, dtype = self.like.shape, self.like.dtype
        part = lax.slice_in_dim(self.vector, self.begin, self.begin + math.prod(shape))
        part = part if part.shape == shape else part.reshape(shape)
        return part != 0 if dtype == bool else part.astype(dtype)


def _groups(leaves: list[Any]) -> list[list[Any]]:
    """Leaves that share a vector, in order. XLA's CPU back end works on larger ones with threads, which takes longer."""
    groups, size = [[]], 0
    for leaf in leaves:
        count = math.prod(leaf.shape)
        if groups[-1] and size + count > LARGEST_GROUP:
            groups.append([])
            size = 0
        groups[-1].append(leaf)
        size += count
    return groups
