"""Two Cholesky factorisations: the condensed matrix, then the Schur complement of its equality rows."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float
from lineax import RESULTS

from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .triangular import AbstractCholeskyFactor, cholesky_factor


class Equalities(eqx.Module):
    """The rows with ``D = 0``: ``A``, ``rho``, ``Y = L^-1 A'`` and ``C`` with ``Y'Y = C C'``."""

    jacobian: Float[Array, "p n"]
    weight: Float[Array, ""]
    half: Float[Array, "n p"]
    corner: AbstractCholeskyFactor


class Inequalities(eqx.Module):
    """The rows with ``D > 0``: ``J`` and the diagonal of ``D^-1``."""

    jacobian: Float[Array, "m n"]
    inverse_diagonal: Float[Array, " m"]


class Prepared(eqx.Module):
    """Of constant rows: ``A'A`` of the equalities and the transpose of the others, as far as there are any."""

    gram: Float[Array, "n n"] | None
    columns: Float[Array, "n m"] | None


class SchurFactor(eqx.Module):
    """``L`` with ``L L' = M = H + J' D^-1 J + rho A'A``, up to the regularisation, and what solves take of the rows.

    Rows that do not exist are None: XLA's importer was seen to lose the attributes of LAPACK calls in loops that close over
    empty arrays.
    """

    lower: AbstractCholeskyFactor
    equalities: Equalities | None
    inequalities: Inequalities | None


class SchurCholesky(AbstractKKTSolver[SchurFactor]):
    """For operators whose first ``equalities`` rows have ``D = 0`` and whose others have ``D > 0``.

    The condensed matrix may be singular on directions that only the equality rows cover (a linear program without
    bounds), so a multiple ``rho A'A`` is added, which changes nothing on ``A x = b`` (Golub and Greif 2003). Both matrices
    are regularised by ``regularization * eps`` times their diagonals (by the option ``"regularization"`` if that is more), a
    hundred times more for each of ``tries`` that fail. What that changes is for refinement to remove. With ``invert``, small
    factors are inverted.
    """

    equalities: int = eqx.field(static=True)
    regularization: float = eqx.field(static=True, default=100.0)
    tries: int = eqx.field(static=True, default=0)
    invert: bool = eqx.field(static=True, default=False)

    def prepare(self, jacobian: Float[Array, "k n"]) -> Prepared:
        p = self.equalities
        equal, others = jacobian[:p], jacobian[p:]
        # Contracting over the last axis is more than twice as fast as over the first, and so is a transpose made once.
        return Prepared(equal.T @ equal if p else None, others.T if others.shape[0] else None)

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> SchurFactor:
        p = self.equalities
        dtype = operator.hessian.dtype
        m = operator.hessian
        prepared = options.get("prepared")
        prepared = self.prepare(operator.jacobian) if prepared is None else prepared
        inequalities = jacobian = weighted = None
        if operator.diagonal.shape[0] > p:
            inequalities = Inequalities(operator.jacobian[p:], 1.0 / operator.diagonal[p:])
            columns = inequalities.jacobian.T if prepared.columns is None else prepared.columns
            m = m + (columns * inequalities.inverse_diagonal) @ columns.T
        if p:
            jacobian = operator.jacobian[:p]
            gram = prepared.gram
            assert gram is not None
            largest, size = jnp.max(jnp.diagonal(gram)), jnp.max(jnp.abs(jnp.diagonal(m)))
            weight = jnp.where(size > 0, size, 1.0) / jnp.where(largest > 0, largest, 1.0)
            weight = jnp.sqrt(jnp.finfo(dtype).eps) * weight
            m = m + weight * gram
            weighted = jacobian, weight
        least, given = jnp.asarray(self.regularization * jnp.finfo(dtype).eps, dtype), options.get("regularization")
        first = least if given is None else jnp.maximum(least, given)
        factors = self._factors(m, jacobian, first)
        if self.tries:

            def again(carry):
                amount, _, count = carry
                return 100 * amount, self._factors(m, jacobian, 100 * amount), count + 1

            def failed(carry):
                _, factors, count = carry
                return (count < self.tries) & ~_usable(*factors)

            _, factors, _ = lax.while_loop(failed, again, (first, factors, jnp.zeros((), int)))
        lower, *complement = factors
        equalities = None if weighted is None else Equalities(*weighted, *complement)
        return SchurFactor(lower, equalities, inequalities)

    def _factors(
        self, m: Float[Array, "n n"], jacobian: Float[Array, "p n"] | None, amount: Float[Array, ""]
    ) -> tuple[Any, ...]:
        """``(L,)``, and ``Y`` and ``C`` too where there are equality rows."""
        lower = self._regularized(m, amount)
        if jacobian is None:
            return (lower,)
        half = lower.forward(jacobian.T)
        return lower, half, self._regularized(half.T @ half, amount)

    def _regularized(self, matrix: Float[Array, "k k"], amount: Float[Array, ""]) -> AbstractCholeskyFactor:
        diagonal = jnp.diagonal(matrix)
        shift = amount * jnp.where(diagonal > 0, diagonal, 1.0)
        return cholesky_factor(matrix + jnp.diag(shift), self.invert)

    def inertia(self, state: SchurFactor) -> Inertia:
        corner = () if state.equalities is None else (state.equalities.corner,)
        return Inertia(_usable(state.lower, *corner), jnp.array(False))

    def compute(self, state: SchurFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        p, equal, others = self.equalities, state.equalities, state.inequalities
        g, pull, y = r_x, None, []
        if others is not None:
            pull = r_y[p:] * others.inverse_diagonal
            g = g + pull @ others.jacobian
        if equal is not None:
            g = g + equal.weight * (r_y[:p] @ equal.jacobian)
        forward = state.lower.forward(g)
        if equal is not None:
            v = -equal.corner.backward(equal.corner.forward(r_y[:p] - forward @ equal.half))
            forward = forward - equal.half @ v
            y.append(v)
        x = state.lower.backward(forward)
        if others is not None and pull is not None:
            y.append((others.jacobian @ x) * others.inverse_diagonal - pull)
        return (x, jnp.concatenate(y) if y else jnp.zeros_like(r_y)), RESULTS.successful, {}


def _usable(lower: AbstractCholeskyFactor, *complement) -> Bool[Array, ""]:
    return lower.finite() & complement[-1].finite() if complement else lower.finite()
