"""`pounce.jax.JaxProblem`: solves, derivatives at held solutions, pickling and misuse."""

import functools
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce.jax import AnchorState, JaxProblem, solve


def f(x, p):
    return jnp.sum((x - p[:3]) ** 2) + 0.1 * jnp.sum(x**4) + p[3] * x[0] * x[1]


def g(x, p):
    return jnp.stack([jnp.sum(x) - p[3], x[0] * x[1] - p[0]])


# One equality, one inequality that is active for some parameters, and a bound that is.
SHAPE = dict(
    f=f, g=g, n=3, m=2, lb=-2.0, ub=np.array([0.6, 5.0, 5.0]), cl=np.array([1.0, -9.0]), cu=np.array([1.0, 0.2])
)
OPTIONS = {"tol": 1e-10, "print_level": 0}
X0 = jnp.full(3, 0.5)
BATCH = jnp.array([[0.3, 0.7, 0.1, 0.2], [0.9, 0.2, -0.3, 0.1], [-0.6, 0.4, 0.5, 0.3]])


@functools.cache
def problem(**changes):
    return JaxProblem(**{**SHAPE, "p_example": jnp.zeros(4), "options": OPTIONS, **changes})


@functools.cache
def expected():
    """Solutions and their derivatives by the one-shot function."""
    one = lambda p: solve(p, x0=X0, options=OPTIONS, **SHAPE)
    return jax.vmap(one)(BATCH), jax.vmap(jax.jacfwd(one))(BATCH)


@functools.cache
def state():
    return problem().anchor(BATCH, X0)


def test_solves_and_gradients():
    """All ways to solve agree with the one-shot functions, derivatives too, also from another thread inside of `jit`."""
    jp, (x, J) = problem(), expected()
    np.testing.assert_allclose(jp.solve(BATCH[0], X0), x[0], atol=1e-9)
    by_lane = jax.vmap(jp.solve, in_axes=(0, None))
    many = (by_lane, jp.vmap_solve, functools.partial(jp.vmap_solve_parallel, workers=8), jp.batched_solve)
    for way in many:
        np.testing.assert_allclose(way(BATCH, X0), x, atol=1e-9)
    np.testing.assert_allclose(jp.vmap_solve(BATCH, x), x, atol=1e-8)
    found = {}

    def train():
        found["one"] = jax.jit(jax.value_and_grad(lambda p: jnp.sum(jp.solve(p, X0) ** 2)))(BATCH[1])
        found["many"] = jax.grad(lambda P: jnp.sum(jp.batched_solve(P, X0) ** 2))(BATCH)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    gradients = jnp.einsum("bi,bip->bp", 2 * x, J)
    np.testing.assert_allclose(found["one"][1], gradients[1], atol=1e-8)
    np.testing.assert_allclose(found["many"], gradients, atol=1e-8)
    step = 1e-5 * jnp.eye(4)[1]
    difference = (jp.solve(BATCH[1] + step, X0) - jp.solve(BATCH[1] - step, X0)) / 2e-5
    np.testing.assert_allclose(J[1][:, 1], difference, atol=1e-6)


def test_bounds_may_be_traced():
    """A problem that is built inside of a function is differentiated with respect to its bounds."""

    def total(ub):
        jp = JaxProblem(**SHAPE | {"ub": ub}, p_example=jnp.zeros(4), options=OPTIONS)
        return jnp.sum(jp.solve(BATCH[1], X0) ** 2)

    ub, step = jnp.array(SHAPE["ub"]), 1e-5 * jnp.eye(3)[0]
    slope = jax.grad(total)(ub)
    np.testing.assert_allclose(slope[0], (total(ub + step) - total(ub - step)) / 2e-5, atol=1e-6)
    assert abs(slope[0]) > 0.1 and np.all(slope[1:] == 0)


def test_warm_starts():
    """Multipliers handed from solve to solve, one at a time and in batches; they save iterations."""
    jp, (x, _) = problem(), expected()
    first, warm = jp.solve_with_warm(BATCH[0], X0)
    assert [part.shape for part in warm] == [(2,), (3,), (3,)]
    again, same = jp.solve_with_warm(BATCH[0], first, warm)
    np.testing.assert_allclose(again, x[0], atol=1e-8)
    np.testing.assert_allclose(same[0], warm[0], atol=1e-6)
    many, duals = jp.batched_solve_with_warm(BATCH, X0)
    np.testing.assert_allclose(many, x, atol=1e-9)
    np.testing.assert_allclose(duals[0][0], warm[0], atol=1e-7)
    many, _ = jp.batched_solve_with_warm(BATCH + 1e-3, many, duals)
    np.testing.assert_allclose(many, jp.batched_solve(BATCH + 1e-3, X0), atol=1e-7)
    cold, info = jp.warm_anchor(BATCH[0], X0)
    held, warmer = jp.warm_anchor(BATCH[0], first, duals=warm, mu=1e-9)
    assert info["success"] and warmer["success"] and warmer["iter_count"] < info["iter_count"]
    np.testing.assert_allclose(held.x_star[0], cold.x_star[0], atol=1e-7)
    np.testing.assert_allclose(info["obj_val"], f(first, BATCH[0]), rtol=1e-7)


def test_jacobians():
    """By the parameters or by the variables, whichever are fewer; all columns or some; differentiable, and of second order."""
    jp, (x, J) = problem(), expected()
    found, duals, by_all = jp.batched_solve_with_jacobian(BATCH, X0)
    np.testing.assert_allclose(found, x, atol=1e-9)
    np.testing.assert_allclose(by_all, J, atol=1e-8)
    some = jp.batched_solve_with_jacobian(BATCH, X0, wrt_cols=slice(1, 3))[2]
    np.testing.assert_allclose(some, J[:, :, 1:3], atol=1e-8)
    x0, duals, one = jp.solve_with_jacobian(BATCH[1], X0)
    np.testing.assert_allclose(one, J[1], atol=1e-8)
    np.testing.assert_allclose(jp.sensitivity_at(x0, BATCH[1], duals), J[1], atol=1e-6)
    np.testing.assert_allclose(jp.sensitivity_at(x0, BATCH[1], duals, wrt_cols=[3]), J[1][:, 3:], atol=1e-6)

    def total(p):
        return jnp.sum(jp.solve_with_jacobian(p, X0, wrt_cols=[0])[2])

    step = 1e-5 * jnp.eye(4)[2]
    slope = jax.grad(total)(BATCH[1])
    np.testing.assert_allclose(slope[2], (total(BATCH[1] + step) - total(BATCH[1] - step)) / 2e-5, atol=1e-5)


def test_products_at_held_solutions():
    """Both products, with all parameters and some, of a batch and of one solve."""
    jp, (x, J) = problem(), expected()
    held = state()
    assert isinstance(held, AnchorState) and np.all(held.status == 0)
    np.testing.assert_allclose(held.x_star, x, atol=1e-9)
    rng = np.random.default_rng(0)
    dp, x_bar = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    dx, dlam = jp.batched_jvp_from_state(held, dp, with_duals=True)
    np.testing.assert_allclose(dx, jnp.einsum("bip,bp->bi", J, dp), atol=1e-7)
    lam = lambda p: jp.batched_solve_with_warm(p, X0)[1][0]
    np.testing.assert_allclose(dlam, (lam(BATCH + 1e-6 * dp) - lam(BATCH - 1e-6 * dp)) / 2e-6, atol=1e-4)
    np.testing.assert_allclose(jp.batched_vjp_from_state(held, x_bar), jnp.einsum("bip,bi->bp", J, x_bar), atol=1e-7)
    *_, all_of_it, second = jp.batched_solve_with_jacobian(BATCH, X0, wrt_cols=[2, 0], return_state=True)
    np.testing.assert_allclose(all_of_it, J[:, :, jnp.array([2, 0])], atol=1e-8)
    reduced = jp.batched_jvp_from_state(second, dp[:, :2])
    np.testing.assert_allclose(reduced, jnp.einsum("bip,bp->bi", all_of_it, dp[:, :2]), atol=1e-7)
    np.testing.assert_allclose(jp.batched_jvp_from_state(second, dp), dx, atol=1e-12)
    assert jp.batched_vjp_from_state(second, x_bar).shape == (3, 2)
    alone = jp.anchor(BATCH[2], X0)
    np.testing.assert_allclose(jp.sensitivity(alone), J[2], atol=1e-7)
    np.testing.assert_allclose(jp.jvp_from_state(alone, dp[2]), dx[2], atol=1e-7)
    np.testing.assert_allclose(jp.vjp_from_state(alone, x_bar[2]), J[2].T @ x_bar[2], atol=1e-7)
    assert alone.reanchor(BATCH[:1], X0) is alone
    np.testing.assert_allclose(jp.sensitivity(alone), J[0], atol=1e-7)


def test_states_are_closed_and_belong_to_their_problem():
    jp = problem()
    with jp.anchor(BATCH, X0) as held:
        assert not held.closed
        jp.batched_vjp_from_state(held, X0 * jnp.ones((3, 3)))
    assert held.closed
    held.close()
    with pytest.raises(RuntimeError, match="closed"):
        jp.batched_jvp_from_state(held, BATCH)
    with pytest.raises(RuntimeError, match="closed"):
        held.x_star
    assert held.reanchor(BATCH, X0).closed is False
    other = JaxProblem(p_example=jnp.zeros(4), options=OPTIONS, **SHAPE)
    with pytest.raises(ValueError, match="different JaxProblem"):
        other.batched_jvp_from_state(state(), BATCH)
    assert len({state().sid, held.sid}) == 2
    other.clear_solver_cache()
    other.close()
    other.close()
    assert other.closed
    with pytest.raises(RuntimeError, match="closed"):
        other.solve(BATCH[0], X0)


def test_states_are_not_differentiable():
    """What would be derivatives of iterations is an error; the rest of a function is differentiated all the same."""
    for transform in (jax.grad, jax.jacfwd):
        with pytest.raises(TypeError, match="not differentiable"):
            transform(lambda P: jnp.sum(problem().anchor(P, X0).x_star))(BATCH)
    scaled = jax.grad(lambda k: jnp.sum(k * problem().anchor(BATCH, X0).x_star))(2.0)
    np.testing.assert_allclose(scaled, jnp.sum(state().x_star), rtol=1e-12)


def test_margins_of_the_active_set():
    """A box that holds the first variable with multiplier 2 (1.5 - 1), and leaves the second 0.3 of room."""
    jp = JaxProblem(
        f=lambda x, p: jnp.sum((x - p) ** 2), n=2, p_example=jnp.zeros(2), lb=-10.0, ub=1.0, options=OPTIONS
    )
    held = jp.anchor(jnp.array([[1.5, 0.7], [0.2, 0.9]]), jnp.zeros(2))
    found = jp.active_set_margin(held)
    np.testing.assert_allclose(found["min_mult"], [1.0, np.inf], rtol=1e-5)
    np.testing.assert_allclose(found["min_slack"], [0.3, 0.1], rtol=1e-5)
    np.testing.assert_allclose(found["margin"], [0.3, 0.1], rtol=1e-5)
    assert jp.active_set_margin(held, active_tol=0.2)["min_mult"][1] < 1e-6


def test_a_failed_lane_stays_alone():
    """Its derivatives are zero, in states too, and the others' are what they would be without it."""
    jp = problem()
    bad = BATCH.at[1].set(jnp.array([-jnp.inf, 0.0, 0.0, 0.0]))
    held = jp.anchor(bad, X0)
    assert held.status[1] != 0 and np.all(held.status[jnp.array([0, 2])] == 0)
    dx = jp.batched_jvp_from_state(held, jnp.ones((3, 4)))
    wanted = jp.batched_jvp_from_state(state(), jnp.ones((3, 4)))
    np.testing.assert_array_equal(dx[1], 0.0)
    np.testing.assert_allclose(dx[jnp.array([0, 2])], wanted[jnp.array([0, 2])], atol=1e-9)
    np.testing.assert_array_equal(jp.batched_vjp_from_state(held, jnp.ones((3, 3)))[1], 0.0)
    with pytest.raises(Exception, match="did not succeed"):
        jax.block_until_ready(problem(on_failure="raise").anchor(bad, X0).x_star)


def chain(x, p):
    return jnp.sum((x - p["target"]) ** 2) + jnp.sum(x[1:] ** 2 * x[:-1] ** 2)


def links(x, p):
    return x[1:] * x[:-1] + p["shift"] * x[1:]


LONG = 40
CHAIN = dict(f=chain, g=links, n=LONG, m=LONG - 1, lb=-3.0, ub=0.9, cl=-0.5, cu=1.0, options=OPTIONS)
EXAMPLE = dict(target=jnp.zeros(LONG), shift=jnp.zeros(()))
TARGET = dict(target=jnp.linspace(-1.0, 1.2, LONG), shift=jnp.asarray(0.1))


@functools.cache
def chain_problem(sparse, **changes):
    return JaxProblem(**CHAIN, p_example=EXAMPLE, sparse=sparse, **changes)


def test_sparse_with_parameters_in_a_dictionary():
    """Solutions and derivatives of a dense problem, whether the solve keeps its factor or not."""
    start, x_bar = jnp.full(LONG, 0.1), jnp.cos(jnp.arange(LONG))
    wanted = chain_problem(False).anchor(TARGET, start)
    for changes in ({}, {"factor_reuse": False}):
        jp = chain_problem(True, **changes)
        held = jp.anchor(TARGET, start)
        np.testing.assert_allclose(held.x_star, wanted.x_star, atol=1e-8)
        expected = chain_problem(False).vjp_from_state(wanted, x_bar)
        np.testing.assert_allclose(jp.vjp_from_state(held, x_bar), expected, atol=1e-7)
        rate = dict(target=jnp.zeros(LONG), shift=jnp.ones(()))
        dx = jp.jvp_from_state(held, rate)
        np.testing.assert_allclose(dx, chain_problem(False).jvp_from_state(wanted, rate), atol=1e-7)
        gradient = jax.grad(lambda p: x_bar @ jp.solve(p, start))(TARGET)
        np.testing.assert_allclose(gradient["shift"], x_bar @ dx, atol=1e-7)
    text = {
        reuse: str(
            jax.make_jaxpr(jax.grad(lambda p: x_bar @ chain_problem(True, factor_reuse=reuse).solve(p, start)))(TARGET)
        )
        for reuse in (True, False)
    }
    assert len(text[True]) != len(text[False])


@pytest.mark.parametrize("sparse", [False, True])
def test_pickled(sparse):
    """A copy solves alike to the last bits, derivatives too, and does not look for patterns again."""
    jp, start = chain_problem(sparse), jnp.full(LONG, 0.1)
    copy = pickle.loads(pickle.dumps(jp))
    assert (copy._given["jac_pattern"] is not None) == sparse
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), TARGET)
    for way, p in (("solve", TARGET), ("batched_solve", batch)):
        total = lambda p, each, way=way: jnp.sum(getattr(each, way)(p, start) ** 2)
        (value, gradient), (same, too) = (jax.value_and_grad(total)(p, each) for each in (jp, copy))
        np.testing.assert_allclose(same, value, rtol=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), too, gradient)


def test_functions_are_traced_once():
    """Neither new parameters nor new starting points trace or compile anything."""
    traces = []

    def counted(x, p):
        traces.append(1)
        return jnp.sum((x - p) ** 2)

    jp = JaxProblem(f=counted, n=2, p_example=jnp.zeros(2))
    jp.solve(jnp.ones(2), jnp.zeros(2))
    seen = len(traces)
    for k in range(3):
        jp.solve(jnp.full(2, float(k)), np.full(2, 0.1 * k))
    assert len(traces) == seen


BAD = {
    "rows": (lambda: JaxProblem(f=f, g=g, n=3, m=3, cl=0.0, p_example=jnp.zeros(4)), ValueError, "m = 3 rows, got 2"),
    "no g": (lambda: JaxProblem(f=f, n=3, m=2, p_example=jnp.zeros(4)), ValueError, "`g` is missing"),
    "positional": (lambda: JaxProblem(f, g), TypeError, "positional"),
    "policy": (lambda: problem(on_failure="maybe"), ValueError, "`on_failure`"),
    "p shape": (lambda: problem().solve(jnp.zeros(5), X0), ValueError, "per-block shape"),
    "p batch": (lambda: problem().batched_solve(jnp.zeros(4), X0), ValueError, "leading dim"),
    "p tree": (lambda: problem().solve({"a": jnp.zeros(4)}, X0), ValueError, "pytree like `p_example`"),
    "x0": (lambda: problem().solve(BATCH[0], jnp.zeros(2)), ValueError, "`x0`"),
    "batched x0": (lambda: problem().vmap_solve(BATCH, jnp.zeros((2, 3))), ValueError, "`x0`"),
    "workers": (lambda: problem().vmap_solve_parallel(BATCH, X0, workers=0), ValueError, "`workers`"),
    "warm": (lambda: problem().solve_with_warm(BATCH[0], X0, (1, 2)), ValueError, "`warm_start`"),
    "batched warm": (
        lambda: problem().batched_solve_with_warm(BATCH, X0, (jnp.zeros(2), X0, X0)), ValueError, r"`warm_start` \(lam\)",
    ),
    "columns": (lambda: problem().anchor(BATCH, X0, wrt_cols=[7]), ValueError, "`wrt_cols`"),
    "columns of a tree": (lambda: chain_problem(False).anchor(TARGET, 0, wrt_cols=[0]), ValueError, "one vector"),
    "dp": (lambda: problem().batched_jvp_from_state(state(), jnp.zeros((2, 4))), ValueError, "`dp_batch`"),
    "x_bar": (lambda: problem().batched_vjp_from_state(state(), jnp.zeros((3, 4))), ValueError, "`x_bar`"),
    "single form": (lambda: problem().sensitivity(state()), ValueError, "single-problem form"),
    "duals": (lambda: problem().sensitivity_at(X0, BATCH[0], (1, 2)), ValueError, "lam, zL, zU"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call()


def test_large_dense_problems_are_warned_of():
    with pytest.warns(UserWarning, match="sparse=True"):
        JaxProblem(f=lambda x, p: jnp.sum(x**2), n=10_001, p_example=jnp.zeros(1))


def nearest(x, p):
    return jnp.sum((x - p["to"]) ** 2) + 0.25 * p["weights"][p["which"]] * x[0]


@pytest.mark.parametrize("kind", [int, bool, np.float32])
def test_parameters_are_not_rounded_to_the_types_of_the_example(kind):
    """x = to - weight / 8."""
    example = {"to": kind(1), "weights": np.ones(2, kind), "which": 0}
    jp = JaxProblem(f=nearest, n=1, p_example=example, options=OPTIONS)
    at = lambda to, which: {"to": to, "weights": np.array([0.4, 0.8]), "which": which}
    for problem in (jp, pickle.loads(pickle.dumps(jp))):
        assert problem.solve(at(1.3, 1), np.zeros(1)) == pytest.approx(1.2, abs=1e-9)
        assert jax.grad(lambda to: problem.solve(at(to, 0), np.zeros(1))[0])(2.7) == pytest.approx(1.0, abs=1e-9)
    batch = {"to": np.array([0.2, -1.6]), "weights": np.full((2, 2), 0.4), "which": np.array([1, 0])}
    assert np.ravel(jp.vmap_solve(batch, np.zeros(1))) == pytest.approx([0.15, -1.65], abs=1e-9)
    x, _, slopes, state = jp.solve_with_jacobian(at(1.3, 1), np.zeros(1), return_state=True)
    assert np.ravel(slopes) == pytest.approx([1.0, 0.0, -0.125, 0.0], abs=1e-9)  # by to, weights, which
    moved = jp.jvp_from_state(state, {"to": 1, "weights": np.ones(2), "which": 0})
    assert moved == pytest.approx(0.875, abs=1e-9)


def test_parameters_that_cannot_be_kept_are_an_error():
    example = {"to": 0.0, "weights": np.ones(2), "which": 0}
    jp = JaxProblem(f=nearest, n=1, p_example=example, options=OPTIONS)
    with pytest.raises(TypeError, match="`p` must be made of whole numbers"):
        jp.solve(example | {"which": 0.5}, np.zeros(1))
    with pytest.raises(TypeError, match="`p` must be real"):
        jp.solve(example | {"to": 1j}, np.zeros(1))
    indexed = JaxProblem(f=lambda x, k: jnp.sum((x - jnp.arange(3.0)[k]) ** 2), n=1, p_example=1, options=OPTIONS)
    with pytest.raises(TypeError, match="`p` is made of whole numbers"):
        indexed.solve_with_jacobian(2, np.zeros(1))
