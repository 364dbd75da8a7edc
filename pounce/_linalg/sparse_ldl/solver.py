"""The lineax solver on top of the sparse factorisation."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float
from lineax import RESULTS

from ..kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from ..sparse import SparseMatrix
from . import batching
from .columns import ColumnSymbolic
from .numeric import Factor
from .symbolic import Symbolic


UNSAFE = 1e-4  # an entry of L times the precision, from which on rounding may have changed the sign of a pivot


class LDLFactor(eqx.Module):
    """A factor, what it says about the inertia, and the largest entry of L: where ``growth`` is large (1e8, say) the pivots
    no longer suit the values, and `rematch` on the host can find better ones."""

    factor: Factor
    correct: Bool[Array, ""]
    singular: Bool[Array, ""]
    growth: Float[Array, ""]
    doubtful: Bool[Array, ""]
    counted: Bool[Array, ""]


class SparseLDL(AbstractKKTSolver[LDLFactor]):
    """``L D L'`` of a sparse :class:`KKTOperator` in the static order of ``symbolic`` (see `analyze`).

    The inertia is that of D, exactly, by Sylvester's law. A pivot that is singular to working precision is replaced, and the
    inertia is then never called correct, but doubtful; as is a wrong one where entries of L have become huge. Solves are as
    accurate as static pivots allow; refine them against the operator (`Equilibrated`, `refined_solve`). With tables made without
    pairs, the option ``"regularization"`` of `init` is what is added to the diagonal of the equilibrated matrix, in the
    direction of the expected signs.
    """

    symbolic: Symbolic | ColumnSymbolic

    def init(self, operator: KKTOperator[SparseMatrix], options: dict[str, Any]) -> LDLFactor:
        amount = options.get("regularization")
        root = jnp.sqrt(jnp.finfo(operator.diagonal.dtype).eps)
        amount = root if amount is None else amount
        values = jnp.concatenate([operator.hessian.values, operator.jacobian.values, -operator.diagonal])
        # The derivative rule of `linear_solve` never looks into a factor.
        symbolic, values, amount = lax.stop_gradient((self.symbolic, values, amount))
        factor = batching.factorize(symbolic, values, amount)
        by_columns = isinstance(symbolic, ColumnSymbolic)
        m = symbolic.counts.duals if by_columns else operator.diagonal.shape[-1]
        finite = jnp.isfinite(factor.growth)
        counted = finite & (factor.negative == m)
        correct = counted & (factor.perturbed == 0)
        poor = (factor.perturbed > 0) | (factor.growth * jnp.finfo(factor.growth.dtype).eps > UNSAFE)
        return LDLFactor(factor, correct, factor.dependent > 0, factor.growth, finite & ~correct & poor, counted)

    def inertia(self, state: LDLFactor) -> Inertia:
        return Inertia(state.correct, state.singular, state.doubtful, state.counted)

    def compute(self, state: LDLFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        rhs, symbolic = jnp.concatenate([r_x, r_y]), lax.stop_gradient(self.symbolic)
        solution = batching.solve(symbolic, state.factor, rhs)
        n = r_x.shape[0]
        return (solution[:n], solution[n:]), RESULTS.successful, {}
