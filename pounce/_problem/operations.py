"""When two traced programs are the same, whatever arrays they close over."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


class Operations:
    """Jaxprs that equal others of the same operations, or of the same ``key``. Raises `TypeError` where that cannot be told."""

    def __init__(self, jaxprs: Sequence[Jaxpr], key: Hashable = None):
        self.jaxprs = tuple(jaxprs)
        self._key = tuple(map(key_of, jaxprs)) if key is None else key
        self._hash = hash(self._key)

    @classmethod
    def or_itself(cls, jaxpr: Jaxpr) -> "Operations":
        """Of one jaxpr; where sameness cannot be told it equals no other."""
        try:
            return cls([jaxpr])
        except TypeError:
            return cls([jaxpr], object())

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operations) and self._hash == other._hash and self._key == other._key


def key_of(jaxpr: Jaxpr) -> Hashable:
    """What jaxprs of the same operations have in common. Raises `TypeError` where that cannot be told."""
    if jaxpr.effects:
        raise TypeError("side effects are not shared")
    number: dict[Any, int] = {}

    def atom(a: Any) -> Hashable:
        if isinstance(a, Literal):
            value = np.asarray(a.val)
            return a.aval, value.dtype.str, value.tobytes()
        return number[a]

    def bind(variables: Sequence[Any]) -> Hashable:
        for variable in variables:
            number[variable] = len(number)
        return tuple(variable.aval for variable in variables)

    lines: list[Hashable] = [bind(jaxpr.constvars), bind(jaxpr.invars)]
    for equation in jaxpr.eqns:
        inputs = tuple(map(atom, equation.invars))
        parameters = tuple((name, parameter_key(value)) for name, value in sorted(equation.params.items()))
        lines.append((equation.primitive, inputs, parameters, bind(equation.outvars)))
    return (*lines, tuple(map(atom, jaxpr.outvars)))


def parameter_key(value: Any) -> Hashable:
    """The same of a parameter of an operation."""
    if isinstance(value, ClosedJaxpr):
        if value.consts:
            raise TypeError("arrays inside of an inner program are not compared")
        return key_of(value.jaxpr)
    if isinstance(value, Jaxpr):
        return key_of(value)
    if isinstance(value, (tuple, list)):
        return type(value), tuple(map(parameter_key, value))
    if isinstance(value, float):
        return float, repr(value)
    hash(value)
    return type(value), value
