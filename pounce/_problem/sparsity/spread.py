"""Loops whose turns do not wait for each other, all turns side by side.

A `fori_loop` that writes one row after the other, ``out.at[k].set(...)``, carries the array from turn to turn without ever
looking at it. What it writes, and where, is worked out for all turns at once, and then written in one go: a program without a
loop, and with the indices of all turns in tables. What turns do hand on (the counter, a state) stays a loop, of nothing else.

Only where results come from is kept, not which write to a place was the last: a place has what was ever written there.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from .known import as_function, differentiable, scan_parts, struct_of


_WRITES = ("scatter", "scatter-add", "dynamic_update_slice")


class _Kept(Exception):
    """Turns have to wait for each other, or nobody knows."""


class _Written:
    """An array that has only been written to so far: index vectors and what was written there, with its dimension numbers."""

    def __init__(self, array: Any, writes: tuple = ()):
        self.array, self.writes, self.spent = array, writes, False

    def then(self, *writes: tuple) -> "_Written":
        if self.spent:
            raise _Kept
        self.spent = True
        return _Written(self.array, (*self.writes, *writes))


def written_only(body: Jaxpr, first: int, count: int) -> list[int]:
    """Which of the arrays that a loop carries may be of that kind; ``first`` is where they begin among the inputs of a turn."""
    found = []
    for k in range(count):
        variable = body.invars[first + k]
        users = [e for e in body.eqns if any(atom is variable for atom in e.invars)]
        handed_on = [k for k, atom in enumerate(body.outvars) if atom is variable]
        if differentiable(variable) and len(users) == 1 and not handed_on and _may_write(users[0]):
            found.append(k)
    return found


def _may_write(equation: JaxprEqn) -> bool:
    return equation.primitive.name in (*_WRITES, "scan") or _called(equation) is not None


def _called(equation: JaxprEqn) -> ClosedJaxpr | None:
    inner = equation.params.get("jaxpr")
    return (
        inner if equation.primitive.name in ("jit", "pjit", "closed_call") and isinstance(inner, ClosedJaxpr) else None
    )


def spread(equation: JaxprEqn, written: Sequence[int]) -> ClosedJaxpr | None:
    """The program of a loop side by side, of the same inputs and with the same results but for the order of writes; None where
    turns wait for each other. ``written``: which of the carried arrays are only written to."""
    first, _ = scan_parts(equation)

    def program(*inputs):
        arrays = list(inputs)
        for k in written:
            arrays[first + k] = _Written(inputs[first + k])
        return [_put_down(each) if isinstance(each, _Written) else each for each in _scan(equation, arrays)]

    try:
        return jax.make_jaxpr(program)(*map(struct_of, equation.invars))
    except Exception:  # also what an operation of the user's does not like about many turns at once
        return None


def _scan(equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The results of a loop with some carried arrays only written to."""
    p, (first, last) = equation.params, scan_parts(equation)
    body, length = p["jaxpr"], p["length"]
    fixed, carried, stacked = inputs[:first], list(inputs[first:last]), inputs[last:]
    if p["reverse"] or any(isinstance(each, _Written) for each in (*fixed, *stacked)):
        raise _Kept
    jaxpr = body.jaxpr
    ends = jaxpr.outvars[: len(carried)]
    same = [atom is variable for atom, variable in zip(ends, jaxpr.invars[first:last])]
    waits = [k for k, each in enumerate(carried) if not (same[k] or isinstance(each, _Written))]
    needed = _needed(jaxpr, [ends[k] for k in waits])
    if len(needed) == len(jaxpr.eqns):
        raise _Kept  # nothing is left to be done side by side
    final, before = {}, {}
    for k in waits:
        # One by one, so that what is not known takes nothing along that is.
        final[k], before[k] = _handed_on(body, fixed, carried, stacked, k, length)
    hidden: list[Any] = []

    def turn(values, slices):
        whole = [_Written(each.array) if isinstance(each, _Written) else each for each in carried]
        for k, value in values.items():
            whole[k] = value
        results = _evaluated(jaxpr, body.consts, [*fixed, *whole, *slices])
        after, others = results[: len(carried)], results[len(carried) :]
        arrays = []
        hidden.clear()
        for k, (each, end) in enumerate(zip(carried, after)):
            if isinstance(each, _Written):
                if not isinstance(end, _Written) or end.spent or end.array is not each.array:
                    raise _Kept
                arrays.append([write[:2] for write in end.writes])
                hidden.append([write[2] for write in end.writes])
        if any(isinstance(each, _Written) for each in others):
            raise _Kept
        return arrays, others

    arrays, others = jax.vmap(turn, axis_size=length)(before, list(stacked))
    queue = iter(zip(arrays, hidden))
    results = []
    for k, each in enumerate(carried):
        if isinstance(each, _Written):
            parts, numbers = next(queue)
            writes = [(*part, _with_axis(number)) for part, number in zip(parts, numbers)]
            results.append(each.then(*writes))
        else:
            results.append(each if same[k] else final[k])
    return [*results, *others]


def _handed_on(
    body: ClosedJaxpr, fixed: Sequence[Any], carried: Sequence[Any], stacked: Sequence[Any], which: int, length: int
) -> tuple[Any, Any]:
    """One of the values that turns hand on: after the last, and before each of them."""
    jaxpr, first = body.jaxpr, len(fixed)
    places = {variable: k for k, variable in enumerate(jaxpr.invars[first : first + len(carried)])}
    together, needed = [which], []
    for k in together:  # grows
        needed = _needed(jaxpr, [jaxpr.outvars[k] for k in together])
        read = [jaxpr.outvars[k], *(atom for equation in needed for atom in equation.invars)]
        for atom in read:
            k = places.get(atom, which) if isinstance(atom, Var) else which
            if k not in together and jaxpr.outvars[k] is not jaxpr.invars[first + k]:
                together.append(k)
    if any(isinstance(carried[k], _Written) for k in together):
        raise _Kept
    alone = jaxpr.replace(eqns=needed, outvars=[jaxpr.outvars[k] for k in together])

    def next_turn(values, slices):
        whole = [0.0 if isinstance(each, _Written) else each for each in carried]
        for k, value in zip(together, values):
            whole[k] = value
        return _evaluated(alone, body.consts, [*fixed, *whole, *slices]), values[0]

    final, before = lax.scan(next_turn, [carried[k] for k in together], list(stacked), length=length)
    return final[0], before


def _needed(jaxpr: Jaxpr, results: Sequence[Any]) -> list[JaxprEqn]:
    """The operations that results take."""
    wanted, kept = {atom for atom in results if isinstance(atom, Var)}, []
    for equation in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(equation.outvars):
            kept.append(equation)
            wanted.update(atom for atom in equation.invars if isinstance(atom, Var))
    return kept[::-1]


def _evaluated(jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The results of a program, some of whose arrays are only written to."""
    values: dict[Var, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs)))
    value_of = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]
    for equation in jaxpr.eqns:
        own = [value_of(atom) for atom in equation.invars]
        written = [k for k, each in enumerate(own) if isinstance(each, _Written)]
        if not written:
            function, which = as_function(equation, jaxpr)
            results = function(*(own[k] for k in which))
        elif equation.primitive.name in _WRITES and written == [0]:
            results = [own[0].then(_write(equation, own))]
        elif equation.primitive.name == "scan":
            results = _scan(equation, own)
        elif (inner := _called(equation)) is not None:
            results = _evaluated(inner.jaxpr, inner.consts, own)
        else:
            raise _Kept
        values.update(zip(equation.outvars, results))
    return [value_of(atom) for atom in jaxpr.outvars]


def _write(equation: JaxprEqn, inputs: Sequence[Any]) -> tuple[Any, Any, tuple]:
    """The index vectors, what is written, and how."""
    p = equation.params
    if equation.primitive.name == "dynamic_update_slice":
        axes = tuple(range(inputs[1].ndim))
        numbers = lax.ScatterDimensionNumbers(axes, (), axes)
        return jnp.stack([jnp.asarray(each) for each in inputs[2:]]), inputs[1], (False, numbers, "clip")
    adds = equation.primitive.name == "scatter-add"
    if not adds and p["update_jaxpr"] is not None:
        raise _Kept
    return inputs[1], inputs[2], (adds, p["dimension_numbers"], p["mode"])


def _with_axis(how: tuple) -> tuple:
    """For index vectors and what is written with an axis of turns in front."""
    adds, numbers, mode = how
    onward = lambda axes: tuple(axis + 1 for axis in axes)
    return adds, numbers._replace(
        update_window_dims=onward(numbers.update_window_dims),
        scatter_indices_batching_dims=onward(numbers.scatter_indices_batching_dims),
    ), mode  # fmt: skip


def _put_down(written: _Written) -> Any:
    """The array with everything written. Only the first writes may put an end to what was there before."""
    array = written.array
    for k, (indices, updates, (adds, numbers, mode)) in enumerate(written.writes):
        put = lax.scatter_add if adds or k else lax.scatter
        array = put(array, indices, updates.astype(array.dtype), numbers, mode=mode)
    return array


def turns_of(length: int, equation: JaxprEqn) -> str:
    """What messages call a loop."""
    try:
        traceback: Any = equation.source_info.traceback
        frames = traceback.frames
        frame = next(each for each in frames if not _internal(each.file_name))
        return f"the loop of {length} turns at {frame.file_name}:{frame.line_num} ({frame.function_name})"
    except (AttributeError, StopIteration):
        return f"a loop of {length} turns"


def _internal(path: str) -> bool:
    return "/jax/" in path or "/equinox/" in path or path.startswith("<")
