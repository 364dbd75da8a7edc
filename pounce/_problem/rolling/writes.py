"""Elements of an array written one after the other, ``out.at[k].set(...)`` in a loop in Python: written at once."""

from typing import Any

import numpy as np
from jax import lax

from .arrays import Arrays
from .graph import Graph
from .values import Node, Number


def writes(graph: Graph, k: int) -> bool:
    """Whether an operation writes, or adds, to one place of an array that is known, whole as far as the place goes."""
    node = graph.nodes[k]
    name, p = node.equation.primitive.name, node.equation.params
    if name not in ("scatter", "scatter-add") or len(node.operands) != 3:
        return False
    if name == "scatter" and p["update_jaxpr"] is not None:
        return False
    numbers, (array, indices, update) = p["dimension_numbers"], node.operands
    if numbers.operand_batching_dims or sorted(numbers.inserted_window_dims) != sorted(
        numbers.scatter_dims_to_operand_dims
    ):
        return False
    rest = [size for axis, size in enumerate(graph.kind(array).shape) if axis not in numbers.inserted_window_dims]
    known = isinstance(graph.values[indices], Number) and len(graph.kind(indices).shape) == 1
    return known and list(graph.kind(update).shape) == rest


def as_one(graph: Graph, chain: list[int]) -> Node:
    """Operations that write to the same array one after the other, in their order, as one: the array, and what is written."""
    nodes = [graph.nodes[k] for k in chain]
    indices = [getattr(graph.values[node.operands[1]], "array") for node in nodes]
    last = nodes[-1]
    updates = [node.operands[2] for node in nodes]
    if last.equation.primitive.name == "scatter":  # what was written last stays
        kept = {tuple(index): k for k, index in enumerate(indices)}
        indices, updates = [indices[k] for k in kept.values()], [updates[k] for k in kept.values()]
    return last._replace(how="write", operands=(nodes[0].operands[0], *updates), places=np.stack(indices))


def written(graph: Graph, arrays: Arrays, node: Node) -> Any:
    """The array afterwards."""
    p, places = node.equation.params, node.places
    assert places is not None
    numbers, (array, *updates) = p["dimension_numbers"], node.operands
    adds = node.equation.primitive.name == "scatter-add"
    distinct = len(np.unique(places, axis=0)) == len(places)
    rows = graph.kind(array).shape[:1]
    if not adds and numbers.inserted_window_dims == (0,) and sorted(places[:, 0]) == list(range(*rows)):
        return arrays.stacked(
            [updates[k] for k in np.argsort(places[:, 0])]
        )  # nothing is left of what was there before
    numbers = numbers._replace(update_window_dims=tuple(axis + 1 for axis in numbers.update_window_dims))
    put = lax.scatter_add if adds else lax.scatter
    return put(arrays.single(array), places, arrays.stacked(updates), numbers, unique_indices=distinct, mode=p["mode"])
