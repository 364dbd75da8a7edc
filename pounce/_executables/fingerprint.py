"""Digests that are the same in every process: what a compiled program is filed under."""

import dataclasses
import enum
import functools
import hashlib
import os
import platform
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox
import jax
import jaxlib
import lineax
import numpy as np

from .._version import __version__


PACKAGE = Path(__file__).resolve().parent.parent
# What these packages define is told by their versions, or by our own sources. Of anything else a name says nothing.
KNOWN_PACKAGES = ("pounce", "builtins", "functools", "numpy", "jax", "jaxlib", "equinox", "lineax")


class UnknownError(TypeError):
    """A value whose contents cannot be told from its name."""


def fingerprint(*values: Any) -> str:
    """A digest (64 hexadecimal digits) of plain values, containers, arrays, records and what this package defines.

    **Raises:** `UnknownError` for anything else, such as an object of a class of the user's.
    """
    digest = hashlib.sha256()
    for part in _parts(values):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


@functools.singledispatch
def _parts(value: Any) -> Iterator[bytes]:
    if not dataclasses.is_dataclass(value):
        raise UnknownError(f"cannot tell what an object of {type(value).__module__}.{type(value).__qualname__} holds")
    yield from _record(value, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})


def _record(value: Any, contents: dict[str, Any]) -> Iterator[bytes]:
    yield _name(type(value))
    for name, each in contents.items():
        yield name.encode()
        yield from _parts(each)
    yield b"."


def _name(value: Any) -> bytes:
    """Where a class or function is defined."""
    module, name = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")
    if module.split(".")[0] not in KNOWN_PACKAGES or "<" in name:
        raise UnknownError(f"cannot tell what {module}.{name} does")
    return f"{module}.{name}".encode()


@_parts.register(type(None))
@_parts.register(bool)
@_parts.register(int)
@_parts.register(float)
@_parts.register(str)
@_parts.register(bytes)
def _(value: Any) -> Iterator[bytes]:
    if isinstance(value, enum.Enum):
        yield _name(type(value))
        value = value.value
    yield f"{type(value).__name__} {value!r}".encode()


@_parts.register(enum.Enum)
def _(value: enum.Enum) -> Iterator[bytes]:
    yield _name(type(value))
    yield value.name.encode()


@_parts.register(tuple)
@_parts.register(list)
def _(value: tuple | list) -> Iterator[bytes]:
    fields = getattr(value, "_fields", None)
    if fields is not None:
        yield from _record(value, dict(zip(fields, value)))
        return
    yield f"{type(value).__name__} {len(value)}".encode()
    for each in value:
        yield from _parts(each)


@_parts.register(dict)
def _(value: dict) -> Iterator[bytes]:
    yield f"dict {len(value)}".encode()
    for key, each in value.items():
        yield from _parts(key)
        yield from _parts(each)


@_parts.register(frozenset)
@_parts.register(set)
def _(value: frozenset | set) -> Iterator[bytes]:
    yield b"set"
    yield from _parts(sorted(fingerprint(each) for each in value))


@_parts.register(np.ndarray)
@_parts.register(np.generic)
@_parts.register(jax.Array)
def _(value: Any) -> Iterator[bytes]:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise UnknownError("cannot tell what an array of objects holds")
    yield f"array {array.dtype.str} {array.shape}".encode()
    yield array.tobytes()


@_parts.register(np.dtype)
def _(value: np.dtype) -> Iterator[bytes]:
    yield f"dtype {value.str}".encode()


@_parts.register(jax.ShapeDtypeStruct)
def _(value: jax.ShapeDtypeStruct) -> Iterator[bytes]:
    yield f"shape {value.dtype} {value.shape}".encode()


@_parts.register(jax.tree_util.PyTreeDef)
def _(value: Any) -> Iterator[bytes]:
    yield b"structure"
    yield from _parts(jax.tree.unflatten(value, range(value.num_leaves)))


@_parts.register(functools.partial)
def _(value: functools.partial) -> Iterator[bytes]:
    yield from _record(value, {"function": value.func, "arguments": value.args, "keywords": value.keywords})


@_parts.register(type)
@_parts.register(types.FunctionType)
@_parts.register(types.BuiltinFunctionType)
def _(value: Any) -> Iterator[bytes]:
    if getattr(value, "__closure__", None):
        raise UnknownError(f"cannot tell what {value.__qualname__} has closed over")
    yield _name(value)


def registered(kind: type, contents: str) -> None:
    """Let objects of a class be told by the value of one of their attributes."""

    @_parts.register(kind)
    def _(value: Any) -> Iterator[bytes]:
        yield from _record(value, {contents: getattr(value, contents)})


@functools.cache
def surroundings() -> str:
    """A digest of all that decides about a compiled program beside what it is made of: sources, versions, the processor."""
    return fingerprint(
        __version__,
        _sources(),
        [module.__version__ for module in (jax, jaxlib, equinox, lineax, np)],
        platform.python_implementation(),
        jax.devices()[0].client.platform_version,
        (platform.system(), platform.machine(), _processor()),
        os.environ.get("XLA_FLAGS", ""),
    )


def _sources() -> str:
    """A digest of the sources of this package, for its version need not change with them."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _processor() -> str:
    """What this processor is and can do, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.split(":")[0].strip() in told))
