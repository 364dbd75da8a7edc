"""The KKT operator ``[[H, J'], [J, -D]]`` of sparse matrices."""

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .kkt import KKTVector
from .sparse import SparseMatrix


class SparseKKTOperator(lx.AbstractLinearOperator):
    """Symmetric operator ``(x, y) -> (H x + J' y, J x - D y)`` with ``D >= 0`` diagonal.

    ``hessian``: the *lower triangle* of H, with or without its diagonal in the pattern; ``jacobian``: J.
    """

    hessian: SparseMatrix
    jacobian: SparseMatrix
    diagonal: Float[Array, " m"]

    def mv(self, vector: KKTVector) -> KKTVector:
        x, y = vector
        return (
            self.hessian.symmetric_times(x) + self.jacobian.transposed_times(y),
            self.jacobian @ x - self.diagonal * y,
        )

    def as_matrix(self) -> Float[Array, "k k"]:
        lower, jacobian = self.hessian.todense(), self.jacobian.todense()
        hessian = lower + jnp.tril(lower, -1).T
        return jnp.block([[hessian, jacobian.T], [jacobian, -jnp.diag(self.diagonal)]])

    def transpose(self) -> "SparseKKTOperator":
        return self

    def in_structure(self):
        m, n = self.jacobian.shape
        dtype = self.diagonal.dtype
        return jax.ShapeDtypeStruct((n,), dtype), jax.ShapeDtypeStruct((m,), dtype)

    def out_structure(self):
        return self.in_structure()


@lx.is_symmetric.register(SparseKKTOperator)
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
    _property.register(SparseKKTOperator)(_answer_no)


def _itself(operator):
    return operator


for _transform in (lx.linearise, lx.materialise, lx.conj):
    _transform.register(SparseKKTOperator)(_itself)


@lx.diagonal.register(SparseKKTOperator)
def _(operator):
    pattern = operator.hessian.pattern
    on = pattern.rows == pattern.columns
    diagonal = jnp.zeros(operator.hessian.shape[0], operator.hessian.dtype)
    diagonal = diagonal.at[pattern.rows[on]].set(operator.hessian.values[on.nonzero()[0]])
    return jnp.concatenate([diagonal, -operator.diagonal])
