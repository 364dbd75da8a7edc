"""Rules for loops, branches and functions with derivatives of their own."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .flow import Flow
from .known import Known, as_function, differentiable, shape_of, struct_of
from .reader import Reader, call_rule
from .rules import Value, positions, reduced


# Turns of a loop after which whatever still changes is taken to depend on all that the loop sees.
PATIENCE = 12


def operations(jaxpr: Jaxpr) -> int:
    """How many, those of inner loops as often as they run if that is known."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                    inside = operations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)
                    total += inside * equation.params.get("length", 1)
    return total


def _join(flow: Flow, a: Value, b: Value) -> Value:
    """Either of two arrays."""
    return Value(a.shape, flow.join(a.node, b.node), a.known if a.known is b.known else None)


def _same(a: Value, b: Value) -> bool:
    if a.node is None or b.node is None:
        return a.node is b.node
    return np.array_equal(a.node.labels, b.node.labels)


def _settle(
    reader: Reader, starts: Sequence[Value], seen: Sequence[Value], turn: Callable[[list[Value]], list[Value]]
) -> tuple[list[Value], list[Value]]:
    """Values that hold before and after any number of turns.

    **Arguments:**

    - `starts`: what is carried into the first turn.
    - `seen`: what every turn sees besides.
    - `turn`: from what is carried into a turn to what is carried out of it, followed by further results.

    **Returns:**

    What is carried, and the further results.
    """
    flow, tape = reader.flow, reader.flow.tape
    count = len(starts)
    carried = [Value(value.shape, value.node) for value in starts]
    for attempt in range(1, 1000):
        flow.tape = []
        carried = [_fresh(flow, value) for value in carried]
        ends = turn(carried)
        flow_tape, flow.tape = flow.tape, []
        joined = [_join(flow, a, b) for a, b in zip(carried, ends)]
        changing = [k for k, (a, b) in enumerate(zip(joined, carried)) if not _same(a, b)]
        if not changing:
            break
        if attempt >= PATIENCE:
            nodes = [value.node for value in (*joined, *seen) if value.node is not None]
            everything = flow.sets.everything(np.concatenate([node.labels for node in nodes]))
            for k in changing:
                labels = np.full(joined[k].size, everything)
                joined[k] = Value(joined[k].shape, flow.new(labels, lambda live: None))
        carried = joined
    else:
        raise AssertionError("the sets of a loop do not settle")
    flow.tape = tape
    after = flow.loop(
        [value.node for value in starts],
        [value.node for value in carried],
        [value.node for value in ends[:count]],
        flow_tape,
    )
    return [Value(value.shape, node) for value, node in zip(starts, after)], ends[count:]


def _fresh(flow: Flow, value: Value) -> Value:
    """The same sets in a node of their own, whose elements are of use or not for reasons of their own."""
    return Value(value.shape, None if value.node is None else flow.new(value.node.labels, lambda live: None))


@call_rule("cond")
def branches(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Any of the branches, or the one that is known to be taken. Which one it is has no derivative."""
    index, *operands = inputs
    programs = equation.params["branches"]
    chosen = index.array()
    if chosen is not None:
        programs = [programs[int(np.clip(int(chosen), 0, len(programs) - 1))]]
    first, *others = (reader.read(program.jaxpr, program.consts, operands) for program in programs)
    for other in others:
        first = [_join(reader.flow, a, b) for a, b in zip(first, other)]
    return first


@call_rule("while")
def while_loop(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Turns are followed one by one as long as it is known that there is a next one."""
    p = equation.params
    of_condition, rest = inputs[: p["cond_nconsts"]], inputs[p["cond_nconsts"] :]
    of_body, carried = rest[: p["body_nconsts"]], list(rest[p["body_nconsts"] :])
    condition, body = p["cond_jaxpr"], p["body_jaxpr"]

    def turn(values: Sequence[Value]) -> list[Value]:
        return reader.read(body.jaxpr, body.consts, [*of_body, *values])

    cost = operations(body.jaxpr) + operations(condition.jaxpr)
    while reader.turns >= cost:
        goes_on = reader.read(condition.jaxpr, condition.consts, [*of_condition, *carried])[0].array()
        if goes_on is None:
            break
        if not goes_on:
            return carried
        reader.turns -= cost
        carried = turn(carried)
    return _settle(reader, carried, of_body, turn)[0]


@call_rule("scan")
def scan(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Turns are followed one by one where there are not too many operations; otherwise as for a loop of unknown length."""
    p, flow = equation.params, reader.flow
    length, body = p["length"], p["jaxpr"]
    fixed, rest = inputs[: p["num_consts"]], inputs[p["num_consts"] :]
    carried, stacked = list(rest[: p["num_carry"]]), rest[p["num_carry"] :]
    shapes = [shape_of(variable) for variable in equation.outvars[len(carried) :]]
    cost = length * operations(body.jaxpr)
    if length and cost > reader.turns:
        slices = [
            Value(value.shape[1:], reduced(flow, value.node, value.shape, [0]))  # any slice
            for value in stacked
        ]
        carried, anywhere = _settle(
            reader,
            carried,
            [*fixed, *slices],
            lambda values: reader.read(body.jaxpr, body.consts, [*fixed, *values, *slices]),
        )
        spread = [
            Value(shape, None if value.node is None else flow.take(value.node, np.tile(np.arange(value.size), length)))
            for value, shape in zip(anywhere, shapes)
        ]
        return [*carried, *spread]
    reader.turns -= cost
    turns = range(length)[::-1] if p["reverse"] else range(length)
    results: list[list[Value]] = []
    for k in turns:
        outcome = reader.read(body.jaxpr, body.consts, [*fixed, *carried, *(_slice(flow, v, k) for v in stacked)])
        carried = outcome[: len(carried)]
        results.append(outcome[len(carried) :])
    if p["reverse"]:
        results.reverse()
    columns = zip(*results) if results else ([] for _ in shapes)
    return [*carried, *(_stack(flow, column, shape) for column, shape in zip(columns, shapes))]


def _slice(flow: Flow, value: Value, k: int) -> Value:
    shape = value.shape[1:]
    size = int(np.prod(shape, dtype=np.int64))
    node = None if value.node is None else flow.take(value.node, np.arange(k * size, (k + 1) * size))

    def compute():
        array = value.array()
        return None if array is None else array[k]

    return Value(shape, node, None if value.known is None else Known(compute))


def _stack(flow: Flow, slices: Sequence[Value], shape: tuple[int, ...]) -> Value:
    where = positions(shape)
    node = flow.place(where.size, [(value.node, where[k]) for k, value in enumerate(slices)])
    known = [value.known for value in slices]

    def compute():
        arrays = [array for each in known if each is not None and (array := each.array()) is not None]
        return np.stack(arrays) if len(arrays) == len(slices) else None

    return Value(shape, node, Known(compute) if known and all(known) else None)


@call_rule("custom_jvp_call")
def own_pushforward(reader: Reader, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Follows the derivative that the function declares, which need not be that of the function.

    The derivative is a function of the point and linear in the direction. The direction carries dependence of first order. For
    second order, the point carries it as well: the two meet in products, or in functions inside of the derivative that have
    derivatives of their own, where everything is taken to meet everything.
    """
    inner = reader.kept.setdefault("depth", [0])
    key = "pushforward", id(equation)
    if key not in reader.kept:
        reader.kept[key] = equation, *_pushforward(equation, jaxpr)
    _, program, which = reader.kept[key]
    second_order = reader.flow.second_order and not inner[0]
    points = [value if second_order else Value(value.shape, None, value.known) for value in inputs]
    directions = [Value(inputs[k].shape, inputs[k].node) for k in which]
    inner[0] += 1
    results = reader.read(program.jaxpr, program.consts, [*points, *directions])
    inner[0] -= 1
    count = len(equation.outvars)
    values, tangents = results[:count], results[count:]
    bend = reader.flow.bend if inner[0] else lambda node: node
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
    """As above; the declared derivative leads from results to inputs, and its dependence on the point is not looked at."""
    flow = reader.flow
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
    which = [k for k in used if differentiable(equation.invars[k])]
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
    pulled = Reader(flow).read(program.jaxpr, program.consts, [*points, *cotangents])
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
