"""Equal operations of a traced program as one operation on stacked arrays, before anything is differentiated or compiled.

A loop in Python over data leaves the operations of every turn behind, and whatever comes afterwards (derivatives, compilers)
takes at least as long for each as for the first. Most such turns do the same to other numbers. So all operations of a kind
whose operands are of a kind are done at once, long sums become sums of vectors, and elements of vectors that are taken one by one
are taken by slices and tables. What is computed is the same, but for the order of summation.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

from ..sparsity.known import as_function
from .arrays import Arrays, reshaped
from .graph import Graph, is_plain, size_of
from .groups import SMALL, Classes, Groups
from .trees import LEAST_MEMBERS, gathered
from .values import Node
from .writes import written


LEAST_OPERATIONS = 300  # that are worth the look; fewer compile fast, and keep their order of summation
MOST_OPERATIONS = 500_000  # that are looked at, calls opened
MOST_LEFT = 0.7  # the share of operations from which on a program stays as it is
_LEAST_OF_SUM = 3  # leaves of a sum in one array that are summed there


def rolled(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A program of the same arguments and results. Its first constants are those of the program given, behind them are numbers
    that belong to the operations. The program itself where nothing is to be gained."""
    jaxpr = closed.jaxpr
    before = size_of(jaxpr)
    if not LEAST_OPERATIONS <= before <= MOST_OPERATIONS or not is_plain(jaxpr):
        return closed
    graph = Graph(jaxpr, _small(closed))
    nodes = gathered(graph)
    classes = Classes(graph, nodes)
    groups = Groups(graph, nodes, classes)
    if not groups.members and all(node is None or node.how == "operation" for node in nodes):
        return closed
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    evaluate = lambda *given: _evaluated(jaxpr, graph, nodes, classes, groups, given)
    new = jax.make_jaxpr(evaluate)(*map(_struct, inputs))
    same = all(_type(a) == _type(b) for a, b in zip(new.jaxpr.outvars, jaxpr.outvars))
    if not same or len(new.jaxpr.eqns) > MOST_LEFT * before:
        return closed
    first, rest = new.jaxpr.invars[: len(jaxpr.constvars)], new.jaxpr.invars[len(jaxpr.constvars) :]
    program = new.jaxpr.replace(constvars=[*first, *new.jaxpr.constvars], invars=rest, debug_info=jaxpr.debug_info)
    return ClosedJaxpr(program, [*closed.consts, *map(np.asarray, new.consts)])


def _small(closed: ClosedJaxpr) -> dict[Var, np.ndarray]:
    """Small arrays that are closed over in numbers, one for each turn of a loop maybe, and are no variable of anybody."""
    pairs = [(v, c) for v, c in zip(closed.jaxpr.constvars, closed.consts) if not isinstance(c, Tracer)]
    pairs = [(v, c) for v, c in pairs if isinstance(c, (np.ndarray, jax.Array)) and c.size <= SMALL]
    return {v: np.array(c) for v, c in pairs} if len(pairs) >= LEAST_MEMBERS else {}


def _struct(variable: Any) -> jax.ShapeDtypeStruct:
    aval = variable.aval
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def _type(atom: Any) -> tuple:
    return atom.aval.shape, atom.aval.dtype


def _evaluated(
    jaxpr: Jaxpr, graph: Graph, nodes: Sequence[Node | None], classes: Classes, groups: Groups, given: Sequence[Any]
) -> list[Any]:
    arrays = Arrays(graph, dict([*enumerate(given), *graph.constants]))
    done: set[int] = set()
    # All of a class lie equally deep, above all that they take.
    for k in sorted(classes.depth, key=lambda k: (classes.depth[k], k)):
        node, group = nodes[k], groups.of.get(k)
        assert node is not None
        if group is None:
            _alone(jaxpr, graph, arrays, k, node)
        elif group not in done:
            done.add(group)
            members = [(each, n) for each in groups.members[group] if (n := nodes[each]) is not None]
            try:
                results = _together(jaxpr, graph, arrays, classes, members)
            except Exception:  # what an operation does with many is the business of who made it, maybe a user
                for each, own in members:
                    _alone(jaxpr, graph, arrays, each, own)
                continue
            for place, result in enumerate(results):
                arrays.put_group(group, place, [graph.results[each][place] for each, _ in members], result)
    return [arrays.single(value) for value in graph.outputs]


def _alone(jaxpr: Jaxpr, graph: Graph, arrays: Arrays, k: int, node: Node) -> None:
    if node.how == "operation":
        function, which = as_function(node.equation, jaxpr)
        results = function(*(arrays.single(node.operands[place]) for place in which))
    elif node.how == "join":
        results = [_joined(graph, arrays, node)]
    elif node.how == "write":
        results = [written(graph, arrays, node)]
    else:
        results = [_summed(arrays, node)]
    for value, result in zip(graph.results[k], results):
        arrays.put(value, result)


def _summed(arrays: Arrays, node: Node) -> Any:
    """One sum: what lies in one array at once, the others one by one."""
    lying: dict[tuple, list[int]] = {}
    for sign, value in zip(node.signs, node.operands):
        if arrays.grouped(value):
            lying.setdefault((sign, arrays.key(value)), []).append(value)
    at_once = {mark: values for mark, values in lying.items() if len(values) >= _LEAST_OF_SUM}
    parts: list[tuple[int, Any]] = []
    for sign, value in zip(node.signs, node.operands):
        mark = (sign, arrays.key(value)) if arrays.grouped(value) else None
        if mark not in at_once:
            parts.append((sign, arrays.single(value)))
        elif mark in at_once and (values := at_once[mark]):
            parts.append((sign, lax.reduce_sum(arrays.stacked(values), (0,))))
            at_once[mark] = []
    return _total(parts)


def _total(parts: Sequence[tuple[int, Any]]) -> Any:
    parts = sorted(parts, key=lambda part: part[0] < 0)
    (sign, total), *rest = parts
    total = total if sign > 0 else -total
    for sign, part in rest:
        total = total + part if sign > 0 else total - part
    return total


def _joined(graph: Graph, arrays: Arrays, node: Node) -> Any:
    """One long list: neighbours of one kind are put together at once."""
    runs: list[list[int]] = []
    for value in node.operands:
        if runs and graph.kind(runs[-1][0]) == graph.kind(value):
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = []
    for run in runs:
        shape = graph.kind(run[0]).shape
        whole = arrays.stacked(run) if len(run) > 1 else arrays.single(run[0])
        parts.append(_along(whole, shape, node.axis, 0) if len(run) > 1 else whole)
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, node.axis)


def _along(whole: Any, shape: tuple[int, ...], axis: int, ahead: int) -> Any:
    """Pieces of a shape, numbered along an axis with ``ahead`` others in front, one after the other along their own ``axis``."""
    order = [
        *range(ahead),
        *(ahead + 1 + k for k in range(axis)),
        ahead,
        *(ahead + 1 + k for k in range(axis, len(shape))),
    ]
    moved = lax.transpose(whole, order) if axis else whole
    joined = (*shape[:axis], whole.shape[ahead] * shape[axis], *shape[axis + 1 :])
    return reshaped(moved, (*whole.shape[:ahead], *joined))


def _together(
    jaxpr: Jaxpr, graph: Graph, arrays: Arrays, classes: Classes, members: Sequence[tuple[int, Node]]
) -> list[Any]:
    """The results of all operations of a group, with an axis in front."""
    (first, node), count = members[0], len(members)
    if node.how == "join":
        shape = graph.kind(node.operands[0]).shape
        whole = arrays.stacked([value for _, each in members for value in each.operands])
        whole = reshaped(whole, (count, len(node.operands), *shape))
        return [_along(whole, shape, node.axis, 1)]
    if node.how == "sum":
        return [_sums(graph, arrays, classes, members, graph.kind(graph.results[first][0]).shape)]
    operands, axes = [], []
    for values in zip(*(each.operands for _, each in members)):
        shared = all(value == values[0] for value in values)
        operands.append(arrays.single(values[0]) if shared else arrays.stacked(values))
        axes.append(None if shared else 0)
    atoms = node.equation.invars
    own = [k for k, atom in enumerate(atoms) if axes[k] == 0 or not isinstance(atom, Literal)]
    fresh = {k: Var(atoms[k].aval) for k in own}
    equation = node.equation.replace(invars=[fresh.get(k, atom) for k, atom in enumerate(atoms)])
    alone = Jaxpr([], list(fresh.values()), list(equation.outvars), [equation], equation.effects, jaxpr.debug_info)
    function = jaxpr_as_fun(ClosedJaxpr(alone, []))
    return jax.vmap(function, in_axes=tuple(axes[k] for k in own))(*(operands[k] for k in own))


def _sums(
    graph: Graph, arrays: Arrays, classes: Classes, members: Sequence[tuple[int, Node]], shape: tuple[int, ...]
) -> Any:
    """Many sums of operands of the same kinds, whose order is another matter."""
    lying: dict[tuple[int, int], list[int]] = {}
    for _, node in members:
        for sign, value in zip(node.signs, node.operands):
            lying.setdefault((sign, classes.of_value(value)), []).append(value)
    parts, count = [], len(members)
    for (sign, _), values in lying.items():
        own = graph.kind(values[0]).shape
        each = (*(1,) * (len(shape) - len(own)), *own)
        whole = reshaped(arrays.stacked(values), (count, len(values) // count, *each))
        parts.append((sign, lax.reduce_sum(whole, (1,)) if whole.shape[1] > 1 else reshaped(whole, (count, *each))))
    return _total(parts)
