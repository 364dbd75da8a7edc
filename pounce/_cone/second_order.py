"""Second-order cones ``s_0 >= |s_1|``, a stack of equal ones.

Formulas for the Nesterov-Todd scaling follow Vandenberghe (2010), "The CVXOPT linear and quadratic cone program solvers",
sections 4 and 5; the residual ``v_0^2 - |v_1|^2`` is always formed as a product, which keeps the digits near the boundary.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractCone, AbstractScaling, Frame
from .nonnegative import least_ratio, spectral_pair
from .units import price_share


def _norm(v):
    """Euclidean norm on the last axis with derivative zero at zero."""
    square = jnp.sum(v * v, axis=-1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def _residual(v: Float[Array, "k d"]) -> Float[Array, " k"]:
    norm = _norm(v[:, 1:])
    return (v[:, 0] - norm) * (v[:, 0] + norm)


def _reflect(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    return jnp.concatenate([v[:, :1], -v[:, 1:]], axis=1)


def _arrow(u: Float[Array, "k d"], v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """The Jordan product ``(u'v, u_0 v_1 + v_0 u_1)``."""
    head = jnp.sum(u * v, axis=1, keepdims=True)
    return jnp.concatenate([head, u[:, :1] * v[:, 1:] + v[:, :1] * u[:, 1:]], axis=1)


class HyperbolicScaling(AbstractScaling):
    """``W = eta [[w_0, w_1'], [w_1, I + w_1 w_1' / (1 + w_0)]]`` with ``w_0^2 = 1 + |w_1|^2``; symmetric."""

    w: Float[Array, "count d"]
    eta: Float[Array, " count"]

    def _apply(self, v, sign: float):
        shape = v.shape
        v = v.reshape(*self.w.shape, -1)
        w0, w1 = self.w[:, :1], sign * self.w[:, 1:]
        along = jnp.einsum("ci,cik->ck", w1, v[:, 1:])
        head = w0 * v[:, 0] + along
        tail = v[:, 1:] + w1[:, :, None] * (v[:, 0] + along / (1.0 + w0))[:, None]
        factor = self.eta if sign > 0 else 1.0 / self.eta
        return (factor[:, None, None] * jnp.concatenate([head[:, None], tail], axis=1)).reshape(shape)

    def product(self, v):
        return self._apply(self._apply(v, 1.0), 1.0)

    def whiten(self, v):
        return self._apply(v, -1.0)

    def recover(self, v):
        return self._apply(v, -1.0)


class SecondOrderFrame(Frame):
    """Spectral basis: ``(1, u)/sqrt 2``, ``(1, -u)/sqrt 2``, and ``(0, t)`` for t orthogonal to u (a Householder reflection)."""

    a: Float[Array, " size"]
    b: Float[Array, " size"]
    mirror: Float[
        Array, "count e"
    ]  # unit vectors of the reflections that take u to the first axis; zero where none is needed
    dimension: int = eqx.field(static=True)

    def _reflected(self, v):
        along = jnp.einsum("ci,cik->ck", self.mirror, v[:, 1:])
        return jnp.concatenate([v[:, :1], v[:, 1:] - 2.0 * self.mirror[:, :, None] * along[:, None]], axis=1)

    def _mixed(self, v):
        half = jnp.sqrt(jnp.asarray(0.5, v.dtype))
        plus, minus = half * (v[:, :1] + v[:, 1:2]), half * (v[:, :1] - v[:, 1:2])
        return jnp.concatenate([plus, minus, v[:, 2:]], axis=1)

    def rotate(self, v):
        if self.dimension == 1:
            return v
        return self._mixed(self._reflected(v.reshape(-1, self.dimension, v.shape[1]))).reshape(v.shape)

    def restore(self, v):
        if self.dimension == 1:
            return v
        return self._reflected(self._mixed(v.reshape(-1, self.dimension, v.shape[1]))).reshape(v.shape)


class SecondOrder(AbstractCone[HyperbolicScaling]):
    """``count`` cones of ``dimension`` rows each. A cone of dimension one is a half-line."""

    dimension: int = eqx.field(static=True)
    count: int = eqx.field(static=True)
    symmetric: ClassVar[bool] = True

    @property
    def size(self) -> int:
        return self.dimension * self.count

    @property
    def blocks(self):
        return (self.dimension,) * self.count

    def degree(self):
        return self.count

    def _stack(self, v):
        return v.reshape(self.count, self.dimension)

    def _spectrum(self, v):
        v = self._stack(v)
        norm = _norm(v[:, 1:])
        return v[:, 0] + norm, v[:, 0] - norm, v[:, 1:] / jnp.where(norm > 0, norm, 1.0)[:, None]

    def _assembled(self, plus, minus, direction):
        head = 0.5 * (plus + minus)
        return jnp.concatenate([head[:, None], (0.5 * (plus - minus))[:, None] * direction], axis=1).reshape(-1)

    def unit(self, dtype):
        return jnp.zeros((self.count, self.dimension), dtype).at[:, 0].set(1.0).reshape(-1)

    def margin(self, v: Float[Array, " size"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The smallest ``v_0 - |v_1|``, and the sum of the positive ones."""
        v = self._stack(v)
        gap = v[:, 0] - _norm(v[:, 1:])
        return jnp.min(gap, initial=jnp.inf), jnp.sum(jnp.maximum(gap, 0.0))

    def scaling(self, s, z, mu, dual):
        del mu, dual
        s, z = self._stack(s), self._stack(z)
        a, b = jnp.sqrt(_residual(s)), jnp.sqrt(_residual(z))
        w = s / a[:, None] + _reflect(z) / b[:, None]
        w = w / jnp.sqrt(_residual(w))[:, None]
        head = jnp.sqrt(1.0 + jnp.sum(w[:, 1:] * w[:, 1:], axis=1))
        return HyperbolicScaling(w.at[:, 0].set(head), jnp.sqrt(a / b))

    def combined(self, scaling, s, z, ds, dz, target):
        white = scaling._apply(jnp.stack([z, dz], axis=1), 1.0)
        lam, white_z = self._stack(white[:, 0]), self._stack(white[:, 1])
        white_s = self._stack(scaling.whiten(ds[:, None]))
        d = _arrow(white_s, white_z).at[:, 0].add(-target)
        w0, w1 = scaling.w[:, 0], scaling.w[:, 1:]
        along = jnp.sum(w1 * d[:, 1:], axis=1)
        stack = self._stack(z)
        first = (lam[:, 0] * d[:, 0] - jnp.sum(lam[:, 1:] * d[:, 1:], axis=1)) / _residual(stack)
        tail = jnp.concatenate([along[:, None], d[:, 1:] + (along / (1.0 + w0))[:, None] * w1], axis=1)
        q = (first[:, None] * _reflect(stack) + scaling.eta[:, None] * tail) / lam[:, :1]
        return s + q.reshape(-1)

    def step_length(self, scaling, s, z, ds, dz, most):
        del scaling
        v = jnp.concatenate([self._stack(s), self._stack(z)])
        dv = jnp.concatenate([self._stack(ds), self._stack(dz)])
        # In the coordinates where v is the unit (Vandenberghe, section 8.3): the step to the boundary is 1 / (|r_1| - r_0).
        k = jnp.sqrt(_residual(v))[:, None]
        v = v / k
        r0 = jnp.sum(_reflect(v) * dv, axis=1) / k[:, 0]
        r1 = (dv[:, 1:] - ((r0 * k[:, 0] + dv[:, 0]) / (v[:, 0] + 1.0))[:, None] * v[:, 1:]) / k
        outward = _norm(r1) - r0
        longest = jnp.where(outward > 0, 1.0 / jnp.where(outward > 0, outward, 1.0), jnp.inf)
        longest = jnp.where(jnp.isnan(outward), 0.0, longest)
        return jnp.minimum(most, jnp.min(longest, initial=jnp.inf))

    def barrier(self, s, z):
        v = jnp.concatenate([self._stack(s), self._stack(z)])
        norm = _norm(v[:, 1:])
        # Factor by factor: their product is positive in the opposite cone too.
        return -0.5 * jnp.sum(jnp.log(v[:, 0] - norm) + jnp.log(v[:, 0] + norm))

    def enclosed(self, most):
        most = most.reshape(self.count, self.dimension)
        head = jnp.maximum(most[:, :1], 0.0)
        low = jnp.broadcast_to(-head, most.shape).at[:, 0].set(0.0)
        return low.reshape(-1), jnp.minimum(most, head).reshape(-1)

    def project(self, v):
        plus, minus, direction = self._spectrum(v)
        return self._assembled(jnp.maximum(plus, 0.0), jnp.maximum(minus, 0.0), direction)

    def project_dual(self, v):
        return self.project(v)

    def central_pair(self, v, mu):
        plus, minus, direction = self._spectrum(v)
        (s_plus, z_plus), (s_minus, z_minus) = spectral_pair(plus, mu), spectral_pair(minus, mu)
        # v = s - z has the spectral values of s on u and those of -z on the same u.
        return self._assembled(s_plus, s_minus, direction), self._assembled(z_plus, z_minus, direction)

    def linearized(self, s, z, ds, dz):
        s, z, ds, dz = (self._stack(v) for v in (s, z, ds, dz))
        return (_arrow(z, ds) + _arrow(s, dz)).reshape(-1)

    def clarity(self, s, z, near_s, near_z):
        direction = self._direction(near_s - near_z)
        values, near = ([jnp.stack(self._values(v, direction)) for v in pair] for pair in ((s, z), (near_s, near_z)))
        return least_ratio(list(zip(near, values, strict=True)))

    def _direction(self, v):
        """Unit vectors along the last rows."""
        _, _, direction = self._spectrum(v)
        if self.dimension > 1:
            # On the axis any direction will do.
            lost = jnp.sum(direction * direction, axis=1) < 0.5
            direction = jnp.where(lost[:, None], jnp.zeros_like(direction).at[:, 0].set(1.0), direction)
        return direction

    def frame(self, s, z, near=None):
        del near
        direction = self._direction(s - z)
        values_s, values_z = (self._values(v, direction) for v in (s, z))
        s_plus, s_minus, z_plus, z_minus = (jnp.maximum(v, 0.0) for v in (*values_s, *values_z))
        one = jnp.ones((self.count, max(self.dimension - 2, 0)), s.dtype)

        def spread(plus, minus):
            ends = [plus[:, None]] if self.dimension == 1 else [plus[:, None], minus[:, None]]
            return jnp.concatenate([*ends, 0.5 * (plus + minus)[:, None] * one], axis=1).reshape(-1)

        held, total = price_share(spread(s_plus, s_minus), spread(z_plus, z_minus), self.count)
        mirror = direction.at[:, 0].add(-1.0) if self.dimension > 1 else direction
        length = _norm(mirror)
        mirror = mirror / jnp.where(length > 0, length, 1.0)[:, None]
        return SecondOrderFrame(1.0 - held, held, mirror, self.dimension), total

    def _values(self, v, direction):
        v = self._stack(v)
        along = jnp.sum(v[:, 1:] * direction, axis=1)
        return v[:, 0] + along, v[:, 0] - along
