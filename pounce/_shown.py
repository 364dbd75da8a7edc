"""How results look when they are printed: their numbers, in few lines, whatever the size of what was solved."""

import collections
import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


SHOWN, FIRST, LAST = 8, 4, 2  # entries of a vector that are all shown; else so many at its ends


def numbers_of(value: Any) -> np.ndarray | None:
    """An array that can be looked at, in NumPy; None for a tracer, a donated array, or what is no array."""
    if isinstance(value, Tracer) or not isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return None
    if isinstance(value, jax.Array) and (value.is_deleted() or not value.is_fully_addressable):
        return None
    return np.asarray(value)


def abstract(value: Any) -> str:
    """A dtype and a shape: ``float64[3,4]``."""
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return type(value).__name__ if dataclasses.is_dataclass(value) else f"{value!r:.40}"
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def number(value: Any, digits: int = 6) -> str:
    """So many significant digits."""
    return f"{value:.{digits}g}" if np.issubdtype(np.asarray(value).dtype, np.inexact) else str(value)


def vector(values: np.ndarray) -> str:
    """``[1, 4.743, 3.82115, 1.37941]``; the ends of a long one; dtype and shape where there is more than one axis."""
    if values.ndim == 0:
        return number(values[()])
    if values.ndim > 1:
        return abstract(values)
    if values.size <= SHOWN:
        return f"[{', '.join(map(number, values))}]"
    first, last = (", ".join(map(number, part)) for part in (values[:FIRST], values[-LAST:]))
    return f"[{first}, ..., {last}] ({values.size} entries)"


def spread(values: np.ndarray, digits: int = 6) -> str:
    """A number per lane as the range of them, a verdict as how many say yes."""
    if values.size < 2:
        return number(values.item(), digits) if values.size else "none"
    if values.dtype == bool and not (values.all() or not values.any()):
        return f"{np.sum(values)} of {values.size}"
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if known.size == 0:
        return "nan"
    low, high = number(known.min(), digits), number(known.max(), digits)
    return low if low == high else f"{low} to {high}"


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def status_name(code: int, words: type[enum.IntEnum]) -> str:
    """The name of a status, or the number where it has none."""
    return words(code).name if code in words._value2member_map_ else str(code)


def lanes_of(status: np.ndarray, words: type[enum.IntEnum]) -> str:
    """How many lanes ended how, the most frequent end first."""
    count = collections.Counter(status.reshape(-1).tolist())
    named = [f"{many} {status_name(code, words)}" for code, many in count.most_common()]
    return f" of {status.size} lanes: {', '.join(named) or 'none'}"


def record(self: Any, words: type[enum.IntEnum] | None = None) -> str:
    """The ``repr`` of a record of arrays: its numbers if all of them can be looked at, else dtypes and shapes.

    Made to be a method. ``words``: the names of its ``status``, for a record that has one beside ``iterations``; it heads what
    is shown.
    """
    fields = {name: part for name, part in fields_of(self).items() if part is not None}
    name = type(self).__name__
    known = {key: numbers_of(part) for key, part in fields.items() if not dataclasses.is_dataclass(part)}
    if any(part is None for part in known.values()):
        return f"{name}({', '.join(f'{key}={abstract(part)}' for key, part in fields.items())})"
    if words is None:
        return f"{name}({', '.join(f'{key}={vector(part)}' for key, part in known.items() if part is not None)})"
    return "\n".join(_lines(name, fields, known, words))


def _lines(name: str, fields: dict[str, Any], known: dict[str, Any], words: type[enum.IntEnum]) -> Iterator[str]:
    status = known.pop("status")
    iterations = numbers_of(fields["stats"].iterations if "stats" in fields else known.pop("iterations"))
    turns = "iterations" if iterations is None else f"{spread(iterations)} iterations"
    ended = lanes_of(status, words) if status.ndim else f": {status_name(int(status), words)}"
    yield f"{name}{ended} in {turns}"
    width = max(map(len, fields)) + 2
    for key, part in fields.items():
        if key in known:
            shown = known[key]
            yield f"  {key:<{width}}{spread(shown) if shown.ndim == status.ndim else vector(shown)}"
        elif key == "multipliers":
            for inner, leaf in _known_parts(part):
                yield f"  {key:<{width}}{inner} {vector(leaf)}"
                key = ""
        elif key in ("residuals", "quality"):
            yield f"  {key:<{width}}{', '.join(f'{inner} {spread(leaf, 2)}' for inner, leaf in _known_parts(part))}"


def _known_parts(part: Any) -> list[tuple[str, np.ndarray]]:
    parts = ((name, numbers_of(leaf)) for name, leaf in fields_of(part).items())
    return [(name, leaf) for name, leaf in parts if leaf is not None]
