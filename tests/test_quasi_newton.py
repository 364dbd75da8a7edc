"""Limited-memory Hessians: the matrices against the textbook recursions, whole solves against Ipopt 3.14.

One NLP holds all problems, padded with fixed variables and rows without bounds, so each method is compiled once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._interior.iterate import Iterate
from pounce._interior.options import Choices, Numbers
from pounce._interior.quasi_newton import bfgs_columns, bfgs_matrix, sr1_columns, sr1_matrix, updated
from pounce._interior.restoration import phase_view
from pounce._interior.solver import InteriorPointMethod
from pounce._interior.start import Bounds
from pounce._interior.state import Phase
from pounce._linalg.dense import PivotedLU
from pounce._problem.nlp import Derivatives, FunctionNLP
from pounce._results import Status


INF = 2e19
N, M = 4, 2


def hs071(x):
    return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2], [jnp.prod(x), jnp.sum(x * x)]


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, []


def saddle(x):
    return -x[0] * x[1] - x[0] ** 4 / 4, [x[0] ** 2 + x[1] ** 2]


def hs012(x):
    return 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1], [25 - 4 * x[0] ** 2 - x[1] ** 2]


def hs026(x):
    return (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4, [(1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3]


def hs035(x):
    f = 9 - 8 * x[0] - 6 * x[1] - 4 * x[2] + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2
    return f + 2 * x[0] * x[1] + 2 * x[0] * x[2], [x[0] + x[1] + 2 * x[2]]


def hook(x):
    return x[0] * x[1], [x[0] ** 2 - x[1] - 1]


def apart(x):
    return (x[0] - 1) ** 2 + (x[1] - 1) ** 2, [x[0] ** 2 + x[1] ** 2, x[0] + x[1]]


# name: functions, x0, lb, ub, cl, cu; then iterations and objective of Ipopt 3.14 (monotone mu) with BFGS and with SR1
# (None where the path depends on roundoff)
PROBLEMS = {
    "hs071": (hs071, [1, 5, 5, 1], 1, 5, [25, 40], [INF, 40], (9, 17.0140171452), (11, 17.0140171452)),
    "rosenbrock": (rosenbrock, [-1.2, 1], -INF, INF, [], [], (47, 0.0), None),
    "saddle": (saddle, [0.1, 0.3], -2, 2, [-INF], [1], (14, -0.5826250973), (10, -0.5826250973)),
    "hs012": (hs012, [0, 0], -INF, INF, [0], [INF], (10, -30.0000000025), (10, -30.0000000025)),
    "hs026": (hs026, [-2.6, 2, 2], -INF, INF, [0], [0], (23, 0.0), None),
    "hs035": (hs035, [0.5] * 3, 0, INF, [-INF], [3], (11, 0.111111107), (10, 0.111111107)),
    "hook": (hook, [0.1, 0.1], 0.1, 10, [0], [0], (13, 0.1048808748), (16, 0.1048808764)),
    # Locally infeasible: the restoration phase is entered twice, with a memory of its own each time.
    "apart": (apart, [0, 0], -INF, INF, [-INF, 3], [1, INF], (21, 0.1715728711), None),
}
NAMES = list(PROBLEMS)


def padded(functions):
    def call(x):
        f, rows = functions(x)
        return f, jnp.stack([*rows, *[jnp.zeros_like(f)] * (M - len(rows))])

    return call


def inputs(name):
    _, x0, lb, ub, cl, cu, *_ = PROBLEMS[name]
    n, m = len(x0), len(cl)

    def fill(values, length, filler):
        return np.concatenate([np.broadcast_to(np.asarray(values, float), (length,)), filler])

    fixed, free = np.full(N - n, 0.5), np.full(M - m, INF)
    bounds = Bounds(*(jnp.asarray(b) for b in (
        fill(lb, n, fixed), fill(ub, n, fixed), fill(cl, m, -free), fill(cu, m, free)
    )))  # fmt: skip
    return jnp.asarray(NAMES.index(name)), jnp.asarray(fill(x0, n, fixed)), bounds


def solver(**choices):
    method = InteriorPointMethod(PivotedLU(), Choices(**choices))
    branches = [padded(PROBLEMS[name][0]) for name in NAMES]

    def solve(index, x0, bounds):
        nlp = FunctionNLP(lambda x, k: jax.lax.switch(k, branches, x), index)
        numbers = Numbers.unpack(jnp.asarray(Numbers(max_iter=100).pack(), x0.dtype))
        state = method.init(x0, bounds, None, numbers)
        state = jax.lax.while_loop(lambda s: ~method.terminate(s), lambda s: method.step(nlp, None, s, numbers), state)
        return state.status, state.iteration, state.objective / state.frame.objective_scale, state.iterate.primal[:N]

    return solve


@pytest.fixture(scope="module")
def bfgs():
    return jax.jit(solver(hessian_approximation="limited-memory", recalc_y=True))


def check(result, name, expected):
    status, iterations, objective, x = result
    verdict = Status.Infeasible_Problem_Detected if name == "apart" else Status.Solve_Succeeded
    assert status == verdict
    assert abs(int(iterations) - expected[0]) <= 2
    np.testing.assert_allclose(objective, expected[1], rtol=1e-6, atol=1e-9)
    assert np.all(np.asarray(x[len(PROBLEMS[name][1]) :]) == 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_bfgs_against_ipopt(bfgs, name):
    check(bfgs(*inputs(name)), name, PROBLEMS[name][-2])


@pytest.mark.slow
def test_lanes_are_single_solves(bfgs):
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(inputs(name) for name in NAMES))
    lanes = jax.jit(jax.vmap(solver(hessian_approximation="limited-memory", recalc_y=True)))(*batch)
    for k, name in enumerate(NAMES):
        lane, single = jax.tree.map(lambda leaf: leaf[k], lanes), bfgs(*inputs(name))
        check(lane, name, PROBLEMS[name][-2])
        assert abs(int(lane[1]) - int(single[1])) <= 1
        np.testing.assert_allclose(lane[3], single[3], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_sr1_against_ipopt():
    solve = jax.jit(solver(hessian_approximation="limited-memory", recalc_y=True, limited_memory_update_type="sr1"))
    for name in NAMES:
        if PROBLEMS[name][-1] is not None:
            check(solve(*inputs(name)), name, PROBLEMS[name][-1])
        elif name != "apart":
            assert solve(*inputs(name))[0] == Status.Solve_Succeeded


def test_exact_hessians_are_left_alone():
    status, iterations, _, _ = jax.jit(solver())(*inputs("hs071"))
    assert status == Status.Solve_Succeeded and iterations == 8


def pairs(n, k, absent, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    steps = rng.normal(size=(n, k))
    changes = (root @ root.T + np.eye(n)) @ steps + 0.1 * rng.normal(size=(n, k)) * (k <= n)
    present = np.arange(k) >= absent
    return steps * present, changes * present, present


@pytest.mark.parametrize(("n", "k", "absent"), [(7, 6, 0), (7, 6, 2), (5, 3, 3), (3, 6, 1)])
def test_bfgs_matrix_is_the_recursion(n, k, absent):
    steps, changes, present = pairs(n, k, absent)
    sigma = 0.7
    b = sigma * np.eye(n)
    for j in range(absent, k):
        s, y = steps[:, j], changes[:, j]
        assert s @ y > 0
        bs = b @ s
        b = b - np.outer(bs, bs) / (s @ bs) + np.outer(y, y) / (s @ y)
    matrix, sound = bfgs_matrix(*map(jnp.asarray, (steps, changes, present)), jnp.asarray(sigma))
    assert sound
    np.testing.assert_allclose(matrix, b, rtol=1e-10, atol=1e-10)
    unwritten, sound = bfgs_columns(*map(jnp.asarray, (steps, changes, present)), jnp.asarray(sigma))
    assert sound and np.count_nonzero(unwritten.signs) == 2 * (k - absent)
    np.testing.assert_allclose(unwritten.todense(), b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("n", "k", "absent"), [(7, 5, 0), (7, 5, 3), (4, 2, 2)])
def test_sr1_matrix_is_the_recursion(n, k, absent):
    # With an exact quadratic behind the pairs the recursion and the compact form agree for any order of the pairs.
    rng = np.random.default_rng(1)
    root = rng.normal(size=(n, n))
    present = np.arange(k) >= absent
    steps = rng.normal(size=(n, k)) * present
    changes = (root + root.T) @ steps
    sigma = 0.7
    b = sigma * np.eye(n)
    for j in range(absent, k):
        s, y = steps[:, j], changes[:, j]
        r = y - b @ s
        b = b + np.outer(r, r) / (r @ s)
    matrix, sound = sr1_matrix(*map(jnp.asarray, (steps, changes, present)), jnp.asarray(sigma))
    assert sound
    np.testing.assert_allclose(matrix, b, rtol=1e-10, atol=1e-10)
    unwritten, sound = sr1_columns(*map(jnp.asarray, (steps, changes, present)), jnp.asarray(sigma))
    assert sound and np.count_nonzero(unwritten.signs) == k - absent
    np.testing.assert_allclose(unwritten.todense(), b, rtol=1e-10, atol=1e-10)


def test_negative_curvature_is_not_sound():
    steps, changes, present = pairs(5, 3, 0)
    changes = changes * np.array([1, -1, 1])
    assert not bfgs_matrix(*map(jnp.asarray, (steps, changes, present)), jnp.asarray(1.0))[1]


def test_pairs_are_skipped_and_memory_starts_over():
    choices = Choices(hessian_approximation="limited-memory", limited_memory_max_history=2)
    numbers = Numbers.unpack(jnp.asarray(Numbers(limited_memory_init_val=3.0).pack()))
    method = InteriorPointMethod(PivotedLU(), choices)
    _, x0, bounds = inputs("rosenbrock")
    state = method.init(x0, bounds, None, numbers)
    view = phase_view(state.frame, jnp.array(Phase.REGULAR), numbers.mu_init, state.entry, numbers)
    g, zero = state.globalization, jnp.zeros(())

    @jax.jit
    def see(g, x, gradient, enabled=True):
        """The memory after a point of two free and two fixed variables."""
        iterate = Iterate(jnp.array([*x, 0.5, 0.5, *[0.0] * 3 * M]), jnp.zeros(M), state.iterate.bounds)
        d = Derivatives(zero, jnp.zeros(M), jnp.array([*gradient, 1.0, 1.0]), jnp.zeros((M, N)), None)
        return updated(g, view, iterate, d, zero, jnp.asarray(enabled), numbers, choices)

    start = 3.0 * np.eye(N)
    g = see(g, (0.0, 0.0), (0.0, 0.0))
    np.testing.assert_array_equal(g.quasi_newton.pairs.matrix, start)
    g = see(g, (1.0, 0.0), (2.0, 1.0))
    matrix = g.quasi_newton.pairs.matrix
    np.testing.assert_allclose(matrix[:2] @ jnp.array([1.0, 0, 0, 0]), [2.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(matrix[2:], 2.0 * np.eye(N)[2:], atol=1e-12)  # sigma, where nothing is free
    np.testing.assert_array_equal(see(g, (5.0, 5.0), (9.0, 9.0), False).quasi_newton.pairs.matrix, matrix)
    # Concave, then too short: the matrix stays.
    g = see(g, (2.0, 0.0), (1.0, 1.0))
    assert g.quasi_newton.skipped == 1
    g = see(g, (2.0 + 1e-15, 0.0), (1.0, 1.0))
    assert g.quasi_newton.skipped == 2
    np.testing.assert_array_equal(g.quasi_newton.pairs.matrix, matrix)
    # The third point starts over, whatever its curvature.
    g = see(g, (3.0, 0.0), (4.0, 4.0))
    assert g.quasi_newton.skipped == 0 and not g.quasi_newton.pairs.present.any()
    np.testing.assert_array_equal(g.quasi_newton.pairs.matrix, start)
    # More pairs than the memory holds: the oldest goes.
    for x, gradient in (((4.0, 0.0), (6.0, 5.0)), ((4.0, 1.0), (7.0, 9.0)), ((5.0, 1.5), (10.0, 12.0))):
        g = see(g, x, gradient)
    np.testing.assert_allclose(g.quasi_newton.pairs.steps[:2], [[0.0, 1.0], [1.0, 0.5]])
    np.testing.assert_allclose(g.quasi_newton.pairs.matrix[:2, :2] @ jnp.array([1.0, 0.5]), [3.0, 3.0], atol=1e-12)
