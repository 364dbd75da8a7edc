"""The sparse L D L' of KKT matrices: inertia, residuals, batching, derivatives, and what it does where there is no inverse."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sps

from pounce._linalg.equilibrated import Equilibrated
from pounce._linalg.kkt import KKTOperator
from pounce._linalg.refinement import Falling, refined_solve
from pounce._linalg.sparse import Pattern, SparseMatrix
from pounce._linalg.sparse_ldl import SparseLDL, analyze, batching, rematch
from pounce._linalg.sparse_ldl.dissection import nested_dissection
from pounce._linalg.sparse_ldl.elimination import columns_of_factor, elimination_tree
from pounce._linalg.sparse_ldl.matching import match


N, M = 24, 12


def patterns(seed=0, n=N, m=M):
    """A banded Hessian and a random Jacobian of full structural rank, on lower triangle and rows."""
    rng = np.random.default_rng(seed)
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 2
    hessian = Pattern.of(np.tril(near & ((rng.random((n, n)) < 0.7) | np.eye(n, dtype=bool))))
    jacobian = rng.random((m, n)) < 0.12
    jacobian[np.arange(m), rng.permutation(n)[:m]] = True
    return hessian, Pattern.of(jacobian)


HESSIAN, JACOBIAN = patterns()
SCHEDULES = ("columns", "levels")
SOLVERS = {
    schedule: SparseLDL(jax.tree.map(jnp.asarray, analyze(HESSIAN, JACOBIAN, schedule=schedule)))
    for schedule in SCHEDULES
}
SOLVER = SOLVERS["columns"]


def system(seed, shift=0.0, equalities=M // 2):
    """Barrier terms from 1e-4 to 1e4 on the diagonal of H less ``shift``; D = 0 in the first rows."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=HESSIAN.nnz)
    on = HESSIAN.rows == HESSIAN.columns
    barrier = 10.0 ** rng.uniform(-4, 4, N) * (rng.random(N) < 0.3)
    values[on] = np.abs(values[on]) + 2.0 + barrier - shift
    diagonal = np.where(np.arange(M) < equalities, 0.0, 10.0 ** rng.uniform(-4, 4, M))
    return KKTOperator(
        SparseMatrix(jnp.asarray(values), HESSIAN),
        SparseMatrix(jnp.asarray(rng.normal(size=JACOBIAN.nnz)), JACOBIAN),
        jnp.asarray(diagonal),
    )


def stacked(operators):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *operators)


def vectors(seed, *lead):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(*lead, N))), jnp.asarray(rng.normal(size=(*lead, M)))


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return request.param


@pytest.fixture
def solver(schedule):
    return SOLVERS[schedule]


@pytest.fixture(scope="module")
def batch():
    return [system(seed, shift=(0.0, 3.0, 30.0)[seed % 3]) for seed in range(200)]


def test_operator():
    operator = system(3)
    matrix = np.asarray(operator.as_matrix())
    x, y = vectors(0)
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(np.concatenate(operator.mv((x, y))), matrix @ np.concatenate([x, y]))
    assert np.allclose(lx.diagonal(operator), np.diag(matrix))
    assert lx.is_symmetric(operator) and not lx.is_positive_semidefinite(operator)


def test_the_schedule_is_that_of_the_machine():
    assert type(analyze(HESSIAN, JACOBIAN)) is type(SOLVERS["columns"].symbolic)


def test_inertia_is_that_of_the_eigenvalues(batch, solver):
    state = jax.jit(jax.vmap(lambda operator: solver.init(operator, {})))(stacked(batch))
    values = np.linalg.eigvalsh(np.stack([operator.as_matrix() for operator in batch]))
    negative = np.sum(values < 0, axis=1)
    assert np.array_equal(state.factor.negative, negative)
    assert np.all(state.factor.perturbed == 0)
    assert np.array_equal(state.correct, negative == M)
    assert 0 < np.sum(negative == M) < len(batch)


def test_residual_is_at_machine_precision_after_refinement(batch, solver):
    @jax.jit
    def run(operators, rhs):
        def one(operator, rhs):
            state = solver.init(operator, {})
            return refined_solve(operator.mv, lambda v: solver.compute(state, v, {})[0], rhs, Falling()).known.ratio

        return jax.vmap(one)(operators, rhs)

    assert float(jnp.max(run(stacked(batch), vectors(0, len(batch))))) < 1e-14


@pytest.mark.parametrize("fits", [True, False])
def test_batch_is_its_lanes(batch, solver, fits, monkeypatch):
    """Some lanes side by side, or one after the other where their factors would not fit the cache."""
    monkeypatch.setattr(batching, "CACHE_BYTES", batching.CACHE_BYTES if fits else 0)
    operators, rhs = stacked(batch[:19]), vectors(1, 19)

    def solve(operator, rhs):
        state = solver.init(operator, {})
        return solver.compute(state, rhs, {})[0], state

    batched = jax.jit(jax.vmap(solve))(operators, rhs)
    single = jax.jit(solve)
    for k in range(19):
        alone = single(*jax.tree.map(lambda leaf: leaf[k], (operators, rhs)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[k], b, rtol=1e-9, atol=1e-12), batched, alone)


def test_several_right_hand_sides(solver):
    operator, rhs = system(4), vectors(2, 2 * batching.RIGHT_SIDES + 3)
    state = solver.init(operator, {})
    solutions = jax.vmap(lambda v: solver.compute(state, v, {})[0])(rhs)
    dense = np.linalg.solve(np.asarray(operator.as_matrix()), np.concatenate(rhs, axis=1).T).T
    np.testing.assert_allclose(np.concatenate(solutions, axis=1), dense, rtol=1e-8, atol=1e-10)


def test_several_right_hand_sides_of_a_batch(batch, solver):
    operators, rhs = stacked(batch[:3]), vectors(3, 3, 2)
    states = jax.vmap(lambda operator: solver.init(operator, {}))(operators)
    solve = jax.vmap(jax.vmap(lambda s, v: solver.compute(s, v, {})[0], in_axes=(None, 0)))
    x, y = solve(states, rhs)
    for k in range(3):
        dense = np.linalg.solve(np.asarray(batch[k].as_matrix()), np.concatenate([rhs[0][k], rhs[1][k]], axis=1).T).T
        np.testing.assert_allclose(np.concatenate([x[k], y[k]], axis=1), dense, rtol=1e-7, atol=1e-9)


def test_lineax_contract():
    """`linear_solve`: value, gradients with respect to operator and vector, and a batch of them, against dense algebra."""
    solver = Equilibrated(SOLVER)
    operator, rhs = system(5), vectors(4)

    def dense(operator, rhs):
        return jnp.sum(jnp.linalg.solve(operator.as_matrix(), jnp.concatenate(rhs)) ** 2)

    def sparse(operator, rhs):
        x, y = lx.linear_solve(operator, rhs, solver).value
        return jnp.sum(x**2) + jnp.sum(y**2)

    ours = jax.jit(jax.value_and_grad(sparse, argnums=(0, 1)))(operator, rhs)
    theirs = jax.jit(jax.value_and_grad(dense, argnums=(0, 1)))(operator, rhs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), ours, theirs)
    operators, many = stacked([system(seed) for seed in (5, 6, 7)]), vectors(5, 3)
    ours = jax.jit(jax.vmap(jax.grad(sparse)))(operators, many)
    theirs = jax.jit(jax.vmap(jax.grad(dense)))(operators, many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), ours, theirs)


def singular_systems():
    operator = system(8, equalities=M)
    n, m = JACOBIAN.shape[1], JACOBIAN.shape[0]
    nothing = jax.tree.map(jnp.zeros_like, operator)
    no_row = jnp.where(jnp.asarray(JACOBIAN.rows) == 0, 0.0, operator.jacobian.values)
    del n, m
    return {
        "zero": nothing,
        "zero row": KKTOperator(operator.hessian, SparseMatrix(no_row, JACOBIAN), operator.diagonal),
    }


@pytest.mark.parametrize("name", ["zero", "zero row"])
def test_a_singular_matrix_is_never_correct(name, solver):
    operator = singular_systems()[name]
    state = jax.jit(lambda operator: solver.init(operator, {}))(operator)
    assert not bool(solver.inertia(state).correct)
    assert bool(solver.inertia(state).singular)
    solution = solver.compute(state, vectors(6), {})[0]
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((state, solution)))


def test_dependent_rows_are_singular(schedule):
    # Two equal rows and a third that is free of them.
    hessian = Pattern.of(np.eye(4))
    jacobian = Pattern.of(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]))
    solver = SparseLDL(jax.tree.map(jnp.asarray, analyze(hessian, jacobian, schedule=schedule)))
    for rows, singular in (([1.0, 2.0, 1.0, 2.0, 1.0, 1.0], True), ([1.0, 2.0, 1.0, -2.0, 1.0, 1.0], False)):
        operator = KKTOperator(
            SparseMatrix(jnp.ones(4), hessian), SparseMatrix(jnp.asarray(rows), jacobian), jnp.zeros(3)
        )
        state = solver.init(operator, {})
        inertia = solver.inertia(state)
        assert bool(inertia.singular) == singular
        assert bool(inertia.correct) != singular
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state))


def test_nan_is_never_correct(solver):
    correct = jax.jit(lambda operator: solver.inertia(solver.init(operator, {})).correct)
    operator = system(9)
    assert bool(correct(operator))
    for k in range(HESSIAN.nnz):
        values = operator.hessian.values.at[k].set(jnp.nan)
        broken = KKTOperator(SparseMatrix(values, HESSIAN), operator.jacobian, operator.diagonal)
        assert not bool(correct(broken))


@pytest.mark.parametrize(("n", "m"), [(1, 0), (1, 1), (5, 0), (3, 7)])
def test_small_and_odd_shapes(n, m, schedule):
    rng = np.random.default_rng(n + m)
    jacobian = Pattern.full(m, n)
    hessian = Pattern.of(np.tril(np.ones((n, n))))
    values = rng.normal(size=hessian.nnz) + 10.0 * (hessian.rows == hessian.columns)
    diagonal = np.where(np.arange(m) < min(m, n), 0.0, 0.1)
    operator = KKTOperator(
        SparseMatrix(jnp.asarray(values), hessian),
        SparseMatrix(jnp.asarray(rng.normal(size=m * n)), jacobian),
        jnp.asarray(diagonal),
    )
    solver = SparseLDL(analyze(hessian, jacobian, equality=diagonal == 0, schedule=schedule))
    rhs = jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.normal(size=m))
    state = solver.init(operator, {})
    dense = np.asarray(operator.as_matrix())
    assert int(state.factor.negative) == np.sum(np.linalg.eigvalsh(dense) < 0)
    np.testing.assert_allclose(
        np.concatenate(solver.compute(state, rhs, {})[0]), np.linalg.solve(dense, np.concatenate(rhs)), rtol=1e-8
    )


def test_hessian_without_diagonal(schedule):
    """A linear program: no entry of H at all."""
    rng = np.random.default_rng(0)
    n = 6
    jacobian = Pattern.of(sps.random(n, n, 0.3, random_state=1) + sps.eye(n))
    hessian = Pattern([], [], (n, n))
    operator = KKTOperator(
        SparseMatrix(jnp.zeros(0), hessian),
        SparseMatrix(jnp.asarray(rng.normal(size=jacobian.nnz)), jacobian),
        jnp.zeros(n),
    )
    solver = SparseLDL(analyze(hessian, jacobian, schedule=schedule))
    state = solver.init(operator, {})
    assert bool(solver.inertia(state).correct)
    rhs = jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.normal(size=n))
    solution = np.concatenate(solver.compute(state, rhs, {})[0])
    np.testing.assert_allclose(np.asarray(operator.as_matrix()) @ solution, np.concatenate(rhs), atol=1e-9)


def test_rematching_finds_better_pivots_without_a_compilation(schedule):
    """Row 0 is matched to its only large entry; when that one fades, another takes over, in tables of the same shapes."""
    traces = []

    @jax.jit
    def growth(solver, operator):
        traces.append(1)
        state = solver.init(operator, {})
        return state.growth, state.correct

    operator = system(10, equalities=M)
    pair = match(JACOBIAN, operator.jacobian.values, None, None)
    faded = (JACOBIAN.columns == pair[JACOBIAN.rows]) & (np.bincount(JACOBIAN.rows)[JACOBIAN.rows] > 1)
    values = [np.asarray(v) for v in (operator.hessian.values, operator.jacobian.values, operator.diagonal)]
    first = analyze(HESSIAN, JACOBIAN, *values[:2], schedule=schedule)
    values[1] = np.where(faded, 1e-7 * values[1], values[1])
    operator = KKTOperator(operator.hessian, SparseMatrix(jnp.asarray(values[1]), JACOBIAN), operator.diagonal)
    second = rematch(first, HESSIAN, JACOBIAN, *values)
    (stale, _), (fresh, correct) = growth(SparseLDL(first), operator), growth(SparseLDL(second), operator)
    assert float(fresh) < 1e-3 * float(stale)
    assert bool(correct)
    assert len(traces) == 1


def test_without_pairs(batch, schedule):
    """Regularised pivots of size one: the same inertia, and as exact after refinement."""
    solver = SparseLDL(jax.tree.map(jnp.asarray, analyze(HESSIAN, JACOBIAN, pairs=False, schedule=schedule)))

    @jax.jit
    def run(operators, rhs):
        def one(operator, rhs):
            state = solver.init(operator, {})
            solve = lambda v: solver.compute(state, v, {})[0]
            return state.factor.negative, refined_solve(operator.mv, solve, rhs, Falling(ratio_max=1e-13)).known.ratio

        return jax.vmap(one)(operators, rhs)

    negative, ratio = run(stacked(batch[:24]), vectors(7, 24))
    values = np.linalg.eigvalsh(np.stack([operator.as_matrix() for operator in batch[:24]]))
    assert np.array_equal(negative, np.sum(values < 0, axis=1))
    assert float(jnp.max(ratio)) < 1e-10


def grid(k):
    line = sps.diags_array([np.ones(k - 1), np.ones(k - 1)], offsets=[-1, 1])
    return sps.csr_array(sps.kronsum(line, line))


def test_columns_are_those_of_an_elimination():
    graph = grid(7)
    columns = columns_of_factor(graph)
    dense = (graph.toarray() != 0) | np.eye(49, dtype=bool)
    for j in range(49):
        below = np.flatnonzero(dense[:, j])
        below = below[below > j]
        dense[np.ix_(below, below)] = True
        assert np.array_equal(columns.rows[columns.start[j] : columns.start[j + 1]], below)
    parent = elimination_tree(graph)
    assert all(
        parent[j] == (columns.rows[columns.start[j]] if columns.start[j] < columns.start[j + 1] else -1)
        for j in range(49)
    )


def test_dissection_is_a_shallow_order():
    for graph, most in ((grid(30), 140), (sps.diags_array([np.ones(999), np.ones(999)], offsets=[-1, 1]).tocsr(), 24)):
        order = nested_dissection(sps.csr_array(graph))
        assert np.array_equal(np.sort(order), np.arange(graph.shape[0]))
        place = np.argsort(order)
        entries = graph.tocoo()
        renamed = sps.csr_array((entries.data, (place[entries.row], place[entries.col])), shape=graph.shape)
        assert columns_of_factor(renamed).level.max() < most


def test_matching_prefers_large_entries_and_equalities():
    jacobian = Pattern.of(np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]]))
    # By rows: (0, 0), (0, 1), (1, 0), (2, 1), (2, 2).
    assert np.array_equal(match(jacobian, np.array([1e-3, 1.0, 1.0, 1.0, 1.0]), None, None), [1, 0, 2])
    assert np.array_equal(match(jacobian, None, None, np.array([True, False, True]))[[1]], [-1])


def copies_in_loops(compiled, shape):
    """Lines of a program that copy arrays of this shape at every step of a loop."""
    text, loop = compiled.as_text(), ""
    assert shape in text
    for line in text.splitlines():
        if line and not line.startswith(" "):
            loop = "" if line.startswith(("ENTRY", "%unmarked")) else line
        if loop and f" = {shape}" in line and " copy(" in line:
            yield loop, line


def test_the_factor_is_updated_in_place(schedule, solver):
    """A copy of the buffer in a loop over chunks, levels or columns would make it the work of every step."""
    factorized = jax.jit(lambda operator: solver.init(operator, {})).lower(system(0)).compile()
    symbolic, columns = solver.symbolic, schedule == "columns"
    buffer = f"f64[{symbolic.below.shape[0]},2,2]" if columns else f"f64[{symbolic.source.shape[0]},4]"
    assert not list(copies_in_loops(factorized, buffer))
    state = factorized(system(0))
    solved = jax.jit(lambda state, rhs: solver.compute(state, rhs, {})[0]).lower(state, vectors(0)).compile()
    assert not list(copies_in_loops(solved, f"f64[{symbolic.sign.shape[0]},2]"))
