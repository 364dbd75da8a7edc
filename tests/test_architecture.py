"""The house rules that a machine can check: floors, file sizes, and what importing the package costs."""

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


PACKAGE = Path(__file__).resolve().parent.parent / "pounce"
MAX_LINES = 400

# Bottom to top. A room is a file or folder directly in `pounce/`; it may import from its own floor and from those
# below. A room that is not built yet costs nothing. Public rooms not named here are doors and live on the top floor.
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "ground",
        (
            "_version",
            "_types",
            "_results",
            "_shown",
            "_waiting",
            "_solution",
            "_check",
            "_choose",
            "_compile",
            "_executables",
            "_weak",
            "_packing",
            "_records",
            "_table",
            "_lanes",
            "_meshes",
            "_once",
            "_stopwatch",
        ),
    ),
    ("matrices", ("_linalg",)),
    ("problems", ("_problem",)),
    ("solvers", ("_interior", "_conic", "_cone")),
    ("drivers", ("_adjoint", "_solve", "_program", "_anchor", "_called", "_conic_solve", "_reverse")),
    (
        "native doors",
        (
            "_option_table",
            "_option_specs",
            "_cone_spec",
            "_convex_arguments",
            "_quadratic_form",
            "_sparse_arguments",
            "options",
            "nlp",
            "conic",
        ),
    ),
    ("host doors' common part", ("_host_solve", "_qp", "_current", "_derivative_test", "_report", "_scipy")),
    ("problem door", ("problem",)),
    ("doors", ("jax", "torch", "_minimize", "qp", "sensitivity", "curve_fit", "minima", "sos", "nl", "cli")),
)
TOP = len(FLOORS) - 1
LEVEL = {room: level for level, (_, rooms) in enumerate(FLOORS) for room in rooms}

# Neighbours on one floor that must not know each other: (who, whom).
STRANGERS = {("_interior", "_conic"), ("_conic", "_interior"), ("_cone", "_conic"), ("_cone", "_interior")}

# Heavy or optional packages that `import pounce` must leave alone.
NOT_AT_IMPORT = ("torch", "scipy.optimize", "sympy")

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def room_of(module: str) -> str | None:
    """The room a dotted name below `pounce` lies in; `None` for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def level_of(room: str) -> int:
    return LEVEL.get(room, TOP)


def is_room(name: str) -> bool:
    return name in LEVEL or (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def module_name(path: Path) -> tuple[str, bool]:
    """The dotted name of a source file, and whether it is a package."""
    parts = ["pounce", *path.relative_to(PACKAGE).with_suffix("").parts]
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]), True
    return ".".join(parts), False


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yields `(line, dotted name)` for every import from `pounce`, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "pounce":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = module.split(".")
                base = parts[: len(parts) - node.level + is_package]
                source = ".".join(base + (node.module.split(".") if node.module else []))
            else:
                source = node.module or ""
            if source == "pounce":
                # `from pounce import name` is an import of the room `name` where there is one.
                for alias in node.names:
                    yield node.lineno, f"pounce.{alias.name}" if is_room(alias.name) else "pounce"
            elif source.startswith("pounce."):
                yield node.lineno, source


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of one file, in words."""
    room = room_of(module)
    if room is None:
        return []
    level = level_of(room)
    found = []
    for line, target in imported_modules(ast.parse(source), module, is_package):
        other = room_of(target)
        if other is None:
            if level < TOP:
                found.append(f"line {line}: imports the package root; import the room that defines the name")
        elif level_of(other) > level:
            found.append(f"line {line}: {room} ({FLOORS[level][0]}) imports {other} ({FLOORS[level_of(other)][0]})")
        elif (room, other) in STRANGERS:
            found.append(f"line {line}: {room} must not know {other}")
    return found


def child(code: str) -> str:
    """Runs `code` in a fresh interpreter without any JAX setting inherited from this one."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    environment.setdefault("JAX_PLATFORMS", "cpu")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def identify(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_imports_point_down(path):
    assert violations(path.read_text(encoding="utf-8"), *module_name(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_files_are_small(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: split it"


def test_private_rooms_have_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    homeless = {room for room in rooms if room.startswith("_") and room != "__init__"} - LEVEL.keys()
    assert not homeless, f"add to FLOORS: {sorted(homeless)}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pounce._linalg.dense", "from .._problem import nlp"),
        ("pounce._linalg.dense", "from .. import _problem"),
        ("pounce._linalg.dense", "from pounce._problem.nlp import NLP"),
        ("pounce._linalg.dense", "import pounce._problem"),
        ("pounce._results", "from ._linalg.dense import solve"),
        ("pounce._interior.solver", "from .._conic.solver import step"),
        ("pounce._conic.solver", "def late():\n    from .._interior import filter"),
        ("pounce._cone.zero", "from .._conic import solver"),
        ("pounce._adjoint.rule", "from .. import options"),
        ("pounce._adjoint", "from pounce import NLP"),
        ("pounce.nlp", "from .jax import solve"),
        ("pounce.options", "from .some_new_door import thing"),
    ],
)
def test_the_checker_sees_what_is_wrong(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pounce._linalg.dense", "import jax\nfrom jax import numpy\nfrom .kkt import KKTOperator"),
        ("pounce._problem.nlp", "from .._linalg import kkt\nfrom .._types import inf_norm"),
        ("pounce._conic.solver", "from .._cone.base import AbstractCone"),
        ("pounce._solve", "from ._adjoint import ImplicitAdjoint\nfrom . import _types"),
        ("pounce.jax._solve", "import pounce\nfrom ..options import parse\nfrom .._minimize import minimize"),
    ],
)
def test_the_checker_lets_pass_what_is_right(module, source):
    assert violations(source, module) == []


def test_a_package_resolves_its_own_siblings():
    assert violations("from .solver import step", "pounce._interior", is_package=True) == []
    assert len(violations("from .._conic import solver", "pounce._interior", is_package=True)) == 1


def test_import_is_light():
    code = f"import sys, pounce; print(*(name for name in {NOT_AT_IMPORT!r} if name in sys.modules))"
    assert child(code) == ""


# Rooms whose records can be read at a glance: few fields, and where one is built each is named.
READABLE = ("_interior", "_conic", "_cone")
MOST_FIELDS, MOST_BY_POSITION = 8, 4
# The tables of options, and what a door returns.
LONG_RECORDS = {"Numbers", "Choices", "ConicSolution"}


def records(tree: ast.AST) -> dict[str, int]:
    """The classes of a file with fields, and how many."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {node.name: sum(isinstance(part, ast.AnnAssign) for part in node.body) for node in classes}


def unreadable(tree: ast.AST, known: set[str]) -> list[str]:
    """Records of a file that have too many fields, and where one of the ``known`` is built by position from too many values."""
    wrong = [name for name, count in records(tree).items() if count > MOST_FIELDS and name not in LONG_RECORDS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
            if len(node.args) > MOST_BY_POSITION:
                wrong.append(f"{node.lineno}: {node.func.id} by position")
    return wrong


def test_records_can_be_read_at_a_glance():
    trees = {path: ast.parse(path.read_text()) for path in SOURCES if path.relative_to(PACKAGE).parts[0] in READABLE}
    returned = ast.parse((PACKAGE / "_solution.py").read_text())
    known = {name for tree in (*trees.values(), returned) for name, count in records(tree).items() if count}
    found = {path.name: unreadable(tree, known) for path, tree in trees.items()}
    assert not {name: wrong for name, wrong in found.items() if wrong}
    fields = "\n".join(f"    f{k}: int" for k in range(9))
    assert unreadable(ast.parse(f"class A:\n{fields}\nA(1, 2, 3, 4, 5)"), {"A"}) == ["A", "11: A by position"]


@pytest.mark.parametrize("name", ["pounce", "pounce.jax"])
def test_import_leaves_precision_alone(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not built yet")
    code = (
        "import importlib, jax\n"
        "before = jax.config.jax_enable_x64\n"
        f"importlib.import_module({name!r})\n"
        "print(before, jax.config.jax_enable_x64)"
    )
    assert child(code) == "False False"
