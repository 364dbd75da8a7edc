"""The one derivative rule: a solution as an implicit function of its data.

A solve is a `jax.custom_jvp` whose rule linearises the optimality conditions at the solution and solves one linear system, by
`linear_solve` with a factor computed once. Forward and reverse mode, batching and higher orders all come from it. Which
conditions those are is the caller's `tangent`: `nonlinear.tangent` or `conic.tangent`.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree


OnFailure = Literal["zero", "nan", "raise", "warn"]


Inputs = TypeVar("Inputs")
Solution = TypeVar("Solution", bound=eqx.Module)


def differentiable_solve(
    run: Callable[[Inputs, PyTree], Solution],
    inputs: Inputs,
    rest: PyTree,
    solved: Callable[[Solution], Bool[Array, ""]],
    outputs: Callable[[Solution], tuple],
    tangent: Callable[..., tuple],
    on_failure: OnFailure,
    run_and_keep: Callable[[Inputs, PyTree], tuple[Solution, tuple]] | None = None,
) -> Solution:
    """``run(inputs, rest)`` with the implicit derivative rule attached.

    **Arguments:**

    - `run`: solves; closes over no arrays.
    - `rest`: arrays the solution does not depend on (starting point, warm start, tolerances).
    - `solved`: whether a solution is one that can be differentiated.
    - `outputs`: the parts of a solution that have a derivative; all others have none.
    - `tangent`: tangents of the `outputs`, given the inputs, their tangents, the solution and, one by one, what was kept.
    - `on_failure`: tangents of a lane that was not solved: zero, NaN, an error, or zero with a warning.
    - `run_and_keep`: as `run`, with a tuple of what else of the solve `tangent` can make use of. It runs in place of `run` where
      derivatives are taken. By default nothing is kept.
    """
    dynamic, fixed = eqx.partition(inputs, eqx.is_inexact_array)
    arrays, static = eqx.partition((fixed, rest), eqx.is_array)

    def whole(dynamic, arrays) -> tuple[Inputs, PyTree]:
        fixed, rest = eqx.combine(arrays, static)
        return eqx.combine(dynamic, fixed), rest

    def derivative(dynamic, arrays, rates, solution, kept) -> tuple[Solution, tuple]:
        good = solved(solution)
        solution = heeded(solution, good, on_failure)
        clean, safe = sanitized(dynamic, solution, good, outputs)
        inputs = whole(clean, arrays)[0]
        return solution, guarded(lambda rates: tangent(inputs, rates, safe, *kept), good, on_failure)(rates)

    keep = None if run_and_keep is None else lambda *parts: run_and_keep(*whole(*parts))
    return with_rule(lambda *parts: run(*whole(*parts)), keep, derivative, outputs, _zero_tangent)(dynamic, arrays)


def with_rule(
    run: Callable[[PyTree, PyTree], Solution],
    run_and_keep: Callable[[PyTree, PyTree], tuple[Solution, PyTree]] | None,
    derivative: Callable[..., tuple[Solution, tuple]],
    outputs: Callable[[Solution], tuple],
    still: Callable[[Any], Any],
) -> Callable[[PyTree, PyTree], Solution]:
    """A solve ``run(dynamic, arrays)`` with its derivative in ``dynamic``.

    **Arguments:**

    - `run_and_keep`: as `run`, with what else `derivative` makes use of; it runs in place of `run` where derivatives are taken.
    - `derivative`: ``(dynamic, arrays, rates, solution, kept)``: the solution, and tangents of its `outputs`.
    - `still`: a tangent of an array that does not move.
    """

    @jax.custom_jvp
    def solve(dynamic, arrays):
        return run(dynamic, arrays)

    @jax.custom_jvp
    def solve_and_keep(dynamic, arrays):
        return (solve(dynamic, arrays), ()) if run_and_keep is None else run_and_keep(dynamic, arrays)

    @solve.defjvp
    def rule_of_solution(primals, tangents):
        (solution, _), (rate, _) = rule(primals, tangents)
        return solution, rate

    @solve_and_keep.defjvp
    def rule(primals, tangents):
        (dynamic, arrays), (rates, _) = primals, tangents
        solution, kept = solve_and_keep(dynamic, arrays)
        solution, moves = derivative(dynamic, arrays, rates, solution, kept)
        rate = eqx.tree_at(outputs, jax.tree.map(still, solution), moves)
        return (solution, kept), (rate, jax.tree.map(still, kept))

    return solve


def heeded(solution: Solution, good: Bool[Array, ""], on_failure: OnFailure) -> Solution:
    """The solution, where derivatives of it are wanted: an error if there is none and that is to ``raise``.

    On the solution, not on its tangent: what is only linear does not survive transposition.
    """
    if on_failure != "raise":
        return solution
    return eqx.error_if(solution, ~good, "pounce: a solve that is being differentiated did not succeed")


def _zero_tangent(leaf: Array):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def sanitized(
    inputs: PyTree, solution: Solution, good: Bool[Array, ""], outputs: Callable[[Solution], tuple]
) -> tuple[PyTree, Solution]:
    """Finite numbers in the place of an unsolved lane's."""
    dynamic, static = eqx.partition(inputs, eqx.is_inexact_array)
    dynamic = jax.tree.map(lambda leaf: jnp.where(good | jnp.isfinite(leaf), leaf, jnp.zeros_like(leaf)), dynamic)
    inputs = eqx.combine(dynamic, static)
    clean = jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.zeros_like(leaf)), outputs(solution))
    return inputs, eqx.tree_at(outputs, solution, clean)


def guarded(tangent: Callable[[PyTree], PyTree], good: Bool[Array, ""], on_failure: OnFailure) -> Callable:
    """A map of tangents, with a failed lane cut off at both ends.

    Transposed, what is done to the tangents of inputs is the last thing that happens to a cotangent: a selection keeps NaN away
    from the parameters, a product makes it arrive there.
    """

    def of_input(rate: Array) -> Array:
        if on_failure == "nan":
            return rate * jnp.where(good, 1.0, jnp.nan).astype(rate.dtype)
        return jnp.where(good, rate, jnp.zeros_like(rate))

    def call(rates: PyTree) -> PyTree:
        moves = tangent(jax.tree.map(of_input, rates))
        if on_failure == "warn":
            jax.debug.callback(_warn, jnp.all(good))
        fill = jnp.nan if on_failure == "nan" else 0.0
        return jax.tree.map(lambda t: jnp.where(good, t, fill), moves)

    return call


def _warn(good) -> None:
    if not np.all(good):
        warnings.warn(
            "pounce: a solve that is being differentiated did not succeed; its derivative is zero", stacklevel=2
        )
