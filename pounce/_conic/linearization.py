"""The optimality conditions of a convex program linearised at a complementary pair, and a solver for them.

At a solution ``s`` is the projection of ``v = s - z`` onto the cone, so that slack and multiplier move together along the
derivative of that projection (Busseti, Moursi and Boyd 2019). Each cone states this as a linear relation in ``(ds, dz)``
that is smooth in ``(s, z)``, for derivatives beyond the first, and supplies an orthogonal frame in which the relation is
diagonal: there the system is the symmetric one of `pounce._linalg.kkt`, for the linearisation and for its transpose alike.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Float, PyTree

from .._cone.product import ConeProduct, ProductFrame
from .._lanes import in_cache
from .._linalg import matrix
from .._linalg.kkt import AbstractKKTSolver, KKTOperator
from .._linalg.sparse import SparseMatrix
from .blockwise import through_blocks
from .program import ConicProgram
from .system import Vector


MAX_REFINEMENTS = 5
FREE = 1e-14  # a share of stiffness below which a row is not connected


class Pair(eqx.Module):
    """A complementary (or central) pair of slacks and multipliers."""

    s: Float[Array, " size"]
    z: Float[Array, " size"]


def complementary_pair(cones: ConeProduct, v: Float[Array, " size"]) -> Pair:
    """The pair with ``s - z = v``: the projections of ``v`` and ``-v`` onto the cone and its dual."""
    near = cones.project(v)
    return Pair(near, near - v)


class LinearizedFactor(eqx.Module):
    """A factor of the linearised conditions, and of their transpose."""

    program: ConicProgram
    pair: Pair
    rows: "_Rows"
    transposed: bool = eqx.field(static=True)


class _Rows(eqx.Module):
    """The rows in their frame and the factor of the system there."""

    frame: ProductFrame
    factor: Float[Array, " size"]
    slack_share: Float[Array, " size"]
    held_share: Float[Array, " size"]
    kkt: PyTree


def conditions(program: ConicProgram, pair: Pair, v: Vector) -> Vector:
    """The linearised conditions applied to steps of the variables and both kinds of multipliers, at constant data."""
    return Vector(
        program.curvature(v.x) + matrix.transposed_times(program.A, v.y) + program.rows_transposed(v.z),
        program.A @ v.x,
        program.cones.linearized(pair.s, pair.z, -program.rows(v.x), v.z),
    )


class LinearizedSolver(lx.AbstractLinearSolver[LinearizedFactor]):
    """Solves `conditions` and its transpose by one symmetric factorisation in the frame of the cones, refined."""

    solver: AbstractKKTSolver
    lane_bytes: int = eqx.field(static=True, default=0)  # for `in_cache`, where many lanes are solved with

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> LinearizedFactor:
        raise NotImplementedError("the factor is handed over as `state`")

    def factorize(self, program: ConicProgram, pair: Pair, prepared: PyTree = None) -> LinearizedFactor:
        """The factor at a pair. ``prepared``: by `system.prepare`."""
        rows = self._in_cache(LinearizedSolver._factorized, program, pair, prepared)
        return lax.stop_gradient(LinearizedFactor(program, pair, rows, False))

    def _in_cache(self, method, *arguments):
        # The solver is an argument too: a rule of its own must not close over arrays, such as the tables of a sparse one.
        return (in_cache(method, self.lane_bytes) if self.lane_bytes else method)(self, *arguments)

    def _factorized(self, program: ConicProgram, pair: Pair, prepared: PyTree) -> "_Rows":
        frame, factor = program.cones.frame(pair.s, pair.z)
        n, m = program.c.shape[0], program.G.shape[0]
        dtype = program.c.dtype
        hessian = matrix.zero_symmetric(program.A, n, dtype) if program.P is None else program.P
        # A held row is infinitely stiff; so stiff as to leave the square root of the precision is enough for refinement.
        size = jnp.max(jnp.abs(matrix.diagonal(hessian)), initial=0.0)
        softness = jnp.sqrt(jnp.finfo(dtype).eps) / jnp.where(size > 0, size, 1.0)
        rotated = through_blocks("rotate", frame.leading(m), program.G)
        norms = jnp.concatenate([matrix.row_squares(rotated), jnp.ones(frame.a.shape[0] - m, dtype)])
        held = jnp.maximum(frame.b, FREE)
        slack = jnp.maximum(frame.a, softness * jnp.where(norms > 0, norms, 1.0) * held)
        for weight in program.split(held / slack)[1:]:
            if weight is not None:
                hessian = matrix.plus_diagonal(hessian, weight)
        jacobian = matrix.stacked(program.A, rotated)
        diagonal = jnp.concatenate([jnp.zeros(program.b.shape[0], dtype), (slack / held)[:m]])
        kkt = self.solver.init(KKTOperator(hessian, jacobian, diagonal), {"prepared": prepared})
        positive = jnp.max(factor, initial=0.0) * jnp.finfo(dtype).eps
        factor = jnp.maximum(factor, jnp.where(positive > 0, positive, 1.0))
        return _Rows(frame, factor, slack, held, kkt)

    def _approximate(self, state: LinearizedFactor, r: Vector) -> Vector:
        """One solve, up to regularisation and the stiffness of held rows."""
        program, m = state.program, state.program.G.shape[0]
        frame, a, b = state.rows.frame, state.rows.slack_share, state.rows.held_share
        column = r.z[:, None]
        if state.transposed:
            right = frame.rotate(column)[:, 0]
        else:
            # a dz - b (R dx) = r: the row of the symmetric system is (R dx) - (a / b) dz = -r / b.
            right = -frame.rotate(column)[:, 0] / state.rows.factor / b
        bounds = (right * (b / a)).at[:m].set(0.0)
        rhs = (r.x + program.rows_transposed(bounds), jnp.concatenate([r.y, right[:m]]))
        (x, y), _, _ = self.solver.compute(state.rows.kkt, rhs, {})
        rows = frame.rotate(program.rows(x)[:, None])[:, 0]
        pull = (b / a) * (rows - right)
        if isinstance(program.G, SparseMatrix):
            pull = pull.at[:m].set(y[program.b.shape[0] :])
        if state.transposed:
            # (R u) + a t = r with the pull w = -b t.
            t = jnp.where(a > b, (right - rows) / a, -pull / b)
            z = frame.restore((t / state.rows.factor)[:, None])[:, 0]
        else:
            z = frame.restore(pull[:, None])[:, 0]
        return Vector(x, y[: program.b.shape[0]], z)

    def compute(self, state: LinearizedFactor, vector: Vector, options: dict[str, Any]):
        del options
        return self._in_cache(LinearizedSolver._refined, state, vector), lx.RESULTS.successful, {}

    def _refined(self, state: LinearizedFactor, vector: Vector) -> Vector:
        def forward(v: Vector) -> Vector:
            return conditions(state.program, state.pair, v)

        apply = forward
        if state.transposed:
            transpose = jax.linear_transpose(forward, vector)

            def apply(v: Vector) -> Vector:
                return transpose(v)[0]

        eps = jnp.finfo(vector.x.dtype).eps
        target = 100 * eps * vector.size()

        def body(carry):
            solution, residual, error, count, _ = carry
            trial = solution + self._approximate(state, residual)
            remaining = vector - apply(trial)
            new = remaining.size()
            better = new < error
            solution, residual = jax.tree.map(
                lambda a, b: jnp.where(better, a, b), (trial, remaining), (solution, residual)
            )
            going = better & (new > target) & (2.0 * new < error) & (count < MAX_REFINEMENTS)
            return solution, residual, jnp.where(better, new, error), count + 1, going

        zero = jax.tree.map(jnp.zeros_like, vector)
        start = (zero, vector, jnp.asarray(jnp.inf, vector.x.dtype), jnp.zeros((), int), jnp.array(True))
        return lax.while_loop(lambda c: c[-1], body, start)[0]

    def transpose(self, state: LinearizedFactor, options: dict[str, Any]):
        return dataclasses.replace(state, transposed=not state.transposed), options

    def conj(self, state: LinearizedFactor, options: dict[str, Any]):
        return state, options

    def assume_full_rank(self) -> bool:
        return True
