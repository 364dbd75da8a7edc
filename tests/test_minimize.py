"""`pounce.minimize` against SciPy's own methods, and everything it promises about evaluations, derivatives and results."""

import re
import subprocess
import sys
import threading
import traceback
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint, OptimizeResult, rosen, rosen_der, rosen_hess
from scipy.sparse.linalg import aslinearoperator

import pounce
from pounce import CyIpoptEvaluationError, minimize, minimize_ipopt
from pounce._linalg.sparse import Pattern
from pounce._problem import tracing
from pounce._problem.coloring import color_columns
from pounce._problem.finite_differences import Differences

from .hostile_problems import HOSTILE
from .scipy_problems import PROBLEMS


def ball(x):
    return 2.0 - x[0] ** 2 - x[1] ** 2


def plain(x):
    """Traceable, in NumPy notation."""
    return (x[0] - 2.0) ** 2 + (x[1] + 1.0) ** 2 + 0.1 * x[0] ** 4


def opaque(x):
    """The same, but not for JAX."""
    return float(x[0] - 2.0) ** 2 + float(x[1] + 1.0) ** 2 + 0.1 * float(x[0]) ** 4


def silent(*arguments, **keywords):
    """`minimize`, where any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return minimize(*arguments, **keywords)


def quiet(*arguments, **keywords):
    """`minimize` without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minimize(*arguments, **keywords)


def violation(x, constraints):
    worst = 0.0
    for constraint in constraints:
        rows = np.atleast_1d(constraint["fun"](x))
        worst = max(worst, np.max(np.abs(rows) if constraint["type"] == "eq" else -rows))
    return worst


# Agreement with SciPy


def by_scipy(fun, x0, keywords):
    ftol = keywords.get("tol", 1e-8) * 1e-3
    keywords = {name: value for name, value in keywords.items() if name != "tol"}
    constraints = keywords.get("constraints", ())
    each = constraints if isinstance(constraints, (list, tuple)) else [constraints]
    if keywords.keys() & {"hess", "hessp"} or any(isinstance(c, (LinearConstraint, NonlinearConstraint)) for c in each):
        options = {"gtol": 1e-9, "xtol": 1e-12, "maxiter": 3000, "sparse_jacobian": False}
        return scipy.optimize.minimize(fun, x0, method="trust-constr", options=options, **keywords)
    return scipy.optimize.minimize(fun, x0, method="SLSQP", options={"ftol": ftol, "maxiter": 500}, **keywords)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", PROBLEMS, ids=lambda make: make.__name__)
def test_agrees_with_scipy(make):
    ours = minimize(*make()[:2], **make()[2])
    theirs = by_scipy(*make())
    assert ours.success and ours.status == 0, ours.message
    assert theirs.success, theirs.message
    assert ours.fun == pytest.approx(theirs.fun, abs=1e-6, rel=1e-6)
    assert ours.constr_violation <= 1e-8
    np.testing.assert_allclose(ours.x, theirs.x, atol=2e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    ["tutorial_value_and_gradient", "trust_constr_tutorial", "slsqp_equality", "hs071", "tutorial_hessian_product"],
)
def test_as_a_method_of_scipy(name):
    make = next(make for make in PROBLEMS if make.__name__ == name)
    fun, x0, keywords = make()
    direct = minimize(fun, x0, **keywords)
    through = scipy.optimize.minimize(fun, x0, method=minimize, **keywords)
    assert isinstance(through, OptimizeResult) and through.success
    np.testing.assert_array_equal(through.x, direct.x)
    assert (through.nit, through.nfev, through.njev, through.nhev) == (
        direct.nit,
        direct.nfev,
        direct.njev,
        direct.nhev,
    )


def test_options_tolerance_and_callback_through_scipy():
    seen = []
    result = scipy.optimize.minimize(
        plain, [0.0, 0.0], method=minimize, tol=1e-4, options={"maxiter": 2}, callback=lambda xk: seen.append(xk)
    )
    assert result.status == -1 and result.nit == 2 == len(seen)
    loose = scipy.optimize.minimize(plain, [0.0, 0.0], method=minimize, tol=1e-1)
    tight = scipy.optimize.minimize(plain, [0.0, 0.0], method=minimize, tol=1e-12)
    assert loose.success and tight.success and loose.nit < tight.nit


# Where functions are evaluated


class Recorder:
    """Counts what it is called with, and keeps it. Not for JAX to trace."""

    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, x, *more):
        assert type(x) is np.ndarray and x.dtype in (np.float64, np.complex128) and x.ndim == 1
        self.points.append(x.copy())
        return self.function(x, *more)

    def outside(self, lb, ub):
        points = np.real(self.points)
        return int(np.sum(np.any((points < lb) | (points > ub), axis=1)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("jac", [None, "2-point", "3-point", "cs", rosen_der])
@pytest.mark.parametrize("x0", [[-3.0, 9.0], [0.5, 0.25], [0.0, 0.0]])
@pytest.mark.parametrize(
    "box", [([0.0, 0.0], [0.8, 0.5]), ([-0.5, 0.25], [0.5, 0.25]), ([0.6, -np.inf], [0.6 + 1e-9, 0.3])]
)
def test_every_evaluation_is_within_the_bounds(box, x0, jac):
    fun, rows = Recorder(rosen), Recorder(lambda x: [x[0] + x[1] - 0.4, 3.0 - x[0]])
    recorders = [fun, rows]
    if callable(jac):
        jac = Recorder(jac)
        recorders.append(jac)
    result = minimize(fun, x0, jac=jac, bounds=Bounds(*box), constraints=NonlinearConstraint(rows, 0.0, np.inf))
    assert result.success, result.message
    assert np.all(result.x >= box[0]) and np.all(result.x <= box[1])
    assert all(recorder.points for recorder in recorders)
    assert sum(recorder.outside(*box) for recorder in recorders) == 0


def test_nothing_is_evaluated_twice_in_a_row():
    fun, rows = Recorder(opaque), Recorder(lambda x: [float(ball(x))])
    quiet(fun, [0.0, 0.5], constraints={"type": "ineq", "fun": rows})
    both = Recorder(lambda x: (opaque(x), np.array([2 * (x[0] - 2) + 0.4 * x[0] ** 3, 2 * (x[1] + 1)])))
    result = quiet(both, [0.0, 0.5], jac=True)
    for recorder in (fun, rows, both):
        assert not any(np.array_equal(a, b) for a, b in zip(recorder.points, recorder.points[1:]))
    assert result.nfev == len(both.points)


def test_functions_get_their_own_copy():
    def vandal(x):
        value = opaque(x)
        x[:] = np.nan
        return value

    assert quiet(vandal, [0.0, 0.0]).success


# Never success where there is none


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "fun", "x0", "keywords"), HOSTILE, ids=[name for name, *_ in HOSTILE])
def test_no_success_at_an_infeasible_or_undefined_point(name, fun, x0, keywords):
    result = minimize(fun, x0, max_iter=100, **keywords)
    assert result.x.shape == (2,) and isinstance(result.success, bool)
    if result.success:
        assert np.all(np.isfinite(result.x)) and np.isfinite(result.fun)
        assert violation(result.x, keywords.get("constraints", ())) <= 1e-6
        for x, (low, high) in zip(result.x, keywords.get("bounds") or ()):
            assert (low is None or low <= x) and (high is None or x <= high)
    if name.startswith("infeasible"):
        assert not result.success and result.status in (2, -10, -1)


@pytest.mark.parametrize("options", [{"max_iter": 1}, {"max_wall_time": 1e-9}])
def test_success_of_a_solve_that_was_cut_off(options):
    assert not minimize(rosen, [-1.2, 1.0], jac=rosen_der, **options).success
    solved = minimize(lambda x: (x - 1) @ (x - 1), [1.0, 1.0], **options)
    assert solved.success and solved.x == pytest.approx([1.0, 1.0])


def test_no_success_by_the_error_of_a_program_that_was_never_looked_at():
    too_many = [{"type": "eq", "fun": lambda x: x[0]}] * 3
    result = minimize(lambda x: x[0] ** 2 + x[1] ** 2, [0.0, 0.0], constraints=too_many)
    assert result.status == -10 and not result.success


# Derivatives


def data_fit(data):
    return lambda x: jnp.sum((x[0] * jnp.exp(-x[1] * jnp.arange(4.0)) - data) ** 2)


@pytest.mark.parametrize("fun", [plain, lambda x: jnp.sum((x - 1) ** 4), lambda x: (x - 1) @ (x - 1) + 1])
def test_traceable_functions_have_exact_derivatives(fun):
    result = silent(fun, [0.0, 0.0], constraints={"type": "ineq", "fun": ball}, tol=1e-11)
    assert result.success and result.nhev > 0 and result.nfev < 40
    gradient = jax.grad(lambda x: jnp.asarray(fun(x), jnp.float64).reshape(()))(jnp.asarray(result.x))
    np.testing.assert_allclose(result.jac, gradient, atol=1e-12)
    info = result.info
    normal = np.array([-2 * result.x])
    np.testing.assert_allclose(result.jac + info["mult_g"] @ normal, 0.0, atol=1e-9)


@pytest.mark.parametrize("x64", [False, True])
def test_float64_whatever_the_flag_says(x64):
    with jax.enable_x64(x64):
        result = silent(data_fit(np.exp(-0.3 * np.arange(4)) * 1.7), [1.0, 1.0], tol=1e-12)
        assert jax.config.jax_enable_x64 is x64
    assert result.x.dtype == np.float64 and result.x == pytest.approx([1.7, 0.3], abs=1e-9)


def test_the_flag_survives_in_a_fresh_process():
    code = (
        "import jax, jax.numpy as jnp, warnings\n"
        "warnings.simplefilter('error')\n"
        "from pounce import minimize\n"
        "seen = []\n"
        "rows = {'type': 'eq', 'fun': lambda x: (seen.append(jax.config.jax_enable_x64), float(x[0] - x[1]))[1], "
        "'jac': lambda x: [1.0, -1.0]}\n"
        "result = minimize(lambda x: jnp.sum(jnp.cosh(x - jnp.array([0.3, 0.1]))), [2.0, -3.0], constraints=rows, tol=1e-10)\n"
        "print(result.success, abs(result.x - 0.2).max() < 1e-7, any(seen), jax.config.jax_enable_x64)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["True", "True", "False", "False"], done.stderr


def test_float32_functions_that_cannot_be_traced_are_named():
    with jax.enable_x64(False), pytest.warns(UserWarning, match="`fun` in float32.*jax_enable_x64"):
        result = minimize(lambda x: jnp.sum((x - 1) ** 2), [0.0, 0.0], jac=lambda x: 2 * (x - 1))
    assert result.x == pytest.approx([1.0, 1.0], abs=1e-4)


def test_what_a_function_closes_over_is_up_to_date():
    shift = [1.0]
    fun = lambda x: (x[0] - shift[0]) ** 2 + x[1] ** 2
    for target in (1.0, -2.0):
        shift[0] = target
        assert silent(fun, [0.5, 0.5]).x == pytest.approx([target, 0.0], abs=1e-8)


def test_functions_of_the_same_operations_are_compiled_once():
    silent(data_fit(np.arange(4.0)), [1.0, 1.0])
    before = tracing._shared.cache_info()
    results = [silent(data_fit(np.exp(-rate * np.arange(4))), [1.0, 1.0]) for rate in (0.5, 0.8)]
    after = tracing._shared.cache_info()
    assert after.misses == before.misses and after.hits > before.hits
    assert [result.x[1] for result in results] == pytest.approx([0.5, 0.8], abs=1e-6)


def test_programs_that_differ_are_told_apart():
    for power, scale in ((2, 1.0), (4, 1.0), (2, 3.0), (2, np.nextafter(3.0, 4.0))):
        fun = lambda x: jnp.sum(scale * (x - 1.5) ** power)
        result = silent(fun, [0.0, 0.0], max_iter=1)
        np.testing.assert_allclose(result.jac, jax.grad(fun)(jnp.asarray(result.x)), rtol=1e-14)


def branching(x):
    return (x[0] - 1) ** 2 + (2.0 if x[1] > 0 else 1.0) * x[1] ** 2


def guarded(x):
    try:
        return float(np.log1p(x[0] ** 2)) + x[1] ** 2
    except Exception:
        return 1e10


def loop_of_unknown_length(x):
    return jax.lax.while_loop(
        lambda c: c[0] < 3 + 0 * x[1], lambda c: (c[0] + 1, c[1] + (x[0] - 1) ** 2), (0.0, x[1] ** 2)
    )[1]


@pytest.mark.parametrize("fun", [opaque, branching, guarded, loop_of_unknown_length, lambda x: (x @ x) ** 0.75])
def test_other_functions_are_approximated_with_one_warning(fun):
    with pytest.warns(UserWarning) as caught:
        result = minimize(fun, [0.0, 0.0] if fun(np.zeros(2)) == 0 else [0.3, 0.4])
    assert len(caught) == 1 and "objective gradient" in str(caught[0].message)
    assert "constraint Jacobian" not in str(caught[0].message)
    assert caught[0].filename == __file__
    assert result.success and result.nhev == 0
    assert result.info["final_kkt_error"] <= 1e-6


def test_the_warning_names_what_is_approximated():
    row = lambda x: [float(ball(x))]
    with pytest.warns(UserWarning, match="objective gradient and the constraint Jacobian"):
        minimize(opaque, [0.0, 0.0], constraints=[{"type": "ineq", "fun": row}, {"type": "ineq", "fun": row}])
    with pytest.warns(
        UserWarning, match=r"approximate the constraint Jacobian.*`constraints\[0\]\[.fun.\]`: it asks for the num"
    ):
        minimize(plain, [0.0, 0.0], constraints={"type": "ineq", "fun": row})
    for jac in ("2-point", "3-point"):
        for constraint in ({"type": "ineq", "fun": row, "jac": jac}, {"type": "ineq", "fun": row}):
            result = silent(opaque, [0.0, 0.0], jac=jac, constraints=constraint)
            assert result.success and result.constr_violation <= 1e-8


def test_a_derivative_that_is_not_finite_at_the_start_is_called_so():
    """In float64, and without a word about float32: the values are those of the trace."""
    fun = lambda x: jnp.sqrt(x[0] ** 2 + (x[1] + 1) ** 2) + (x[1] + 2.0) ** 2
    with jax.enable_x64(False), pytest.warns(UserWarning) as caught:
        result = minimize(fun, [0.0, -1.0])
    (warning,) = caught
    assert "`fun`: its derivative by JAX is not finite at the starting point" in str(warning.message)
    np.testing.assert_allclose(result.x, [0.0, -1.5], atol=1e-5)


WEIGHT = [1.0]


def weighted(x):
    """Stationary where both variables have moved by ``t``: ``2 t + 2 w (2 t + 1) = 0``."""
    return x[0] ** 2 + (x[1] - 2.0) ** 2 + WEIGHT[0] * (x[0] + x[1] - 1.0) ** 2 + 0.0 * x[0] ** 4


def weighted_minimum():
    t = -WEIGHT[0] / (1 + 2 * WEIGHT[0])
    return [t, 2 + t]


@pytest.mark.parametrize("given", [{}, {"jac": "3-point"}])
@pytest.mark.parametrize("when", [0, 1, 2])
def test_what_a_callback_changes_counts(given, when):
    """From the first iteration on, once, or at the last moment."""
    WEIGHT[0], seen = 1.0, []

    def callback(x):
        seen.append(x)
        if when == 0 or len(seen) == when:
            WEIGHT[0] = 7.0

    result = quiet(weighted, [0.0, 0.0], callback=callback, **given)
    assert result.success and result.fun == pytest.approx(weighted(result.x), rel=1e-12)
    np.testing.assert_allclose(result.x, weighted_minimum(), atol=1e-5)


def test_what_a_callback_writes_into_an_array_counts():
    target = np.array([1.0, -1.0])

    def callback(intermediate_result):
        target[0] = 1.5

    for fun in (lambda x: jnp.sum((x - target) ** 2), lambda x: ((x - target) ** 2).sum() + 0.1 * x[0] ** 4):
        target[0] = 1.0
        result = quiet(fun, [0.0, 0.0], callback=callback)
        assert result.success and result.fun == pytest.approx(float(fun(result.x)), abs=1e-9)
        assert abs(result.x[0] - 1.0) > 0.1 and result.x[1] == pytest.approx(-1.0, abs=1e-6)


def test_a_function_that_changes_by_itself_has_the_last_word():
    """A counter that nobody can look at: success is what the function says when it is called."""
    state = iter(range(10**9))
    hidden = lambda x: (x[0] - 1.0) ** 2 + x[1] ** 2 + (x[0] if next(state) > 2 else 0.0)
    with pytest.warns(UserWarning, match="fun changed during the solve"):
        result = minimize(hidden, [0.0, 0.0])
    assert result.fun == pytest.approx(hidden(result.x), abs=1e-9)
    np.testing.assert_allclose(result.x, [0.5, 0.0], atol=1e-5)


def test_a_failure_names_the_worst_constraint_and_the_checker():
    row = LinearConstraint([[1.0, 0.0], [1.0, 1.0]], [-np.inf, 3.0], [0.5, 3.0])
    result = quiet(plain, [0.0, 0.0], constraints=[{"type": "ineq", "fun": ball}, row])
    assert not result.success and re.search(r"constraints\[\d\](, row \d)? is violated by \d", result.message)
    result = quiet(opaque, [0.0, 0.0], jac=lambda x: np.array([4.0 - 2 * x[0], -2.0]), options=dict(max_iter=15))
    assert not result.success and "`jac`" in result.message and "derivative_test" in result.message
    nan = quiet(plain, [0.0, 0.0], constraints={"type": "ineq", "fun": lambda x: np.nan})
    assert not nan.success and np.isnan(nan.constr_violation) and "constraints[0] is NaN" in nan.message


def test_functions_with_a_memory_are_called_and_not_traced():
    history, total = [], 0

    def fun(x):
        nonlocal total
        total += 1
        history.append(x.copy())
        return (x[0] - 1) ** 2 + x[1] ** 2

    class Model:
        calls = 0

        def cost(self, x):
            self.calls += 1
            return (x[0] - 1) ** 2 + x[1] ** 2

    result, model = quiet(fun, [0.0, 0.0]), Model()
    assert result.nhev == 0 and result.nfev == total == len(history)
    assert all(type(x) is np.ndarray for x in history)
    assert quiet(model.cost, [0.0, 0.0]).nfev == model.calls


def test_functions_written_in_jax_are_traced_whatever_they_remember():
    calls = 0

    def fun(x):
        nonlocal calls
        calls += 1
        return jnp.sum((x - 1) ** 4)

    result = silent(fun, [0.0, 3.0])
    assert result.success and result.nhev > 0 and calls <= 4  # twice for its value, traced before and after


def test_schemes_by_name_leave_jax_alone():
    seen = Recorder(plain)
    result = silent(seen, [0.0, 0.0], jac="3-point")
    assert result.success and result.nhev == 0 and len(seen.points) == result.nfev


@pytest.mark.parametrize("form", ["array", "sparse", "operator", "product", "2-point", "3-point", "cs", "traced"])
def test_forms_of_a_hessian(form):
    from scipy.sparse import csc_array

    hess = {
        "array": rosen_hess,
        "sparse": lambda x: csc_array(rosen_hess(x)),
        "operator": lambda x: aslinearoperator(rosen_hess(x)),
    }
    keywords = {"jac": rosen_der, "hess": hess.get(form, form)}
    if form == "product":
        keywords = {"jac": rosen_der, "hessp": lambda x, p: rosen_hess(x) @ p}
    elif form == "traced":
        keywords = {"hess": rosen_hess}
    result = silent(
        rosen if form != "traced" else lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        [-1.2, 1.0],
        **keywords,
    )
    assert result.success and result.nhev > 0 and result.x == pytest.approx([1.0, 1.0], abs=1e-7)


def test_update_strategies_choose_the_quasi_newton_formula():
    from scipy.optimize import BFGS, SR1

    for strategy in (BFGS(), SR1()):
        result = silent(plain, [0.0, 0.0], hess=strategy)
        assert result.success and result.nhev == 0
    assert silent(plain, [0.0, 0.0], hessian_approximation="limited-memory").nhev == 0


def test_second_derivatives_of_constraints():
    rows = {
        "type": "ineq",
        "fun": lambda x: ball(x),
        "jac": lambda x: -2 * x,
        "hess": lambda x, v: -2 * v[0] * np.eye(2),
    }
    exact = silent(plain, [0.0, 0.0], constraints=rows)
    assert exact.success and exact.nhev > 0
    del rows["hess"]
    approximate = silent(plain, [0.0, 0.0], constraints=rows)
    assert approximate.success and approximate.nhev == 0 and approximate.x == pytest.approx(exact.x, abs=1e-6)
    linear = LinearConstraint([1.0, 1.0], -np.inf, 0.5)
    assert (
        silent(
            opaque, [0.0, 0.0], jac="3-point", hess=lambda x: np.diag([2 + 1.2 * x[0] ** 2, 2.0]), constraints=linear
        ).nhev
        > 0
    )


@pytest.mark.parametrize(("scheme", "error"), [("2-point", 1e-6), ("3-point", 1e-8), ("cs", 1e-14)])
def test_differences(scheme, error):
    function = lambda x: np.array([np.exp(x[0]) * x[1], x[1] ** 3, np.sin(x[0])])
    for x in ([0.3, 2.0], [0.3 + 1e-9, 2.0], [0.4, 1.0], [0.4, 1.0 + 1e-7]):
        x = np.array(x)
        exact = [[np.exp(x[0]) * x[1], np.exp(x[0])], [0, 3 * x[1] ** 2], [np.cos(x[0]), 0]]
        lb, ub = np.array([0.3, 1.0]), np.array([0.4, 2.0])
        np.testing.assert_allclose(
            Differences(lb, ub, scheme).jacobian(function, x, function(x)), exact, atol=10 * error
        )


@pytest.mark.parametrize(("scheme", "error"), [("2-point", 3e-4), ("3-point", 1e-5), ("cs", 1e-12)])
def test_difference_steps_fit_the_size_of_a_variable(scheme, error):
    """Of variables from 1e-13 to 1e5, in boxes that say so and in none; of one that is small by chance, the step stays long."""
    size = np.array([1e-13, 3e-7, 4e-5, 0.02, 1.0, 1e5])
    n, calls = size.size, 0

    def function(x):
        nonlocal calls
        calls += 1
        return np.append(np.log(x / size) ** 2 + np.sin(x / size), np.sum(x / size))

    pattern = Pattern.of(np.vstack([np.eye(n), np.ones(n)]))
    for box in (np.inf, 20.0):
        differences = Differences(0.01 * size if np.isfinite(box) else -box * size, box * size, scheme)
        for factor in (0.3, 1.0, 2.0, 0.02):
            x = factor * size
            slopes = 2 * np.log(factor) / x + np.cos(factor) / size
            exact = np.vstack([np.diag(slopes), 1 / size])
            found = differences.jacobian(function, x, function(x))
            np.testing.assert_allclose(found * size, exact * size, rtol=30 * error, atol=100 * error)
            entries = differences.entries(function, x, function(x), color_columns(pattern))
            np.testing.assert_allclose(entries, found[pattern.rows, pattern.columns], rtol=1e-12, atol=1e-12)
    assert calls < 8 * n * 15
    for x in (0.0, 1e-11, -1e-5):  # not small, but near zero
        shifted = lambda x: np.array([np.exp(x[0] + 0.5)])
        found = Differences(np.full(1, -np.inf), np.full(1, np.inf), scheme).jacobian(
            shifted, np.array([x]), shifted(np.array([x]))
        )
        np.testing.assert_allclose(found, np.exp(x + 0.5), rtol=error)


def test_scipys_options_of_differences():
    seen = []

    def fun(x):
        seen.append(x.copy())
        return opaque(x)

    for options, step in ((dict(eps=[1e-2, 1e-3]), [1e-2, 1e-3]), (dict(finite_diff_rel_step=1e-2), [2e-2, 1e-2])):
        seen.clear()
        assert silent(fun, [2.0, 1.0], jac="2-point", options=options | dict(max_iter=1)).nfev == len(seen)
        moved = [x - [2.0, 1.0] for x in seen]
        for i in (0, 1):
            assert any(np.allclose(m, np.eye(2)[i] * step[i]) for m in moved)
    with pytest.raises(pounce.OptionError, match="`eps`"):
        minimize(opaque, [0.0, 0.0], jac="2-point", eps=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("scheme", ["2-point", "3-point", "cs"])
def test_differences_of_a_known_pattern(scheme):
    """Variables of one colour are moved together, and each as it would be alone: at bounds, fixed, or where values are NaN."""
    n = 9
    pattern = Pattern.of(np.tri(n, n, 1, bool) & ~np.tri(n, n, -2, bool))
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, n)
    x[7] = 1e-9  # a step to the left leads out of where the logarithm is defined
    lb, ub = x - 0.5, x + 0.5
    lb[1], ub[3] = x[1], x[3] + 1e-7
    lb[4] = ub[4] = x[4]
    calls = []

    def function(x):
        calls.append(x)
        assert np.all((x.real >= lb) & (x.real <= ub))
        with np.errstate(invalid="ignore"):
            logarithm = np.log(x)
        return np.cos(logarithm) * np.append(x[1:], 1.0) ** 2 + np.append(0.0, np.sin(x[:-1]))

    differences, value = Differences(lb, ub, scheme), function(x)
    dense = differences.jacobian(function, x, value)
    calls.clear()
    found = differences.entries(function, x, value, color_columns(pattern))
    np.testing.assert_allclose(found, dense[pattern.rows, pattern.columns], rtol=1e-12, atol=1e-12)
    assert not np.any(dense[~pattern.scipy().toarray().astype(bool)])
    assert len(calls) < {"2-point": 9, "3-point": 15, "cs": 4}[scheme]
    assert differences.entries(lambda x: x[:0], x, value[:0], color_columns(Pattern.empty(0, n))).shape == (0,)


@pytest.mark.filterwarnings("ignore")
def test_differences_at_the_edge_of_where_a_function_is_defined():
    result = minimize(lambda x: float(x[0] * np.log(x[0]) + (x[1] - 1) ** 2), [1e-7, 0.5])
    assert result.success and result.x == pytest.approx([np.exp(-1), 1.0], abs=1e-6)


# What comes back


def test_result():
    result = minimize(
        plain, [0, 0], bounds=[(None, 1), (-0.5, None)], constraints=LinearConstraint([1, 1], -np.inf, 0.25)
    )
    assert isinstance(result, OptimizeResult)
    assert result["x"] is result.x and result.message == "Solve_Succeeded" == result.info["status_msg"]
    assert (result.success, result.status) == (True, 0) == (True, result.info["status"])
    assert result.fun == plain(result.x) == result.info["obj_val"] and result.wall_time > 0
    assert result.nit == result.info["iter_count"] and result.nfev == result.info["n_obj_evals"]
    info, A = result.info, np.array([[1.0, 1.0]])
    np.testing.assert_allclose(result.jac + info["mult_g"] @ A - info["mult_x_L"] + info["mult_x_U"], 0.0, atol=1e-7)
    assert info["mult_x_L"][1] > 0.1 and info["mult_g"][0] > 0.1
    np.testing.assert_array_equal(info["x"], result.x)
    for key in ("g", "mu", "final_kkt_error", "final_constr_viol", "pinned_vars", "active_constraints", "n_hess_evals"):
        assert key in info


def test_shapes_that_scipy_accepts():
    assert minimize(lambda x: (x - 2) ** 2, 5).x == pytest.approx([2.0])
    assert minimize(lambda x: (x - 2) ** 2, np.array(5)).x.shape == (1,)
    assert minimize(lambda x: np.sum((x - 2) ** 2, keepdims=True), np.array([1, 4])).x == pytest.approx([2.0, 2.0])
    assert minimize(lambda x: x[0] ** 2, [[1.0]][0], jac=lambda x: 2 * x[0]).success
    column = {"type": "ineq", "fun": lambda x: np.array([[x[0] - 1], [x[1] - 1]]), "jac": lambda x: np.eye(2)}
    assert minimize(plain, [2.0, 2.0], constraints=column).success
    nothing = {"type": "ineq", "fun": lambda x: np.zeros(0)}
    assert minimize(plain, [2.0, 2.0], constraints=[nothing]).success


def test_nothing_to_solve_for():
    result = minimize(lambda x: 1.0, [])
    assert result.status == -11 and not result.success and result.x.shape == (0,)
    fixed = minimize(plain, [0.0, 0.0], bounds=[(1, 1), (2, 2)])
    assert fixed.success and fixed.x.tolist() == [1.0, 2.0] and fixed.fun == plain(fixed.x)


def test_orders_of_arguments():
    gradient = lambda x: np.array([2 * (x[0] - 2) + 0.4 * x[0] ** 3, 2 * (x[1] + 1)])
    hess = lambda x: np.diag([2 + 1.2 * x[0] ** 2, 2.0])
    bounds, rows = [(0, 1), (0, 1)], [LinearConstraint([1, 1], 1, 1)]
    named = minimize(plain, [0, 0], jac=gradient, hess=hess, bounds=bounds, constraints=rows, options={"max_iter": 50})
    page = minimize(plain, [0, 0], gradient, hess, bounds, rows, {"max_iter": 50})
    union = minimize(plain, [0, 0], (), gradient, hess, bounds, rows, None, None, {"max_iter": 50})
    mixed = minimize(plain, [0, 0], gradient, bounds=bounds, constraints=rows, hess=hess)
    for other in (page, union, mixed):
        np.testing.assert_array_equal(other.x, named.x)
    pair = minimize(lambda x: (plain(x), gradient(x)), [0, 0], True)
    assert pair.success and not minimize(plain, [0, 0], False, max_iter=1).success
    assert minimize_ipopt is minimize is pounce.minimize is pounce.minimize_ipopt


def test_arguments_of_functions():
    fun = lambda x, a, b: (x[0] - a) ** 2 + (x[1] - b) ** 2
    assert minimize(fun, [0, 0], (1.0, 2.0)).x == pytest.approx([1.0, 2.0])
    assert minimize(lambda x, a: fun(x, a, a), [0, 0], 3.0).x == pytest.approx([3.0, 3.0])
    rows = {"type": "eq", "fun": lambda x, c: x[0] + x[1] - c, "jac": lambda x, c: [1.0, 1.0], "args": (1.0,)}
    assert minimize(fun, [0, 0], (1.0, 2.0), constraints=rows).x == pytest.approx([0.0, 1.0])


def test_warm_start():
    keywords = {"bounds": [(0, 1), (0, 1)], "constraints": {"type": "ineq", "fun": lambda x: 0.5 - x[0] * x[1] - x[0]}}
    cold = minimize(plain, [0.9, 0.9], **keywords)
    for earlier in (cold, cold.info):
        warm = minimize(plain, [0.9, 0.9], warm_start=earlier, mu_init=1e-6, **keywords)
        assert warm.success and warm.nit < cold.nit
        assert warm.x == pytest.approx(cold.x, abs=1e-6)


# Callbacks


def test_callback_forms():
    x0, points, states, both = [-1.2, 1.0], [], [], []
    one = minimize(rosen, x0, jac=rosen_der, callback=lambda xk: points.append(xk))
    minimize(rosen, x0, jac=rosen_der, callback=lambda intermediate_result: states.append(intermediate_result))
    minimize(rosen, x0, jac=rosen_der, callback=lambda xk, state: both.append((xk, state)))
    assert len(points) == len(states) == len(both) == one.nit
    np.testing.assert_array_equal(points, [state.x for state in states])
    np.testing.assert_array_equal(points, [xk for xk, _ in both])
    assert [state.fun for state in states] == [rosen(x) for x in points]
    assert [state.nit for state in states] == list(range(1, one.nit + 1))
    np.testing.assert_array_equal(points[-1], one.x)


def stop_by_exception(xk):
    raise StopIteration


@pytest.mark.parametrize("callback", [stop_by_exception, lambda xk: True, lambda intermediate_result: np.True_])
def test_callbacks_stop(callback):
    result = minimize(rosen, [-1.2, 1.0], jac=rosen_der, callback=callback)
    assert (result.status, result.success, result.nit) == (5, False, 1)
    assert result.message == "User_Requested_Stop" and result.fun == rosen(result.x)


def test_only_true_stops():
    for answer in (1, "yes", np.ones(2), False, None):
        assert minimize(plain, [0.0, 0.0], callback=lambda xk: answer).success


@pytest.mark.parametrize("error", [ZeroDivisionError("in the user's code"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["fun", "jac", "constraint", "callback"])
def test_exceptions_pass_through(where, error):
    calls = 0

    def late(answer):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise error
        return answer

    rows = {
        "type": "ineq",
        "fun": lambda x: late(1.0 + x[0]) if where == "constraint" else 1.0 + x[0],
        "jac": lambda x: [1.0, 0.0],
    }
    with pytest.raises(type(error)) as caught:
        minimize(
            lambda x: late(rosen(x)) if where == "fun" else rosen(x),
            [-1.2, 1.0],
            jac=lambda x: late(rosen_der(x)) if where == "jac" else rosen_der(x),
            constraints=rows,
            callback=lambda xk: late(None) if where == "callback" else None,
        )
    assert "late" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("answer", [np.nan, np.inf, CyIpoptEvaluationError()])
def test_points_where_nothing_is_defined_are_rejected(answer):
    refused = 0

    def fun(x):
        nonlocal refused
        if x[0] <= -0.5:
            refused += 1
            if isinstance(answer, Exception):
                raise answer
            return answer
        return x[0] - np.log(x[0] + 0.5) + x[1] ** 2

    gradient = lambda x: np.array([1 - 1 / (x[0] + 0.5), 2 * x[1]])
    hess = lambda x: np.diag([(x[0] + 0.5) ** -2, 2.0])
    result = minimize(fun, [3.0, 1.0], jac=gradient, hess=hess)
    assert refused and result.success and result.x == pytest.approx([0.5, 0.0], abs=1e-6)


def test_jax_within_callables_and_threads():
    def fun(x):
        return float(jax.jit(lambda y: jnp.sum((y - 1) ** 2))(x)), np.asarray(2 * (x - 1))

    results = [None] * 4

    def work(i):
        results[i] = minimize(fun, [float(i), -1.0], jac=True)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(result is not None and result.success for result in results)


# Options


def test_options_by_any_name(capsys):
    assert minimize(rosen, [-1.2, 1.0], jac=rosen_der, options={"maxiter": 3}).nit == 3
    assert minimize(rosen, [-1.2, 1.0], jac=rosen_der, options={"maxiter": 3}, max_iter=4).nit == 4
    assert minimize(plain, [0.0, 0.0], options={"maxiter": None, "solver_selection": None}).success
    assert minimize(plain, [0.0, 0.0], options={"solver_selection": "nlp", "route_tol": 1e-4}).success
    assert minimize(plain, [0.0, 0.0], SOLVER_SELECTION="auto").success
    assert capsys.readouterr().out == ""
    minimize(plain, [0.0, 0.0], options={"disp": True})
    assert "inf_pr" in capsys.readouterr().out
    minimize(plain, [0.0, 0.0], options={"disp": False})
    assert capsys.readouterr().out == ""


def test_tolerance_is_a_default_of_the_options():
    loose, tight = minimize(rosen, [-1.2, 1.0], jac=rosen_der, tol=1e-2), minimize(rosen, [-1.2, 1.0], jac=rosen_der)
    assert loose.nit < tight.nit
    assert minimize(rosen, [-1.2, 1.0], jac=rosen_der, tol=1e-2, options={"ftol": 1e-8}).nit == tight.nit


def test_exact_hessians_that_are_not_to_be_had_are_warned_about():
    with pytest.warns(UserWarning, match="hessian_approximation=exact") as caught:
        result = minimize(rosen, [-1.2, 1.0], jac=rosen_der, options={"hessian_approximation": "exact"})
    assert result.success and result.nhev == 0 and caught[0].filename == __file__


def test_names_of_other_methods_are_warned_about():
    with pytest.warns(UserWarning, match="`method` = 'SLSQP'"):
        assert minimize(plain, [0.0, 0.0], method="SLSQP").success
    assert silent(plain, [0.0, 0.0], method="Ipopt").success


def test_derivative_checker(capsys):
    minimize(
        rosen,
        [0.5, 1.0],
        jac=lambda x: rosen_der(x) * [1, -1],
        bounds=[(0, 1), (0, 1)],
        derivative_test="first-order",
        max_iter=1,
    )
    assert "detected 1 error" in capsys.readouterr().out
