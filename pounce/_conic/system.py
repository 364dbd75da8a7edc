"""The Newton system ``[[P, A', G'], [A, 0, 0], [G, 0, -H]]`` of the scaled program, condensed and refined."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._cone.product import ConeProduct, ProductScaling, UnitScaling
from .._linalg import matrix
from .._linalg.kkt import AbstractKKTSolver, KKTOperator
from .._linalg.refinement import AbstractRule, max_abs, refined_solve
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
        """The solution, refined against the matrix itself, and whether it is finite; vectors in one array."""
        eps, sparse = float(jnp.finfo(rhs.dtype).eps), isinstance(self.program.A, SparseMatrix)
        # Slacks of large sparse programs may all be small, and the right-hand sides with them.
        share, least = (100.0 * eps, 0.0) if sparse else (5e4 * eps, 1.0)
        curved = not self.program.cones.polyhedral and not sparse
        rule = Fivefold(share, least, self.program.c.shape[0] + self.program.b.shape[0] if curved else None)
        refined = refined_solve(
            lambda v: self.apply(self.parted(v)).flat(), lambda r: self.approximate(self.parted(r)).flat(), rhs, rule
        )
        return refined.solution, jnp.isfinite(refined.known.error)


class Left(eqx.Module):
    """What the solution so far leaves, infinite where there is none."""

    error: Float[Array, ""]
    count: Int[Array, ""]
    equations: Float[Array, ""] | None  # the largest that is left of these
    whole: Bool[Array, ""] | None  # whether all of the residual is still refined


class Fivefold(AbstractRule[Left]):
    """Refine until a residual of ``share (least + |rhs|)``, or until a pass improves it less than fivefold; a pass that makes it
    worse is not taken.

    Multipliers of rows that curve have the rounding errors of all rows of their cone, times H^-1. Where these end the
    refinement, one pass more serves the ``equations`` alone (as many entries as that, the first), since what is left of them
    stays in the iterate. None: there are no such rows.
    """

    share: float = eqx.field(static=True)
    least: float = eqx.field(static=True)
    equations: int | None = eqx.field(static=True)

    def begin(self, rhs: Float[Array, " k"]) -> tuple[tuple, Left]:
        infinite, none = jnp.full((), jnp.inf, rhs.dtype), jnp.array(0)
        target = self.share * (self.least + max_abs(rhs))
        if self.equations is None:
            return (target, None), Left(infinite, none, None, None)
        rough = jnp.finfo(rhs.dtype).eps ** 0.5 * max_abs(rhs[: self.equations])
        return (target, rough), Left(infinite, none, infinite, jnp.array(True))

    def asked(self, known: Left, residual: Float[Array, " k"]) -> Float[Array, " k"]:
        if self.equations is None or known.whole is None:
            return residual
        return jnp.where(known.whole | (jnp.arange(residual.shape[0]) < self.equations), residual, 0.0)

    def judge(self, known: Left, sizes: tuple, solution: Float[Array, " k"], residual: Float[Array, " k"]):
        del solution
        target, rough = sizes
        error, whole, equations = max_abs(residual), known.whole, known.equations
        taken = error < known.error
        if whole is not None and equations is not None:
            of_equations = max_abs(residual[: self.equations])
            taken = jnp.where(whole, taken, of_equations < equations)
            equations = jnp.where(taken, of_equations, equations)
        going = taken & (error > target) & (5.0 * error < known.error) & (known.count < MAX_REFINEMENTS)
        if whole is not None and equations is not None:
            whole, going = whole & going, whole & (going | (equations > rough))
        return taken, going, Left(jnp.where(taken, error, known.error), known.count + 1, equations, whole)


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
