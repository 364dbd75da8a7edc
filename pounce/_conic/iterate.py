"""Points of the homogeneous embedding and the sizes of their residuals."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._linalg import matrix
from .equilibration import Scaling
from .program import ConicProgram
from .system import Vector


class Iterate(eqx.Module):
    """A point of the homogeneous embedding, in scaled units: the solution is ``x / tau`` if ``tau`` stays away from zero."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    z: Float[Array, " size"]
    s: Float[Array, " size"]
    tau: Float[Array, ""]
    kappa: Float[Array, ""]

    def stepped(self, step: "Iterate", alpha: Float[Array, ""]) -> "Iterate":
        return jax.tree.map(lambda v, dv: v + alpha * dv, self, step)


class Residuals(eqx.Module):
    """What is left of the embedding's equations (Goulart and Chen 2024, equation 7), and the products its scalars are made of."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    z: Float[Array, " size"]
    tau: Float[Array, ""]
    mu: Float[Array, ""]
    curvature: Float[Array, " n"]  # P x
    quadratic: Float[Array, ""]  # x'Px
    linear: Float[Array, ""]  # c'x
    price: Float[Array, ""]  # b'y + h'z

    @property
    def vector(self) -> Vector:
        return Vector(self.x, self.y, self.z)


def evaluate(program: ConicProgram, v: Iterate) -> Residuals:
    """The residuals at an iterate."""
    curvature = program.curvature(v.x)
    h = program.right_side()
    quadratic, linear = v.x @ curvature, program.c @ v.x
    price = program.b @ v.y + h @ v.z
    degree = program.cones.degree().astype(v.x.dtype)
    return Residuals(
        x=-(curvature + matrix.transposed_times(program.A, v.y) + program.rows_transposed(v.z) + program.c * v.tau),
        y=program.A @ v.x - program.b * v.tau,
        z=program.rows(v.x) + v.s - h * v.tau,
        tau=linear + price + v.kappa + quadratic / v.tau,
        mu=(v.s @ v.z + v.tau * v.kappa) / (degree + 1.0),
        curvature=curvature,
        quadratic=quadratic,
        linear=linear,
        price=price,
    )


class Measures(eqx.Module):
    """Everything a stopping test looks at; all of it finite or the iterate is worthless.

    Solutions are measured in the user's units and against their own size, however small; certificates, which have no size,
    in those of the equilibrated program. `effect` is measured only where no cone curves, and is zero elsewhere.
    """

    primal_objective: Float[Array, ""]
    dual_objective: Float[Array, ""]
    gap: Float[Array, ""]
    unit: Float[Array, ""]  # at most one: what an objective is small against
    relative_gap: Float[Array, ""]
    effect: Float[Array, ""]  # what the residuals may be worth in the objective, relative to it
    primal: Float[Array, ""]  # relative residual of the rows
    dual: Float[Array, ""]  # relative residual of stationarity
    ratio: Float[Array, ""]  # kappa / tau
    farkas_value: Float[Array, ""]  # b'y + h'z
    farkas_residual: Float[Array, ""]  # |A'y + G'z|, relative to the value or to the multipliers
    ray_value: Float[Array, ""]  # c'x
    ray_residual: Float[Array, ""]  # the same of P x, A x and G x + s
    primal_infeasibility: Float[Array, ""]  # absolute, largest entry
    dual_infeasibility: Float[Array, ""]

    def stacked(self) -> Float[Array, " k"]:
        """All of them in one array."""
        return jnp.stack(jax.tree.leaves(self))

    def unstacked(self, values: Float[Array, " k"]) -> "Measures":
        """The measures that `stacked` made ``values`` of."""
        return jax.tree.unflatten(jax.tree.structure(self), list(values))


def _norm(*vectors):
    return jnp.sqrt(sum(jnp.sum(v * v) for v in vectors))


def _largest(*vectors):
    return jnp.max(jnp.abs(jnp.concatenate(vectors)), initial=0.0)


def measure(program: ConicProgram, scaling: Scaling, v: Iterate, r: Residuals) -> Measures:
    """The measures of an iterate of the scaled program."""
    tiny = jnp.finfo(v.x.dtype).tiny
    cost, unit, tau = scaling.cost, scaling.unit, v.tau
    # Everything of a bound that is not there is zero, whatever its factor.
    rows, d = scaling.rows, scaling.variables
    x, s = d * v.x, v.s / rows
    y, z = scaling.equalities * v.y / cost, rows * v.z / cost
    r_x, r_y, r_z = r.x / d / cost, r.y / scaling.equalities, r.z / rows
    c = program.c / d / cost
    h, b = program.right_side() / rows, program.b / scaling.equalities
    constant = program.constant / cost
    quadratic = r.quadratic / cost / tau**2
    primal = r.linear / cost / tau + 0.5 * quadratic + constant
    dual = -r.price / cost / tau - 0.5 * quadratic + constant
    gap = jnp.abs(primal - dual)
    size_b, size_c = _largest(h, b), _largest(c)
    primal_scale = size_b + (_norm(x) + _norm(s)) / tau
    dual_scale = size_c + (_norm(r.curvature / d / cost) + _norm(y, z)) / tau
    # Where nothing but zeros is given, one is as good a unit as any.
    primal_scale = jnp.maximum(primal_scale, jnp.where(size_b > 0, tiny, 1.0))
    dual_scale = jnp.maximum(dual_scale, jnp.where(size_c > 0, tiny, 1.0))
    objective = jnp.maximum(unit, jnp.minimum(jnp.abs(primal), jnp.abs(dual)))
    effect = jnp.zeros((), tau.dtype)
    if program.cones.polyhedral:
        # The gap is that of slacks and multipliers plus these products: small residuals can be worth much to a large point.
        # Where cones curve, rounding near their boundary keeps residuals from falling so far.
        products = jnp.abs(v.x) @ jnp.abs(r.x) + jnp.abs(v.y) @ jnp.abs(r.y) + jnp.abs(v.z) @ jnp.abs(r.z)
        effect = products / cost / tau**2 / objective
    size_x, size_s, size_z = _norm(v.x), _norm(v.s), _norm(v.y, v.z)
    price, linear = jnp.abs(r.price), jnp.abs(r.linear)
    return Measures(
        primal_objective=primal,
        dual_objective=dual,
        gap=gap,
        unit=unit,
        relative_gap=gap / objective,
        effect=effect,
        primal=_norm(r_y, r_z) / tau / primal_scale,
        dual=_norm(r_x) / tau / dual_scale,
        ratio=v.kappa / tau,
        farkas_value=r.price / cost,
        farkas_residual=_norm(r.x + program.c * tau + r.curvature) / jnp.maximum(jnp.maximum(price, size_z), tiny),
        ray_value=r.linear / cost,
        ray_residual=jnp.maximum(
            _norm(r.curvature) / jnp.maximum(jnp.maximum(linear, size_x), tiny),
            _norm(r.y + program.b * tau, r.z + program.right_side() * tau)
            / jnp.maximum(jnp.maximum(linear, size_x + size_s), tiny),
        ),
        primal_infeasibility=_largest(r_y, r_z) / tau,
        dual_infeasibility=_largest(r_x) / tau,
    )
