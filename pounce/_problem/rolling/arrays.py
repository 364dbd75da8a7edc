"""Values of a rolled program while it is traced: arrays of many equal results, and what is taken from them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from .graph import Graph
from .values import Number, Result, Window


class _Row(NamedTuple):
    """Where a value lies: in which array, and which part of it."""

    key: tuple[int, int]
    window: Window


_NUMBERS = -1, -1


class Arrays:
    """What has been computed so far, by number of the value, or for groups with an axis in front."""

    def __init__(self, graph: Graph, inputs: dict[int, Any]):
        self._graph = graph
        # (-1, value): arguments and results of single operations; (group, k): the k-th results of a group.
        self._arrays: dict[tuple[int, int], Any] = {(-2, k): each for k, each in inputs.items()}
        self._rows: dict[int, tuple[int, int]] = {}  # of results of groups: the group and the row
        self._single: dict[int, Any] = {}

    def put(self, value: int, array: Any) -> None:
        """The result of an operation by itself."""
        self._arrays[-2, value] = array

    def put_group(self, group: int, k: int, results: Sequence[int], array: Any) -> None:
        """The k-th results of the operations of a group, one after the other."""
        self._arrays[group, k] = array
        self._rows.update((value, (group, row)) for row, value in enumerate(results))

    def grouped(self, value: int) -> bool:
        """Whether it is to be had with others, from one array: of a group's results, or parts of something."""
        base = self._graph.base(value)
        return base in self._rows or base != value

    def key(self, value: int) -> tuple[int, int]:
        """Which array it lies in."""
        return self._row(value).key

    def _row(self, value: int) -> _Row:
        graph = self._graph
        if isinstance(graph.values[value], Number):
            return _Row(_NUMBERS, Window((), (), ()))
        base, window = graph.base(value), graph.window(value)
        if base not in self._rows:
            return _Row((-2, base), window)
        group, row = self._rows[base]
        held = graph.values[base]
        assert isinstance(held, Result)
        return _Row((group, held.k), Window((row, *window.starts), (1, *window.sizes), (1, *window.strides)))

    def single(self, value: int) -> Any:
        """One value as an array."""
        held = self._graph.values[value]
        if isinstance(held, Number):
            return held.array
        if value not in self._single:
            key, window = self._row(value)
            self._single[value] = reshaped(_part(self._arrays[key], window), held.kind.shape)
        return self._single[value]

    def stacked(self, values: Sequence[int]) -> Any:
        """Values of one kind, with an axis in front."""
        graph = self._graph
        shape = graph.kind(values[0]).shape
        rows = list(map(self._row, values))
        kinds: dict[Any, list[int]] = {}
        for place, (key, window) in enumerate(rows):
            kinds.setdefault((key, window.sizes, window.strides), []).append(place)
        if len(kinds) == 1:
            return self._of_one([rows[k] for k in range(len(rows))], values, shape)
        parts, order, count = [], np.zeros(len(values), np.int32), 0
        for places in kinds.values():
            if rows[places[0]].key == _NUMBERS:
                marks: list[Any] = [values[place] for place in places]
            else:
                marks = [rows[place].window.starts for place in places]
            first: dict[Any, int] = {}
            for place, mark in zip(places, marks):
                if mark not in first:
                    first[mark] = place
            number = {mark: count + k for k, mark in enumerate(first)}
            chosen = list(first.values())
            parts.append(self._of_one([rows[k] for k in chosen], [values[k] for k in chosen], shape))
            order[places] = [number[mark] for mark in marks]
            count += len(chosen)
        whole = lax.concatenate(parts, 0)
        if count == len(values) and np.array_equal(order, np.arange(count)):
            return whole
        starts = np.zeros((len(values), whole.ndim), np.int64)
        starts[:, 0] = order
        return reshaped(parts_of(whole, starts, (1, *shape), (1,) * whole.ndim), (len(values), *shape))

    def _of_one(self, rows: Sequence[_Row], values: Sequence[int], shape: tuple[int, ...]) -> Any:
        """Of one array."""
        key, window = rows[0]
        if key == _NUMBERS:
            return np.stack([getattr(self._graph.values[value], "array") for value in values])
        starts = np.array([row.window.starts for row in rows], np.int64).reshape(len(rows), len(window.starts))
        return reshaped(parts_of(self._arrays[key], starts, window.sizes, window.strides), (len(rows), *shape))


def reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    return array if array.shape == shape else lax.reshape(array, shape)


def _part(array: Any, window: Window) -> Any:
    if window == Window.whole(array.shape):
        return array
    ends = [start + by * (size - 1) + 1 if size else start for start, size, by in zip(*window)]
    strides = None if all(by == 1 for by in window.strides) else window.strides
    return lax.slice(array, window.starts, ends, strides)


def parts_of(array: Any, starts: np.ndarray, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """Parts of equal sizes that begin at the rows of ``starts``, one after the other along an axis in front (or flattened)."""
    count = len(starts)
    varying = np.flatnonzero((starts != starts[0]).any(axis=0))
    if not varying.size:
        part = _part(array, Window(tuple(map(int, starts[0])), sizes, strides))
        return lax.broadcast_in_dim(part, (count, *sizes), range(1, 1 + len(sizes))) if count > 1 else part
    size = int(np.prod(sizes))
    if len(varying) == 1 and sizes[axis := int(varying[0])] == 1 and (step := _step(starts[:, axis])):
        many = Window(
            tuple(map(int, starts[0])),
            (*sizes[:axis], count, *sizes[axis + 1 :]),
            (*strides[:axis], step, *strides[axis + 1 :]),
        )
        part = _part(array, many)
        before = int(np.prod(sizes[:axis]))
        return part if before == 1 else lax.transpose(part, (axis, *(k for k in range(len(sizes)) if k != axis)))
    places: np.ndarray = np.asarray(np.ravel_multi_index(tuple(starts.T), array.shape))
    if size > 1:
        inside = np.indices(sizes).reshape(len(sizes), -1) * np.array(strides)[:, None]
        weights = [int(np.prod(array.shape[k + 1 :])) for k in range(len(sizes))]
        places = (places[:, None] + (np.array(weights) @ inside)[None, :]).ravel()
    flat = reshaped(array, (array.size,))
    if step := _step(places):
        return _part(flat, Window((int(places[0]),), (len(places),), (step,)))
    ordered = bool((np.diff(places) >= 0).all())
    return lax.gather(
        flat,
        places[:, None].astype(np.int32),
        lax.GatherDimensionNumbers(offset_dims=(), collapsed_slice_dims=(0,), start_index_map=(0,)),
        slice_sizes=(1,),
        unique_indices=len(np.unique(places)) == len(places),
        indices_are_sorted=ordered,
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def _step(numbers: np.ndarray) -> int:
    """By how much they increase if that is the same everywhere, 0 otherwise."""
    steps = np.diff(numbers)
    return int(steps[0]) if steps.size and steps[0] > 0 and (steps == steps[0]).all() else 0
