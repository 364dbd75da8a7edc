"""Every Python block of the documentation runs, page by page, and what its comments say is true."""

import ast
import json
import re
import warnings
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import numpy as np
import pytest

import pounce


ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    if path.name != "options.md"  # generated, and without examples
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Blocks that are not run, by page: formulas and drawings, and code that needs more than a test has.
TEXT = {
    "convex.md": 2,  # signs; a program on many devices
    "derivatives.md": 2,  # optimality conditions and their linearisation
    "design.md": 0,
    "index.md": 1,  # the problem
    "training.md": 1,  # optax
}
# Functions of equal source text are one function on all pages, so that pages share compiled programs.
PURE = ("f", "g", "distance", "total")
_functions: dict[str, FunctionType] = {}


def blocks(path: Path) -> list[tuple[str, str]]:
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [("python", "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    return FENCE.findall(path.read_text(encoding="utf-8"))


def claimed(line: str) -> Any:
    """The value that a comment claims, up to a semicolon or colon; None where it is prose."""
    for text in (line, re.split(r"[;:]", line)[0]):
        try:
            return ast.literal_eval(text.strip())
        except (SyntaxError, ValueError):
            continue
    return None


def agrees(value: Any, claim: Any) -> bool:
    if isinstance(claim, tuple):
        return len(value) == len(claim) and all(map(agrees, value, claim))
    if isinstance(claim, (str, bool)) or claim is None:
        return bool(value == claim)
    return np.shape(value) == np.shape(claim) and np.allclose(np.asarray(value), claim, rtol=1e-3, atol=2e-3)


def run(source: str, names: dict[str, Any], page: str) -> int:
    """Runs a block; the number of values that were compared."""
    lines, compared = source.splitlines(), 0
    for node in ast.parse(source).body:
        code = compile(ast.Module([node], []), page, "exec")
        if not isinstance(node, ast.Expr):
            exec(code, names)
            if isinstance(node, ast.FunctionDef) and node.name in PURE:
                names[node.name] = _functions.setdefault(ast.dump(node), names[node.name])
            continue
        value = eval(compile(ast.Expression(node.value), page, "eval"), names)
        _, mark, comment = lines[(node.end_lineno or 0) - 1][node.end_col_offset or 0 :].partition("#")
        claim = claimed(comment) if mark else None
        if claim is not None:
            compared += 1
            assert agrees(value, claim), f"{page}: {ast.unparse(node)} is {value}, not {claim}"
    return compared


@pytest.fixture(autouse=True)
def not_the_users_cache(monkeypatch):
    monkeypatch.setattr(pounce.cache, "enable", lambda folder=None: folder)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_blocks_run_and_are_true(path, capsys):
    names: dict[str, Any] = {"__name__": path.stem}
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        for language, source in blocks(path):
            if language == "python":
                compared += run(source, names, path.name)
    assert jax.config.jax_enable_x64
    if any(language == "python" for language, _ in blocks(path)) and path.suffix == ".md":
        assert compared, "no comment of the page says what comes out"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_blocks_that_do_not_run_are_few_and_marked(path):
    languages = [language for language, _ in blocks(path)]
    assert set(languages) <= {"python", "text", "sh"}, "say what a block is: python is run, text is not"
    assert languages.count("text") == TEXT.get(path.name, 0)


def test_a_wrong_comment_is_seen():
    assert run("1 + 1  # 2\nabs(-3)  # three\n", {}, "page") == 1
    assert run("(1, 'a')  # 1, 'a'\n[0.1, 2]  # [0.1001, 2]; prose\n", {}, "page") == 2
    for wrong in ("1 + 1  # 3\n", "'a'  # 'b'\n", "[1, 2]  # [1]\n", "True  # False: never\n"):
        with pytest.raises(AssertionError):
            run(wrong, {}, "page")
