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
    """Everything a stopping test looks at, in user units; all of it finite or the iterate is worthless.

    Three of them are measured only where no cone curves (`polyhedral`), and are zero elsewhere.
    """

    primal_objective: Float[Array, ""]
    dual_objective: Float[Array, ""]
    gap: Float[Array, ""]
    relative_gap: Float[Array, ""]
    effect: Float[Array, ""]  # what the residuals may be worth in the objective, relative to it
    primal: Float[Array, ""]  # relative residual of the rows
    dual: Float[Array, ""]  # relative residual of stationarity
    ratio: Float[Array, ""]  # kappa / tau
    farkas_value: Float[Array, ""]  # b'y + h'z
    farkas_residual: Float[Array, ""]  # |A'y + G'z|, relative to the certificate scaled to the value -1
    farkas_error: Float[Array, ""]  # its largest entry where the value is -1, and so a proof within its inverse
    ray_value: Float[Array, ""]  # c'x
    ray_residual: Float[Array, ""]  # the same of P x, A x and G x + s
    ray_error: Float[Array, ""]  # the same where c'x is -1
    primal_infeasibility: Float[Array, ""]  # absolute, largest entry
    dual_infeasibility: Float[Array, ""]
    polyhedral: bool = eqx.field(static=True)

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


def _share(size, value):
    """``size / |value|``, finite where nothing is left of the value: there may be no linear objective."""
    limits = jnp.finfo(size.dtype)
    return jnp.minimum(size / jnp.maximum(jnp.abs(value), limits.tiny), 1.0 / limits.eps)


def measure(program: ConicProgram, scaling: Scaling, v: Iterate, r: Residuals) -> Measures:
    """The measures of an iterate of the scaled program."""
    one = jnp.ones((), v.x.dtype)
    tiny = jnp.finfo(v.x.dtype).tiny
    cost, tau = scaling.cost, v.tau
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
    size_x, size_s, size_z = _norm(x), _norm(s), _norm(y, z)
    primal_scale = jnp.maximum(one, _largest(h, b) + (size_x + size_s) / tau)
    dual_scale = jnp.maximum(one, _largest(c) + (size_x + size_z) / tau)
    farkas = (r.x + program.c * tau + r.curvature) / d / cost
    row_ray = (r.z + program.right_side() * tau) / rows
    equality_ray = (r.y + program.b * tau) / scaling.equalities
    curvature = r.curvature / d / cost
    farkas_value, ray_value = r.price / cost, r.linear / cost
    objective = jnp.maximum(one, jnp.minimum(jnp.abs(primal), jnp.abs(dual)))
    # Where cones curve, rounding near their boundary keeps residuals from falling so far.
    effect = farkas_error = ray_error = jnp.zeros((), one.dtype)
    if program.cones.polyhedral:
        # The gap is that of slacks and multipliers plus these products: small residuals can be worth much to a large point.
        products = jnp.abs(v.x) @ jnp.abs(r.x) + jnp.abs(v.y) @ jnp.abs(r.y) + jnp.abs(v.z) @ jnp.abs(r.z)
        effect = products / cost / tau**2 / objective
        farkas_error = _share(_largest(farkas), farkas_value)
        ray_error = _share(_largest(curvature, equality_ray, row_ray), ray_value)
    return Measures(
        primal_objective=primal,
        dual_objective=dual,
        gap=gap,
        relative_gap=gap / objective,
        effect=effect,
        primal=_norm(r_y, r_z) / tau / primal_scale,
        dual=_norm(r_x) / tau / dual_scale,
        ratio=v.kappa / tau,
        farkas_value=farkas_value,
        farkas_residual=_norm(farkas) / jnp.maximum(jnp.maximum(jnp.abs(farkas_value), size_z), tiny),
        farkas_error=farkas_error,
        ray_value=ray_value,
        ray_residual=jnp.maximum(
            _norm(curvature) / jnp.maximum(jnp.maximum(jnp.abs(ray_value), size_x), tiny),
            _norm(equality_ray, row_ray) / jnp.maximum(jnp.maximum(jnp.abs(ray_value), size_x + size_s), tiny),
        ),
        ray_error=ray_error,
        primal_infeasibility=_largest(r_y, r_z) / tau,
        dual_infeasibility=_largest(r_x) / tau,
        polyhedral=program.cones.polyhedral,
    )
