"""Two Cholesky factorisations: the condensed matrix, then the Schur complement of its equality rows."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float
from lineax import RESULTS

from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .triangular import AbstractCholeskyFactor, cholesky_factor


class SchurFactor(eqx.Module):
    """``M = L L'``, ``Y = L^-1 A'`` and ``Y'Y = C C'`` with ``M = H + J' D^-1 J + rho A'A``, up to the regularisation.

    Parts of rows that do not exist are None: XLA's importer was seen to lose the attributes of LAPACK calls in loops that close over
    empty arrays.
    """

    lower: AbstractCholeskyFactor
    jacobian: Float[Array, "m n"] | None
    inverse_diagonal: Float[Array, " m"] | None
    equalities: Float[Array, "p n"] | None
    half: Float[Array, "n p"] | None
    corner: AbstractCholeskyFactor | None
    weight: Float[Array, ""]


class SchurCholesky(AbstractKKTSolver[SchurFactor]):
    """For operators whose first ``equalities`` rows have ``D = 0`` and whose others have ``D > 0``.

    The condensed matrix may be singular on directions that only the equality rows cover (a linear program without
    bounds), so a multiple ``rho A'A`` is added, which changes nothing on ``A x = b`` (Golub and Greif 2003); the option ``"gram"`` may hold
    ``A'A`` where one A meets many factorisations. Both matrices are regularised by ``regularization * eps`` times their diagonals (or
    by the option ``"regularization"``), a hundred times more for each of ``tries`` that fail. What that changes is for refinement to
    remove.
    """

    equalities: int = eqx.field(static=True)
    regularization: float = eqx.field(static=True, default=100.0)
    tries: int = eqx.field(static=True, default=0)

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> SchurFactor:
        p = self.equalities
        dtype = operator.hessian.dtype
        m = operator.hessian
        jacobian = inverse = equalities = None
        if operator.diagonal.shape[0] > p:
            jacobian, inverse = operator.jacobian[p:], 1.0 / operator.diagonal[p:]
            # Contracting over the last axis is nearly twice as fast as over the first.
            columns = (jacobian * jnp.sqrt(inverse)[:, None]).T
            m = m + columns @ columns.T
        weight = jnp.zeros((), dtype)
        if p:
            equalities = operator.jacobian[:p]
            gram = options.get("gram")
            gram = equalities.T @ equalities if gram is None else gram
            largest, size = jnp.max(jnp.diagonal(gram)), jnp.max(jnp.abs(jnp.diagonal(m)))
            weight = jnp.where(size > 0, size, 1.0) / jnp.where(largest > 0, largest, 1.0)
            weight = jnp.sqrt(jnp.finfo(dtype).eps) * weight
            m = m + weight * gram
        first = options.get("regularization")
        first = jnp.asarray(self.regularization * jnp.finfo(dtype).eps, dtype) if first is None else first
        factors = self._factors(m, equalities, first)
        if self.tries:

            def again(carry):
                amount, _, count = carry
                return 100 * amount, self._factors(m, equalities, 100 * amount), count + 1

            def failed(carry):
                _, factors, count = carry
                return (count < self.tries) & ~_usable(factors)

            _, factors, _ = lax.while_loop(failed, again, (first, factors, jnp.zeros((), int)))
        lower, half, corner = factors
        return SchurFactor(lower, jacobian, inverse, equalities, half, corner, weight)

    def _factors(self, m, equalities, amount):
        lower = _regularized_cholesky(m, amount)
        if equalities is None:
            return lower, None, None
        half = lower.forward(equalities.T)
        return lower, half, _regularized_cholesky(half.T @ half, amount)

    def inertia(self, state: SchurFactor) -> Inertia:
        return Inertia(_usable((state.lower, state.half, state.corner)), jnp.array(False))

    def compute(self, state: SchurFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        p = self.equalities
        g = r_x
        pull = None
        if state.jacobian is not None:
            pull = r_y[p:] * state.inverse_diagonal
            g = g + pull @ state.jacobian
        y = []
        if state.equalities is not None:
            g = g + state.weight * (r_y[:p] @ state.equalities)
            forward = state.lower.forward(g)
            v = -state.corner.backward(state.corner.forward(r_y[:p] - forward @ state.half))
            forward = forward - state.half @ v
            y.append(v)
        else:
            forward = state.lower.forward(g)
        x = state.lower.backward(forward)
        if state.jacobian is not None:
            y.append((state.jacobian @ x) * state.inverse_diagonal - pull)
        return (x, jnp.concatenate(y) if y else jnp.zeros_like(r_y)), RESULTS.successful, {}


def _regularized_cholesky(matrix: Float[Array, "k k"], amount: Float[Array, ""]) -> AbstractCholeskyFactor:
    diagonal = jnp.diagonal(matrix)
    shift = amount * jnp.where(diagonal > 0, diagonal, 1.0)
    return cholesky_factor(matrix + jnp.diag(shift))


def _usable(factors) -> Array:
    lower, _, corner = factors
    return lower.finite() if corner is None else lower.finite() & corner.finite()
