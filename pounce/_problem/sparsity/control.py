"""Rules for branches and loops."""

from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .flow import Flow
from .known import Known, differentiable, scan_parts, shape_of
from .reader import Reader, call_rule, warn_of_loop
from .rules import Value, positions, reduced
from .sets import MOST_WORK
from .spread import spread, turns_of, written_only
from .turn import Turn


# Turns of a loop after which whatever still changes is taken to depend on all that the loop sees.
PATIENCE = 12
# Operations in a loop up to which nothing is gained by looking at one turn for all.
SHORT = 1500
# What following one turn costs that has been looked at, in operations.
STEPS = 4


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


def elements(jaxpr: Jaxpr) -> int:
    """How many the results of its operations have."""
    return sum(int(np.prod(shape_of(v), dtype=np.int64)) for equation in jaxpr.eqns for v in equation.outvars)


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
    """A short loop is followed turn by turn, and so is a longer one in which every turn uses other indices.

    Of others, one turn is looked at for all; only what it leads to is followed. Very long ones are loops of unknown length.
    """
    p = equation.params
    length, body = p["length"], p["jaxpr"]
    first, last = scan_parts(equation)
    fixed, carried, stacked = inputs[:first], inputs[first:last], inputs[last:]
    shapes = [shape_of(variable) for variable in equation.outvars]
    turns = range(length)[::-1] if p["reverse"] else range(length)
    cost = length * operations(body.jaxpr)
    if not length or cost <= min(SHORT, reader.turns):
        return _turn_by_turn(reader, body, fixed, carried, stacked, turns, shapes)
    written = written_only(body.jaxpr, first, len(carried))
    if written and (results := _side_by_side(reader, equation, inputs, written)) is not None:
        return results
    moving = [differentiable(variable) for variable in equation.outvars[: len(carried)]]
    slices = [
        Value(value.shape[1:], reduced(reader.flow, value.node, value.shape, [0]), value.known)  # any of them
        for value in stacked
    ]
    turn = Turn(reader, body, fixed, carried, slices, moving)
    if turn.index_wanted and (results := _side_by_side(reader, equation, inputs, ())) is not None:
        return results
    if turn.index_wanted and cost <= reader.turns and length * elements(body.jaxpr) <= MOST_WORK:
        return _turn_by_turn(reader, body, fixed, carried, stacked, turns, shapes)
    if turn.work(length) > MOST_WORK:
        warn_of_loop(reader, turns_of(length, equation))
        return _any_turn(reader, body, fixed, carried, slices, length, shapes)
    if turn.alike() and all(value.node is None for value in carried):
        parts = turn.at_once(reader.flow, fixed, stacked, length)
    elif STEPS * length <= reader.turns:
        reader.turns -= STEPS * length
        parts = turn.one_by_one(reader.flow, fixed, carried, stacked, turns)
    else:
        warn_of_loop(reader, turns_of(length, equation))
        return _any_turn(reader, body, fixed, carried, slices, length, shapes)
    return [Value(shape, node) for shape, node in zip(shapes, [*parts[0], *parts[1]])]


def _side_by_side(
    reader: Reader, equation: JaxprEqn, inputs: Sequence[Value], written: Sequence[int]
) -> list[Value] | None:
    """All turns at once, where they need not wait for each other; None where they do, or where that takes too much room."""
    key = "spread", id(equation)
    if key not in reader.kept:
        reader.kept[key] = equation, spread(equation, written)
    program = reader.kept[key][1]
    if program is None or elements(program.jaxpr) > MOST_WORK:
        return None
    results = reader.read(program.jaxpr, program.consts, inputs)
    for k in written:  # not in their order
        results[k] = Value(results[k].shape, results[k].node)
    return results


def _turn_by_turn(
    reader: Reader,
    body: ClosedJaxpr,
    fixed: Sequence[Value],
    carried: Sequence[Value],
    stacked: Sequence[Value],
    turns: range,
    shapes: Sequence[tuple[int, ...]],
) -> list[Value]:
    flow, count = reader.flow, len(carried)
    reader.turns -= len(turns) * operations(body.jaxpr)
    results: list[list[Value]] = []
    for k in turns:
        outcome = reader.read(body.jaxpr, body.consts, [*fixed, *carried, *(_slice(flow, v, k) for v in stacked)])
        carried = outcome[:count]
        results.append(outcome[count:])
    if turns.step < 0:
        results.reverse()
    columns = zip(*results) if results else ([] for _ in shapes[count:])
    return [*carried, *(_stack(flow, column, shape) for column, shape in zip(columns, shapes[count:]))]


def _any_turn(
    reader: Reader,
    body: ClosedJaxpr,
    fixed: Sequence[Value],
    carried: Sequence[Value],
    slices: Sequence[Value],
    length: int,
    shapes: Sequence[tuple[int, ...]],
) -> list[Value]:
    slices = [Value(value.shape, value.node) for value in slices]
    after, results = _settle(
        reader,
        carried,
        [*fixed, *slices],
        lambda values: reader.read(body.jaxpr, body.consts, [*fixed, *values, *slices]),
    )
    everywhere = [reader.flow.take(value.node, np.tile(np.arange(value.size), length)) for value in results]
    return [*after, *(Value(shape, node) for shape, node in zip(shapes[len(carried) :], everywhere))]


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
