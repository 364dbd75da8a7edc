"""A KKT solver that works in the units of the matrix itself, whatever those of its rows and columns are."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float
from lineax import RESULTS

from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .matrix import column_sizes, plus_diagonal, row_sizes, scaled, symmetric_column_sizes, symmetric_scaled
from .refinement import Falling, refined_solve


SWEEPS = 4


def natural_units(operator: KKTOperator) -> KKTVector:
    """Positive factors of unknowns and rows with which entries of the matrix are at most about one: an equilibration in the
    maximum norm (Ruiz 2001). They follow any change of units."""
    n, m = operator.jacobian.shape[1], operator.diagonal.shape[0]
    start = jnp.ones(n, operator.diagonal.dtype), jnp.ones(m, operator.diagonal.dtype)

    def root(sizes):
        return jnp.sqrt(jnp.where(sizes > 0, sizes, 1.0))

    def sweep(_, units: KKTVector) -> KKTVector:
        x, y = units
        jacobian = scaled(operator.jacobian, y, x)
        columns = jnp.maximum(x * symmetric_column_sizes(operator.hessian, x), column_sizes(jacobian))
        rows = jnp.maximum(row_sizes(jacobian), operator.diagonal * y * y)
        return x / root(columns), y / root(rows)

    return lax.fori_loop(0, SWEEPS, sweep, start)


class EquilibratedFactor(eqx.Module):
    """A factor in given units: an unknown is its unit times what the factor's matrix has in its place."""

    operator: KKTOperator
    units: KKTVector
    factor: Any


def in_units(operator: KKTOperator, units: KKTVector, shift: Float | float = 0.0) -> KKTOperator:
    """The operator between unknowns in these units, with something added to the diagonal of its Hessian there."""
    x, y = units
    hessian: Any = plus_diagonal(
        symmetric_scaled(operator.hessian, x), jnp.broadcast_to(shift, x.shape).astype(x.dtype)
    )
    return KKTOperator(hessian, scaled(operator.jacobian, y, x), operator.diagonal * y * y)


class Equilibrated(AbstractKKTSolver[EquilibratedFactor]):
    """Another solver in `natural_units`, refined there until nothing but rounding is left, by at most ``steps`` corrections."""

    solver: AbstractKKTSolver
    steps: int = eqx.field(static=True, default=20)

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> EquilibratedFactor:
        units = natural_units(operator)
        return EquilibratedFactor(operator, units, self.solver.init(in_units(operator, units), options))

    def inertia(self, state: EquilibratedFactor) -> Inertia:
        return self.solver.inertia(state.factor)

    def compute(self, state: EquilibratedFactor, vector: KKTVector, options: dict[str, Any]):
        def scale(v: KKTVector) -> KKTVector:
            return jax.tree.map(jnp.multiply, state.units, v)

        solved = refined_solve(
            lambda v: scale(state.operator.mv(scale(v))),
            lambda residual: self.solver.compute(state.factor, residual, options)[0],
            scale(vector),
            Falling(1, self.steps, 4 * float(jnp.finfo(vector[0].dtype).eps)),
        )
        return scale(solved.solution), RESULTS.successful, {}
