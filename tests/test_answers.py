"""What a solution says is true of its point, whatever ended the solve; and solves that get no further do end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce


jax.config.update("jax_enable_x64", True)
QUIET = {"print_level": 0}


def objective(x, p):
    """One program of many kinds: a product, a valley, a distance (which has a kink) and a slope, weighted by ``p``."""
    valley = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    return p[0] * x[0] * x[1] + p[1] * valley + p[2] * jnp.sqrt(x @ x) + p[3] * x[0]


def rows(x, p):
    return jnp.stack([x[0] ** 2 + x[1] ** 2 - p[4], x[0] - x[1]])


LB, UB, CL, CU = np.array([-4.0, -4.0]), np.array([4.0, np.inf]), np.array([0.0, -3.0]), np.array([np.inf, 3.0])
PROGRAMS = {
    "product": ([1.0, 0, 0, 0, 2.0], [3.0, 1.0]),
    "valley": ([0, 1.0, 0, 0, -1.0], [-1.2, 1.0]),
    "distance": ([0, 0, 1.0, 0, -1.0], [1.0, 2.0]),
    "slope, infeasible": ([0, 0, 0, 1.0, 90.0], [0.5, 0.4]),
    "solved at its bound": ([0, 0, 0, 1.0, 4.0], [-4.0, -4.0]),
}


def stated_violation(x, values):
    return max(0.0, np.max(LB - x), np.max(x - UB), np.max(CL - values), np.max(values - CU))


def check(p, x, f, values, multipliers, residuals, x0):
    """Every figure again, from the point and the multipliers alone."""
    x, p, (y, lower, upper) = np.asarray(x), jnp.asarray(p), (np.asarray(each) for each in multipliers)
    gradient, jacobian = (np.asarray(d(jnp.asarray(x), p)) for d in (jax.grad(objective), jax.jacrev(rows)))
    expected_f, expected_rows = float(objective(x, p)), np.asarray(rows(x, p))
    np.testing.assert_allclose(f, expected_f, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(values, expected_rows, rtol=1e-10, atol=1e-12)
    stationarity, violation, complementarity = (float(each) for each in residuals)
    size = 1 + np.max(np.abs(gradient)) + np.max(np.abs(lower)) + np.max(np.abs(upper)) + np.max(np.abs(y))
    left = np.max(np.abs(gradient + y @ jacobian - lower + upper))
    np.testing.assert_allclose(stationarity, left, atol=1e-10 * size * (1 + np.max(np.abs(jacobian))))
    np.testing.assert_allclose(violation, stated_violation(x, expected_rows), rtol=1e-9, atol=1e-12)
    with np.errstate(invalid="ignore"):  # zero times infinity
        both = [
            lower * (x - LB), (upper * (UB - x))[np.isfinite(UB)],
            np.maximum(-y, 0) * (expected_rows - CL), (np.maximum(y, 0) * (CU - expected_rows))[np.isfinite(CU)],
        ]  # fmt: skip
    np.testing.assert_allclose(complementarity, np.max(np.abs(np.concatenate(both))), rtol=1e-8, atol=1e-10 * size)
    x0 = np.asarray(x0)
    started = float(objective(x0, p)), stated_violation(x0, np.asarray(rows(x0, p)))
    ended = expected_f, stated_violation(x, expected_rows)
    assert not (ended[0] > started[0] + 1e-9 and ended[1] >= started[1]), (started, ended)


NLP = pounce.NLP(objective, rows, lb=LB, ub=UB, cl=CL, cu=CU)


@pytest.mark.parametrize("name", PROGRAMS)
def test_solutions_belong_to_their_point_at_every_limit(name):
    p, x0 = (jnp.asarray(each, float) for each in PROGRAMS[name])
    for limit in range(41):
        s = pounce.solve(NLP, pounce.InteriorPoint(max_iter=limit), x0, p)
        z, r = s.multipliers, s.residuals
        figures = r.stationarity, r.constraint_violation, r.complementarity
        check(p, s.x, s.objective, s.constraints, (z.constraints, z.lower, z.upper), figures, x0)
        if s.success:
            assert float(r.constraint_violation) < 1e-6 and name != "slope, infeasible"


class Stopping:
    """The program as callbacks, with `intermediate` that stops at an iteration."""

    def __init__(self, p, last):
        self.p, self.last = jnp.asarray(p, float), last
        with jax.enable_x64(True):
            self._functions = jax.jit(lambda x: (objective(x, self.p), rows(x, self.p)))
            self._derivatives = jax.jit(lambda x: (jax.grad(objective)(x, self.p), jax.jacrev(rows)(x, self.p)))

    def objective(self, x):
        return float(self._functions(x)[0])

    def gradient(self, x):
        return np.asarray(self._derivatives(x)[0])

    def constraints(self, x):
        return np.asarray(self._functions(x)[1])

    def jacobian(self, x):
        return np.asarray(self._derivatives(x)[1]).ravel()

    def intermediate(self, mode, iteration, *figures):
        return iteration < self.last


@pytest.mark.parametrize("name", PROGRAMS)
def test_info_belongs_to_its_point_at_every_stop(name):
    p, x0 = PROGRAMS[name]
    o = Stopping(p, 0)
    problem = pounce.Problem(2, 2, o, LB, UB, CL, CU)
    problem.add_option("print_level", 0)

    def solved():
        x, info = problem.solve(np.array(x0))
        figures = info["final_dual_inf"], info["final_constr_viol"], info["final_compl"]
        check(p, x, info["obj_val"], info["g"], [info[f"mult_{k}"] for k in ("g", "x_L", "x_U")], figures, x0)
        return info["status"]

    for o.last in (*range(0, 20, 2), 35):
        assert solved() in (5, 0, 1, 2, 3, -2) or o.last > 5
    o.last = 10**6
    for limit in (*range(1, 20, 3), 40):
        problem.add_option("max_iter", limit)
        solved()
    problem.add_option("max_wall_time", 1e-9)
    assert solved() == pounce.Status.Maximum_WallTime_Exceeded


def test_clipped_points_have_their_own_figures():
    p, x0 = (jnp.asarray(each, float) for each in PROGRAMS["solved at its bound"])
    s = pounce.solve(NLP, pounce.InteriorPoint(honor_original_bounds="yes"), x0 + 1, p)
    assert s.success and np.all(s.x >= LB) and np.all(s.x <= UB)
    z, r = s.multipliers, s.residuals
    figures = r.stationarity, r.constraint_violation, r.complementarity
    check(p, s.x, s.objective, s.constraints, (z.constraints, z.lower, z.upper), figures, x0 + 1)


def test_a_problem_that_is_none_has_no_objective():
    s = jax.jit(lambda low: pounce.solve(pounce.NLP(objective, rows, lb=low, ub=UB, cl=CL, cu=CU), pounce.InteriorPoint(),
                jnp.zeros(2), jnp.ones(5)))(jnp.array([5.0, 0.0]))  # fmt: skip
    assert s.status == pounce.Status.Invalid_Problem_Definition
    assert np.isnan(s.objective) and np.all(np.isnan(s.constraints)) and np.all(np.isfinite(s.x))


def counted(f):
    """The function, which JAX cannot trace, and how often it has been called; too often is an error."""

    def g(x):
        g.calls += 1
        assert g.calls < 1000, "no end"
        return float(f(np.asarray(x)))

    g.calls = 0
    return g


def valley(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def valley_gradient(x):
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


def noisy(size, random):
    return lambda x: valley(x) + size * random.normal()


# function, gradient, start, bounds, calls, value at least reached
HOPELESS = {
    "noise": (noisy(1e-7, np.random.default_rng(3)), "3-point", [-1.2, 1.0], None, 400, 0.1),
    "loud noise": (noisy(1e-3, np.random.default_rng(4)), None, [0.0, 0.0], None, 400, 1.005),
    "noise between bounds": (noisy(1e-6, np.random.default_rng(5)), None, [0.0, 0.0], [(-1, 0.5)] * 2, 500, 0.3),
    "wrong sign": (valley, lambda x: -valley_gradient(x), [0.5, 0.5], None, 100, 6.5),
    "half wrong": (valley, lambda x: valley_gradient(x) * [1, -1], [0.5, 0.5], None, 200, 6.5),
    "wall": (lambda x: valley(x) if x[0] < 0.6 else np.nan, None, [-1.2, 1.0], None, 450, 0.2),
    "drift": (counted(valley), None, [0.2, 0.1], None, 400, 1.0),
}


@pytest.mark.parametrize("name", HOPELESS)
@pytest.mark.filterwarnings("ignore")
def test_functions_that_cannot_be_improved_end_the_solve(name):
    f, jac, x0, bounds, most, value = HOPELESS[name]
    if name == "drift":
        f = counted(lambda x, inner=f: valley(x) + 1e-4 * (inner(x) * 0 + inner.calls))
    f = counted(f)
    r = pounce.minimize(f, x0, jac=jac, bounds=bounds, options=QUIET)
    assert f.calls <= most, (f.calls, r.message)
    assert not r.success and r.status in (pounce.Status.Search_Direction_Becomes_Too_Small,)
    assert valley(r.x) <= value  # that of the start, and noise, at most


def test_nobody_calls_a_problem_infeasible_whose_start_is_feasible():
    """The row's derivative has the wrong sign, so that restoration runs away from it."""
    row = {"type": "ineq", "fun": lambda x: np.array([2 - x @ x]), "jac": lambda x: 2 * x[None]}
    r = pounce.minimize(
        lambda x: (x - 1) @ (x - 1), [0.4, -0.3], jac=lambda x: 2 * (x - 1), constraints=row, options=QUIET
    )
    assert not r.success and r.status != pounce.Status.Infeasible_Problem_Detected
    assert r.x @ r.x <= 2 and r.fun <= (0.6**2 + 1.3**2)
