"""Starting points of the conic method."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._linalg.kkt import AbstractKKTSolver
from .equilibration import Scaling
from .iterate import Iterate
from .program import ConicProgram
from .system import Vector, factorize, prepare, unit_scaling


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
    return Iterate(x, y, z, s, jnp.ones_like(mu), mu)


def cold_start(program: ConicProgram, solver: AbstractKKTSolver) -> Iterate:
    """The unit point if a cone is not symmetric; otherwise the solution of the system with ``H = I``, shifted inside."""
    dtype = program.c.dtype
    one = jnp.ones((), dtype)
    unit = program.cones.unit(dtype)
    zeros = jnp.zeros_like
    if not program.cones.symmetric:
        return Iterate(zeros(program.c), zeros(program.b), unit, unit, one, one)
    system = factorize(program, unit_scaling(program.cones), solver, prepare(program, solver))
    c, b, h = program.c, program.b, program.right_side()
    if program.P is None:
        # One after the other: two batches of LAPACK calls at the same time can wait for each other for good on two cores.
        sides = (jnp.stack([zeros(c), -c]), jnp.stack([b, zeros(b)]), jnp.stack([h, zeros(h)]))
        both, _ = lax.map(system.solve, Vector(*sides))
        primal, dual = (jax.tree.map(lambda leaf, k=k: leaf[k], both) for k in (0, 1))
        x, y, z, s = primal.x, dual.y, dual.z, -primal.z
    else:
        both, _ = system.solve(Vector(-c, b, h))
        x, y, z, s = both.x, both.y, both.z, -both.z
    x, y = (jnp.where(jnp.isfinite(v), v, 0.0) for v in (x, y))
    return Iterate(x, y, _shifted(program, z, unit), _shifted(program, s, unit), one, one)


def _shifted(program: ConicProgram, v: Float[Array, " size"], unit: Float[Array, " size"]) -> Float[Array, " size"]:
    """``v`` moved along the unit until it is well inside."""
    v = jnp.where(jnp.isfinite(v), v, 0.0)
    least, total = program.cones.margin(v)
    degree = jnp.maximum(program.cones.degree(), 1).astype(v.dtype)
    target = jnp.maximum(1.0, 0.1 * total / degree)
    shift = jnp.where(least < target, target - jnp.where(jnp.isfinite(least), least, 0.0), 0.0)
    # An absent row stays at zero: the unit is zero there, and so is the right-hand side of its equation.
    return v + shift * unit
