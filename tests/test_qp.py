"""The host door of convex programs."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import pounce
from pounce import QpFactorization, QpSensitivity, solve_qp, solve_qp_batch, solve_qp_multi_rhs, solve_socp
from pounce._cone_spec import parse
from pounce._qp.cones import host_cones

from .conic_programs import CONES, programs


VECTORS = ("x", "y", "z", "z_lb", "z_ub", "s")
RESIDUALS = {"primal_infeasibility", "dual_infeasibility", "complementarity", "kkt_error"}


def program(seed=0, **changes):
    """A strictly convex program of the one shape most tests use: feasible, some of everything active or not."""
    random = np.random.RandomState(seed)
    L, x = random.standard_normal((4, 4)), random.uniform(0, 1, 4)
    A, G = random.standard_normal((1, 4)), random.standard_normal((3, 4))
    data = dict(P=L @ L.T + 0.1 * np.eye(4), c=3 * random.standard_normal(4), A=A, b=A @ x, G=G)
    return data | dict(h=G @ x + random.uniform(0, 1, 3), lb=np.zeros(4), ub=np.ones(4)) | changes


def stationarity(data, r):
    P, A, G = (
        np.zeros((k, r.x.size)) if data.get(name) is None else data[name]
        for k, name in ((r.x.size, "P"), (0, "A"), (0, "G"))
    )
    return P @ r.x + data["c"] + A.T @ r.y + G.T @ r.z - r.z_lb + r.z_ub


def assert_solves(data, r, atol=1e-6):
    """Optimality in the user's terms, without the library's own residuals."""
    assert r.status == "optimal" and r.success
    x, s = r.x, data["h"] - data["G"] @ r.x
    np.testing.assert_allclose(stationarity(data, r), 0, atol=atol)
    np.testing.assert_allclose(data["A"] @ x, data["b"], atol=atol)
    for slack, z in ((s, r.z), (x - data["lb"], r.z_lb), (data["ub"] - x, r.z_ub)):
        assert slack.min() >= -atol and z.min() >= -atol
        np.testing.assert_allclose(slack * z, 0, atol=atol)
    np.testing.assert_allclose(r.obj, x @ data["P"] @ x / 2 + data["c"] @ x, rtol=1e-12)
    np.testing.assert_allclose(r.s, s, atol=1e-12)
    assert r.kkt_error == r.residuals["kkt_error"] == max(r.residuals.values()) <= atol


def assert_same(one, other, atol=1e-7):
    assert one.status == other.status
    for name in VECTORS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=atol, err_msg=name)


# -- solve_qp -----------------------------------------------------------------------------------------------------------


def test_the_sign_of_a_multiplier():
    r = solve_qp(P=2 * np.eye(2), c=np.zeros(2), A=np.ones((1, 2)), b=[2.0])
    np.testing.assert_allclose(r.x, [1, 1], atol=1e-8)
    np.testing.assert_allclose(r.y, [-2], atol=1e-8)
    assert r.obj == pytest.approx(2) and r.success and r.z.shape == (0,) and r.iterates is None
    assert type(r.obj) is float and type(r.iters) is int and all(type(v) is float for v in r.residuals.values())


@pytest.mark.parametrize("seed", range(8))
def test_optimality(seed):
    data = program(seed)
    r = solve_qp(**data)
    assert_solves(data, r)
    assert set(r.residuals) == RESIDUALS
    for name in VECTORS:
        assert type(getattr(r, name)) is np.ndarray and getattr(r, name).dtype == np.float64
        getattr(r, name)[...] = 0.0  # the user's to write to


def test_a_lower_triangle_is_mirrored():
    data = program()
    expected = solve_qp(**data)
    lower = np.tril(data["P"])
    assert_same(solve_qp(**data | {"P": lower}), expected)
    assert_same(solve_qp(**data | {"P": sp.csr_array(lower)}), expected)
    row, column = np.tril_indices(4)
    entries = np.concatenate([lower[row, column] / 2] * 2)
    doubled = sp.coo_array((entries, (np.tile(row, 2), np.tile(column, 2))), shape=(4, 4))
    assert_same(solve_qp(**data | {"P": doubled}), expected)
    rounded = data["P"] + 1e-13 * np.triu(np.ones((4, 4)), 1)
    np.testing.assert_allclose(solve_qp(**data | {"P": rounded}).x, expected.x, atol=1e-9)
    single = np.float32(1e-4) * data["P"].astype(np.float32)
    single[0, 1] *= np.float32(1 + 1e-6)
    assert solve_qp(**data | {"P": single}).success


@pytest.mark.parametrize("sparse", [np.array, sp.csc_array, sp.coo_matrix])
def test_half_a_matrix_that_has_two_readings_is_an_error(sparse):
    """Also where the numbers are small: what counts is what an entry does to the form."""
    data = program()
    P = data["P"]
    twisted = P + np.diag([0.1, 0, 0], 1) - np.diag([0.1, 0, 0], -1)
    units = np.diag([1e-6, 1e3, 1.0, 1e-2])
    for wrong in (np.triu(P), 2 * np.triu(P) - np.diag(np.diag(P)), twisted, 1e-9 * twisted, units @ twisted @ units):
        with pytest.raises(ValueError, match=r"`P` (is not symmetric|has entries above).*\(P \+ P\.T\) / 2.*tril"):
            solve_qp(**data | {"P": sparse(wrong)})
    with pytest.raises(ValueError, match=r"`P\[0, 3\]` is nan"):
        solve_qp(**data | {"P": sparse(np.tril(P) + np.diag([np.nan], 3))})


@pytest.mark.parametrize("kind", ["sparse", "jax", "float32", "lists", "integers"])
def test_kinds_of_arrays(kind):
    data = program()
    if kind == "integers":
        data = {k: np.round(3 * v).astype(int) for k, v in data.items() if k != "b"} | {"b": np.array([1])}
        data["P"] = np.eye(4, dtype=int)
        expected = solve_qp(**{k: v.astype(float) for k, v in data.items()})
        given = data
    elif kind == "float32":
        given = {k: v.astype(np.float32) for k, v in data.items()}
        expected = solve_qp(**{k: v.astype(float) for k, v in given.items()})
    else:
        expected = solve_qp(**data)
        change = {
            "jax": jnp.asarray,
            "lists": np.ndarray.tolist,
            "sparse": lambda v: sp.csc_matrix(v) if v.ndim == 2 else v,
        }
        given = {k: change[kind](v) for k, v in data.items()}
    r = solve_qp(**given)
    assert_same(r, expected)
    assert r.x.dtype == np.float64


def test_float64_whatever_the_setting():
    data = program()
    expected = solve_qp(**data)
    with jax.enable_x64(False):
        assert_same(solve_qp(**data), expected, atol=0)
        assert_same(solve_qp_batch([data, data])[1], expected)
        assert_same(solve_qp(**data, time_limit=60.0, collect_iterates=True), expected)
        assert not jax.config.jax_enable_x64 and jnp.ones(1).dtype == jnp.float32


def test_bounds():
    data = program(lb=-1e20, ub=[1e20, np.inf, 1e25, 1e20])
    unbounded = solve_qp(**data)
    assert_same(unbounded, solve_qp(**program(lb=None, ub=None)))
    assert np.all(unbounded.z_lb == 0) and np.all(unbounded.z_ub == 0)
    some = program(lb=[0.2, -np.inf, 0, 0], ub=[1, 1, np.inf, 0.5])
    r = solve_qp(**some)
    assert r.z_lb[1] == 0 and r.z_ub[2] == 0
    assert_solves({**some, "lb": np.maximum(some["lb"], -1e6), "ub": np.minimum(some["ub"], 1e6)}, r)
    assert_same(solve_qp(**program(lb=0.0, ub=1.0)), solve_qp(**program()))


def test_a_fixed_variable():
    data = program(lb=np.array([0, 0.3, 0, 0]), ub=np.array([1, 0.3, 1, 1]))
    r = solve_qp(**data)
    assert r.x[1] == 0.3
    assert_solves(data, r)


def test_absent_inequality():
    data = program()
    h = data["h"].copy()
    h[1] = 1e20
    r = solve_qp(**data | {"h": h})
    assert r.z[1] == 0
    assert r.kkt_error < 1e-6
    reduced = data | {"G": data["G"][[0, 2]], "h": data["h"][[0, 2]]}
    np.testing.assert_allclose(r.x, solve_qp(**reduced).x, atol=1e-7)


def test_linear_program():
    r = solve_qp(c=[-1.0, -2.0], G=[[1.0, 1.0], [1.0, 3.0]], h=[4.0, 6.0], lb=0.0)
    np.testing.assert_allclose(r.x, [3, 1], atol=1e-6)
    np.testing.assert_allclose(r.z, [0.5, 0.5], atol=1e-6)
    assert r.obj == pytest.approx(-5)


# -- no solution --------------------------------------------------------------------------------------------------------


def assert_farkas(data, r):
    assert r.status == "primal_infeasible" and not r.success and r.obj == np.inf
    np.testing.assert_allclose(stationarity(data | {"P": None, "c": 0.0}, r), 0, atol=1e-7)
    value = data["b"] @ r.y + data["h"] @ r.z - data["lb"] @ r.z_lb + data["ub"] @ r.z_ub
    assert value == pytest.approx(-1, abs=1e-7)
    assert min(r.z.min(), r.z_lb.min(), r.z_ub.min()) >= 0
    assert r.kkt_error == np.inf and r.residuals["dual_infeasibility"] < 1e-7


def test_infeasible_rows():
    data = program()
    data = data | dict(G=np.vstack([data["G"][0], -data["G"][0], data["G"][2]]), h=np.array([-1.0, -1.0, 5.0]))
    assert_farkas(data, solve_qp(**data))


def test_crossed_bounds_are_infeasible():
    data = program(lb=np.array([0, 0, 0.6, 0]), ub=np.array([1, 1, 0.4, 1]))
    assert_farkas(data, solve_qp(**data))


def test_unbounded():
    data = program(ub=np.full(4, 1e20), P=np.diag([1.0, 1, 1, 0]), c=np.array([0, 0, 0, -2.0]))
    data["A"], data["G"] = data["A"] * [1, 1, 1, 0], data["G"] * [1, 1, 1, 0] - np.array([0, 0, 0, 1.0])
    r = solve_qp(**data)
    assert r.status == "dual_infeasible" and r.obj == -np.inf and not r.success
    assert data["c"] @ r.x == pytest.approx(-1, abs=1e-7)
    np.testing.assert_allclose(np.concatenate([data["P"] @ r.x, data["A"] @ r.x]), 0, atol=1e-5)
    assert np.max(data["G"] @ r.x) < 1e-7 and r.x.min() > -1e-7
    assert r.kkt_error == np.inf and r.residuals["primal_infeasibility"] < 1e-5


# -- how a solve goes ---------------------------------------------------------------------------------------------------


def test_iterates():
    data = program()
    r = solve_qp(**data, collect_iterates=True)
    assert_same(r, solve_qp(**data))
    names = {"iter", "objective", "primal_infeasibility", "dual_infeasibility", "mu", "alpha_primal", "alpha_dual"}
    assert all(set(row) == names for row in r.iterates)
    assert [row["iter"] for row in r.iterates] == list(range(r.iters + 1))
    first, last = r.iterates[0], r.iterates[-1]
    assert first["alpha_primal"] == 0 and last["alpha_primal"] > 0.9
    assert last["objective"] == pytest.approx(r.obj, abs=1e-6) and last["mu"] < 1e-6 < first["mu"]


def test_limits():
    data = program()
    r = solve_qp(**data, max_iter=2)
    assert r.status == "iteration_limit" and r.iters == 2 and np.all(np.isfinite(r.x))
    r = solve_qp(**data, time_limit=0)
    assert r.status == "time_limit" and r.iters == 0 and np.all(np.isfinite(r.x)) and np.isfinite(r.kkt_error)
    r = solve_qp(**data, time_limit=0, collect_iterates=True)
    assert r.status == "time_limit" and len(r.iterates) == 1
    assert solve_qp(**data, time_limit=60.0).success
    assert solve_qp(**data, time_limit=1e-9, tol=0.5, warm_start=solve_qp(**data)).iters <= 1
    loose = solve_qp(**data, tol=0.1)
    assert loose.success and loose.iters < solve_qp(**data, tol=1e-10).iters


def test_the_clock_is_watched_between_iterations():
    """A limit in the middle of a solve that takes longer."""
    random = np.random.RandomState(0)
    n = 300
    L = random.standard_normal((n, n))
    data = dict(P=L @ L.T / n, c=random.standard_normal(n), G=random.standard_normal((n, n)), h=np.ones(n))
    r = solve_qp(**data)
    assert r.success
    assert solve_qp(**data, time_limit=1e-4).status == "time_limit"
    assert solve_qp(**data, time_limit=100.0).iters == r.iters


@pytest.mark.parametrize("kind", ["result", "mapping", "part", "misfit", "nan", "empty"])
def test_warm_starts(kind):
    data = program(1)
    cold = solve_qp(**data)
    start = {
        "result": cold,
        "mapping": {name: getattr(cold, name) for name in ("x", "y", "z", "z_lb", "z_ub")},
        "part": {"x": cold.x},
        "misfit": {"x": np.ones(3), "y": np.ones(7), "z": np.ones((3, 1))},
        "nan": {"x": np.full(4, np.nan), "z": cold.z},
        "empty": {},
    }[kind]
    warm = solve_qp(**data, warm_start=start)
    assert_same(warm, cold, atol=1e-6)
    if kind in ("result", "mapping"):
        assert warm.iters < cold.iters


def test_a_warm_start_from_no_solution():
    data = program(2)
    infeasible = solve_qp(**data | dict(lb=np.ones(4), ub=np.zeros(4)))
    assert infeasible.status == "primal_infeasible"
    assert_solves(data, solve_qp(**data, warm_start=infeasible))


def test_ctrl_c_ends_a_long_solve():
    """A real signal, to a program that does nothing but solve."""
    program = """
import os, signal, threading, time
import numpy as np, pounce
# As in a terminal; a parent that runs in the background may have passed on that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
random = np.random.RandomState(0)
n = 300
L = random.standard_normal((n, n))
data = dict(P=L @ L.T / n, c=random.standard_normal(n), G=random.standard_normal((n, n)), h=np.ones(n))
pounce.solve_qp(**data)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.perf_counter()
try:
    while time.perf_counter() - begin < 60:
        pounce.solve_qp(**data)
    print("never interrupted")
except KeyboardInterrupt:
    print("interrupted", time.perf_counter() - begin < 5)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "interrupted True", run.stderr


def test_an_interrupt_between_iterations_passes_through():
    from pounce._qp.arguments import host_data, limits
    from pounce._qp.drive import Task
    from pounce._qp.size_class import Fit
    from pounce._qp.solve import inequalities

    seen = []

    def interrupt(glance):
        seen.append(glance.iteration)
        if len(seen) == 3:
            raise KeyboardInterrupt

    data = host_data(program())
    fit = Fit(data, inequalities(data))
    task = Task(fit.program, fit.inputs(data, None), fit.tables)
    with pytest.raises(KeyboardInterrupt):
        task.solve(limits(None, None), interrupt)
    assert seen == [0, 1, 2]


def test_threads():
    data = [program(k) for k in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda d: solve_qp(**d), data))
    for d, r in zip(data, together):
        assert_same(r, solve_qp(**d), atol=0)


def test_active_set():
    data = program(3)
    plain, polished = solve_qp(**data), solve_qp(**data, method="active-set")
    assert_solves(data, polished, atol=1e-12)
    assert polished.kkt_error <= plain.kkt_error and polished.iters == plain.iters
    assert_same(polished, plain)
    # Dependent rows: the equations of the active set are singular, and still nothing gets worse.
    twice = data | {"G": data["G"][[0, 0, 0]], "h": data["h"][[0, 0, 0]] - 0.5}
    plain, polished = solve_qp(**twice), solve_qp(**twice, method="active-set")
    assert plain.status == polished.status and polished.kkt_error <= plain.kkt_error
    infeasible = solve_qp(**program(lb=np.ones(4), ub=np.zeros(4)), method="active-set")
    assert infeasible.status == "primal_infeasible"
    assert_same(solve_qp(**data, tau=0.9, tau_max=0.99), solve_qp(**data), atol=0)


def test_scaling_warning():
    assert solve_qp(**program()).scaling_warning is None
    data = program()
    data["G"] = data["G"] * [[1e-13], [1], [1]]
    r = solve_qp(**data)
    assert "magnitude" in r.scaling_warning
    assert r.success


def test_a_wrong_claim_is_taken_back():
    """The verdict rests on residuals that are computed apart from the solver."""
    from pounce._qp.arguments import host_data, limits
    from pounce._qp.quality import Point
    from pounce._qp.result import verdict
    from pounce._qp.solve import asked_of, inequalities
    from pounce._results import ConicStatus

    given = program()
    data, r = host_data(given), solve_qp(**given)
    asked = asked_of(data, inequalities(data), limits(None, None))
    point = Point(r.x, r.y, r.z, r.z_lb, r.z_ub)
    assert verdict(asked, point, ConicStatus.Optimal)[0] == ConicStatus.Optimal
    for shift, status in (
        (1e-4, ConicStatus.Optimal_Inaccurate),
        (1.0, ConicStatus.Numerical_Failure),
        (np.nan, ConicStatus.Numerical_Failure),
    ):
        assert verdict(asked, point._replace(x=r.x + shift), ConicStatus.Optimal)[0] == status
        assert verdict(asked, point._replace(z_lb=r.z_lb - shift), ConicStatus.Optimal)[0] == status
    for claim in (ConicStatus.Primal_Infeasible, ConicStatus.Dual_Infeasible):
        assert verdict(asked, point, claim)[0] == ConicStatus.Numerical_Failure


def test_sparsity_warning_comes_once(monkeypatch):
    from pounce._qp import arguments

    monkeypatch.setattr(arguments, "_warned", False)
    monkeypatch.setattr(arguments, "MANY_ELEMENTS", 16)
    data = program()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solve_qp(**data | {"P": sp.csr_array(data["P"])})
        assert not caught
        solve_qp(**data)
        solve_qp_batch([data])
    (warning,) = caught
    assert issubclass(warning.category, pounce.PounceSparsityWarning) and "`P`" in str(warning.message)
    assert warning.filename == __file__


# -- solve_socp ---------------------------------------------------------------------------------------------------------


def test_exponential_cone():
    """``min z - x  s.t.  exp(x) <= z``, whose multiplier is on the boundary of the dual cone."""
    G, h = -np.array([[1.0, 0], [0, 0], [0, 1]]), np.array([0.0, 1, 0])
    r = solve_socp(c=[-1.0, 1.0], G=G, h=h, cones=[("exp", 3)])
    # The objective is flat at the solution: x is as accurate as the square root of what exp(x) - x is.
    np.testing.assert_allclose(r.x, [0, 1], atol=3e-4)
    np.testing.assert_allclose(r.z, [-1, -1, 1], atol=3e-4)
    u, v, w = r.z
    assert -u * np.exp(v / u) == pytest.approx(np.e * w, abs=1e-7)
    assert r.obj == pytest.approx(1) and r.kkt_error < 1e-6
    for alias in ("EXPONENTIAL", "e"):
        assert_same(solve_socp(c=[-1.0, 1.0], G=G, h=h, cones=[(alias, 0)]), r, atol=0)


def test_power_cone():
    """``max x  s.t.  |x| <= y^a z^(1 - a)``, ``y + z = 1``."""
    a = 0.3
    r = solve_socp(c=[-1.0, 0, 0], A=[[0.0, 1, 1]], b=[1.0], G=-np.eye(3), h=np.zeros(3), cones=[("pow", a)])
    best = a**a * (1 - a) ** (1 - a)
    np.testing.assert_allclose(r.x, [best, a, 1 - a], atol=3e-5)
    u, v, w = r.z
    assert abs(u) == pytest.approx((v / a) ** a * (w / (1 - a)) ** (1 - a), abs=1e-7)
    np.testing.assert_allclose(r.z, [-1, best, best], atol=3e-5)


def test_second_order_cone():
    """The point of a disc that is farthest in a direction."""
    G, h = -np.vstack([np.zeros(2), np.eye(2)]), np.array([2.0, 0, 0])
    r = solve_socp(c=[3.0, 4.0], G=G, h=h, cones=[3])
    np.testing.assert_allclose(r.x, [-1.2, -1.6], atol=1e-6)
    np.testing.assert_allclose(r.z, [5, 3, 4], atol=1e-5)
    assert_same(solve_socp(c=[3.0, 4.0], G=G, h=h, cones=[("Q", 3)]), r, atol=0)


def test_order_of_a_matrix():
    """The largest eigenvalue, ``min t  s.t.  t I - M in PSD``, whose multiplier is the projection on its eigenvector."""
    random = np.random.RandomState(0)
    M = random.standard_normal((3, 3))
    M = M + M.T
    places = [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]
    svec = np.array([M[i, j] * (1 if i == j else np.sqrt(2)) for i, j in places])
    G = -np.array([[float(i == j)] for i, j in places])
    r = solve_socp(c=[1.0], G=G, h=-svec, cones=[("psd", 3)])
    values, vectors = np.linalg.eigh(M)
    assert r.x[0] == pytest.approx(values[-1], abs=1e-6)
    Z = np.outer(vectors[:, -1], vectors[:, -1])
    np.testing.assert_allclose(r.z, [Z[i, j] * (1 if i == j else np.sqrt(2)) for i, j in places], atol=1e-5)
    index = [j * 3 - j * (j - 1) // 2 + (i - j) for i, j in places]
    assert index == list(range(6))


@pytest.mark.parametrize("kind", ["feasible", "infeasible", "unbounded", "degenerate"])
def test_all_cones_mixed(kind):
    stack = programs("mixed", kind)[0]
    for k in range(5):
        data = stack.data(k)
        cones = host_cones(parse(data["cones"], len(data["h"])), len(data["h"]))
        r = solve_socp(**data)
        if kind == "infeasible":
            assert r.status == "primal_infeasible"
            np.testing.assert_allclose(data["A"].T @ r.y + data["G"].T @ r.z, 0, atol=1e-6)
            assert data["b"] @ r.y + data["h"] @ r.z == pytest.approx(-1, abs=1e-6)
            assert cones.distance(r.z, dual=True) < 1e-7
        elif kind == "unbounded":
            assert r.status == "dual_infeasible"
            np.testing.assert_allclose(np.concatenate([data["P"] @ r.x, data["A"] @ r.x]), 0, atol=1e-6)
            assert data["c"] @ r.x == pytest.approx(-1, abs=1e-6)
            assert cones.distance(-data["G"] @ r.x) < 1e-6
        else:
            assert r.status == "optimal"
            np.testing.assert_allclose(stationarity(data, r), 0, atol=1e-6)
            np.testing.assert_allclose(data["h"] - data["G"] @ r.x, r.s, atol=1e-12)
            assert cones.distance(r.s) < 1e-6 and cones.distance(r.z, dual=True) < 1e-6
            assert abs(r.s @ r.z) < 1e-5 and r.kkt_error < 1e-5
            if kind == "degenerate":
                assert r.obj == pytest.approx(stack.value[k], abs=1e-6)


def test_conic_iterates_and_warm_starts():
    data = programs("mixed", "feasible")[0].data(0)
    cold = solve_socp(**data, collect_iterates=True, time_limit=60.0)
    assert len(cold.iterates) == cold.iters + 1
    warm = solve_socp(**data, warm_start=cold)
    assert warm.success and warm.obj == pytest.approx(cold.obj, abs=1e-6)


@pytest.mark.parametrize("cone", CONES)
def test_cones_are_measured(cone):
    """Distances of points near the boundaries of a cone and of its dual."""
    for stack in programs(cone, "degenerate")[:2]:
        cones = host_cones(parse(stack.cones, stack.h.shape[1]), stack.h.shape[1])
        for k in range(10):
            s, z = stack.s[k], stack.z[k]
            assert cones.distance(s) < 1e-13 and cones.distance(z, dual=True) < 1e-13
            assert cones.products(s, z) < 1e-12
            # From a complementary pair, the distance of s - t z is that of -t z.
            s, z = s / max(1, np.linalg.norm(s)), z / max(1, np.linalg.norm(z))
            if np.linalg.norm(s) > 0.1 and np.linalg.norm(z) > 0.1:
                step = 1e-3 * z
                assert 0 < cones.distance(s - step) <= np.linalg.norm(step) * (1 + 1e-9)
    assert np.isnan(cones.distance(np.full(stack.h.shape[1], np.nan)))


# -- many programs ------------------------------------------------------------------------------------------------------


def test_batch_is_its_singles():
    problems = [program(k) for k in range(5)]
    problems.insert(2, program(lb=np.ones(4), ub=np.zeros(4)))  # infeasible
    problems.insert(4, dict(P=2 * np.eye(2), c=np.zeros(2), A=np.ones((1, 2)), b=[2.0]))  # another shape
    problems.append(program(ub=None))  # another structure
    results = solve_qp_batch(problems)
    assert [r.status for r in results] == ["optimal", "optimal", "primal_infeasible"] + ["optimal"] * 5
    for problem, r in zip(problems, results):
        single = solve_qp(**problem)
        assert_same(r, single, atol=1e-9)
        assert r.iters == single.iters
    warm = solve_qp_batch(problems[:2], warm_starts=[results[0], None])
    assert warm[0].iters < results[0].iters and warm[1].iters == results[1].iters
    assert solve_qp_batch([]) == []


def test_batch_in_a_limited_time():
    results = solve_qp_batch([program(k) for k in range(5)], time_limit=0)
    assert [r.status for r in results] == ["time_limit"] * 5


def test_many_linear_terms():
    data = program()
    cs = np.random.RandomState(0).standard_normal((5, 4))
    results = solve_qp_multi_rhs(**data, cs=cs)
    for c, r in zip(cs, results):
        assert_same(r, solve_qp(**data | {"c": c}), atol=1e-9)
    data.pop("c")
    (one,) = solve_qp_multi_rhs(**data, cs=cs[:1].tolist())
    assert_same(one, results[0], atol=1e-9)


def test_parts_and_padding():
    from pounce._qp.arguments import host_data
    from pounce._qp.batch import padded, parts

    assert padded([3, 4, 5]) == [3, 4, 5, 5] and padded([1]) == [1] and padded([1, 2]) == [1, 2]
    members = list(range(10**5))
    split = parts(members, host_data(program()))
    assert sum(split, []) == members and len({len(part) for part in split[:-1]}) <= 1
    assert len(parts([0, 1], host_data(dict(c=np.zeros(5000))))) == 2


# -- one structure ------------------------------------------------------------------------------------------------------


def test_a_nonconvex_program_that_fails_is_called_so():
    data = program() | {"P": -program()["P"]}
    with pytest.warns(UserWarning, match="not convex: `P` must be positive semidefinite") as caught:
        r = solve_qp(**data, check_psd=False)
    assert not r.success and caught[0].filename == __file__


def test_factorization_compiles_once():
    solver = QpFactorization(**program())
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    statuses = {solver.solve(**program(k)).status for k in range(1000)}
    assert statuses == {"optimal"}
    assert not compiled
    assert_same(solver.solve(**program(5)), solve_qp(**program(5)), atol=0)
    cold = solver.solve(**program(6))
    assert solver.solve(**program(6), warm_start=cold).iters < cold.iters


def test_factorization_wants_the_structure():
    data = program()
    solver = QpFactorization(**data)
    others = [
        dict(P=np.eye(2), c=np.zeros(2)),
        data | {"P": np.diag(np.diag(data["P"]))},
        data | {"A": data["A"] * [0, 1, 1, 1]},
        data | {"G": data["G"][:2], "h": data["h"][:2]},
        data | {"lb": np.array([-1e20, 0, 0, 0])},
        data | {"ub": None},
        {k: v for k, v in data.items() if k not in ("A", "b")},
    ]
    for other in others:
        with pytest.warns(UserWarning, match="the structure is not that of this QpFactorization: `[cPAGul]") as caught:
            r = solver.solve(**other)
        assert caught[0].filename == __file__ and r.status == "numerical_failure" and not r.success
        assert r.x.shape == np.shape(other["c"]) and np.all(np.isnan(r.x)) and np.isnan(r.kkt_error)
    # A stored zero of a sparse matrix keeps its place.
    A = sp.csr_array(data["A"])
    A.data[0] = 0.0
    assert solver.solve(**data | {"A": A}).status in ("optimal", "primal_infeasible")
    with pytest.raises(ValueError, match="positive semidefinite"):
        solver.solve(**data | {"P": -data["P"]})
    unchecked = QpFactorization(**data, check_psd=False)
    assert unchecked.solve(**data).success


# -- sensitivity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_parametric_step(seed):
    data = program(seed)
    s = QpSensitivity(**data)
    d = 1e-4
    moved = [QpSensitivity(**data | {"b": data["b"] + t}) for t in (d, -d)]
    assert all(m.active_indices == s.active_indices for m in moved)
    np.testing.assert_allclose(s.parametric_step([0], [1.0]), (moved[0].x - moved[1].x) / (2 * d), atol=1e-6)
    assert s.last_step_residual < 1e-12 and not s.ill_conditioned and s.kkt_cond_estimate < 1e6
    np.testing.assert_allclose(s.parametric_step([0, 0], [1.0, 2.0]), s.parametric_step([0], [3.0]), atol=1e-12)
    np.testing.assert_allclose(s.parametric_step([], []), 0)
    assert s.kkt_dim == 4 + 1 + len(s.active_indices.inequalities) + len(s.active_indices.bounds)
    assert s.obj == pytest.approx(s.result.obj) and s.x.shape == (4,)


def test_active_indices():
    data = dict(
        P=np.eye(3), c=[-2.0, 0.5, -1.0], G=[[1.0, 0, 0], [0, 0, 1.0]], h=[1.0, 1.0], lb=[-5, 0, -5], ub=[9.0, 9, 9]
    )
    s = QpSensitivity(**data)
    np.testing.assert_allclose(s.x, [1, 0, 1], atol=1e-9)
    # Row 1 holds with equality, and would without it.
    assert s.active_indices == ((0,), (1,)) and s.weakly_active_indices == ((1,), ())
    assert s.active_indices.inequalities == (0,) and s.active_indices.bounds == (1,)
    reduced = s.reduced_hessian()
    assert reduced.n_dof == 1 and reduced.is_positive_definite
    np.testing.assert_allclose(reduced.matrix, [[1.0]])
    fixed = QpSensitivity(**data | {"lb": [-5, 0, 0.5], "ub": [9, 9, 0.5]})
    assert fixed.active_indices.bounds == (1, 2)


def test_reduced_hessian():
    random = np.random.RandomState(0)
    L, A = random.standard_normal((5, 5)), random.standard_normal((2, 5))
    s = QpSensitivity(P=L @ L.T, c=np.ones(5), A=A, b=[1.0, 2.0])
    r = s.reduced_hessian()
    assert r.n_dof == 3 and r.is_positive_definite and r.matrix.shape == (3, 3)
    np.testing.assert_allclose(A @ r.basis, 0, atol=1e-12)
    np.testing.assert_allclose(r.matrix, r.basis.T @ L @ L.T @ r.basis, atol=1e-12)
    np.testing.assert_allclose(r.matrix @ r.eigenvectors, r.eigenvectors * r.eigenvalues, atol=1e-10)
    assert np.all(np.diff(r.eigenvalues) >= 0)
    largest = np.argmax(np.abs(r.eigenvectors), axis=0)
    assert np.all(r.eigenvectors[largest, np.arange(3)] > 0)
    # With b pinned to one value after another, the solution moves along A's row space plus the reduced Hessian's response.
    assert s.reduced_hessian(rank_tol=0.999).n_dof >= 3


def test_sensitivity_needs_a_regular_solution():
    data = program()
    with pytest.raises(ValueError, match="primal_infeasible"):
        QpSensitivity(**data | dict(lb=np.ones(4), ub=np.zeros(4)))
    with pytest.raises(ValueError, match="singular"):
        QpSensitivity(P=np.eye(2), c=np.zeros(2), A=np.ones((2, 2)), b=[1.0, 1.0])  # dependent rows
    with pytest.raises(ValueError, match="singular"):
        QpSensitivity(c=np.zeros(2), lb=0.0, ub=1.0)  # any point is a solution
