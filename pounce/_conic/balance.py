"""Units in which slacks and multipliers of a cone have the same size.

Where a cone curves, the projection of ``s - z`` has the rounding errors of the larger one, and quotients of multipliers and
slacks are springs that are compared with each other. A pair is complementary whatever the unit of either.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._cone.units import quotient
from .._linalg import matrix
from .._linalg.powers_of_two import nearest_power_of_two
from .equilibration import Scaling
from .program import ConeRows, ConicProgram
from .system import Vector


class Balance(eqx.Module):
    """Factors of the objective and of the cone rows; powers of two, so that nothing is rounded."""

    cost: Float[Array, ""]
    rows: Float[Array, " size"]

    def program(self, program: ConicProgram) -> ConicProgram:
        """The program in these units; the factor of the objective differs from one only where there is no Hessian."""
        own, constants = self.rows[: program.h.shape[0]], program.constants
        if constants is not None:
            constants = dataclasses.replace(constants, right=self.rows * constants.right)
        return dataclasses.replace(
            program,
            objective=dataclasses.replace(program.objective, c=self.cost * program.c),
            inequalities=ConeRows(matrix.row_scaled(program.G, own), own * program.h, program.cones),
            constants=constants,
        )

    def point(self, v: Vector) -> Vector:
        """A point with its multipliers in these units."""
        return Vector(v.x, self.cost * v.y, self.cost * v.z / self.rows)

    def scaling(self, scaling: Scaling) -> Scaling:
        """Both scalings, one after the other."""
        return dataclasses.replace(scaling, rows=self.rows * scaling.rows, cost=self.cost * scaling.cost)

    @classmethod
    def none(cls, like: Float[Array, " size"]) -> "Balance":
        """The units there are."""
        return cls(jnp.ones((), like.dtype), jnp.ones_like(like))


def balance(program: ConicProgram, s: Float[Array, " size"], z: Float[Array, " size"]) -> Balance:
    """The units at a pair. Nothing is changed for a cone whose slack or multiplier is to vanish."""
    size_s, size_z = (jnp.max(jnp.abs(v), initial=0.0) for v in (s, z))
    flat = jnp.array(True)
    if program.P is not None:
        flat = jnp.max(jnp.abs(matrix.diagonal(program.P)), initial=0.0) == 0
    cost = nearest_power_of_two(quotient(size_s, size_z, flat))
    return Balance(cost, program.cones.balanced(s, cost * z))
