"""Sparse programs of host callables: the answers of dense ones, without any dense matrix on the way."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps

import pounce
from pounce import CyIpoptEvaluationError
from pounce._compile import forget
from pounce._linalg.sparse import Pattern
from pounce._problem.sparse_host import in_pattern
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
        return np.r_[off, obj_factor * (1200 * x[:-1] ** 2 - 400 * x[1:] + 2), np.full(self.n - 1, 200.0 * obj_factor)]

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


def test_kernels_can_be_forgotten(kernels):
    """And are made again with the same linear solver."""
    x0 = np.full(N, 0.5)
    x, info = chain(N, "sparse-ldl").solve(x0)
    for made in (1, 0):
        count = len(kernels)
        if made:
            forget()
        again, other = chain(N, "sparse-ldl").solve(x0)
        assert len(kernels) == count + made
        np.testing.assert_array_equal(again, x)
        assert other["iter_count"] == info["iter_count"]


def test_what_callbacks_see(capsys):
    """The derivative checker, the current iterate and a point that cannot be evaluated."""

    class Watched(Chain):
        seen, asked = [], None

        def intermediate(self, *figures):
            both = problem.get_current_iterate(), problem.get_current_violations()
            self.seen.append((figures[4], both[1]["grad_lag_x"], both[1]["g_violation"]))

        def constraints(self, x):
            if self.asked is not None:
                self.asked += 1
                if self.asked == 4:
                    raise CyIpoptEvaluationError
            return super().constraints(x)

    watched = Watched(N)
    problem = chain(N, "sparse-ldl", derivative_test="second-order")
    problem.problem_obj = watched
    _, info = problem.solve(np.full(N, 0.5))
    assert "No errors detected" in capsys.readouterr().out
    problem.add_option("derivative_test", "none")
    watched.asked = 0
    _, info = problem.solve(np.full(N, 0.5))
    assert info["status"] == 0 and watched.asked > 4
    _, gradient, violation = watched.seen[-1]
    assert np.max(np.abs(gradient)) <= 1e-6 and violation.shape == (N - 1,)


def without_hessian(problem):
    """The same callbacks but for second derivatives."""
    names = ("objective", "gradient", "constraints", "jacobian", "jacobianstructure")
    problem.problem_obj = type("FirstOrder", (), {name: getattr(problem.problem_obj, name) for name in names})()
    return problem


def test_limited_memory():
    """With a Hessian that is not asked for, without one, and by JAX: the iterations of dense solves."""
    x0 = np.full(N, 0.5)
    dense = chain(N, "null-space", hessian_approximation="limited-memory").solve(x0)
    sparse = without_hessian(chain(N, "sparse-ldl"))
    assert structure_of(sparse).jacobian.nnz == 2 * (N - 1) and not sparse.has_hessian
    found = sparse.solve(x0)
    same(dense, found)
    assert found[1]["n_hess_evals"] == 0 and found[1]["n_jac_evals"] > 0
    bounds = dict(lb=[-2.0] * N, ub=[0.9] * N, cl=[0.3] * (N - 1), cu=[2e19] * (N - 1))
    traced = from_jax(objective, rows, n=N, m=N - 1, sparse=True, **bounds)
    for name, value in dict(hessian_approximation="limited-memory", print_level=0).items():
        traced.add_option(name, value)
    found = traced.solve(x0)
    same(dense, found)
    assert found[1]["n_hess_evals"] == 0


def test_nothing_but_a_gradient():
    """Without rows and Hessian there is no matrix to be dense."""
    n = 2000
    quartic = type(
        "Quartic",
        (),
        dict(objective=lambda _, x: np.sum((x - 1) ** 4 + x**2), gradient=lambda _, x: 4 * (x - 1) ** 3 + 2 * x),
    )
    problem = pounce.Problem(n, 0, quartic())
    problem.add_option("print_level", 0)
    assert structure_of(problem).hessian.nnz == n
    x, info = problem.solve(np.zeros(n))
    assert info["status"] == 0
    np.testing.assert_allclose(4 * (x - 1) ** 3 + 2 * x, 0.0, atol=1e-7)


def structure_of(problem):
    """What a solve would work with."""
    options, solver = problem._prepare(dict(problem._options))
    return problem._functions(solver)[0].structure


def test_the_choice_is_automatic():
    """By size and density, unless an option says otherwise; a Hessian that is approximated counts as diagonal."""
    assert structure_of(chain(N)) is None
    found = structure_of(chain(300))
    assert found.jacobian.shape == (299, 300) and found.hessian.nnz == 599
    assert structure_of(chain(300, "null-space")) is None
    found = structure_of(chain(300, hessian_approximation="limited-memory"))
    assert found.jacobian.nnz == 598 and found.hessian.nnz == 300
    assert structure_of(chain(300, "null-space", hessian_approximation="limited-memory")) is None

    class Full(Chain):
        def hessianstructure(self):
            return np.tril_indices(self.n)

    problem = pounce.Problem(300, 0, Full(300))
    assert structure_of(problem) is None


def objective(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rows(x):
    return x[1:] * (1 + x[:-1])


def test_from_jax(kernels):
    """Patterns that are read, or given, lead to the same structure and solution."""
    common = dict(n=N, m=N - 1, lb=[-2.0] * N, ub=[0.9] * N, cl=[0.3] * (N - 1), cu=[2e19] * (N - 1))
    i = np.arange(N)
    band = (np.r_[i, i[1:]], np.r_[i, i[:-1]])
    problem = from_jax(objective, rows, sparse=True, n_probes=3, **common)
    given = from_jax(
        objective,
        rows,
        sparse=True,
        hess_pattern=band,
        jac_pattern=sps.eye_array(N - 1, N) + sps.eye_array(N - 1, N, k=1),
        **common,
    )
    assert structure_of(problem) == structure_of(given) == structure_of(chain(N, "sparse-ldl"))
    assert structure_of(from_jax(objective, rows, **common)) is None
    assert structure_of(from_jax(objective, rows, sparse="auto", **common)) is None
    for each in (problem, given):
        each.add_option("print_level", 0)
    x0 = np.full(N, 0.5)
    same(chain(N, "sparse-ldl").solve(x0), problem.solve(x0))
    with pytest.raises(ValueError, match="jac_pattern"):
        from_jax(objective, rows, sparse=True, jac_pattern=([N], [0]), **common)
    with pytest.raises(ValueError, match="`sparse`"):
        from_jax(objective, rows, sparse="maybe", **common)


def minimized(kind, solver, x0):
    """The chain for `minimize`: all of it traced, a traced objective beside sparse callables, or callables alone."""
    from scipy.optimize import LinearConstraint, NonlinearConstraint

    c = Chain(N)
    jac_rows, jac_columns = c.jacobianstructure()

    def jacobian(x):
        return sps.coo_array((c.jacobian(x), (jac_rows, jac_columns)), shape=(N - 1, N))

    def hessian(x, y, weight):
        upper = sps.coo_array((c.hessian(x, y, weight), c.hessianstructure()), shape=(N, N)).tocsc()
        return upper + sps.triu(upper, 1).T

    functions = dict(traced=(objective, rows), mixed=(objective, c.constraints), callables=(c.objective, c.constraints))
    f, g = functions[kind]
    more = {}
    if kind == "callables":
        more = dict(jac=c.gradient, hess=lambda x: hessian(x, np.zeros(N - 1), 1.0))
    own = {} if kind == "traced" else dict(jac=jacobian, hess=lambda x, y: hessian(x, y, 0.0))
    constraints = [
        NonlinearConstraint(g, 0.3, np.inf, **own),
        LinearConstraint(sps.eye_array(N, format="csr")[::2], -1.0, 0.9),
    ]
    return pounce.minimize(f, x0, bounds=[(-2.0, None)] * N, constraints=constraints, linear_solver=solver, **more)


def first_order(kind, solver, x0):
    """The chain for `minimize` without second derivatives: sparse Jacobians, differences of a known pattern, or JAX, beside
    objectives of several kinds."""
    from scipy.optimize import BFGS, LinearConstraint, NonlinearConstraint

    c, calls = Chain(N), []

    def jacobian(x):
        return sps.coo_array((c.jacobian(x), c.jacobianstructure()), shape=(N - 1, N))

    def called(x):
        calls.append(x)
        return np.array([x[i + 1] * (1 + float(x[i])) for i in range(N - 1)])

    pattern = sps.eye_array(N - 1, N) + sps.eye_array(N - 1, N, k=1)
    f, more, g, own = {
        "jacobian": (c.objective, dict(jac=c.gradient), c.constraints, dict(jac=jacobian)),
        "beside a traced objective": (objective, {}, c.constraints, dict(jac=jacobian)),
        "differences": (c.objective, dict(jac=c.gradient), called, dict(finite_diff_jac_sparsity=pattern)),
        "complex step": (
            c.objective,
            dict(jac="cs"),
            c.constraints,
            dict(jac="cs", finite_diff_jac_sparsity=pattern.toarray()),
        ),
        "traced": (objective, dict(hess=BFGS()), rows, {}),
    }[kind]
    constraints = [
        NonlinearConstraint(g, 0.3, np.inf, **own),
        LinearConstraint(sps.eye_array(N, format="csr")[::2], -1.0, 0.9),
    ]
    result = pounce.minimize(f, x0, bounds=[(-2.0, None)] * N, constraints=constraints, linear_solver=solver, **more)
    return result, len(calls)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["jacobian", "beside a traced objective", "differences", "complex step", "traced"])
def test_minimize_without_hessians(kind, kernels):
    """A limited-memory Hessian beside a sparse Jacobian, with the iterations of dense algebra."""
    x0 = np.full(N, 0.5)
    (dense, _), (sparse, calls) = (first_order(kind, solver, x0) for solver in ("null-space", "sparse-ldl"))
    assert dense.success and sparse.success and sparse.nhev == 0
    assert sparse.nit == dense.nit or kind == "differences"  # whose rounding shows in the last iterations
    np.testing.assert_allclose(sparse.x, dense.x, atol=1e-6)
    assert all(structure is None or structure.hessian.nnz == N for structure in kernels)
    if kind == "differences":  # four points a Jacobian, for there are two colours
        assert calls <= 4 * sparse.njev + 2 * sparse.nfev + 5


@pytest.mark.parametrize("kind", ["traced", "mixed", "callables"])
def test_minimize(kind, kernels):
    """SciPy's sparse matrices reach the linear solver as they are."""
    x0 = np.full(N, 0.5)
    dense, sparse = (minimized(kind, solver, x0) for solver in ("null-space", "sparse-ldl"))
    assert dense.success and sparse.success and sparse.nit == dense.nit
    np.testing.assert_allclose(sparse.x, dense.x, atol=1e-7)
    assert all(structure is None or structure.jacobian.nnz == 2 * (N - 1) + N // 2 for structure in kernels)


def test_a_pattern_that_changes_is_an_error():
    """Entries may vanish, but not appear elsewhere."""
    pattern = Pattern([0, 1], [2, 3], (2, 4))
    found = in_pattern(sps.coo_array(([5.0, 1.0, 0.0], ([1, 1, 0], [3, 3, 0])), shape=(2, 4)), pattern, "jac")
    assert found.data.tolist() == [0.0, 6.0]
    with pytest.raises(ValueError, match="jac: the sparsity pattern changed"):
        in_pattern(sps.eye_array(2, 4), pattern, "jac")
