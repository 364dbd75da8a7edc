"""Sparse programs of host callables: the answers of dense ones, without any dense matrix on the way."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps

import pounce
from pounce._host_solve import HostSolver
from pounce._reverse.kernel import Kernel
from pounce.jax import from_jax


N = 30


class Chain:
    """Rosenbrock's chain with a bound on products of neighbours; the structures name some entries twice."""

    def objective(self, x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def gradient(self, x):
        g, r = np.zeros(x.size), x[1:] - x[:-1] ** 2
        g[1:] += 200 * r
        g[:-1] += -400 * x[:-1] * r - 2 * (1 - x[:-1])
        return g

    def constraints(self, x):
        return x[1:] * (1 + x[:-1])

    def jacobianstructure(self):
        i = np.arange(self.n - 1)
        return np.r_[i, i, 0], np.r_[i + 1, i, 0]

    def jacobian(self, x):
        return np.r_[1 + x[:-1], x[1:], 0.0]

    def hessianstructure(self):
        i = np.arange(self.n)
        # The triangle above the diagonal, and the diagonal in two parts.
        return np.r_[i[:-1], i[:-1], i[1:]], np.r_[i[1:], i[:-1], i[1:]]

    def hessian(self, x, lagrange, obj_factor):
        off = -400 * obj_factor * x[:-1] + lagrange
        return np.r_[
            off, obj_factor * (1200 * x[:-1] ** 2 - 400 * x[1:] + 2), np.full(self.n - 1, 200.0 * obj_factor)
        ]

    def __init__(self, n):
        self.n = n


def chain(n, solver="auto", **options):
    problem = pounce.Problem(n, n - 1, Chain(n), [-2.0] * n, [0.9] * n, [0.3] * (n - 1), [2e19] * (n - 1))
    for name, value in dict(print_level=0, linear_solver=solver, **options).items():
        problem.add_option(name, value)
    return problem


def same(dense, sparse, iterations=True):
    (x, info), (found, other) = dense, sparse
    assert info["status"] == other["status"] == 0
    np.testing.assert_allclose(found, x, atol=1e-7)
    np.testing.assert_allclose(other["mult_g"], info["mult_g"], atol=1e-5)
    np.testing.assert_allclose(other["mult_x_U"], info["mult_x_U"], atol=1e-5)
    assert not iterations or other["iter_count"] == info["iter_count"]


@pytest.fixture
def kernels(monkeypatch):
    """How many kernels are made, and of which structure."""
    made = []
    before = Kernel.__init__

    def counted(self, method, setting, structure):
        made.append(structure)
        before(self, method, setting, structure)

    monkeypatch.setattr(Kernel, "__init__", counted)
    return made


def test_callbacks(kernels):
    """Sparse where it is asked for, as long as the pattern stays the same, in one kernel; scaled variables too."""
    x0 = np.full(N, 0.5)
    dense, sparse = chain(N, "null-space"), chain(N, "sparse-ldl")
    same(dense.solve(x0), sparse.solve(x0))
    assert [structure is None for structure in kernels] == [False] or len(kernels) <= 2
    structure = kernels[-1]
    assert structure.jacobian.nnz == 2 * (N - 1) and structure.hessian.nnz == 2 * N - 1
    count = len(kernels)
    same(dense.solve(0.9 * x0), chain(N, "sparse-ldl").solve(0.9 * x0))
    assert len(kernels) == count
    for problem in (dense, sparse):
        problem.add_option("nlp_scaling_method", "user-scaling")
        problem.set_problem_scaling(0.5, np.linspace(1.0, 3.0, N), np.linspace(0.5, 2.0, N - 1))
    same(dense.solve(x0), sparse.solve(x0))
