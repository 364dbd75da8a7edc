"""A function that has been traced once, with the arrays it closed over as leaves of a pytree."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, jaxpr_as_fun
from jaxtyping import Array, PyTree

from .captured import Known
from .rolling import rolled


class ClosedFunction(eqx.Module):
    """Of arguments of the structure, shapes and dtypes it was traced with, wherever they live: unlike
    `equinox.filter_closure_convert` it does not ask how they are sharded, which is another thing inside of `shard_map`."""

    jaxpr: Jaxpr = eqx.field(static=True)
    consts: list[Array]
    structure: Any = eqx.field(static=True)  # of the result
    fixed: tuple[bool, ...] = eqx.field(static=True, default=())  # the arrays that nothing is a function of
    known: tuple[Known, ...] = eqx.field(
        static=True, default=()
    )  # numbers of the program itself, constants after the others

    @property
    def constants(self) -> list[Any]:
        """Of the jaxpr."""
        return [*self.consts, *(each.array for each in self.known)]

    def __call__(self, *arguments: PyTree) -> PyTree:
        function = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, self.constants))
        return jax.tree.unflatten(self.structure, function(*jax.tree.leaves(arguments)))

    def part(self, k: int) -> "ClosedFunction":
        """The function of which the ``k``-th leaf of the result is all."""
        result = self.jaxpr.outvars[k]
        needed, kept = {result} if isinstance(result, Var) else set(), []
        for equation in reversed(self.jaxpr.eqns):
            if equation.effects or not needed.isdisjoint(equation.outvars):
                kept.append(equation)
                needed.update(atom for atom in equation.invars if isinstance(atom, Var))
        jaxpr = self.jaxpr.replace(eqns=kept[::-1], outvars=[result])
        return ClosedFunction(jaxpr, self.consts, jax.tree.structure(0), self.fixed, self.known)


def trace(function: Callable, *arguments: PyTree) -> ClosedFunction:
    """Trace ``function`` for pytrees of arrays like these; many equal pieces are `rolled` into one."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    fixed = tuple(not isinstance(each, Tracer) for each in closed.consts)
    short = rolled(closed)
    known = tuple(map(Known, short.consts[len(closed.consts) :]))
    return ClosedFunction(short.jaxpr, closed.consts, jax.tree.structure(shapes), fixed, known)
