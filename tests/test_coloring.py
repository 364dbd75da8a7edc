"""Colourings: valid, small where it is known how small, and derivatives that come out of them exactly as dense ones do."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._linalg.sparse import Pattern
from pounce._problem.coloring import Coloring, color_columns, color_jacobian, color_rows, color_symmetric
from pounce._problem.compressed import sparse_hessian, sparse_jacobian, value_gradient_and_hessian
from pounce._problem.sparsity import hessian_pattern, jacobian_pattern


def banded(n, below, above):
    return Pattern.of(np.tri(n, n, above, bool) & ~np.tri(n, n, -below - 1, bool))


def arrow(n):
    return Pattern.of(np.eye(n, dtype=bool) | (np.arange(n) == 0) | (np.arange(n) == 0)[:, None])


def random_pattern(seed, m, n, density):
    return Pattern.of(np.random.default_rng(seed).uniform(size=(m, n)) < density)


def random_symmetric(seed, n, density):
    some = random_pattern(seed, n, n, density)
    return some | some.transpose


def recover(coloring, dense):
    """A matrix from its products with the sums of unit vectors of each colour."""
    seeds = np.arange(coloring.count)[:, None] == coloring.colors
    products = seeds @ dense.T if coloring.by == "columns" else seeds @ dense
    return products.reshape(-1)[coloring.places]


def dense_matrix(pattern, symmetric=False):
    """Different numbers at all entries."""
    values = np.random.default_rng(0).normal(size=pattern.shape)
    values = values + values.T if symmetric else values
    return np.where(pattern.scipy().toarray() != 0, values, 0.0)


def check_direct(coloring, pattern, symmetric=False):
    dense = dense_matrix(pattern, symmetric)
    expected = dense[coloring.pattern.rows, coloring.pattern.columns]
    np.testing.assert_array_equal(recover(coloring, dense) if coloring.count else np.zeros(0), expected)


@pytest.mark.parametrize("seed", range(40))
def test_entries_of_random_patterns_stand_alone(seed):
    rng = np.random.default_rng(seed)
    pattern = random_pattern(seed, *rng.integers(1, 30, 2), rng.uniform(0, 0.5))
    for color in (color_columns, color_rows, color_jacobian):
        check_direct(color(pattern), pattern)
    assert color_jacobian(pattern).count == min(color_columns(pattern).count, color_rows(pattern).count)


def paths_of_four(adjacency):
    n = adjacency.shape[0]
    for w, x in zip(*np.nonzero(adjacency)):
        for v, y in itertools.product(np.flatnonzero(adjacency[w]), np.flatnonzero(adjacency[x])):
            if len({v, w, x, y}) == 4:
                yield v, w, x, y
    del n


@pytest.mark.parametrize("seed", range(40))
def test_star_colourings_of_random_patterns(seed):
    rng = np.random.default_rng(seed)
    pattern = random_symmetric(seed, rng.integers(1, 14), rng.uniform(0, 0.3))
    coloring = color_symmetric(pattern)
    adjacency = pattern.scipy().toarray() != 0
    np.fill_diagonal(adjacency, False)
    colors = coloring.colors
    assert all(colors[i] != colors[j] for i, j in zip(*np.nonzero(adjacency)))
    assert all(len({*colors[list(path)]}) > 2 for path in paths_of_four(adjacency))
    check_direct(coloring, pattern, symmetric=True)
    check_direct(color_symmetric(pattern.lower), pattern, symmetric=True)
    check_direct(color_symmetric(pattern.lower.transpose), pattern, symmetric=True)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_bands(n):
    assert color_columns(banded(n, 0, 1)).count == min(n, 2)
    assert color_columns(banded(n, 1, 1)).count == min(n, 3)
    assert color_symmetric(banded(n, 1, 1)).count <= min(n, 3)
    assert color_symmetric(banded(n, 2, 2)).count <= 5


def test_arrows_need_two_colours_where_columns_need_all():
    assert color_columns(arrow(200)).count == 200
    assert color_symmetric(arrow(200)).count == 2


def test_a_full_row_is_served_by_rows():
    pattern = banded(100, 0, 1) | Pattern(np.zeros(100), np.arange(100), (100, 100))
    assert color_jacobian(pattern).by == "rows"
    assert color_jacobian(pattern).count == 3
    assert color_jacobian(pattern.transpose).by == "columns"


def test_extremes():
    for pattern in (Pattern.full(4, 3), Pattern([], [], (4, 3)), Pattern([], [], (0, 3)), Pattern([], [], (3, 0))):
        check_direct(color_columns(pattern), pattern)
        check_direct(color_rows(pattern), pattern)
    assert color_symmetric(Pattern.full(5, 5)).count == 5
    assert color_symmetric(Pattern([], [], (5, 5))).count == 1
    assert color_symmetric(Pattern([], [], (0, 0))).count == 0


def test_equal_by_content():
    first, second = color_symmetric(banded(9, 1, 1)), color_symmetric(banded(9, 1, 1))
    assert first == second and hash(first) == hash(second) and first != color_columns(banded(9, 1, 1))
    assert isinstance(first, Coloring) and not first.colors.flags.writeable


# --- derivatives ------------------------------------------------------------------------------------------------------

N = 12
INDEX = np.random.default_rng(0).integers(0, N, (9, 3))


def constraints(x, p=1.0):
    return jnp.concatenate([jnp.sin(x[INDEX]).prod(axis=1) * p, x[1:] * x[:-1]])


def objective(x, p=1.0):
    return jnp.sum(p * (x[1:] - x[:-1] ** 2) ** 2) + jnp.exp(x[0] * x[N - 1]) + 3 * x[5]


POINT = jnp.asarray(np.random.default_rng(1).normal(size=N))
COLUMNS, ROWS = (color(jacobian_pattern(constraints, POINT)) for color in (color_columns, color_rows))
HESSIAN = color_symmetric(hessian_pattern(objective, POINT))
LOWER = color_symmetric(hessian_pattern(objective, POINT).lower)


@pytest.mark.parametrize("coloring", [COLUMNS, ROWS], ids=["columns", "rows"])
def test_jacobian(coloring):
    expected = jax.jacfwd(constraints)(POINT, 2.0)
    found = jax.jit(lambda x, p: sparse_jacobian(constraints, x, coloring, p).todense())(POINT, 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def test_hessian():
    value, gradient, hessian = jax.jit(lambda x: value_gradient_and_hessian(objective, x, HESSIAN))(POINT)
    np.testing.assert_allclose(value, objective(POINT), rtol=1e-14)
    np.testing.assert_allclose(gradient, jax.grad(objective)(POINT), rtol=1e-13)
    expected = jax.hessian(objective)(POINT)
    np.testing.assert_allclose(hessian.todense(), expected, rtol=1e-12, atol=1e-13)
    lower = jax.jit(lambda x: sparse_hessian(objective, x, LOWER))(POINT)
    np.testing.assert_allclose(lower.todense(), np.tril(expected), rtol=1e-12, atol=1e-13)
    v = jnp.arange(1.0, N + 1)
    np.testing.assert_allclose(lower.symmetric_times(v), expected @ v, rtol=1e-12, atol=1e-12)


def test_hessian_of_a_lagrangian():
    lagrangian = lambda x, y, weight: weight * objective(x) + y @ constraints(x)
    y = jnp.linspace(-1.0, 2.0, constraints(POINT).size)
    coloring = color_symmetric(hessian_pattern(lagrangian, POINT, y, 1.0))
    found = sparse_hessian(lagrangian, POINT, coloring, y, 0.5)
    expected = jax.hessian(lagrangian)(POINT, y, 0.5)
    np.testing.assert_allclose(found.todense(), expected, rtol=1e-12, atol=1e-13)


def test_derivatives_compose():
    batch = jnp.stack([POINT, 2 * POINT])
    found = jax.vmap(lambda x: sparse_jacobian(constraints, x, COLUMNS).todense())(batch)
    np.testing.assert_allclose(found, jax.vmap(jax.jacfwd(constraints))(batch), rtol=1e-12, atol=1e-13)
    third = jax.grad(lambda x: sparse_hessian(objective, x, HESSIAN).values.sum())(POINT)
    expected = jax.grad(lambda x: jax.hessian(objective)(x).sum())(POINT)
    np.testing.assert_allclose(third, expected, rtol=1e-11)
    forward = jax.jacfwd(lambda p: sparse_jacobian(constraints, POINT, ROWS, p).values)(1.0)
    backward = jax.jacrev(lambda p: sparse_jacobian(constraints, POINT, ROWS, p).values)(1.0)
    np.testing.assert_allclose(forward, backward, rtol=1e-12, atol=1e-14)


def test_nothing_to_compute():
    linear = lambda x: jnp.sum(x)
    coloring = color_symmetric(hessian_pattern(linear, POINT))
    value, gradient, hessian = value_gradient_and_hessian(linear, POINT, coloring)
    assert hessian.values.shape == (0,) and gradient.shape == (N,) and value.shape == ()
    empty = jacobian_pattern(lambda x: jnp.zeros(0), POINT)
    assert sparse_jacobian(lambda x: jnp.zeros(0), POINT, color_jacobian(empty)).shape == (0, N)
