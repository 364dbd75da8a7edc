"""Rules for functions that come with derivatives of their own, and for implicit functions."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .flow import Flow
from .known import as_function, differentiable, shape_of, struct_of
from .reader import Reader, call_rule
from .rules import Value, mixed


@call_rule("custom_jvp_call")
def own_pushforward(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Follows the derivative that the function declares, which need not be that of the function.

    The derivative is a function of the point and linear in the direction. The direction carries dependence of first order. For
    second order, the point carries it as well: the two meet in products, or in functions inside of the derivative that have
    derivatives of their own, where everything is taken to meet everything.
    """
    key = "pushforward", id(equation)
    if key not in reader.kept:
        reader.kept[key] = equation, *_pushforward(equation, jaxpr)
    _, program, which = reader.kept[key]
    second_order = reader.flow.second_order and not reader.depth
    points = [value if second_order else Value(value.shape, None, value.known) for value in inputs]
    directions = [Value(inputs[k].shape, inputs[k].node) for k in which]
    reader.depth += 1
    results = reader.read(program.jaxpr, program.consts, [*points, *directions])
    reader.depth -= 1
    count = len(equation.outvars)
    values, tangents = results[:count], results[count:]
    bend = reader.flow.bend if reader.depth else lambda node: node
    return [Value(value.shape, bend(t.node), value.known) for value, t in zip(values, tangents)]


def _pushforward(equation: JaxprEqn, jaxpr: Jaxpr) -> tuple[ClosedJaxpr, list[int]]:
    """The derivative as a program of all inputs and of directions for those with derivatives."""
    function, used = as_function(equation, jaxpr)
    structs = list(map(struct_of, equation.invars))
    which = [k for k in used if differentiable(equation.invars[k])]

    def push(points, directions):
        def of(*moving):
            arrays = dict(zip(which, moving))
            return function(*(arrays.get(k, points[k]) for k in used))

        return jax.jvp(of, [points[k] for k in which], directions)

    program = jax.make_jaxpr(push)(structs, [structs[k] for k in which])
    return program, which


@call_rule("custom_vjp_call", "custom_vjp_call_jaxpr")
def own_pullback(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """As above; the declared derivative leads from results to inputs, and its dependence on the point is not looked at.

    Inside of another derivative everything depends on everything: a pullback may well call its own function, as that of an
    integrator of differential equations does.
    """
    flow = reader.flow
    if reader.depth:
        total = flow.bend(flow.join(*(mixed(flow, value.node, value.shape, (1,), 0) for value in inputs)))
        return [Value(shape_of(v), mixed(flow, total, (1,), shape_of(v), 0)) for v in equation.outvars]
    key = "pullback", id(equation)
    if key not in reader.kept:
        reader.kept[key] = equation, *_pullback(equation, jaxpr)
    _, links = reader.kept[key]
    results = []
    for row, variable in zip(links, equation.outvars):
        shape = shape_of(variable)
        parts = []
        for value, link in zip(inputs, row):
            if value.node is not None and link is not None:
                sources, targets = link
                parts.append(flow.link(value.node, targets, sources, int(np.prod(shape, dtype=np.int64))))
        results.append(Value(shape, flow.bend(flow.join(*parts))))
    return results


def _pullback(equation: JaxprEqn, jaxpr: Jaxpr) -> tuple[list[list[tuple[np.ndarray, np.ndarray] | None]]]:
    """For each result and each input, the pairs of an element of the input and one of the result that depends on it."""
    function, used = as_function(equation, jaxpr)
    structs = list(map(struct_of, equation.invars))
    closed_over = equation.params.get("num_consts", 0)  # arrays that the rule has no derivative for
    which = [k for k in used if k >= closed_over and differentiable(equation.invars[k])]
    outputs = list(map(struct_of, equation.outvars))
    moving = [k for k, variable in enumerate(equation.outvars) if differentiable(variable)]

    def pull(points, cotangents):
        def of(*arguments):
            arrays = dict(zip(which, arguments))
            results = function(*(arrays.get(k, points[k]) for k in used))
            return [results[k] for k in moving]

        return jax.vjp(of, *(points[k] for k in which))[1](cotangents)

    program = jax.make_jaxpr(pull)(structs, [outputs[k] for k in moving])
    sizes = [int(np.prod(outputs[k].shape, dtype=np.int64)) for k in moving]
    flow = Flow(sum(sizes), second_order=False)
    ends = np.cumsum(sizes)
    elements = flow.variables()
    cotangents = [
        Value(outputs[k].shape, flow.take(elements, np.arange(end - size, end)))
        for k, size, end in zip(moving, sizes, ends)
    ]
    points = [Value(struct.shape) for struct in structs]
    pulled = Reader(flow, depth=1).read(program.jaxpr, program.consts, [*points, *cotangents])
    links: list[list[tuple[np.ndarray, np.ndarray] | None]] = [[None] * len(structs) for _ in outputs]
    for k, value in zip(which, pulled):
        if value.node is None:
            continue
        labels = value.node.labels
        sources = np.repeat(np.arange(labels.size), flow.sets.sizes(labels))
        targets = flow.sets.members(labels)
        for result, size, end in zip(moving, sizes, ends):
            mine = (targets >= end - size) & (targets < end)
            links[result][k] = sources[mine], targets[mine] - (end - size)
    return (links,)


@call_rule("custom_linear_solve")
def linear_solve(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """``x`` with ``A x = b``: a change of `A` or `b` changes the residual ``b - A x``, and `x` by a solve with that."""
    flow = reader.flow
    counts, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    total = sum(counts)
    constants, right = inputs[:total], inputs[total:]
    matvec = constants[: counts.matvec]
    solve = constants[counts.matvec + counts.vecmat : counts.matvec + counts.vecmat + counts.solve]
    unknown = [Value(value.shape) for value in right]
    product = reader.read(programs.matvec.jaxpr, programs.matvec.consts, [*matvec, *unknown])
    residual = [Value(b.shape, flow.join(b.node, p.node)) for b, p in zip(right, product)]
    solve = [Value(value.shape, None, value.known) for value in solve]
    solution = reader.read(programs.solve.jaxpr, programs.solve.consts, [*solve, *residual])
    linear = all(value.node is None for value in matvec)
    return [Value(x.shape, x.node if linear else flow.bend(x.node)) for x in solution]
