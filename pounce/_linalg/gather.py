"""Entries of arrays at indices that are known to be in bounds."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Shaped


def taken(array: Shaped[Array, "..."], index: Int[np.ndarray | Array, "..."]) -> Shaped[Array, "..."]:
    """``array[index]`` where every index is known to be in bounds, and none is negative.

    Sparse programs consist of these by the hundred: this traces in a third of the time of an index expression, which has to
    find out what kind of index it is.
    """
    if index.size == 0:
        return jnp.zeros((*index.shape, *array.shape[1:]), array.dtype)
    axes = tuple(range(index.ndim, index.ndim + array.ndim - 1))
    numbers = lax.GatherDimensionNumbers(offset_dims=axes, collapsed_slice_dims=(0,), start_index_map=(0,))
    sizes = (1, *array.shape[1:])
    return lax.gather(array, jnp.asarray(index)[..., None], numbers, sizes, mode="promise_in_bounds")
