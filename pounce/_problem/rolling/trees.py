"""Long sums and long lists: trees of additions, of concatenations, and of writes to an array, as one operation each."""

from collections.abc import Sequence

import numpy as np

from .graph import Graph
from .values import Node, Number, Result
from .writes import as_one, writes


LEAST_MEMBERS = 8  # of a sum or a list, and equal operations that are worth rolling


def live_nodes(graph: Graph, nodes: Sequence[Node | None]) -> list[int]:
    """The operations that the outputs take, in their order."""
    wanted = {graph.base(value) for value in graph.outputs}
    found = []
    for k in range(len(nodes) - 1, -1, -1):
        node = nodes[k]
        if node is not None and not wanted.isdisjoint(graph.results[k]):
            found.append(k)
            wanted.update(map(graph.base, node.operands))
    return found[::-1]


def _uses(graph: Graph, live: Sequence[int]) -> dict[int, int]:
    """How often each value is an operand or an output, in whole or in part."""
    uses: dict[int, int] = {}
    for operands in (*(graph.nodes[k].operands for k in live), graph.outputs):
        for value in operands:
            base = graph.base(value)
            uses[base] = uses.get(base, 0) + 1
    return uses


def gathered(graph: Graph) -> list[Node | None]:
    """The operations of a graph by number, with trees of many leaves as one; None for those that have become part of one, or
    that nothing needs."""
    live = live_nodes(graph, graph.nodes)
    uses = _uses(graph, live)
    inner: dict[int, int] = {}  # operations that are part of the tree of another one
    for k in live:
        for value in graph.nodes[k].operands:
            held = graph.values[graph.base(value)]
            if isinstance(held, Result) and uses[graph.base(value)] == 1 and _grows(graph, k, value, held.node):
                inner[held.node] = k
    nodes: list[Node | None] = [None] * len(graph.nodes)
    for k in live:
        nodes[k] = graph.nodes[k]
    for k in live:
        node = graph.nodes[k]
        if k in inner or not (_adds(graph, k) or node.how == "join" or writes(graph, k)):
            continue
        if writes(graph, k):
            chain = _chain(graph, k, inner)
            if len(chain) >= LEAST_MEMBERS:
                for each in chain:
                    nodes[each] = None
                nodes[k] = as_one(graph, chain)
            continue
        leaves, within = _leaves(graph, k, inner)
        if len(leaves) >= LEAST_MEMBERS:
            for each in within:
                nodes[each] = None
            signs, operands = zip(*leaves)
            nodes[k] = node._replace(how="join" if node.how == "join" else "sum", operands=operands, signs=signs)
        elif node.equation.primitive.name == "concatenate":
            for each in (k, *within):
                nodes[each] = graph.nodes[each]._replace(how="operation")
    return nodes


def _adds(graph: Graph, k: int) -> bool:
    equation = graph.nodes[k].equation
    if equation.primitive.name not in ("add", "sub", "add_any"):
        return False
    out = graph.kind(graph.results[k][0])
    same = all(isinstance(graph.values[v], Number) or graph.kind(v) == out for v in graph.nodes[k].operands)
    return same and out.dtype != bool and not np.issubdtype(out.dtype, np.unsignedinteger)


def _grows(graph: Graph, k: int, value: int, before: int) -> bool:
    """Whether the operation ``before``, whose result is used as ``value`` and nowhere else, is part of the tree of ``k``."""
    node, other = graph.nodes[k], graph.nodes[before]
    if node.how == "join":
        same = other.how == "join" and other.axis == node.axis and other.equation.primitive.name == "concatenate"
        return same and node.equation.primitive.name == "concatenate" and graph.base(value) == value
    if writes(graph, k):
        same = node.key == other.key and writes(graph, before)
        return same and node.operands[0] == value != node.operands[2] and graph.base(value) == value
    return _adds(graph, k) and _adds(graph, before) and graph.base(value) == value


def _chain(graph: Graph, k: int, inner: dict[int, int]) -> list[int]:
    """Writes to the same array, in their order, up to ``k``."""
    chain = [k]
    while True:
        held = graph.values[graph.nodes[chain[-1]].operands[0]]
        if not isinstance(held, Result) or inner.get(held.node) != chain[-1]:
            return chain[::-1]
        chain.append(held.node)


def _leaves(graph: Graph, root: int, inner: dict[int, int]) -> tuple[list[tuple[int, int]], list[int]]:
    """The operands of a tree, from left to right, each with its sign, and the operations that it takes beside the root."""
    leaves, within, waiting = [], [], [(1, root)]
    while waiting:
        sign, item = waiting.pop()
        if item < 0:
            leaves.append((sign, ~item))
            continue
        if item != root:
            within.append(item)
        node = graph.nodes[item]
        for place in range(len(node.operands) - 1, -1, -1):
            value = node.operands[place]
            own = -sign if place == 1 and node.equation.primitive.name == "sub" else sign
            held = graph.values[value]
            part = isinstance(held, Result) and inner.get(held.node) == item
            waiting.append((own, getattr(held, "node") if part else ~value))
    return leaves, within
