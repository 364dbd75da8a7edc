"""A convex program in the form the solver works on."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._cone.product import ConeProduct


class ConicProgram(eqx.Module):
    """``min 1/2 x'Px + c'x + constant  s.t.  Ax = b,  Gx + s = h,  -l x + s_l = -l lower,  u x + s_u = u upper,  s in K``.

    The cone vector ``s`` holds the rows of ``G`` in the order of the cones, then one row for each lower and one for each upper
    bound. ``l`` and ``u`` are masks of zeros and ones: an absent bound is a row of zeros whose slack and multiplier are zero.
    ``P`` is symmetric; None for a linear objective. A program without lower (upper) bounds has None for them.
    """

    P: Float[Array, "n n"] | None
    c: Float[Array, " n"]
    A: Float[Array, "p n"]
    b: Float[Array, " p"]
    G: Float[Array, "m n"]
    h: Float[Array, " m"]
    lower: Float[Array, " n"] | None
    upper: Float[Array, " n"] | None
    lower_mask: Float[Array, " n"] | None
    upper_mask: Float[Array, " n"] | None
    constant: Float[Array, ""]
    cones: ConeProduct

    def curvature(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """``P x``."""
        return jnp.zeros_like(x) if self.P is None else self.P @ x

    def rows(self, x: Float[Array, " n"]) -> Float[Array, " size"]:
        """The linear map of all cone rows."""
        parts = [self.G @ x]
        if self.lower_mask is not None:
            parts.append(-self.lower_mask * x)
        if self.upper_mask is not None:
            parts.append(self.upper_mask * x)
        return jnp.concatenate(parts)

    def split(self, v: Float[Array, " size"]) -> tuple[Array, Array | None, Array | None]:
        """The parts of a cone vector that belong to G, the lower and the upper bounds."""
        m, n = self.G.shape
        lower = None if self.lower_mask is None else v[m : m + n]
        upper = None if self.upper_mask is None else v[v.shape[0] - n :]
        return v[:m], lower, upper

    def rows_transposed(self, z: Float[Array, " size"]) -> Float[Array, " n"]:
        """The adjoint of `rows`."""
        rows, lower, upper = self.split(z)
        total = rows @ self.G
        if lower is not None:
            total = total - self.lower_mask * lower
        if upper is not None:
            total = total + self.upper_mask * upper
        return total

    def right_side(self) -> Float[Array, " size"]:
        """The right-hand sides of all cone rows."""
        parts = [self.h]
        if self.lower is not None:
            parts.append(-self.lower_mask * self.lower)
        if self.upper is not None:
            parts.append(self.upper_mask * self.upper)
        return jnp.concatenate(parts)
