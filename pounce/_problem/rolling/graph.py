"""A traced program as a graph: calls opened, nothing twice, parts of arrays told apart by where they lie."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from ..operations import parameter_key
from ..sparsity.known import in_numpy
from .values import Given, Kind, Node, Number, Result, Value, View, Window


LARGEST_CONSTANT = 10_000  # elements of arrays that opened calls close over
MOST_INDICES = 16  # that are computed with while a program is read


def called(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The program of an operation that does nothing but call it."""
    if equation.primitive.name not in ("jit", "pjit", "closed_call"):
        return None
    inner, p = equation.params.get("jaxpr"), equation.params
    given = (
        *p.get("in_shardings", ()),
        *p.get("out_shardings", ()),
        *p.get("in_layouts", ()),
        *p.get("out_layouts", ()),
    )
    if not isinstance(inner, ClosedJaxpr) or any(p.get("donated_invars", ())):
        return None
    if any(each.size > LARGEST_CONSTANT for each in inner.consts) or not is_plain(inner.jaxpr):
        return None
    placed = any(type(each).__name__ != "UnspecifiedValue" and each is not None for each in given)
    return None if placed else inner


def size_of(jaxpr: Jaxpr, known: dict[int, int] | None = None) -> int:
    """How many operations there are, calls opened."""
    known = {} if known is None else known
    if id(jaxpr) not in known:
        inner = (called(equation) for equation in jaxpr.eqns)
        known[id(jaxpr)] = sum(1 if each is None else size_of(each.jaxpr, known) for each in inner)
    return known[id(jaxpr)]


def kind_of(atom: Any) -> Kind:
    return Kind(tuple(atom.aval.shape), atom.aval.dtype)


class Graph:
    """Read from a program; `values` and `nodes` by number, `results` of nodes and `outputs` of the program as values."""

    def __init__(self, jaxpr: Jaxpr, known: dict[Var, np.ndarray]):
        """``known``: constants that count as numbers of the program."""
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.results: list[tuple[int, ...]] = []
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[Hashable, Any] = {}
        self._made: dict[int, tuple[JaxprEqn, Sequence[int]]] = {}  # how values came to another shape
        self.constants: list[tuple[int, np.ndarray]] = []  # that opened calls close over, with the number of the value
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        places = {variable: self._new(Given(kind_of(variable))) for variable in inputs}
        places.update((variable, self.number(array)) for variable, array in known.items())
        self.outputs = self._read(jaxpr, places)

    def kind(self, value: int) -> Kind:
        return self.values[value].kind

    def base(self, value: int) -> int:
        """The argument, constant or result that a value is or is a part of."""
        held = self.values[value]
        return held.base if isinstance(held, View) else value

    def window(self, value: int) -> Window:
        """Which part of its base."""
        held = self.values[value]
        return held.window if isinstance(held, View) else Window.whole(held.kind.shape)

    def _new(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _once(self, key: Hashable, value: Value) -> int:
        if key not in self._numbers:
            self._numbers[key] = self._new(value)
        return self._numbers[key]

    def number(self, array: np.ndarray) -> int:
        key = "number", array.dtype, array.shape, array.tobytes()
        return self._once(key, Number(Kind(array.shape, array.dtype), array))

    def _constant(self, given: Any) -> int:
        array = np.asarray(given)
        key = "constant", array.dtype, array.shape, array.tobytes()
        if key not in self._numbers:
            self._numbers[key] = self._new(Given(Kind(array.shape, array.dtype)))
            self.constants.append((self._numbers[key], array))
        return self._numbers[key]

    def view(self, base: int, window: Window, shape: tuple[int, ...]) -> int:
        kind = Kind(shape, self.kind(base).dtype)
        if kind == self.kind(base) and window == Window.whole(shape):
            return base
        return self._once(("view", base, window, shape), View(kind, base, window))

    def _atom(self, atom: Any, places: dict[Any, int]) -> int:
        if not isinstance(atom, Literal):
            return places[atom]
        return self.number(np.asarray(atom.val, kind_of(atom).dtype))

    def _read(self, jaxpr: Jaxpr, places: dict[Any, int]) -> list[int]:
        for equation in jaxpr.eqns:
            own = [self._atom(atom, places) for atom in equation.invars]
            inner = called(equation)
            if inner is not None:
                given = [*map(self._constant, inner.consts), *own]
                results = self._read(inner.jaxpr, dict(zip([*inner.jaxpr.constvars, *inner.jaxpr.invars], given)))
            else:
                results = self._moved(equation, own) or self._node(equation, own)
            places.update(zip(equation.outvars, results))
        return [self._atom(atom, places) for atom in jaxpr.outvars]

    def _node(self, equation: JaxprEqn, own: Sequence[int]) -> Sequence[int]:
        name = equation.primitive.name
        if all(isinstance(self.values[each], Number) for each in own) and (folded := self._folded(equation, own)):
            return folded
        key = self._operation(equation)
        same = self._known.get((key, *own))
        if same is not None:
            return same
        axis, how = 0, "operation"
        operands = tuple(own)
        if name == "concatenate":
            how, axis = "join", equation.params["dimension"]
        elif name == "stack":
            how, axis = "join", equation.params["axis"]
            operands = tuple(self._reshaped(each, _with_axis(self.kind(each).shape, axis)) for each in own)
        results = tuple(self._new(Result(kind_of(v), len(self.nodes), k)) for k, v in enumerate(equation.outvars))
        self.nodes.append(Node(how, equation, operands, key, (), axis))
        self.results.append(results)
        self._known[key, *own] = results
        return results

    def _operation(self, equation: JaxprEqn) -> Hashable:
        """What it does. Operations that cannot be compared are like no other."""
        types = tuple(map(kind_of, equation.outvars))
        try:
            given = tuple((name, parameter_key(value)) for name, value in equation.params.items())
            key = equation.primitive, given, types, equation.ctx
            hash(key)
        except TypeError:
            return equation.primitive, id(equation)
        return key

    def _folded(self, equation: JaxprEqn, own: Sequence[int]) -> Sequence[int]:
        """Arithmetic with indices that are known."""
        out = kind_of(equation.outvars[0])
        whole = out.dtype == bool or np.issubdtype(out.dtype, np.integer)
        if len(equation.outvars) != 1 or out.size > MOST_INDICES or not whole:
            return ()
        array = in_numpy(equation, [getattr(self.values[each], "array") for each in own])
        return () if array is None else (self.number(array),)

    def _moved(self, equation: JaxprEqn, own: Sequence[int]) -> Sequence[int]:
        """The results of an operation that takes a part of an array as it is; none of any other."""
        name, p = equation.primitive.name, equation.params
        if p.get("sharding") is not None or not own:
            return ()
        shape = self.kind(own[0]).shape
        if name in ("squeeze", "reshape", "broadcast_in_dim"):
            out = kind_of(equation.outvars[0])
            if (
                len(own) > 1
                or out.size != self.kind(own[0]).size
                or p.get("dimensions") is not None
                and name == "reshape"
            ):
                return ()
            result = self._reshaped(own[0], out.shape)
            self._made.setdefault(result, (equation, own))
            return (result,)
        if isinstance(self.values[own[0]], Number):
            return ()
        if name == "slice":
            starts, ends, strides = p["start_indices"], p["limit_indices"], p["strides"] or (1,) * len(shape)
            sizes = tuple(max(0, -(-(end - start) // by)) for start, end, by in zip(starts, ends, strides))
            parts = [(Window(tuple(starts), sizes, tuple(strides)), sizes)]
        elif name == "dynamic_slice":
            at = [self.values[each] for each in own[1:]]
            if not all(isinstance(each, Number) for each in at) or len(at) != len(shape):
                return ()
            sizes = tuple(p["slice_sizes"])
            starts = (int(getattr(each, "array")) for each in at)
            starts = tuple(min(max(start, 0), n - size) for start, n, size in zip(starts, shape, sizes))
            parts = [(Window(starts, sizes, (1,) * len(shape)), sizes)]
        elif name in ("split", "unstack"):
            axis = p["axis"] % len(shape)
            many = p["sizes"] if name == "split" else (1,) * shape[axis]
            parts = []
            for start, size in zip(np.cumsum([0, *many]), many):
                sizes = (*shape[:axis], size, *shape[axis + 1 :])
                starts = (*(0,) * axis, int(start), *(0,) * (len(shape) - axis - 1))
                whole = sizes if name == "split" else (*shape[:axis], *shape[axis + 1 :])
                parts.append((Window(starts, sizes, (1,) * len(shape)), whole))
        else:
            return ()
        value, window = own[0], self.window(own[0])
        if not all(all(part.sizes) for part, _ in parts):
            return ()
        if not _same_but_ones(window.sizes, shape):  # parts of a part in another shape are no parts of the whole
            if value not in self._made:
                return ()
            (value,) = self._node(*self._made[value])
            window = self.window(value)
        parts = [(window.inner(part.moved(shape, window.sizes)), whole) for part, whole in parts]
        return tuple(self.view(self.base(value), part, whole) for part, whole in parts)

    def _reshaped(self, value: int, shape: tuple[int, ...]) -> int:
        held = self.values[value]
        if isinstance(held, Number):
            return value if held.kind.shape == shape else self.number(held.array.reshape(shape))
        return self.view(self.base(value), self.window(value), shape)


def _same_but_ones(sizes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return [size for size in sizes if size != 1] == [size for size in shape if size != 1]


def _with_axis(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis:])


def is_plain(jaxpr: Jaxpr) -> bool:
    """Whether all that a program takes and makes are arrays, of numbers, on no mesh, without effects."""
    if jaxpr.effects:
        return False
    variables = [*jaxpr.constvars, *jaxpr.invars, *(v for equation in jaxpr.eqns for v in equation.outvars)]
    return all(map(_plain, {id(v.aval): v.aval for v in variables}.values()))


def _plain(aval: Any) -> bool:
    if (
        not hasattr(aval, "dtype")
        or not hasattr(aval, "shape")
        or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended)
    ):
        return False
    if getattr(aval, "vma", None) or not all(isinstance(size, int) for size in aval.shape):
        return False
    sharding: Any = getattr(aval, "sharding", None)
    return sharding is None or all(each is None for each in sharding.spec) and math.prod(sharding.mesh.axis_sizes) == 1
