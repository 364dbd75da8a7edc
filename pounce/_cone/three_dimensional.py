"""What all cones of three dimensions share: a cone adds its barriers and one equation, everything else is here.

Near the end of a solve the Hessian of the barrier has a condition number of ``1 / mu**2``, so matrices are never factorised:
cones write down the Cholesky factor of ``hess f*`` in sums of positive numbers, and the primal-dual scaling is
assembled column by column, together with its inverse.

The projection onto K is the central pair for ``mu = 0``, so that both are one root of one increasing function. With
``v = p + d``, p in K and d in the polar cone, the derivative of the projection at v has the eigenvectors ``p``, ``d`` and
``p x d`` with the eigenvalues 1, 0 and one more that depends on the curvature of the cone at p.
"""

import abc
import math
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where
from .._once import computed_once
from .base import AbstractCone, AbstractScaling, Frame
from .vectors import (
    Matrices,
    Numbers,
    Vectors,
    cross,
    dot,
    increasing_root,
    lower_inverse,
    norm,
    product,
    squared,
    times,
    transposed_product,
    transposed_times,
)


BACKTRACK = 0.8
TRIALS = 42  # 0.8**41 is the last factor above SHORTEST
SHORTEST = 1e-4


class ThreeDimensionalScaling(AbstractScaling):
    """``H = factor factor'`` with ``inverse = factor^-1``, hence ``W = factor'``."""

    factor: Float[Array, "count 3 3"]
    inverse: Float[Array, "count 3 3"]
    barrier_inverse: Float[Array, "count 3 3"]  # of the factor of hess f*(z)

    def product(self, v):
        return product(self.factor, transposed_product(self.factor, _thirds(v))).reshape(v.shape)

    def whiten(self, v):
        return product(self.inverse, _thirds(v)).reshape(v.shape)

    def recover(self, v):
        return transposed_product(self.inverse, _thirds(v)).reshape(v.shape)


def _thirds(v: Float[Array, "size k"]) -> Float[Array, "count 3 k"]:
    return v.reshape(-1, 3, v.shape[1])


class ThreeDimensionalFrame(Frame):
    """The eigenvectors of the derivative of the projection."""

    a: Float[Array, " size"]
    b: Float[Array, " size"]
    basis: Float[Array, "count 3 3"]

    def rotate(self, v):
        return transposed_product(self.basis, _thirds(v)).reshape(v.shape)

    def restore(self, v):
        return product(self.basis, _thirds(v)).reshape(v.shape)


class AbstractThreeDimensional(AbstractCone[ThreeDimensionalScaling]):
    """A stack of cones of three dimensions; those of cone i are the rows 3i to 3i + 2.

    Barriers are logarithmically homogeneous of degree three, and conjugate: ``grad f*(-grad f(s)) = -s``.
    """

    symmetric: ClassVar[bool] = False
    # The order of elimination in `dual_factor`.
    order: eqx.AbstractClassVar[tuple[int, int, int]]

    @property
    def blocks(self) -> tuple[int, ...]:
        return (3,) * (self.size // 3)

    def degree(self) -> int:
        return self.size

    # What a cone adds

    @abc.abstractmethod
    def contains(self, v: Vectors) -> Numbers:
        """Positive inside K, zero on the boundary."""

    @abc.abstractmethod
    def dual_contains(self, v: Vectors) -> Numbers:
        """Positive inside K*, zero on the boundary."""

    @abc.abstractmethod
    def primal_barrier(self, s: Vectors) -> Numbers:
        """``f`` of interior points."""

    @abc.abstractmethod
    def primal_gradient(self, s: Vectors) -> Vectors:
        """``grad f``."""

    @abc.abstractmethod
    def dual_barrier(self, z: Vectors) -> Numbers:
        """``f*`` of interior points."""

    @abc.abstractmethod
    def dual_gradient(self, z: Vectors) -> Vectors:
        """``grad f*``."""

    @abc.abstractmethod
    def dual_factor(self, z: Vectors) -> tuple[Matrices, Vectors]:
        """The lower triangular factor L of ``hess f*``, rows and columns in the order `order`, and ``L'z``. NaN outside."""

    @abc.abstractmethod
    def pair(self, v: Vectors, mu: Numbers, x: Numbers) -> tuple[Vectors, Vectors, Numbers]:
        """``(s, z)`` with ``s - z = v`` that satisfy all equations of ``s = -mu grad f*(z)`` but one, and the defect in that
        one: a function of x that changes its sign once, from - to +. Entries of v and mu are at most one; where mu is zero,
        v is neither in K nor in the polar cone."""

    @abc.abstractmethod
    def curvature(self, p: Vectors, d: Vectors) -> Numbers:
        """The eigenvalue for ``p x d`` of the derivative of the projection at ``p + d``."""

    @abc.abstractmethod
    def face(self, v: Vectors) -> tuple[Bool[Array, "*stack"], Vectors]:
        """Where besides the interior of K and of its polar cone the projection is ``a * v``, and that a."""

    # The barrier Hessian

    def _dual_factors(self, z: Vectors) -> tuple[Matrices, Matrices, Vectors]:
        """``L``, ``L^-1`` and ``L'z`` with ``hess f*(z) = L L'``."""
        lower, z = self.dual_factor(z)
        back = tuple(self.order.index(i) for i in range(3))
        return lower[..., back, :], lower_inverse(lower)[..., :, back], z

    def dual_hessian(self, z: Vectors) -> Matrices:
        """``hess f*``."""
        return squared(self._dual_factors(z)[0])

    def dual_third(self, z: Vectors, u: Vectors, v: Vectors) -> Vectors:
        """``D^3 f*(z)[u, v]``."""

        def along(z):
            return jax.jvp(self.dual_gradient, (z,), (u,))[1]

        return jax.jvp(along, (z,), (v,))[1]

    def _rows(self, v):
        return v.reshape(self.size // 3, 3)

    # The verbs of the solver

    def scaling(self, s, z, mu, dual) -> ThreeDimensionalScaling:
        """The scaling of Tuncel, as in Dahl and Andersen (2021), section 5, where it exists, else ``mu hess f*(z)``.

        With ``mu = s'z / 3`` it is ``H = s s' / s'z + ds ds' / ds'dz + t k k'``, where ``ds = s + mu grad f*(z)``,
        ``dz = z + mu grad f(s)``, and k is orthogonal to z and dz. It satisfies ``H z = s`` and
        ``H grad f(s) = grad f*(z)``. Near the end of a solve all these vectors point almost the same way, so they are
        formed in the coordinates where ``mu hess f*(z)`` is the identity. There ``grad f*(z)`` is ``-z``, all lengths are
        of order one, and ``t k k'`` is a projection since t is ``mu / k' hess f*(z)^-1 k``. What the change of coordinates
        loses is what rounding s and z has lost, foremost the length of ``grad f(s)``, which ``s'grad f(s) = -3`` restores.

        ``ds'dz / 3`` is the distance from the central path, ``mu mu~ - 1`` in the paper. On the path the second term is
        0/0 and the sum is ``mu hess f*(z)``, so that close to it, or if ``dual``, that is taken instead.
        """
        s, z = self._rows(s), self._rows(z)
        lower, inverse, z_white = self._dual_factors(z)
        s_white = times(inverse, s)
        local = dot(s_white, z_white) / 3.0
        s_white = s_white / local[:, None]
        shadow = transposed_times(lower, -self.primal_gradient(s))
        shadow = shadow * (3.0 / dot(shadow, s_white))[:, None]

        ds, dz = s_white - z_white, z_white - shadow
        gap = dot(ds, dz)
        primal_dual = (local > 0) & (gap > 3.0 * math.sqrt(jnp.finfo(s.dtype).eps)) & jnp.logical_not(dual)
        # Masked where it may be negative, so that the branch not taken stays finite.
        gap = jnp.where(primal_dual, gap, 1.0)[:, None]
        k = cross(z_white, dz)
        height = jnp.sqrt(jnp.where(primal_dual, dot(k, k), 1.0))[:, None]
        columns = s_white / math.sqrt(3.0), ds / jnp.sqrt(gap), k / height
        rows = z_white / math.sqrt(3.0), dz / jnp.sqrt(gap), cross(s_white, ds) * height / (3.0 * gap)

        size = jnp.sqrt(jnp.where(dual, mu, local))[:, None, None]
        chosen = primal_dual[:, None, None]
        identity = jnp.eye(3, dtype=s.dtype)
        return ThreeDimensionalScaling(
            factor=size * product(lower, jnp.where(chosen, jnp.stack(columns, axis=-1), identity)),
            inverse=product(jnp.where(chosen, jnp.stack(rows, axis=-2), identity), inverse) / size,
            barrier_inverse=inverse,
        )

    def combined(self, scaling, s, z, ds, dz, target):
        """``s + target grad f*(z) - D^3 f*(z)[hess f*(z)^-1 ds, dz] / 2``; cones where the last term is not finite go without."""
        s, z, ds, dz = (self._rows(v) for v in (s, z, ds, dz))
        inverse = scaling.barrier_inverse
        correction = 0.5 * self.dual_third(z, transposed_times(inverse, times(inverse, ds)), dz)
        finite = jnp.all(jnp.isfinite(correction), axis=-1, keepdims=True)
        return (s + target * self.dual_gradient(z) - jnp.where(finite, correction, 0.0)).reshape(-1)

    def step_length(self, scaling, s, z, ds, dz, most):
        """The first of ``most * 0.8**k`` that leaves all cones strictly inside; zero if that is below 1e-4."""
        del scaling
        s, z, ds, dz = (self._rows(v) for v in (s, z, ds, dz))
        most = jnp.minimum(most, 1.0 - jnp.sqrt(jnp.finfo(s.dtype).eps))
        alpha = most * BACKTRACK ** jnp.arange(TRIALS, dtype=s.dtype)
        step = alpha[:, None, None]
        inside = (self.contains(s + step * ds) > 0) & (self.dual_contains(z + step * dz) > 0)
        return jnp.max(jnp.where(jnp.all(inside, axis=1) & (alpha >= SHORTEST), alpha, 0.0))

    def barrier(self, s, z):
        """``f(s) + f*(z)``, infinite outside."""
        s, z = self._rows(s), self._rows(z)
        inside = (self.contains(s) > 0) & (self.dual_contains(z) > 0)
        unit = self._rows(self.unit(s.dtype))
        s, z = (jnp.where(inside[:, None], v, unit) for v in (s, z))
        return jnp.sum(jnp.where(inside, self.primal_barrier(s) + self.dual_barrier(z), jnp.inf))

    # The projection and the central path

    def central_pair(self, v, mu):
        """One scalar equation a cone, solved to the last digits, so that the error is that of rounding s and z:
        ``eps |v|^2 / mu`` next to their distance from the boundary. Not for differentiation, since the loop has no adjoint.
        """
        v = self._rows(v)
        scale = jnp.max(jnp.abs(v), axis=-1) + jnp.sqrt(mu)
        s, z = self._pair(v / scale[:, None], mu / scale / scale)
        return (scale[:, None] * s).reshape(-1), (scale[:, None] * z).reshape(-1)

    def _pair(self, v: Vectors, mu: Numbers) -> tuple[Vectors, Vectors]:
        """`central_pair` for v and mu not above one."""
        x = increasing_root(lambda x: self.pair(v, mu, x)[2], v.shape[:-1], v.dtype)
        s, z, _ = self.pair(v, mu, x)
        return s, z

    def _coordinatewise(self, v: Vectors) -> tuple[Bool[Array, "*stack"], Vectors]:
        """Where the projection is ``a * v``, and that a."""
        flat, a = self.face(v)
        inside = (self.contains(v) >= 0) | jnp.all(v == 0, axis=-1)
        polar = self.dual_contains(-v) >= 0
        # On a boundary these are a matter of rounding, which is not the same in every kernel; there must be one answer.
        flat, inside, polar = computed_once((flat, inside, polar), jnp.sum(v * v) < 0)
        a = where(inside[..., None], 1.0, where(polar[..., None], 0.0, a))
        return flat | inside | polar, a

    def _eigen(self, split: "_Split") -> tuple[Matrices, Vectors]:
        """Eigenvectors (columns) and eigenvalues of the derivative of the projection."""
        hard = ~(split.easy > 0)[..., None]
        # Masked before the norms and not after, which is what keeps derivatives finite. Any two orthogonal vectors will do.
        p = jnp.where(hard, split.p, jnp.asarray([1.0, 1.0, 1.0], split.p.dtype))
        d = jnp.where(hard, split.d, jnp.asarray([1.0, -2.0, 1.0], split.p.dtype))
        third = self.curvature(p, d)
        p, d = p / norm(p)[..., None], d / norm(d)[..., None]
        basis = jnp.stack([p, d, cross(p, d)], axis=-1)
        eigenvalues = jnp.stack([jnp.ones_like(third), jnp.zeros_like(third), third], axis=-1)
        identity = jnp.eye(3, dtype=p.dtype)
        return jnp.where(hard[..., None], basis, identity), jnp.where(hard, eigenvalues, split.a)

    def project(self, v):
        return _split(self, self._rows(v)).p.reshape(-1)

    def complementary(self, v):
        split = _split(self, self._rows(v))
        return split.p.reshape(-1), -split.d.reshape(-1)

    def projection_derivative(self, v: Float[Array, " size"]) -> Float[Array, "count 3 3"]:
        """The derivative of `project`: a symmetric matrix for each cone."""
        basis, a = self._eigen(_split(self, self._rows(v)))
        return squared(basis * jnp.sqrt(a)[..., None, :])

    def linearized(self, s, z, ds, dz):
        """``D dz + (I - D) ds`` with the derivative D of the projection at ``s - z``."""
        basis, a = self._eigen(_split(self, self._rows(s - z)))
        ds, dz = (transposed_times(basis, self._rows(v)) for v in (ds, dz))
        return times(basis, a * dz + (1.0 - a) * ds).reshape(-1)

    def frame(self, s, z, near=None) -> tuple[ThreeDimensionalFrame, Float[Array, " size"]]:
        v = self._rows(s - z)
        if near is None:
            split = _split(self, v)
        else:
            easy, a = self._coordinatewise(v / _scale(v))
            split = _Split(self._rows(near[0]), -self._rows(near[1]), easy.astype(v.dtype), a)
        basis, a = self._eigen(split)
        a = a.reshape(-1)
        return ThreeDimensionalFrame(a, 1.0 - a, basis), jnp.ones_like(a)

    def central_linearized(self, s, z, ds, dz, mu):
        """``ds + mu hess f*(z) dz``."""
        del s
        ds, dz, z = (self._rows(v) for v in (ds, dz, z))
        return (ds + mu * jax.jvp(self.dual_gradient, (z,), (dz,))[1]).reshape(-1)

    def central_frame(self, s, z, mu) -> tuple[ThreeDimensionalFrame, Float[Array, " size"]]:
        del s
        values, basis = jnp.linalg.eigh(mu * self.dual_hessian(self._rows(z)))
        values = jnp.maximum(values, 0.0).reshape(-1)
        b = 1.0 / (1.0 + values)
        return ThreeDimensionalFrame(values * b, b, basis), 1.0 + values

    def clarity(self, s, z, near_s, near_z):
        """Of a pair on both boundaries, by its lengths; of a point inside, by how far inside it is."""
        s, z, near_s, near_z = (self._rows(v) for v in (s, z, near_s, near_z))
        easy, a = self._coordinatewise(near_s - near_z)
        unit = self._rows(self.unit(s.dtype))

        def ratio(measure, near, value):
            part, whole = measure(jnp.stack([near, value]))
            return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), 0.0)

        lengths = jnp.minimum(ratio(_length, near_s, s), ratio(_length, near_z, z))
        entries = [ratio(jnp.abs, near, value) for near, value in ((near_s, s), (near_z, z))]
        face = jnp.min(jnp.maximum(*entries), axis=-1)
        inside, polar = jnp.all(a == 1.0, axis=-1), jnp.all(a == 0.0, axis=-1)
        within = ratio(self.contains, jnp.where((easy & inside)[:, None], near_s, unit), s)
        beyond = ratio(self.dual_contains, jnp.where((easy & polar)[:, None], near_z, unit), z)
        found = jnp.where(inside, within, jnp.where(polar, beyond, face))
        return jnp.min(jnp.where(easy, found, lengths), initial=jnp.inf)


def _length(v: Vectors) -> Numbers:
    return jnp.sqrt(dot(v, v))


def _scale(v: Vectors) -> Float[Array, "*stack 1"]:
    """The largest magnitude of each, one where that is zero."""
    scale = jnp.max(jnp.abs(v), axis=-1, keepdims=True)
    return jnp.where(scale > 0, scale, 1.0)


class _Split(NamedTuple):
    """``v = p + d`` with p in K, d in its polar cone and ``p'd = 0``; both to their own relative accuracy."""

    p: Vectors
    d: Vectors
    easy: Numbers  # one where the projection is `a * v`, else zero
    a: Vectors


@eqx.filter_custom_jvp
def _split(cone: AbstractThreeDimensional, v: Vectors) -> _Split:
    scale = _scale(v)
    w = v / scale
    easy, a = cone._coordinatewise(w)
    hard = ~easy[..., None]
    # Where its answer is not needed, the loop runs on a point outside all these cones and their polar cones.
    w = jnp.where(hard, w, jnp.asarray([1.0, 1.0, 0.0], v.dtype))
    p, z = cone._pair(w, jnp.zeros(v.shape[:-1], v.dtype))
    return _Split(
        p=jnp.where(hard, scale * p, a * v),
        d=jnp.where(hard, -scale * z, (1.0 - a) * v),
        easy=easy.astype(v.dtype),
        a=a,
    )


@_split.def_jvp
def _split_jvp(primals, tangents):
    # The derivative is written in terms of p and d, so that it has derivatives of every order.
    (cone, v), (_, dv) = primals, tangents
    split = _split(cone, v)
    basis, a = cone._eigen(split)
    dv = transposed_times(basis, dv)
    dp, dd = times(basis, a * dv), times(basis, (1.0 - a) * dv)
    return split, _Split(dp, dd, jnp.zeros_like(split.easy), jnp.zeros_like(split.a))
