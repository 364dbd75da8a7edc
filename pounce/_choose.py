"""Choices between values, as few operations as there can be.

`jnp.where` is a function of its own in what JAX traces, with a broadcast of everything: a fifth of the equations of a solve.
And of states that exclude each other only what they change has to be chosen.
"""

import enum
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Shaped


def where(condition: Any, new: Any, old: Any) -> Shaped[Array, "..."]:
    """`jnp.where` with three arguments, as one `lax.select_n` of operands that are broadcast only where they have to be.
    A member of an enumeration is a number without a dtype of its own, as Python's are."""
    if isinstance(new, float) and isinstance(old, float):
        return jnp.where(condition, new, old)  # of no dtype of its own, as Python's numbers are
    new, old = (int(value) if isinstance(value, enum.IntEnum) else value for value in (new, old))
    dtype = jnp.result_type(new, old)
    shape = jnp.broadcast_shapes(jnp.shape(condition), jnp.shape(new), jnp.shape(old))
    if jnp.ndim(condition):
        condition = _spread(condition, bool, shape)
    else:
        condition = jnp.asarray(condition, bool)
    return lax.select_n(condition, _spread(old, dtype, shape), _spread(new, dtype, shape))


def _spread(value: Any, dtype: Any, shape: tuple[int, ...]) -> Array:
    if jnp.ndim(value) == 0 and shape:
        return lax.full(shape, value, dtype)
    value = jnp.asarray(value, dtype)
    return value if value.shape == shape else jnp.broadcast_to(value, shape)


def select(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    """``where`` over equal pytrees of arrays. What is the same object in both is left alone."""
    return jax.tree.map(lambda a, b: a if a is b else where(condition, a, b), new, old)


def merge(base: Any, cases: Sequence[tuple[Bool[Array, ""], Any]]) -> Any:
    """``base``, or that of the ``cases`` whose condition holds; the last one where several do.

    All are pytrees of one structure. A leaf that a case has taken over from ``base``, the same object, is none that it changes,
    so nothing is chosen on its account.
    """
    leaves, structure = jax.tree.flatten(base)
    chosen = list(leaves)
    for condition, case in cases:
        for k, leaf in enumerate(structure.flatten_up_to(case)):
            if leaf is not leaves[k]:
                chosen[k] = where(condition, leaf, chosen[k])
    return jax.tree.unflatten(structure, chosen)
