"""Exponential cones ``y exp(x / y) <= z``, ``y > 0``.

The barriers are those of Dahl and Andersen (2021), "A primal-dual interior-point algorithm for nonsymmetric exponential-cone
optimization". The projection is written on the rays of Friberg (2023), "Projection onto the exponential cone: a univariate
root-finding problem", but solved for the ratio of the dual to the primal ray's length.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax

from .three_dimensional import AbstractThreeDimensional
from .vectors import components, from_rows, positive_root


# The fixed point of s -> -grad f*(s)
UNIT = (-1.0513839437502289, 0.5564096186043384, 1.2589678864644603)


class Exponential(AbstractThreeDimensional):
    """``count`` cones ``{(x, y, z): y exp(x / y) <= z, y > 0}``, closed.

    The dual cone is ``{(u, v, w): v - u - u log(-w / u) >= 0, u < 0, w > 0}``, closed. It has the barrier
    ``f* = -log(v - u - u log(-w / u)) - log(-u) - log(w)``.
    """

    count: int = eqx.field(static=True)
    order: ClassVar[tuple[int, int, int]] = (1, 0, 2)

    @property
    def size(self) -> int:
        return 3 * self.count

    def unit(self, dtype):
        return jnp.tile(jnp.asarray(UNIT, dtype), self.count)

    def enclosed(self, most):
        x, y, z = components(most.reshape(-1, 3))
        high = jnp.stack([jnp.minimum(x, jnp.maximum(z, 0.0) / np.e), y, z], axis=-1)  # x <= y log(z / y)
        return jnp.where(np.arange(self.size) % 3 == 0, -jnp.inf, 0.0).astype(most.dtype), high.reshape(-1)

    def contains(self, v):
        x, y, z = components(v)
        positive = (y > 0) & (z > 0)
        x, y, z = (jnp.where(positive, c, 1.0) for c in (x, y, z))
        return jnp.where(positive, jnp.log(z / y) - x / y, -jnp.inf)

    def dual_contains(self, v):
        u, _, w = components(v)
        inside = (u < 0) & (w > 0)
        psi, _ = _psi(jnp.where(inside[..., None], v, jnp.asarray(UNIT, v.dtype)))
        return jnp.where(inside, psi, -jnp.inf)

    def primal_barrier(self, s):
        x, y, z = components(s)
        t = _depth(jnp.log(z / y) - x / y)
        return jnp.log1p(t) - 2.0 * jnp.log(t) - 2.0 * jnp.log(y) - jnp.log(z) - 3.0

    def primal_gradient(self, s):
        x, y, z = components(s)
        t = _depth(jnp.log(z / y) - x / y)
        return jnp.stack([1.0 / (t * y), ((1.0 - x / y) / t - 2.0) / y, -(1.0 + t) / (t * z)], axis=-1)

    def dual_barrier(self, z):
        u, _, w = components(z)
        return -jnp.log(_psi(z)[0]) - jnp.log(-u) - jnp.log(w)

    def dual_gradient(self, z):
        u, _, w = components(z)
        psi, l = _psi(z)
        return jnp.stack([l / psi - 1.0 / u, -1.0 / psi, (u / psi - 1.0) / w], axis=-1)

    def dual_third(self, z, u, v):
        # Of -log psi - log(-z_0) - log z_2, in the shares of z_0 and z_2 that u and v are. What psi loses along u and v is
        # alpha and beta; gamma is what p = grad psi is multiplied by.
        (z0, _, z2), (u0, u1, u2), (v0, v1, v2) = components(z), components(u), components(v)
        psi, l = _psi(z)
        a0, a2, b0, b2 = u0 / z0, u2 / z2, v0 / z0, v2 / z2
        alpha, beta = (u1 - l * u0 - z0 * a2) / psi, (v1 - l * v0 - z0 * b2) / psi
        gamma = z0 * (a0 - a2) * (b0 - b2) / psi - 2.0 * alpha * beta
        mixed = (a0 - a2) * beta + (b0 - b2) * alpha
        first = (a0 * b0 - a2 * b2 + mixed - l * gamma) / psi - 2.0 * a0 * b0 / z0
        last = (2.0 * a2 * b2 - a2 * b0 - a0 * b2 - mixed - gamma) * (z0 / psi)
        return jnp.stack([first, gamma / psi, (last - 2.0 * a2 * b2) / z2], axis=-1)

    def dual_factor(self, z):
        # hess f* = p p' / psi^2 + N, with p = grad psi and N = D (I + k 1 1') D on the rows of u and w, where
        # D = diag(-1 / u, 1 / w) and k = -u / psi. The row of v goes first, since N does not have it.
        u, _, w = components(z)
        psi, l = _psi(z)
        psi = jnp.where((psi > 0) & (u < 0), psi, jnp.nan)
        k = -u / psi
        root = jnp.sqrt(1.0 + k)
        zero = jnp.zeros_like(k)
        third = jnp.sqrt(1.0 + 2.0 * k) / root
        rows = (
            (1.0 / psi, zero, zero),
            (-l / psi, -root / u, zero),
            (k / w, k / (root * w), third / w),
        )
        return from_rows(rows), jnp.stack([jnp.ones_like(k), -1.0 / root, third], axis=-1)

    def pair(self, v, mu, x):
        v0, v1, v2 = components(v)
        mu = jnp.maximum(mu, _zero(v.dtype) ** 2)
        m = jnp.exp(-x)  # -z_0 / s_1
        size = jnp.sqrt(1.0 + m + m * m)
        y = positive_root((m * v0 + v1) / size, 2.0 * mu) / size
        # rho = -log(-z_2 / z_0), which is the ratio s_0 / s_1 on the boundary
        rho = ((v0 + m * (v0 - v1)) / size + (mu / y) * ((1.0 + 1.0 / m - m) / size)) / (size * y)
        a = m * y
        product = a * y + mu
        w = positive_root(-v2, product)
        s = jnp.stack([rho * y - mu / a, y, positive_root(v2, product)], axis=-1)
        z = jnp.stack([-a, mu / y - a * (1.0 - rho), w], axis=-1)
        return s, z, jnp.log(w / a) + rho

    def curvature(self, p, d):
        # p_0 / p_1, written so that negative powers of p_1, which overflow, appear in no derivative.
        fixed = lax.stop_gradient(p)
        shift = (p - fixed) / fixed[..., 1:2]
        rho = (fixed[..., 0] / fixed[..., 1] + shift[..., 0]) / (1.0 + shift[..., 1])
        right = rho > 0
        small = jnp.exp(2.0 * jnp.where(right, -rho, rho))
        up, down = jnp.where(right, 1.0, small), jnp.where(right, small, 1.0)  # exp(rho) and exp(-rho) over the larger
        primal = p[..., 1] * (down + up * (1.0 + (1.0 - rho) ** 2))
        return primal / (primal + d[..., 0] * (up + down * (1.0 + rho**2)))

    def face(self, v):
        x, y, z = components(v)
        zero = _zero(v.dtype)
        a = jnp.stack([jnp.ones_like(x), jnp.zeros_like(x), jnp.where(z > 0, 1.0, 0.0)], axis=-1)
        return (x <= zero) & (y <= zero), a


def _zero(dtype) -> float:
    """What is zero next to one: below eps, yet its inverse has finite powers."""
    return float(jnp.finfo(dtype).eps) ** 1.2


def _psi(z):
    """``v - u - u l`` and ``l = log(-w / u)``."""
    u, v, w = components(z)
    l = jnp.log(-w / u)
    return v - u - u * l, l


def _depth(delta):
    """The root of ``t + log(1 + t) = delta`` for positive delta: ``omega(1 + delta) - 1`` with Wright's omega.

    Two steps of fourth order (Fritsch, Shafer and Crowley 1973) from a start that is right to 20 percent: the relative
    error left is eps.
    """
    t = jnp.maximum(0.5 * delta, delta - jnp.log1p(delta))
    for _ in range(2):
        r = delta - t - jnp.log1p(t)
        omega = 1.0 + t
        q = 2.0 * (1.0 + omega) * (1.0 + omega + r / 1.5)
        t = t + omega * r * (q - r) / ((1.0 + omega) * (q - 2.0 * r))
    return t
