"""Sparse programs of any pattern share what is compiled for their class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps

from pounce import QpFactorization, solve_qp
from pounce._linalg import matrix
from pounce._linalg.entries import Entries, TabledMatrix
from pounce._linalg.sparse import Pattern, SparseMatrix
from pounce._linalg.sparse_ldl import analyze, by_columns
from pounce._linalg.sparse_ldl.fitting import fitted, needed
from pounce._qp.kernel import kernel_for
from pounce._qp.size_class import unpadded


def program(seed, n=260, p=120, m=200, quadratic=True):
    """A program with a feasible point inside and bounds."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    data = dict(c=random.normal(size=n), lb=x - random.uniform(0, 2, n), ub=x + random.uniform(0, 2, n))
    if quadratic:
        data["P"] = sps.diags_array(random.uniform(0, 2, n), format="csr")
    for name, right, rows, slack in (("A", "b", p, 0.0), ("G", "h", m, 1.0)):
        if rows:
            # A diagonal keeps the rows independent.
            random_part = sps.random_array((rows, n), density=3 / n, rng=random)
            data[name] = sps.csr_array(random_part + sps.eye_array(rows, n))
            data[right] = data[name] @ x + slack * random.uniform(0, 1, rows)
    return data


def assert_equal(first, second, atol=1e-9):
    assert (first.status, first.iters) == (second.status, second.iters)
    for name in ("x", "y", "z", "s", "z_lb", "z_ub"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=atol, rtol=atol, err_msg=name)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere a factor goes by levels")
def test_patterns_share_programs():
    data = program(0)
    result = solve_qp(**data)
    made = kernel_for.cache_info().misses
    shapes = [(250, 100, 251), (300, 0, 250), (400, 150, 100), (270, 140, 100), (510, 330, 0)]
    for seed, (n, p, m) in enumerate(shapes):
        other = program(seed, n, p, m, quadratic=bool(seed % 2))
        found = solve_qp(**other)
        assert found.success and found.kkt_error < 1e-7
        assert [v.shape[0] for v in (found.x, found.y, found.z, found.s, found.z_ub)] == [n, p, m, m, n]
    crossed = data | dict(b=data["b"] + np.where(np.arange(120) == 3, 1e3, 0.0))
    infeasible = solve_qp(**crossed)
    assert infeasible.status == "primal_infeasible"
    unbounded = program(1, 300, 0, 250, quadratic=False)
    unbounded |= dict(lb=np.full(300, -np.inf), ub=np.full(300, np.inf), G=abs(unbounded["G"]), c=np.ones(300))
    assert solve_qp(**unbounded).status == "dual_infeasible"
    solver = QpFactorization(**data)
    assert_equal(solver.solve(**data), result, atol=0)
    assert kernel_for.cache_info().misses == made
    with unpadded():
        assert_equal(result, solve_qp(**data))
        assert_equal(infeasible, solve_qp(**crossed), atol=1e-7)


def test_warm_starts_of_sparse_programs():
    data = program(0)
    cold = solve_qp(**data)
    again = solve_qp(**data | dict(c=data["c"] + 1e-4), warm_start=cold)
    assert again.success and again.iters < cold.iters


RANDOM = np.random.default_rng(0)
DENSE = np.where(RANDOM.uniform(size=(6, 5)) < 0.4, RANDOM.normal(size=(6, 5)), 0.0)


def tabled(dense, size, shape, symmetric=False):
    pattern = Pattern.of(np.tril(dense) if symmetric else dense)
    values = np.zeros(size)
    values[: pattern.nnz] = dense[pattern.rows, pattern.columns]
    return TabledMatrix(jnp.asarray(values), Entries.of(pattern, size, shape, symmetric))


def test_tables_are_the_matrix():
    with jax.enable_x64(True):
        given, x, y = tabled(DENSE, 32, (8, 7)), np.arange(7.0), np.arange(8.0)
        whole = np.zeros((8, 7))
        whole[:6, :5] = DENSE
        np.testing.assert_allclose(matrix.times(given, x), whole @ x)
        np.testing.assert_allclose(matrix.transposed_times(given, y), whole.T @ y)
        both = matrix.stacked(given, matrix.row_scaled(given, y))
        stacked = np.vstack([whole, y[:, None] * whole])
        np.testing.assert_allclose(both @ x, stacked @ x)
        np.testing.assert_allclose(both.transposed_times(np.arange(16.0)), stacked.T @ np.arange(16.0))
        np.testing.assert_allclose(matrix.column_sizes(given), np.abs(whole).max(axis=0))
        np.testing.assert_allclose(matrix.row_sizes(matrix.column_scaled(given, x)), np.abs(whole * x).max(axis=1))
        square = DENSE.T @ DENSE + np.eye(5)
        given, whole = tabled(square, 20, (7, 7), True), np.zeros((7, 7))
        whole[:5, :5] = square
        np.testing.assert_allclose(matrix.symmetric_times(given, x), whole @ x)
        np.testing.assert_allclose(matrix.diagonal(matrix.plus_diagonal(given, x))[:5], np.diag(square) + x[:5])


@pytest.mark.parametrize("size, room_for_tail", [(40, False), (40, True), (700, True)])
def test_fitted_tables_factorize_the_same_matrix(size, room_for_tail):
    """The larger one has a tail."""
    random = np.random.default_rng(size)
    m = size // 2
    jacobian = Pattern.of(sps.random_array((m, size), density=3 / size, rng=random) + sps.eye_array(m, size))
    hessian = Pattern(np.arange(size), np.arange(size), (size, size))
    symbolic = analyze(hessian, jacobian, pairs=False, tail=True, schedule="columns")
    own = needed(symbolic)
    assert (sum(own.tail) > 0) == (size == 700)
    values = np.concatenate([random.uniform(1, 2, size), random.normal(size=jacobian.nnz), np.full(m, -1.0)])
    right = random.normal(size=size + m)
    tail = tuple(k + 5 if room_for_tail else 0 for k in own.tail)
    blocks = own.blocks + sum(tail) * (sum(tail) + 1) // 2
    room = own._replace(
        values=own.values + 30,
        unknowns=own.unknowns + 9,
        pivots=own.pivots + 20,
        blocks=blocks,
        left=own.left + 3,
        tail=tail,
    )
    source, unknown = np.arange(own.values) + 7, np.concatenate([np.arange(size), size + 4 + np.arange(m)])
    larger = fitted(symbolic, room, source, unknown)
    with jax.enable_x64(True):

        def solved(tables, values, right):
            factor = by_columns.factorize(tables, values, 1e-10)
            return by_columns.solve(tables, factor, right), factor.negative

        x, negative = solved(symbolic, jnp.asarray(values), jnp.asarray(right))
        padded, places = np.full(room.values, np.nan), np.zeros(room.unknowns)
        padded[source], places[unknown] = values, right
        y, same = solved(larger, jnp.asarray(padded), jnp.asarray(places))
        np.testing.assert_allclose(np.asarray(y)[unknown], x, rtol=1e-9, atol=1e-12)
        assert int(negative) == int(same) == int(larger.counts.duals) == m
        assert not np.any(np.delete(np.asarray(y), unknown))
        operator = SparseMatrix(jnp.asarray(values[size : size + jacobian.nnz]), jacobian)
        np.testing.assert_allclose(operator @ x[:size] - x[size:], right[size:], atol=1e-7)
