"""A product of stacks of cones: the cone of a whole program."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .base import AbstractCone, AbstractScaling, Frame
from .nonnegative import Nonnegative


def _offsets(cones) -> list[slice]:
    slices, start = [], 0
    for cone in cones:
        slices.append(slice(start, start + cone.size))
        start += cone.size
    return slices


def _leading(cones, rows: int) -> int:
    """How many stacks make up the first ``rows`` rows."""
    return sum(0 < part.stop <= rows for part in _offsets(cones))


def _joined(parts: list, like) -> Array:
    return jnp.concatenate(parts) if parts else jnp.zeros((0, *like.shape[1:]), like.dtype)


def _each(verb: str, parts, cones, v) -> Array:
    """A verb of each part, applied to the rows of its stack."""
    return _joined([getattr(part, verb)(v[rows]) for part, rows in zip(parts, _offsets(cones), strict=True)], v)


class ProductScaling(AbstractScaling):
    parts: tuple[AbstractScaling, ...]
    cones: tuple[AbstractCone, ...]

    @property
    def diagonal(self):
        diagonals = [part.diagonal for part in self.parts]
        known = [d for d in diagonals if d is not None]
        return jnp.concatenate(known) if known and len(known) == len(diagonals) else None

    def product(self, v):
        return _each("product", self.parts, self.cones, v)

    def whiten(self, v):
        return _each("whiten", self.parts, self.cones, v)

    def recover(self, v):
        return _each("recover", self.parts, self.cones, v)

    def leading(self, rows: int) -> "ProductScaling":
        """The scaling of the stacks that make up the first ``rows`` rows."""
        count = _leading(self.cones, rows)
        return ProductScaling(self.parts[:count], self.cones[:count])


class UnitScaling(AbstractScaling):
    """``H = I``: the scaling of a symmetric cone at its unit."""

    def product(self, v):
        return v

    def whiten(self, v):
        return v

    def recover(self, v):
        return v


class ProductFrame(Frame):
    a: Float[Array, " size"]
    b: Float[Array, " size"]
    parts: tuple[Frame, ...]
    cones: tuple[AbstractCone, ...]

    def leading(self, rows: int) -> "ProductFrame":
        """The frame of the stacks that make up the first ``rows`` rows."""
        count = _leading(self.cones, rows)
        return ProductFrame(self.a[:rows], self.b[:rows], self.parts[:count], self.cones[:count])

    def rotate(self, v):
        return _each("rotate", self.parts, self.cones, v)

    def restore(self, v):
        return _each("restore", self.parts, self.cones, v)


class ConeProduct(AbstractCone[ProductScaling]):
    """Stacks of cones one after the other. No stack costs anything that its rows do not."""

    cones: tuple[AbstractCone, ...]

    @property
    def symmetric(self) -> bool:
        return all(cone.symmetric for cone in self.cones)

    @property
    def polyhedral(self) -> bool:
        """Whether nothing curves: there are orthants only."""
        return all(isinstance(cone, Nonnegative) for cone in self.cones)

    @property
    def size(self) -> int:
        return sum(cone.size for cone in self.cones)

    @property
    def blocks(self):
        raise NotImplementedError("ask the stacks")

    def split(self, v: Float[Array, "size ..."]) -> list[Array]:
        """The rows of each stack."""
        return [v[rows] for rows in _offsets(self.cones)]

    def _each(self, verb: str, *vectors):
        return [getattr(cone, verb)(*parts) for cone, *parts in zip(self.cones, *map(self.split, vectors), strict=True)]

    def leading(self, rows: int) -> "ConeProduct":
        """The stacks that make up the first ``rows`` rows."""
        return ConeProduct(self.cones[: _leading(self.cones, rows)])

    def equilibrated(self, factors, sizes, least, most):
        rows = zip(self.cones, self.split(factors), self.split(sizes), strict=True)
        return _joined([cone.equilibrated(own, size, least, most) for cone, own, size in rows], factors)

    def rounded(self, factors):
        return _joined(self._each("rounded", factors), factors)

    def balanced(self, s, z):
        return _joined(self._each("balanced", s, z), s)

    def degree(self) -> Int[Array, ""]:
        total = jnp.zeros((), int)
        for cone in self.cones:
            total = total + cone.degree()
        return total

    def unit(self, dtype):
        return _joined([cone.unit(dtype) for cone in self.cones], jnp.zeros(0, dtype))

    def margin(self, v: Float[Array, " size"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The smallest margin, and the sum of the positive ones (symmetric cones only)."""
        least, total = jnp.asarray(jnp.inf, v.dtype), jnp.zeros((), v.dtype)
        for a, b in self._each("margin", v):
            least, total = jnp.minimum(least, a), total + b
        return least, total

    def scaling(self, s, z, mu, dual: Bool[Array, ""]):
        parts = [
            cone.scaling(a, b, mu, dual) for cone, a, b in zip(self.cones, self.split(s), self.split(z), strict=True)
        ]
        return ProductScaling(tuple(parts), self.cones)

    def combined(self, scaling, s, z, ds, dz, target):
        rows = zip(self.cones, scaling.parts, *(self.split(v) for v in (s, z, ds, dz)), strict=True)
        return _joined([cone.combined(part, *vectors, target) for cone, part, *vectors in rows], s)

    def step_length(self, scaling, s, z, ds, dz, most):
        rows = list(zip(self.cones, scaling.parts, *(self.split(v) for v in (s, z, ds, dz)), strict=True))
        # Backtracking starts from what the symmetric cones allow.
        for cone, part, *vectors in sorted(rows, key=lambda row: not row[0].symmetric):
            most = cone.step_length(part, *vectors, most)
        return most

    def barrier(self, s, z):
        return sum(self._each("barrier", s, z), start=jnp.zeros((), s.dtype))

    def enclosed(self, most):
        pairs = self._each("enclosed", most)
        return _joined([low for low, _ in pairs], most), _joined([high for _, high in pairs], most)

    def project(self, v):
        return _joined(self._each("project", v), v)

    def project_dual(self, v):
        return _joined(self._each("project_dual", v), v)

    def complementary(self, v):
        pairs = self._each("complementary", v)
        return _joined([s for s, _ in pairs], v), _joined([z for _, z in pairs], v)

    def central_pair(self, v, mu):
        pairs = [cone.central_pair(part, mu) for cone, part in zip(self.cones, self.split(v), strict=True)]
        return _joined([s for s, _ in pairs], v), _joined([z for _, z in pairs], v)

    def linearized(self, s, z, ds, dz):
        return _joined(self._each("linearized", s, z, ds, dz), s)

    def frame(self, s, z, near=None):
        rows = zip(self.cones, self.split(s), self.split(z), strict=True)
        if near is None:
            return self._framed([cone.frame(a, b) for cone, a, b in rows], s)
        pairs = zip(*map(self.split, near), strict=True)
        return self._framed([cone.frame(a, b, pair) for (cone, a, b), pair in zip(rows, pairs, strict=True)], s)

    def _framed(self, found: list, s) -> tuple[ProductFrame, Array]:
        frames, factors = zip(*found, strict=True) if self.cones else ((), ())
        a = _joined([frame.a for frame in frames], s)
        b = _joined([frame.b for frame in frames], s)
        return ProductFrame(a, b, frames, self.cones), _joined(list(factors), s)

    def central_linearized(self, s, z, ds, dz, mu):
        rows = zip(self.cones, *(self.split(v) for v in (s, z, ds, dz)), strict=True)
        return _joined([cone.central_linearized(*vectors, mu) for cone, *vectors in rows], s)

    def central_frame(self, s, z, mu):
        rows = zip(self.cones, self.split(s), self.split(z), strict=True)
        return self._framed([cone.central_frame(a, b, mu) for cone, a, b in rows], s)

    def clarity(self, s, z, near_s, near_z):
        least = jnp.asarray(jnp.inf, s.dtype)
        for value in self._each("clarity", s, z, near_s, near_z):
            least = jnp.minimum(least, value)
        return least
