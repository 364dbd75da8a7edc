"""The solution of a linear system as a function of its matrix and its right-hand side, by a factor that is there already."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree


def linear_solve(
    times: Callable[[PyTree], PyTree], vector: PyTree, solver: lx.AbstractLinearSolver, state: Any, symmetric: bool
) -> PyTree:
    """``x`` with ``A x = b`` from the ``state`` of a solver that has factorised ``A``, which is what one is ``times``.

    Differentiated as such, in either mode and again, by more solves with that factor. As `lineax.linear_solve`, whose primitive
    does not know where its vectors live: on an explicit mesh and inside of `shard_map` that is a part of their types.
    """
    arrays, static = eqx.partition(state, eqx.is_array)
    state = eqx.combine(lax.stop_gradient(arrays), static)
    transposed, options = solver.transpose(state, {})
    leaves, structure = jax.tree.flatten(vector)
    flat, split = ravel_pytree([leaf for leaf in leaves if leaf.size])

    def whole(v):
        parts = iter(split(v))
        return jax.tree.unflatten(
            structure, [next(parts) if leaf.size else jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        )

    def on_vectors(function: Callable) -> Callable:
        return lambda v: ravel_pytree(function(whole(v)))[0]

    solve = on_vectors(lambda b: solver.compute(state, b, {})[0])
    transpose_solve = on_vectors(lambda b: solver.compute(transposed, b, options)[0])
    given = None if symmetric else lambda _, b: transpose_solve(b)
    return whole(lax.custom_linear_solve(on_vectors(times), flat, lambda _, b: solve(b), given, symmetric))
