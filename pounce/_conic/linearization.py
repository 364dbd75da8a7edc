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
from jaxtyping import Array, Bool, Float, PyTree

from .._cone.product import ConeProduct, ProductFrame
from .._lanes import in_cache
from .._linalg import matrix
from .._linalg.conjugate_residuals import Solved, minimal_residual, to_rounding
from .._linalg.kkt import AbstractKKTSolver, KKTOperator
from .._linalg.sparse import SparseMatrix
from .blockwise import through_blocks
from .equilibration import Scaling
from .program import ConicProgram
from .system import Vector


FREE = 1e-14  # a share of stiffness below which a row is not connected
# Powers of the precision: the compliance that a held row is given, next to the curvature, and the least; the compliance of its
# own below which a row counts as held; what is added to a singular matrix.
SOFT, SOFTEST, HELD, RIDGE = 0.5, 0.8, 0.75, 0.375


class Pair(eqx.Module):
    """A complementary pair of slacks and multipliers or, if there is a ``mu``, one of the central path."""

    s: Float[Array, " size"]
    z: Float[Array, " size"]
    mu: Float[Array, ""] | None = None
    near: "Pair | None" = None  # the complementary pair with the same ``s - z``, where it is at hand

    def linearized(self, cones: ConeProduct, ds: Float[Array, " size"], dz: Float[Array, " size"]):
        """What is left of complementarity after small steps."""
        if self.mu is None:
            return cones.linearized(self.s, self.z, ds, dz)
        return cones.central_linearized(self.s, self.z, ds, dz, self.mu)

    def frame(self, cones: ConeProduct) -> tuple[ProductFrame, Float[Array, " size"]]:
        """The basis in which `linearized` is diagonal, and the sizes of its rows."""
        if self.mu is None:
            return cones.frame(self.s, self.z, None if self.near is None else (self.near.s, self.near.z))
        return cones.central_frame(self.s, self.z, self.mu)


def complementary_pair(cones: ConeProduct, v: Float[Array, " size"]) -> Pair:
    """The pair with ``s - z = v``: the projections of ``v`` and ``-v`` onto the cone and its dual."""
    return Pair(*cones.complementary(v))


class InScaledUnits(eqx.Module):
    """The linear maps of a program in the units of its equilibration, without a copy of its matrices."""

    program: ConicProgram
    scaling: Scaling | None = None  # None: the program itself is meant

    def rows(self, x: Float[Array, " n"]) -> Float[Array, " size"]:
        """The cone rows of a step."""
        if self.scaling is None:
            return self.program.rows(x)
        return self.scaling.rows * self.program.rows(self.scaling.variables * x)

    def rows_transposed(self, z: Float[Array, " size"]) -> Float[Array, " n"]:
        """The adjoint of `rows`."""
        if self.scaling is None:
            return self.program.rows_transposed(z)
        return self.scaling.variables * self.program.rows_transposed(self.scaling.rows * z)

    def equations(self, v: Vector) -> tuple[Float[Array, " n"], Float[Array, " p"]]:
        """Stationarity and the equality rows of a step."""
        program, scaling = self.program, self.scaling
        if scaling is None:
            top = program.curvature(v.x) + matrix.transposed_times(program.A, v.y) + program.rows_transposed(v.z)
            return top, program.A @ v.x
        x = scaling.variables * v.x
        top = matrix.transposed_times(program.A, scaling.equalities * v.y)
        top = top + program.rows_transposed(scaling.rows * v.z) + scaling.cost * program.curvature(x)
        return scaling.variables * top, scaling.equalities * (program.A @ x)


class Rows(eqx.Module):
    """The cone rows in their frame and the factor of the system there: everything about a pair that solves share."""

    frame: ProductFrame
    factor: Float[Array, " size"]
    slack_share: Float[Array, " size"]  # what was factorised
    held_share: Float[Array, " size"]
    softened: Float[Array, " size"]  # how much was added to the slack's share
    # Added to the Hessian of a singular matrix, and its inverse taken from the equality rows; zero if it is not singular, None if
    # that is not known.
    ridge: Float[Array, ""] | None
    size: Float[Array, ""]
    kkt: PyTree


class LinearizedFactor(eqx.Module):
    """A factor of the linearised conditions, and of their transpose."""

    program: InScaledUnits
    rows: Rows
    transposed: bool = eqx.field(static=True)


def relation(rows: Rows, ds: Float[Array, " size"], dz: Float[Array, " size"]) -> Float[Array, " size"]:
    """Complementarity of small steps in the frame, ``a dz + b ds``."""
    frame = rows.frame
    both = frame.rotate(jnp.stack([dz, ds], axis=1))
    return frame.a * both[:, 0] + frame.b * both[:, 1]


def moving_relation(
    cones: ConeProduct, rows: Rows, pair: Pair, ds: Float[Array, " size"], dz: Float[Array, " size"]
) -> Float[Array, " size"]:
    """The same, with the derivatives that `Pair.linearized` has by the pair.

    The numbers are those of the frame: where an eigenvalue is zero on both sides, its row in `Pair.linearized` is rounding.
    """
    fixed = lax.stop_gradient(pair)
    change = pair.linearized(cones, ds, dz) - fixed.linearized(cones, ds, dz)
    largest = jnp.max(rows.factor, initial=0.0)
    known = rows.factor > 1e3 * jnp.finfo(largest.dtype).eps * largest
    weight = jnp.where(known, 1.0 / jnp.where(known, rows.factor, 1.0), 0.0)
    return relation(rows, ds, dz) + weight * rows.frame.rotate(change[:, None])[:, 0]


def conditions(program: InScaledUnits, rows: Rows, v: Vector, pair: Pair | None = None) -> Vector:
    """The linearised conditions applied to steps of the variables and both kinds of multipliers, at constant data.

    Complementarity is in the frame. With a ``pair``, the derivatives by it are there too.
    """
    top, middle = program.equations(v)
    ds = -program.rows(v.x)
    if pair is None:
        return Vector(top, middle, relation(rows, ds, v.z))
    return Vector(top, middle, moving_relation(program.program.cones, rows, pair, ds, v.z))


def _transposed_conditions(program: InScaledUnits, rows: Rows, v: Vector) -> Vector:
    """The transpose of `conditions`."""
    frame = rows.frame
    both = frame.restore(jnp.stack([frame.b, frame.a], axis=1) * v.z[:, None])
    top, middle = program.equations(Vector(v.x, v.y, -both[:, 0]))
    return Vector(top, middle, program.rows(v.x) + both[:, 1])


class LinearizedSolver(lx.AbstractLinearSolver[LinearizedFactor]):
    """Solves `conditions` and its transpose by one symmetric factorisation in the frame of the cones, refined.

    Of a singular matrix the solution is ``K' K K'``, applied to the right-hand side, with ``K'`` the inverse of the regularised
    matrix: what the matrix does not determine stays near zero.
    """

    solver: AbstractKKTSolver
    lane_bytes: int = eqx.field(static=True, default=0)  # for `in_cache`, where many lanes are solved with

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> LinearizedFactor:
        raise NotImplementedError("the factor is handed over as `state`")

    def factorize(
        self, program: ConicProgram, pair: Pair, prepared: PyTree = None, singular: Bool[Array, ""] | None = None
    ) -> Rows:
        """The factor at a pair. ``prepared``: by `system.prepare`. ``singular``: regularise, and let solves know."""
        return lax.stop_gradient(self._factorized(program, pair, prepared, singular))

    def _in_cache(self, method, *arguments):
        # The solver is an argument too: a rule of its own must not close over arrays, such as the tables of a sparse one.
        return (in_cache(method, self.lane_bytes) if self.lane_bytes else method)(self, *arguments)

    def _factorized(self, program: ConicProgram, pair: Pair, prepared: PyTree, singular: Any) -> Rows:
        frame, factor = pair.frame(program.cones)
        n, m = program.c.shape[0], program.G.shape[0]
        dtype, eps = program.c.dtype, jnp.finfo(program.c.dtype).eps
        hessian = matrix.zero_symmetric(program.A, n, dtype) if program.P is None else program.P
        rotated = through_blocks("rotate", frame.leading(m), program.G)
        norms = jnp.concatenate([matrix.row_squares(rotated), jnp.ones(frame.a.shape[0] - m, dtype)])
        norms = jnp.where(norms > 0, norms, 1.0)
        held = jnp.maximum(frame.b, FREE)
        bound = frame.a < eps**HELD * held
        size = jnp.max(jnp.abs(matrix.diagonal(hessian)), initial=0.0)
        if not program.cones.polyhedral:
            # The springs of curved rows are curvature like the Hessian's: a held row has to be stiffer than they are.
            springs = norms * held / jnp.where(bound, jnp.inf, frame.a)
            stiff = frame.a < held
            if singular is not None:
                # A spring that a ridge will soften is as good as held, and none that other things are measured by.
                stiff = stiff & (~singular | (frame.a > eps**RIDGE * held))
            size = jnp.maximum(size, jnp.max(jnp.where(stiff, springs, 0.0), initial=0.0))
        size = jnp.where(size > 0, size, 1.0)
        # A held row is infinitely stiff; so stiff as to leave the square root of the precision is enough for refinement.
        softness = jnp.maximum(eps**SOFT / size, eps**SOFTEST)
        ridge = None
        if singular is not None:
            ridge = jnp.where(singular, eps**RIDGE, 0.0).astype(dtype)
            softness, bound = jnp.maximum(softness, ridge / size), bound | singular
        slack = jnp.where(bound, jnp.maximum(frame.a, softness * norms * held), frame.a)
        added = [] if ridge is None else [jnp.full(n, ridge * size, dtype)]
        if program.sides:
            added.append(program.bounds_summed(held / slack))
        if added:
            hessian = matrix.plus_diagonal(hessian, sum(added[1:], start=added[0]))
        jacobian = matrix.stacked(program.A, rotated)
        diagonal = jnp.concatenate([jnp.zeros(program.b.shape[0], dtype), (slack / held)[:m]])
        kkt = self.solver.init(KKTOperator(hessian, jacobian, diagonal), {"prepared": prepared})
        positive = jnp.max(factor, initial=0.0) * eps
        factor = jnp.maximum(factor, jnp.where(positive > 0, positive, 1.0))
        return Rows(
            frame=frame,
            factor=factor,
            slack_share=slack,
            held_share=held,
            softened=slack - frame.a,
            ridge=ridge,
            size=size,
            kkt=kkt,
        )

    def _approximate(self, state: LinearizedFactor, r: Vector) -> Vector:
        """One solve, up to regularisation and the stiffness of held rows."""
        program, m = state.program, state.program.program.G.shape[0]
        p = state.program.program.b.shape[0]
        frame, a, b = state.rows.frame, state.rows.slack_share, state.rows.held_share
        # a dz - b (R dx) = r: the row of the symmetric system is (R dx) - (a / b) dz = -r / b.
        right = frame.rotate(r.z[:, None])[:, 0] if state.transposed else -r.z / b
        bounds = (right * (b / a)).at[:m].set(0.0)
        rhs = (r.x + program.rows_transposed(bounds), jnp.concatenate([r.y, right[:m]]))
        (x, y), _, _ = self.solver.compute(state.rows.kkt, rhs, {})
        rows = frame.rotate(program.rows(x)[:, None])[:, 0]
        pull = (b / a) * (rows - right)
        if isinstance(program.program.G, SparseMatrix):
            pull = pull.at[:m].set(y[p:])
        if state.transposed:
            # (R u) + a t = r with the pull w = -b t.
            z = jnp.where(a > b, (right - rows) / a, -pull / b)
        else:
            z = frame.restore(pull[:, None])[:, 0]
        return Vector(x, y[:p], z)

    def compute(self, state: LinearizedFactor, vector: Vector, options: dict[str, Any]):
        del options
        return self._in_cache(LinearizedSolver._bounded, state, vector), lx.RESULTS.successful, {}

    def solve(self, state: LinearizedFactor, vector: Vector) -> Solved:
        """The solution with the matrix (the regularised one of a singular matrix), and what is left."""

        matrix, rows = _transposed_conditions if state.transposed else conditions, state.rows
        ridge = rows.ridge
        if ridge is not None:
            # `_added` to the slack's share is what was factorised.
            slack = jnp.where(ridge > 0, rows.slack_share, rows.frame.a)
            rows = dataclasses.replace(rows, frame=dataclasses.replace(rows.frame, a=slack))

        def apply(v: Vector) -> Vector:
            image = matrix(state.program, rows, v)
            if ridge is None:
                return image
            return Vector(image.x + ridge * rows.size * v.x, image.y - ridge / rows.size * v.y, image.z)

        return minimal_residual(apply, lambda r: self._approximate(state, r), vector, to_rounding(vector.x))

    def _added(self, state: LinearizedFactor, v: Vector) -> Vector:
        """What the regularisation of a singular matrix adds to the image of a vector."""
        rows, frame = state.rows, state.rows.frame
        assert rows.ridge is not None
        softened = jnp.where(rows.ridge > 0, rows.softened, 0.0)
        if state.transposed:
            z = frame.restore((softened * v.z)[:, None])[:, 0]
        else:
            z = softened * frame.rotate(v.z[:, None])[:, 0]
        return Vector(rows.ridge * rows.size * v.x, -rows.ridge / rows.size * v.y, z)

    def _bounded(self, state: LinearizedFactor, vector: Vector) -> Vector:
        def once(carry):
            right, _, count = carry
            solved = self.solve(state, right)
            # The image under the matrix itself, for a second time.
            image = right - solved.residual - self._added(state, solved.solution)
            return image, solved.solution, count + 1

        assert state.rows.ridge is not None
        zero = jax.tree.map(jnp.zeros_like, vector)
        times = jnp.where(state.rows.ridge > 0, 2, 1)
        return lax.while_loop(lambda carry: carry[2] < times, once, (vector, zero, jnp.zeros((), int)))[1]

    def transpose(self, state: LinearizedFactor, options: dict[str, Any]):
        return dataclasses.replace(state, transposed=not state.transposed), options

    def conj(self, state: LinearizedFactor, options: dict[str, Any]):
        return state, options

    def assume_full_rank(self) -> bool:
        return True
