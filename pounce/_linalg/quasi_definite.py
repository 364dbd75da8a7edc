"""A sparse KKT solver for convex programs: regularised pivots, and conjugate residuals to make up for them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float
from lineax import RESULTS

from .conjugate_residuals import Rule, minimal_residual
from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .sparse_ldl import LDLFactor, SparseLDL
from .sparse_ldl.columns import ColumnSymbolic


# What a pass may leave of the right-hand side, in the units of the equilibrated matrix, and how many directions it may take: two
# or three as a rule, but each variable that is far from its bounds and hardly held by rows may need one of its own.
RULE = Rule(1e-6, passes=25, directions=25, sweeps=2, one_by_one=True)
# The power of the precision that regularisation begins with. Where a variable is free, or 1e7 from its bounds, there is not
# much more than that on its diagonal.
LEAST = 0.9
# A factor that leaves more than this of a random right-hand side is not worth refining with; one that leaves less than the
# other was regularised more than it had to be.
GOOD, MORE_THAN_GOOD = 1e-2, 1e-6
# Regularisations grow by this factor, while they are below that power of the precision.
FACTOR, MOST = 100.0, 0.4


class QuasiDefiniteFactor(eqx.Module):
    """The matrix and its factor."""

    operator: KKTOperator
    factor: LDLFactor
    good: Bool[Array, ""]
    regularization: Float[Array, ""]  # for the next matrix of its kind to begin with


class QuasiDefiniteLDL(AbstractKKTSolver[QuasiDefiniteFactor]):
    """`SparseLDL` for H positive semidefinite, where every pivot may have a regularisation of a known sign.

    How large that has to be depends on the matrix: eliminating a row with little on its diagonal ``d`` costs the variables in
    it the digits of ``1 / d``, and a regularisation far above the precision is a perturbation that refinement takes long to
    remove. So it is tried out on a right-hand side, and raised where the factor does not reduce that; and solves take the
    best combination of all their directions instead of the last one (conjugate residuals; Eisenstat, Elman and Schultz 1983),
    which removes a few bad directions in as many steps.
    """

    solver: SparseLDL

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> QuasiDefiniteFactor:
        dtype = operator.diagonal.dtype
        least, most = (jnp.asarray(jnp.finfo(dtype).eps ** power, dtype) for power in (LEAST, MOST))
        amount = options.get("regularization")
        amount = least if amount is None else jnp.maximum(least, amount)
        operator = lax.stop_gradient(operator)

        def attempt(carry):
            amount, _, _ = carry
            factor = self.solver.init(operator, {"regularization": amount})
            return FACTOR * amount, factor, self._left(operator, factor)

        def wanted(carry):
            amount, _, left = carry
            return jnp.isnan(left) | ((left > GOOD) & (amount <= most))

        blank = jax.eval_shape(lambda: self.solver.init(operator, {"regularization": amount}))
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blank)
        following, factor, left = lax.while_loop(wanted, attempt, (amount, blank, jnp.full_like(amount, jnp.nan)))
        used, good = following / FACTOR, left <= GOOD
        following = jnp.where(good & (left > MORE_THAN_GOOD), used, jnp.maximum(least, used / FACTOR))
        return QuasiDefiniteFactor(operator, factor, good, following)

    def _left(self, operator: KKTOperator, factor: LDLFactor) -> Float[Array, ""]:
        """What the factor leaves of a right-hand side, relatively; infinite for a factor that is none."""
        scale = factor.factor.scale
        n = operator.hessian.shape[0]
        # Signs without a pattern, the same everywhere.
        signs = jnp.where(jnp.sin(1.0 + 1e3 * jnp.arange(scale.shape[0]) ** 1.5) > 0, 1.0, -1.0).astype(scale.dtype)
        if isinstance(self.solver.symbolic, ColumnSymbolic):
            signs = jnp.where(self.solver.symbolic.real, signs, 0.0)
        # An image of the matrix, which may be singular where rows depend on each other.
        probe = jnp.concatenate(operator.mv(_parts(scale * signs, n)))
        step, _, _ = self.solver.compute(factor, _parts(probe, n), {})
        left = scale * (probe - jnp.concatenate(operator.mv(step)))
        share = jnp.sqrt(jnp.sum(left * left) / jnp.sum((scale * probe) ** 2))
        return jnp.where(factor.correct & jnp.isfinite(share), share, jnp.inf)

    def inertia(self, state: QuasiDefiniteFactor) -> Inertia:
        return Inertia(state.factor.correct & jnp.isfinite(state.factor.growth), jnp.array(False))

    def advised_regularization(self, state: QuasiDefiniteFactor) -> Float[Array, ""]:
        return state.regularization

    def compute(self, state: QuasiDefiniteFactor, vector: KKTVector, options: dict[str, Any]):
        n, scale = vector[0].shape[0], state.factor.factor.scale

        def image(step: Float[Array, " k"]) -> Float[Array, " k"]:
            return scale * jnp.concatenate(state.operator.mv(_parts(step, n)))

        def approximate(residual: Float[Array, " k"]) -> Float[Array, " k"]:
            return jnp.concatenate(self.solver.compute(state.factor, _parts(residual / scale, n), options)[0])

        solved = minimal_residual(image, approximate, scale * jnp.concatenate(vector), RULE)
        return _parts(solved.solution, n), RESULTS.successful, {}


def _parts(v: Float[Array, " k"], n: int) -> KKTVector:
    return v[:n], v[n:]
