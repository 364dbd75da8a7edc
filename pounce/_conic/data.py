"""A convex program as the user states it, and its form for the solver."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._cone.layout import Layout
from .._cone.nonnegative import Nonnegative
from .._cone.product import ConeProduct
from .._linalg import matrix
from .._linalg.matrix import Matrix
from .program import ConeRows, ConicProgram, Equalities, Facts, Objective, Side
from .system import Vector


NO_BOUND = 1e20


class ConicData(eqx.Module):
    """``min 1/2 x'Px + c'x  s.t.  Ax = b,  h - Gx in K,  lb <= x <= ub``; what is None is not there.

    Either all matrices are dense or all are sparse. ``P`` is symmetric (if sparse, its lower triangle with the whole diagonal)
    and rows of ``G`` are in the order of the cones of the solver. A bound or a right-hand side of an
    inequality of magnitude 1e20 or more is absent. All of it is data: traced, batched and differentiated.
    """

    P: Matrix | None
    c: Float[Array, " n"]
    A: Matrix | None
    b: Float[Array, " p"] | None
    G: Matrix | None
    h: Float[Array, " m"] | None
    lb: Float[Array, " n"] | None
    ub: Float[Array, " n"] | None


class Fixed(eqx.Module):
    """Which variables have equal bounds, and their values (zero for others)."""

    mask: Bool[Array, " n"]
    value: Float[Array, " n"]


class Presolved(eqx.Module):
    """The program for the solver, and what takes its solution back."""

    program: ConicProgram
    fixed: Fixed | None

    def point(self, x: Array, y: Array, z: Array, z_lb: Array, z_ub: Array) -> Vector:
        """The point of the solver's program for one of the user's: zero for fixed variables and absent bounds."""
        sides = ((z_lb, self.program.lower), (z_ub, self.program.upper))
        bounds = [side.mask * multipliers for multipliers, side in sides if side is not None]
        x = x if self.fixed is None else jnp.where(self.fixed.mask, 0.0, x)
        return Vector(x, y, jnp.concatenate([z, *bounds]))


class _Bounds(NamedTuple):
    """Bounds of one side, zero where there is none."""

    value: Float[Array, " n"]
    exist: Bool[Array, " n"]

    @classmethod
    def of(cls, value: Float[Array, " n"], exist: Bool[Array, " n"]) -> "_Bounds":
        return cls(jnp.where(exist, value, 0.0), exist)

    def without(self, fixed: Bool[Array, " n"]) -> "_Bounds":
        return _Bounds(jnp.where(fixed, 0.0, self.value), self.exist & ~fixed)

    def side(self) -> Side:
        return Side(self.value, self.exist.astype(self.value.dtype))


def presolve(data: ConicData, layout: Layout, facts: Facts | None = None) -> Presolved:
    """Masks for bounds and rows that are absent; variables with equal bounds are moved to the right-hand sides. ``facts``: of a
    program that was rounded up to a larger one."""
    c = data.c
    n, dtype = c.shape[0], c.dtype
    like = next((given for given in (data.P, data.A, data.G) if given is not None), None)
    A = matrix.zero_rows(like, n, dtype) if data.A is None else data.A
    b = jnp.zeros((0,), dtype) if data.b is None else data.b
    G = matrix.zero_rows(like, n, dtype) if data.G is None else data.G
    h = jnp.zeros((0,), dtype) if data.h is None else data.h
    P, constant = data.P, jnp.zeros((), dtype)
    # Only a row of the orthant can be absent.
    counted = ~(h[: layout.nonnegative] >= NO_BOUND)  # NaN is a failure, not a row that is absent
    cones = layout.cones(counted)
    present = jnp.concatenate([counted, jnp.ones(h.shape[0] - layout.nonnegative, bool)])
    G = matrix.masked(G, present, jnp.ones(n, bool))
    h = jnp.where(present, jnp.maximum(h, -NO_BOUND), 0.0)
    lower = None if data.lb is None else _Bounds.of(jnp.minimum(data.lb, NO_BOUND), ~(data.lb <= -NO_BOUND))
    upper = None if data.ub is None else _Bounds.of(jnp.maximum(data.ub, -NO_BOUND), ~(data.ub >= NO_BOUND))
    moved = None
    if lower is not None and upper is not None:
        fixed = lower.exist & upper.exist & (lower.value == upper.value)
        # Half of each bound, so that a derivative is shared between them.
        value = jnp.where(fixed, 0.5 * (lower.value + upper.value), 0.0)
        moved = Fixed(fixed, value)
        constant = c @ value
        b, h = b - A @ value, h - jnp.where(present, G @ value, 0.0)
        c = jnp.where(fixed, 0.0, c)
        if P is not None:
            slope = matrix.symmetric_times(P, value)
            constant = constant + 0.5 * (value @ slope)
            c = c + jnp.where(fixed, 0.0, slope)
            P = matrix.plus_diagonal(matrix.masked(P, ~fixed, ~fixed), fixed.astype(dtype))
        A, G = (matrix.masked(rows, jnp.ones(rows.shape[0], bool), ~fixed) for rows in (A, G))
        lower, upper = lower.without(fixed), upper.without(fixed)
    masks = [bounds.exist for bounds in (lower, upper) if bounds is not None]
    boxes = (Nonnegative(jnp.concatenate(masks)),) if masks else ()
    program = ConicProgram(
        objective=Objective(P, c, constant, facts),
        equalities=Equalities(A, b),
        inequalities=ConeRows(G, h, ConeProduct((*cones, *boxes))),
        lower=None if lower is None else lower.side(),
        upper=None if upper is None else upper.side(),
    )
    return Presolved(program, moved)
