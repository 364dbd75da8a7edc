"""The derivative rule outside of compiled programs, for solves that nobody else's program is to contain.

A solve that is differentiated inside of one `jax.jit` is one program, of which each derivative makes another with the whole
solve in it. Called eagerly it can be three: the solve, which is the one that plain calls run; what all derivatives at its
solution share; and their tangents, of which `jax.grad` and its kin make what they need.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_context
from jaxtyping import PyTree

from .._check import is_concrete
from .rule import with_rule


Inputs = TypeVar("Inputs")
Solution = TypeVar("Solution", bound=eqx.Module)


def eager_solve(
    solve: Callable[..., Solution],
    keep: Callable[..., tuple[Solution, PyTree]] | None,
    hold: Callable[..., tuple[Solution, PyTree]],
    tangent: Callable[..., tuple],
    outputs: Callable[[Solution], tuple],
    data: tuple,
) -> Solution:
    """``solve(*data)`` with the implicit derivative rule attached.

    **Arguments:**

    - `solve`: a compiled function. `keep`: another, which takes its place where derivatives are taken, and returns what they can
      make use of beside the solution; None where that is nothing.
    - `hold`: a compiled function ``(data, solution, kept)``: the solution, and what derivatives at it share.
    - `tangent`: a compiled function ``(moving, fixed, solution, held, rates)``: tangents of the `outputs`, where ``moving`` and
      ``fixed`` are the data in two parts with None in the places of the other, and ``rates`` the tangents of the former. It is
      what remains of the rule where a derivative is written down, so it must be one that may be a part of other programs.
    - `outputs`: the parts of a solution that have a derivative; all others have none.
    - `data`: pytrees of which some leaves are being transformed.
    """
    moving, fixed = eqx.partition(data, _may_move)
    mapped, known = eqx.partition(fixed, lambda leaf: isinstance(leaf, Tracer))

    def of_parts(function: Callable) -> Callable:
        return lambda moving, mapped: _as_called(function, eqx.combine(moving, mapped, known))

    def derivative(moving, mapped, rates, solution, kept) -> tuple[Solution, tuple]:
        fixed = eqx.combine(mapped, known)
        solution, held = hold(eqx.combine(moving, fixed), solution, kept)
        return solution, tangent(moving, fixed, solution, held, rates)

    kept = None if keep is None else of_parts(keep)
    return with_rule(of_parts(solve), kept, derivative, outputs, _still)(moving, mapped)


def pushed(inputs_of: Callable[[tuple], Inputs], moving: tuple, fixed: tuple, rates: tuple) -> tuple[Inputs, Inputs]:
    """The inputs of a solution, made of data that come in two parts, and the tangents of those that are inexact arrays."""

    def parts(moving: tuple) -> tuple:
        return eqx.partition(inputs_of(eqx.combine(moving, fixed)), eqx.is_inexact_array)

    dynamic, moves, static = jax.jvp(parts, (moving,), (rates,), has_aux=True)
    return eqx.combine(dynamic, static), moves


def run_by_itself(function: Callable, options: dict[str, Any] | None) -> Callable:
    """``function`` as compiled programs: with ``options`` where it runs, without where a derivative of it is wanted, since
    that may become a part of other programs, which have options of their own."""
    whole, part = jax.jit(function, compiler_options=options), jax.jit(function)

    @jax.custom_jvp
    def call(arrays):
        return _as_called(whole, arrays)

    @call.defjvp
    def _(primals, tangents):
        return jax.jvp(lambda arrays: part(*arrays), primals, tangents)

    return lambda *arrays: call(arrays)


def _as_called(function: Callable, arrays: tuple) -> Any:
    """``function(*arrays)``; of numbers by the program that runs wherever nothing is transformed: `jax.vmap` makes another of
    what is called inside of it, though nothing there has lanes."""
    if not is_concrete(arrays):
        return function(*arrays)
    with eval_context():
        return function(*arrays)


def _may_move(leaf: Any) -> bool:
    return isinstance(leaf, Tracer) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _still(leaf: Any):
    """No rate of change, of the host: to make a zero on the device is a program."""
    zero = jnp.issubdtype(leaf.dtype, jnp.inexact)
    return np.zeros(leaf.shape, leaf.dtype if zero else jax.dtypes.float0)
