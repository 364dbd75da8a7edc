"""The KKT operator ``[[H, J'], [J, -D]]`` and the contract of the solvers that factorise it."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, PyTree

from . import matrix
from .matrix import Matrix
from .sparse import SparseMatrix


KKTVector = tuple[Float[Array, " n"], Float[Array, " m"]]


M = TypeVar("M", Float[Array, "m n"], SparseMatrix, Matrix)


class KKTOperator(lx.AbstractLinearOperator, Generic[M]):
    """Symmetric operator ``(x, y) -> (H x + J' y, J x - D y)`` with ``D >= 0`` diagonal.

    H and J are dense or sparse; of a sparse H this is the *lower triangle*. For `Woodbury` H is a `LowRankMatrix`.
    """

    hessian: M
    jacobian: M
    diagonal: Float[Array, " m"]

    def mv(self, vector: KKTVector) -> KKTVector:
        x, y = vector
        top = matrix.symmetric_times(self.hessian, x) + matrix.transposed_times(self.jacobian, y)
        return top, matrix.times(self.jacobian, x) - self.diagonal * y

    def as_matrix(self) -> Float[Array, "k k"]:
        hessian, jacobian = matrix.symmetric_dense(self.hessian), matrix.dense(self.jacobian)
        return jnp.block([[hessian, jacobian.T], [jacobian, -jnp.diag(self.diagonal)]])

    def transpose(self) -> "KKTOperator":
        return self

    def in_structure(self):
        m, n = self.jacobian.shape
        dtype = self.diagonal.dtype
        return jax.ShapeDtypeStruct((n,), dtype), jax.ShapeDtypeStruct((m,), dtype)

    def out_structure(self):
        return self.in_structure()


@lx.is_symmetric.register(KKTOperator)
def _(operator):
    return True


def _answer_no(operator):
    return False


for _property in (
    lx.is_diagonal,
    lx.is_tridiagonal,
    lx.has_unit_diagonal,
    lx.is_lower_triangular,
    lx.is_upper_triangular,
    lx.is_positive_semidefinite,
    lx.is_negative_semidefinite,
):
    _property.register(KKTOperator)(_answer_no)


def _itself(operator):
    return operator


for _transform in (lx.linearise, lx.materialise, lx.conj):
    _transform.register(KKTOperator)(_itself)


@lx.diagonal.register(KKTOperator)
def _(operator):
    return jnp.concatenate([matrix.diagonal(operator.hessian), -operator.diagonal])


class Inertia(eqx.Module):
    """What a factorisation learnt. ``correct``: exactly ``n`` positive and ``m`` negative eigenvalues as far as the factor
    can tell. ``singular``: rows of J where ``D = 0`` are dependent to working precision (never set by solvers that cannot
    see it). ``doubtful``: neither is to be relied upon, for the pivots were poor; None for solvers whose pivots are not, as is
    ``counted``: whether the inertia is right if pivots that were replaced count as what they were replaced by."""

    correct: Bool[Array, ""]
    singular: Bool[Array, ""]
    doubtful: Bool[Array, ""] | None = None
    counted: Bool[Array, ""] | None = None


State = TypeVar("State")


class AbstractKKTSolver(lx.AbstractLinearSolver[State], Generic[State]):
    """A lineax solver for :class:`KKTOperator`. ``init`` factorises, ``compute`` solves with the factor, ``inertia`` reports.

    A factor is a pytree of arrays and stands for its own transpose, so the derivative rule hands it back to
    ``lineax.linear_solve`` unchanged.
    """

    @abc.abstractmethod
    def inertia(self, state: State) -> Inertia:
        """What ``init`` learnt about the eigenvalues."""

    def advised_regularization(self, state: State) -> Float[Array, ""] | None:
        """What the next factorisation of a similar matrix should begin with, as its option ``"regularization"``; None where this
        one does not tell."""
        del state

    def prepare(self, jacobian: Matrix) -> PyTree:
        """What many factorisations share whose Jacobian begins with these rows: to be handed to `init` as the option
        ``"prepared"``. Nothing by default."""
        del jacobian

    def transpose(self, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        return state, options

    def conj(self, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        return state, options

    def assume_full_rank(self) -> bool:
        return True
