"""Hessians that are a diagonal and a few columns, and the solver that updates the factor of the diagonal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._linalg import matrix
from pounce._linalg.choice import sparse_solver
from pounce._linalg.equilibrated import Equilibrated
from pounce._linalg.kkt import KKTOperator
from pounce._linalg.low_rank import LowRankMatrix
from pounce._linalg.sparse import Pattern, SparseMatrix
from pounce._linalg.woodbury import Woodbury


N, M = 12, 5
DIAGONAL = Pattern(np.arange(N), np.arange(N), (N, N))


def operator(signs, seed=0, scale=1.0):
    """Rows that are sparse, one of them with D = 0, and as many columns as there are signs."""
    rng = np.random.default_rng(seed)
    columns = scale * rng.normal(size=(N, len(signs)))
    hessian = LowRankMatrix(jnp.asarray(rng.uniform(0.5, 2.0, N)), jnp.asarray(columns), jnp.asarray(signs, float))
    i = np.arange(M)
    pattern = Pattern(np.r_[i, i], np.r_[i, i + 2], (M, N))
    jacobian = SparseMatrix(jnp.asarray(rng.normal(size=pattern.nnz)), pattern)
    return KKTOperator(hessian, jacobian, jnp.asarray([0.0, 0.1, 0.3, 0.2, 0.4]))  # pyright: ignore


@pytest.fixture(scope="module")
def solver():
    jacobian = operator([]).jacobian
    return jax.tree.map(jnp.asarray, Woodbury(sparse_solver("auto", DIAGONAL, jacobian.pattern)))


def test_verbs():
    """Those of the dense matrix."""
    low, v, d = operator([1, -1, 1]).hessian, jnp.cos(jnp.arange(float(N))), jnp.arange(1.0, N + 1)
    wanted = jnp.arange(N) % 3 > 0
    dense = low.todense()
    assert low.shape == dense.shape and low.dtype == dense.dtype and matrix.all_finite(low)
    np.testing.assert_allclose(matrix.symmetric_times(low, v), dense @ v, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(matrix.plus_diagonal(low, d).todense(), dense + jnp.diag(d), rtol=1e-13)
    np.testing.assert_allclose(
        matrix.symmetric_dense(matrix.masked(low, wanted, wanted)), matrix.masked(dense, wanted, wanted)
    )
    assert not matrix.all_finite(LowRankMatrix(low.diagonal, low.columns.at[2, 1].set(jnp.nan), low.signs))


@pytest.mark.parametrize("signs", [[1, 1, -1], [-1], [0, 1, 0, -1], [0, 0]])
def test_solves(solver, signs):
    """As the dense matrix is solved; absent columns are as if they were not there, whatever they hold."""
    op = operator(signs, scale=0.2)
    factor = solver.init(op, {})
    inertia = solver.inertia(factor)
    assert inertia.correct and not inertia.singular and not inertia.doubtful
    right = jnp.sin(jnp.arange(float(N))), jnp.cos(jnp.arange(float(M)))
    wanted = jnp.linalg.solve(op.as_matrix(), jnp.concatenate(right))
    np.testing.assert_allclose(jnp.concatenate(solver.compute(factor, right, {})[0]), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_inertia(solver, seed):
    """Columns that are subtracted may make the matrix indefinite on the null space of the rows."""
    signs = [1, -1, -1, 1, -1][: 2 + seed % 4]
    op = operator(signs, seed, scale=[0.3, 0.6, 1.2][seed % 3])
    values = np.linalg.eigvalsh(op.as_matrix())
    inertia = solver.inertia(solver.init(op, {}))
    assert inertia.correct == (np.sum(values < 0) == M)
    assert not inertia.doubtful


def test_batch(solver):
    """Lanes of factors and of right-hand sides."""
    operators = [operator([1, -1], seed, scale=0.3) for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *operators)
    right = jnp.ones((3, N)), jnp.ones((3, M))
    found = jax.vmap(lambda op, r: solver.compute(solver.init(op, {}), r, {})[0])(batch, right)
    for k, op in enumerate(operators):
        wanted = jnp.linalg.solve(op.as_matrix(), jnp.ones(N + M))
        np.testing.assert_allclose(jnp.concatenate([part[k] for part in found]), wanted, rtol=1e-10, atol=1e-12)


def test_large_columns_are_refined(solver):
    """The update cancels digits where columns are large beside the diagonal; refinement brings them back."""
    op = operator([1, 1, -1], scale=1e3)
    hessian = LowRankMatrix(op.hessian.diagonal, op.hessian.columns.at[:, 2].multiply(1e-4), op.hessian.signs)
    op = KKTOperator(hessian, op.jacobian, op.diagonal)  # pyright: ignore
    refined = Equilibrated(solver)
    right = jnp.ones(N), jnp.ones(M)
    wanted = np.linalg.solve(op.as_matrix(), np.ones(N + M))
    np.testing.assert_allclose(
        jnp.concatenate(refined.compute(refined.init(op, {}), right, {})[0]), wanted, rtol=1e-6, atol=1e-10
    )
