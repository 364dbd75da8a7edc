"""Sparse convex programs through the doors of the host and of `pounce.jax`, against the dense ones and against Clarabel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps
from jax.experimental import sparse as jsparse

import pounce
from pounce._qp.data import Program
from pounce._qp.lu import factorized
from pounce._qp.polish import polished
from pounce.jax import QpLayer, solve_qp, solve_qp_batch

from .conic_programs import interior, programs, references, size


N = 300


def dense(data):
    return {name: value.toarray() if sps.issparse(value) else value for name, value in data.items()}


@functools.cache
def chain(seed=0):
    """A chain with differences of neighbours bounded and sums of ten given: 300 variables, 329 rows."""
    random, i = np.random.RandomState(seed), np.arange(N - 1)
    P = sps.diags_array([np.full(N, 2.0), np.full(N - 1, -1.0)], offsets=[0, -1]).tocsc()  # the lower triangle
    G = sps.coo_array((np.repeat([1.0, -1.0], N - 1), (np.r_[i, i], np.r_[i, i + 1])), shape=(N - 1, N))
    A = sps.csr_array(np.kron(np.eye(N // 10), np.ones((1, 10))))
    bounds = dict(lb=np.full(N, -2.0), ub=np.where(np.arange(N) == 7, -2.0, 2.0))
    b = random.standard_normal(N // 10)
    return dict(P=P, c=random.standard_normal(N), A=A, b=b, G=G, h=np.full(N - 1, 0.5), **bounds)


@functools.cache
def solved():
    return pounce.solve_qp(**chain()), pounce.solve_qp(**dense(chain()))


def same(found, wanted, atol=1e-7):
    assert found.status == wanted.status == "optimal"
    for name in ("x", "y", "z", "z_lb", "z_ub", "s"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=atol, err_msg=name)
    assert found.obj == pytest.approx(wanted.obj, abs=atol)


def test_one():
    same(*solved())


def test_factorization():
    """Other numbers of the structure; a program of another structure."""
    solver = pounce.QpFactorization(**chain())
    same(solver.solve(**chain()), solved()[1])
    moved = chain(1)
    same(solver.solve(**moved), pounce.solve_qp(**dense(moved)))
    zero = chain() | dict(A=chain()["A"] * 1.0)
    zero["A"].data[0] = 0.0
    assert solver.solve(**zero).status in ("optimal", "primal_infeasible")
    assert solver.solve(**chain() | dict(P=sps.eye_array(N))).status == "numerical_failure"
    assert solver.solve(**dense(chain())).status == "numerical_failure"


@pytest.mark.slow
def test_batch():
    """Lanes, one of them infeasible, beside a program of another structure."""
    impossible = chain() | dict(b=np.full(N // 10, 1e3))
    small = dict(P=sps.eye_array(2), c=[1.0, -1.0])
    first, none, other, second = pounce.solve_qp_batch([chain(), impossible, small, chain(1)])
    same(first, solved()[1])
    same(second, pounce.solve_qp(**dense(chain(1))))
    assert none.status == "primal_infeasible"
    np.testing.assert_allclose(other.x, [-1.0, 1.0], atol=1e-8)


@pytest.mark.slow
def test_linear_terms():
    terms = np.stack([chain()["c"], chain(1)["c"]])
    first, second = pounce.solve_qp_multi_rhs(**chain(), cs=terms)
    same(first, solved()[1])
    same(second, pounce.solve_qp(**dense(chain() | dict(c=terms[1]))))


def test_active_set(monkeypatch):
    """The last digits by a sparse system."""
    monkeypatch.setattr(np, "block", None)
    plain, _ = solved()
    found = pounce.solve_qp(**chain(), method="active-set")
    same(found, plain)
    assert found.kkt_error <= plain.kkt_error and found.kkt_error < 1e-14 and found.iters == plain.iters
    monkeypatch.setattr("pounce._qp.polish.LARGEST", 100)
    asked = type("Asked", (), dict(data=Program(*(chain()[name] for name in Program._fields))))
    assert polished(asked, plain) is plain


def test_sensitivity():
    """Steps, active sets, condition and reduced Hessian of the dense system."""
    sparse, whole = pounce.QpSensitivity(**chain()), pounce.QpSensitivity(**dense(chain()))
    assert sps.issparse(sparse._system.matrix)
    assert sparse.active_indices == whole.active_indices and len(sparse.active_indices.inequalities) > 50
    assert 7 in sparse.active_indices.bounds and sparse.weakly_active_indices == whole.weakly_active_indices
    assert sparse.kkt_dim == whole.kkt_dim and not sparse.ill_conditioned
    assert sparse.kkt_cond_estimate == pytest.approx(whole.kkt_cond_estimate, rel=0.5)
    steps = [each.parametric_step([0, 3], [1.0, -0.5]) for each in (sparse, whole)]
    np.testing.assert_allclose(*steps, atol=1e-12)
    assert np.max(np.abs(steps[0])) > 0.01 and sparse.last_step_residual < 1e-12
    found, wanted = (each.reduced_hessian() for each in (sparse, whole))
    assert found.n_dof == wanted.n_dof and found.is_positive_definite
    np.testing.assert_allclose(found.eigenvalues, wanted.eigenvalues, atol=1e-10)


def test_sensitivity_needs_a_regular_solution():
    twice = sps.vstack([chain()["A"]] * 2)
    with pytest.raises(ValueError, match="singular"):
        pounce.QpSensitivity(**chain() | dict(A=twice, b=np.tile(chain()["b"], 2)))


def test_norms_of_inverses():
    """Hager's estimate is LAPACK's; singular matrices have none."""
    random = np.random.RandomState(0)
    for matrix in random.standard_normal((5, 30, 30)) ** 3:
        sparse, whole = factorized(sps.csr_array(matrix)), factorized(matrix)
        assert sparse.inverse_norm() == pytest.approx(whole.inverse_norm(), rel=0.5)
        right = random.standard_normal(30)
        np.testing.assert_allclose(sparse.solve(right), whole.solve(right), rtol=1e-8)
    for singular in (np.ones((2, 2)), np.zeros((3, 3))):
        assert factorized(sps.csr_array(singular)).inverse_norm() == np.inf == factorized(singular).inverse_norm()


# -- cones --------------------------------------------------------------------------------------------------------------


CONES = (
    [("soc", 4)] * 30 + [("exp", 3)] * 20 + [("psd", 3)] * 12 + [("pow", 0.3)] * 10 + [("rsoc", 5)] * 6 + [("+", 40)]
)
OPTIMUM = -183.5402488138  # by Clarabel 0.11.1


@functools.cache
def conic(n=220, p=20):
    """Rows of three entries in cones of every kind; strictly feasible, and so is the dual."""
    random = np.random.RandomState(5)
    kinds = [("nonneg", value) if kind == "+" else (kind, value) for kind, value in CONES]
    m = sum(map(size, kinds))

    def rows(count):
        columns = np.concatenate([random.choice(n, 3, replace=False) for _ in range(count)])
        entries = random.standard_normal(3 * count), (np.repeat(np.arange(count), 3), columns)
        return sps.csr_array(entries, shape=(count, n))

    G, A, P = rows(m), rows(p), sps.diags_array(np.where(np.arange(n) % 2, 0.0, 1.0)).tocsr()
    x, y = random.standard_normal(n), random.standard_normal(p)
    s, z = (np.concatenate([interior(random, kind, dual) for kind in kinds]) for dual in (False, True))
    return dict(P=P, c=-P @ x - A.T @ y - G.T @ z, A=A, b=A @ x, G=G, h=G @ x + s)


@pytest.mark.slow
def test_cones_of_every_kind():
    """The host door, sparse and dense."""
    found = pounce.solve_socp(**conic(), cones=CONES)
    assert found.status == "optimal" and found.obj == pytest.approx(OPTIMUM, abs=1e-6)
    whole = pounce.solve_socp(**dense(conic()), cones=CONES)
    assert whole.iters == pytest.approx(found.iters, abs=2)
    same(found, whole, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cone", ["soc", "mixed"])
def test_cones_in_jax(cone):
    """A batch on `BCOO` matrices: optima are the references, and they move with the data as the multipliers say."""
    stack = programs(cone, "feasible")[1]
    data = {name: jnp.asarray(getattr(stack, name)[:3]) for name in ("P", "c", "A", "b", "G", "h")}
    indices = {name: jnp.argwhere(jnp.ones(data[name].shape[1:])) for name in "PAG"}

    def optimum(data):
        matrices = {
            name: jsparse.BCOO((data[name].reshape(-1), indices[name]), shape=data[name].shape) for name in indices
        }
        solution = pounce.solve_conic(**data | matrices, cones=list(stack.cones))
        x = solution.x
        return 0.5 * x @ data["P"] @ x + data["c"] @ x, solution

    slopes, found = jax.jit(jax.vmap(jax.grad(optimum, has_aux=True)))(data)
    assert not np.any(found.status)
    np.testing.assert_allclose(found.objective, references(cone, "feasible")[stack.first :][:3], atol=1e-6)
    x, y, z = found.x, found.y, found.z
    rates = dict(c=x, b=-y, h=-z, P=0.5 * x[:, :, None] * x[:, None], A=y[:, :, None] * x[:, None])
    rates["G"] = z[:, :, None] * x[:, None]
    for name, rate in rates.items():
        np.testing.assert_allclose(slopes[name], rate, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_layers():
    """`solve_qp`, `solve_qp_batch` and `QpLayer` with matrices of `BCOO`."""
    n = 12
    P = np.diag(np.linspace(1.0, 2.0, n)) - 0.3 * (np.eye(n, k=1) + np.eye(n, k=-1))
    G = (np.eye(n) - np.eye(n, k=1))[: n - 1]
    cs = np.random.RandomState(0).standard_normal((3, n))
    whole = dict(P=P, G=G)
    sparse = {name: jsparse.BCOO.fromdense(jnp.asarray(matrix)) for name, matrix in whole.items()}
    rest = dict(h=np.full(n - 1, 0.1), lb=-1.0)
    wanted = solve_qp_batch(**whole, c=cs, **rest)
    layer = QpLayer(**sparse, lb=-1.0)
    np.testing.assert_allclose(layer.batch(cs, h=rest["h"]), wanted, atol=1e-8)
    np.testing.assert_allclose(layer(cs[0], h=rest["h"]), wanted[0], atol=1e-8)
    slope = jax.jacobian(lambda c: solve_qp(**sparse, c=c, **rest))(jnp.asarray(cs[0]))
    step = 1e-5 * cs[1]
    difference = (solve_qp(**sparse, c=cs[0] + step, **rest) - solve_qp(**sparse, c=cs[0] - step, **rest)) / 2e-5
    np.testing.assert_allclose(slope @ cs[1], difference, atol=1e-6)
