"""Nonlinear programs as the solvers see them: two questions about one flat vector of variables."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._linalg.matrix import Matrix, row_scaled


class Derivatives(eqx.Module):
    """Everything known about the functions at one point. ``hessian`` is that of ``weight f + y'c`` (None if not asked)."""

    objective: Float[Array, ""]
    rows: Float[Array, " m"]
    gradient: Float[Array, " n"]
    jacobian: Matrix
    hessian: Matrix | None  # a sparse one by its lower triangle


class AbstractNLP(eqx.Module):
    """``min f(x)  s.t.  cl <= c(x) <= cu,  lb <= x <= ub``; the bounds are data and travel apart."""

    @abc.abstractmethod
    def evaluate(self, x: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, " m"]]:
        """Objective and rows: all a line search ever asks."""

    @abc.abstractmethod
    def derivatives(
        self, x: Float[Array, " n"], y: Float[Array, " m"], weight: Float[Array, ""], second_order: bool
    ) -> Derivatives:
        """Values, gradient, Jacobian and the Hessian of ``weight f + y'c``: asked once per iteration."""


class FunctionNLP(AbstractNLP):
    """JAX functions ``f(x, p)`` and ``c(x, p)`` of a flat ``x`` and any pytree ``p``."""

    functions: Callable[[Float[Array, " n"], PyTree], tuple[Float[Array, ""], Float[Array, " m"]]]
    parameters: PyTree

    def evaluate(self, x):
        return self.functions(x, self.parameters)

    def derivatives(self, x, y, weight, second_order):
        return dense_derivatives(self.evaluate, x, y, weight, second_order)


class Scaling(eqx.Module):
    """From a program to ``objective_scale * f`` and ``row_scale * (c - row_shift)``."""

    objective_scale: Float[Array, ""]
    row_scale: Float[Array, " m"]
    row_shift: Float[Array, " m"]

    def values(self, f: Float[Array, ""], c: Float[Array, " m"]) -> tuple[Float[Array, ""], Float[Array, " m"]]:
        """Scaled objective and rows."""
        return self.objective_scale * f, self.row_scale * (c - self.row_shift)

    def unscaled_weights(
        self, y: Float[Array, " m"], weight: Float[Array, ""]
    ) -> tuple[Float[Array, " m"], Float[Array, ""]]:
        """What to ask the program for to get the Hessian of ``weight f + y'c`` of the scaled one."""
        return self.row_scale * y, self.objective_scale * weight

    def derivatives(self, d: Derivatives) -> Derivatives:
        """Scaled derivatives (the Hessian is one already, asked for with `unscaled_weights`)."""
        f, c = self.values(d.objective, d.rows)
        return Derivatives(f, c, self.objective_scale * d.gradient, row_scaled(d.jacobian, self.row_scale), d.hessian)


class ScaledNLP(AbstractNLP):
    """Another program, scaled."""

    inner: AbstractNLP
    scaling: Scaling

    def evaluate(self, x):
        return self.scaling.values(*self.inner.evaluate(x))

    def derivatives(self, x, y, weight, second_order):
        y, weight = self.scaling.unscaled_weights(y, weight)
        return self.scaling.derivatives(self.inner.derivatives(x, y, weight, second_order))


def dense_derivatives(
    evaluate: Callable, x: Float[Array, " n"], y: Float[Array, " m"], weight: Float[Array, ""], second_order: bool
) -> Derivatives:
    """Dense derivatives by one batched sweep.

    With second order, ``x -> (f, c, grad(weight f + y'c))`` is pushed forward along the unit vectors: gradient, Jacobian and
    Hessian come out of the same sweep, and the user's functions appear once in the compiled program.
    First derivatives alone are pulled back along ``f`` and the rows where these are fewer than the variables.
    """
    if not second_order and y.size + 1 < x.size:
        (f, c), pullback = jax.vjp(evaluate, x)
        unit = jnp.eye(y.size + 1, dtype=f.dtype)
        rows = jax.vmap(lambda e: pullback((e[0], e[1:].astype(c.dtype)))[0])(unit)
        return Derivatives(f, c, rows[0], rows[1:], None)

    def lagrangian_gradient(x):
        (f, c), pullback = jax.vjp(evaluate, x)
        if not second_order:
            return f, c
        return f, c, pullback((weight.astype(f.dtype), y.astype(c.dtype)))[0]

    def push(tangent):
        return jax.jvp(lagrangian_gradient, (x,), (tangent,))

    values, columns = jax.vmap(push, out_axes=(None, -1))(jnp.eye(x.shape[0], dtype=x.dtype))
    hessian = None
    if second_order:
        hessian = 0.5 * (columns[2] + columns[2].T)
    return Derivatives(values[0], values[1], columns[0], columns[1], hessian)
