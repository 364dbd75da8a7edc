"""Why JAX does not take the derivatives of a function, in words for the person who wrote it."""

import linecache
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from .._problem.tracing import MOST_FOR_GRADIENTS, operations, trace


_ELSEWHERE = tuple(str(Path(str(file)).parent) for file in (jax.__file__, np.__file__, Path(__file__).parent))

LEAVES_SOMETHING = "a call changes what the function can reach (a counter, a log, a cache)"
OTHER_VALUES = "traced by JAX it has other values (it may be random, or depend on more than x)"
NO_RULE = "JAX has no derivative of one of its operations"
KINK = "its derivative by JAX is not finite at the starting point, though its value is (a kink, or 0 * inf); its values are JAX's"


def traced_or_why(function: Callable[[Any], Any], n: int, size: int) -> tuple[ClosedJaxpr | None, str]:
    """The operations of a function with ``size`` values, or None and why there are none to be used."""
    try:
        traced = trace(function, n)
    except Exception as error:  # anything at all: tracing runs code that was not written for it
        return None, _stumbled(error)
    if traced.out_avals[0].shape != (size,):
        return None, f"traced by JAX it has {traced.out_avals[0].shape[0]} values, called it has {size}"
    count = operations(traced.jaxpr)
    if count > MOST_FOR_GRADIENTS:
        return None, f"it has {count} operations, too many to compile (write loops by lax.scan, or with arrays)"
    return traced, ""


def _stumbled(error: Exception) -> str:
    if isinstance(error, jax.errors.TracerArrayConversionError):
        what = "it hands what JAX traces to code that wants numbers (NumPy: write jax.numpy)"
    elif isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError)):
        what = "it asks for the number behind what JAX traces (float(), int(), a comparison in `if`)"
    elif isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        what = "it indexes by a condition on what JAX traces (write jnp.where)"
    else:
        first = (str(error).strip().splitlines() or [""])[0]
        what = f"tracing it raises {type(error).__name__}" + (f": {first:.120}" if first else "")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_ELSEWHERE):
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            return what + f", {Path(frame.filename).name} line {frame.lineno}" + (f": {line:.80}" if line else "")
    return what
