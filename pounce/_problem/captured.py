"""Functions that close over arrays which are being transformed: what they close over becomes data beside their parameters.

A solve inside of `jit`, `grad` or `vmap` may be of a function defined there. What it closes over is as much a variable of
whoever transforms as a parameter is, and must neither be taken for a constant nor stay in any cache.
"""

import collections
import functools
import types
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import AxisType
from jaxtyping import PyTree

from .._check import tracing
from .operations import Operations


# Objects looked at in search of an array: a function refers to a handful, and what refers to more is no closure.
MOST_OBJECTS = 3000
NO_ARRAYS = (type, types.ModuleType, types.BuiltinFunctionType, str, bytes, int, float, complex, np.ndarray, np.generic)


class Known:
    """Whole numbers or truth values that functions index or choose by: part of what they are. Equal by content."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self._key = array.dtype.str, array.shape, array.tobytes()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self._key == other._key


class Captured(eqx.Module):
    """A function ``(x, p) -> array`` of arguments like those it was traced with, and the arrays it closed over as leaves.

    Functions of the same operations differ in their leaves alone, so that they share what is compiled.
    """

    program: Operations = eqx.field(static=True)
    arrays: list[Any]
    known: tuple[Known | None, ...] = eqx.field(static=True)  # None where there is one of the arrays
    structure: Any = eqx.field(static=True)  # of the result

    def __call__(self, *arguments: PyTree) -> PyTree:
        arrays = iter(self.arrays)
        constants = [next(arrays) if each is None else jnp.asarray(each.array) for each in self.known]
        function = jaxpr_as_fun(ClosedJaxpr(self.program.jaxprs[0], constants))
        return jax.tree.unflatten(self.structure, function(*jax.tree.leaves(arguments)))


def captured(function: Any, *arguments: PyTree) -> Any:
    """The function, or if it closes over something that is being transformed a `Captured` one of arguments like these."""
    if function is None or not tracing() or not closes_over_tracers(function):
        return function
    anew = lambda *given: function(*given)  # JAX remembers what it has traced, and what that closed over
    closed, shapes = jax.make_jaxpr(anew, return_shape=True)(*arguments)
    if any(AxisType.Explicit in jax.typeof(each).sharding.mesh.axis_types for each in closed.consts):
        raise ValueError(
            "a function closes over an array on an explicit mesh that is being transformed: pass it on by `p`"
        )
    known = tuple(Known(np.asarray(each)) if _is_known(each) else None for each in closed.consts)
    arrays = [jnp.asarray(each) for each, constant in zip(closed.consts, known) if constant is None]
    program = Operations.or_itself(closed.jaxpr)
    return Captured(program, arrays, known, jax.tree.structure(shapes))


def _is_known(constant: Any) -> bool:
    whole = jnp.issubdtype(constant.dtype, jnp.integer) or jnp.issubdtype(constant.dtype, jnp.bool_)
    return whole and not isinstance(constant, Tracer)


def closes_over_tracers(function: Any) -> bool:
    """Whether anything is being transformed among what a callable refers to: by closure, default, attribute or argument of a
    `functools.partial` or method, in containers too. Arrays that are leaves of an equinox module are not closed over."""
    static = eqx.filter(function, eqx.is_array, inverse=True)
    waiting, seen = collections.deque([*jax.tree.leaves(static), *_code_of(function)]), set()
    while waiting and len(seen) < MOST_OBJECTS:
        each = waiting.popleft()
        if isinstance(each, Tracer):
            return True
        if id(each) not in seen and not isinstance(each, (*NO_ARRAYS, jax.Array)):
            seen.add(id(each))
            waiting.extend(_referred_to(each))
    return False


def _code_of(function: Any) -> Iterator[Any]:
    """What a module is called by, which is none of its leaves."""
    if isinstance(function, eqx.Module):
        yield getattr(function, "__func__", None)
        yield getattr(type(function), "__call__", None)


def _referred_to(each: Any) -> Iterator[Any]:
    if isinstance(each, types.FunctionType):
        for cell in each.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not bound yet
                pass
        yield from each.__defaults__ or ()
        yield from (each.__kwdefaults__ or {}).values()
        yield from _globals_of(each)
    elif isinstance(each, types.MethodType):
        yield from (each.__func__, each.__self__)
    elif isinstance(each, functools.partial):
        yield from (each.func, *each.args, *each.keywords.values())
    elif isinstance(each, dict):
        yield from each.values()
    elif isinstance(each, (list, tuple, set, frozenset)):
        yield from each
    else:
        yield from getattr(each, "__dict__", {}).values()
        yield from (getattr(each, name, None) for name in _slots(type(each)))
        if callable(each):
            yield getattr(type(each), "__call__", None)


def _globals_of(function: types.FunctionType) -> Iterator[Any]:
    """What the code of a function names in its module, and functions of that module in turn."""
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes.extend(each for each in code.co_consts if isinstance(each, types.CodeType))
        for value in map(function.__globals__.get, code.co_names):
            if getattr(value, "__globals__", function.__globals__) is function.__globals__:
                yield value


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
