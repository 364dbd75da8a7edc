"""How values and first derivatives of a program move with its variables and parameters: what the derivative rule asks for."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._linalg.matrix import symmetric_times, transposed_times
from .by_mode import along, weighted_gradient
from .nlp import AbstractFunctionNLP, AbstractNLP


Moves = Callable[[PyTree, Float[Array, " n"], Float[Array, " m"]], tuple[Array, Array, Array]]


def first_order_moves(nlp: AbstractNLP, x: Float[Array, " n"], y: Float[Array, " m"]) -> Moves:
    """From tangents of the program (of its inexact arrays), of ``x`` and of ``y`` to those of the objective, the rows and the
    gradient of ``f + y'c``. Linear, and as such to be transposed.
    """
    if isinstance(nlp, AbstractFunctionNLP) and nlp.modes.crossing:
        return _moves_by_mode(nlp, x, y)
    dynamic, static = eqx.partition(nlp, eqx.is_inexact_array)

    def first_order(nlp_arrays, x, y):
        """f, c and the gradient of the Lagrangian."""
        program = eqx.combine(nlp_arrays, static)
        (f, c), pullback = jax.vjp(program.evaluate, x)
        return f, c, pullback((jnp.ones_like(f), y))[0]

    return lambda d_nlp, dx, dy: jax.jvp(first_order, (dynamic, x, y), (d_nlp, dx, dy))[1]


def _moves_by_mode(nlp: AbstractFunctionNLP, x: Float[Array, " n"], y: Float[Array, " m"]) -> Moves:
    """By matrices, for a rule for one direction is of no use to whoever transposes.

    Those with respect to parameters go row by row where these can be pulled back, else parameter by parameter.
    """
    d = nlp.derivatives(x, y, jnp.ones((), x.dtype), second_order=True)
    assert d.hessian is not None
    hessian = d.hessian
    n, m = x.shape[0], y.shape[0]
    dynamic, static = eqx.partition(nlp, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(dynamic)
    moving = jax.tree.leaves(nlp.moving(dynamic))
    chosen = [k for k, yes in enumerate(moving) if yes and leaves[k].size]

    def values_and_gradient(those: list[int]) -> Callable:
        def stacked(arrays):
            changed = dict(zip(those, arrays))
            whole = [changed.get(k, leaf) for k, leaf in enumerate(leaves)]
            f, c = eqx.combine(jax.tree.unflatten(structure, whole), static).parts()
            value, gradient = weighted_gradient(f, nlp.modes.objective, x, jnp.ones(1, x.dtype))
            rows, more = weighted_gradient(c, nlp.modes.rows, x, y) if m else (y, 0.0)
            return jnp.concatenate([value, rows, gradient + more])

        return stacked

    def pulled(those: list[int]) -> Any:
        _, pullback = jax.vjp(values_and_gradient(those), [leaves[k] for k in those])
        return along(lambda unit: pullback(unit)[0], 1 + m + n, x.dtype)

    def pushed(k: int) -> Array:
        leaf = leaves[k]
        push = lambda unit: jax.jvp(values_and_gradient([k]), ([leaf],), ([unit.reshape(leaf.shape)],))[1]
        return along(push, leaf.size, leaf.dtype).T.reshape(1 + m + n, *leaf.shape)

    backwards = chosen if _possible(pulled, chosen) else [k for k in chosen if _possible(pulled, [k])]
    matrices: dict[int, Any] = dict(zip(backwards, pulled(backwards))) if backwards else {}
    matrices.update((k, pushed(k)) for k in chosen if k not in matrices)

    def moves(d_nlp: PyTree, dx: Float[Array, " n"], dy: Float[Array, " m"]):
        rates = jax.tree.leaves(d_nlp)
        of_gradient = symmetric_times(hessian, dx) + transposed_times(d.jacobian, dy)
        total = jnp.concatenate([(d.gradient @ dx)[None], d.jacobian @ dx, of_gradient])
        for k, matrix in matrices.items():
            total = total + jnp.tensordot(matrix, rates[k].astype(matrix.dtype), rates[k].ndim)
        return total[0], total[1 : 1 + m], total[1 + m :]

    return moves


def _possible(derivative: Callable, those: list[int]) -> bool:
    try:
        jax.eval_shape(lambda: derivative(those))
    except Exception:  # JAX has several for this, and rules are users' code
        return False
    return True
