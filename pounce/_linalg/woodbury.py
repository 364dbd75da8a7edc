"""A KKT solver for Hessians that are a diagonal and a few columns, on top of a sparse one for the diagonal alone."""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from lineax import RESULTS

from .._choose import where
from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .low_rank import LowRankMatrix
from .sparse import Pattern, SparseMatrix


UNSURE = 1e-10  # an eigenvalue of the small matrix relative to the largest, below which its sign is rounding
Factor = TypeVar("Factor")


class WoodburyFactor(eqx.Module, Generic[Factor]):
    """The factor of the operator without the columns, its solutions for the columns, and the inverse of the small matrix."""

    factor: Factor
    columns: Float[Array, "n k"]
    images: KKTVector  # K0^-1 (C, 0), one right-hand side after the other
    small: Float[Array, "k k"]
    agrees: Bool[Array, ""]  # the small matrix has the signs of the columns
    unsure: Bool[Array, ""]


class Woodbury(AbstractKKTSolver[WoodburyFactor]):
    """Solves with ``K = K0 + C W C'`` by factors of ``K0`` and of ``S = W^-1 + C' K0^-1 C`` (Sherman, Morrison and Woodbury).

    The inertia is that of ``K0`` and of ``S`` together: K has as many negative eigenvalues as ``K0``, if S has as many
    positive ones as W (Haynsworth 1968, for the matrix that has both as Schur complements).
    """

    solver: AbstractKKTSolver

    def init(self, operator: KKTOperator[Any], options: dict[str, Any]) -> WoodburyFactor:
        hessian: LowRankMatrix = operator.hessian
        n = hessian.shape[0]
        pattern = Pattern(np.arange(n), np.arange(n), (n, n))
        base = KKTOperator(SparseMatrix(hessian.diagonal, pattern), operator.jacobian, operator.diagonal)
        factor = self.solver.init(base, options)
        there = hessian.signs != 0
        columns, signs = where(there, hessian.columns, 0.0), where(there, hessian.signs, 1.0)
        nothing = jnp.zeros((signs.shape[0], operator.diagonal.shape[0]), columns.dtype)
        images = jax.vmap(lambda v, zero: self.solver.compute(factor, (v, zero), options)[0])(columns.T, nothing)
        small = images[0] @ columns
        small = 0.5 * (small + small.T) + jnp.diag(1.0 / signs)
        values, vectors = jnp.linalg.eigh(small)
        sizes = jnp.abs(values)
        agrees = jnp.sum(values > 0) == jnp.sum(signs > 0)
        unsure = ~(jnp.min(sizes, initial=jnp.inf) > UNSURE * jnp.max(sizes, initial=0.0))
        inverse = (vectors / where(values == 0, 1.0, values)) @ vectors.T
        return WoodburyFactor(factor, columns, images, inverse, agrees, unsure)

    def inertia(self, state: WoodburyFactor) -> Inertia:
        base = self.solver.inertia(state.factor)
        usable = base.correct if base.doubtful is None else base.correct | base.doubtful
        correct = base.correct & state.agrees
        # Where the signs of S are sure, so is a wrong inertia.
        doubtful = usable & ~correct & (state.agrees | state.unsure)
        counted = base.correct if base.counted is None else base.counted
        return Inertia(correct, base.singular, doubtful, counted & state.agrees)

    def compute(self, state: WoodburyFactor, vector: KKTVector, options: dict[str, Any]):
        x, y = self.solver.compute(state.factor, vector, options)[0]
        weights = state.small @ (x @ state.columns)
        return (x - weights @ state.images[0], y - weights @ state.images[1]), RESULTS.successful, {}
