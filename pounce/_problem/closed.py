"""A function that has been traced once, with the arrays it closed over as leaves of a pytree."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array, PyTree


class ClosedFunction(eqx.Module):
    """Of arguments of the structure, shapes and dtypes it was traced with, wherever they live: unlike
    `equinox.filter_closure_convert` it does not ask how they are sharded, which is another thing inside of `shard_map`."""

    jaxpr: Jaxpr = eqx.field(static=True)
    consts: list[Array]
    structure: Any = eqx.field(static=True)  # of the result

    def __call__(self, *arguments: PyTree) -> PyTree:
        function = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, self.consts))
        return jax.tree.unflatten(self.structure, function(*jax.tree.leaves(arguments)))


def trace(function: Callable, *arguments: PyTree) -> ClosedFunction:
    """Trace ``function`` for pytrees of arrays like these."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return ClosedFunction(closed.jaxpr, closed.consts, jax.tree.structure(shapes))
