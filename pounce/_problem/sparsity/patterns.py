"""Patterns of derivatives that hold at every point."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._linalg.sparse import Pattern
from .flow import Flow
from .known import shape_of
from .reader import Reader, Unreadable, warn
from .rules import Value, mixed
from .sets import Sets, distinct


MOST_ENTRIES = 30_000_000


class PatternTooLargeError(ValueError):
    """A derivative has so many entries that a list of them is of no use."""


class Limit(NamedTuple):
    """How many entries are worth listing, and what is to be said of loops that were not followed."""

    most: int
    loops: Sequence[str]

    def check(self, entries: int, shape: tuple[int, int]) -> None:
        """Raises `PatternTooLargeError` where there are more."""
        if entries > self.most:
            why = f". {self.loops[0][0].upper()}{self.loops[0][1:]}" if self.loops else ""
            raise PatternTooLargeError(
                f"a derivative of shape {shape} has {entries} entries. Functions of that size need sparse derivatives{why}"
            )


def _struct(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _followed(
    f: Callable[..., Any], x: Any, args: tuple, second_order: bool, most: int
) -> tuple[Flow, list[Value], "Limit"]:
    """The results of a function, each with the variables that its elements depend on, and how many entries are worth listing."""
    x, args = _struct(x), jax.tree.map(_struct, args)
    if len(x.shape) != 1:
        raise ValueError(f"patterns are those of functions of one vector, not of an array of shape {x.shape}")
    traced = jax.make_jaxpr(f)(x, *args)
    flow = Flow(x.shape[0], second_order)
    _, *others = traced.jaxpr.invars
    inputs = [Value(x.shape, flow.variables() if x.shape[0] else None), *(Value(v.aval.shape) for v in others)]
    reader = Reader(flow)
    limit = Limit(most, reader.kept.setdefault("loops", []))
    try:
        return flow, reader.read(traced.jaxpr, traced.consts, inputs), limit
    except Unreadable as error:
        warn(str(error))
    flow = Flow(x.shape[0], second_order)
    everything = flow.bend(flow.link(inputs[0].node, np.zeros(flow.sets.n, int), None, 1))
    shapes = [shape_of(variable) for variable in traced.jaxpr.outvars]
    return flow, [Value(shape, mixed(flow, everything, (1,), shape, 0)) for shape in shapes], limit


def jacobian_pattern(f: Callable[..., Any], x: Any, *args: Any, most: int = MOST_ENTRIES) -> Pattern:
    """Where the Jacobian of `f` can have entries, whatever the point.

    **Arguments:**

    - `f`: called as ``f(x, *args)``; its result, an array of any shape, counts as a vector of ``m`` elements.
    - `x`: the variables, of shape ``(n,)``; only its shape and type matter, so that a `jax.ShapeDtypeStruct` does.
    - `args`: whatever else `f` takes, pytrees of arrays or structs. Their values are taken to be unknown. Arrays that `f`
      closes over are constants: their zeros are made use of, and indices computed from them are known.
    - `most`: how many entries are worth listing.

    **Returns:**

    A pattern of shape ``(m, n)`` that holds every entry which is nonzero at some point; it may hold more, as nothing is known
    about cancellation. It is read from the program that JAX traces, no values are sampled.

    Raises `PatternTooLargeError` if there are more than `most` entries, thirty million by default.
    """
    flow, results, limit = _followed(f, x, args, False, most)
    labels = [np.zeros(value.size, np.int64) if value.node is None else value.node.labels for value in results]
    return _of_rows(flow.sets, np.concatenate(labels) if labels else np.zeros(0, np.int64), limit)


def _of_rows(sets: Sets, labels: np.ndarray, limit: "Limit") -> Pattern:
    sizes = sets.sizes(labels)
    limit.check(int(sizes.sum()), (labels.size, sets.n))
    return Pattern(np.repeat(np.arange(labels.size), sizes), sets.members(labels), (labels.size, sets.n))


def hessian_pattern(f: Callable[..., Any], x: Any, *args: Any, most: int = MOST_ENTRIES) -> Pattern:
    """Where the second derivative of a scalar function can have entries, whatever the point.

    Arguments as for `jacobian_pattern`. For a Lagrangian, multipliers belong to `args`.

    **Returns:**

    A symmetric pattern of shape ``(n, n)``, both triangles. Functions that are linear on pieces (``abs``, ``max``, `relu`,
    choices) have no second derivative of their own where they have any, and none is listed.

    Raises `PatternTooLargeError` if there seem to be more than `most` entries, thirty million by default.
    """
    flow, results, limit = _followed(f, x, args, True, most)
    if len(results) != 1 or results[0].size != 1:
        raise ValueError("only a scalar function has a Hessian")
    return _of_pairs(flow.sets, flow.interactions(results[0].node), limit)


def _of_pairs(sets: Sets, pairs: np.ndarray, limit: Limit) -> Pattern:
    """All pairs of members of two sets that interact."""
    n, most = sets.n, limit.most
    a, b = pairs >> 32, pairs & 0xFFFFFFFF
    work = sets.sizes(a) * sets.sizes(b)
    if int(work.sum()) > most // 2:
        a, b = _without_covered(sets, a, b, most // 2)
        work = sets.sizes(a) * sets.sizes(b)
    if int(work.sum()) > most:
        total = sets.everything(np.concatenate([a, b]))
        a = b = np.array([total])
        work = sets.sizes(a) * sets.sizes(b)
        limit.check(int(work.sum()), (n, n))
    # A few million at a time, so that repetitions do not take memory.
    keys = np.zeros(0, np.int64)
    cuts = np.searchsorted(np.cumsum(work), np.arange(1, math.ceil(work.sum() / 5e6)) * 5e6)
    for some in np.split(np.arange(a.size), np.unique(cuts)):
        rows, columns = sets.crossed(a[some], b[some])
        # Entries on one side of the diagonal stand for both.
        new = np.minimum(rows, columns) * n + np.maximum(rows, columns)
        keys = np.concatenate([keys, new])
        keys.sort()
        keys = keys[distinct(keys)]
    rows, columns = np.divmod(keys, max(n, 1))
    return Pattern(np.concatenate([rows, columns]), np.concatenate([columns, rows]), (n, n))


def _without_covered(sets: Sets, a: np.ndarray, b: np.ndarray, enough: int) -> tuple[np.ndarray, np.ndarray]:
    """Drops pairs of sets that lie in a larger set which interacts with itself, for the largest few of those, until the crossings
    are few `enough`."""
    for _ in range(100):
        with_itself = np.flatnonzero(a == b)
        if not with_itself.size or int((sets.sizes(a) * sets.sizes(b)).sum()) <= enough:
            break
        with_itself = with_itself[np.argsort(sets.sizes(a[with_itself]))][::-1]
        largest = with_itself[0]
        inside = np.zeros(sets.n, bool)
        inside[sets.members(a[largest : largest + 1])] = True
        covered = _all_inside(sets, a, inside) & _all_inside(sets, b, inside)
        if covered.sum() <= 1:
            break
        covered[largest] = False
        a, b = a[~covered], b[~covered]
    return a, b


def _all_inside(sets: Sets, labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    known, place = np.unique(labels, return_inverse=True)
    sizes = sets.sizes(known)
    return np.logical_and.reduceat(inside[sets.members(known)], np.cumsum(sizes) - sizes)[place]
