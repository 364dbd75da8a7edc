"""Convex programs with sparse matrices: the same answers and derivatives as with dense ones, and nothing dense on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps
from jax.experimental import sparse as jsparse

import pounce
from pounce import conic
from pounce._cone.product import ConeProduct
from pounce._cone.second_order import SecondOrder
from pounce._conic.blockwise import through_blocks
from pounce._conic.system import unit_scaling
from pounce._linalg import matrix as verbs
from pounce._linalg.kkt import KKTOperator
from pounce._linalg.quasi_definite import QuasiDefiniteLDL
from pounce._linalg.sparse import Pattern, SparseMatrix
from pounce._linalg.sparse_ldl import SparseLDL, analyze, tail
from pounce._qp.kernel import kernel_for
from pounce._sparse_arguments import traced_matrix


N = 12


def program(seed=0, n=N):
    """A quadratic program with all kinds of constraints, a fixed variable among them."""
    random = np.random.RandomState(seed)
    root = sps.random_array((n, n), density=0.2, rng=random).toarray()
    P = root @ root.T + np.diag(np.where(np.arange(n) % 3 == 0, 0.0, 1.0))
    A = sps.random_array((n // 4, n), density=0.4, rng=random).toarray()
    A[:, 0] = 1.0
    G = np.eye(n)[: n // 2] - np.eye(n, k=1)[: n // 2]
    x = random.uniform(-1, 1, n)
    lb = np.full(n, -2.0)
    ub = np.full(n, 2.0)
    lb[3] = ub[3] = x[3]
    return dict(P=P, c=random.standard_normal(n), A=A, b=A @ x, G=G, h=G @ x + 0.1, lb=lb, ub=ub)


def test_a_batch_and_its_gradients_equal_the_dense_ones():
    """One compiled program for all of it: lanes of a sparse one, of which the last is infeasible."""
    data = {k: jnp.asarray(v) for k, v in program().items()}
    patterns = {name: np.asarray(data[name]) != 0 for name in "PAG"}
    indices = {name: jnp.argwhere(patterns[name]) for name in "PAG"}
    weights = jnp.arange(3.0)

    def loss(parts):
        solution = conic.solve_conic(**parts)
        return jnp.sum(jnp.sin(solution.x)) + solution.y @ weights, solution

    def sparse_loss(parts):
        built = {name: jsparse.BCOO((parts[name], indices[name]), shape=data[name].shape) for name in "PAG"}
        return loss(parts | built)

    cs = jnp.stack([data["c"], jnp.ones(N), data["c"]])
    bs = data["b"] + jnp.array([0.0, 0.0, 100.0])[:, None]
    parts = data | {name: data[name][patterns[name]] for name in "PAG"}
    lanes = parts | dict(c=cs, b=bs)
    axes = {name: 0 if name in "cb" else None for name in parts}
    many = jax.jit(jax.vmap(jax.grad(sparse_loss, has_aux=True), in_axes=(axes,)))
    found, solutions = many(lanes)
    assert solutions.status.tolist() == [0, 0, pounce.ConicStatus.Primal_Infeasible]
    for lane in range(2):
        wanted, expected = jax.grad(loss, has_aux=True)(data | dict(c=cs[lane], b=bs[lane]))
        assert expected.status == 0
        for name in ("x", "y", "z", "s", "z_lb", "z_ub", "objective"):
            np.testing.assert_allclose(getattr(solutions, name)[lane], getattr(expected, name), atol=1e-8)
        for name in data:
            whole = wanted[name][patterns[name]] if name in patterns else wanted[name]
            np.testing.assert_allclose(found[name][lane], whole, atol=1e-7, err_msg=name)


def test_large_ones_of_scipy_stay_sparse(monkeypatch):
    """The host door: a chain of 2000 variables, far too large to be quick as a dense one."""
    n = 2000
    P = sps.diags_array([np.full(n, 2.0), np.full(n - 1, -1.0)], offsets=[0, -1]).tocsc()  # the lower triangle
    G = sps.eye_array(n, format="csc")
    A = sps.csr_array(np.ones((1, n)) / n)
    monkeypatch.setattr(sps.csr_array, "toarray", None)
    result = pounce.solve_qp(P, -np.ones(n) / n, A, [0.0], G, np.full(n, 0.05))
    assert result.success
    assert result.kkt_error < 1e-8
    x = result.x
    np.testing.assert_allclose(x.sum(), 0.0, atol=1e-6)
    compiled = kernel_for.cache_info().misses
    again = pounce.solve_qp(P, -np.ones(n) / n, A, [0.0], G, np.full(n, 0.04))
    assert again.success
    assert kernel_for.cache_info().misses == compiled


def test_sparse_matrices_that_are_not_convex():
    n = 600
    P = sps.diags_array([np.full(n, 1.0), np.full(n - 1, -1.0)], offsets=[0, -1]).tocsc()
    with pytest.raises(ValueError, match="positive semidefinite"):
        pounce.solve_qp(P, np.ones(n), lb=np.zeros(n), check_psd=True)


def test_bad_entries_are_named():
    n = 600
    P = sps.eye_array(n, format="lil")
    P[5, 2] = np.nan
    with pytest.raises(ValueError, match=r"`P\[5, 2\]` is nan"):
        pounce.solve_qp(P.tocsc(), np.ones(n))


def test_traced_indices_are_refused():
    P = jsparse.BCOO.fromdense(jnp.eye(3))
    with pytest.raises(ValueError, match="indices of `P`"):
        jax.jit(lambda P: conic.solve_conic(P, jnp.ones(3)))(P)


def test_symmetric_part():
    random = np.random.RandomState(1)
    P = random.standard_normal((4, 4)) * (random.uniform(size=(4, 4)) < 0.5)
    whole = jsparse.BCOO.fromdense(jnp.asarray(P))

    @jax.jit
    def symmetric(data):  # traced numbers are not looked at: the form is that of the symmetric part
        found = traced_matrix(jsparse.BCOO((data, whole.indices), shape=P.shape), "P", symmetric=True)
        assert np.all(found.pattern.diagonal >= 0)
        return verbs.symmetric_dense(found)

    np.testing.assert_allclose(symmetric(whole.data), 0.5 * (P + P.T))
    with pytest.raises(ValueError, match="`P` is not symmetric"):
        traced_matrix(whole, "P", symmetric=True)


def test_rows_of_a_cone_share_a_pattern():
    cones = ConeProduct((SecondOrder(3, 2),))
    rows = np.zeros((6, 5))
    rows[[0, 1, 2, 4], [0, 1, 1, 4]] = [1.0, 2.0, 3.0, 4.0]
    pattern = Pattern.of(rows)
    sparse = SparseMatrix(jnp.asarray(rows[pattern.rows, pattern.columns]), pattern)
    s, z = jnp.array([2.0, 1, 0.5, 3, 1, 1]), jnp.array([1.0, 0.2, 0.1, 2, -1, 0.3])
    scaling = cones.scaling(s, z, jnp.asarray(1.0), jnp.array(False))
    found = through_blocks("whiten", scaling, sparse)
    np.testing.assert_allclose(verbs.dense(found), scaling.whiten(jnp.asarray(rows)), atol=1e-12)
    assert found.pattern == through_blocks("whiten", unit_scaling(cones), sparse).pattern
    assert found.pattern.nnz == 9


@pytest.mark.parametrize("schedule", ["columns", "levels"])
@pytest.mark.parametrize("pairs", [False, True])
def test_dense_tail(pairs, schedule, monkeypatch):
    """A matrix that fills in is finished as a dense one, with the same solution and inertia."""
    random = np.random.RandomState(0)
    n, m = 60, 40
    hessian = sps.random_array((n, n), density=0.05, rng=random).toarray()
    hessian = hessian @ hessian.T + np.eye(n)
    jacobian = sps.random_array((m, n), density=0.1, rng=random).toarray()
    jacobian[np.arange(m), np.arange(m)] = 1.0
    d = np.where(np.arange(m) < m // 2, 0.0, 0.5)

    def matrix(dense):
        pattern = Pattern.of(dense)
        return SparseMatrix(jnp.asarray(dense[pattern.rows, pattern.columns]), pattern)

    operator = KKTOperator(matrix(np.tril(hessian)), matrix(jacobian), jnp.asarray(d))
    monkeypatch.setattr(tail, "DENSE_START", 0.0)  # so small a matrix is not worth one
    symbolic = analyze(
        operator.hessian.pattern, operator.jacobian.pattern, equality=d == 0, pairs=pairs, tail=True, schedule=schedule
    )
    assert symbolic.sizes["tail"] > 0
    solver = QuasiDefiniteLDL(SparseLDL(symbolic))
    right = jnp.asarray(random.standard_normal(n)), jnp.asarray(random.standard_normal(m))

    @jax.jit
    def solve(operator):
        factor = solver.init(operator, {})
        wasteful = solver.init(operator, {"regularization": jnp.asarray(1e-8)})
        advised = solver.advised_regularization(wasteful)
        return solver.compute(factor, right, {})[0], solver.inertia(factor).correct, advised

    (x, y), correct, advised = solve(operator)
    assert advised < 1e-8  # more is more than this matrix needs
    exact = np.linalg.solve(operator.as_matrix(), jnp.concatenate(right))
    assert correct
    np.testing.assert_allclose(jnp.concatenate([x, y]), exact, atol=1e-5 * np.abs(exact).max())
