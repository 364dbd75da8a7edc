"""Two Cholesky factorisations: the condensed matrix, then the Schur complement of its equality rows."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float
from lineax import RESULTS

from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector


class SchurFactor(eqx.Module):
    """``[[M, A'], [A, 0]] = L diag(I, -I) L'`` with ``M = S (H + J' D^-1 J + rho A'A) S``, up to the regularisation."""

    scale: Float[Array, " n"]
    lower: Float[Array, "k k"]
    jacobian: Float[Array, "m n"] | None  # None where there are no such rows
    inverse_diagonal: Float[Array, " m"]
    equalities: Float[Array, "p n"] | None
    weight: Float[Array, ""]
    finite: Bool[Array, ""]


class SchurCholesky(AbstractKKTSolver[SchurFactor]):
    """For operators whose first ``equalities`` rows have ``D = 0`` and whose others have ``D > 0``.

    The condensed matrix may be singular on directions that only the equality rows cover (a linear program without
    bounds), so a multiple ``rho A'A`` is added, which changes nothing on ``A x = b`` (Golub and Greif 2003). After a diagonal scaling,
    both factorisations get ``regularization * eps`` on their diagonals, a hundredfold again where they fail. What that
    changes is for refinement to remove. Rows with ``D`` below ``floor`` times their size are condensed with that instead.
    """

    equalities: int = eqx.field(static=True)
    regularization: float = eqx.field(static=True, default=100.0)
    floor: float = eqx.field(static=True, default=0.0)
    tries: int = eqx.field(static=True, default=5)

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> SchurFactor:
        del options
        p = self.equalities
        a, jacobian, diagonal = operator.jacobian[:p], operator.jacobian[p:], operator.diagonal[p:]
        n, dtype = operator.hessian.shape[0], operator.hessian.dtype
        if self.floor > 0:
            norms = jnp.sum(jacobian * jacobian, axis=1)
            diagonal = jnp.maximum(diagonal, self.floor * jnp.where(norms > 0, norms, 1.0))
        inverse = 1.0 / diagonal
        rows = jacobian * jnp.sqrt(inverse)[:, None]
        m = operator.hessian + (rows.T @ rows if rows.shape[0] else 0.0)
        weight = jnp.zeros((), dtype)
        if p:
            squares = jnp.sum(a * a, axis=0)
            largest = jnp.max(squares)
            size = jnp.max(jnp.abs(jnp.diagonal(m)))
            weight = jnp.where(largest > 0, jnp.where(size > 0, size, 1.0), 0.0) / jnp.where(largest > 0, largest, 1.0)
            weight = weight * jnp.sqrt(jnp.finfo(dtype).eps)
            m = m + weight * (a.T @ a)
        diagonal_m = jnp.diagonal(m)
        scale = jnp.where(diagonal_m > 0, lax.rsqrt(jnp.where(diagonal_m > 0, diagonal_m, 1.0)), 1.0)
        m = scale[:, None] * m * scale
        scaled_a = a * scale

        def attempt(carry):
            amount, _, count = carry
            upper_left = lax.linalg.cholesky(m + amount * jnp.eye(n, dtype=dtype), symmetrize_input=False)
            lower = upper_left
            if p:
                y = lax.linalg.triangular_solve(
                    upper_left, scaled_a, left_side=False, lower=True, transpose_a=True
                )  # A S L^-T
                s = y @ y.T
                sizes = jnp.diagonal(s)
                shift = amount * jnp.where(sizes > 0, sizes, 1.0)
                corner = lax.linalg.cholesky(s + jnp.diag(shift), symmetrize_input=False)
                lower = jnp.block([[upper_left, jnp.zeros((n, p), dtype)], [y, corner]])
            done = jnp.all(jnp.isfinite(lower))
            return 100 * amount, lower, jnp.where(done, self.tries + 1, count + 1)

        first = jnp.asarray(self.regularization * jnp.finfo(dtype).eps, dtype)
        blank = jnp.zeros((n + p, n + p), dtype)
        _, lower, count = lax.while_loop(lambda c: c[2] < self.tries, attempt, (first, blank, jnp.array(0)))
        return SchurFactor(
            scale, lower, jacobian if jacobian.shape[0] else None, inverse, a if p else None, weight, count > self.tries
        )

    def inertia(self, state: SchurFactor) -> Inertia:
        return Inertia(state.finite, jnp.array(False))

    def compute(self, state: SchurFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        n, p = state.scale.shape[0], self.equalities
        r_a, r_j = r_y[:p], r_y[p:] * state.inverse_diagonal
        g = r_x
        if state.jacobian is not None:
            g = g + r_j @ state.jacobian
        if state.equalities is not None:
            g = g + state.weight * (r_a @ state.equalities)
        forward = lax.linalg.triangular_solve(
            state.lower, jnp.concatenate([state.scale * g, r_a])[:, None], left_side=True, lower=True
        )
        signed = jnp.concatenate([forward[:n], -forward[n:]])
        solved = lax.linalg.triangular_solve(state.lower, signed, left_side=True, lower=True, transpose_a=True)[:, 0]
        x = state.scale * solved[:n]
        y = solved[n:]
        if state.jacobian is not None:
            y = jnp.concatenate([y, (state.jacobian @ x) * state.inverse_diagonal - r_j])
        return (x, y), RESULTS.successful, {}
