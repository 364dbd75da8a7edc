"""Block tridiagonal L D L' of stage-structured KKT matrices."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from pounce._linalg.block_tridiagonal import BlockTridiagonalLDL, declared_stages, find_stages
from pounce._linalg.equilibrated import Equilibrated
from pounce._linalg.kkt import KKTOperator
from pounce._linalg.refinement import Falling, refined_solve
from pounce._linalg.sparse import Pattern, SparseMatrix


T, NX, NU = 24, 3, 1
WIDTH = NX + NU
N, M = T * WIDTH, T * NX


def patterns():
    """Optimal control: stage t has states and controls, row block t couples it to the states of stage t + 1."""
    hessian, jacobian = np.zeros((N, N), bool), np.zeros((M, N), bool)
    for t in range(T):
        a, r = t * WIDTH, t * NX
        hessian[a : a + WIDTH, a : a + WIDTH] = True
        jacobian[r : r + NX, a : a + WIDTH] = True
        if t + 1 < T:
            jacobian[r + np.arange(NX), a + WIDTH + np.arange(NX)] = True
    return Pattern.of(np.tril(hessian)), Pattern.of(jacobian)


HESSIAN, JACOBIAN = patterns()
# Unknowns in random order: the structure has to be found.
SHUFFLED = np.random.default_rng(0).permutation(N)
H_ROWS, H_COLUMNS = SHUFFLED[HESSIAN.rows], SHUFFLED[HESSIAN.columns]
HESSIAN = Pattern(np.maximum(H_ROWS, H_COLUMNS), np.minimum(H_ROWS, H_COLUMNS), (N, N))
JACOBIAN = Pattern(JACOBIAN.rows, SHUFFLED[JACOBIAN.columns], (M, N))
STAGES = find_stages(HESSIAN, JACOBIAN)
assert STAGES is not None
SOLVER = BlockTridiagonalLDL(jax.tree.map(jnp.asarray, STAGES))


def system(seed, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=HESSIAN.nnz)
    on = HESSIAN.rows == HESSIAN.columns
    barrier = 10.0 ** rng.uniform(-4, 4, N) * (rng.random(N) < 0.3)
    values[on] = np.abs(values[on]) + 4.0 + barrier - shift
    return KKTOperator(
        SparseMatrix(jnp.asarray(values), HESSIAN),
        SparseMatrix(jnp.asarray(rng.normal(size=JACOBIAN.nnz)), JACOBIAN),
        jnp.asarray(np.where(rng.random(M) < 0.8, 0.0, 10.0 ** rng.uniform(-4, 4, M))),
    )


def vectors(seed, *lead):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(*lead, N))), jnp.asarray(rng.normal(size=(*lead, M)))


@pytest.fixture(scope="module")
def batch():
    operators = [system(seed, shift=(0.0, 30.0)[seed % 2]) for seed in range(40)]
    return operators, jax.tree.map(lambda *leaves: jnp.stack(leaves), *operators)


def test_stages_are_found():
    count, size = SOLVER.stages.shape
    assert count >= T - 2 and size <= 3 * (WIDTH + NX)
    position = np.asarray(SOLVER.stages.position)
    assert np.unique(position).size == N + M
    stage = position // size
    assert np.all(np.abs(stage[HESSIAN.rows] - stage[HESSIAN.columns]) <= 1)
    assert np.all(np.abs(stage[N + JACOBIAN.rows] - stage[JACOBIAN.columns]) <= 1)


def test_no_stages_in_a_dense_matrix():
    assert find_stages(Pattern.full(30, 30).lower, Pattern.full(10, 30)) is None


def test_inertia_and_residuals(batch):
    operators, stacked = batch

    @jax.jit
    def run(operators, rhs):
        def one(operator, rhs):
            state = SOLVER.init(operator, {})
            refined = refined_solve(
                operator.mv, lambda v: SOLVER.compute(state, v, {})[0], rhs, Falling(ratio_max=1e-14)
            )
            return state.negative, SOLVER.inertia(state).correct, refined.known.ratio

        return jax.vmap(one)(operators, rhs)

    negative, correct, ratio = run(stacked, vectors(0, len(operators)))
    values = np.linalg.eigvalsh(np.stack([operator.as_matrix() for operator in operators]))
    assert np.array_equal(negative, np.sum(values < 0, axis=1))
    assert np.array_equal(correct, np.sum(values < 0, axis=1) == M)
    assert 0 < np.sum(correct) < len(operators)
    assert float(jnp.max(ratio)) < 1e-14


def test_declared_stages_do_the_same():
    stage = np.empty(N + M, int)
    stage[SHUFFLED] = np.arange(N) // WIDTH
    stage[N:] = np.arange(M) // NX
    stages = declared_stages(HESSIAN, JACOBIAN, stage)
    assert stages.shape == (T, WIDTH + NX + (WIDTH + NX) % 2)
    operator, rhs = system(0), vectors(1)
    solver = BlockTridiagonalLDL(stages)
    state = solver.init(operator, {})
    assert bool(solver.inertia(state).correct)
    solution = np.concatenate(solver.compute(state, rhs, {})[0])
    dense = np.linalg.solve(np.asarray(operator.as_matrix()), np.concatenate(rhs))
    np.testing.assert_allclose(solution, dense, rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="neighbouring stages"):
        declared_stages(HESSIAN, JACOBIAN, 2 * stage)


def test_lineax_contract():
    solver = Equilibrated(SOLVER)
    operator, rhs = system(2), vectors(2)

    def dense(operator, rhs):
        return jnp.sum(jnp.linalg.solve(operator.as_matrix(), jnp.concatenate(rhs)) ** 2)

    def sparse(operator, rhs):
        x, y = lx.linear_solve(operator, rhs, solver).value
        return jnp.sum(x**2) + jnp.sum(y**2)

    ours = jax.jit(jax.value_and_grad(sparse, argnums=(0, 1)))(operator, rhs)
    theirs = jax.jit(jax.value_and_grad(dense, argnums=(0, 1)))(operator, rhs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), ours, theirs)


def test_a_singular_matrix_is_never_correct():
    nothing = jax.tree.map(jnp.zeros_like, system(0))
    state = SOLVER.init(nothing, {})
    assert not bool(SOLVER.inertia(state).correct)
    solution = SOLVER.compute(state, vectors(3), {})[0]
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((state, solution)))
