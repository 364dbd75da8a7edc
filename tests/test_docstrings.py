"""Every argument of a public callable, and every field of a public record, is named in its docstring."""

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pounce


MODULES = (pounce, pounce.jax, pounce.qp, pounce.cache, pounce.options)
# Written by Python or Equinox, or part of the protocol of a context manager.
NOT_OURS = {"__enter__", "__exit__", "__repr__", "__getstate__", "__setstate__"}
SECTION = re.compile(r"\*\*Arguments:\*\*(.*?)(?=\n\s*\*\*\w+:\*\*|\Z)", re.DOTALL)


def public() -> Iterator[tuple[str, Any]]:
    seen = set()
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and id(value) not in seen:
                seen.add(id(value))
                yield f"{module.__name__}.{name}", value


GENERATED = "<string>"  # the file that dataclasses say their `__init__` is from


def own_methods(owner: type) -> Iterator[tuple[str, Callable]]:
    """Functions that a class of ours defines for others to call; its ``__init__`` if it was written by hand."""
    for base in owner.__mro__:
        if not base.__module__.startswith("pounce"):
            continue
        for name, value in vars(base).items():
            value = getattr(value, "__func__", value)
            value = getattr(value, "method", value)  # Equinox wraps those of a module
            written = inspect.isfunction(value) and value.__code__.co_filename != GENERATED
            if written and name not in NOT_OURS and (not name.startswith("_") or name in ("__init__", "__call__")):
                yield name, value


def callables() -> Iterator[tuple[str, Callable]]:
    for name, value in public():
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and not issubclass(value, (Exception, enum.Enum)):
            yield from ((f"{name}.{method}", function) for method, function in own_methods(value))


def records() -> Iterator[tuple[str, type]]:
    for name, value in public():
        if inspect.isclass(value) and (dataclasses.is_dataclass(value) or hasattr(value, "_fields")):
            if "__init__" not in dict(own_methods(value)):  # else it is its arguments that are documented
                yield name, value


def named(text: str) -> set[str]:
    return {word for code in re.findall(r"`+([^`]+)`+", text) for word in re.findall(r"\w+", code)}


@pytest.mark.parametrize(("name", "function"), callables(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_argument_is_named(name, function):
    parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    text = inspect.getdoc(function) or ""
    assert text, f"{name} has no docstring"
    if parameters:
        section = SECTION.search(text)
        assert section, f"{name} has no **Arguments:**"
        missing = [p for p in parameters if p not in named(section[1])]
        assert not missing, f"{name} does not say what {missing} are"


@pytest.mark.parametrize(("name", "record"), records(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_is_named(name, record):
    fields = getattr(record, "_fields", None) or [field.name for field in dataclasses.fields(record)]
    missing = [field for field in fields if field not in named(inspect.getdoc(record) or "")]
    assert not missing, f"{name} does not say what {missing} are"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names(module):
    assert module.__doc__ and all(hasattr(module, name) for name in module.__all__)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert not [name for name in module.__all__ if name.startswith("_") and name != "__version__"]


def test_what_people_type_first():
    assert pounce.__version__.count(".") == 2 and callable(pounce.jax.solve)
    shown = {name for name in dir(pounce) if not name.startswith("__")}
    assert shown == set(pounce.__all__) - {"__version__"}
    assert {name for name in dir(pounce.jax) if not name.startswith("_")} == set(pounce.jax.__all__)


def test_the_reference_has_every_public_name():
    page = (Path(__file__).resolve().parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    elsewhere = {f"pounce.{name}" for name in ("cache", "jax", "options", "qp", "minimize_ipopt", "__version__")}
    public = {f"{module.__name__}.{name}" for module in (pounce, pounce.jax, pounce.cache) for name in module.__all__}
    assert public - elsewhere - listed == set()
    assert all(name in page for name in elsewhere - {"pounce.qp"})
