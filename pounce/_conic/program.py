"""A convex program in the form the solver works on."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._cone.product import ConeProduct
from .._linalg import matrix
from .._linalg.matrix import Matrix
from .._records import within


class Side(eqx.Module):
    """The lower or the upper bounds; ``mask`` is one for a variable that has one and zero for others."""

    value: Float[Array, " n"]
    mask: Float[Array, " n"]


class Constants(eqx.Module):
    """What every look at a program needs again."""

    right: Float[Array, " size"]
    signs: Float[Array, "sides n"]


class Facts(eqx.Module):
    """What the arrays of a program that was rounded up to a larger one do not tell."""

    variables: Float[Array, ""]  # how many there are in fact
    linear: Bool[Array, ""]  # whether the Hessian is there for others alone, and zero


class Objective(eqx.Module):
    """``1/2 x'Px + c'x + constant``."""

    P: Matrix | None
    c: Float[Array, " n"]
    constant: Float[Array, ""]
    facts: Facts | None = None

    def mean(self, v: Float[Array, " n"]) -> Float[Array, ""]:
        """The mean over variables of what is zero for those that are not there."""
        return jnp.mean(v) if self.facts is None else jnp.sum(v) / self.facts.variables

    @property
    def linear(self) -> Bool[Array, ""] | bool:
        """Whether there is no Hessian; traced where that is data."""
        return self.P is None if self.facts is None else self.facts.linear


class Equalities(eqx.Module):
    """``Ax = b``."""

    A: Matrix
    b: Float[Array, " p"]


class ConeRows(eqx.Module):
    """``Gx + s = h``, with the cones of ``s`` and those of the bounds."""

    G: Matrix
    h: Float[Array, " m"]
    cones: ConeProduct


class ConicProgram(eqx.Module):
    """``min 1/2 x'Px + c'x + constant  s.t.  Ax = b,  Gx + s = h,  -l x + s_l = -l lower,  u x + s_u = u upper,  s in K``.

    The cone vector ``s`` holds the rows of ``G`` in the order of the cones, then one row for each lower and one for each upper
    bound. ``l`` and ``u`` are the masks of the two sides: an absent bound is a row of zeros whose slack and multiplier are zero.
    ``P`` is symmetric; None for a linear objective. Either all matrices are dense or all are sparse (of ``P`` the lower
    triangle, with the whole diagonal). A program without lower (upper) bounds has None for them.
    """

    objective: Objective
    equalities: Equalities
    inequalities: ConeRows
    lower: Side | None
    upper: Side | None
    constants: Constants | None = None  # for loops, which would compute them in each pass

    P = within("objective", "P")
    c = within("objective", "c")
    constant = within("objective", "constant")
    linear = within("objective", "linear")
    A = within("equalities", "A")
    b = within("equalities", "b")
    G = within("inequalities", "G")
    h = within("inequalities", "h")

    @property
    def cones(self) -> ConeProduct:
        """Those of the rows of G, then that of the bounds."""
        return self.inequalities.cones

    def with_constants(self) -> "ConicProgram":
        """The same, for loops."""
        return dataclasses.replace(self, constants=Constants(self.right_side(), self.signs()))

    @property
    def sides(self) -> list[Side]:
        """The bounds that are there, in the order of their rows."""
        return [side for side in (self.lower, self.upper) if side is not None]

    def curvature(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """``P x``."""
        return jnp.zeros_like(x) if self.P is None else matrix.symmetric_times(self.P, x)

    def gradient(self, x: Float[Array, " n"], y: Float[Array, " p"], z: Float[Array, " size"]) -> Float[Array, " n"]:
        """The gradient of the Lagrangian, ``P x + c + A'y`` plus the pull of the cone rows."""
        return self.curvature(x) + self.c + matrix.transposed_times(self.A, y) + self.rows_transposed(z)

    def rows(self, x: Float[Array, " n"]) -> Float[Array, " size"]:
        """The linear map of all cone rows."""
        rows = self.G @ x
        return jnp.concatenate([rows, (self.signs() * x).reshape(-1)]) if self.sides else rows

    def signs(self) -> Float[Array, "sides n"]:
        """The coefficients of the rows of bounds: minus the mask of the lower, the mask of the upper ones."""
        if self.constants is not None:
            return self.constants.signs
        masks = [] if self.lower is None else [-self.lower.mask]
        masks = masks if self.upper is None else [*masks, self.upper.mask]
        return jnp.stack(masks) if masks else jnp.zeros((0, *self.c.shape), self.c.dtype)

    def split(self, v: Float[Array, " size"]) -> tuple[Array, Array | None, Array | None]:
        """The parts of a cone vector that belong to G, the lower and the upper bounds; zero where a bound is absent."""
        m, n = self.G.shape
        lower = None if self.lower is None else self.lower.mask * v[m : m + n]
        upper = None if self.upper is None else self.upper.mask * v[v.shape[0] - n :]
        return v[:m], lower, upper

    def rows_transposed(self, z: Float[Array, " size"]) -> Float[Array, " n"]:
        """The adjoint of `rows`."""
        total = matrix.transposed_times(self.G, z[: self.G.shape[0]])
        return total + self.bounds_transposed(z) if self.sides else total

    def bounds_transposed(self, z: Float[Array, " size"]) -> Float[Array, " n"]:
        """The share of the bounds in it."""
        signs = self.signs()
        return jnp.sum(signs * z[self.G.shape[0] :].reshape(signs.shape), axis=0)

    def bounds_summed(self, v: Float[Array, " size"]) -> Float[Array, " n"]:
        """The numbers of the bounds of each variable, summed up; zero where a bound is absent."""
        signs = self.signs()
        return jnp.sum(jnp.abs(signs) * v[self.G.shape[0] :].reshape(signs.shape), axis=0)

    def row_shares(self) -> Float[Array, " m"]:
        """The largest coefficient of each row of G beside the largest of its column: what it is in any units of variables."""
        G = matrix.magnitudes(self.G)
        columns = jnp.maximum(matrix.column_sizes(G), matrix.column_sizes(matrix.magnitudes(self.A)))
        return matrix.row_sizes(matrix.column_scaled(G, 1 / jnp.where(columns > 0, columns, 1.0)))

    def right_side(self) -> Float[Array, " size"]:
        """The right-hand sides of all cone rows."""
        if self.constants is not None:
            return self.constants.right
        parts = [self.h]
        if self.lower is not None:
            parts.append(-self.lower.mask * self.lower.value)
        if self.upper is not None:
            parts.append(self.upper.mask * self.upper.value)
        return jnp.concatenate(parts)
