"""Checks of what users hand in: Python errors that name the argument, what came and what was expected."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_context
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array


with eval_context():
    _NO_TRACE = get_opaque_trace_state()


def is_concrete(data: Any) -> bool:
    """Whether the numbers of a pytree can be looked at now: no transformation is at work on them."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(data))


def tracing() -> bool:
    """Whether a transformation is at work, on whatever numbers: only then can there be any that are being transformed."""
    return get_opaque_trace_state() != _NO_TRACE


def at_top_level(data: Any) -> bool:
    """Whether a compiled program called with these arrays runs now, as a program of its own: their numbers can be looked at, and
    operations on such numbers are not written down for somebody else's program."""
    return is_concrete(data) and runs_now()


def runs_now() -> bool:
    """Whether operations run as they are called, whatever else is done to their numbers: they are not written down for somebody
    else's program."""
    return not (tracing() and isinstance(jnp.zeros(()), Tracer))


def vector(value: Any, name: str, *, length: int | None = None, dtype=None) -> Array:
    """``value`` as a one-dimensional float array."""
    try:
        # NumPy for whatever is not on a device yet: a conversion there costs as much as a small solve.
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array of real numbers, got {type(value).__name__}") from error
    if array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be real, got dtype {array.dtype}")
    if array.ndim != 1:
        hint = f" of length {length}" if length is not None else ""
        raise ValueError(f"`{name}` must be a one-dimensional array{hint}, got shape {array.shape}")
    if length is not None and array.shape[0] != length:
        raise ValueError(f"`{name}` must have length {length}, got shape {array.shape}")
    if dtype is None:
        dtype = array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else jnp.result_type(float)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return cast(Array, strong(array if array.dtype == dtype else array.astype(dtype)))


def real_array(value: Any, name: str, must: str = "return") -> np.ndarray:
    """``value`` as a new float64 array of NumPy; a `TypeError` that says what ``name`` must if it is not made of real numbers."""
    try:
        array = np.asarray(value)
        # NumPy would turn None into NaN, drop imaginary parts and read numbers out of text.
        if value is None or array.dtype.kind in "cUSmM":
            raise TypeError
        return np.array(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must {must} real numbers, got {value!r:.60}") from error


def strong(array: Any) -> Any:
    """Without JAX's weak type, which would be another signature to a compiled function (``jnp.full`` makes it)."""
    return array.astype(array.dtype) if getattr(array, "weak_type", False) else array


def start_point(value: Any, name: str = "x0") -> Array:
    """A finite, non-empty vector."""
    array = vector(value, name)
    if array.shape[0] == 0:
        raise ValueError(f"`{name}` is empty: there is nothing to solve for")
    if is_concrete(array):
        finite_start(np.asarray(array), name)
    return array


def finite_start(array: np.ndarray, name: str = "x0") -> None:
    """Raises `ValueError` naming the first entry that is not finite."""
    if not np.all(np.isfinite(array)):
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"`{name}[{index}]` is {array[index]}; a starting point must be finite")


def no_nan(array: np.ndarray, name: str) -> None:
    """Raises `ValueError` naming the first bound that is NaN."""
    if np.any(np.isnan(array)):
        index = int(np.flatnonzero(np.isnan(array))[0])
        raise ValueError(f"`{name}[{index}]` is NaN; use -inf or inf where there is no bound")


def bound_pair(lower: Any, upper: Any, names: tuple[str, str], length: int, dtype) -> tuple[Array, Array]:
    """Lower and upper bounds, infinite where not given; a scalar stands for every entry."""
    pair = []
    for value, name, default in ((lower, names[0], -np.inf), (upper, names[1], np.inf)):
        if value is None:
            value = np.full(length, default)
        elif isinstance(value, jax.Array) and value.ndim == 0:
            value = jnp.broadcast_to(value, (length,))
        elif not isinstance(value, jax.Array) and np.ndim(value) == 0:
            value = np.full(length, value)
        pair.append(vector(value, name, length=length, dtype=dtype))
        if is_concrete(pair[-1]):
            no_nan(np.asarray(pair[-1]), name)
    low, high = pair
    if is_concrete(low) and is_concrete(high):
        reversed_at = np.flatnonzero(np.asarray(low) > np.asarray(high))
        if reversed_at.size:
            i = int(reversed_at[0])
            raise ValueError(
                f"`{names[0]}[{i}]` = {np.asarray(low)[i]} exceeds `{names[1]}[{i}]` = {np.asarray(high)[i]}"
            )
    return low, high


def function(value: Any, name: str, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not callable(value):
        raise TypeError(f"`{name}` must be callable, got {type(value).__name__}")


def functions(f: Any, g: Any, m: int) -> None:
    """An objective, and rows where ``m`` of them were announced."""
    function(f, "f")
    function(g, "g", optional=True)
    if m > 0 and g is None:
        raise ValueError(f"`g` is missing: m = {m} rows were announced")


def output_shape(value: Any, name: str, expected: tuple[int, ...] | None, dtype) -> tuple[int, ...]:
    """Shape of what a user function returns, from its abstract value."""
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or not hasattr(leaves[0], "shape"):
        raise TypeError(f"`{name}` must return one array, got {value}")
    leaf = leaves[0]
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise TypeError(f"`{name}` must return real numbers, got dtype {leaf.dtype}")
    if expected is not None and leaf.shape != expected:
        what = "a scalar" if expected == () else f"shape {expected}"
        raise ValueError(f"`{name}` must return {what}, got shape {leaf.shape}")
    return leaf.shape
