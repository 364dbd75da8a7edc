"""What the entries of a Jacobian are like at a point that nothing distinguishes: what static pivots are chosen by."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from .._linalg.hints import FirstSeen, PivotHints
from .._linalg.sparse import Pattern
from .coloring import Coloring
from .compressed import sparse_jacobian


FAR = 0.1  # how far from the start, relative to its distance from the bounds or to its size
SMALLEST = 1e-8  # of the largest in the row: what is zero here need not be so elsewhere


def typical_jacobian(
    rows: Callable, coloring: Coloring, x0: Any, lb: Any, ub: Any, *arguments: PyTree
) -> np.ndarray | None:
    """Magnitudes of the entries of the Jacobian of ``rows(x, *arguments)`` near ``x0``, in the order of the pattern.

    At the start itself many an entry vanishes, or equals another one. Numbers that are being transformed (`jit`, `vmap`) are
    replaced by some of order one. None where nothing finite comes out, or if the function closes over such numbers.
    """
    random = np.random.default_rng(0)

    def known(leaf, otherwise):
        return np.asarray(otherwise, leaf.dtype) if isinstance(leaf, Tracer) else np.asarray(leaf)

    def number(leaf):
        return known(leaf, random.uniform(0.5, 1.5, leaf.shape))

    n = x0.shape[0]
    start = known(x0, np.zeros(n))
    point = near(start, known(lb, np.full(n, -np.inf)), known(ub, np.full(n, np.inf)), random).astype(x0.dtype)
    try:
        with jax.ensure_compile_time_eval():
            evaluate = jax.jit(lambda x, rest: sparse_jacobian(lambda x: rows(x, *rest), x, coloring).values)
            values = evaluate(point, jax.tree.map(number, arguments))
        if isinstance(values, Tracer):
            return None
        values = np.asarray(values, float)
    except jax.errors.JAXTypeError:
        return None
    return magnitudes(values, coloring.pattern)


def magnitudes(values: np.ndarray, pattern: Pattern) -> np.ndarray:
    """What entries may be like elsewhere: none vanishes, and what is not finite is like the largest of the row."""
    values = np.abs(values)
    finite = np.isfinite(values)
    largest = np.zeros(pattern.shape[0])
    np.maximum.at(largest, pattern.rows, np.where(finite, values, 0.0))
    largest = np.where(largest > 0, largest, 1.0)[pattern.rows]
    return np.maximum(np.where(finite, values, largest), SMALLEST * largest)


def near(x: np.ndarray, lb: np.ndarray, ub: np.ndarray, random: np.random.Generator, far: float = FAR) -> np.ndarray:
    """A point close to ``x`` within the bounds, different in every variable that is free to differ."""
    room = np.minimum(ub - lb, 1.0 + np.abs(x))
    inside = np.clip(x, lb + far * room, ub - far * room)
    moved = np.clip(inside + far * room * random.uniform(-1.0, 1.0, x.size), lb, ub)
    return np.where(np.isfinite(moved), moved, np.where(np.isfinite(x), x, 0.0))


_first_hints: FirstSeen[PivotHints] = FirstSeen(256)


def pivot_hints(
    key: tuple, rows: Callable, coloring: Coloring, x0: Any, bounds: tuple, *arguments: PyTree
) -> PivotHints:
    """Hints for the pivots of a program, the same for all its numbers once some have been looked at: ``key`` says which it is,
    ``bounds`` are ``(lb, ub, cl, cu)``, and the rows are ``rows(x, *arguments)``.

    Hints need only be good ones, and those of other numbers are.
    """

    def make() -> PivotHints:
        lb, ub, cl, cu = bounds
        entries = typical_jacobian(rows, coloring, x0, lb, ub, *arguments) if cl.shape[0] else None
        return PivotHints(entries, _same(cl, cu), _same(lb, ub))

    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((x0, bounds, arguments)))
    return _first_hints.get(key, make, keep=not traced)


def _same(lower: Any, upper: Any) -> np.ndarray | None:
    """Where two bounds are equal; None where that cannot be known."""
    if isinstance(lower, Tracer) or isinstance(upper, Tracer):
        return None
    return np.asarray(lower) == np.asarray(upper)
