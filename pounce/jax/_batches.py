"""Functions of a compiled program for a batch of parameters: one kernel for all lanes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, PyTree

from .. import _check as check
from .._anchor import Anchor, anchor_at, jacobian
from .._called import called
from .._compile import compiler_options, program_cache
from .._interior.start import Seeds, WarmStart
from .._meshes import first_lane, place_of, placed
from .._program import NO_BOUND
from .._solution import Multipliers, Solution
from ..nlp import Data, Program, parameter_arrays
from ._arguments import start_point


LANES: Any = Seeds(0, 0, None)  # pyright: ignore[reportArgumentType]  # of multipliers that differ between lanes


@dataclasses.dataclass(frozen=True)
class Batch:
    """A program with its data, some of which have a leading axis of lanes."""

    program: Program
    data: Data
    size: int
    moves: tuple[bool, bool]  # whether the starting point and the warm start have that axis: parameters do

    @property
    def dtype(self) -> Any:
        """Of the solves."""
        return self.data.start.x0.dtype

    def repeated(self, basis: np.ndarray | None) -> Float[Array, "B k p"]:
        """Directions of the raveled parameters for every lane; all of them where None are given."""
        if basis is None:
            leaves = jax.tree.leaves(self.data.parameters)
            basis = np.eye(sum(math.prod(leaf.shape[1:]) for leaf in leaves))
        return jnp.broadcast_to(jnp.asarray(basis, self.dtype), (self.size, *basis.shape))

    def over_lanes(self, function: Callable, *more: PyTree) -> Any:
        """``function(program, data, ...)`` for every lane; ``more`` have the axis of lanes in all leaves.

        Compiled once for a function of a module: one made for the call would compile every time.
        """
        lanes = next(iter(jax.tree.leaves(self.data.parameters)))
        how = check.at_top_level((self.data, more)), place_of((self.data, more), lanes)
        return _compiled(function, self.program, self.moves, len(more), *how)(self.data, *more)

    def solved(self) -> Solution:
        """The solutions: by the program that `jax.vmap` of one solve runs."""
        if place_of(self.data) is not None:  # lanes on an explicit mesh stay where they are
            return self.over_lanes(solve_lane)
        return _lanes(called, self.program, self.data, self.moves)


# Functions of one lane, for `Batch.over_lanes`.


def solve_lane(program: Program, data: Data) -> Solution:
    """The solution."""
    return program(data)


def solution_and_jacobian(program: Program, data: Data, basis: Float[Array, "k p"]) -> tuple[Solution, Array]:
    """The solution with its derivatives along directions of the raveled parameters, both differentiable."""
    flat, restored = ravel_pytree(data.parameters)

    def solved(flat):
        solution = program(dataclasses.replace(data, parameters=restored(flat)))
        return solution.x, solution

    n = data.start.x0.shape[0]
    if basis.shape[0] <= n:
        _, push, solution = jax.linearize(solved, flat, has_aux=True)
        return solution, jax.vmap(push, out_axes=1)(basis.astype(flat.dtype))
    _, pull, solution = jax.vjp(solved, flat, has_aux=True)
    return solution, jax.vmap(pull)(jnp.eye(n, dtype=data.start.x0.dtype))[0] @ basis.T


def jacobian_at(
    program: Program, data: Data, x: Float[Array, " n"], multipliers: Multipliers, basis: Float[Array, "k p"]
) -> Float[Array, "n k"]:
    """The derivatives at a point that needs no solve."""
    return jacobian(program, data, anchor_at(program, data, x, multipliers), basis)


def margins(program: Program, data: Data, at: Anchor, active_tol: Float[Array, ""]) -> dict[str, Float[Array, ""]]:
    """How far the active set is from changing. What comes within ``active_tol`` of its bound, relative to the sizes of the two,
    is taken to be active as well."""
    del program
    solution, bounds, held = at.solution, data.start.bounds, at.solution.active
    z, x, rows = solution.multipliers, solution.x, solution.constraints
    y = z.constraints
    inequality, free = bounds.cl < bounds.cu, bounds.lb < bounds.ub
    sides = (
        (x - bounds.lb, bounds.lb, z.lower, free & (bounds.lb > -NO_BOUND), held.lower),
        (bounds.ub - x, bounds.ub, z.upper, free & (bounds.ub < NO_BOUND), held.upper),
        (rows - bounds.cl, bounds.cl, -y, inequality & (bounds.cl > -NO_BOUND), held.rows_lower),
        (bounds.cu - rows, bounds.cu, y, inequality & (bounds.cu < NO_BOUND), held.rows_upper),
    )
    slack, bound, multiplier, there, active = (jnp.concatenate(parts) for parts in zip(*sides))
    values = jnp.concatenate([x, x, rows, rows])
    active = active | (slack <= active_tol * jnp.maximum(jnp.abs(values), jnp.abs(bound)))
    least_mult = jnp.min(jnp.where(there & active, multiplier, jnp.inf), initial=jnp.inf)
    least_slack = jnp.min(jnp.where(there & ~active, slack, jnp.inf), initial=jnp.inf)
    return dict(margin=jnp.minimum(least_mult, least_slack), min_mult=least_mult, min_slack=least_slack)


def _lanes(function: Callable, program: Program, data: Data, moves: tuple[bool, bool], *more: PyTree) -> Any:
    """``function(program, data, ...)`` for every lane, by `jax.vmap`."""
    axes = 0, 0 if moves[0] else None, LANES if moves[1] else None

    def lane(own: tuple, *more: PyTree):
        parameters, x0, warm = own
        start = dataclasses.replace(data.start, x0=x0, warm=warm)
        return function(program, dataclasses.replace(data, parameters=parameters, start=start), *more)

    own = data.parameters, data.start.x0, data.start.warm
    return jax.vmap(lane, in_axes=(axes, *(0 for _ in more)))(own, *more)


@program_cache(maxsize=512, owners=lambda function, program, *key: program.functions[0])
def _compiled(
    function: Callable,
    program: Program,
    moves: tuple[bool, bool],
    count: int,
    top_level: bool,
    place: NamedSharding | None,
):
    del count

    def run(data: Data, *more: PyTree):
        return _lanes(function, program, data, moves, *more)

    return jax.jit(placed(run, place), compiler_options=compiler_options() if top_level else None)


Prepare = Callable[[Array, PyTree], tuple[Program, Data]]


def batch_of(p_batch: PyTree, prepare_lane: Prepare, x0: Any, n: int, warm: tuple | None = None) -> Batch:
    """**Arguments:**

    - `p_batch`: parameters with a leading axis in all leaves.
    - `prepare_lane`: the program and its data, for the starting point and the parameters of a lane.
    - `x0`: ``(n,)`` or ``(B, n)``. `warm`: ``(rows, lower, upper)``, each with a leading axis.

    **Raises:** `ValueError` naming the argument.
    """
    parameters = parameter_arrays(p_batch)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(parameters)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(f"`p_batch` needs one leading dim, of the batch, in all leaves, got shapes {shapes}")
    (size,) = sizes.pop()
    start = jnp.asarray(x0)
    moves = start.ndim == 2
    if moves and start.shape != (size, n):
        raise ValueError(f"`x0` must have shape ({n},) or ({size}, {n}), got {start.shape}")
    first = start_point(first_lane(start) if moves else start, n)
    lane = jax.tree.map(first_lane, parameters)
    program, data = prepare_lane(first, lane)
    start = start.astype(first.dtype) if moves else first
    seeds = data.start.warm
    if warm is not None:
        parts = _seeds(warm, size, data.start.bounds.cl.shape[0], n, first.dtype)
        seeds = jax.vmap(lambda *parts: WarmStart(*parts).seeds(), out_axes=LANES)(*parts)
    whole = dataclasses.replace(data.start, x0=start, warm=seeds)
    data = dataclasses.replace(data, parameters=parameters, start=whole)
    return Batch(program, data, size, (moves, warm is not None))


def _seeds(warm: tuple, size: int, m: int, n: int, dtype) -> list[jax.Array]:
    parts = [jnp.asarray(part, dtype) for part in warm]
    for part, length, name in zip(parts, (m, n, n), ("lam", "zL", "zU"), strict=True):
        if part.shape != (size, length):
            raise ValueError(f"`warm_start` ({name}) must have shape ({size}, {length}), got {part.shape}")
    return parts
