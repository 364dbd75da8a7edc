"""Block tridiagonal ``L D L'`` of stage-structured KKT matrices, by `lax.scan` over the stages.

Each stage is a KKT-like block, inverted by symmetric sweeps with 2 x 2 pivots (a constraint row and its matched variable; see
`sparse_ldl.matching`), which shows its inertia; what couples it to the next stage is eliminated by two matrix products. The
work is that of a Riccati recursion, and nothing in it calls LAPACK.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from lineax import RESULTS

from .kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .sparse import SparseMatrix
from .sparse_ldl.numeric import equilibrate
from .stages import Stages, declared_stages as declared_stages, find_stages as find_stages


class StageFactor(eqx.Module):
    """``inverse[t]`` of the pivot block of stage t, and ``down[t]``: what stage t + 1 subtracts of stage t."""

    scale: Float[Array, " u"]
    inverse: Float[Array, "t b b"]
    down: Float[Array, "t b b"]
    negative: Int[Array, ""]
    perturbed: Int[Array, ""]
    correct: Bool[Array, ""]
    growth: Float[Array, ""]


class BlockTridiagonalLDL(AbstractKKTSolver[StageFactor]):
    """Factorises a sparse :class:`KKTOperator` along ``stages`` (`find_stages`, `declared_stages`).

    The order of the stages is static: where a stage by itself is singular, though the whole matrix is not, its pivots are
    replaced and the inertia is not called correct. Refine the solves against the operator.
    """

    stages: Stages

    def init(self, operator: KKTOperator[SparseMatrix], options: dict[str, Any]) -> StageFactor:
        del options
        # The derivative rule of `linear_solve` never looks into a factor.
        values = lax.stop_gradient(
            jnp.concatenate([operator.hessian.values, operator.jacobian.values, -operator.diagonal])
        )
        return _factorize(self.stages, values, operator.diagonal.shape[0])

    def inertia(self, state: StageFactor) -> Inertia:
        return Inertia(state.correct, jnp.array(False))

    def compute(self, state: StageFactor, vector: KKTVector, options: dict[str, Any]):
        del options
        r_x, r_y = vector
        n = r_x.shape[0]
        rhs = state.scale * jnp.concatenate([r_x, r_y])
        rhs = jnp.concatenate([rhs, jnp.zeros(1, rhs.dtype)])[self.stages.unknown]

        def forward(carry, stage):
            rhs, down = stage
            y = rhs - carry
            return down @ y, y

        def backward(x, stage):
            z, down = stage
            x = z - x @ down
            return x, x

        zero = jnp.zeros_like(rhs[0])
        _, y = lax.scan(forward, zero, (rhs, state.down))
        z = jnp.einsum("tij,tj->ti", state.inverse, y)
        _, x = lax.scan(backward, zero, (z, state.down), reverse=True)
        x = state.scale * x.ravel()[self.stages.position]
        return (x[:n], x[n:]), RESULTS.successful, {}


def _factorize(stages: Stages, values, m: int) -> StageFactor:
    tail = jnp.zeros(1, values.dtype)
    scale = equilibrate(stages.rows, stages.position.shape[0], jnp.concatenate([values, tail]))
    scaled = values * scale[stages.row] * scale[stages.column]
    extended = jnp.concatenate([scaled, tail, tail + 1.0])
    sign = jnp.asarray(stages.sign, values.dtype)

    def step(carry, stage):
        update, negative, perturbed = carry
        diagonal, below, sign = stage
        inverse, count, bad = _inverse(extended[diagonal] - update, sign)
        below = extended[below]
        down = below @ inverse
        return (down @ below.T, negative + count, perturbed + bad), (inverse, down)

    size = stages.diagonal.shape[1]
    start = jnp.zeros((size, size), values.dtype), jnp.array(0, jnp.int32), jnp.array(0, jnp.int32)
    (_, negative, perturbed), (inverse, down) = lax.scan(step, start, (stages.diagonal, stages.below, sign))
    growth = jnp.max(jnp.abs(down), initial=0.0)
    correct = jnp.all(jnp.isfinite(inverse)) & jnp.isfinite(growth) & (negative == m) & (perturbed == 0)
    return StageFactor(scale, inverse, down, negative, perturbed, correct, growth)


def _inverse(matrix: Float[Array, "b b"], sign: Float[Array, " b"]):
    """The inverse of a symmetric matrix by sweeps over 2 x 2 pivots in their order (Goodnight 1979), its number of negative
    eigenvalues, and how many pivots were singular to working precision and replaced."""
    size = matrix.shape[0]
    eps = jnp.finfo(matrix.dtype).eps
    place = jnp.arange(size, dtype=jnp.int32)

    def sweep(k, carry):
        matrix, negative, perturbed = carry
        at = 2 * k
        rows = lax.dynamic_slice_in_dim(matrix, at, 2)
        first, second = rows[0], rows[1]
        signs = lax.dynamic_slice_in_dim(sign, at, 2)
        pivot = lax.dynamic_slice_in_dim(rows, at, 2, axis=1)
        a, b, c = pivot[0, 0], pivot[0, 1], pivot[1, 1]
        product, square = a * c, b * b
        bad = jnp.abs(product - square) <= eps * (10 + 100 * jnp.maximum(jnp.abs(product), square))
        shift = jnp.where(bad, jnp.sqrt(eps), 0.0)
        a, c = a + shift * signs[0], c + shift * signs[1]
        determinant = a * c - square
        one, two = place == at, place == at + 1
        # With -1 in place of the pivot, one formula serves the pivot's rows and columns and all others.
        first = jnp.where(one, -1.0, jnp.where(two, 0.0, first))
        second = jnp.where(two, -1.0, jnp.where(one, 0.0, second))
        left, right = (c * first - b * second) / determinant, (a * second - b * first) / determinant
        kept = jnp.where(one | two, 0.0, 1.0).astype(matrix.dtype)
        # Not to be computed again for every entry of the matrix.
        left, right, first, second, kept = lax.optimization_barrier((left, right, first, second, kept))
        matrix = kept[:, None] * matrix * kept - left[:, None] * first - right[:, None] * second
        count = jnp.where(determinant < 0, 1, jnp.where(a + c < 0, 2, 0))
        return matrix, negative + count.astype(jnp.int32), perturbed + bad.astype(jnp.int32)

    zero = jnp.array(0, jnp.int32)
    swept, negative, perturbed = lax.fori_loop(0, size // 2, sweep, (matrix, zero, zero))
    return -swept, negative, perturbed
