"""A KKT solver that refines another one against the exact operator."""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from lineax import RESULTS

from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector


Factor = TypeVar("Factor")


class RefinedFactor(eqx.Module, Generic[Factor]):
    operator: KKTOperator
    factor: Factor


class Refined(AbstractKKTSolver[RefinedFactor]):
    """By `steps` corrections."""

    solver: AbstractKKTSolver
    steps: int = eqx.field(static=True, default=3)

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> RefinedFactor:
        return RefinedFactor(operator, self.solver.init(operator, options))

    def inertia(self, state: RefinedFactor) -> Inertia:
        return self.solver.inertia(state.factor)

    def compute(self, state: RefinedFactor, vector: KKTVector, options: dict[str, Any]):
        def correct(_, solution):
            residual = jax.tree.map(jnp.subtract, vector, state.operator.mv(solution))
            return jax.tree.map(jnp.add, solution, self.solver.compute(state.factor, residual, options)[0])

        zero = jax.tree.map(jnp.zeros_like, vector)
        return jax.lax.fori_loop(0, self.steps + 1, correct, zero), RESULTS.successful, {}
