"""Which cones a program has: the hashable description from which the stacks of cones are built."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .base import AbstractCone
from .exponential import Exponential
from .nonnegative import Nonnegative
from .power import Power
from .second_order import SecondOrder
from .semidefinite import Semidefinite


class Layout(NamedTuple):
    """Cones in the order of the solver: equal ones stand together, so that each kind and size is one stack."""

    nonnegative: int = 0
    second_order: tuple[tuple[int, int], ...] = ()  # (dimension, count)
    semidefinite: tuple[tuple[int, int], ...] = ()  # (order, count)
    exponential: int = 0
    power: tuple[float, ...] = ()  # exponents

    def cones(self, present: Bool[Array, " nonnegative"]) -> tuple[AbstractCone, ...]:
        """The stacks; ``present`` says which rows of the orthant count."""
        stacks: list[AbstractCone] = []
        if self.nonnegative:
            stacks.append(Nonnegative(jnp.asarray(present)))
        stacks.extend(SecondOrder(dimension, count) for dimension, count in self.second_order)
        stacks.extend(Semidefinite(order, count) for order, count in self.semidefinite)
        if self.exponential:
            stacks.append(Exponential(self.exponential))
        if self.power:
            stacks.append(Power(self.power))
        return tuple(stacks)
