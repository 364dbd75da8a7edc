"""Starting points of the conic method."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .equilibration import Scaling
from .iterate import Iterate
from .program import ConicProgram
from .system import Vector


# How far a warm start stays from the boundary, as multiples of the size of its slacks and multipliers.
LEAST_DISTANCE, LARGEST_DISTANCE = 1e-6, 0.1
# The whole residual as barrier parameter gives up more of the warm point than it has to: 0.64 of the cold iterations, not 0.51.
SHARE_OF_RESIDUAL = 0.1


def warm_start(program: ConicProgram, scaling: Scaling, point: Vector) -> Iterate:
    """The point of the central path nearest to a former solution ``point`` in user units (of a program that has changed since).

    ``s - z`` is kept; the barrier parameter is a share of the residual the point leaves in the program of now.
    """
    x = point.x / scaling.variables
    y = scaling.cost * point.y / scaling.equalities
    z = scaling.cost * point.z / scaling.rows
    s = program.right_side() - program.rows(x)
    v = s - z
    near = program.cones.project(v)
    stationarity = program.gradient(x, y, z)
    residual = jnp.max(jnp.abs(jnp.concatenate([stationarity, program.A @ x - program.b, s - near])), initial=0.0)
    size = jnp.max(jnp.abs(jnp.concatenate([s, z])), initial=1.0)
    mu = jnp.clip(SHARE_OF_RESIDUAL * residual, LEAST_DISTANCE * size, LARGEST_DISTANCE * size)
    s, z = program.cones.central_pair(v, mu)
    return Iterate.of(x, y, z, s, jnp.ones_like(mu), mu)


def unit_point(program: ConicProgram) -> Iterate:
    """The unit of the cones: where a program begins whose cones are not all symmetric, and where ``H = I``."""
    dtype = program.c.dtype
    one, unit, zeros = jnp.ones((), dtype), program.cones.unit(dtype), jnp.zeros_like
    return Iterate.of(zeros(program.c), zeros(program.b), unit, unit, one, one)


def shifted_start(program: ConicProgram, primal: Vector, dual: Vector) -> Iterate:
    """The solutions of the system with ``H = I``, for ``(0, b, h)`` and for ``(-c, 0, 0)`` (or one for both), shifted inside."""
    unit = unit_point(program)
    x, y = (jnp.where(jnp.isfinite(v), v, 0.0) for v in (primal.x, dual.y))
    z, s = jax.vmap(lambda v: _shifted(program, v, unit.s))(jnp.stack([dual.z, -primal.z]))
    return Iterate.of(x, y, z, s, unit.tau, unit.kappa)


def _shifted(program: ConicProgram, v: Float[Array, " size"], unit: Float[Array, " size"]) -> Float[Array, " size"]:
    """``v`` moved along the unit until it is well inside."""
    v = jnp.where(jnp.isfinite(v), v, 0.0)
    least, total = program.cones.margin(v)
    degree = jnp.maximum(program.cones.degree(), 1).astype(v.dtype)
    target = jnp.maximum(1.0, 0.1 * total / degree)
    shift = jnp.where(least < target, target - jnp.where(jnp.isfinite(least), least, 0.0), 0.0)
    # An absent row stays at zero: the unit is zero there, and so is the right-hand side of its equation.
    return v + shift * unit
