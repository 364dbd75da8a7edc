"""Arrays of a traced program that do not depend on its arguments, computed when somebody asks for them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun


def aval(atom: Any) -> Any:
    """What is known of a variable of a program before it runs; of arrays, the shape and type."""
    return atom.aval


def shape_of(atom: Any) -> tuple[int, ...]:
    return getattr(atom.aval, "shape", ())


def struct_of(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def differentiable(atom: Any) -> bool:
    """Whole numbers and truth values have no derivatives."""
    return hasattr(atom.aval, "dtype") and jnp.issubdtype(atom.aval.dtype, jnp.inexact)


def scan_parts(equation: JaxprEqn) -> tuple[int, int]:
    """Where among the operands of a scan those end that are the same in every turn, and where those that it carries.

    What is stacked, or gets stacked, has one axis more outside than inside; the rest is told apart by the results. (JAX has
    changed what else says so.)
    """
    body = equation.params["jaxpr"].jaxpr
    stacked, results = (
        sum(len(shape_of(outer)) > len(shape_of(inner)) for outer, inner in zip(outside, inside))
        for outside, inside in ((equation.invars, body.invars), (equation.outvars, body.outvars))
    )
    last = len(equation.invars) - stacked
    return last - (len(equation.outvars) - results), last


class Known:
    """An array that is the same for all arguments: `array()` computes it once, and answers None where that fails."""

    __slots__ = ("_compute", "_value")

    def __init__(self, compute: Callable[[], Any]):
        self._compute: Callable[[], Any] | None = compute
        self._value: np.ndarray | None = None

    @classmethod
    def of(cls, value: Any) -> "Known | None":
        """A constant of the program; None for what has no value yet, such as an argument of an outer transformation."""
        return None if isinstance(value, Tracer) else cls(lambda: value)

    def array(self) -> np.ndarray | None:
        if self._compute is not None:
            try:
                value = self._compute()
                self._value = None if value is None else np.asarray(value)
            except Exception:  # random keys have no array, some operations run on other devices only, ...
                self._value = None
            self._compute = None
        return self._value


class Varying(Known):
    """An array that is known in each turn of a loop, but not the same in all. `wanted` collects whether anybody asked."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: list[bool]):
        super().__init__(lambda: None)
        self.wanted = wanted

    def array(self) -> np.ndarray | None:
        self.wanted[0] = True
        return None


def constant(literal: Literal) -> Known:
    return Known(lambda: np.asarray(literal.val, aval(literal).dtype))


def evaluated(equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Known]) -> list[Known]:
    """The results of one operation on known arrays."""
    varying = next((each for each in inputs if isinstance(each, Varying)), None)
    if varying is not None:
        return [Varying(varying.wanted) for _ in equation.outvars]
    shared: list[Any] = []

    def compute() -> Sequence[Any]:
        if not shared:
            arrays = [each.array() for each in inputs]
            shared.append(None if any(each is None for each in arrays) else _evaluate(equation, jaxpr, arrays))
        return shared[0]

    def result(k: int) -> Callable[[], Any]:
        def pick():
            results = compute()
            return None if results is None else results[k]

        return pick

    return [Known(result(k)) for k in range(len(equation.outvars))]


def in_numpy(equation: JaxprEqn, arrays: Sequence[Any]) -> np.ndarray | None:
    """The result of one operation if it is of those that NumPy does as well, None otherwise."""
    simple = _NUMPY.get(equation.primitive.name)
    if simple is None:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(simple(*arrays, **equation.params), aval(equation.outvars[0]).dtype)


def _evaluate(equation: JaxprEqn, jaxpr: Jaxpr, arrays: Sequence[Any]) -> Sequence[Any]:
    simple = _NUMPY.get(equation.primitive.name)
    if simple is not None:
        return [in_numpy(equation, arrays)]
    with jax.ensure_compile_time_eval():
        function, which = as_function(equation, jaxpr)
        return function(*(arrays[k] for k in which))


def as_function(equation: JaxprEqn, jaxpr: Jaxpr) -> tuple[Callable[..., list[Any]], list[int]]:
    """One operation of a program as a function of some of its inputs, and which these are."""
    which: dict[Var, int] = {}
    for k, atom in enumerate(equation.invars):
        if not isinstance(atom, Literal):
            which.setdefault(atom, k)
    alone = Jaxpr([], list(which), list(equation.outvars), [equation], equation.effects, jaxpr.debug_info)
    return jaxpr_as_fun(ClosedJaxpr(alone, [])), list(which.values())


def _broadcast(operand, *_, shape, broadcast_dimensions, **__):
    between = np.ones(len(shape), int)
    between[list(broadcast_dimensions)] = operand.shape
    return np.broadcast_to(operand.reshape(between), shape)


def _reshape(operand, *, new_sizes, dimensions, **_):
    return (operand if dimensions is None else np.transpose(operand, dimensions)).reshape(new_sizes)


def _convert(operand, *, new_dtype, **_):
    return operand.astype(new_dtype)


def _select(which, *cases, **_):
    return np.choose(which.astype(int), cases) if len(cases) < 32 else None


def _slice(operand, *, start_indices, limit_indices, strides):
    strides = strides or (1,) * operand.ndim
    return operand[tuple(map(slice, start_indices, limit_indices, strides))]


def _iota(*, dtype, shape, dimension, **_):
    between = [1] * len(shape)
    between[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension], dtype=dtype).reshape(between), shape)


def _divide(a, b):
    if np.issubdtype(np.result_type(a, b), np.inexact):
        return np.divide(a, b)
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))  # whole numbers are rounded towards zero


def _numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arrays, **_: function(*arrays)


# What index arithmetic is made of, without starting a compiler for it.
_NUMPY: dict[str, Callable[..., Any]] = {
    "add": _numpy(np.add),
    "sub": _numpy(np.subtract),
    "mul": _numpy(np.multiply),
    "div": _numpy(_divide),
    "rem": _numpy(np.fmod),
    "neg": _numpy(np.negative),
    "abs": _numpy(np.abs),
    "floor": _numpy(np.floor),
    "square": _numpy(np.square),
    "sqrt": _numpy(np.sqrt),
    "exp": _numpy(np.exp),
    "sin": _numpy(np.sin),
    "cos": _numpy(np.cos),
    "and": _numpy(np.bitwise_and),
    "or": _numpy(np.bitwise_or),
    "not": _numpy(np.invert),
    "max": _numpy(np.maximum),
    "min": _numpy(np.minimum),
    "lt": _numpy(np.less),
    "le": _numpy(np.less_equal),
    "gt": _numpy(np.greater),
    "ge": _numpy(np.greater_equal),
    "eq": _numpy(np.equal),
    "ne": _numpy(np.not_equal),
    "clamp": _numpy(lambda low, x, high: np.minimum(np.maximum(x, low), high)),
    "copy": _numpy(lambda x: x),
    "stop_gradient": _numpy(lambda x: x),
    "select_n": _select,
    "convert_element_type": _convert,
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "slice": _slice,
    "reshape": _reshape,
    "squeeze": lambda operand, *, dimensions, **_: np.squeeze(operand, tuple(dimensions)),
    "transpose": lambda operand, *, permutation, **_: np.transpose(operand, permutation),
    "rev": lambda operand, *, dimensions, **_: np.flip(operand, dimensions),
    "concatenate": lambda *operands, dimension, **_: np.concatenate(operands, dimension),
}
