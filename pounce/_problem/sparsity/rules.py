"""What a rule for a primitive is, and the table of rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .flow import Flow, Maybe
from .known import Known, Varying


@dataclass(slots=True)
class Value:
    """An array of a traced program: how its elements depend on the variables, and its value where that is known."""

    shape: tuple[int, ...]
    node: Maybe = None
    known: Known | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def array(self) -> np.ndarray | None:
        return None if self.known is None else self.known.array()

    def factor(self) -> np.ndarray | None:
        """As `array`, where nothing but its zeros matters, which is not worth going through a loop turn by turn."""
        return None if isinstance(self.known, Varying) else self.array()


@dataclass(slots=True)
class Operation:
    """One equation of a traced program: its parameters and the shapes of its results."""

    name: str
    parameters: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    complex: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[0]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]


# A rule answers with one node if there is one result, with a list otherwise; with NotImplemented if it does not know.
Rule = Callable[[Flow, Operation, Sequence[Value]], Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def positions(shape: Sequence[int]) -> np.ndarray:
    """The place of each element in the flattened array."""
    return np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)


def stretched(flow: Flow, value: Value, shape: Sequence[int]) -> Maybe:
    """The node of an operand that is repeated along axes of length one, or along all of them."""
    if value.node is None or value.shape == tuple(shape):
        return value.node
    return flow.take(value.node, np.broadcast_to(positions(value.shape), shape))


def reduced(flow: Flow, node: Maybe, shape: Sequence[int], axes: Sequence[int]) -> Maybe:
    """Sums over axes, which stay with length one."""
    if node is None or not axes:
        return node
    small = [1 if k in axes else size for k, size in enumerate(shape)]
    return flow.link(node, np.broadcast_to(positions(small), shape), None, int(np.prod(small, dtype=np.int64)))


def mixed(flow: Flow, node: Maybe, shape: Sequence[int], result: Sequence[int], batch: int) -> Maybe:
    """A result every element of which depends on all elements of the operand with the same first `batch` indices."""
    if node is None:
        return None
    total = reduced(flow, node, shape, range(batch, len(shape)))
    leading = positions(result[:batch]).reshape((*result[:batch], *(1,) * (len(result) - batch)))
    return flow.take(total, np.broadcast_to(leading, result))


def dense(flow: Flow, operation: Operation, values: Sequence[Value]) -> list[Maybe]:
    """Every element of every result is any function of all elements of all operands."""
    total = flow.join(*(mixed(flow, value.node, value.shape, (1,), 0) for value in values))
    total = flow.bend(total)
    return [mixed(flow, total, (1,), shape, 0) for shape in operation.shapes]
