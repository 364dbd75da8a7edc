"""Nonlinear programs whose functions live outside compiled code: the same two questions, asked from Python.

Everything here is NumPy in float64. A value that is not finite means that the functions cannot be evaluated there.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .nlp import dense_derivatives


@dataclasses.dataclass
class Evaluations:
    """How often each kind of function was evaluated."""

    objective: int = 0
    gradient: int = 0
    constraints: int = 0
    jacobian: int = 0
    hessian: int = 0


@dataclasses.dataclass(frozen=True)
class HostDerivatives:
    """Values and first derivatives at a point, and the Hessian of ``weight f + y'c`` where it was asked for."""

    objective: float
    rows: np.ndarray  # (m,)
    gradient: np.ndarray  # (n,)
    jacobian: np.ndarray  # (m, n)
    hessian: np.ndarray | None  # (n, n), both triangles


class AbstractHostFunctions(abc.ABC):
    """The functions of a program of ``n`` variables and ``m`` rows.

    ``exact`` says whether Hessians are to be had. Exceptions pass through to whoever runs the solve.
    """

    n: int
    m: int
    exact: bool
    evaluations: Evaluations

    @abc.abstractmethod
    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective and rows at ``x`` of shape ``(n,)``: all a line search ever asks."""

    @abc.abstractmethod
    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        """Asked once per iteration."""


class JaxFunctions(AbstractHostFunctions):
    """JAX functions ``objective(x)`` and ``constraints(x)``, with exact derivatives, compiled in float64 for themselves alone."""

    exact = True

    def __init__(self, objective: Callable[[Any], Any], constraints: Callable[[Any], Any] | None, n: int, m: int):
        self.n, self.m = n, m
        self.evaluations = Evaluations()

        def evaluate(x):
            value = jnp.asarray(objective(x), x.dtype).reshape(())
            return value, jnp.zeros((0,), x.dtype) if constraints is None else jnp.asarray(constraints(x), x.dtype)

        def whole(x, y, weight):
            d = dense_derivatives(evaluate, x, y, weight, second_order=True)
            assert d.hessian is not None
            return jnp.concatenate([d.objective[None], d.rows, d.gradient, d.jacobian.ravel(), d.hessian.ravel()])

        def flat(x):
            f, c = evaluate(x)
            return jnp.concatenate([f[None], c])

        self._values, self._derivatives = jax.jit(flat), jax.jit(whole)

    def trace(self) -> None:
        """Check what the functions return, without compiling. Raises what tracing them raises, and `ValueError` for shapes."""
        with jax.enable_x64(True):
            x = jax.ShapeDtypeStruct((self.n,), np.float64)
            size = jax.eval_shape(self._values, x).shape[0]
        if size != 1 + self.m:
            raise ValueError(f"`constraints` must return {self.m} numbers, got {size - 1}")

    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        with jax.enable_x64(True):
            flat = np.asarray(self._values(x))
        self.evaluations.objective += 1
        self.evaluations.constraints += self.m > 0
        return float(flat[0]), flat[1:]

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        with jax.enable_x64(True):
            flat = np.asarray(self._derivatives(x, y, weight))
        n, m, count = self.n, self.m, self.evaluations
        rows, gradient, jacobian, hessian = np.split(flat[1:], np.cumsum([m, n, m * n]))
        count.gradient, count.jacobian, count.hessian = count.gradient + 1, count.jacobian + (m > 0), count.hessian + 1
        return HostDerivatives(float(flat[0]), rows, gradient, jacobian.reshape(m, n), hessian.reshape(n, n))
