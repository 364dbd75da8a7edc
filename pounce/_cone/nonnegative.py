"""The nonnegative orthant, with rows that may be absent."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import AbstractCone, AbstractScaling, Frame
from .units import inverse_root


def spectral_pair(v: Float[Array, "..."], mu: Float[Array, ""]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Positive ``s`` and ``z`` with ``s - z = v`` and ``s z = mu``, without cancellation."""
    large = 0.5 * (jnp.abs(v) + jnp.sqrt(v * v + 4 * mu))
    small = mu / jnp.where(large > 0, large, 1.0)
    return jnp.where(v > 0, large, small), jnp.where(v > 0, small, large)


def longest_step(v: Float[Array, "..."], dv: Float[Array, "..."]) -> Float[Array, ""]:
    """The longest step along ``dv`` that keeps ``v > 0`` nonnegative; infinite if every one does."""
    falling = dv < 0
    return jnp.min(jnp.where(falling, -v / jnp.where(falling, dv, 1.0), jnp.inf), initial=jnp.inf)


def least_ratio(pairs: list[tuple[Float[Array, "..."], Float[Array, "..."]]], exist: Any = True) -> Float[Array, ""]:
    """The least of the larger quotients ``near / value``, for positive values."""
    ratios = [jnp.where(value > 0, near, 0.0) / jnp.where(value > 0, value, 1.0) for near, value in pairs]
    return jnp.min(jnp.where(exist, jnp.maximum(*ratios), jnp.inf), initial=jnp.inf)


class DiagonalScaling(AbstractScaling):
    """``W = sqrt(s / z)``."""

    root: Float[Array, " size"]

    @property
    def diagonal(self):
        return self.root * self.root

    def product(self, v):
        return self.diagonal[:, None] * v

    def whiten(self, v):
        return v / self.root[:, None]

    def recover(self, v):
        return v / self.root[:, None]


class CoordinateFrame(Frame):
    """The coordinates themselves."""

    def rotate(self, v):
        return v

    def restore(self, v):
        return v


class Nonnegative(AbstractCone[DiagonalScaling]):
    """``s >= 0``, row by row. A row that is not ``present`` has ``s = z = 0`` and no part in anything."""

    present: Bool[Array, " size"]
    symmetric: ClassVar[bool] = True

    @property
    def size(self) -> int:
        return self.present.shape[-1]

    @property
    def blocks(self):
        return None

    def equilibrated(self, factors, sizes, least, most):
        return jnp.clip(factors * inverse_root(sizes), least, most)

    def balanced(self, s, z):
        return jnp.ones_like(s)  # what does not curve can do without

    def degree(self):
        return jnp.sum(self.present)

    def unit(self, dtype):
        return self.present.astype(dtype)

    def margin(self, v: Float[Array, " size"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The smallest entry, and the sum of the positive ones."""
        least = jnp.min(jnp.where(self.present, v, jnp.inf), initial=jnp.inf)
        return least, jnp.sum(jnp.where(self.present, jnp.maximum(v, 0.0), 0.0))

    def _filled(self, v):
        return jnp.where(self.present, v, 1.0)

    def scaling(self, s, z, mu, dual):
        del mu, dual
        return DiagonalScaling(jnp.sqrt(self._filled(s) / self._filled(z)))

    def combined(self, scaling, s, z, ds, dz, target):
        del scaling
        return jnp.where(self.present, s + (ds * dz - target) / self._filled(z), 0.0)

    def step_length(self, scaling, s, z, ds, dz, most):
        del scaling
        return jnp.minimum(most, jnp.minimum(longest_step(s, ds), longest_step(z, dz)))

    def barrier(self, s, z):
        return -jnp.sum(jnp.log(self._filled(s)) + jnp.log(self._filled(z)))

    def enclosed(self, most):
        return jnp.zeros_like(most), most

    def project(self, v):
        return jnp.where(self.present, jnp.maximum(v, 0.0), 0.0)

    def project_dual(self, v):
        return self.project(v)

    def central_pair(self, v, mu):
        s, z = spectral_pair(v, mu)
        return jnp.where(self.present, s, 0.0), jnp.where(self.present, z, 0.0)

    def linearized(self, s, z, ds, dz):
        return jnp.where(self.present, z * ds + s * dz, dz)

    def frame(self, s, z, near=None):
        del near
        total = jnp.where(self.present, s + z, 1.0)
        known = total > 0
        held = jnp.where(known, z / jnp.where(known, total, 1.0), 0.5)
        held = jnp.where(self.present, held, 0.0)
        return CoordinateFrame(1.0 - held, held), total

    def clarity(self, s, z, near_s, near_z):
        return least_ratio([(near_s, s), (near_z, z)], self.present)
