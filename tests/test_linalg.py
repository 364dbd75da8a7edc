"""Contract of the dense KKT solvers, on systems as they come late in a solve."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from pounce._linalg.dense import CondensedCholesky, NullSpaceCholesky, PivotedLU
from pounce._linalg.equilibrated import Equilibrated
from pounce._linalg.kkt import KKTOperator
from pounce._linalg.powers_of_two import geometric_mean, nearest_power_of_two
from pounce._linalg.refinement import Falling, refined_solve


N, M, EQUALITIES = 12, 6, 3
SOLVERS = {
    "condensed": CondensedCholesky(),
    "null-space": NullSpaceCholesky(),
    "lu": PivotedLU(),
    "oracle": PivotedLU(exact_inertia=True),
}


def system(seed, curvature=1.0, dependent=False):
    """H with barrier terms from 1e-8 to 1e8 on its diagonal; the first rows are equalities, the others have 1e-8 < D < 1e8."""
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(N, N))
    hessian = b @ b.T / N + np.diag(10.0 ** rng.uniform(-8, 8, N) * (rng.random(N) < 0.4))
    jacobian = rng.normal(size=(M, N))
    if dependent:
        jacobian[1] = 2 * jacobian[0]
    if curvature < 0:
        # Negative curvature along a direction the equality rows leave free.
        basis = np.linalg.svd(jacobian)[2][M:]
        hessian = hessian - (np.abs(hessian).max() + 10.0) * np.outer(basis[0], basis[0])
    diagonal = np.concatenate([np.zeros(EQUALITIES), 10.0 ** rng.uniform(-8, 8, M - EQUALITIES)])
    return KKTOperator(*map(jnp.asarray, (hessian, jacobian, diagonal)))


@pytest.mark.parametrize("name", SOLVERS)
def test_refined_residual_is_at_machine_precision(name):
    solver = SOLVERS[name]

    @jax.jit
    def run(operator, rhs):
        factor = solver.init(operator, {})
        refined = refined_solve(operator.mv, lambda v: solver.compute(factor, v, {})[0], rhs, Falling())
        return refined.known.ratio, solver.inertia(factor).correct

    for seed in range(30):
        operator = system(seed)
        rhs = jax.random.normal(jax.random.key(seed), (N,)), jax.random.normal(jax.random.key(seed + 100), (M,))
        ratio, correct = run(operator, rhs)
        assert bool(correct)
        assert float(ratio) < 1e-10


@pytest.mark.parametrize("name", SOLVERS)
def test_inertia(name):
    solver = SOLVERS[name]
    inertia = jax.jit(lambda operator: solver.inertia(solver.init(operator, {})))
    for seed in range(20):
        good, bad = system(seed), system(seed, curvature=-1.0)
        values = np.linalg.eigvalsh(np.asarray(bad.as_matrix()))
        assert np.sum(values < 0) > M
        assert bool(inertia(good).correct)
        assert not bool(inertia(bad).correct)


def test_null_space_sees_dependent_rows():
    solver = SOLVERS["null-space"]
    inertia = jax.jit(lambda operator: solver.inertia(solver.init(operator, {})))
    for seed in range(20):
        assert bool(inertia(system(seed, dependent=True)).singular)
        assert not bool(inertia(system(seed)).singular)


@pytest.mark.parametrize("name", SOLVERS)
def test_lineax_contract(name):
    """`linear_solve` with a held factor: value, transpose, batch, and derivative with respect to the operator."""
    solver, operator = Equilibrated(SOLVERS[name]), system(3)
    rhs = jnp.arange(N) / N, jnp.arange(M) / M
    factor = solver.init(operator, {})

    def solve(rhs, operator=operator):
        return lx.linear_solve(operator, rhs, solver, state=factor, throw=False).value

    dense = jnp.linalg.solve(operator.as_matrix(), jnp.concatenate(rhs))
    np.testing.assert_allclose(jnp.concatenate(solve(rhs)), dense, rtol=1e-6, atol=1e-9)
    batch = jnp.stack([rhs[0], 2 * rhs[0]]), jnp.stack([rhs[1], 2 * rhs[1]])
    np.testing.assert_allclose(jax.vmap(solve)(batch)[0][1], 2 * solve(rhs)[0], rtol=1e-9)
    weight = jnp.cos(jnp.arange(N)), jnp.sin(jnp.arange(M))
    forward = sum(jnp.vdot(w, s) for w, s in zip(weight, solve(rhs)))
    back = jax.linear_transpose(solve, rhs)(weight)[0]
    np.testing.assert_allclose(forward, sum(jnp.vdot(b, r) for b, r in zip(back, rhs)), rtol=1e-7)

    def entry(t):
        moved = KKTOperator(operator.hessian + t * jnp.eye(N), operator.jacobian, operator.diagonal)
        return lx.linear_solve(moved, rhs, solver, throw=False).value[0]

    h = 1e-6
    slope = jax.jvp(entry, (0.0,), (1.0,))[1]
    np.testing.assert_allclose(slope, (entry(h) - entry(-h)) / (2 * h), rtol=1e-3, atol=1e-5)


def test_no_rows():
    operator = KKTOperator(jnp.diag(jnp.array([1.0, 2.0])), jnp.zeros((0, 2)), jnp.zeros(0))
    for solver in (CondensedCholesky(), PivotedLU()):
        x, y = solver.compute(solver.init(operator, {}), (jnp.ones(2), jnp.zeros(0)), {})[0]
        np.testing.assert_allclose(x, [1, 0.5], rtol=1e-6)
        assert y.shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_of_two_are_exact(dtype):
    """The nearest by ratio, without a rounding of a library's exponential; zeros are left out of a mean."""
    rng = np.random.default_rng(0)
    x = np.concatenate([10.0 ** rng.uniform(-30, 30, 200), 2.0 ** np.arange(-100, 100)]).astype(dtype)
    expected = np.ldexp(np.ones_like(x), np.round(np.log2(x)).astype(int))
    np.testing.assert_array_equal(
        nearest_power_of_two(jnp.asarray(x) * np.where(rng.random(400) < 0.5, 1, -1)), expected
    )
    assert float(nearest_power_of_two(jnp.zeros((), dtype))) == 0
    assert np.isinf(nearest_power_of_two(jnp.asarray([np.inf, np.nan], dtype))).all()
    assert float(geometric_mean(jnp.asarray([0, -4, 64, 0], dtype))) == 16
    assert float(geometric_mean(jnp.zeros(3, dtype))) == float(geometric_mean(jnp.zeros(0, dtype))) == 1
