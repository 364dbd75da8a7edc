"""Sparse nonlinear programs: the same answers as dense ones, for values, derivatives and batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps

import pounce
from pounce._adjoint import nonlinear
from pounce._adjoint.nonlinear import Inputs
from pounce._lanes import CACHE_BYTES
from pounce._problem.nlp import FunctionNLP
from pounce._problem.sparse_nlp import SparseFunctionNLP, Structure, find_structure
from pounce._program import NO_BOUND, STATE
from pounce._solve import solve_and_keep
from pounce.nlp import prepare


N = 30


def objective(x, p):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2) + p * jnp.sum(x)


def rows(x, p):
    return x[:-1] * x[1:] + p * x[1:]


def program(sparse, **more):
    return pounce.NLP(objective, rows, lb=-5.0, ub=5.0, cl=0.1, cu=10.0, sparse=sparse, **more)


def solve(sparse, p, **more):
    return pounce.solve(program(sparse, **more), pounce.InteriorPoint(), jnp.full(N, 0.5), p)


def test_structure():
    found = find_structure(lambda x, p: (objective(x, p), rows(x, p)), jnp.zeros(N), 0.1)
    assert found.jacobian.count == 2 and found.jacobian.pattern.nnz == 2 * (N - 1)
    assert (
        found.hessian.count <= 3 and found.hessian.pattern.nnz == 2 * N - 1
    )  # the lower triangle of a tridiagonal matrix


@pytest.mark.parametrize("m", [0, 1, N - 1])
def test_derivatives(m):
    """All of them are those of the dense program; one row is a Jacobian to be coloured by rows."""

    def evaluate(x, p):
        c = rows(x, p)
        return objective(x, p), {0: c[:0], 1: jnp.sum(c**2)[None]}.get(m, c)

    x, weight = jnp.linspace(0.2, 1.3, N), jnp.asarray(0.7)
    y = jnp.sin(jnp.arange(1.0, m + 1))
    structure = find_structure(evaluate, x, 0.3)
    assert structure.jacobian.by == ("rows" if m == 1 else "columns") or m == 0
    dense = FunctionNLP(evaluate, 0.3).derivatives(x, y, weight, True)
    sparse = SparseFunctionNLP(evaluate, 0.3, structure).derivatives(x, y, weight, True)
    lower = sparse.hessian.todense()
    np.testing.assert_allclose(sparse.objective, dense.objective, rtol=1e-14)
    np.testing.assert_allclose(sparse.rows, dense.rows, rtol=1e-14)
    np.testing.assert_allclose(sparse.gradient, dense.gradient, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sparse.jacobian.todense(), dense.jacobian, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lower + jnp.tril(lower, -1).T, dense.hessian, rtol=1e-12, atol=1e-10)


def test_solution_and_gradient():
    """Iterations, solution, multipliers and gradients of a dense solve; then a batch against its lanes."""
    dense, sparse = (solve(kind, 0.1) for kind in (False, True))
    assert sparse.success and int(sparse.stats.iterations) == int(dense.stats.iterations)
    np.testing.assert_allclose(sparse.x, dense.x, atol=1e-8)
    np.testing.assert_allclose(sparse.multipliers.constraints, dense.multipliers.constraints, atol=1e-6)

    def total(p, kind):
        return jnp.sum(solve(kind, p).x ** 2)

    parameters = jnp.asarray([0.1, 0.4])
    wanted, found = (jax.vmap(jax.value_and_grad(total), (0, None))(parameters, kind) for kind in (False, True))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-8)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
    step = 1e-5
    difference = (total(0.1 + step, True) - total(0.1 - step, True)) / (2 * step)
    np.testing.assert_allclose(found[1][0], difference, rtol=1e-5)


def test_lanes_in_turn_inside_of_shard_map():
    """Lanes of this size go one after the other; dividing them between devices is how to use more than one core."""
    x0, p = jnp.full(300, 0.5), jnp.array([0.05, 0.1, 0.2])
    assert 8 * STATE * 5 * x0.size > CACHE_BYTES
    one = lambda p: pounce.solve(program(True), pounce.InteriorPoint(), x0, p)
    mesh = jax.make_mesh((1,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))
    lanes = jax.sharding.PartitionSpec("lanes")
    batch = jax.jit(jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=lanes, out_specs=lanes, check_vma=False))(p)
    assert np.all(batch.status == 0)
    alone = one(p[1])
    assert batch.stats.iterations[1] == alone.stats.iterations
    np.testing.assert_allclose(batch.x[1], alone.x, rtol=1e-12)


def test_gradient_reuses_the_factor_of_the_solve():
    """Whether it serves is told from the active set; tangents are those of a new factor."""
    problem = pounce.NLP(objective, rows, lb=-5.0, ub=0.4, cl=0.1, cu=10.0, sparse=True)
    program, data = prepare(problem, pounce.InteriorPoint(), np.full(N, 0.5), 0.1)

    @jax.jit
    def tangents(data):
        solver = eqx.combine(program.method.linear_solver, data.tables)
        method = eqx.tree_at(lambda m: m.linear_solver, program.method, solver)
        inputs = Inputs(program.nlp(data), data.start.bounds, data.tables)
        solution, (kept,) = solve_and_keep(method, inputs.nlp, data.start)
        rates = jax.tree.map(jnp.ones_like, eqx.filter(inputs, eqx.is_inexact_array))
        found = [
            nonlinear.tangent(inputs, rates, solution, each, solver, NO_BOUND, 0.0)
            for each in (kept, None, eqx.tree_at(lambda k: k.moving, kept, ~kept.moving))
        ]
        lin = nonlinear.linearize(inputs.nlp, solution, inputs.bounds, NO_BOUND, 0.0)
        return kept, nonlinear.reused(kept, lin)[1], found

    kept, serves, found = tangents(data)
    assert serves and bool(jnp.any(kept.held)) and not bool(jnp.all(kept.moving))
    for other in found[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found[0], other)


def test_given_patterns():
    """Supersets, triangles, SciPy matrices: what is given is taken."""
    tridiagonal = sps.diags([np.ones(N - 1), np.ones(N), np.ones(N - 1)], [-1, 0, 1])
    i = np.arange(N - 1)
    both = (np.r_[i, i, 0], np.r_[i, i + 1, N - 1])
    found, _ = prepare(
        program(True, jac_pattern=both, hess_pattern=tridiagonal), pounce.InteriorPoint(), np.full(N, 0.5), 0.1
    )
    assert isinstance(found.structure, Structure) and found.structure.jacobian.pattern.nnz == 2 * (N - 1) + 1
    for pattern, message in (
        (([0], [N]), "column index lies outside"),
        (sps.eye(N), "shape"),
        (([0, 1], [0]), "as many rows as columns"),
    ):
        with pytest.raises(ValueError, match="jac_pattern.*" + message):
            prepare(program(True, jac_pattern=pattern), pounce.InteriorPoint(), np.full(N, 0.5), 0.1)


def gentle(x, p):
    """With curvatures of one size, so that limited-memory Hessians get to the end."""
    return jnp.sum(3 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2) + p * jnp.sum(x)


def approximate(sparse, p, f=gentle, **options):
    solver = pounce.InteriorPoint(hessian_approximation="limited-memory", **options)
    problem = pounce.NLP(f, rows, lb=-5.0, ub=5.0, cl=0.1, cu=10.0, sparse=sparse)
    return pounce.solve(problem, solver, jnp.full(N, 0.5), p)


def same_path(dense, sparse):
    assert sparse.success and int(sparse.stats.iterations) == int(dense.stats.iterations)
    assert int(sparse.stats.factorizations) == int(dense.stats.factorizations)
    np.testing.assert_allclose(sparse.x, dense.x, atol=1e-7)
    np.testing.assert_allclose(sparse.multipliers.constraints, dense.multipliers.constraints, atol=1e-5)


def test_limited_memory():
    """The path of a dense solve, and exact derivatives of its end; alone and in a batch."""
    same_path(*(approximate(kind, 0.1) for kind in (False, True)))

    def total(p, kind):
        return jnp.sum(approximate(kind, p).x ** 2)

    parameters, step = jnp.asarray([0.1, 0.15]), 1e-3
    values, slopes = jax.vmap(jax.value_and_grad(total), (0, None))(parameters, True)
    for p, value, slope in zip(parameters, values, slopes):
        np.testing.assert_allclose(value, total(p, False), rtol=1e-7)
        np.testing.assert_allclose(slope, (total(p + step, False) - total(p - step, False)) / (2 * step), rtol=1e-5)


@pytest.mark.slow
def test_limited_memory_with_sr1():
    """Its matrix may be indefinite."""
    options = dict(limited_memory_update_type="sr1", limited_memory_max_history=12)
    dense, sparse = (
        approximate(kind, 0.1, lambda x, p: jnp.sum((x - p) ** 4 + x**2), **options) for kind in (False, True)
    )
    same_path(dense, sparse)


def test_limited_memory_asks_nobody_for_second_derivatives():
    """A Hessian that is full does not keep a program from being sparse."""
    problem = pounce.NLP(
        lambda x, p: jnp.sum(x * p) ** 4, rows, cl=0.1, sparse="auto", hess_pattern=np.ones((500, 500))
    )
    solver = pounce.InteriorPoint(hessian_approximation="limited-memory")
    structure = prepare(problem, solver, np.full(500, 0.5), 0.1)[0].structure
    assert structure.hessian.pattern.nnz == 500 and structure.jacobian.pattern.nnz == 2 * 499
    assert prepare(problem, pounce.InteriorPoint(), np.full(500, 0.5), 0.1)[0].structure is None


def test_auto():
    """Small problems stay dense; large sparse ones become sparse; large dense ones do not."""

    def structure(n, f, g=rows):
        problem = pounce.NLP(f, g, cl=0.0, sparse="auto")
        return prepare(problem, pounce.InteriorPoint(), np.full(n, 0.5), 0.1)[0].structure

    assert structure(N, objective) is None
    assert structure(500, objective) is not None
    assert structure(500, lambda x, p: jnp.sum(jnp.outer(x, x) ** 2) * p) is None


def test_auto_finds_out_early(monkeypatch):
    """Neither are thirty million entries listed nor is a nearly full matrix coloured."""
    monkeypatch.setattr("pounce._problem.sparse_nlp.Structure.of", None)
    for n, m in ((8000, 0), (1000, 1000)):
        problem = pounce.NLP(lambda x, p: jnp.sum(x * p) ** 4, lambda x, p: x[:m] * jnp.sum(x), cl=0.0, sparse="auto")
        assert prepare(problem, pounce.InteriorPoint(), np.ones(n), 0.1)[0].structure is None


def test_bad_input():
    with pytest.raises(ValueError, match="`sparse`"):
        program("yes")
    with pytest.raises(ValueError, match="sparse-ldl"):
        pounce.solve(program(True), pounce.InteriorPoint(linear_solver="lu"), np.full(N, 0.5), 0.1)
    with pytest.raises(ValueError, match="dense problem"):
        pounce.solve(program(False), pounce.InteriorPoint(linear_solver="stages"), np.full(N, 0.5), 0.1)
