"""Parameters like an example: shapes are the example's, numbers are never rounded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from .._check import strong
from ..nlp import NLP, parameter_arrays


def example_of(p_example: PyTree, problem: NLP, x: Any) -> PyTree:
    """Shapes and least dtypes of parameters like ``p_example``, for functions of variables like ``x``.

    What is made of whole numbers or truth values stands for real numbers too, unless the functions cannot do with these, as where
    they index with it.
    """
    given = jax.tree.map(lambda leaf: _struct(jnp.shape(leaf), jnp.result_type(leaf)), parameter_arrays(p_example))
    leaves, structure = jax.tree.flatten(given)
    for k, leaf in enumerate(leaves):
        if _is_whole(leaf.dtype):
            real = [*leaves[:k], _struct(leaf.shape, jnp.result_type(float)), *leaves[k + 1 :]]
            if _accepted(problem, x, jax.tree.unflatten(structure, real)):
                leaves = real
    return jax.tree.unflatten(structure, leaves)


def _struct(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _is_whole(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


def _accepted(problem: NLP, x: Any, parameters: PyTree) -> bool:
    try:
        for function in (problem.f, problem.g):
            if function is not None:
                jax.eval_shape(function, x, parameters)
    except Exception:  # tracing runs the user's code on numbers it was not told of
        return False
    return True


def check_like(p: PyTree, example: PyTree, lead: tuple[int, ...], name: str = "p") -> None:
    """Raises `ValueError` where ``p`` has not the structure and shapes of the example, after the axes ``lead`` of a batch; a zero
    there is any size."""
    wanted, structure = jax.tree.flatten(example)
    leaves, given = jax.tree.flatten(p)
    if given != structure:
        raise ValueError(f"`{name}` must be a pytree like `p_example`, {structure}, got {given}")
    for leaf, like in zip(leaves, wanted):
        shape = jnp.shape(leaf)
        if len(shape) != len(lead) + len(like.shape):
            what = "needs a leading dim, of the batch, before" if lead else "must have"
            raise ValueError(f"`{name}` {what} the per-block shape {like.shape} of `p_example`, got shape {shape}")
        if shape[len(lead) :] != like.shape:
            raise ValueError(f"`{name}` must have the per-block shape {like.shape} of `p_example`, got shape {shape}")
        if lead and lead[0] and shape[0] != lead[0]:
            raise ValueError(f"`{name}` must have the leading dim {lead[0]} of the batch, got shape {shape}")


def typed_like(p: PyTree, example: PyTree, name: str = "p") -> PyTree:
    """The parameters as arrays that hold both their own numbers and those of the example.

    Raises `TypeError` where there is no such type that the functions can do with.
    """

    def typed(leaf: Any, like: jax.ShapeDtypeStruct):
        array = strong(jnp.asarray(leaf))
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended) or array.dtype == like.dtype:
            return array
        common = jnp.promote_types(array.dtype, like.dtype)
        if _is_whole(like.dtype) and not _is_whole(common):
            raise TypeError(
                f"`{name}` must be made of whole numbers where the functions need them as `p_example` has them, got dtype "
                f"{array.dtype} for {like.dtype}"
            )
        if jnp.issubdtype(common, jnp.complexfloating) and not jnp.issubdtype(like.dtype, jnp.complexfloating):
            raise TypeError(f"`{name}` must be real as in `p_example`, got dtype {array.dtype} for {like.dtype}")
        return array.astype(common)

    try:
        return jax.tree.map(typed, p, example)
    except TypeError as error:
        if name in str(error):
            raise
        raise TypeError(f"`{name}` must be a pytree of arrays or numbers") from error


def tangents_like(dp: PyTree, parameters: PyTree) -> PyTree:
    """Directions of the parameters, in their types; whole numbers do not move and have none."""

    def direction(leaf: Any, like: Any):
        moves = jnp.issubdtype(like.dtype, jnp.inexact)
        return jnp.asarray(leaf, like.dtype) if moves else jnp.zeros(jnp.shape(leaf), like.dtype)

    return jax.tree.map(direction, dp, parameters)


def need_derivatives(example: PyTree) -> None:
    """Raises `TypeError` for parameters that have none: whole numbers by which functions index or choose."""
    leaves = jax.tree.leaves(example)
    if leaves and all(_is_whole(leaf.dtype) for leaf in leaves):
        raise TypeError("`p` is made of whole numbers that the functions need as such: there are no derivatives")


def is_like(p: PyTree, example: PyTree) -> bool:
    """Whether parameters are those of one solve, by their shapes."""
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(p)] == [leaf.shape for leaf in jax.tree.leaves(example)]


def one_lane(p: PyTree, example: PyTree) -> PyTree:
    """Parameters of one solve as a batch of one."""
    check_like(p, example, ())
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], p)


def directions(wrt_cols: Any, example: PyTree) -> Float[np.ndarray, "k p"] | None:
    """The directions of the chosen parameters; None for all."""
    if wrt_cols is None:
        return None
    leaves = jax.tree.leaves(example)
    if len(leaves) != 1 or len(leaves[0].shape) != 1:
        raise ValueError("`wrt_cols` needs parameters that are one vector")
    unit = np.eye(leaves[0].shape[0])
    try:
        chosen = unit[wrt_cols if isinstance(wrt_cols, slice) else np.asarray(wrt_cols)]
    except IndexError as error:
        raise ValueError(f"`wrt_cols` must index the {unit.shape[0]} parameters, got {wrt_cols!r}") from error
    return np.atleast_2d(chosen)
