"""The native door and `pounce.jax`: what they return, how often they compile, what bad input gets."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce.jax import from_jax, solve, solve_with_warm, vmap_solve, vmap_solve_parallel
from pounce.nlp import prepare

from .zoo import BY_NAME


HS071 = BY_NAME["hs071"]
X0, P = HS071.data()
PROBLEM = pounce.NLP(HS071.f, HS071.g, lb=HS071.lb, ub=HS071.ub, cl=jnp.array(HS071.cl), cu=jnp.array(HS071.cu))
SOLVER = pounce.InteriorPoint()


def count(name, calls):
    calls[name] = calls.get(name, 0) + 1


def test_solution_of_hs071():
    s = pounce.solve(PROBLEM, SOLVER, X0, P)
    assert bool(s.success) and int(s.status) == 0 and int(s.stats.iterations) == 8
    assert abs(float(s.objective) - 17.0140173) < 1e-6
    np.testing.assert_allclose(s.x, [1, 4.74299964, 3.82114998, 1.37940829], atol=1e-6)
    np.testing.assert_allclose(s.multipliers.constraints, [-0.55229366, 0.16146856], atol=1e-6)
    gradient = jax.grad(HS071.f)(s.x, P) + s.multipliers.constraints @ jax.jacfwd(HS071.g)(s.x, P)
    np.testing.assert_allclose(gradient - s.multipliers.lower + s.multipliers.upper, 0, atol=1e-8)
    assert "Solved" in s.message
    assert bool(s.quality.differentiable)


def test_functions_are_traced_once_and_nothing_recompiles():
    calls = {}

    def f(x, p):
        count("f", calls)
        return jnp.sum((x - p) ** 2)

    def g(x, p):
        count("g", calls)
        return jnp.stack([x[0] + x[1]])

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )

    def run(k):
        problem = pounce.NLP(
            f, g, lb=np.full(2, -1.0 - k), ub=np.full(2, 2.0 + k), cl=np.array([-np.inf]), cu=np.array([1.0 + k])
        )
        solver = pounce.InteriorPoint(tol=10.0 ** (-7 - k), mu_init=0.1 / (1 + k))
        return pounce.solve(problem, solver, jnp.full(2, 0.1 * k), jnp.array([1.0, 2.0 + k]))

    assert bool(run(0).success)
    assert calls == {"f": 2, "g": 2}  # once for its shape, once for the program
    before = len(compiled)
    for k in range(1, 4):
        assert bool(run(k).success)
    assert calls == {"f": 2, "g": 2}
    assert len(compiled) == before


def test_oneshot_calls_do_not_retrace():
    calls = {}

    def f(x, p):
        count("f", calls)
        return jnp.sum((x - p) ** 2)

    for k in range(3):
        x = solve(
            jnp.array([0.3, 0.7 + k]), f=f, x0=np.zeros(2), n=2, lb=-10.0, ub=10.0, options={"tol": 1e-8 / (k + 1)}
        )
        np.testing.assert_allclose(x, [0.3, 0.7 + k], atol=1e-6)
    assert calls["f"] == 2


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(inner, "jaxpr"):
                    yield from primitives(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from primitives(inner)


def test_no_host_callback():
    cost = lambda p: jnp.sum(pounce.solve(PROBLEM, SOLVER, X0, p).x)
    names = set(primitives(jax.make_jaxpr(jax.value_and_grad(cost))(P).jaxpr))
    assert "while" in names
    assert not [name for name in names if "callback" in name]


PAGE = dict(
    f=lambda x, p: jnp.sum((x - p) ** 2),
    g=lambda x, p: jnp.stack([x[0] + x[1] - 1.0]),
    x0=np.zeros(2),
    n=2,
    m=1,
    lb=np.full(2, -10.0),
    ub=np.full(2, 10.0),
    cl=np.zeros(1),
    cu=np.zeros(1),
    options={"tol": 1e-10, "print_level": 0},
)


def test_page_examples():
    p = jnp.array([0.3, 0.7])
    np.testing.assert_allclose(jax.grad(lambda p: jnp.sum(solve(p, **PAGE) ** 2))(p), [-0.4, 0.4], atol=1e-7)
    batch = jnp.asarray(np.random.default_rng(0).standard_normal((32, 2)))
    together = vmap_solve_parallel(batch, workers=8, **PAGE)
    assert together.shape == (32, 2)
    np.testing.assert_allclose(together, vmap_solve(batch, **PAGE), atol=1e-12)
    np.testing.assert_allclose(together[3], solve(batch[3], **PAGE), atol=1e-8)
    gradient = jax.grad(lambda b: jnp.sum(vmap_solve(b, **PAGE) ** 2))(batch)
    assert gradient.shape == batch.shape
    starts = jnp.zeros((32, 2))
    np.testing.assert_allclose(vmap_solve(batch, **{**PAGE, "x0": starts}), together, atol=1e-8)


def test_warm_start():
    case = dict(f=HS071.f, g=HS071.g, n=4, m=2, lb=1.0, ub=5.0, cl=np.array([25.0, 40]), cu=np.array([np.inf, 40]))
    x, warm = solve_with_warm(P, x0=X0, **case)
    assert len(warm) == 3 and warm[0].shape == (2,) and warm[1].shape == (4,)
    problem = pounce.NLP(HS071.f, HS071.g, lb=1.0, ub=5.0, cl=case["cl"], cu=case["cu"])
    nearby = P + 0.01
    cold = pounce.solve(problem, SOLVER, X0, nearby)
    options = dict(
        warm_start_init_point="yes", mu_init=1e-6, warm_start_bound_push=1e-9, warm_start_mult_bound_push=1e-9
    )
    options |= dict(warm_start_bound_frac=1e-9, warm_start_slack_bound_push=1e-9, warm_start_slack_bound_frac=1e-9)
    hot = pounce.solve(problem, pounce.InteriorPoint(**options), x, nearby, warm_start=warm)
    assert bool(hot.success)
    assert int(hot.stats.iterations) < int(cold.stats.iterations)
    # The start is data: both are one program.
    (one, given), (other, nothing) = (
        prepare(problem, pounce.InteriorPoint(**options), x, nearby, warm_start=warm),
        prepare(problem, SOLVER, X0, nearby),
    )
    assert one == other and jax.eval_shape(lambda data: data, given) == jax.eval_shape(lambda data: data, nothing)
    np.testing.assert_allclose(hot.x, cold.x, atol=1e-6)
    again, four = solve_with_warm(nearby, x0=x, warm_start=(*warm, 1e-6), **case)
    assert len(four) == 4
    np.testing.assert_allclose(again, cold.x, atol=1e-6)


def test_from_jax():
    f, g = lambda x: HS071.f(x, jnp.ones(2)), lambda x: HS071.g(x, jnp.ones(2))
    problem = from_jax(f, g, n=4, m=2, lb=[1] * 4, ub=[5] * 4, cl=[25, 40], cu=[2e19, 40])
    problem.add_option("print_level", 0)
    x, info = problem.solve(x0=np.array([1.0, 5, 5, 1]))
    assert info["status"] == 0 and info["status_msg"] == "Solve_Succeeded" and info["iter_count"] == 8
    assert isinstance(x, np.ndarray) and x.dtype == np.float64
    assert abs(info["obj_val"] - 17.0140173) < 1e-6
    np.testing.assert_allclose(info["g"], [25, 40], atol=1e-6)
    np.testing.assert_array_equal(info["active_constraints"], [True, True])
    np.testing.assert_array_equal(info["pinned_vars"], [True, False, False, False])


def test_table_and_limits(capsys):
    f, g = lambda x: HS071.f(x, jnp.ones(2)), lambda x: HS071.g(x, jnp.ones(2))
    problem = from_jax(f, g, n=4, m=2, lb=[1] * 4, ub=[5] * 4, cl=[25, 40], cu=[2e19, 40])
    x, info = problem.solve(x0=np.array([1.0, 5, 5, 1]))
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    rows = [line for line in printed if line[:4].strip().isdigit()]
    assert printed[0].split()[:3] == ["iter", "objective", "inf_pr"]
    assert rows[0].split() == [
        "0",
        "1.6109693e+01",
        "1.12e+01",
        "5.28e-01",
        "-1.0",
        "0.00e+00",
        "-",
        "0.00e+00",
        "0.00e+00",
        "0",
    ]
    assert rows[1].split() == [
        "1",
        "1.6982239e+01",
        "7.30e-01",
        "1.02e+01",
        "-1.0",
        "6.11e-01",
        "-",
        "7.19e-02",
        "1.00e+00f",
        "1",
    ]
    assert rows[3].split() == [
        "3",
        "1.6849424e+01",
        "2.78e-01",
        "6.68e-02",
        "-1.7",
        "2.85e-01",
        "-",
        "7.94e-01",
        "1.00e+00h",
        "1",
    ]
    assert len(rows) == 9
    problem.add_option("max_wall_time", 1e-9)
    _, info = problem.solve(x0=np.array([1.0, 5, 5, 1]))
    assert info["status"] == pounce.Status.Maximum_WallTime_Exceeded


def test_history():
    s = pounce.solve(PROBLEM, pounce.InteriorPoint(history=12), X0, P)
    assert s.history is not None
    np.testing.assert_allclose(s.history.objective[:2], [16.109693, 16.982239], rtol=1e-6)
    assert [chr(c) for c in s.history.tag[1:4]] == ["f", "h", "h"]
    np.testing.assert_allclose(np.log10(s.history.mu[jnp.array([0, 3, 5])]), [-1, -1.7, -3.8], atol=0.06)
    assert float(s.history.objective[10]) == 0


def test_float32():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = pounce.NLP(HS071.f, HS071.g, lb=1.0, ub=5.0, cl=np.array([25.0, 40]), cu=np.array([np.inf, 40]))
        s = pounce.solve(problem, SOLVER, np.array([1, 5, 5, 1], np.float32), np.ones(2, np.float32))
    assert s.x.dtype == jnp.float32
    assert bool(s.success)
    assert abs(float(s.objective) - 17.0140173) < 1e-3


def test_user_exceptions_come_back_as_themselves():
    class Mine(Exception):
        pass

    def f(x, p):
        raise Mine("broken model")

    with pytest.raises(Mine, match="broken model"):
        pounce.solve(pounce.NLP(f), SOLVER, jnp.zeros(2))


STATUSES = {
    "overdetermined": (
        dict(g=lambda x, p: jnp.stack([x[0], x[1], x[0] + x[1]]) - p, cl=np.zeros(3), cu=np.zeros(3)),
        -10,
    ),
    "infeasible": (
        dict(g=lambda x, p: jnp.stack([jnp.sum(x * x) + p]), cl=np.array([-np.inf]), cu=np.array([-1.0])),
        2,
    ),
}


@pytest.mark.parametrize("name", STATUSES)
def test_statuses(name):
    extra, expected = STATUSES[name]
    problem = pounce.NLP(lambda x, p: jnp.sum((x - 1) ** 2), **extra)
    assert int(pounce.solve(problem, SOLVER, jnp.full(2, 0.3), 1.0).status) == expected


def test_unbounded_nan_and_reversed():
    @jax.jit
    def run(a, ub, x0, max_iter):
        problem = pounce.NLP(lambda x, p: p * x[0] ** 2 + x[1] ** 2, lb=jnp.array([-jnp.inf, -1.0]), ub=ub)
        return pounce.solve(problem, SOLVER, x0, a).status

    ub, x0 = jnp.array([jnp.inf, 1.0]), jnp.array([2.0, 0.5])
    assert int(run(1.0, ub, x0, 100)) == 0
    assert int(run(-1.0, ub, x0, 100)) == pounce.Status.Diverging_Iterates
    assert int(run(jnp.nan, ub, x0, 100)) == pounce.Status.Invalid_Number_Detected
    assert int(run(1.0, jnp.array([jnp.inf, -2.0]), x0, 100)) == pounce.Status.Invalid_Problem_Definition
    assert int(run(1.0, jnp.array([jnp.inf, jnp.nan]), x0, 100)) == pounce.Status.Invalid_Problem_Definition


def test_iteration_limit():
    assert int(pounce.solve(PROBLEM, pounce.InteriorPoint(max_iter=3), X0, P).status) == -1


good_f = lambda x, p: jnp.sum(x**2)
good_g = lambda x, p: jnp.stack([x[0]])
BAD = {
    "f is not callable": (lambda: pounce.NLP(3), TypeError, "`f` must be callable"),
    "g is not callable": (lambda: pounce.NLP(good_f, 3, cl=0, cu=0), TypeError, "`g` must be callable"),
    "rows without bounds": (lambda: pounce.NLP(good_f, good_g), ValueError, "`cl` and `cu`"),
    "bounds without rows": (lambda: pounce.NLP(good_f, cl=[0.0], cu=[1.0]), ValueError, "there is no `g`"),
    "unknown option": (lambda: pounce.InteriorPoint(tolerance=1e-8), ValueError, "Unknown option"),
    "bad option": (lambda: pounce.InteriorPoint(mu_strategy="fast"), ValueError, "mu_strategy"),
    "option range": (lambda: pounce.InteriorPoint(tol=-1.0), ValueError, "tol"),
    "option type": (lambda: pounce.InteriorPoint(max_iter="many"), ValueError, "max_iter"),
    "history": (lambda: pounce.InteriorPoint(history=-1), ValueError, "`history`"),
    "problem": (lambda: pounce.solve(good_f, SOLVER, jnp.zeros(2)), TypeError, "`problem` must be a pounce.NLP"),
    "solver": (lambda: pounce.solve(pounce.NLP(good_f), "ipopt", jnp.zeros(2)), TypeError, "`solver`"),
    "matrix x0": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros((2, 2))), ValueError, "`x0` must be a one-dim"),
    "empty x0": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(0)), ValueError, "`x0` is empty"),
    "nan x0": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.array([0, jnp.nan])), ValueError, r"`x0\[1\]` is nan"),
    "complex x0": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(2) * 1j), TypeError, "`x0` must be real"),
    "text x0": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, "zero"), TypeError, "`x0`"),
    "short lb": (lambda: pounce.solve(pounce.NLP(good_f, lb=np.zeros(3)), SOLVER, jnp.zeros(2)), ValueError, "`lb` must have length 2"),
    "nan ub": (lambda: pounce.solve(pounce.NLP(good_f, ub=[1, np.nan]), SOLVER, jnp.zeros(2)), ValueError, r"`ub\[1\]` is NaN"),
    "reversed": (lambda: pounce.solve(pounce.NLP(good_f, lb=2.0, ub=1.0), SOLVER, jnp.zeros(2)), ValueError, r"`lb\[0\]` = 2.0 exceeds"),
    "reversed rows": (
        lambda: pounce.solve(pounce.NLP(good_f, good_g, cl=[1.0], cu=[0.0]), SOLVER, jnp.zeros(2)), ValueError, r"`cl\[0\]`"),
    "wrong rows": (
        lambda: pounce.solve(pounce.NLP(good_f, good_g, cl=[0.0, 0], cu=[1.0, 1]), SOLVER, jnp.zeros(2)), ValueError, "`cl` must have length 1"),
    "vector objective": (lambda: pounce.solve(pounce.NLP(lambda x, p: x), SOLVER, jnp.zeros(2)), ValueError, "`f` must return a scalar"),
    "length-one objective": (lambda: pounce.solve(pounce.NLP(lambda x, p: x[:1]), SOLVER, jnp.zeros(2)), ValueError, r"`f`.*shape \(1,\)"),
    "complex objective": (lambda: pounce.solve(pounce.NLP(lambda x, p: 1j * x[0]), SOLVER, jnp.zeros(2)), TypeError, "`f` must return real"),
    "two objectives": (lambda: pounce.solve(pounce.NLP(lambda x, p: (x[0], x[1])), SOLVER, jnp.zeros(2)), TypeError, "`f` must return one"),
    "matrix rows": (
        lambda: pounce.solve(pounce.NLP(good_f, lambda x, p: jnp.ones((1, 1)), cl=0.0), SOLVER, jnp.zeros(2)), ValueError, "`g` must return a one-dim"),
    "text parameters": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(2), "p"), TypeError, "`p` must be a pytree"),
    "on_failure": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(2), on_failure="maybe"), ValueError, "`on_failure`"),
    "relaxation": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(2), relaxation=-1), ValueError, "`relaxation`"),
    "warm start": (lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(2), warm_start=(1, 2)), ValueError, "`warm_start`"),
    "warm start size": (
        lambda: pounce.solve(pounce.NLP(good_f), SOLVER, jnp.zeros(2), warm_start=(np.zeros(1), np.zeros(2), np.zeros(2))),
        ValueError, r"`warm_start \(rows\)` must have length 0"),
    "missing g": (lambda: solve(0.0, f=good_f, x0=np.zeros(2), n=2, m=1), ValueError, "`g` is missing"),
    "missing row bounds": (lambda: solve(0.0, f=good_f, g=good_g, x0=np.zeros(2), n=2, m=1), ValueError, "`cl` and `cu`"),
    "wrong n": (lambda: solve(0.0, f=good_f, x0=np.zeros(2), n=3), ValueError, "`x0` must have length n = 3"),
    "no batch": (lambda: vmap_solve(0.0, f=good_f, x0=np.zeros(2), n=2), ValueError, "`p_batch`"),
    "bad batched x0": (lambda: vmap_solve(np.zeros(3), f=good_f, x0=np.zeros((2, 2)), n=2), ValueError, "`x0` must have shape"),
    "workers": (lambda: vmap_solve_parallel(np.zeros(3), f=good_f, x0=np.zeros(2), n=2, workers=0), ValueError, "`workers`"),
    "from_jax without g": (lambda: from_jax(good_f, n=2, m=1), ValueError, "`g` is missing"),
    "from_jax without cu": (lambda: from_jax(lambda x: x[0], lambda x: x, n=2, m=2, cl=[0, 0]), ValueError, "`cl` and `cu`"),
    "from_jax wrong m": (lambda: from_jax(lambda x: x[0], lambda x: x, n=2, m=3, cl=[0] * 3, cu=[0] * 3), ValueError, r"`g` must return shape \(3,\)"),
    "from_jax negative n": (lambda: from_jax(lambda x: x[0], n=-1), ValueError, "`n`"),
    "from_jax short lb": (lambda: from_jax(lambda x: x[0], n=2, lb=[0]), ValueError, "`lb` must have shape"),
    "from_jax option": (lambda: from_jax(lambda x: x[0], n=2).add_option("tolerance", 1), RuntimeError, "Unknown option"),
    "problem without callbacks": (lambda: pounce.Problem(2, 0, object()), ValueError, "`objective`"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    run, error, text = BAD[name]
    with pytest.raises(error, match=text):
        run()
