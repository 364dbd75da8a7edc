"""Nonlinear programs as the solvers see them: two questions about one flat vector of variables."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._linalg.matrix import row_scaled
from .by_mode import dense_derivatives_by_mode
from .closed import ClosedFunction
from .derivatives import Derivatives as Derivatives
from .modes import Modes
from .tied import tied


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


class AbstractFunctionNLP(AbstractNLP):
    """JAX functions ``f(x, p)`` and ``c(x, p)`` of a flat ``x`` and any pytree ``p``."""

    functions: eqx.AbstractVar[Callable[[Float[Array, " n"], PyTree], tuple[Float[Array, ""], Float[Array, " m"]]]]
    parameters: eqx.AbstractVar[PyTree]
    modes: eqx.AbstractVar[Modes]

    def evaluate(self, x):
        return self.functions(x, self.parameters)

    def parts(self) -> tuple[Callable, Callable]:
        """The objective and the rows as functions of ``x`` of their own, neither of which evaluates the other, with declared
        pullbacks `tied` to values."""
        if isinstance(self.functions, ClosedFunction):
            leaves = jax.tree.leaves(self.parameters)
            f, c = self.functions.part(0), self.functions.part(1)
            return lambda x: tied(f.jaxpr, f.constants, x, *leaves)[0], lambda x: tied(
                c.jaxpr, c.constants, x, *leaves
            )[0]
        return lambda x: self.evaluate(x)[0], lambda x: self.evaluate(x)[1]

    def moving(self, dynamic: PyTree) -> PyTree:
        """Which of its inexact arrays may be functions of something: parameters, and of what functions close over, that which was
        being transformed when they were traced."""
        marks = jax.tree.map(lambda _: True, dynamic)
        if not isinstance(self.functions, ClosedFunction) or not self.functions.consts:
            return marks
        consts = [None if mark is None else not no for mark, no in zip(marks.functions.consts, self.functions.fixed)]
        return eqx.tree_at(lambda nlp: nlp.functions.consts, marks, consts, is_leaf=lambda leaf: leaf is None)


class FunctionNLP(AbstractFunctionNLP):
    """With dense derivatives."""

    functions: Callable[[Float[Array, " n"], PyTree], tuple[Float[Array, ""], Float[Array, " m"]]]
    parameters: PyTree
    modes: Modes = eqx.field(static=True, default=Modes())

    def derivatives(self, x, y, weight, second_order):
        if self.modes.plain:
            return dense_derivatives(self.evaluate, x, y, weight, second_order)
        return dense_derivatives_by_mode(self.parts(), self.modes, x, y, weight, second_order)


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
