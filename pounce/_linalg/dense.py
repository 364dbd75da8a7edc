"""Dense KKT solvers: condensed Cholesky, null-space (QR) Cholesky, and pivoted LU.

All three decide the inertia by a Cholesky factorisation of the matrix condensed to the primal variables,
``M = H + J' (D + delta)^-1 J``: by Sylvester's law and Haynsworth's additivity the KKT matrix has exactly ``m`` negative
eigenvalues when every ``D + delta`` is positive and ``M`` is positive definite. A failed Cholesky answers NaN, lane by lane.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.scipy import linalg as jsl
from jaxtyping import Array, Bool, Float, Int
from lineax import RESULTS

from .._choose import where
from .equilibrate import symmetric_scale
from .householder import orthogonal_basis
from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .matrix import times, transposed_times


class _Scaled(eqx.Module):
    """``S H S``, ``J S`` and the positive row diagonal used to condense."""

    scale: Float[Array, " n"]
    hessian: Float[Array, "n n"]
    jacobian: Float[Array, "m n"]
    diagonal: Float[Array, " m"]


def _scaled(operator: KKTOperator, exponent: float) -> _Scaled:
    scale = symmetric_scale(operator.hessian)
    hessian = scale[:, None] * operator.hessian * scale
    jacobian = operator.jacobian * scale
    norms = jnp.sum(jacobian * jacobian, axis=1)
    # An equality row (D = 0) is condensed with a small multiple of its own size; refinement removes the difference.
    delta = jnp.finfo(jacobian.dtype).eps ** exponent
    floor = delta * where(norms > 0, norms, 1.0)
    return _Scaled(scale, hessian, jacobian, jnp.maximum(operator.diagonal, floor))


class CondensedFactor(eqx.Module):
    scaled: _Scaled
    lower: Float[Array, "n n"]


class CondensedCholesky(AbstractKKTSolver[CondensedFactor]):
    """Cholesky of ``H + J' (D + delta)^-1 J``. The cheapest, and the one to use on a GPU."""

    exponent: float = eqx.field(static=True, default=0.5)  # delta = eps ** exponent

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> CondensedFactor:
        del options
        scaled = _scaled(operator, self.exponent)
        rows = scaled.jacobian * lax.rsqrt(scaled.diagonal)[:, None]
        return CondensedFactor(scaled, lax.linalg.cholesky(scaled.hessian + rows.T @ rows, symmetrize_input=False))

    def inertia(self, state: CondensedFactor) -> Inertia:
        return Inertia(_finite(state.lower), jnp.array(False))

    def compute(self, state: CondensedFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        s = state.scaled
        rhs = s.scale * r_x + transposed_times(s.jacobian, r_y / s.diagonal)
        x = _cholesky_solve(state.lower, rhs)
        return (s.scale * x, (times(s.jacobian, x) - r_y) / s.diagonal), RESULTS.successful, {}


class NullSpaceFactor(eqx.Module):
    scaled: _Scaled
    order: Int[Array, " m"]
    place: Int[Array, " m"]  # of each row in that order
    basis: Float[Array, "n n"]
    rows: Float[Array, "n m"]
    lower: Float[Array, "n n"]
    singular: Bool[Array, ""]


class NullSpaceCholesky(AbstractKKTSolver[NullSpaceFactor]):
    """Cholesky of the condensed matrix in the basis of a QR factorisation of ``J'``, stiffest rows first.

    In that basis the large entries ``R (D + delta)^-1 R'`` are graded from the top left, so rounding errors of active
    constraints stay off the null space of J, where curvature decides the inertia: what is left there is ``Z' H Z`` to full
    precision. The diagonal of R shows dependent equality rows.
    """

    exponent: float = eqx.field(static=True, default=0.625)  # delta = eps ** exponent

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> NullSpaceFactor:
        del options
        scaled = _scaled(operator, self.exponent)
        n, m = operator.hessian.shape[0], operator.diagonal.shape[0]
        norms = jnp.sqrt(jnp.sum(scaled.jacobian * scaled.jacobian, axis=1))
        order = jnp.argsort(scaled.diagonal / where(norms > 0, norms * norms, 1.0))
        jacobian, diagonal = scaled.jacobian[order], scaled.diagonal[order]
        basis, rows, form = orthogonal_basis(jacobian, scaled.hessian)
        weighted = rows * lax.rsqrt(diagonal)
        lower = lax.linalg.cholesky(form + weighted @ weighted.T, symmetrize_input=False)
        k = min(n, m)
        pivot, size, nominal = jnp.abs(jnp.diagonal(rows)), norms[order][:k], operator.diagonal[order][:k]
        threshold = 100 * max(n, m) * jnp.finfo(lower.dtype).eps
        singular = jnp.any((nominal == 0) & (pivot <= threshold * size))
        return NullSpaceFactor(scaled, order, jnp.argsort(order), basis, rows, lower, singular)

    def inertia(self, state: NullSpaceFactor) -> Inertia:
        return Inertia(_finite(state.lower), state.singular)

    def compute(self, state: NullSpaceFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        s = state.scaled
        rhs = transposed_times(state.basis, s.scale * r_x) + times(state.rows, (r_y / s.diagonal)[state.order])
        x = _cholesky_solve(state.lower, rhs)
        y = (transposed_times(state.rows, x)[state.place] - r_y) / s.diagonal
        return (s.scale * times(state.basis, x), y), RESULTS.successful, {}


class LUFactor(eqx.Module):
    scaled: _Scaled
    lu: Float[Array, "k k"]
    pivots: Int[Array, " k"]
    correct: Bool[Array, ""]


class PivotedLU(AbstractKKTSolver[LUFactor]):
    """Pivoted LU of the whole KKT matrix for the solves. ``exact_inertia``: count eigenvalues instead of trusting a
    condensed Cholesky (slow; the oracle the others are measured against)."""

    exponent: float = eqx.field(static=True, default=0.5)  # delta = eps ** exponent
    exact_inertia: bool = eqx.field(static=True, default=False)

    def init(self, operator: KKTOperator, options: dict[str, Any]) -> LUFactor:
        del options
        m, n = operator.jacobian.shape
        scaled = _scaled(operator, self.exponent)
        matrix = KKTOperator(scaled.hessian, scaled.jacobian, operator.diagonal).as_matrix()
        if self.exact_inertia:
            finite = jnp.all(jnp.isfinite(matrix))
            values = jnp.linalg.eigvalsh(where(finite, matrix, 0.0))
            correct = finite & (jnp.sum(values < 0) <= m) & (jnp.sum(values > 0) >= n)
        else:
            rows = scaled.jacobian * lax.rsqrt(scaled.diagonal)[:, None]
            correct = _finite(lax.linalg.cholesky(scaled.hessian + rows.T @ rows, symmetrize_input=False))
        lu, pivots = jsl.lu_factor(matrix)
        return LUFactor(scaled, lu, pivots, correct)

    def inertia(self, state: LUFactor) -> Inertia:
        return Inertia(state.correct, ~_finite(state.lu))

    def compute(self, state: LUFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        n = r_x.shape[0]
        solution = jsl.lu_solve((state.lu, state.pivots), jnp.concatenate([state.scaled.scale * r_x, r_y]))
        return (state.scaled.scale * solution[:n], solution[n:]), RESULTS.successful, {}


def _finite(lower: Float[Array, "n n"]) -> Bool[Array, ""]:
    return jnp.all(jnp.isfinite(lower))


def _cholesky_solve(lower: Float[Array, "n n"], rhs: Float[Array, " n"]) -> Float[Array, " n"]:
    half = lax.linalg.triangular_solve(lower, rhs[:, None], left_side=True, lower=True)
    return lax.linalg.triangular_solve(lower, half, left_side=True, lower=True, transpose_a=True)[:, 0]
