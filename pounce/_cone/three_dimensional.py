"""What all cones of three dimensions share: a cone adds its barriers and one equation, everything else is here.

Arrays of vectors have the shape ``(*batch, count, 3)``. Near the end of a solve the Hessian of the barrier has a condition number
of ``1 / mu**2``, so matrices are never factorised: cones write down the Cholesky factor of ``hess f*`` in terms that are
sums of positive numbers, and the primal-dual scaling is assembled column by column, together with its inverse.

The projection onto K is the central pair for ``mu -> 0``, so that both are one root of one increasing function. With ``v = p + d``,
p in K and d in the polar cone, the derivative of the projection at v has the eigenvectors ``p``, ``d`` and ``p x d`` with the
eigenvalues 1, 0 and one more that depends on the curvature of the cone at p.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .base import AbstractCone, AbstractScaling, Frame


BACKTRACK = 0.8
TRIALS = 42  # 0.8**41 is the last factor above SHORTEST
SHORTEST = 1e-4
ROOT_ITERATIONS = 100  # 70 bisections exhaust the digits of the bracket; Newton's method takes 5 to 15 steps

Vectors = Float[Array, "*stack 3"]
Matrices = Float[Array, "*stack 3 3"]
Numbers = Float[Array, "*stack"]


def dot(u: Vectors, v: Vectors) -> Numbers:
    return jnp.sum(u * v, axis=-1)


def cross(u: Vectors, v: Vectors) -> Vectors:
    u0, u1, u2 = components(u)
    v0, v1, v2 = components(v)
    return jnp.stack([u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0], axis=-1)


def components(v: Vectors) -> tuple[Numbers, Numbers, Numbers]:
    return v[..., 0], v[..., 1], v[..., 2]


def matrix(rows) -> Matrices:
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def times(matrix: Matrices, v: Vectors) -> Vectors:
    """``matrix @ v``. Written out, because a batch of tiny products is slow on a CPU and inexact on a GPU."""
    return sum(matrix[..., :, i] * v[..., i : i + 1] for i in range(3))


def transposed_times(matrix: Matrices, v: Vectors) -> Vectors:
    """``matrix' @ v``."""
    return sum(matrix[..., i, :] * v[..., i : i + 1] for i in range(3))


def norm(v: Vectors) -> Numbers:
    """Euclidean norm of vectors other than zero, however small."""
    scale = lax.stop_gradient(jnp.max(jnp.abs(v), axis=-1))
    return scale * jnp.sqrt(dot(v / scale[..., None], v / scale[..., None]))


def lower_inverse(l: Matrices) -> Matrices:
    """The inverse of lower triangular matrices."""
    i0, i1, i2 = (1.0 / l[..., i, i] for i in range(3))
    zero = jnp.zeros_like(i0)
    rows = (
        (i0, zero, zero),
        (-l[..., 1, 0] * i0 * i1, i1, zero),
        ((l[..., 1, 0] * l[..., 2, 1] * i1 - l[..., 2, 0]) * i0 * i2, -l[..., 2, 1] * i1 * i2, i2),
    )
    return matrix(rows)


def positive_root(b: Numbers, c: Numbers) -> Numbers:
    """The positive root of ``x**2 - b x - c`` for positive c, to full relative accuracy."""
    root = jnp.sqrt(b * b + 4.0 * c)
    return jnp.where(b > 0, 0.5 * (b + root), 2.0 * c / (root - jnp.where(b > 0, 0.0, b)))


def increasing_root(function, shape: tuple[int, ...], dtype) -> Numbers:
    """The zeros of a function of each element that changes its sign once, from - to +. Newton's method within a bisection."""
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    bound = jnp.full(shape, -0.45 * math.log(tiny), dtype)  # so that the square of its exponential is finite

    def compressed(x):
        # Newton's method meets values of 1 / mu on one side of the root and of one on the other.
        return jnp.arcsinh(function(x))

    def body(carry):
        low, high, x, previous, _, count = carry
        value, slope = jax.jvp(compressed, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        newton = -value / slope
        # Newton's method is trusted as long as it halves its steps, which bisection would do too.
        least = 2.0 * eps * (1.0 + jnp.abs(x))
        limit = jnp.maximum(0.5 * jnp.abs(previous), 4.0 * least)
        good = (x + newton >= low) & (x + newton <= high) & (jnp.abs(newton) < limit)
        # Steps beyond the root close the bracket. Short steps alone prove nothing: they end in kinks, too.
        newton = jnp.where(value < 0, jnp.maximum(newton, least), jnp.minimum(newton, -least))
        step = jnp.where(good, newton, 0.5 * (low + high) - x)
        return low, high, x + step, step, high - low > 2.0 * least, count + 1

    def unfinished(carry):
        return jnp.any(carry[4]) & (carry[5] < ROOT_ITERATIONS)

    start = (-bound, bound, jnp.zeros_like(bound), 2.0 * bound, jnp.ones(shape, bool), jnp.zeros((), jnp.int32))
    return lax.while_loop(unfinished, body, start)[2]


def floors(dtype) -> tuple[float, float]:
    """What is zero next to one, and its square, which stands for ``mu = 0``. Far below eps, yet products of six do not underflow."""
    zero = float(jnp.finfo(dtype).eps) ** (4.0 / 3.0)
    return zero, zero * zero


class ThreeDimensionalScaling(AbstractScaling):
    """``H = factor factor'`` with ``inverse = factor^-1``, hence ``W = factor'``."""

    factor: Float[Array, "count 3 3"]
    inverse: Float[Array, "count 3 3"]
    barrier_inverse: Float[Array, "count 3 3"]  # of the factor of hess f*(z)

    def _rows(self, v):
        return v.reshape(-1, 3, v.shape[1])

    def product(self, v):
        return _apply(self.factor, _apply_transposed(self.factor, self._rows(v))).reshape(v.shape)

    def whiten(self, v):
        return _apply(self.inverse, self._rows(v)).reshape(v.shape)

    def recover(self, v):
        return _apply_transposed(self.inverse, self._rows(v)).reshape(v.shape)


def _apply(matrix, v):
    return sum(matrix[:, :, i, None] * v[:, i : i + 1, :] for i in range(3))


def _apply_transposed(matrix, v):
    return sum(matrix[:, i, :, None] * v[:, i : i + 1, :] for i in range(3))


def _matrix_product(a: Matrices, b: Matrices) -> Matrices:
    return sum(a[..., :, i, None] * b[..., i, None, :] for i in range(3))


class ThreeDimensionalFrame(Frame):
    """The eigenvectors of the derivative of the projection."""

    a: Float[Array, " size"]
    b: Float[Array, " size"]
    basis: Float[Array, "count 3 3"]

    def rotate(self, v):
        return _apply_transposed(self.basis, v.reshape(-1, 3, v.shape[1])).reshape(v.shape)

    def restore(self, v):
        return _apply(self.basis, v.reshape(-1, 3, v.shape[1])).reshape(v.shape)


class AbstractThreeDimensional(AbstractCone[ThreeDimensionalScaling]):
    """A stack of cones of three dimensions; those of cone i are the rows 3i to 3i + 2.

    Barriers are logarithmically homogeneous of degree three, and conjugate: ``grad f*(-grad f(s)) = -s``.
    """

    count: eqx.AbstractVar[int]
    symmetric: ClassVar[bool] = False
    # The order of elimination in `dual_factor`.
    order: eqx.AbstractClassVar[tuple[int, int, int]]

    @property
    def size(self) -> int:
        return 3 * self.count

    @property
    def blocks(self) -> tuple[int, ...]:
        return (3,) * self.count

    def degree(self) -> int:
        return 3 * self.count

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
        one: a function of x that changes its sign once, from - to +."""

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
        factor, _, _ = self._dual_factors(z)
        return sum(factor[..., :, None, i] * factor[..., None, :, i] for i in range(3))

    def dual_third(self, z: Vectors, u: Vectors, v: Vectors) -> Vectors:
        """``D^3 f*(z)[u, v]``."""

        def along(z):
            return jax.jvp(self.dual_gradient, (z,), (u,))[1]

        return jax.jvp(along, (z,), (v,))[1]

    def _rows(self, v):
        return v.reshape(self.count, 3)

    # The verbs of the solver

    def scaling(self, s, z, mu, dual) -> ThreeDimensionalScaling:
        """The scaling of Tuncel, in the form of Dahl and Andersen (2021), section 5, where it exists, else ``mu hess f*(z)``.

        With ``mu = s'z / 3`` it is ``H = s s' / s'z + ds ds' / ds'dz + t k k'``, where ``ds = s + mu grad f*(z)``, ``dz = z + mu grad f(s)``,
        and k is orthogonal to z and dz. It satisfies ``H z = s`` and ``H grad f(s) = grad f*(z)``. All these vectors point almost the same
        way near the end of a solve, so they are formed in the coordinates where ``mu hess f*(z)`` is the identity: there
        ``grad f*(z)`` is ``-z``, all lengths are of order one, and ``t k k'`` is a projection since t is ``mu / k' hess f*(z)^-1 k``. What is
        lost in the change of coordinates is what is lost in rounding s and z, foremost the length of ``grad f(s)``, which is
        restored from ``s'grad f(s) = -3``.

        ``ds'dz / 3`` is the distance from the central path, ``mu mu~ - 1`` in the paper. On the path the second term is 0/0.
        """
        s, z = self._rows(s), self._rows(z)
        lower, lower_inverse, z_white = self._dual_factors(z)
        s_white = times(lower_inverse, s)
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
        factor = jnp.where(chosen, jnp.stack(columns, axis=-1), jnp.eye(3, dtype=s.dtype))
        inverse = jnp.where(chosen, jnp.stack(rows, axis=-2), jnp.eye(3, dtype=s.dtype))
        return ThreeDimensionalScaling(
            factor=size * _matrix_product(lower, factor),
            inverse=_matrix_product(inverse, lower_inverse) / size,
            barrier_inverse=lower_inverse,
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
        inside = jnp.all(inside, axis=1)
        longest = jnp.max(jnp.where(inside & (alpha >= SHORTEST), alpha, 0.0))
        return longest

    def barrier(self, s, z):
        """``f(s) + f*(z)``, infinite outside."""
        s, z = self._rows(s), self._rows(z)
        inside = (self.contains(s) > 0) & (self.dual_contains(z) > 0)
        unit = self._rows(self.unit(s.dtype))
        s, z = (jnp.where(inside[:, None], v, unit) for v in (s, z))
        return jnp.sum(jnp.where(inside, self.primal_barrier(s) + self.dual_barrier(z), jnp.inf))

    # The projection and the central path

    def central_pair(self, v, mu):
        """One scalar equation a cone, solved to the last digits. Not for differentiation: the loop has no adjoint."""
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
        easy, a = self.face(v)
        inside = (self.contains(v) >= 0) | jnp.all(v == 0, axis=-1)
        polar = self.dual_contains(-v) >= 0
        a = jnp.where(inside[..., None], 1.0, jnp.where(polar[..., None], 0.0, a))
        return easy | inside | polar, a

    def _frame(self, v: Vectors) -> tuple[Matrices, Vectors]:
        """Eigenvectors (columns) and eigenvalues of the derivative of the projection at v."""
        easy, a = self._coordinatewise(v)
        p, d = _split(self, v)
        # Any pair of normal vectors will do where the answer is another one.
        keep = ~easy[..., None]
        p, d = (
            jnp.where(keep, p, jnp.asarray([1.0, 1.0, 1.0], v.dtype)),
            jnp.where(keep, d, jnp.asarray([1.0, -2.0, 1.0], v.dtype)),
        )
        curvature = self.curvature(p, d)
        p, d = p / norm(p)[..., None], d / norm(d)[..., None]
        basis = jnp.stack([p, d, cross(p, d)], axis=-1)
        eigenvalues = jnp.stack([jnp.ones_like(curvature), jnp.zeros_like(curvature), curvature], axis=-1)
        return jnp.where(keep[..., None], basis, jnp.eye(3, dtype=v.dtype)), jnp.where(keep, eigenvalues, a)

    def project(self, v):
        return _split(self, self._rows(v))[0].reshape(-1)

    def projection_derivative(self, v: Float[Array, " size"]) -> Float[Array, "count 3 3"]:
        """The derivative of `project`: a symmetric matrix for each cone."""
        basis, a = self._frame(self._rows(v))
        return sum(basis[..., :, None, i] * basis[..., None, :, i] * a[..., None, None, i] for i in range(3))

    def linearized(self, s, z, ds, dz):
        """``D dz + (I - D) ds`` with the derivative D of the projection at ``s - z``."""
        basis, a = self._frame(self._rows(s - z))
        ds, dz = (transposed_times(basis, self._rows(v)) for v in (ds, dz))
        return times(basis, a * dz + (1.0 - a) * ds).reshape(-1)

    def frame(self, s, z) -> tuple[ThreeDimensionalFrame, Float[Array, " size"]]:
        basis, a = self._frame(self._rows(s - z))
        a = a.reshape(-1)
        return ThreeDimensionalFrame(a, 1.0 - a, basis), jnp.ones_like(a)


@eqx.filter_custom_jvp
def _split(cone: AbstractThreeDimensional, v: Vectors) -> tuple[Vectors, Vectors]:
    """``v = p + d`` with p in K, d in its polar cone, and ``p'd = 0``; both to their own relative accuracy."""
    scale = jnp.max(jnp.abs(v), axis=-1, keepdims=True)
    w = v / jnp.where(scale > 0, scale, 1.0)
    easy, a = cone._coordinatewise(w)
    # The loop runs on a point beside both cones where its answer is not needed.
    outside = jnp.asarray([1.0, 1.0, 0.0], v.dtype)
    keep = ~easy[..., None]
    p, z = cone._pair(jnp.where(keep, w, outside), jnp.full(v.shape[:-1], floors(v.dtype)[1], v.dtype))
    return jnp.where(keep, scale * p, a * v), jnp.where(keep, -scale * z, (1.0 - a) * v)


@_split.def_jvp
def _split_jvp(primals, tangents):
    cone, v = primals
    _, dv = tangents
    p, d = _split(cone, v)
    basis, a = cone._frame(v)
    dv = transposed_times(basis, dv)
    return (p, d), (times(basis, a * dv), times(basis, (1.0 - a) * dv))
