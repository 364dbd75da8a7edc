"""Positive semidefinite cones, a stack of equal ones.

A matrix travels as ``svec``: its lower triangle column by column with off-diagonal entries multiplied by the square root of
two, so that inner products are those of matrices. The scaling is Nesterov and Todd's, from two Cholesky factors and one
symmetric eigenvalue problem (Vandenberghe 2010, section 4).
"""

import functools
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._linalg.powers_of_two import nearest_power_of_two
from .base import AbstractCone, AbstractScaling, Frame
from .nonnegative import least_ratio, spectral_pair
from .units import APART, inverse_root, price_share, quotient


@functools.cache
def _layout(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the packed entries, their factors, and the packed position of every entry of the matrix."""
    columns, rows = np.triu_indices(order)
    position = np.zeros((order, order), int)
    position[rows, columns] = position[columns, rows] = np.arange(rows.size)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0)), position


def svec(matrix: Float[Array, "*batch order order"]) -> Float[Array, "*batch t"]:
    """A symmetric matrix as a vector of ``order (order + 1) / 2`` numbers."""
    rows, columns, factor, _ = _layout(matrix.shape[-1])
    return matrix[..., rows, columns] * factor.astype(matrix.dtype)


def smat(vector: Float[Array, "*batch t"]) -> Float[Array, "*batch order order"]:
    """The inverse of `svec`."""
    order = int(np.sqrt(2 * vector.shape[-1]))
    _, _, factor, position = _layout(order)
    return (vector / factor.astype(vector.dtype))[..., position]


def _congruence(left: Float[Array, "c i j"], v: Float[Array, "c t k"]) -> Float[Array, "c t k"]:
    """``svec(F X F')`` for every column."""
    x = smat(jnp.moveaxis(v, 1, 2))
    moved = jnp.einsum("cij,ckjl->ckil", left, x)
    return jnp.moveaxis(svec(jnp.einsum("ckil,cjl->ckij", moved, left)), 2, 1)


def _transposed(m):
    return jnp.swapaxes(m, -1, -2)


class CongruenceScaling(AbstractScaling):
    """``W x = svec(R' X R)``, ``W'x = svec(R X R')``; in these coordinates S and Z are both ``diag(lam)``."""

    r: Float[Array, "count order order"]
    inverse: Float[Array, "count order order"]
    lam: Float[Array, "count order"]

    def _stacked(self, factor, v):
        return _congruence(factor, v.reshape(self.r.shape[0], -1, v.shape[1])).reshape(v.shape)

    def forward(self, v):
        """``W v``."""
        return self._stacked(_transposed(self.r), v)

    def transposed(self, v):
        """``W' v``."""
        return self._stacked(self.r, v)

    def product(self, v):
        return self.transposed(self.forward(v))

    def whiten(self, v):
        return self._stacked(self.inverse, v)

    def recover(self, v):
        return self._stacked(_transposed(self.inverse), v)


class EigenvectorFrame(Frame):
    """Products of eigenvectors of ``S - Z``."""

    a: Float[Array, " size"]
    b: Float[Array, " size"]
    vectors: Float[Array, "count order order"]

    def rotate(self, v):
        return _congruence(_transposed(self.vectors), v.reshape(self.vectors.shape[0], -1, v.shape[1])).reshape(v.shape)

    def restore(self, v):
        return _congruence(self.vectors, v.reshape(self.vectors.shape[0], -1, v.shape[1])).reshape(v.shape)


class Semidefinite(AbstractCone[CongruenceScaling]):
    """``count`` cones of symmetric matrices of the given ``order``."""

    order: int = eqx.field(static=True)
    count: int = eqx.field(static=True)
    symmetric: ClassVar[bool] = True

    @property
    def size(self) -> int:
        return self.count * self._rows

    @property
    def _rows(self) -> int:
        return self.order * (self.order + 1) // 2

    @property
    def blocks(self):
        return (self._rows,) * self.count

    def degree(self):
        return self.order * self.count

    # Automorphisms are congruences: with a factor d_i for each index, the entry i, j of a matrix has the factor d_i d_j.

    def equilibrated(self, factors, sizes, least, most):
        # The sizes are a symmetric matrix, equilibrated from both sides.
        largest = jnp.max(self._unpacked(sizes), axis=2, initial=0.0)
        d = jnp.sqrt(self._squares(factors) * inverse_root(largest))
        return self._congruent(jnp.clip(d, least**0.5, most**0.5))

    def rounded(self, factors):
        return self._congruent(nearest_power_of_two(jnp.sqrt(self._squares(factors))))

    def balanced(self, s, z):
        squares, prices = (self._squares(v) for v in (s, z))
        s, z = (v.reshape(self.count, -1) for v in (s, z))
        length_s, length_z = (jnp.sqrt(jnp.sum(v * v, axis=1, keepdims=True)) for v in (s, z))
        gap = jnp.maximum(jnp.sum(s * z, axis=1, keepdims=True), jnp.finfo(s.dtype).eps * length_s * length_z)
        # The products of diagonals are free of units. Where one is far above the gap, both numbers are there to stay, and are
        # given the same size. The others keep the units they have, so far as this leaves them no larger than those.
        products = squares * prices
        stay = APART * products > gap
        some = jnp.any(stay, axis=1, keepdims=True)
        size = jnp.sqrt(jnp.max(jnp.where(stay, products, 0.0), axis=1, keepdims=True, initial=0.0))
        common = quotient(jnp.sqrt(length_z), jnp.sqrt(length_s), some)
        limited = jnp.clip(common, jnp.where(some, prices / size, 0.0), jnp.where(some, size / squares, jnp.inf))
        own = jnp.where(stay, quotient(jnp.sqrt(prices), jnp.sqrt(squares), stay), limited)
        d = nearest_power_of_two(jnp.sqrt(own / common))
        return self._congruent(d) * jnp.repeat(nearest_power_of_two(common), self._rows)

    def _squares(self, v):
        """The entries on the diagonals."""
        return v.reshape(self.count, self._rows)[:, np.diagonal(_layout(self.order)[3])]

    def _congruent(self, d):
        return self._packed(d[:, :, None] * d[:, None, :])

    def _matrices(self, v):
        return smat(v.reshape(self.count, self._rows))

    def _vector(self, matrices):
        return svec(matrices).reshape(-1)

    def unit(self, dtype):
        return jnp.tile(svec(jnp.eye(self.order, dtype=dtype)), self.count)

    def margin(self, v: Float[Array, " size"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The smallest eigenvalue, and the sum of the positive ones."""
        values = jnp.linalg.eigvalsh(self._matrices(v))
        return jnp.min(values, initial=jnp.inf), jnp.sum(jnp.maximum(values, 0.0))

    def scaling(self, s, z, mu, dual):
        del mu, dual
        lower = lax.linalg.cholesky(jnp.concatenate([self._matrices(s), self._matrices(z)]), symmetrize_input=False)
        l_s, l_z = lower[: self.count], lower[self.count :]
        # The product of the factors has entries of the size of sqrt(mu), so its square loses nothing that S Z would lose.
        mixed = _transposed(l_z) @ l_s
        square = _transposed(mixed) @ mixed
        broken = ~jnp.all(jnp.isfinite(square), axis=(1, 2), keepdims=True)
        values, vectors = jnp.linalg.eigh(jnp.where(broken, 0.0, square))
        lam = jnp.where(broken[..., 0], jnp.nan, jnp.sqrt(values))
        r = l_s @ vectors * lax.rsqrt(lam)[:, None, :]
        inverse = (lam**-1.5)[:, :, None] * (_transposed(vectors) @ _transposed(mixed) @ _transposed(l_z))
        return CongruenceScaling(r, inverse, lam)

    def combined(self, scaling, s, z, ds, dz, target):
        x = smat(scaling.whiten(ds[:, None]).reshape(self.count, -1))
        y = smat(scaling.forward(dz[:, None]).reshape(self.count, -1))
        product = x @ y
        d = 0.5 * (product + _transposed(product)) - target * jnp.eye(self.order, dtype=s.dtype)
        divided = 2.0 * d / (scaling.lam[:, :, None] + scaling.lam[:, None, :])
        return s + scaling.transposed(self._vector(divided)[:, None])[:, 0]

    def step_length(self, scaling, s, z, ds, dz, most):
        root = lax.rsqrt(scaling.lam)
        both = jnp.concatenate([scaling.whiten(ds[:, None]), scaling.forward(dz[:, None])])
        moves = smat(both.reshape(2 * self.count, self._rows))
        root = jnp.concatenate([root, root])
        moves = root[:, :, None] * moves * root[:, None, :]
        finite = jnp.all(jnp.isfinite(moves))
        least = jnp.min(jnp.linalg.eigvalsh(jnp.where(finite, moves, 0.0)), initial=0.0)
        longest = jnp.where(least < 0, -1.0 / jnp.where(least < 0, least, -1.0), jnp.inf)
        return jnp.minimum(most, jnp.where(finite, longest, 0.0))

    def barrier(self, s, z):
        both = jnp.concatenate([self._matrices(s), self._matrices(z)])
        diagonal = jnp.diagonal(lax.linalg.cholesky(both, symmetrize_input=False), axis1=1, axis2=2)
        return -2.0 * jnp.sum(jnp.log(diagonal))

    def _spectral(self, v, function):
        values, vectors = jnp.linalg.eigh(self._matrices(v))
        return tuple(self._vector((vectors * new[:, None, :]) @ _transposed(vectors)) for new in function(values))

    def enclosed(self, most):
        rows, columns, factor, position = _layout(self.order)
        most = most.reshape(self.count, self._rows)
        root = jnp.sqrt(jnp.maximum(most[:, np.diagonal(position)], 0.0))
        size = factor.astype(most.dtype) * root[:, rows] * root[:, columns]
        size = jnp.where(jnp.isnan(size), jnp.inf, size)
        low = jnp.where(rows == columns, 0.0, -size)
        return low.reshape(-1), jnp.where(rows == columns, most, jnp.minimum(most, size)).reshape(-1)

    def project(self, v):
        return self._spectral(v, lambda values: (jnp.maximum(values, 0.0),))[0]

    def project_dual(self, v):
        return self.project(v)

    def central_pair(self, v, mu):
        return self._spectral(v, lambda values: spectral_pair(values, mu))

    def linearized(self, s, z, ds, dz):
        s, z, ds, dz = (self._matrices(v) for v in (s, z, ds, dz))
        half = 0.5 * (z @ ds + s @ dz)
        return self._vector(half + _transposed(half))

    def clarity(self, s, z, near_s, near_z):
        _, vectors = jnp.linalg.eigh(self._matrices(near_s - near_z))
        values = [self._values(vectors, v) for v in (near_s, s, near_z, z)]
        return least_ratio([(values[0], values[1]), (values[2], values[3])])

    def _values(self, vectors, v):
        return jnp.einsum("cij,cik,ckj->cj", vectors, self._matrices(v), vectors)

    def frame(self, s, z, near=None):
        del near
        _, vectors = jnp.linalg.eigh(self._matrices(s - z))
        slack, price = (jnp.maximum(self._values(vectors, v), 0.0) for v in (s, z))

        def pairs(values):
            return self._packed(0.5 * (values[:, :, None] + values[:, None, :]))

        held, total = price_share(pairs(slack), pairs(price), self.count)
        return EigenvectorFrame(1.0 - held, held, vectors), total

    def _packed(self, matrices):
        rows, columns, _, _ = _layout(self.order)
        return matrices[:, rows, columns].reshape(-1)

    def _unpacked(self, v):
        return v.reshape(self.count, self._rows)[:, _layout(self.order)[3]]
