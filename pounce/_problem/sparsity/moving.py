"""Rules for operations that move elements: slices, transposition, concatenation, gathers and scatters."""

from collections.abc import Sequence

import jax
import numpy as np

from .flow import Flow, Maybe
from .rules import Operation, Value, dense, mixed, positions, reduced, rule


Mode = jax.lax.GatherScatterMode


@rule("transpose")
def transpose(flow: Flow, operation: Operation, values: Sequence[Value]):
    return flow.take(values[0].node, np.transpose(positions(values[0].shape), operation["permutation"]))


@rule("reshape")
def reshape(flow: Flow, operation: Operation, values: Sequence[Value]):
    """Nothing moves in a flattened array, unless axes are exchanged before."""
    axes = operation["dimensions"]
    return values[0].node if axes is None else flow.take(values[0].node, np.transpose(positions(values[0].shape), axes))


@rule("rev")
def reverse(flow: Flow, operation: Operation, values: Sequence[Value]):
    return flow.take(values[0].node, np.flip(positions(values[0].shape), operation["dimensions"]))


@rule("slice")
def static_slice(flow: Flow, operation: Operation, values: Sequence[Value]):
    starts, limits = operation["start_indices"], operation["limit_indices"]
    strides = operation["strides"] or (1,) * len(starts)
    return flow.take(values[0].node, positions(values[0].shape)[tuple(map(slice, starts, limits, strides))])


@rule("broadcast_in_dim")
def broadcast(flow: Flow, operation: Operation, values: Sequence[Value]):
    if values[0].size == operation.size:
        return values[0].node
    between = np.ones(len(operation.shape), int)
    between[list(operation["broadcast_dimensions"])] = values[0].shape
    return flow.take(values[0].node, np.broadcast_to(positions(values[0].shape).reshape(between), operation.shape))


@rule("tile")
def tile(flow: Flow, operation: Operation, values: Sequence[Value]):
    return flow.take(values[0].node, np.tile(positions(values[0].shape), operation["reps"]))


@rule("split")
def split(flow: Flow, operation: Operation, values: Sequence[Value]):
    cuts = np.cumsum(operation["sizes"])[:-1]
    return [flow.take(values[0].node, part) for part in np.split(positions(values[0].shape), cuts, operation["axis"])]


@rule("concatenate")
def concatenate(flow: Flow, operation: Operation, values: Sequence[Value]):
    axis = operation["dimension"]
    cuts = np.cumsum([value.shape[axis] for value in values])[:-1]
    places = np.split(positions(operation.shape), cuts, axis)
    return flow.place(operation.size, [(value.node, where) for value, where in zip(values, places)])


@rule("stack")
def stack(flow: Flow, operation: Operation, values: Sequence[Value]):
    places = np.moveaxis(positions(operation.shape), operation["axis"], 0)
    return flow.place(operation.size, [(value.node, where) for value, where in zip(values, places)])


@rule("unstack")
def unstack(flow: Flow, operation: Operation, values: Sequence[Value]):
    parts = np.moveaxis(positions(values[0].shape), operation["axis"], 0)
    return [flow.take(values[0].node, part) for part in parts]


@rule("pad")
def pad(flow: Flow, operation: Operation, values: Sequence[Value]):
    operand, filling = values
    where, inside = np.zeros((), np.int64), np.ones((), bool)
    for size, (low, _, between), new in zip(operand.shape, operation["padding_config"], operation.shape):
        target = low + np.arange(size) * (1 + between)
        where = where[..., None] * new + target
        inside = inside[..., None] & (target >= 0) & (target < new)
    where = np.where(inside, where, -1)
    parts = [(operand.node, where)]
    if filling.node is not None:
        rest = np.ones(operation.size, bool)
        rest[where[inside]] = False
        rest = np.flatnonzero(rest)
        parts.append((flow.take(filling.node, np.zeros(rest.size, np.int64)), rest))
    return flow.place(operation.size, parts)


def _start(starts: Sequence[Value], shape: Sequence[int], sizes: Sequence[int]) -> list[int | None]:
    """Where a slice begins along each axis, as far as that is known."""
    begins: list[int | None] = []
    for start, size, length in zip(starts, shape, sizes):
        array = np.zeros((), int) if size == length else start.array()
        begins.append(None if array is None else min(max(int(array), 0), size - length))
    return begins


@rule("dynamic_slice")
def dynamic_slice(flow: Flow, operation: Operation, values: Sequence[Value]):
    operand, *starts = values
    sizes = operation["slice_sizes"]
    begins = _start(starts, operand.shape, sizes)
    unknown = [axis for axis, begin in enumerate(begins) if begin is None]
    node = reduced(flow, operand.node, operand.shape, unknown)
    shape = [1 if begin is None else size for size, begin in zip(operand.shape, begins)]
    window = tuple(slice(None) if b is None else slice(b, b + length) for b, length in zip(begins, sizes))
    return flow.take(node, np.broadcast_to(positions(shape)[window], sizes))


@rule("dynamic_update_slice")
def dynamic_update_slice(flow: Flow, operation: Operation, values: Sequence[Value]):
    operand, update, *starts = values
    begins = _start(starts, operand.shape, update.shape)
    unknown = [axis for axis, begin in enumerate(begins) if begin is None]
    window = tuple(slice(None) if b is None else slice(b, b + length) for b, length in zip(begins, update.shape))
    where = positions(operand.shape)[window]
    if not unknown:
        rest = positions(operand.shape)
        rest[window] = -1
        return flow.place(operation.size, [(operand.node, rest), (update.node, where)])
    # It may be anywhere along these axes: any element of the update may be at any place, or none.
    node = reduced(flow, update.node, update.shape, unknown)
    shape = [1 if begin is None else size for size, begin in zip(update.shape, begins)]
    anywhere = flow.take(node, np.broadcast_to(positions(shape), where.shape))
    return flow.join(operand.node, flow.place(operation.size, [(anywhere, where)]))


def _windows(
    indices: Value,
    shape: Sequence[int],
    sizes: Sequence[int],
    index_axes: Sequence[int],
    batching: Sequence[tuple[int, int]],
    clip: bool,
) -> tuple[np.ndarray, list[int]]:
    """Places in an array of shape `shape` that windows of the given sizes cover, one for each index vector.

    **Arguments:**

    - `indices`: the index vectors along its last axis; the other axes number them.
    - `index_axes`: the axis of the array that each component of an index vector is for.
    - `batching`: axes of the array that go with axes of `indices`.
    - `clip`: whether windows are moved inside; those that lie outside have places -1 otherwise.

    **Returns:**

    Places, first by window, then by position within. And the axes along which the windows may be anywhere because the indices
    are not known: places are then those in the array with these axes reduced to length one.
    """
    count = indices.shape[:-1]
    array = indices.array()
    moving = [] if array is not None else [axis for axis in index_axes if sizes[axis] < shape[axis]]
    inside = np.ones(count, bool)
    places = np.zeros((*count, *(1,) * len(shape)), np.int64)
    strides = np.ones(len(shape), np.int64)
    reduced_shape = [1 if axis in moving else size for axis, size in enumerate(shape)]
    strides[:-1] = np.cumprod(reduced_shape[:0:-1])[::-1]
    for component, axis in enumerate(index_axes):
        if array is None:
            continue
        begin = array[..., component].astype(np.int64)
        last = shape[axis] - sizes[axis]
        if not clip:
            inside &= (begin >= 0) & (begin <= last)
        begin = np.clip(begin, 0, last)
        places = places + begin.reshape(*count, *(1,) * len(shape)) * strides[axis]
    for axis, of_indices in batching:
        number = np.arange(shape[axis]).reshape([-1 if k == of_indices else 1 for k in range(len(count))])
        places = places + number.reshape(*number.shape, *(1,) * len(shape)) * strides[axis]
    for axis, size in enumerate(sizes):
        if axis not in moving:
            offset = np.arange(size) * strides[axis]
            places = places + offset.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    places = np.broadcast_to(places, (*count, *sizes))
    return np.where(inside.reshape(*count, *(1,) * len(shape)), places, -1), moving


def _arranged(places: np.ndarray, count: int, dropped: Sequence[int], offsets: Sequence[int], rank: int) -> np.ndarray:
    """Windows as they stand in the result of a gather: `offsets` are its axes within windows, the others number them."""
    places = places.reshape([size for k, size in enumerate(places.shape) if k - count not in dropped])
    numbering = [axis for axis in range(rank) if axis not in offsets]
    return np.moveaxis(places, range(rank), [*numbering, *offsets])


@rule("gather")
def gather(flow: Flow, operation: Operation, values: Sequence[Value]):
    operand, indices = values
    if operand.node is None:
        return None
    numbers, mode = operation["dimension_numbers"], Mode.from_any(operation["mode"])
    places, moving = _windows(
        indices,
        operand.shape,
        operation["slice_sizes"],
        numbers.start_index_map,
        list(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims)),
        clip=mode in (Mode.CLIP, Mode.PROMISE_IN_BOUNDS),
    )
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    count = len(indices.shape) - 1
    places = _arranged(places, count, dropped, numbers.offset_dims, len(operation.shape))
    return flow.take(reduced(flow, operand.node, operand.shape, moving), places)


@rule("scatter", "scatter-add", "scatter_add", "scatter-sub", "scatter_sub")
@rule("scatter-mul", "scatter_mul", "scatter-min", "scatter_min", "scatter-max", "scatter_max")
def scatter(flow: Flow, operation: Operation, values: Sequence[Value]):
    operand, indices, updates = values
    kind = operation.name.removeprefix("scatter").strip("-_")
    numbers, mode = operation["dimension_numbers"], Mode.from_any(operation["mode"])
    dropped = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window_sizes = iter([updates.shape[axis] for axis in numbers.update_window_dims])
    sizes = [1 if axis in dropped else next(window_sizes) for axis in range(len(operand.shape))]
    places, moving = _windows(
        indices,
        operand.shape,
        sizes,
        numbers.scatter_dims_to_operand_dims,
        list(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims)),
        clip=mode == Mode.CLIP,
    )
    places = _arranged(places, len(indices.shape) - 1, dropped, numbers.update_window_dims, len(updates.shape)).ravel()
    there = places >= 0
    if moving:
        small = [1 if axis in moving else size for axis, size in enumerate(operand.shape)]
        total = flow.link(updates.node, places, None, int(np.prod(small)))
        total = flow.take(total, np.broadcast_to(positions(small), operand.shape))
        many = True
    else:
        hit = np.bincount(places[there], minlength=operand.size)
        many = bool((hit > 1).any())
        total = updates.node
        if total is not None:
            total = flow.link(flow.take(total, np.flatnonzero(there)), places[there], None, operand.size)
        if kind == "" and operation["update_jaxpr"] is None:
            return flow.join(flow.keep(operand.node, hit == 0), total)
    if kind == "mul":
        # Several factors for one element are multiplied with each other.
        return flow.product(operand.node, flow.bend(total) if many else total)
    everything = flow.join(operand.node, total)
    return everything if kind or operation["update_jaxpr"] is None else flow.bend(everything)


@rule("sort")
def sort(flow: Flow, operation: Operation, values: Sequence[Value]):
    """Each operand is permuted along an axis."""
    axis = operation["dimension"]
    return [_along(flow, value.node, value.shape, value.shape, axis) for value in values]


@rule("top_k", "approx_top_k")
def largest(flow: Flow, operation: Operation, values: Sequence[Value]):
    shape = values[0].shape
    axis = operation.parameters.get("axis", operation.parameters.get("reduction_dimension", -1)) % len(shape)
    return [_along(flow, values[0].node, shape, operation.shape, axis), None]


def _along(flow: Flow, node: Maybe, shape: Sequence[int], result: Sequence[int], axis: int) -> Maybe:
    """Every element depends on all those of its line along an axis."""
    node = reduced(flow, node, shape, [axis])
    if node is None:
        return None
    small = [1 if k == axis else size for k, size in enumerate(shape)]
    return flow.take(node, np.broadcast_to(positions(small), result))


@rule("select_and_scatter_add", "select_and_gather_add")
def chosen_in_windows(flow: Flow, operation: Operation, values: Sequence[Value]):
    """Linear in the first operand; the second says which elements are meant."""
    return mixed(flow, values[0].node, values[0].shape, operation.shape, 0)


@rule("reduce", "reduce_window", "select_and_scatter")
def any_function(flow: Flow, operation: Operation, values: Sequence[Value]):
    return dense(flow, operation, values)
