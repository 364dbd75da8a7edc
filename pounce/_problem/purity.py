"""Whether calling a Python function leaves something behind: a counter, a log, a cache."""

import collections
import functools
import types
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np


_MOST_OBJECTS = 2000
_MOST_ELEMENTS = 100
_MOST_BYTES = 1 << 20
_CONTAINERS = (list, tuple, set, frozenset, dict, collections.deque)


def footprint(function: Callable) -> list[Any]:
    """What a function can reach and change: closure, defaults, globals it names, attributes of its object, and contents of
    containers among them. Two footprints of an unchanged state compare equal by `same_footprint`.

    A bounded look, not a proof: what lies deeper, and what happens outside of Python, is not seen.
    """
    found: list[Any] = []
    seen: set[int] = set()
    queue: collections.deque[Any] = collections.deque([function])
    while queue and len(found) < _MOST_OBJECTS:
        thing = queue.popleft()
        found.append(thing)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            found.append(_checksum(thing))
        else:
            try:
                queue.extend(_reachable(thing))
            except Exception:  # an object that does not let itself be looked at may do anything
                found.append(object())
    return found


def same_footprint(before: list[Any], after: list[Any]) -> bool:
    """Objects are compared by identity, lengths and checksums by value."""
    return len(before) == len(after) and all(a is b or (type(a) is _Number and a == b) for a, b in zip(before, after))


class _Number(int):
    """Compared by value."""


def _checksum(array: np.ndarray) -> _Number:
    if array.dtype.hasobject or array.nbytes > _MOST_BYTES:
        return _Number(array.size)
    return _Number(zlib.crc32(array.tobytes()))


def _reachable(thing: Any) -> list[Any]:
    if isinstance(thing, types.FunctionType):
        return [*_cells(thing), *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values(), *_globals(thing)]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, _CONTAINERS):
        elements = list(thing.values()) if isinstance(thing, dict) else list(thing)
        # The length is an element of its own, so that what is cut off still counts.
        return [_Number(len(elements)), *elements[:_MOST_ELEMENTS], *elements[_MOST_ELEMENTS:][-_MOST_ELEMENTS:]]
    if isinstance(thing, (type, types.ModuleType)):
        return []
    inside = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    if callable(thing):
        inside.append(getattr(type(thing), "__call__", None))
    return inside


def _cells(function: types.FunctionType) -> list[Any]:
    contents = []
    for cell in function.__closure__ or ():
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # not filled yet
            contents.append(None)
    return contents


def _globals(function: types.FunctionType) -> list[Any]:
    codes, names = [function.__code__], []
    for code in codes:
        names.extend(code.co_names)
        codes.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return [function.__globals__[name] for name in names if name in function.__globals__]
