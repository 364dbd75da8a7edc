"""Numbers that many kernels need, computed in one, and numbers that are seldom needed, computed only then."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, PyTree


def computed_once(values: PyTree, never: Bool[Array, ""]) -> PyTree:
    """``values`` as they are, but no kernel that uses them computes them anew.

    XLA's fusion copies what is cheap into every kernel that needs it. A verdict of a hundred comparisons that chooses between
    two states became part of a kernel for each of their arrays, and these copies were a third of what was compiled for a solve. A
    loop that is never entered keeps them out, as `lax.optimization_barrier` does not.

    ``never`` is false whatever the numbers are, in a way that a compiler cannot see: a counter below zero.
    """
    leaves, structure = jax.tree.flatten(values)
    # Scalars of a kind go together, as a kernel for each would do next to nothing.
    scalars = {}
    for k, leaf in enumerate(leaves):
        if jnp.ndim(leaf) == 0:
            scalars.setdefault(jnp.asarray(leaf).dtype, []).append(k)
    together = [jnp.stack([leaves[k] for k in places]) for places in scalars.values()]
    held = together, [leaf for leaf in leaves if jnp.ndim(leaf) > 0]
    blank = jax.tree.map(jnp.zeros_like, held)
    together, arrays = lax.while_loop(lambda carry: carry[1], lambda carry: (blank, carry[1]), (held, never))[0]
    found = {k: vector[i] for places, vector in zip(scalars.values(), together) for i, k in enumerate(places)}
    rest = iter(arrays)
    return jax.tree.unflatten(structure, [found[k] if k in found else next(rest) for k in range(len(leaves))])


def only_where(wanted: Bool[Array, ""], update: Callable[[PyTree], PyTree], value: PyTree) -> PyTree:
    """``update(value)`` where ``wanted``, else ``value``, of the same structure: a conditional that stays one under `vmap`,
    where `lax.cond` would run both branches for all lanes. Here nothing runs unless some lane wants it.

    What ``update`` needs of ``value`` it should take from its argument: an array that is both changed by a loop and read in it
    under another name is copied, wanted or not.
    """
    start = wanted, value
    return lax.while_loop(lambda carry: carry[0], lambda carry: (jnp.zeros_like(wanted), update(carry[1])), start)[1]
