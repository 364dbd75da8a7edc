"""Nests of small loops as native code, on a CPU.

XLA's CPU back end runs a `while_loop` as an interpreter would: each operation of its body is a kernel that is called, at some
tenths of a microsecond, however little it does. A call that carries the mark below is compiled as one native function
instead, loops and all, and a step of such a loop takes nanoseconds. An XLA that does not know the mark takes it for an
ordinary call. (Loops of bodies that touch less than a kilobyte are compiled so without a mark.)

What stands in such a function has to be written for it: scatters, sorts and calls of libraries are not to be had; nothing large
may be done at once in a loop, as XLA would want threads for it; and an array that a loop updates may be read in the same body
only by what updates it, or XLA copies the whole of it at every step.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata


MARK = dict(xla_cpu_small_call="true", inlineable="false")


@functools.lru_cache(maxsize=64)
def _unmarked(function: Callable) -> Callable:
    """What is called: one object for each function, so that JAX traces it once for each kind of arguments."""

    def unmarked(*arguments):
        # The mark is meant for the call, not for what stands inside.
        with set_xla_metadata(**dict.fromkeys(MARK)):
            return function(*arguments), _touched(arguments)

    return jax.jit(unmarked)


def _marked(function: Callable, *arguments):
    # Behind the barrier nobody sees which arguments are constants, and puts them where they are used.
    arguments = lax.optimization_barrier(arguments)
    with set_xla_metadata(**MARK):
        return _unmarked(function)(*arguments)[0]


def _touched(arguments):
    """A number from each array: XLA aborts on a marked call with an argument that nothing uses."""
    first = (leaf.reshape(-1)[:1] for leaf in map(jnp.asarray, jax.tree.leaves(arguments)) if leaf.size)
    return sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in first)


def native(function: Callable) -> Callable:
    """``function``, which may close over nothing that is traced, as one native function; lane after lane under `vmap`."""

    @custom_vmap
    def call(*arguments):
        return _marked(function, *arguments)

    @call.def_vmap
    def _(axis_size, in_batched, *arguments):
        del axis_size
        leaves, structure = jax.tree.flatten(arguments)
        moves = jax.tree.leaves(in_batched)

        def lane(own):
            own = iter(own)
            given = [next(own) if yes else leaf for leaf, yes in zip(leaves, moves, strict=True)]
            return native(function)(*jax.tree.unflatten(structure, given))

        result = lax.map(lane, [leaf for leaf, yes in zip(leaves, moves, strict=True) if yes])
        return result, jax.tree.map(lambda _: True, result)

    return call


ZERO, ONE = np.uint32(0), np.uint32(1)


def item(array, index):
    """``array[index]`` for an unsigned index, which needs no care for negative ones."""
    return lax.dynamic_slice(array, (index, *(ZERO,) * (array.ndim - 1)), (1, *array.shape[1:])).reshape(
        array.shape[1:]
    )


def put(array, value, index):
    """``array`` with ``value`` at an unsigned index."""
    return lax.dynamic_update_slice(array, value[None], (index, *(ZERO,) * (array.ndim - 1)))
