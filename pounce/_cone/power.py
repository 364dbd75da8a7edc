"""Power cones ``|x| <= y^a z^(1 - a)``, the bounded coordinate first.

The barrier of the dual cone is that of Nesterov (2012), "Towards non-symmetric conic optimization", with its Hessian
factorised by hand. The projection is that of Hien (2015), "Differential properties of Euclidean projection onto power
cone", solved for the logarithm of a ratio and with a barrier term.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .three_dimensional import AbstractThreeDimensional
from .vectors import components, from_rows, log_size, norm, positive_root


class Power(AbstractThreeDimensional):
    """One cone ``{(x, y, z): |x| <= y^a z^(1 - a), y >= 0, z >= 0}`` for each exponent a, ``0 < a < 1``.

    The dual cone is ``{(u, v, w): |u| <= (v / a)^a (w / b)^b, v >= 0, w >= 0}`` with ``b = 1 - a``. It has the barrier
    ``f* = -log((v / a)^2a (w / b)^2b - u^2) - b log(v) - a log(w)``.
    """

    alphas: tuple[float, ...] = eqx.field(static=True)
    order: ClassVar[tuple[int, int, int]] = (0, 1, 2)

    @property
    def size(self) -> int:
        return 3 * len(self.alphas)

    def _exponents(self, dtype):
        a = np.asarray(self.alphas, np.float64)
        return jnp.asarray(a, dtype), jnp.asarray(1.0 - a, dtype)

    def unit(self, dtype):
        a, _ = self._exponents(dtype)
        return jnp.stack([jnp.zeros_like(a), jnp.sqrt(1.0 + a), jnp.sqrt(2.0 - a)], axis=-1).reshape(-1)

    def enclosed(self, most):
        x, y, z = components(most.reshape(-1, 3))
        a, b = self._exponents(most.dtype)
        size = jnp.maximum(y, 0.0) ** a * jnp.maximum(z, 0.0) ** b
        size = jnp.where(jnp.isnan(size), jnp.inf, size)
        low = jnp.stack([-size, jnp.zeros_like(y), jnp.zeros_like(z)], axis=-1)
        return low.reshape(-1), jnp.stack([jnp.minimum(x, size), y, z], axis=-1).reshape(-1)

    def contains(self, v):
        x, y, z = components(v)
        a, _ = self._exponents(v.dtype)
        positive = (y >= 0) & (z >= 0)
        return jnp.where(positive, _mean(y, z, a) - jnp.abs(x), -jnp.inf)

    def dual_contains(self, v):
        u, v, w = components(v)
        a, b = self._exponents(v.dtype)
        return self.contains(jnp.stack([u, v / a, w / b], axis=-1))

    def primal_barrier(self, s):
        k, q, height = self._conjugate(s)
        _, y, z = components(s)
        a, b = self._exponents(s.dtype)
        spread = b * jnp.log((a * q + 1.0 + a) / y) + a * jnp.log((b * q + 1.0 + b) / z)
        return jnp.log(2.0 * k) - 2.0 * jnp.log(height) + spread - 3.0

    def primal_gradient(self, s):
        k, q, height = self._conjugate(s)
        x, y, z = components(s)
        a, b = self._exponents(s.dtype)
        return jnp.stack([x / height * k / height, -(a * q + 1.0 + a) / y, -(b * q + 1.0 + b) / z], axis=-1)

    def _conjugate(self, s):
        """``k = q / r``, ``q = x df/dx`` and ``h = y^a z^b``, where ``r = (x / h)^2`` and q is the root of
        ``2 a log(q + (1 + a) / a) + 2 b log(q + (1 + b) / b) - log(q (q + 2)) + log(r)``.

        With ``q = 2 / expm1(t)`` and ``e = 1 - exp(-t)`` the equation is
        ``t + 2 a log(1 + e b / 2a) + 2 b log(1 + e a / 2b) = -log(r)``. Its left-hand side is concave with slopes from 2
        down to 1, so that Newton's method rises to the root: four steps leave an error of eps.
        """
        x, y, z = components(s)
        a, b = self._exponents(s.dtype)
        height = _mean(y, z, a)
        ratio, gap = jnp.abs(x) / height, (height - jnp.abs(x)) / height
        # Far from the boundary the logarithm itself: XLA's log1p loses two digits between -0.42 and -0.36.
        far = ratio < 0.75
        near = jnp.log1p(-jnp.where(far, 0.0, gap))
        right = -2.0 * jnp.where(far, jnp.log(jnp.maximum(ratio, _zero(s.dtype))), near)
        c, d = 0.5 * b / a, 0.5 * a / b
        t = jnp.maximum(0.5 * right, right - 2.0 * a * jnp.log1p(c) - 2.0 * b * jnp.log1p(d))
        for _ in range(4):
            rise = -jnp.expm1(-t)
            value = t + 2.0 * a * jnp.log1p(c * rise) + 2.0 * b * jnp.log1p(d * rise) - right
            slope = 1.0 + (1.0 - rise) * (2.0 * a * c / (1.0 + c * rise) + 2.0 * b * d / (1.0 + d * rise))
            t = t - value / slope
        rise = -jnp.expm1(-t)
        k = 2.0 * jnp.exp(2.0 * a * jnp.log1p(c * rise) + 2.0 * b * jnp.log1p(d * rise)) / rise
        return k, 2.0 * jnp.exp(-t) / rise, height

    def _psi(self, z):
        """``psi = phi - u^2`` and ``phi = (v / a)^2a (w / b)^2b``."""
        u, v, w = components(z)
        a, b = self._exponents(z.dtype)
        height = _mean(v / a, w / b, a)
        return (height - jnp.abs(u)) * (height + jnp.abs(u)), height * height

    def dual_barrier(self, z):
        _, v, w = components(z)
        a, b = self._exponents(z.dtype)
        return -jnp.log(self._psi(z)[0]) - b * jnp.log(v) - a * jnp.log(w)

    def dual_gradient(self, z):
        u, v, w = components(z)
        a, b = self._exponents(z.dtype)
        psi, phi = self._psi(z)
        k = phi / psi
        return jnp.stack([2.0 * u / psi, -(2.0 * a * k + b) / v, -(2.0 * b * k + a) / w], axis=-1)

    def dual_factor(self, z):
        # After u is eliminated, the block of (v, w) scaled by diag(v, w) is
        # 2 a b k [1 -1; -1 1] + t / 2 [2a; 2b] [2a 2b] + diag(b, a) with k = phi / psi and t = phi / (phi + u^2).
        u, v, w = components(z)
        a, b = self._exponents(z.dtype)
        psi, phi = self._psi(z)
        psi = jnp.where((psi > 0) & (v > 0) & (w > 0), psi, jnp.nan)
        k, both = phi / psi, phi + u * u
        t = phi / both
        root = jnp.sqrt(2.0 * both)
        side = -2.0 * u * k / root
        second = jnp.sqrt(2.0 * a * b * k + 2.0 * a * a * t + b)
        cross = -4.0 * a * b * k * (u * u / both)
        third = jnp.sqrt(2.0 * a * b * k * (1.0 + 2.0 * t) + 2.0 * t * (a**3 + b**3) + a * b) / second
        zero = jnp.zeros_like(k)
        rows = (
            (root / psi, zero, zero),
            (2.0 * a * side / v, second / v, zero),
            (2.0 * b * side / w, cross / (second * w), third / w),
        )
        return from_rows(rows), jnp.stack([-2.0 * u / root, (2.0 * a * t + b) / second, third], axis=-1)

    def pair(self, v, mu, x):
        v0, v1, v2 = components(v)
        a, b = self._exponents(v.dtype)
        # A little to the side of the plane of symmetry, so that the ratio s_0 / z_0 = -exp(x) is defined there too.
        zero = _zero(v.dtype)
        v0 = jnp.where(jnp.abs(v0) < zero, zero, v0)
        s0, z0 = v0 * jax.nn.sigmoid(x), -v0 * jax.nn.sigmoid(-x)
        product = jnp.abs(s0 * z0)
        y, z = a * product + (1.0 + a) * mu, b * product + (1.0 + b) * mu
        dual = positive_root(-v1, y), positive_root(-v2, z)
        s = jnp.stack([s0, positive_root(v1, y), positive_root(v2, z)], axis=-1)
        defect = (
            2.0 * a * jnp.log(dual[0] / a) + 2.0 * b * jnp.log(dual[1] / b) - jnp.log(z0 * z0 + 2.0 * mu * jnp.exp(-x))
        )
        return s, jnp.stack([z0, *dual], axis=-1), defect

    def curvature(self, p, d):
        # The odds are p_0 p_1 p_2 |d|^2 / (d_0 d_1 d_2 |p|^2). Of p_1 and d_1 the smaller, which may have lost its digits, is
        # left out by means of p_1 d_1 = a p_0 d_0, and likewise of p_2 and d_2.
        a, b = self._exponents(p.dtype)
        log_p, log_d = log_size(p), log_size(d)
        odds = log_p[..., 0] - log_d[..., 0]
        for i, exponent in ((1, a), (2, b)):
            right = log_p[..., i] > log_d[..., i]
            rest = jnp.log(exponent) + log_p[..., 0] + log_d[..., 0]
            odds = odds + jnp.where(right, 2.0 * log_p[..., i] - rest, rest - 2.0 * log_d[..., i])
        return jax.nn.sigmoid(odds + 2.0 * jnp.log(norm(d)) - 2.0 * jnp.log(norm(p)))

    def face(self, v):
        return jnp.zeros(v.shape[:-1], bool), jnp.zeros_like(v)


def _zero(dtype) -> float:
    """What is zero next to one: far below eps, yet its square times the least sigmoid is no underflow."""
    return float(jnp.finfo(dtype).tiny) ** 0.25


def _mean(y, z, a):
    """``y^a z^(1 - a)``, zero if y or z is."""
    positive = z > 0
    z = jnp.where(positive, z, 1.0)
    return jnp.where(positive, (y / z) ** a * z, 0.0)
