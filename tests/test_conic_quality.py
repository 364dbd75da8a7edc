"""`ConicSolution.quality`: derivatives are right in any units, or flagged and bounded. Few programs, for many inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce._cone.semidefinite import svec
from pounce._results import ConicStatus


def program(P, c, A, b):
    return pounce.solve_conic(P, c, A, b, lb=0.0)


def truth(P, A, free):
    """dx/dc where the variables ``free`` are off their bounds."""
    n, free = P.shape[0], np.flatnonzero(free)
    rows = np.vstack([A[:, free]])
    k = rows.shape[0]
    matrix = np.block([[P[np.ix_(free, free)], rows.T], [rows, np.zeros((k, k))]])
    inverse = np.linalg.pinv(matrix)[: free.size, : free.size]
    slope = np.zeros((n, n))
    slope[np.ix_(free, free)] = -inverse
    return slope


P0 = np.array([[3.0, 0.5, 0.0, 0.2], [0.5, 2.0, 0.3, 0.0], [0.0, 0.3, 1.5, 0.4], [0.2, 0.0, 0.4, 2.5]])
A0 = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.5, 0.0]])
UNITS = [(1.0, 0), (1e6, 1), (1e-6, 2), (1e3, 3), (1e-4, 4)]  # of the cost, and the seed of the others


def regular():
    """Programs with the optimum chosen: x, and multipliers of the bounds."""
    for P, x, z in (
        (P0, [0.7, 0.4, 0.0, 1.1], [0, 0, 0.9, 0]),
        (P0, [0.5, 3e-3, 0.2, 0.0], [0, 0, 0, 0.5]),
        (0 * P0, [0.0, 0.6, 0.0, 1.4], [0.8, 0, 0.3, 0]),
    ):
        x, z = np.array(x), np.array(z)
        c = z - P @ x - A0.T @ np.array([0.6, -0.3])
        yield P, c, A0, A0 @ x, truth(P, A0, x > 0)


def degenerate():
    """A kink, a tie, a flat direction, rows given twice, more active constraints than variables."""
    y, x = np.array([0.6, -0.3]), np.array([0.7, 0.4, 0.0, 1.1])
    yield P0, -P0 @ x - A0.T @ y, A0, A0 @ x
    yield 0 * P0, np.array([0.3, 0.3, 0.3, 0.9]) - A0.T @ y, A0, np.array([1.0, 0.1])
    d = np.array([0.0, 0.0, 1.0, -1.0])
    flat = np.outer([1, 1, 1, 1.0], [1, 1, 1, 1.0]) + np.diag([1.0, 2.0, 0.0, 0.0])
    level = A0 - np.outer(A0 @ d, d) / 2
    yield flat, -flat @ np.ones(4) - level.T @ y, level, level @ np.ones(4)
    twice = np.array([A0[0], A0[0]])
    yield P0, -P0 @ np.ones(4) - twice.T @ y, twice, twice @ np.ones(4)
    corner = np.array([1.0, 0.0, 0.0, 0.0])
    yield 0 * P0, np.array([0.0, 0.5, 0.8, 0.4]) - A0.T @ y, A0, A0 @ corner


def in_units(P, c, A, b, cost, seed):
    random = np.random.default_rng(seed)
    spread = 0.0 if seed == 0 else 3.0
    d, rows = 10.0 ** random.uniform(-spread, spread, 4), 10.0 ** random.uniform(-spread, spread, 2)
    return (cost * P / np.outer(d, d), cost * c / d, rows[:, None] * A / d, rows * b), d


def test_units():
    """Right where regular, flagged and bounded where degenerate, in forward and reverse mode."""

    @jax.jit
    @jax.vmap
    def both(P, c, A, b):
        def found(c):
            solution = program(P, c, A, b)
            return solution.x, solution

        slope, solution = jax.jacfwd(found, has_aux=True)(c)
        return slope, jax.jacrev(found, has_aux=True)(c)[0], solution

    cases = [(case, *unit) for case in [*regular(), *degenerate()] for unit in UNITS]
    given = [in_units(*case[:4], cost, seed) for case, cost, seed in cases]
    forward, reverse, solution = both(*(np.stack(parts) for parts in zip(*[data for data, _ in given])))
    assert np.all(np.asarray(solution.status) == ConicStatus.Optimal)
    for k, ((case, cost, _), (_, d)) in enumerate(zip(cases, given)):
        slopes = [cost * np.asarray(slope[k]) / np.outer(d, d) for slope in (forward, reverse)]
        quality = jax.tree.map(lambda leaf, k=k: leaf[k], solution.quality)
        if len(case) == 5:
            assert bool(quality.differentiable) and float(quality.margin) > 1e-2, (k, quality.margin)
            for slope in slopes:
                np.testing.assert_allclose(slope, case[4], rtol=0, atol=1e-7 * max(1.0, np.abs(case[4]).max()))
        else:
            assert not bool(quality.differentiable), (k, quality.margin, quality.linear_residual)
            assert all(np.all(np.abs(slope) < 1e7) for slope in slopes), (k, slopes)


def matrix_programs():
    """Programs ``min <C, X>, A X = b, X >= 0`` of order three with an optimum, and whether it has a derivative: a matrix of
    rank one, one beside multipliers of rank one too, one with a row that is given twice."""
    random = np.random.default_rng(5)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    A = np.asarray(svec(jnp.asarray([matrix + matrix.T for matrix in random.normal(size=(2, 3, 3))])))
    x = np.asarray(svec(jnp.asarray(rotation @ np.diag([1.3, 0.0, 0.0]) @ rotation.T)))
    for values, rows, regular in (
        ([0, 0.6, 1.7], A, True),
        ([0, 0.0, 1.1], A, False),
        ([0, 0.6, 1.7], A[[0, 0]], False),
    ):
        z = np.asarray(svec(jnp.asarray(rotation @ np.diag(values) @ rotation.T)))
        yield (z - rows.T @ np.array([0.4, -0.7]), rows, rows @ x, np.eye(6)), x, z, regular


def test_units_of_the_indices_of_a_matrix():
    """``X -> D X D`` of variables and of rows: derivatives are those of units one, or flagged and bounded."""

    @jax.jit
    @jax.vmap
    def both(c, A, b, G):
        def found(given):
            solution = pounce.solve_conic(None, given[0], A, given[1], -G, jnp.zeros(6), cones=[("psd", 3)])
            return jnp.concatenate([solution.x, solution.z]), solution

        slopes = [mode(found, has_aux=True)((c, b)) for mode in (jax.jacfwd, jax.jacrev)]
        return [jnp.concatenate(slope, axis=1) for slope, _ in slopes], slopes[0][1]

    column, row = np.triu_indices(3)
    cases, given = [], []
    for seed in range(5):
        spread = 3.0 if seed else 0.0
        random = np.random.default_rng(seed)
        d, e = 10.0 ** random.uniform(-spread, spread, (2, 3))
        d, e, a = d[row] * d[column], e[row] * e[column], 10.0 ** random.uniform(-spread, spread, 2)
        for (c, A, b, G), x, z, regular in matrix_programs():
            cases.append((x, z, regular, np.concatenate([d, 1 / e]), np.concatenate([1 / d, a])))
            given.append((c / d, a[:, None] * A / d, a * b, e[:, None] * G / d))
    slopes, solution = both(*(np.stack(parts) for parts in zip(*given)))
    assert np.all(np.asarray(solution.status) == ConicStatus.Optimal)
    for k, (x, z, regular, outer, inner) in enumerate(cases):
        forward, reverse = (np.asarray(slope[k]) / outer[:, None] * inner for slope in slopes)
        assert bool(solution.quality.differentiable[k]) == regular, (k, solution.quality.margin[k])
        if regular:
            np.testing.assert_allclose(solution.x[k] / outer[:6], x, rtol=0, atol=1e-7)
            np.testing.assert_allclose(solution.z[k] / outer[6:], z, rtol=0, atol=1e-7)
            truth = np.asarray(slopes[0][0])
            for slope in (forward, reverse):
                np.testing.assert_allclose(slope, truth, rtol=0, atol=1e-6 * np.abs(truth).max())
        else:
            assert max(np.abs(forward).max(), np.abs(reverse).max()) < 1e8, k


@pytest.mark.parametrize("kind", ["ball", "log"])
def test_small_curved_programs(kind):
    """The least c.x in a ball of radius t, and log t as the largest u with exp(u) <= t."""
    c = np.array([1.2, -0.7, 0.4])

    def ball(t):
        G, h = np.vstack([np.zeros((1, 3)), -np.eye(3)]), jnp.concatenate([t[None], jnp.zeros(3)])
        return pounce.solve_conic(None, c, G=G, h=h, cones=[("soc", 4)])

    def log(t):
        G, h = np.array([[-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]]), np.array([0.0, 1.0, 0.0])
        return pounce.solve_conic(
            None, np.array([-1.0, 0.0]), np.array([[0.0, 1.0]]), t[None], G, h, cones=[("exp", 3)]
        )

    def found(t):
        solution = ball(t) if kind == "ball" else log(t)
        return solution.x[0], solution

    t = np.array([3.0, 2e-3, 4e-5, 7e-6])
    slope, solution = jax.jit(jax.vmap(jax.jacfwd(found, has_aux=True)))(t)
    expected = -c[0] / np.linalg.norm(c) * np.ones(4) if kind == "ball" else 1 / t
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    assert np.all(solution.quality.differentiable) and np.all(solution.status == ConicStatus.Optimal)


def test_second_order_at_a_tie_is_finite():
    solve = lambda r: jnp.sum(pounce.solve_conic(None, -r, np.ones((1, 3)), np.ones(1), lb=0.0).x ** 2)
    hessian = jax.jit(jax.hessian(solve))(jnp.array([0.4, 0.4, 0.1]))
    assert np.all(np.isfinite(hessian))


def test_relaxation_is_the_central_path():
    """Of ``min c.x, x0 + x1 = b, x >= 0``: ``c0 - c1 = mu / x0 - mu / x1`` on the path, in all units of cost and variables.

    The unit of mu is ``(|c.x| + |b y|) / 2``: here ``|c0| b``, since the optimum is (b, 0) with the multiplier -c0.
    """
    relaxation = 0.05

    def solve(c, b):
        return pounce.solve_conic(None, c, np.ones((1, 2)), b[None], lb=0.0, relaxation=relaxation).x

    def path(c, b):
        mu = relaxation * jax.lax.stop_gradient(jnp.abs(c[0]) * b)
        gap, x = c[1] - c[0], 0.5 * b * (1 + 1e-3)
        for _ in range(60):  # gap = mu / x1 - mu / x0
            value = mu / (b - x) - mu / x - gap
            rate = mu / (b - x) ** 2 + mu / x**2
            x = jnp.clip(x - value / rate, 0.5 * x, 0.5 * (x + b))
        return jnp.stack([x, b - x])

    costs, sizes = np.array([[1.0, 1.3], [2e-5, 2.1e-5], [3e4, 9e4]]), np.array([1.0, 1e3, 1e-4])
    found = jax.jit(jax.vmap(jax.jacrev(solve, (0, 1))))(costs, sizes)
    expected = jax.vmap(jax.jacrev(path, (0, 1)))(costs, sizes)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_sensitivity_in_other_units():
    """The active set is that of the program, whatever its units: two rows and a bound, one of them weakly active."""
    P, c = np.diag([2.0, 1.0, 1.0]), np.array([-2.0, -3.0, -1.0])
    A, b, G, h = (
        np.array([[1.0, 1.0, 1.0]]),
        np.array([2.0]),
        np.array([[0.0, 1.0, 0.0], [1.0, 0.0, -1.0]]),
        np.array([0.8, 5.0]),
    )
    base = pounce.QpSensitivity(P, c, A, b, G, h, lb=np.zeros(3))
    for cost, d, rows in ((1e-9, [1e-3, 1.0, 1e2], [1e6, 1e-5]), (1e7, [1e4, 1e-4, 1.0], [1e-6, 1e3])):
        d, rows = np.array(d), np.array(rows)
        given = cost * P / np.outer(d, d), cost * c / d, A / d, b, rows[:, None] * G / d, rows * h
        other = pounce.QpSensitivity(*given, lb=np.zeros(3))
        assert other.active_indices == base.active_indices and other.weakly_active_indices == base.weakly_active_indices
        np.testing.assert_allclose(other.parametric_step([0], [1.0]) / d, base.parametric_step([0], [1.0]), atol=1e-6)
