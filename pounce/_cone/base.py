"""What the conic solver asks of a cone.

A cone object stands for a stack of equal cones, one after the other in one vector of ``size`` rows, so that a thousand
three-dimensional cones are one kernel. It knows nothing of the solver: every verb is a pure function of the slack ``s`` (in the
cone ``K``) and the multiplier ``z`` (in its dual ``K*``).

Sign and size conventions, used by every cone:

- the scaling block ``H = W'W`` is symmetric positive definite and maps multiplier steps to slack steps: ``ds = -(H dz + q)``;
- the affine direction has ``q = s``; the combined one has the ``q`` of `AbstractCone.combined`;
- ``f`` and ``f*`` are conjugate barriers of K and K* with parameter ``degree`` each.
"""

import abc
from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._linalg.powers_of_two import nearest_power_of_two
from .units import APART, inverse_root, quotient


class AbstractScaling(eqx.Module):
    """``H = W'W`` of one stack at one pair ``(s, z)``.

    Operands have the rows of the stack on axis 0 and any number of columns on axis 1.
    """

    @property
    def diagonal(self) -> Float[Array, " size"] | None:
        """H itself if it is diagonal by its kind."""
        return None

    @abc.abstractmethod
    def product(self, v: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """``H v``."""

    @abc.abstractmethod
    def whiten(self, v: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """``W^-T v``, so that ``whiten(G)' whiten(G) = G' H^-1 G``."""

    @abc.abstractmethod
    def recover(self, v: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """``W^-1 v``, so that ``recover(whiten(v)) = H^-1 v``."""


class Frame(eqx.Module):
    """An orthogonal basis of a stack in which complementarity is a diagonal relation ``a dz + b ds = r``.

    ``a`` and ``b`` are in [0, 1] with ``a + b = 1``: ``a = 1`` where the slack is free (the multiplier stays zero), ``b = 1``
    where the slack is held. They are the eigenvalues of the derivative of the projection onto K at ``s - z``, and of its
    complement.
    """

    a: Float[Array, " size"]
    b: Float[Array, " size"]

    @abc.abstractmethod
    def rotate(self, v: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """``Q' v``: coordinates in the basis."""

    @abc.abstractmethod
    def restore(self, v: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """``Q v``: back from the basis."""


Scaling = TypeVar("Scaling", bound=AbstractScaling)


class AbstractCone(eqx.Module, Generic[Scaling]):
    """A stack of equal cones."""

    @property
    @abc.abstractmethod
    def symmetric(self) -> bool:
        """Whether the cone is its own dual and homogeneous: the Nesterov-Todd scaling exists."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Rows of the whole stack."""

    @property
    @abc.abstractmethod
    def blocks(self) -> tuple[int, ...] | None:
        """Sizes of the cones, one by one; None where every row is one of its own."""

    # Units of rows. Factors are those of an automorphism: positive, and the cone times them is the cone. Multipliers are divided
    # by them, which keeps the dual cone. What follows is for cones that tolerate one factor each.

    def equilibrated(
        self, factors: Float[Array, " size"], sizes: Float[Array, " size"], least: float, most: float
    ) -> Float[Array, " size"]:
        """Better factors than these, with which the rows have ``sizes``; half of the way, since columns make the other half
        (Ruiz 2001). Zero stands for a row that has no size."""
        own = (factors * inverse_root(sizes)).reshape(self._count, -1)
        return self._spread(jnp.clip(jnp.mean(own, axis=1), least, most))

    def rounded(self, factors: Float[Array, " size"]) -> Float[Array, " size"]:
        """Factors that are powers of two."""
        return nearest_power_of_two(factors)

    def balanced(self, s: Float[Array, " size"], z: Float[Array, " size"]) -> Float[Array, " size"]:
        """Factors that are powers of two and give slacks and multipliers the same size, where both are to stay."""
        s, z = (v.reshape(self._count, -1) for v in (s, z))
        length_s, length_z = (jnp.sqrt(jnp.sum(v * v, axis=1)) for v in (s, z))
        apart = jnp.sum(s * z, axis=1) < APART * length_s * length_z
        return self._spread(nearest_power_of_two(quotient(jnp.sqrt(length_z), jnp.sqrt(length_s), apart)))

    @property
    def _count(self) -> int:
        return len(self.blocks or ())

    def _spread(self, factors: Float[Array, " count"]) -> Float[Array, " size"]:
        return jnp.repeat(factors, self.size // self._count)

    @abc.abstractmethod
    def degree(self) -> Int[Array, ""] | int:
        """Barrier parameter of the whole stack."""

    @abc.abstractmethod
    def unit(self, dtype) -> Float[Array, " size"]:
        """The central point ``e = -grad f(e) = -grad f*(e)``."""

    @abc.abstractmethod
    def scaling(
        self, s: Float[Array, " size"], z: Float[Array, " size"], mu: Float[Array, ""], dual: Bool[Array, ""]
    ) -> Scaling:
        """The scaling at an interior pair. ``mu``: barrier parameter of the whole problem. ``dual``: nonsymmetric cones use
        ``mu hess f*(z)`` instead of the primal-dual scaling; symmetric cones take no notice."""

    @abc.abstractmethod
    def combined(
        self,
        scaling: Scaling,
        s: Float[Array, " size"],
        z: Float[Array, " size"],
        ds: Float[Array, " size"],
        dz: Float[Array, " size"],
        target: Float[Array, ""],
    ) -> Float[Array, " size"]:
        """``q`` of the combined direction: centring towards ``target = sigma mu`` and second-order correction for the affine
        steps ``ds`` and ``dz``."""

    @abc.abstractmethod
    def step_length(
        self,
        scaling: Scaling,
        s: Float[Array, " size"],
        z: Float[Array, " size"],
        ds: Float[Array, " size"],
        dz: Float[Array, " size"],
        most: Float[Array, ""],
    ) -> Float[Array, ""]:
        """The longest step, at most ``most``, that keeps ``s + alpha ds`` and ``z + alpha dz`` in the cones (symmetric cones:
        up to the boundary; nonsymmetric ones: by backtracking, strictly inside)."""

    @abc.abstractmethod
    def barrier(self, s: Float[Array, " size"], z: Float[Array, " size"]) -> Float[Array, ""]:
        """``f(s) + f*(z)``, NaN or infinite outside."""

    @abc.abstractmethod
    def enclosed(self, most: Float[Array, " size"]) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """Between what the entries of a slack are that are at most ``most`` (infinite where that is not known): a lower and an
        upper bound of each, by what the cone demands."""

    @abc.abstractmethod
    def project(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """The nearest point of K."""

    def project_dual(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """The nearest point of K* (Moreau: ``v + project(-v)``)."""
        return v + self.project(-v)

    def complementary(self, v: Float[Array, " size"]) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """The complementary pair with ``s - z = v``."""
        near = self.project(v)
        return near, near - v

    @abc.abstractmethod
    def central_pair(
        self, v: Float[Array, " size"], mu: Float[Array, ""]
    ) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """The pair on the central path, ``s = -mu grad f*(z)``, with ``s - z = v``."""

    @abc.abstractmethod
    def linearized(
        self,
        s: Float[Array, " size"],
        z: Float[Array, " size"],
        ds: Float[Array, " size"],
        dz: Float[Array, " size"],
    ) -> Float[Array, " size"]:
        """The complementarity conditions at a complementary pair, linearised: zero for steps along the solution.

        Linear in ``(ds, dz)``, and differentiable in ``(s, z)`` under strict complementarity.
        """

    @abc.abstractmethod
    def frame(
        self,
        s: Float[Array, " size"],
        z: Float[Array, " size"],
        near: tuple[Float[Array, " size"], Float[Array, " size"]] | None = None,
    ) -> tuple[Frame, Float[Array, " size"]]:
        """The basis that diagonalises `linearized`, and the positive factors of its rows: in the frame,
        ``linearized = factor * (a dz + b ds)`` (exactly so at a complementary pair). ``near``: `complementary` of ``s - z``,
        where it is known."""

    def central_linearized(
        self,
        s: Float[Array, " size"],
        z: Float[Array, " size"],
        ds: Float[Array, " size"],
        dz: Float[Array, " size"],
        mu: Float[Array, ""],
    ) -> Float[Array, " size"]:
        """The same of a pair on the central path: zero for steps that keep ``s = -mu grad f*(z)``."""
        del mu
        return self.linearized(s, z, ds, dz)

    def central_frame(
        self, s: Float[Array, " size"], z: Float[Array, " size"], mu: Float[Array, ""]
    ) -> tuple[Frame, Float[Array, " size"]]:
        """The basis that diagonalises `central_linearized`, and the positive factors of its rows."""
        del mu
        return self.frame(s, z)

    @abc.abstractmethod
    def clarity(
        self,
        s: Float[Array, " size"],
        z: Float[Array, " size"],
        near_s: Float[Array, " size"],
        near_z: Float[Array, " size"],
    ) -> Float[Array, ""]:
        """How clearly complementary a pair is, beside an interior pair close to it: the least ``max(s'/s, z'/z)`` over the
        eigenvalues. About one where each of them is zero on one side only; zero at a kink, where those of the interior pair
        are small together and those of the complementary one vanish. Free of units; infinite without cones."""
