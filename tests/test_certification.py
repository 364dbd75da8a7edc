"""What a nonlinear solve says of its active set, and derivatives that follow it: free of units, flagged where there are none."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce


SOLVER = pounce.InteriorPoint()


def _in_units(q):
    """``min o ((u0 - a)^2 + 3 (u1 - b)^2 + u0 u1 / 2)`` with ``r (u0 + u1) <= 2 r``, ``u0 >= 0`` in units d of the variables."""
    problem = pounce.NLP(
        lambda x, p: p["o"] * _cost(x / p["d"], p["t"]),
        lambda x, p: p["r"] * jnp.sum(x / p["d"])[None],
        lb=jnp.array([0.0, -jnp.inf]),
        cu=2.0 * q["r"][None],
    )
    s = pounce.solve(problem, SOLVER, q["d"] * jnp.array([0.5, 0.5]), q)
    return s.x / q["d"], s


def _cost(u, t):
    return (u[0] - t[0]) ** 2 + 3 * (u[1] - t[1]) ** 2 + 0.5 * u[0] * u[1]


def _stack(targets):
    scales = [(o, r, d0, d1) for o, r, d0, d1 in itertools.product((1e-3, 1e4), (1e-4, 1e3), (1e-3, 1e2), (1.0, 1e4))]
    rows = [(t, *scale) for t in targets for scale in scales]
    t, o, r, d0, d1 = (jnp.array([row[k] for row in rows]) for k in range(5))
    return dict(t=t, o=o, r=r, d=jnp.stack([d0, d1], axis=1)), len(scales)


@pytest.fixture(scope="module")
def found():
    """All of it in one program: regular targets first, then kinks."""

    def both(q):
        jacobian, s = jax.jacrev(lambda t: _in_units(q | {"t": t}), has_aux=True)(q["t"])
        return jacobian, s

    # u0 at its bound; nothing active; the row active; kinks: the minimiser on the bound, and on the row
    targets = [(-1.0, 0.4), (0.8, 0.3), (2.0, 1.5), (0.15, 0.6), (1.1 + 0.225, 0.9 + 11 / 120)]
    stack, count = _stack(targets)
    return jax.jit(jax.vmap(both))(stack), count


def test_derivatives_in_any_units(found):
    """By hand: with the bound active du1/dt1 = 1; with nothing active H du = diag(2, 6) dt; on the row du0 = -du1."""
    (jacobians, s), count = found
    H, D = np.array([[2.0, 0.5], [0.5, 6.0]]), np.diag([2.0, 6.0])
    along = np.array([1.0, -1.0])
    truths = [np.diag([0.0, 1.0]), np.linalg.solve(H, D), np.outer(along, along @ D) / (along @ H @ along)]
    for k, truth in enumerate(truths):
        part = slice(k * count, (k + 1) * count)
        assert np.all(s.success[part])
        said = np.asarray(s.quality.differentiable[part])
        error = np.abs(np.asarray(jacobians[part]) - truth).max((1, 2))
        assert np.all((error < 1e-6) | ~said), (k, error)
        assert said.mean() > 0.9 and np.all(s.quality.margin[part][said] > 0.5)
    active = s.active
    assert np.all(active.lower[:count, 0]) and not np.any(active.rows_upper[: 2 * count])
    assert np.all(active.rows_upper[2 * count : 3 * count]) and not np.any(active.lower[count : 3 * count])


def test_kinks_in_any_units(found):
    (jacobians, s), count = found
    kinks = slice(3 * count, 5 * count)
    assert not np.any(s.quality.differentiable[kinks])
    assert np.all(s.quality.margin[kinks] < 1e-2)
    assert np.all(np.isfinite(jacobians[kinks])) and np.abs(jacobians[kinks]).max() < 10


def test_flat_curvature_is_flagged():
    """A sphere of minimisers: the Hessians of f and of the row cancel, whatever is left has the sign of the solver's error."""
    problem = pounce.NLP(lambda x, p: p[0] * (x @ x), lambda x, p: p[1] * (x @ x)[None], cl=1.0)
    run = jax.jit(jax.vmap(jax.value_and_grad(lambda p: _first(problem, jnp.array([0.6, 0.3, 0.2]), p), has_aux=True)))
    (_, s), gradient = run(jnp.array([[3.0, 0.5], [1e-2, 4.0], [1e3, 1e2]]))
    assert np.all(s.success) and not np.any(s.quality.differentiable) and np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() < 1e8


def _first(problem, x0, p):
    s = pounce.solve(problem, SOLVER, x0, p)
    return s.x[0], s


def test_square_programs_are_certified():
    problem = pounce.NLP(
        lambda x, p: x[0], lambda x, p: jnp.stack([x[0] ** 2 + x[1] - p, x[0] - 3 * x[1]]), cl=0.0, cu=0.0
    )
    gradient, s = jax.jit(jax.grad(lambda p: _first(problem, jnp.array([1.0, 1.0]), p), has_aux=True))(2.0)
    assert int(s.status) == 0 and bool(s.quality.differentiable) and bool(s.quality.inertia_correct)
    x = (-1 / 3 + np.sqrt(1 / 9 + 8)) / 2
    np.testing.assert_allclose([s.x[0], gradient], [x, 1 / (2 * x + 1 / 3)], rtol=1e-6)
    assert float(s.residuals.kkt_error) < 1e-8


def test_equalities_come_before_bounds():
    """Full tanks in a row: each level is what flows in from the one before, the first is given and at its bound."""
    n = 4

    def rows(x, p):
        return jnp.concatenate([x[:1] - p, x[1:] - 0.5 * x[:-1] - 0.1])

    problem = pounce.NLP(lambda x, p: jnp.sum((x - 2) ** 2), rows, lb=0.0, ub=1.0, cl=0.0, cu=0.0)
    rate = jax.jit(jax.vmap(jax.jacfwd(lambda p: pounce.solve(problem, SOLVER, jnp.full(n, 0.5), p).x)))
    at = rate(jnp.array([0.0, 0.3, 1.0]))
    np.testing.assert_allclose(at, np.tile(0.5 ** np.arange(n), (3, 1)), rtol=1e-5)


def test_what_reaches_zero_first_gives_way():
    """``x0 + x1 = p`` at p = 0 with both at their bounds: the cheaper one follows."""
    problem = pounce.NLP(
        lambda x, p: 2 * x[0] + x[1] + x[0] ** 2, lambda x, p: jnp.sum(x)[None] - p, lb=0.0, cl=0.0, cu=0.0
    )
    rate, s = jax.jit(
        jax.jacfwd(lambda p: (lambda s: (s.x, s))(pounce.solve(problem, SOLVER, jnp.ones(2), p)), has_aux=True)
    )(0.0)
    np.testing.assert_allclose(rate, [0.0, 1.0], atol=1e-5)
    assert not bool(s.quality.regular) and not bool(s.quality.differentiable)


def test_a_sparse_matrix_is_judged_by_its_solves():
    """Rows whose first entry vanishes for one parameter: a pivot that was good for the other."""
    blocks = 6

    def rows(z, w):
        Z = z.reshape(blocks, 2)
        return jnp.concatenate([w * Z[:, 0] + (2 - w) * Z[:, 1], Z[:-1, 0] + Z[1:, 1]])

    f = lambda z, w: jnp.sum((z - jnp.arange(2 * blocks) / 7) ** 2)
    for order in ((2.0, 0.0), (0.0, 2.0)):
        problem = pounce.NLP(lambda z, w: f(z, w), rows, lb=-50.0, ub=50.0, cl=1.0, cu=1.0, sparse=True)
        for w in order:
            s = pounce.solve(problem, SOLVER, jnp.ones(2 * blocks), w)
            assert int(s.status) == 0 and bool(s.quality.differentiable), (w, s.quality.linear_residual)


def test_what_a_row_cannot_hold_is_no_solution():
    """Nothing holds these objectives from below; at y = 1e13 a multiplier of 1e-14, of the wrong sign, would."""
    for row in (lambda y, p: (y[0] ** 2 - 3 * y[0])[None], lambda y, p: (y[0] * y[1] - 4.0)[None]):
        problem = pounce.NLP(lambda y, p: -jnp.sum(p * y), row, lb=0.0, cl=0.0)
        s = jax.jit(lambda p: pounce.solve(problem, pounce.InteriorPoint(max_iter=200), jnp.array([5.0, 5.0]), p))(
            jnp.array([2.0, 1.0])
        )
        assert not bool(s.success), int(s.status)


def test_failed_lanes_promise_nothing():
    problem = pounce.NLP(lambda x, p: x @ x, lambda x, p: jnp.stack([x[0], -x[0]]), cl=jnp.array([1.0, 1.0]))
    s = pounce.solve(problem, SOLVER, jnp.zeros(2))
    assert not bool(s.success) and not bool(s.quality.differentiable) and np.isnan(s.quality.margin)
