"""Records in few arrays.

What a solve carries from pass to pass costs a kernel for each array that a pass may change, and in a batch a choice between lanes
for each. So small numbers of a record lie in one vector, under names, and what passes seldom look at is one vector altogether.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._packing import LARGEST_GROUP


def entry(array: str, k: int) -> Any:
    """A property: the ``k``-th entry of an array of the record."""
    return property(lambda self: getattr(self, array)[k])


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

    def unpacked(self, like: PyTree) -> Any:
        """The pytree that was packed, of the structure, shapes and dtypes of ``like``."""
        leaves, structure = jax.tree.flatten(like)
        taken = []
        for vector, group in zip(self.vectors, _groups(leaves), strict=True):
            begin = 0
            for leaf in group:
                end = begin + math.prod(leaf.shape)
                part = vector[begin:end].reshape(leaf.shape)
                taken.append(part != 0 if leaf.dtype == bool else part.astype(leaf.dtype))
                begin = end
        return jax.tree.unflatten(structure, taken)

    def last(self, k: int) -> Float[Array, ""]:
        """The ``k``-th number from the end."""
        return self.vectors[-1][-k]


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
