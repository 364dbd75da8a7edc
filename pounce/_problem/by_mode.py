"""Derivatives of functions that have rules of their own: each in the modes that it can be differentiated in.

The objective and the rows are two functions here, ``(n,)`` to ``()`` and ``(m,)``. Gradients that can be pulled back are,
whatever else is to be had: a function that declares a pullback has no other first derivative than that.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._linalg.sparse import SparseMatrix
from .coloring import Coloring
from .compressed import entries, seeds, sparse_jacobian
from .derivatives import Derivatives
from .modes import FORWARD, REVERSE, Mode, Modes, check_modes


Function = Callable[[Float[Array, " n"]], Array]
Parts = tuple[Function, Function]
AT_ONCE = 128  # directions that are followed side by side


def along(derivative: Callable[[Float[Array, " k"]], Array], k: int, dtype) -> Array:
    """What a linear function makes of each unit vector, along a leading axis."""
    if k <= AT_ONCE:
        return jax.vmap(derivative)(jnp.eye(k, dtype=dtype))
    unit = lambda i: jnp.zeros(k, dtype).at[i].set(1)
    return lax.map(lambda i: derivative(unit(i)), jnp.arange(k), batch_size=AT_ONCE)


def flat_jacobian(function: Function, mode: Mode, x: Float[Array, " n"]) -> tuple[Float[Array, " k"], Array]:
    """The values of a function, raveled, and their ``(k, n)`` Jacobian."""
    flat = lambda x: jnp.ravel(function(x))
    k = jax.eval_shape(flat, x).shape[0]
    if k == 0:
        return flat(x), jnp.zeros((0, x.shape[0]), x.dtype)
    if mode.first == FORWARD:
        return flat(x), along(lambda unit: jax.jvp(flat, (x,), (unit,))[1], x.shape[0], x.dtype).T
    value, pullback = jax.vjp(flat, x)
    return value, along(lambda unit: pullback(unit)[0], k, value.dtype)


def weighted_gradient(
    function: Function, mode: Mode, x: Float[Array, " n"], weights: Float[Array, " k"]
) -> tuple[Float[Array, " k"], Float[Array, " n"]]:
    """The values of a function, raveled, and the gradient of ``weights @ values``."""
    if mode.first == FORWARD:
        value, jacobian = flat_jacobian(function, mode, x)
        return value, weights.astype(value.dtype) @ jacobian
    value, pullback = jax.vjp(lambda x: jnp.ravel(function(x)), x)
    return value, pullback(weights.astype(value.dtype))[0]


def hessian_products(
    function: Function, mode: Mode, x: Float[Array, " n"], weights: Float[Array, " k"]
) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """The second derivative of ``weights @ values`` as a linear function of a direction."""
    gradient = lambda x: weighted_gradient(function, mode, x, weights)[1]
    if mode.second == REVERSE:
        _, pullback = jax.vjp(gradient, x)
        return lambda direction: pullback(direction)[0]
    return lambda direction: jax.jvp(gradient, (x,), (direction,))[1]


def _both_products(parts: Parts, modes: Modes, x, y, weight) -> Callable:
    f, c = parts
    for mode, name in ((modes.objective, "f"), (modes.rows, "g")):
        check_modes(mode, name, exact=True)
    of_objective = hessian_products(f, modes.objective, x, jnp.reshape(weight, 1))
    if not y.size:
        return of_objective
    of_rows = hessian_products(c, modes.rows, x, y)
    return lambda direction: of_objective(direction) + of_rows(direction)


def dense_derivatives_by_mode(
    parts: Parts,
    modes: Modes,
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    weight: Float[Array, ""],
    second_order: bool,
) -> Derivatives:
    """As `dense_derivatives`."""
    (f, gradient), (c, jacobian) = (flat_jacobian(part, mode, x) for part, mode in zip(parts, modes.both))
    hessian = None
    if second_order:
        columns = along(_both_products(parts, modes, x, y, weight), x.shape[0], x.dtype)
        hessian = 0.5 * (columns + columns.T)
    return Derivatives(f[0], c, gradient[0], jacobian, hessian)


def sparse_derivatives_by_mode(
    parts: Parts,
    modes: Modes,
    jacobian: Coloring,
    hessian: Coloring | None,
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    weight: Float[Array, ""],
) -> Derivatives:
    """As `sparse_derivatives`, or without a colouring of the Hessian, as `sparse_first_derivatives`.

    The Jacobian has to be coloured in the mode of the rows.
    """
    f, gradient = flat_jacobian(parts[0], modes.objective, x)
    matrix = sparse_jacobian(parts[1], x, jacobian)
    second: SparseMatrix | None = None
    if hessian is not None:
        product = _both_products(parts, modes, x, y, weight)
        second = entries(lax.map(product, seeds(hessian, x.dtype), batch_size=AT_ONCE), hessian)
    return Derivatives(f[0], parts[1](x), gradient[0], matrix, second)
