"""What the operations of a program work on, as far as its shape says: whose result each value is, and which part of that."""

from typing import Any, NamedTuple

import numpy as np


class Window(NamedTuple):
    """A part of an array of any rank: where it starts, how many elements it takes along each axis, and each how far on."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> "Window":
        return cls((0,) * len(shape), shape, (1,) * len(shape))

    def moved(self, shape: tuple[int, ...], sizes: tuple[int, ...]) -> "Window":
        """Of a part of an array of ``shape`` the same part of one of ``sizes``, which differ in axes of length one."""
        longer = iter([axis for axis, whole in zip(zip(*self), shape) if whole != 1])
        axes = [next(longer) if size != 1 else (0, 1, 1) for size in sizes]
        starts, lengths, strides = zip(*axes) if axes else ((), (), ())
        return Window(starts, lengths, strides)

    def inner(self, other: "Window") -> "Window":
        """A part of this part."""
        starts = tuple(a + s * b for a, s, b in zip(self.starts, self.strides, other.starts))
        return Window(starts, other.sizes, tuple(s * t for s, t in zip(self.strides, other.strides)))


class Kind(NamedTuple):
    """Of arrays that can be stacked."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


class Given(NamedTuple):
    """An argument of the program, or an array that it closes over."""

    kind: Kind


class Number(NamedTuple):
    """A constant that stands in an operation."""

    kind: Kind
    array: np.ndarray


class Result(NamedTuple):
    """One of the results of an operation."""

    kind: Kind
    node: int
    k: int


class View(NamedTuple):
    """A part of an argument or result, in a shape of its own, the elements in their order."""

    kind: Kind
    base: int
    window: Window


Value = Given | Number | Result | View


class Node(NamedTuple):
    """An operation of the program, or many of them as one.

    - `how`: "operation", "sum" of all operands, "join" of all along an axis, or "write" of all but the first into that one.
    - `equation`: the operation; of many the last one.
    - `operands`: values, by number.
    - `key`: what operations of the same name, parameters and types have in common.
    - `signs`: of the operands of a sum.
    - `axis`: of a join.
    - `places`: where is written, index vectors.
    """

    how: str
    equation: Any
    operands: tuple[int, ...]
    key: Any
    signs: tuple[int, ...] = ()
    axis: int = 0
    places: np.ndarray | None = None
