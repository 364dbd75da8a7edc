"""`pounce.Problem` on NumPy callbacks: cyipopt's interface, answers, and what callbacks may do."""

import pickle
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce._results import Status
from pounce._reverse import padded_size
from pounce._reverse.solve import Clock
from pounce._waiting import speaking
from pounce.jax import from_jax

from .host_problems import HS071, HS071WithHessian, Lasso
from .zoo import CASES


def problem_of(callbacks, **options):
    problem = pounce.Problem(n=callbacks.n, m=callbacks.m, problem_obj=callbacks, **callbacks.bounds)
    for name, value in ({"print_level": 0} | options).items():
        problem.add_option(name, value)
    return problem


def solve(callbacks, **options):
    return problem_of(callbacks, **options).solve(callbacks.x0)


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HS071WithHessian, HS071])
def test_hs071(kind):
    callbacks = kind()
    x, info = solve(callbacks)
    assert info["status"] == 0 and info["status_msg"] == "Solve_Succeeded"
    assert info["iter_count"] == 8  # Ipopt's number, with the exact Hessian and without
    np.testing.assert_allclose(x, HS071.solution, atol=1e-6)
    np.testing.assert_allclose(info["mult_g"], HS071.multipliers, atol=1e-6)
    assert abs(info["obj_val"] - 17.0140171) < 1e-6
    J = callbacks.jacobian(x).reshape(2, 4)
    residual = callbacks.gradient(x) + J.T @ info["mult_g"] - info["mult_x_L"] + info["mult_x_U"]
    np.testing.assert_allclose(residual, 0, atol=1e-7)
    np.testing.assert_array_equal(info["pinned_vars"], [True, False, False, False])
    np.testing.assert_array_equal(info["active_constraints"], [True, True])
    np.testing.assert_array_equal(info["x"], x)
    assert problem_of(callbacks).has_hessian == (kind is HS071WithHessian)


def test_evaluations_are_counted_and_no_more_than_needed():
    callbacks = HS071WithHessian()
    _, info = solve(callbacks)
    assert info["n_obj_evals"] == callbacks.calls["objective"] == callbacks.calls["constraints"] == 10
    assert info["n_grad_evals"] == info["n_jac_evals"] == 10  # the scaling at x0 and 9 iterates
    assert info["n_hess_evals"] == callbacks.calls["hessian"] == 9 - 1 + 1


def test_subclass_with_callbacks_as_methods():
    class Subclass(pounce.Problem, HS071WithHessian):
        def __init__(self):
            HS071WithHessian.__init__(self)
            pounce.Problem.__init__(self, n=4, m=2, **HS071.bounds)

    problem = Subclass()
    problem.addOption(b"print_level", 0)
    x, info = problem.solve(x=HS071.x0, lagrange=[], zl=[], zu=[])
    assert info["status"] == 0
    np.testing.assert_allclose(x, HS071.solution, atol=1e-6)


def test_lasso():
    rng = np.random.default_rng(0)
    A, y = rng.standard_normal((8, 4)), rng.standard_normal(8)
    lasso = Lasso(A, y, 2.0)
    problem = pounce.Problem(8, 8, lasso, cl=np.zeros(8), cu=np.full(8, np.inf))
    problem.add_option("print_level", 0)
    x, info = problem.solve(np.zeros(8))
    assert info["status"] == 0
    w = x[:4]
    slope = A.T @ (A @ w - y)
    assert np.all(np.abs(slope) <= 2.0 + 1e-6)  # the subgradient condition
    np.testing.assert_allclose((np.abs(slope) - 2.0)[np.abs(w) > 1e-4], 0, atol=1e-5)


def test_sparse_jacobian_with_repeated_entries_and_either_triangle():
    class Sparse:
        objective = staticmethod(lambda x: float(np.sum((x - 1) ** 2)))
        gradient = staticmethod(lambda x: 2 * (x - 1))
        constraints = staticmethod(lambda x: np.array([x[0] + x[1], x[2] * x[3]]))
        jacobianstructure = staticmethod(lambda: ([0, 0, 1, 1, 0], [0, 1, 2, 3, 0]))
        jacobian = staticmethod(lambda x: [0.25, 1.0, x[3], x[2], 0.75])
        hessianstructure = staticmethod(lambda: ([0, 1, 2, 3, 2], [0, 1, 2, 3, 3]))
        hessian = staticmethod(lambda x, y, w: np.array([2 * w, 2 * w, 2 * w, 2 * w, y[1]]))

    problem = pounce.Problem(4, 2, Sparse(), cl=[1, 0.5], cu=[1, 0.5])
    problem.add_option("print_level", 0)
    x, info = problem.solve(np.full(4, 0.7))
    assert info["status"] == 0
    np.testing.assert_allclose(x, [0.5, 0.5, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-6)


def test_both_triangles_of_a_hessian_are_one_matrix():
    """With a warning; whole or by halves of the diagonal, dense or sparse, in as many iterations as one triangle takes."""
    x, info = solve(HS071WithHessian())
    rows, columns = (np.append(k, [0, 0, 3]) for k in np.indices((4, 4)).reshape(2, -1))

    class Both(HS071WithHessian):
        hessianstructure = staticmethod(lambda: (rows, columns))

        def hessian(self, x, lagrange, obj_factor):
            row, column = np.tril_indices(4)
            matrix = np.zeros((4, 4))
            matrix[row, column] = matrix[column, row] = HS071WithHessian.hessian(LOWER, x, lagrange, obj_factor)
            return np.append(matrix.ravel(), [1.0, -1.0, 0.0])

    LOWER = HS071WithHessian()
    with pytest.warns(UserWarning, match="`hessianstructure` lists entries on both sides"):
        y, other = solve(Both())
    np.testing.assert_allclose(y, x, atol=1e-12)
    assert other["iter_count"] == info["iter_count"]


def test_structures_that_are_left_out_are_dense():
    class Dense:
        objective = staticmethod(lambda x: float(np.sum((x - 1) ** 2)))
        gradient = staticmethod(lambda x: 2 * (x - 1))
        constraints = staticmethod(lambda x: np.array([np.sum(x), x[0]]))
        jacobian = staticmethod(lambda x: np.array([[1.0, 1, 1, 1], [1, 0, 0, 0]]).ravel())
        hessian = staticmethod(lambda x, y, w: (2 * w * np.eye(4))[np.tril_indices(4)])

    class Off(Dense):
        jacobianstructure = hessianstructure = intermediate = None

    for callbacks in (Dense(), Off()):
        problem = pounce.Problem(4, 2, callbacks, cl=[1, -np.inf], cu=[1, np.inf])
        problem.add_option("print_level", 0)
        x, info = problem.solve(np.zeros(4))
        assert info["status"] == 0 and problem.has_hessian
        np.testing.assert_allclose(x, 0.25, atol=1e-8)
    callbacks.jacobianstructure = ([0], [0])
    with pytest.raises(TypeError, match="`jacobianstructure` must be callable or None"):
        problem.solve(np.zeros(4))


def test_user_scaling_changes_the_path_and_not_the_answer():
    plain = solve(HS071WithHessian())[1]
    problem = problem_of(HS071WithHessian(), nlp_scaling_method="user-scaling")
    problem.set_problem_scaling(obj_scaling=2.0, x_scaling=[1, 2, 3, 4], g_scaling=[0.5, 3.0])
    x, info = problem.solve(HS071.x0)
    assert info["status"] == 0
    np.testing.assert_allclose(x, HS071.solution, atol=1e-6)
    for key in ("mult_g", "mult_x_L", "mult_x_U", "g"):
        np.testing.assert_allclose(info[key], plain[key], atol=1e-5)
    problem.set_problem_scaling(obj_scaling=-1.0)
    assert problem.get_problem_scaling()[0] == -1.0
    x, info = problem.solve(HS071.x0)  # the largest value on the feasible set
    assert info["obj_val"] > 17.1
    problem.clear_problem_scaling()
    assert problem.get_problem_scaling() is None


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_callbacks_and_jax_functions_agree(case):
    """The padded program of the host door against the exact one of the JAX door."""
    x0, p = case.data()
    n = x0.size
    g = (lambda x: jnp.zeros(0)) if case.g is None else (lambda x: case.g(x, p))
    m = g(x0).size

    class Callbacks:
        objective = staticmethod(lambda x: float(case.f(x, p)))
        gradient = staticmethod(lambda x: np.asarray(jax.grad(case.f)(x, p)))
        constraints = staticmethod(lambda x: np.asarray(g(jnp.asarray(x))))
        jacobian = staticmethod(lambda x: np.asarray(jax.jacfwd(g)(jnp.asarray(x))).ravel())
        hessian = staticmethod(
            lambda x, y, w: np.asarray(jax.hessian(lambda x: w * case.f(x, p) + y @ g(x))(jnp.asarray(x)))[
                np.tril_indices(n)
            ]
        )

    given = ((case.lb, n, -np.inf), (case.ub, n, np.inf), (case.cl, m, -np.inf), (case.cu, m, np.inf))
    bounds = [np.broadcast_to(default if b is None else b, size) for b, size, default in given]
    problem = pounce.Problem(n, m, Callbacks(), *bounds)
    problem.add_option("print_level", 0)
    x, info = problem.solve(x0)
    native = pounce.NLP(case.f, case.g, lb=case.lb, ub=case.ub, cl=case.cl, cu=case.cu)
    expected = pounce.solve(native, pounce.InteriorPoint(), x0, p)
    assert info["status"] == int(expected.status)
    assert abs(info["iter_count"] - int(expected.stats.iterations)) <= 1
    np.testing.assert_allclose(x, expected.x, atol=1e-6)
    np.testing.assert_allclose(info["obj_val"], expected.objective, atol=1e-7)


def test_missing_derivatives_come_from_jax():
    class Functions:
        n, m, x0, bounds = 4, 2, HS071.x0, HS071.bounds
        objective = staticmethod(lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2])
        constraints = staticmethod(lambda x: jnp.stack([jnp.prod(x), x @ x]))

    with jax.enable_x64(False):  # the user's setting does not matter, and is left alone
        x, info = solve(Functions())
        assert jnp.ones(1).dtype == jnp.float32
    assert info["status"] == 0 and info["iter_count"] == 8 and x.dtype == np.float64
    np.testing.assert_allclose(x, HS071.solution, atol=1e-8)


def test_missing_derivatives_of_opaque_functions_are_an_error():
    class Functions:
        objective = staticmethod(lambda x: float(np.sum(np.asarray(x) ** 2)))

    problem = pounce.Problem(2, 0, Functions())
    with pytest.raises(TypeError, match="gradient"):
        problem.solve(np.ones(2))


def test_a_second_problem_of_the_shape_compiles_nothing():
    solve(HS071WithHessian())
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )

    class Other(HS071WithHessian):
        x0 = np.ones(4)
        bounds = dict(lb=[0.5] * 4, ub=[2.0] * 4, cl=[0.0, 0.0], cu=[1.0, 9.0])
        objective = staticmethod(lambda x: float(x @ x))
        gradient = staticmethod(lambda x: 2 * x)
        constraints = staticmethod(lambda x: np.array([x[0] - x[1], x[1] * x[2]]))
        jacobian = staticmethod(lambda x: np.array([1.0, -1, 0, 0, 0, x[2], x[1], 0]))
        hessianstructure = staticmethod(lambda: ([0, 1, 2, 3, 2], [0, 1, 2, 3, 1]))
        hessian = staticmethod(lambda x, y, w: np.array([2 * w, 2 * w, 2 * w, 2 * w, y[1]]))

    assert solve(Other(), tol=1e-9, mu_init=0.05)[1]["status"] == 0
    assert not compiled


def test_shapes_are_rounded_up_to_a_few():
    sizes = [padded_size(size) for size in range(300)]
    assert all(rounded >= size for size, rounded in enumerate(sizes))
    assert all(rounded <= 1.5 * size for size, rounded in enumerate(sizes) if size)
    assert sizes[:9] == [0, 1, 2, 3, 4, 6, 6, 8, 8] and len(set(sizes[:129])) == 17


@pytest.mark.parametrize("shape", [(5, 1), (7, 5)])
def test_rounding_up_changes_nothing_but_rounding(shape):
    """A projection with known answer in a shape that is padded both ways."""
    n, m = shape
    rng = np.random.default_rng(n)
    A, target = rng.standard_normal((m, n)), rng.standard_normal(n)

    class Projection:
        objective = staticmethod(lambda x: 0.5 * float((x - target) @ (x - target)))
        gradient = staticmethod(lambda x: x - target)
        constraints = staticmethod(lambda x: A @ x)
        jacobian = staticmethod(lambda x: A.ravel())
        hessian = staticmethod(lambda x, y, w: (w * np.eye(n))[np.tril_indices(n)])

    problem = pounce.Problem(n, m, Projection(), cl=np.zeros(m), cu=np.zeros(m))
    problem.add_option("print_level", 0)
    x, info = problem.solve(np.zeros(n))
    multipliers = np.linalg.solve(A @ A.T, A @ target)
    assert info["status"] == 0 and info["iter_count"] == 1 and x.shape == (n,)
    np.testing.assert_allclose(x, target - A.T @ multipliers, atol=1e-10)
    np.testing.assert_allclose(info["mult_g"], multipliers, atol=1e-8)


# -- what callbacks may do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["objective", "gradient", "constraints", "jacobian", "hessian", "intermediate"])
def test_an_exception_of_a_callback_comes_back_as_itself(name):
    class Custom(Exception):
        pass

    callbacks = HS071WithHessian()
    seen = []

    def failing(*arguments, **more):
        seen.append(1)
        if len(seen) == 3:
            raise Custom("from the callback")
        return True if name == "intermediate" else getattr(HS071WithHessian, name)(callbacks, *arguments)

    setattr(callbacks, name, failing)
    with pytest.raises(Custom, match="from the callback") as caught:
        solve(callbacks)
    assert any(entry.name == "failing" for entry in caught.traceback)
    setattr(callbacks, name, getattr(HS071WithHessian(), name, lambda *a, **k: True))
    assert solve(callbacks)[1]["status"] == 0  # nothing is left behind


@pytest.mark.parametrize("bad", [np.nan, np.inf, "evaluation error"])
@pytest.mark.parametrize("name", ["objective", "constraints"])
def test_a_point_that_cannot_be_evaluated_is_stepped_back_from(name, bad):
    callbacks = HS071WithHessian()
    original, seen = getattr(callbacks, name), []

    def once(x):
        seen.append(x)
        if len(seen) == 4:
            if bad == "evaluation error":
                raise pounce.CyIpoptEvaluationError
            return bad if name == "objective" else np.full(2, bad)
        return original(x)

    setattr(callbacks, name, once)
    x, info = solve(callbacks)
    assert info["status"] == 0
    np.testing.assert_allclose(x, HS071.solution, atol=1e-6)


def test_cyipopts_own_exception_is_understood():
    class CyIpoptEvaluationError(Exception):
        pass

    callbacks, seen = HS071WithHessian(), []

    def once(x):
        seen.append(x)
        if len(seen) == 4:
            raise CyIpoptEvaluationError
        return HS071.objective(callbacks, x)

    callbacks.objective = once
    assert solve(callbacks)[1]["status"] == 0


@pytest.mark.parametrize("name", ["objective", "gradient", "jacobian"])
def test_nan_at_the_start_is_an_invalid_number(name):
    callbacks = HS071WithHessian()
    setattr(callbacks, name, lambda x: np.full({"objective": 1, "gradient": 4, "jacobian": 8}[name], np.nan))
    assert solve(callbacks)[1]["status"] == -13


WRONG = {
    "objective": (np.ones(2), "scalar"),
    "gradient": (np.ones(3), "4 numbers"),
    "constraints": (np.ones(5), "2 numbers"),
    "jacobian": (np.ones((4, 2)), "8 numbers"),
    "hessian": (np.ones(16), "10 numbers"),
    "jacobianstructure": (([0, 1], [0]), "one length"),
    "hessianstructure": (([0, 9], [0, 1]), "row index of 9"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_shape_is_an_error_that_names_the_callback(name):
    value, expected = WRONG[name]
    callbacks = HS071WithHessian()
    setattr(callbacks, name, lambda *arguments: value)
    with pytest.raises(ValueError, match=f"`{name}`.*{expected}"):
        solve(callbacks)


def test_intermediate_sees_the_iterations_and_stops_the_solve():
    callbacks, rows = HS071WithHessian(), []

    def intermediate(
        alg_mod, iter_count, obj_value, inf_pr, inf_du, mu, d_norm, regularization_size, alpha_du, alpha_pr, ls_trials
    ):
        rows.append((iter_count, obj_value, inf_pr))
        return iter_count < 3

    callbacks.intermediate = intermediate
    _, info = solve(callbacks)
    assert info["status"] == 5 and info["status_msg"] == "User_Requested_Stop"
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    np.testing.assert_allclose(rows[1][1:], [1.6982239e1, 7.30e-1], rtol=1e-2)
    # cyipopt's positional form, and an answer of None
    rows.clear()
    callbacks.intermediate = lambda a, b, c, d, e, f, g, h, i, j, k: rows.append((b, k))
    assert solve(callbacks)[1]["status"] == 0
    assert [row[0] for row in rows] == list(range(9))
    for answer, status in (
        ([0], 0),
        ("no", 0),
        (np.ones(2), 0),
        ([], 5),
        (0.0, 5),
        (np.array([1, 0]), 5),
        (np.zeros(0), 5),
    ):
        callbacks.intermediate = lambda *arguments, answer=answer: answer
        assert solve(callbacks)[1]["status"] == status, answer


def test_the_current_iterate_inside_intermediate():
    callbacks, seen = HS071WithHessian(), []
    problem = problem_of(callbacks)

    def intermediate(*arguments):
        now, then = problem.get_current_iterate(), problem.get_current_violations()
        assert {name: value.shape for name, value in now.items()} == {
            "x": (4,), "mult_x_L": (4,), "mult_x_U": (4,), "g": (2,), "mult_g": (2,),
        }  # fmt: skip
        np.testing.assert_allclose(now["g"], HS071WithHessian().constraints(now["x"]), rtol=1e-12)
        J = HS071WithHessian().jacobian(now["x"]).reshape(2, 4)
        expected = HS071WithHessian().gradient(now["x"]) + J.T @ now["mult_g"] - now["mult_x_L"] + now["mult_x_U"]
        np.testing.assert_allclose(then["grad_lag_x"], expected, atol=1e-10)
        assert np.all(then["x_L_violation"] <= 2e-8) and then["compl_g"].shape == (2,)
        problem.get_current_iterate(scaled=True)
        seen.append(now["x"])
        return True

    callbacks.intermediate = intermediate
    x, _ = problem.solve(HS071.x0)
    assert len(seen) == 9
    np.testing.assert_array_equal(seen[-1], x)
    with pytest.raises(RuntimeError, match="intermediate"):
        problem.get_current_iterate()
    with pytest.raises(RuntimeError, match="intermediate"):
        problem.get_current_violations()


@pytest.mark.parametrize("name", ["objective", "hessian", "intermediate"])
def test_a_keyboard_interrupt_gets_through(name):
    callbacks = HS071WithHessian()

    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    setattr(callbacks, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        solve(callbacks)


def test_ctrl_c_ends_a_long_solve():
    """A real signal, while the solve iterates on a problem that never ends."""
    program = """
import os, signal, threading
import numpy as np, pounce
# As in a terminal; a parent that runs in the background may have passed on that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Endless:
    def objective(self, x): return float(-x[0])
    def gradient(self, x): return np.array([-1.0, 0, 0, 0])
    def constraints(self, x): return np.array([x[0] - 1e300 * x[1] ** 2, 0.0])
    def jacobian(self, x): return np.array([1.0, -2e300 * x[1], 0, 0, 0, 0, 0, 0])
    def intermediate(self, *arguments):
        if arguments[1] == 2: threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
problem = pounce.Problem(4, 2, Endless(), cl=[-1.0, -1.0], cu=[1.0, 1.0])
for name, value in dict(print_level=0, max_iter=10**8, tol=1e-300, acceptable_iter=0, dual_inf_tol=1e-300,
                        diverging_iterates_tol=1e300, max_wall_time=60.0).items():
    problem.add_option(name, value)
import time
begin = time.perf_counter()
try:
    while time.perf_counter() - begin < 60:
        problem.solve(np.ones(4))
    print("never interrupted")
except KeyboardInterrupt:
    print("interrupted")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "interrupted", run.stderr


def test_jax_inside_callbacks():
    callbacks = HS071WithHessian()
    f = jax.jit(lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2])
    callbacks.objective = f
    callbacks.gradient = jax.jit(jax.grad(f))
    callbacks.constraints = lambda x: jnp.stack([jnp.prod(x), jnp.sum(jnp.asarray(x) ** 2)])
    x, info = solve(callbacks)
    assert info["status"] == 0
    np.testing.assert_allclose(x, HS071.solution, atol=1e-6)


def test_the_users_precision_holds_inside_callbacks():
    callbacks = HS071WithHessian()
    seen = []
    callbacks.intermediate = lambda *arguments: seen.append(jnp.ones(1).dtype)
    with jax.enable_x64(False):
        assert solve(callbacks)[1]["status"] == 0
    assert set(seen) == {jnp.dtype("float32")}


def test_a_solve_inside_a_callback():
    callbacks = HS071WithHessian()
    inner = problem_of(HS071WithHessian())

    def objective(x):
        assert inner.solve(HS071.x0)[1]["status"] == 0
        return HS071.objective(callbacks, x)

    callbacks.objective = objective
    assert solve(callbacks)[1]["status"] == 0


def test_eight_threads_at_once():
    """With JAX in the callbacks, two hundred times over, one problem object shared by all of them."""
    f = jax.jit(lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2])
    heavy = jax.jit(lambda x: jnp.sum(jnp.outer(x, jnp.arange(300.0)) @ jnp.ones((300, 300))))
    callbacks = HS071WithHessian()

    def objective(x):
        jax.block_until_ready(heavy(x))
        return float(f(x))

    callbacks.objective = objective
    shared = problem_of(callbacks)

    def one(k):
        problem = shared if k % 2 else problem_of(callbacks)
        x, info = problem.solve(HS071.x0 + 0.01 * (k % 5))
        return info["status"], x

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(200), timeout=240))
    assert all(status == 0 for status, _ in results)
    for _, x in results:
        np.testing.assert_allclose(x, HS071.solution, atol=1e-5)


# -- options, limits, starts -------------------------------------------------------------------------------------------


def test_limits_are_statuses():
    assert solve(HS071WithHessian(), max_iter=3)[1]["status"] == -1
    assert solve(HS071WithHessian(), max_wall_time=1e-9)[1]["status"] == -5
    assert solve(HS071WithHessian(), max_cpu_time=1e-9)[1]["status"] == -4


def test_compiling_counts_for_no_limit_of_time():
    clock = Clock(0.05, 0.05)

    def compiles(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    piece = speaking(compiles)
    piece(0.1)
    assert clock.verdict() is None
    piece(0.1)
    assert clock.verdict() == Status.Maximum_WallTime_Exceeded
    assert Clock(1.0, 1.0).verdict() is None


def test_reversed_bounds_and_no_variables_are_statuses():
    callbacks = HS071WithHessian()
    problem = pounce.Problem(4, 2, callbacks, lb=[2] * 4, ub=[1] * 4, cl=[25, 40], cu=[2e19, 40])
    problem.add_option("print_level", 0)
    _, info = problem.solve(HS071.x0)
    assert info["status"] == -11 and np.isnan(info["obj_val"]) and not callbacks.calls
    nothing = pounce.Problem(0, 0, callbacks)
    assert nothing.solve([])[1]["status"] == -11


def test_more_equalities_than_variables():
    class Over:
        objective = staticmethod(lambda x: 0.0)
        gradient = staticmethod(lambda x: np.zeros(1))
        constraints = staticmethod(lambda x: np.array([x[0], x[0]]))
        jacobian = staticmethod(lambda x: np.ones(2))

    problem = pounce.Problem(1, 2, Over(), cl=[0, 0], cu=[0, 0])
    problem.add_option("print_level", 0)
    assert problem.solve([1.0])[1]["status"] == -10


def test_warm_start():
    problem = problem_of(HS071WithHessian(), mu_init=1e-6, warm_start_bound_push=1e-8, warm_start_mult_bound_push=1e-8)
    x, info = problem.solve(HS071.x0)
    _, again = problem.solve(x, warm_start=info)
    assert again["status"] == 0 and again["iter_count"] <= 3
    problem.add_option("warm_start_init_point", "yes")
    _, again = problem.solve(x, info["mult_g"], info["mult_x_L"], info["mult_x_U"])
    assert again["status"] == 0 and again["iter_count"] <= 3
    partly = np.where([True, False, True, False], np.nan, info["mult_x_L"])
    assert problem.solve(x, info["mult_g"], partly, info["mult_x_U"])[1]["status"] == 0


def test_options_are_kept_per_problem():
    problem = problem_of(HS071WithHessian())
    problem.add_option("max_iter", 2)
    snapshot = problem.options_snapshot()
    assert problem.solve(HS071.x0)[1]["status"] == -1
    problem.add_option("maxiter", 50.0)
    assert problem.solve(HS071.x0)[1]["status"] == 0
    problem.restore_options(snapshot)
    assert problem.solve(HS071.x0)[1]["status"] == -1
    with pytest.raises(pounce.OptionError, match="max_iter"):
        problem.add_option("max_iterr", 3)
    with pytest.raises(RuntimeError, match="out of range"):
        problem.add_option("tol", -1.0)


def test_asking_for_the_exact_hessian_without_one_warns():
    with pytest.warns(UserWarning, match="hessian"):
        assert solve(HS071(), hessian_approximation="exact")[1]["status"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, info = solve(HS071WithHessian(), hessian_approximation="limited-memory")
        assert info["status"] == 0 and info["n_hess_evals"] == 0


def test_the_iteration_table(capsys):
    problem = problem_of(HS071WithHessian())
    problem.add_option("print_level", 5)
    problem.solve(HS071.x0)
    printed = capsys.readouterr().out
    assert "   3  1.6849424e+01 2.78e-01 6.68e-02  -1.7 2.85e-01    -  7.94e-01 1.00e+00h  1" in printed
    assert "Number of Iterations....: 8" in printed and "Solve_Succeeded" in printed
    problem.add_option("print_level", 0)
    problem.solve(HS071.x0)
    assert capsys.readouterr().out == ""


def test_the_derivative_checker(capsys):
    callbacks = HS071WithHessian()
    assert solve(callbacks, derivative_test="second-order")[1]["status"] == 0
    assert "No errors detected by derivative checker." in capsys.readouterr().out
    callbacks.gradient = lambda x: HS071.gradient(callbacks, x) + [0, 0, 1, 0]
    callbacks.jacobian = lambda x: HS071.jacobian(callbacks, x) + [0, 1, 0, 0, 0, 0, 0, 0]
    solve(callbacks, derivative_test="first-order", max_iter=0)
    printed = capsys.readouterr().out
    assert (
        "* grad_f[          2]" in printed and "* jac_g [    0,    1]" in printed and "detected 2 error(s)" in printed
    )
    solve(callbacks, derivative_test="first-order", max_iter=0, derivative_test_first_index=3)
    assert "No errors" in capsys.readouterr().out


def test_report_and_pickle(tmp_path):
    import json

    problem = problem_of(HS071WithHessian())
    _, info = problem.solve(HS071.x0, report_path=tmp_path / "report.json", report_detail="full")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["status"] == 0 and written["x"] == info["x"].tolist()
    copy = pickle.loads(pickle.dumps(problem))
    np.testing.assert_array_equal(copy.solve(HS071.x0)[0], info["x"])


def test_from_jax_is_a_problem():
    problem = from_jax(
        lambda x: jnp.sum((x - 1) ** 2), lambda x: jnp.stack([jnp.sum(x) - 5.0]), n=4, m=1, lb=jnp.zeros(4),
        ub=jnp.full(4, 10.0), cl=jnp.zeros(1), cu=jnp.zeros(1),
    )  # fmt: skip
    problem.add_option("print_level", 0)
    x, info = problem.solve(x0=jnp.ones(4))
    np.testing.assert_allclose(x, 1.25, atol=1e-8)
    assert isinstance(problem, pounce.Problem) and info["status"] == 0
    again, info = problem.solve(x0=x)
    assert info["obj_val"] == pytest.approx(0.25, rel=1e-6) and info["n_obj_evals"] <= 2


def test_what_intermediate_changes_counts():
    class Weighted:
        weight = 1.0

        def objective(self, x):
            return jnp.sum(x**2) + self.weight * (jnp.sum(x) - 1.0) ** 2

        constraints = staticmethod(lambda x: jnp.stack([x[0], x[1]]))

        def intermediate(self, *arguments):
            self.weight = 5.0

    problem = pounce.Problem(4, 2, Weighted(), cl=[-9, -9], cu=[9, 9])
    problem.add_option("print_level", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, info = problem.solve(np.zeros(4))
    np.testing.assert_allclose(x, 5 / 21, atol=1e-7)
    assert info["status"] == 0 and info["obj_val"] == pytest.approx(5 / 21, rel=1e-7)
    problem = pounce.Problem(4, 2, Weighted(), cl=[-9, -9], cu=[9, 9])
    problem.problem_obj.objective = lambda x: jnp.sum(x**2) + x[0] * np.random.random()
    problem.add_option("print_level", 0)
    with pytest.warns(UserWarning, match="`?objective`? changed during the solve"):
        problem.solve(np.ones(4))


def test_agrees_with_cyipopt():
    cyipopt = pytest.importorskip("cyipopt")
    for kind in (HS071, HS071WithHessian):
        seen = []
        theirs = cyipopt.Problem(4, 2, kind(), **HS071.bounds)
        callbacks = kind()
        callbacks.intermediate = lambda *arguments: seen.append(arguments[1]) or True
        theirs = cyipopt.Problem(4, 2, callbacks, **HS071.bounds)
        theirs.add_option("print_level", 0)
        theirs.add_option("sb", "yes")
        x, info = theirs.solve(HS071.x0)
        ours, ours_info = solve(kind())
        assert ours_info["status"] == info["status"]
        assert abs(ours_info["iter_count"] - max(seen)) <= 2
        np.testing.assert_allclose(ours, x, atol=1e-7)
        for key in ("mult_g", "mult_x_L", "mult_x_U"):
            np.testing.assert_allclose(ours_info[key], info[key], atol=1e-5)
