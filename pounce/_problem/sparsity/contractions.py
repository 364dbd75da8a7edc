"""Rules for operations that sum: reductions, cumulative sums, matrix products, convolutions."""

from collections.abc import Sequence

import numpy as np

from .flow import Flow, Maybe
from .rules import Operation, Value, mixed, positions, reduced, rule


# Terms of a sum that are looked at one by one; beyond, any element of a line may enter.
MOST_TERMS = 10_000_000


@rule("reduce_sum", "reduce_max", "reduce_min")
def reduction(flow: Flow, operation: Operation, values: Sequence[Value]):
    return reduced(flow, values[0].node, values[0].shape, operation["axes"])


@rule("reduce_prod")
def reduce_product(flow: Flow, operation: Operation, values: Sequence[Value]):
    """Products of halves, and so on: an element is not multiplied by itself."""
    shape, axes, node = values[0].shape, operation["axes"], values[0].node
    free = [axis for axis in range(len(shape)) if axis not in axes]
    order = np.transpose(positions(shape), (*free, *axes)).reshape(operation.size, -1)
    node = flow.take(node, order)
    length = order.shape[1]
    while length > 1 and node is not None:
        half = length // 2
        lines = positions((operation.size, length))
        pairs = flow.product(flow.take(node, lines[:, :half]), flow.take(node, lines[:, half : 2 * half]))
        odd = flow.take(node, lines[:, 2 * half :])
        places = positions((operation.size, length - half))
        node = flow.place(places.size, [(pairs, places[:, :half]), (odd, places[:, half:])])
        length -= half
    return node


@rule("cumsum", "cummax", "cummin", "cumprod", "cumlogsumexp")
def cumulative(flow: Flow, operation: Operation, values: Sequence[Value]):
    shape, axis = values[0].shape, operation["axis"]
    length = shape[axis]
    if values[0].size * (length + 1) // 2 > MOST_TERMS:
        # Any element may enter, also later ones.
        small = positions([1 if k == axis else size for k, size in enumerate(shape)])
        node = reduced(flow, values[0].node, shape, [axis])
        node = None if node is None else flow.take(node, np.broadcast_to(small, shape))
    else:
        later, earlier = np.tril_indices(length)
        if operation["reverse"]:
            later, earlier = earlier, later
        lines = np.moveaxis(positions(shape), axis, 0)
        node = flow.link(values[0].node, lines[later], lines[earlier].ravel(), values[0].size)
    return flow.bend(node) if operation.name in ("cumprod", "cumlogsumexp") else node


def contract(
    flow: Flow, a: Value, b: Value, from_a: np.ndarray, from_b: np.ndarray, into: np.ndarray, size: int
) -> Maybe:
    """``result[into[k]] += a[from_a[k]] * b[from_b[k]]``."""
    if a.node is not None and b.node is not None:
        terms = flow.product(flow.take(a.node, from_a), flow.take(b.node, from_b))
        return flow.link(terms, into, None, size)
    if a.node is None:
        a, b, from_a, from_b = b, a, from_b, from_a
    factor = b.factor()
    if factor is not None and not factor.all():
        there = factor.ravel()[from_b] != 0
        from_a, into = from_a[there], into[there]
    return flow.link(a.node, into, from_a, size)


@rule("dot_general")
def matrix_product(flow: Flow, operation: Operation, values: Sequence[Value]):
    a, b = values
    (a_sums, b_sums), (a_batch, b_batch) = operation["dimension_numbers"]
    rows = _as_matrices(a.shape, a_batch, a_sums)
    columns = _as_matrices(b.shape, b_batch, b_sums)
    batch, m, k = rows.shape
    n = columns.shape[1]
    if a.node is None or b.node is None:
        factor = b.factor() if a.node is not None else a.factor()
        if factor is not None and not factor.all():
            return _constant_factor(flow, a, b, rows, columns, factor)
    elif batch * m * n * k <= MOST_TERMS:
        shape = (batch, m, n, k)
        from_a = np.broadcast_to(rows[:, :, None, :], shape).ravel()
        from_b = np.broadcast_to(columns[:, None, :, :], shape).ravel()
        into = np.broadcast_to(positions(shape[:3])[..., None], shape).ravel()
        return contract(flow, a, b, from_a, from_b, into, operation.size)
    # All terms of a sum at once.
    a_node, b_node = (
        None if node is None else reduced(flow, flow.take(node, lines), lines.shape, [2])
        for node, lines in ((a.node, rows), (b.node, columns))
    )
    result = positions((batch, m, n))
    if a_node is not None:
        a_node = flow.take(a_node, result // n)
    if b_node is not None:
        b_node = flow.take(b_node, result // (m * n) * n + result % n)
    return flow.product(a_node, b_node)


def _as_matrices(shape: Sequence[int], batch: Sequence[int], sums: Sequence[int]) -> np.ndarray:
    """Places in an operand, by batch, by free index and by index of summation."""
    free = [axis for axis in range(len(shape)) if axis not in batch and axis not in sums]
    size = {
        kind: int(np.prod([shape[axis] for axis in axes])) for kind, axes in (("b", batch), ("f", free), ("s", sums))
    }
    return np.transpose(positions(shape), (*batch, *free, *sums)).reshape(size["b"], size["f"], size["s"])


def _constant_factor(
    flow: Flow, a: Value, b: Value, rows: np.ndarray, columns: np.ndarray, factor: np.ndarray
) -> Maybe:
    """A product with a known array, whose zeros count."""
    batch, m, k = rows.shape
    n = columns.shape[1]
    result = positions((batch, m, n))
    if a.node is None:
        constant, other = factor.ravel()[rows], columns
    else:
        constant, other, result = factor.ravel()[columns], rows, np.swapaxes(result, 1, 2)
    which, free, sums = np.nonzero(constant)
    # One term for each nonzero of the constant and each free index of the other operand.
    if which.size * other.shape[1] > MOST_TERMS:
        return _constant_lines(flow, a, b, constant, other, result)
    sources = other[which, :, sums]
    targets = result[which, free, :]
    node = a.node if b.node is None else b.node
    return flow.link(node, targets.ravel(), sources.ravel(), batch * m * n)


def _constant_lines(
    flow: Flow, a: Value, b: Value, constant: np.ndarray, other: np.ndarray, result: np.ndarray
) -> Maybe:
    """As above, where there are too many terms: a sum of everything, or nothing where the constant has a line of zeros."""
    node = a.node if b.node is None else b.node
    assert node is not None
    total = reduced(flow, flow.take(node, other), other.shape, [2])
    batch, free, _ = constant.shape
    some = (constant != 0).any(axis=2)
    sources = np.where(some[..., None], positions((batch, 1, other.shape[1])), -1)
    index = np.empty(result.size, np.int64)
    index[result.ravel()] = np.broadcast_to(sources, (batch, free, other.shape[1])).ravel()
    return flow.take(total, index)


def _window_places(
    size: int, results: int, window: int, stride: int, low: int, dilation: int, holes: int
) -> np.ndarray:
    """``[r, w]``: the element under position ``w`` of the window for result ``r``; -1 in the padding."""
    place = np.arange(results)[:, None] * stride + np.arange(window) * holes - low
    inside = (place >= 0) & (place % dilation == 0) & (place // dilation < size)
    return np.where(inside, place // dilation, -1)


def _outer(places: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Places along each axis put together: ``[result, position in the window]``, both flattened; -1 outside."""
    total = np.zeros((1, 1), np.int64)
    for along, size in zip(places, sizes):
        step = np.where((total[:, None, :, None] < 0) | (along[None, :, None, :] < 0), -1, 0)
        step = np.where(step < 0, -1, total[:, None, :, None] * size + along[None, :, None, :])
        total = step.reshape(total.shape[0] * along.shape[0], total.shape[1] * along.shape[1])
    return total


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def window_reduction(flow: Flow, operation: Operation, values: Sequence[Value]):
    shape, window = values[0].shape, operation["window_dimensions"]
    if operation.size * int(np.prod(window)) > MOST_TERMS:
        return mixed(flow, values[0].node, shape, operation.shape, 0)
    ones = (1,) * len(shape)
    along = [
        _window_places(*each)
        for each in zip(
            shape,
            operation.shape,
            window,
            operation["window_strides"],
            [low for low, _ in operation["padding"]],
            operation["base_dilation"] or ones,
            operation["window_dilation"] or ones,
        )
    ]
    places = _outer(along, shape)
    targets, position = np.nonzero(places >= 0)
    return flow.link(values[0].node, targets, places[targets, position], operation.size)


@rule("conv_general_dilated")
def convolution(flow: Flow, operation: Operation, values: Sequence[Value]):
    a, b = values
    numbers = operation["dimension_numbers"]
    images = np.transpose(positions(a.shape), numbers.lhs_spec)  # batch, feature, space...
    kernels = np.transpose(positions(b.shape), numbers.rhs_spec)  # result feature, feature, space...
    results = np.transpose(positions(operation.shape), numbers.out_spec)
    window = int(np.prod(kernels.shape[2:]))
    if operation["batch_group_count"] != 1 or operation.size * kernels.shape[1] * window > MOST_TERMS:
        return flow.product(*(mixed(flow, each.node, each.shape, operation.shape, 0) for each in values))
    along = [
        _window_places(*each)
        for each in zip(
            images.shape[2:],
            results.shape[2:],
            kernels.shape[2:],
            operation["window_strides"],
            [low for low, _ in operation["padding"]],
            operation["lhs_dilation"],
            operation["rhs_dilation"],
        )
    ]
    places = _outer(along, images.shape[2:])
    space, position = np.nonzero(places >= 0)
    features, inner = kernels.shape[:2]
    group = np.arange(features) // (features // operation["feature_group_count"])
    images = images.reshape(*images.shape[:2], -1)
    # Terms by batch, result feature, feature, and place in the image.
    shape = (images.shape[0], features, inner, space.size)
    feature = group[:, None] * inner + np.arange(inner)
    from_a = images[:, feature][..., places[space, position]].ravel()
    from_b = np.broadcast_to(kernels.reshape(features, inner, -1)[..., position], shape).ravel()
    into = results.reshape(*results.shape[:2], -1)[..., space]
    return contract(flow, a, b, from_a, from_b, np.broadcast_to(into[:, :, None], shape).ravel(), operation.size)


@rule("bcoo_dot_general", "bcsr_dot_general")
def sparse_product(flow: Flow, operation: Operation, values: Sequence[Value]):
    """A sparse matrix, of which each stored element is an operand, times a dense array."""
    data, *where, dense = values
    sums, batches = operation["dimension_numbers"]
    arrays = [array for each in where if (array := each.array()) is not None]
    if any(map(len, batches)) or [len(axes) for axes in sums] != [1, 1] or len(arrays) < len(where):
        return NotImplemented
    index = arrays[0]
    if operation.name == "bcsr_dot_general":
        columns, ends = arrays
        index = np.stack([np.repeat(np.arange(ends.size - 1), np.diff(ends)), columns[: ends[-1]]], axis=-1)
    if len(data.shape) != 1 or index.ndim != 2 or index.shape[1] != 2:
        return NotImplemented
    ((summed,), (other,)) = sums
    stored = np.flatnonzero((index < operation["lhs_spinfo"].shape).all(axis=1))  # what stands outside is padding
    lines = np.moveaxis(positions(dense.shape), other, 0).reshape(dense.shape[other], -1)
    from_dense = lines[index[stored, summed]]
    from_data = np.broadcast_to(stored[:, None], from_dense.shape)
    into = index[stored, 1 - summed, None].astype(np.int64) * lines.shape[1] + np.arange(lines.shape[1])
    return contract(flow, data, dense, from_data.ravel(), from_dense.ravel(), into.ravel(), operation.size)
