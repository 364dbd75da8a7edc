"""The Newton system ``[[P, A', G'], [A, 0, 0], [G, 0, -H]]`` of the scaled program, condensed and refined."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from .._cone.product import ConeProduct, ProductScaling, UnitScaling
from .._linalg import matrix
from .._linalg.kkt import AbstractKKTSolver, KKTOperator
from .._linalg.sparse import SparseMatrix
from .blockwise import through_blocks
from .program import ConicProgram


MAX_REFINEMENTS = 10


class Vector(eqx.Module):
    """A vector of the system: variables, equality rows, cone rows."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    z: Float[Array, " size"]

    def __add__(self, other: "Vector") -> "Vector":
        return jax.tree.map(jnp.add, self, other)

    def __sub__(self, other: "Vector") -> "Vector":
        return jax.tree.map(jnp.subtract, self, other)

    def __rmul__(self, factor: Float[Array, ""]) -> "Vector":
        return jax.tree.map(lambda v: factor * v, self)

    def flat(self) -> Float[Array, " k"]:
        """One after the other in one array."""
        return jnp.concatenate([self.x, self.y, self.z])

    @classmethod
    def parted(cls, flat: Float[Array, " k"], n: int, p: int) -> "Vector":
        """The vector with ``n`` variables and ``p`` equality rows that `flat` made ``flat`` of."""
        return cls(flat[:n], flat[n : n + p], flat[n + p :])


class System(eqx.Module):
    """A factorised system. Bound rows are eliminated into the diagonal; the rows of G reach the KKT solver whitened, unless
    their H is diagonal: then the Jacobian is constant."""

    program: ConicProgram
    scaling: ProductScaling
    solver: AbstractKKTSolver
    factor: PyTree

    def apply(self, v: Vector) -> Vector:
        """The matrix itself, without any regularisation."""
        p = self.program
        return Vector(
            p.curvature(v.x) + matrix.transposed_times(p.A, v.y) + p.rows_transposed(v.z),
            p.A @ v.x,
            p.rows(v.x) - self.product(v.z),
        )

    def usable(self) -> Bool[Array, ""]:
        """Whether the factorisation succeeded."""
        return self.solver.inertia(self.factor).correct

    def product(self, z: Float[Array, " size"]) -> Float[Array, " size"]:
        """``H z``."""
        return self.scaling.product(z[:, None])[:, 0]

    def _weighted(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """``H^-1 v``."""
        return self.scaling.recover(self.scaling.whiten(v[:, None]))[:, 0]

    def approximate(self, r: Vector) -> Vector:
        """The solution up to regularisation and rounding."""
        program, m = self.program, self.program.G.shape[0]
        leading, p = self.scaling.leading(m), program.b.shape[0]
        rows = r.z[:m]
        if leading.diagonal is None:
            rows = leading.whiten(rows[:, None])[:, 0]
        top = r.x
        if program.sides:
            boxes = self.scaling.parts[-1]
            pull = jnp.concatenate([r.z[:m], boxes.recover(boxes.whiten(r.z[m:, None]))[:, 0]])
            top = top + program.bounds_transposed(pull)
        rhs = (top, jnp.concatenate([r.y, rows]))
        (x, y), _, _ = self.solver.compute(self.factor, rhs, {})
        multipliers = self._weighted(program.rows(x) - r.z)
        if isinstance(program.G, SparseMatrix):
            # From the solver: what it leaves of the row of an active constraint would be multiplied by H^-1. Where that is small,
            # the multiplier is too, and the solver's would have the rounding errors of large ones.
            if leading.diagonal is None:
                own = leading.recover(y[p:, None])[:, 0]
            else:
                own = jnp.where(leading.diagonal > 1.0, multipliers[:m], y[p:])
            multipliers = multipliers.at[:m].set(own)
        return Vector(x, y[:p], multipliers)

    def parted(self, flat: Float[Array, " k"]) -> Vector:
        """The vector of the system that is ``flat`` in one array."""
        return Vector.parted(flat, self.program.c.shape[0], self.program.b.shape[0])

    def solve(self, rhs: Float[Array, " k"]) -> tuple[Float[Array, " k"], Bool[Array, ""]]:
        """The solution, refined against the matrix itself, and whether it is finite; vectors in one array.

        Refinement stops at a residual of ``tiny + tiny |rhs|`` or when a pass improves it less than fivefold; a pass that makes
        it worse is not taken.
        """
        eps = jnp.finfo(rhs.dtype).eps
        whole_size = _largest(rhs)
        target = 5e4 * eps * (1.0 + whole_size)
        if isinstance(self.program.A, SparseMatrix):
            # Slacks of large programs may all be small, and the right-hand sides with them.
            target = 100.0 * eps * whole_size

        # Multipliers of rows that curve have the rounding errors of all rows of their cone, times H^-1. Where these end the
        # refinement, one pass more serves the equations alone, since what is left of them stays in the iterate.
        curved = not self.program.cones.polyhedral and not isinstance(self.program.A, SparseMatrix)
        equations = self.program.c.shape[0] + self.program.b.shape[0]

        def proceed(carry):
            _, _, _, going = carry
            return going

        def body(carry):
            solution, residual, (error, count, *whole), _ = carry
            left = residual
            if curved:
                left = jnp.where(whole[0] | (jnp.arange(rhs.shape[0]) < equations), residual, 0.0)
            trial = solution + self.approximate(self.parted(left)).flat()
            remaining = rhs - self.apply(self.parted(trial)).flat()
            new = _largest(remaining)
            better = new < error
            if curved:
                better = jnp.where(whole[0], better, _largest(remaining[:equations]) < _largest(left))
            solution, residual = (jnp.where(better, a, b) for a, b in ((trial, solution), (remaining, residual)))
            going = better & (new > target) & (5.0 * new < error) & (count < MAX_REFINEMENTS)
            error = jnp.where(better, new, error)
            if curved:
                rough = _largest(residual[:equations]) > eps**0.5 * _largest(rhs[:equations])
                whole, going = [whole[0] & going], whole[0] & (going | rough)
            return solution, residual, (error, count + 1, *whole), going

        infinite = jnp.full((), jnp.inf, rhs.dtype)
        whole = (jnp.array(True),) if curved else ()
        start = (jnp.zeros_like(rhs), rhs, (infinite, jnp.zeros((), int), *whole), jnp.array(True))
        solution, _, (error, *_), _ = lax.while_loop(proceed, body, start)
        return solution, jnp.isfinite(error)


def _largest(v: Float[Array, " k"]) -> Float[Array, ""]:
    """The largest magnitude."""
    return jnp.max(jnp.abs(v), initial=0.0)


def prepare(program: ConicProgram, solver: AbstractKKTSolver) -> PyTree:
    """What all factorisations of a program share."""
    return solver.prepare(matrix.stacked(program.A, program.G) if program.cones.polyhedral else program.A)


def unit_scaling(cones: ConeProduct) -> ProductScaling:
    """``H = I``: the scaling of symmetric cones at their unit."""
    return ProductScaling(tuple(UnitScaling() for _ in cones.cones), cones.cones)


def factorize(
    program: ConicProgram,
    scaling: ProductScaling,
    solver: AbstractKKTSolver,
    prepared: PyTree = None,
    regularization: Float[Array, ""] | None = None,
) -> System:
    """The system at a scaling. ``prepared``: by `prepare`; ``regularization``: relative, the solver's own by default."""
    options = {"prepared": prepared, "regularization": regularization}
    return System(program, scaling, solver, solver.init(kkt_operator(program, scaling), options))


def kkt_operator(program: ConicProgram, scaling: ProductScaling) -> KKTOperator:
    """The matrix that is factorised, without the rows of bounds."""
    n, m = program.c.shape[0], program.G.shape[0]
    p = program.b.shape[0]
    dtype = program.c.dtype
    hessian = matrix.zero_symmetric(program.A, n, dtype) if program.P is None else program.P
    if program.sides:
        boxes, masks = scaling.parts[-1], jnp.abs(program.signs())
        weights = boxes.recover(boxes.whiten(masks.reshape(-1, 1))).reshape(masks.shape)
        hessian = matrix.plus_diagonal(hessian, jnp.sum(weights, axis=0))
    leading = scaling.leading(m)
    rows, stiffness = program.G, leading.diagonal
    if stiffness is None:
        rows, stiffness = through_blocks("whiten", leading, rows), jnp.ones(m, dtype)
    jacobian = matrix.stacked(program.A, rows)
    diagonal = jnp.concatenate([jnp.zeros(p, dtype), stiffness])
    return KKTOperator(hessian, jacobian, diagonal)
