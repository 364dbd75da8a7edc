"""Points of the homogeneous embedding and the sizes of their residuals."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._linalg import matrix
from .equilibration import Scaling
from .program import ConicProgram


class Iterate(eqx.Module):
    """A point of the homogeneous embedding, in scaled units: the solution is ``x / tau`` if ``tau`` stays away from zero."""

    flat: Float[Array, " k"]  # x, y, z, s, tau, kappa: it is carried, stepped and chosen as a whole
    n: int = eqx.field(static=True)
    p: int = eqx.field(static=True)

    @classmethod
    def of(cls, x: Array, y: Array, z: Array, s: Array, tau: Array, kappa: Array) -> "Iterate":
        """The point of these parts."""
        return cls(jnp.concatenate([x, y, z, s, jnp.stack([tau, kappa])]), x.shape[0], y.shape[0])

    @property
    def _size(self) -> int:
        return (self.flat.shape[0] - self.n - self.p - 2) // 2

    @property
    def x(self) -> Float[Array, " n"]:
        return self.flat[: self.n]

    @property
    def y(self) -> Float[Array, " p"]:
        return self.flat[self.n : self.n + self.p]

    @property
    def z(self) -> Float[Array, " size"]:
        return self.flat[self.n + self.p : self.n + self.p + self._size]

    @property
    def s(self) -> Float[Array, " size"]:
        return self.flat[self.n + self.p + self._size : -2]

    @property
    def tau(self) -> Float[Array, ""]:
        return self.flat[-2]

    @property
    def kappa(self) -> Float[Array, ""]:
        return self.flat[-1]

    def stepped(self, step: "Iterate", alpha: Float[Array, ""]) -> "Iterate":
        return Iterate(self.flat + alpha * step.flat, self.n, self.p)


class Residuals(eqx.Module):
    """What is left of the embedding's equations (Goulart and Chen 2024, equation 7), and the products that steps need too."""

    flat: Float[Array, " k"]  # of stationarity, the equality rows, the cone rows
    tau: Float[Array, ""]
    mu: Float[Array, ""]
    curvature: Float[Array, " n"]  # P x


class _Entry:
    """One of the numbers of `Measures`, by its place."""

    def __init__(self, place: int):
        self.place = place

    def __get__(self, measures: Any, owner: type) -> Any:
        return self if measures is None else measures.values[self.place]


class Measures(eqx.Module):
    """Everything a stopping test looks at; all of it finite or the iterate is worthless. One array: it is chosen as a whole.

    Solutions are measured in the user's units and against their own size, however small; certificates, which have no size,
    in those of the equilibrated program. `effect` is measured only where no cone curves, and is zero elsewhere.
    """

    values: Float[Array, " k"]

    primal_objective = _Entry(0)
    dual_objective = _Entry(1)
    gap = _Entry(2)
    unit = _Entry(3)  # at most one: what an objective is small against
    relative_gap = _Entry(4)
    effect = _Entry(5)  # what the residuals may be worth in the objective, relative to it
    primal = _Entry(6)  # relative residual of the rows
    dual = _Entry(7)  # relative residual of stationarity
    ratio = _Entry(8)  # kappa / tau
    farkas_value = _Entry(9)  # b'y + h'z
    farkas_residual = _Entry(10)  # |A'y + G'z|, relative to the value or to the multipliers
    ray_value = _Entry(11)  # c'x
    ray_residual = _Entry(12)  # the same of P x, A x and G x + s
    primal_infeasibility = _Entry(13)  # absolute, largest entry
    dual_infeasibility = _Entry(14)

    @classmethod
    def of(cls, **entries: Any) -> "Measures":
        """Of all of them by name; zero if it is not given."""
        places = {name: entry.place for name, entry in vars(cls).items() if isinstance(entry, _Entry)}
        assert entries.keys() <= places.keys()
        return cls(jnp.stack([jnp.asarray(entries.get(name, 0.0)) for name in sorted(places, key=places.__getitem__)]))

    @classmethod
    def nothing(cls, like: Array) -> "Measures":
        """Of no point."""
        return cls(jnp.zeros((15,), like.dtype))


class Yardstick(eqx.Module):
    """What all points of a program are measured by."""

    scaling: Scaling
    right: Float[Array, " size"]  # the right-hand sides of all cone rows
    degree: Float[Array, ""]
    size_right: Float[Array, ""]  # of right-hand sides and of the cost, in the user's units
    size_cost: Float[Array, ""]

    @classmethod
    def of(cls, program: ConicProgram, scaling: Scaling) -> "Yardstick":
        right = program.right_side()
        size_right = _largest(right / scaling.rows, program.b / scaling.equalities)
        size_cost = _largest(program.c / scaling.variables / scaling.cost)
        return cls(scaling, right, program.cones.degree().astype(right.dtype), size_right, size_cost)


def _largest(*vectors):
    return jnp.max(jnp.abs(jnp.concatenate(vectors)), initial=0.0)


def _sums(*factors: tuple[Array, Array]) -> list[Array]:
    """The inner products of pairs of vectors."""
    return [jnp.sum(left * right) for left, right in factors]


def evaluate(program: ConicProgram, by: Yardstick, v: Iterate) -> tuple[Residuals, Measures]:
    """The residuals at an iterate of the scaled program, and what they amount to."""
    tiny = jnp.finfo(v.flat.dtype).tiny
    scaling, h = by.scaling, by.right
    v_x, v_y, v_z, v_s, tau, kappa = v.x, v.y, v.z, v.s, v.tau, v.kappa
    cost, unit = scaling.cost, scaling.unit
    curvature = program.curvature(v_x)
    pull = matrix.transposed_times(program.A, v_y) + program.rows_transposed(v_z)
    image, rows = program.A @ v_x, program.rows(v_x)
    r_x, r_y, r_z = -(curvature + pull + program.c * tau), image - program.b * tau, rows + v_s - h * tau
    # Everything of a bound that is not there is zero, whatever its factor.
    d, e, f = scaling.variables, scaling.equalities, scaling.rows
    own_x, own_y, own_z = r_x / d / cost, r_y / e, r_z / f
    x, y, z, s = d * v_x, e * v_y / cost, f * v_z / cost, v_s / f
    slopes = curvature / d / cost

    # With products of residuals and point where nothing curves: see below.
    flat = program.cones.polyhedral
    effects = [[(abs(a), abs(b))] if flat else [] for a, b in ((v_x, r_x), (v_y, r_y), (v_z, r_z))]
    farkas_x, ray_y, ray_z = r_x + program.c * tau + curvature, r_y + program.b * tau, r_z + h * tau
    linear, quadratic, x_x, x_v, r_xx, slope, bent, farkas, *effect_x = _sums(
        (program.c, v_x), (v_x, curvature), (x, x), (v_x, v_x), (own_x, own_x), (slopes, slopes),
        (curvature, curvature), (farkas_x, farkas_x), *effects[0],
    )  # fmt: skip
    price_y, y_y, y_v, r_yy, ray_yy, *effect_y = _sums(
        (program.b, v_y), (y, y), (v_y, v_y), (own_y, own_y), (ray_y, ray_y), *effects[1]
    )
    price_z, pairs, z_z, s_s, z_v, s_v, r_zz, ray_zz, *effect_z = _sums(
        (h, v_z), (v_s, v_z), (z, z), (s, s), (v_z, v_z), (v_s, v_s), (own_z, own_z), (ray_z, ray_z), *effects[2]
    )
    price = price_y + price_z
    residuals = Residuals(
        flat=jnp.concatenate([r_x, r_y, r_z]),
        tau=linear + price + kappa + quadratic / tau,
        mu=(pairs + tau * kappa) / (by.degree + 1.0),
        curvature=curvature,
    )

    squares = jnp.stack(
        [x_x, s_s, slope, y_y + z_z, r_yy + r_zz, r_xx, x_v, s_v, y_v + z_v, farkas, bent, ray_yy + ray_zz]
    )
    (
        norm_x, norm_s, norm_slope, norm_yz, primal_left, dual_left, size_x, size_s, size_z, farkas_left, bent_left, ray_left
    ) = list(jnp.sqrt(squares))  # fmt: skip
    constant = program.constant / cost
    quadratic = quadratic / cost / tau**2
    primal = linear / cost / tau + 0.5 * quadratic + constant
    dual = -price / cost / tau - 0.5 * quadratic + constant
    gap = jnp.abs(primal - dual)
    primal_scale = by.size_right + (norm_x + norm_s) / tau
    dual_scale = by.size_cost + (norm_slope + norm_yz) / tau
    # Where nothing but zeros is given, one is as good a unit as any.
    primal_scale = jnp.maximum(primal_scale, jnp.where(by.size_right > 0, tiny, 1.0))
    dual_scale = jnp.maximum(dual_scale, jnp.where(by.size_cost > 0, tiny, 1.0))
    objective = jnp.maximum(unit, jnp.minimum(jnp.abs(primal), jnp.abs(dual)))
    effect = jnp.zeros((), tau.dtype)
    if flat:
        # The gap is that of slacks and multipliers plus these products: small residuals can be worth much to a large point.
        # Where cones curve, rounding near their boundary keeps residuals from falling so far.
        effect = sum(effect_x + effect_y + effect_z) / cost / tau**2 / objective
    value, slope_value = jnp.abs(price), jnp.abs(linear)
    measures = Measures.of(
        primal_objective=primal,
        dual_objective=dual,
        gap=gap,
        unit=unit,
        relative_gap=gap / objective,
        effect=effect,
        primal=primal_left / tau / primal_scale,
        dual=dual_left / tau / dual_scale,
        ratio=kappa / tau,
        farkas_value=price / cost,
        farkas_residual=farkas_left / jnp.maximum(jnp.maximum(value, size_z), tiny),
        ray_value=linear / cost,
        ray_residual=jnp.maximum(
            bent_left / jnp.maximum(jnp.maximum(slope_value, size_x), tiny),
            ray_left / jnp.maximum(jnp.maximum(slope_value, size_x + size_s), tiny),
        ),
        primal_infeasibility=_largest(own_y, own_z) / tau,
        dual_infeasibility=_largest(own_x) / tau,
    )
    return residuals, measures
