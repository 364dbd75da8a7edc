"""Verbs of matrices: sparse ones answer as dense ones do."""

import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from pounce._linalg import matrix as verbs
from pounce._linalg.kkt import KKTOperator
from pounce._linalg.sparse import Pattern, SparseMatrix


N, M = 7, 5
RANDOM = np.random.RandomState(0)
JACOBIAN = RANDOM.standard_normal((M, N)) * (RANDOM.uniform(size=(M, N)) < 0.4)
JACOBIAN[2] = 0.0
HALF = np.tril(RANDOM.standard_normal((N, N)) * (RANDOM.uniform(size=(N, N)) < 0.4), -1)
HESSIAN = HALF + HALF.T + np.diag(np.arange(1.0, N + 1))


def sparse(dense):
    pattern = Pattern.of(dense)
    return SparseMatrix(jnp.asarray(dense[pattern.rows, pattern.columns]), pattern)


BOTH = {"dense": (jnp.asarray(JACOBIAN), jnp.asarray(HESSIAN)), "sparse": (sparse(JACOBIAN), sparse(np.tril(HESSIAN)))}


@pytest.mark.parametrize("kind", BOTH)
def test_verbs(kind):
    jacobian, hessian = BOTH[kind]
    x, y = jnp.linspace(-1, 2, N), jnp.linspace(3, 1, M)
    rows, columns = jnp.arange(M) % 2 == 0, jnp.arange(N) % 3 > 0
    equal = lambda found, wanted: np.testing.assert_allclose(found, wanted, atol=1e-14)
    equal(jacobian @ x, JACOBIAN @ x)
    equal(verbs.transposed_times(jacobian, y), JACOBIAN.T @ y)
    equal(verbs.symmetric_times(hessian, x), HESSIAN @ x)
    equal(verbs.dense(verbs.masked(jacobian, rows, columns)), JACOBIAN * np.outer(rows, columns))
    equal(verbs.symmetric_dense(verbs.masked(hessian, columns, columns)), HESSIAN * np.outer(columns, columns))
    equal(verbs.symmetric_dense(verbs.plus_diagonal(hessian, x)), HESSIAN + np.diag(x))
    equal(verbs.dense(verbs.row_scaled(jacobian, y)), JACOBIAN * y[:, None])
    equal(verbs.row_sizes(jacobian), np.abs(JACOBIAN).max(1))
    equal(verbs.column_sizes(jacobian), np.abs(JACOBIAN).max(0))
    equal(verbs.symmetric_column_sizes(hessian, x), np.abs(x[:, None] * HESSIAN).max(0))
    equal(verbs.row_squares(jacobian), np.sum(JACOBIAN**2, axis=1))
    equal(verbs.dense(verbs.scaled(jacobian, y, x)), y[:, None] * JACOBIAN * x)
    equal(verbs.dense(verbs.column_scaled(jacobian, x)), JACOBIAN * x)
    equal(verbs.dense(verbs.magnitudes(jacobian)), np.abs(JACOBIAN))
    equal(verbs.dense(verbs.rows_taken(jacobian, np.array([3, 0, 4]))), JACOBIAN[[3, 0, 4]])
    equal(
        verbs.dense(verbs.stacked(jacobian, verbs.row_scaled(jacobian, y))),
        np.vstack([JACOBIAN, y[:, None] * JACOBIAN]),
    )
    equal(verbs.symmetric_dense(verbs.zero_symmetric(jacobian, N, x.dtype)), np.zeros((N, N)))
    equal(verbs.largest(hessian), np.abs(HESSIAN).max())
    equal(verbs.diagonal(hessian), np.diag(HESSIAN))
    assert verbs.all_finite(jacobian)
    assert not verbs.all_finite(verbs.row_scaled(jacobian, y.at[0].set(jnp.inf)))


@pytest.mark.parametrize("kind", BOTH)
def test_operator(kind):
    jacobian, hessian = BOTH[kind]
    d = jnp.linspace(0, 1, M)
    operator = KKTOperator(hessian, jacobian, d)
    whole = np.block([[HESSIAN, JACOBIAN.T], [JACOBIAN, -np.diag(d)]])
    v = jnp.arange(1.0, N + M + 1)
    np.testing.assert_allclose(operator.as_matrix(), whole)
    np.testing.assert_allclose(jnp.concatenate(operator.mv((v[:N], v[N:]))), whole @ v, atol=1e-12)
    np.testing.assert_allclose(lx.diagonal(operator), np.diag(whole))
    assert lx.is_symmetric(operator)


def test_incomplete_diagonal():
    """Entries that the pattern has not are zero."""
    np.testing.assert_allclose(verbs.diagonal(sparse(np.array([[0.0, 0], [3, 2]]))), [0, 2])
    assert verbs.diagonal(sparse(np.zeros((3, 3)))).shape == (3,)


def test_patterns():
    """Equal by content, sorted, without duplicates; bad ones are refused."""
    p = Pattern([1, 0, 1], [0, 2, 0], (2, 3))
    assert p == Pattern([0, 1], [2, 0], (2, 3)) and hash(p) == hash(Pattern([0, 1], [2, 0], (2, 3)))
    assert p != p.transpose and p.transpose.transpose == p and (p | Pattern([0], [0], (2, 3))).nnz == 3
    np.testing.assert_array_equal(p.positions([1, 0, 0], [0, 0, 2]), [1, -1, 0])
    for rows, columns, message in (([2], [0], "row index"), ([0], [3], "column index"), ([0, 1], [0], "as many rows")):
        with pytest.raises(ValueError, match=message):
            Pattern(rows, columns, (2, 3))
    with pytest.raises(ValueError, match="pattern is that of a matrix"):
        Pattern.of(np.zeros(3))
