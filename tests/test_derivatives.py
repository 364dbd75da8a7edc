"""The derivative rule: forward = reverse, both = central differences, second order, quality flags, failed lanes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce

from .zoo import BY_NAME, CASES, REGULAR


SOLVER = pounce.InteriorPoint(tol=1e-11, acceptable_tol=1e-10, compl_inf_tol=1e-8)


@functools.cache
def solver_of(name, quantity="primal"):
    """A jitted map from ``(p, bounds)`` to the differentiable outputs of one case."""
    case = BY_NAME[name]
    x0, _ = case.data()
    n = x0.shape[0]
    full = lambda value, size, default: jnp.broadcast_to(
        jnp.asarray(default if value is None else value, float), (size,)
    )
    m = 0 if case.g is None else case.g(x0, jnp.array(case.p, float)).shape[0]
    bounds = (full(case.lb, n, -jnp.inf), full(case.ub, n, jnp.inf), full(case.cl, m, 0.0), full(case.cu, m, 0.0))

    def outputs(p, shift):
        lb, ub, cl, cu = bounds
        rows = {} if case.g is None else {"cl": cl + shift[2], "cu": cu + shift[3]}
        problem = pounce.NLP(case.f, case.g, lb=lb + shift[0], ub=ub + shift[1], **rows)
        s = pounce.solve(problem, SOLVER, x0, p)
        return jnp.concatenate([s.x, s.multipliers.constraints, s.objective[None]]), s

    return outputs


def both_modes(function, at):
    """Jacobians by pushing forward and by pulling back one linearisation (one solve to compile), the value and the solution."""
    value, push, solution = jax.linearize(function, at, has_aux=True)
    forward = jax.vmap(push, out_axes=-1)(jnp.eye(at.size))
    (reverse,) = jax.vmap(jax.linear_transpose(push, at))(jnp.eye(value.size))
    return forward, reverse, value, solution


def central(function, at, h=1e-5):
    columns = []
    for i in range(at.size):
        e = jnp.zeros_like(at).at[i].set(h)
        columns.append((function(at + e) - function(at - e)) / (2 * h))
    return jnp.stack(columns, axis=-1)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_first_order(case):
    _, p = case.data()
    outputs = solver_of(case.name)
    all_of_it = jax.jit(lambda q: both_modes(lambda r: outputs(r, jnp.zeros(4)), q))
    value = lambda q: all_of_it(q)[2]
    forward, reverse, _, solution = all_of_it(p)
    assert bool(solution.success)
    np.testing.assert_allclose(forward, reverse, atol=1e-9 * max(1, float(jnp.max(jnp.abs(forward)))))
    if case.name == "degenerate multipliers":
        assert not bool(solution.quality.regular)
        n = len(case.x0)
        np.testing.assert_allclose(forward[:n], central(value, p)[:n], atol=1e-5)
        return
    assert bool(solution.quality.differentiable), solution.quality
    expected = central(value, p)
    np.testing.assert_allclose(forward, expected, atol=1e-5 * max(1, float(jnp.max(jnp.abs(expected)))))


@pytest.mark.parametrize(
    "name", ["active lower bound", "fixed variable", "projection", "range row upper", "hs071", "mixed rows"]
)
def test_bounds(name):
    """Moving all bounds of a kind together, so that equal bounds stay equal."""
    _, p = BY_NAME[name].data()
    outputs = solver_of(name)

    @jax.jit
    def all_of_it(kinds, t):
        return both_modes(lambda r: outputs(p, r[0] * kinds), t)

    for kinds in ((1.0, 1, 0, 0), (0.0, 0, 1, 1)):
        at, kinds = jnp.zeros(1), jnp.array(kinds)
        forward, reverse, _, _ = all_of_it(kinds, at)
        np.testing.assert_allclose(forward, reverse, atol=1e-9)
        expected = central(lambda t: all_of_it(kinds, t)[2], at)
        np.testing.assert_allclose(forward, expected, atol=1e-5 * max(1, float(jnp.max(jnp.abs(forward)))))


@pytest.mark.parametrize("name", ["rosenbrock", "circle", "hs071", "two equalities", "ball radius", "log utility"])
def test_second_order(name):
    """Hessians of a scalar of the solution are differences of its gradients, in every mode."""
    _, p = BY_NAME[name].data()
    outputs = solver_of(name)
    scalar = lambda q: jnp.sum(outputs(q, jnp.zeros(4))[0] ** 2)
    gradient = jax.jit(jax.grad(scalar))
    hessian = jax.jit(jax.hessian(scalar))(p)
    expected = central(gradient, p)
    np.testing.assert_allclose(hessian, expected, atol=2e-4 * max(1, float(jnp.max(jnp.abs(expected)))))


def test_vmap_of_gradient():
    _, p = BY_NAME["hs071"].data()
    outputs = solver_of("hs071")
    gradient = jax.grad(lambda q: jnp.sum(outputs(q, jnp.zeros(4))[0] ** 2))
    batch = p + jnp.linspace(-0.2, 0.2, 5)[:, None]
    one = jax.jit(gradient)
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(batch), jnp.stack([one(q) for q in batch]), rtol=1e-7)


def test_multipliers_of_bounds_are_differentiable():
    case = BY_NAME["active lower bound"]
    x0, p = case.data()

    def lower(q):
        return pounce.solve(pounce.NLP(case.f, lb=0.0), SOLVER, x0, q).multipliers.lower

    value = jax.jit(lower)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(lower))(p), central(value, p), atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.jacrev(lower))(p), central(value, p), atol=1e-5)


def test_relaxation_is_finite_and_smooth_at_a_kink():
    """At p = 0 the bound is weakly active: half the step on either side is what the central path gives."""
    problem = pounce.NLP(lambda x, p: (x[0] - p) ** 2, lb=0.0)
    x = jax.jit(lambda p: pounce.solve(problem, SOLVER, jnp.ones(1), p, relaxation=1e-6).x[0])
    slopes = [float(jax.grad(x)(q)) for q in (-1.0, 0.0, 1.0)]
    assert slopes[0] < 1e-3 and slopes[2] > 1 - 1e-3
    assert 0.1 < slopes[1] < 0.9
    assert abs(float(jax.grad(x)(0.3)) - 1.0) < 1e-4


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_weak_activity_is_flagged(p):
    problem = pounce.NLP(lambda x, p: (x[0] - p) ** 2 + x[1] ** 2, lb=0.0, ub=10.0)
    quality = pounce.solve(problem, pounce.InteriorPoint(), jnp.ones(2), p).quality
    assert not bool(quality.differentiable)
    assert float(quality.margin) < 1e-3


DEPENDENT = {
    "repeated row": lambda x, p: jnp.stack([x[0] + x[1] - p, x[0] + x[1] - p]),
    "scaled row": lambda x, p: jnp.stack([x[0] + x[1] - p, 7 * x[0] + 7 * x[1] - 7 * p]),
    "tangent circles": lambda x, p: jnp.stack(
        [(x[0] - 1) ** 2 + x[1] ** 2 - 1, (x[0] + 1) ** 2 + x[1] ** 2 - 1 + 0 * p]
    ),
}


@pytest.mark.parametrize("name", ["repeated row", "scaled row"])
def test_dependent_rows_are_flagged(name):
    problem = pounce.NLP(lambda x, p: jnp.sum((x - 1) ** 2), DEPENDENT[name], cl=0.0, cu=0.0)
    solution = pounce.solve(problem, pounce.InteriorPoint(), jnp.array([0.3, 2.0]), 1.0)
    assert bool(solution.success)
    assert not bool(solution.quality.regular)
    assert not bool(solution.quality.differentiable)
    gradient = jax.grad(lambda p: pounce.solve(problem, pounce.InteriorPoint(), jnp.array([0.3, 2.0]), p).x[0])(1.0)
    np.testing.assert_allclose(gradient, 0.5, atol=1e-5)  # least squares: the rows agree


def _sometimes_infeasible(p):
    problem = pounce.NLP(
        lambda x, p: jnp.sum((x - p) ** 2),
        lambda x, p: jnp.stack([jnp.sum(x * x)]),
        cl=-jnp.inf,
        cu=jnp.where(p > 0, 1.0, -1.0)[None],
    )
    return problem


@pytest.mark.parametrize("on_failure", ["zero", "nan", "warn"])
def test_failed_lane(on_failure):
    """An infeasible lane's derivative is zero (or NaN if asked for), and its neighbours' are their own."""

    def x(p, mode=on_failure):
        return pounce.solve(
            _sometimes_infeasible(p), pounce.InteriorPoint(), jnp.full(2, 0.1), p, on_failure=mode
        ).x.sum()

    batch = jnp.array([2.0, -1.0, 3.0])
    if on_failure == "warn":
        with pytest.warns(UserWarning, match="did not succeed"):
            gradient = jax.block_until_ready(jax.jit(jax.vmap(jax.grad(x)))(batch))
            jax.effects_barrier()
    else:
        gradient = jax.jit(jax.vmap(jax.grad(x)))(batch)
    assert np.all(np.isfinite(gradient[jnp.array([0, 2])]))
    if on_failure == "nan":
        assert np.isnan(gradient[1])
    else:
        assert gradient[1] == 0


def test_nan_parameters_do_not_reach_the_gradient():
    problem = pounce.NLP(lambda x, p: jnp.sum((x - p) ** 2), lb=0.0)
    x = lambda p: pounce.solve(problem, pounce.InteriorPoint(), jnp.ones(1), p).x.sum()
    gradient = jax.jit(jax.vmap(jax.grad(x)))(jnp.array([1.0, jnp.nan, 2.0]))
    np.testing.assert_allclose(gradient, [1, 0, 1], atol=1e-6)


def test_raise_on_failure():
    x = lambda p: pounce.solve(
        _sometimes_infeasible(p), pounce.InteriorPoint(), jnp.full(2, 0.1), p, on_failure="raise"
    ).x.sum()
    with pytest.raises(Exception, match="did not succeed"):
        jax.block_until_ready(jax.jit(jax.grad(x))(-1.0))


def test_enough_cases():
    assert len(REGULAR) >= 40
