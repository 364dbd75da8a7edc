"""`solve_conic`: reference programs, 5600 random ones, spoilt lanes, warm starts, odd programs, dtypes, compiled size."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import pounce
from pounce import conic
from pounce._cone.exponential import Exponential
from pounce._cone.power import Power
from pounce._cone.product import ConeProduct
from pounce._cone_spec import orthant, parse
from pounce._conic.data import ConicData
from pounce._conic.ending import recalled
from pounce._conic.iterate import Measures
from pounce._conic.termination import Tolerances, proven, verdict
from pounce._conic_solve import Controls, advance, begin
from pounce._convex_arguments import convex_data
from pounce._results import ConicStatus
from pounce.conic import ConicSolve

from . import conic_programs
from .conic_programs import CONES, KINDS, PER_STACK, SHAPES, programs, references


NAMES = ("P", "c", "A", "b", "G", "h", "lb", "ub")
DATA = NAMES[:6]
OPTIMAL, PRIMAL, DUAL = ConicStatus.Optimal, ConicStatus.Primal_Infeasible, ConicStatus.Dual_Infeasible


@functools.cache
def batched(cones, **options):
    """A stack of programs of one shape, solved together. What is absent from the data is absent from the program."""
    return jax.jit(jax.vmap(lambda data: pounce.solve_conic(**data, cones=list(cones), **options)))


@functools.cache
def distances(cones):
    """Distances of rows to the cone and to its dual, for a stack."""
    rows = parse(cones, sum(map(conic_programs.size, cones)))
    product = ConeProduct(rows.layout.cones(np.ones(rows.layout.nonnegative, bool)))

    def both(v):
        v = rows.arrange(v)
        return [jnp.linalg.norm(v - near(v)) for near in (product.project, product.project_dual)]

    return jax.jit(jax.vmap(both))


def stack_data(stack):
    """The arrays of a stack; a linear objective is one without ``P``."""
    rank = SHAPES[stack.cone][stack.first // PER_STACK][2]
    return {name: getattr(stack, name) for name in DATA if rank or name != "P"}


@functools.cache
def solved(cone, kind, number):
    """The solutions of one stack, as NumPy arrays."""
    stack = programs(cone, kind)[number]
    return jax.tree.map(np.asarray, batched(stack.cones)(stack_data(stack)))


def residual_of_kkt(data, s, cones=None):
    """The largest violation of the optimality conditions, by definition, relative to the size of the solution."""
    n = np.size(data["c"])
    P = np.zeros((n, n)) if data.get("P") is None else np.asarray(data["P"])
    A, b = (np.zeros((0, n)), np.zeros(0)) if data.get("A") is None else (np.asarray(data["A"]), np.asarray(data["b"]))
    G, h = (np.zeros((0, n)), np.zeros(0)) if data.get("G") is None else (np.asarray(data["G"]), np.asarray(data["h"]))
    lb, ub = (
        np.broadcast_to(np.asarray(none if data.get(k) is None else data[k], float), n)
        for k, none in (("lb", -np.inf), ("ub", np.inf))
    )
    x, y, z, z_lb, z_ub = (np.asarray(v) for v in (s.x, s.y, s.z, s.z_lb, s.z_ub))
    has_lower, has_upper, counted = lb > -1e20, ub < 1e20, np.ones(h.shape, bool) if cones else h < 1e20
    assert np.all(z_lb >= 0) and np.all(z_ub >= 0) and not np.any(z_lb[~has_lower]) and not np.any(z_ub[~has_upper])
    assert not np.any(z[~counted])
    slack = np.where(counted, h - G @ x, 0.0)
    G = np.where(counted[:, None], G, 0.0)
    below, above = np.where(has_lower, x - lb, 0.0), np.where(has_upper, ub - x, 0.0)
    if cones is None:
        outside = [np.minimum(slack, 0), np.minimum(z, 0)]
    else:
        outside = [np.ravel([float(distances(tuple(cones))(v[None])[k][0]) for k, v in ((0, slack), (1, z))])]
    parts = [P @ x + np.asarray(data["c"]) + A.T @ y + G.T @ z - z_lb + z_ub, A @ x - b]
    parts += [*outside, np.minimum(below, 0), np.minimum(above, 0)]
    parts += [np.ravel(slack @ z), below * z_lb, above * z_ub]
    size = 1 + max(np.max(np.abs(v), initial=0.0) for v in (x, y, z, z_lb, z_ub))
    return np.max(np.abs(np.concatenate(parts))) / size


# -- reference programs -------------------------------------------------------------------------------------------------


def mixed_example():
    """All cones at once (four variables)."""
    i, j = np.arange(1, 15)[:, None], np.arange(1, 5)
    G = np.sin(i * (j + 1))
    exp, pow = (np.asarray(cone.unit(np.float64)) for cone in (Exponential(1), Power((0.3,))))
    e = np.concatenate([[1, 1], [1, 0, 0], exp, pow, [1, 0, 1]])
    data = dict(
        P=np.diag([1.0, 2, 0, 1]), c=np.cos(j), A=np.ones((1, 4)), b=np.ones(1), G=G, h=G @ np.full(4, 0.25) + e
    )
    return data, [("nonneg", 2), ("soc", 3), ("exp", 3), ("pow", 0.3), ("psd", 2)]


def _reference_programs():
    """Data, cones, solution, iterations without equilibration."""
    root = np.sqrt
    x = 1.1599092269590576
    mixed, cones = mixed_example()
    z_mixed = np.zeros(14)
    z_mixed[1], z_mixed[5:8] = 0.53896720, (-0.06072298, -0.10220200, 0.12023021)
    return {
        "LP": (
            dict(c=[-1.0, -2], G=[[1.0, 1], [1, 0], [0, 1], [-1, 0], [0, -1]], h=[4.0, 3, 3, 0, 0]),
            [("nonneg", 5)],
            dict(x=[1, 3], s=[0, 2, 0, 1, 3], z=[1, 0, 1, 0, 0], objective=-7),
            6,
        ),
        "QP": (
            dict(
                P=[[4.0, 1], [1, 2]],
                c=[1.0, 1],
                A=[[1.0, 1]],
                b=[1.0],
                G=[[1.0, 0], [0, 1], [-1, 0], [0, -1]],
                h=[0.7, 0.7, 0, 0],
            ),
            [("nonneg", 4)],
            dict(x=[0.3, 0.7], y=[-2.9], z=[0, 0.2, 0, 0], objective=1.88),
            7,
        ),
        "SOCP": (
            dict(c=[1.0, 2], G=[[0.0, 0], [-1, 0], [0, -1]], h=[1.0, 0, 0]),
            [("soc", 3)],
            dict(x=-np.array([1, 2]) / root(5), z=[root(5), 1, 2], objective=-root(5)),
            5,
        ),
        "EXP": (
            dict(c=[0.0, 0, 1], A=[[1.0, 0, 0], [0, 1, 0]], b=[1.0, 2], G=-np.eye(3), h=np.zeros(3)),
            [("exp", 3)],
            dict(
                x=[1, 2, 2 * np.exp(0.5)],
                y=[-np.exp(0.5), -0.5 * np.exp(0.5)],
                z=[-np.exp(0.5), -0.5 * np.exp(0.5), 1],
                objective=2 * np.exp(0.5),
            ),
            7,
        ),
        "POW": (
            dict(c=[-1.0, 0, 0], A=[[0.0, 1, 2]], b=[3.0], G=-np.eye(3), h=np.zeros(3)),
            [("pow", 0.6)],
            dict(x=[x, 1.8, 0.6], y=[x / 3], z=[-1, x / 3, 2 * x / 3], objective=-x),
            9,
        ),
        "PSD": (
            dict(c=[2, root(2), 0.0], A=[[1.0, 0, 1]], b=[1.0], G=-np.eye(3), h=np.zeros(3)),
            [("psd", 2)],
            dict(
                x=[(2 - root(2)) / 4, -0.5, (2 + root(2)) / 4],
                y=[root(2) - 1],
                z=[1 + root(2), root(2), root(2) - 1],
                objective=1 - root(2),
            ),
            5,
        ),
        "MIX": (
            mixed,
            cones,
            dict(
                x=[-0.39229656, 0.17618290, 0.82576337, 0.39035029],
                y=[0.36316040],
                z=z_mixed,
                objective=-1.173750825947,
            ),
            8,
        ),
    }


REFERENCE_PROGRAMS = _reference_programs()


@pytest.mark.parametrize("name", REFERENCE_PROGRAMS)
def test_reference_programs(name):
    data, cones, expected, iterations = REFERENCE_PROGRAMS[name]
    s = pounce.solve_conic(**data, cones=cones)
    assert int(s.status) == OPTIMAL and bool(s.success)
    np.testing.assert_allclose(s.objective, expected["objective"], rtol=1e-6)
    assert int(s.iterations) <= iterations + 3
    # Multipliers of cones with curvature have half the digits of the gap.
    s = pounce.solve_conic(**data, cones=cones, tol=1e-12)
    for part, value in expected.items():
        np.testing.assert_allclose(getattr(s, part), value, rtol=1e-6, atol=1e-6, err_msg=part)
    assert residual_of_kkt(data, s, cones) < 1e-6


def test_reference_certificates():
    s = pounce.solve_conic(c=[1.0, 1], G=[[-1.0, 0], [0, -1], [1, 1]], h=[0.0, 0, -1])
    assert int(s.status) == PRIMAL and not bool(s.success) and np.isposinf(s.objective)
    np.testing.assert_allclose(s.z, [1, 1, 1], atol=1e-6)
    s = pounce.solve_conic(P=np.diag([1.0, 0]), c=[0.0, -1], G=[[0.0, -1], [1, 0]], h=[0.0, 1])
    assert int(s.status) == DUAL and not bool(s.success) and np.isneginf(s.objective)
    np.testing.assert_allclose(s.x, [0, 1], atol=1e-6)


# -- random programs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("cone", CONES)
def test_optima_of_random_programs(cone, number):
    for kind in ("feasible", "degenerate"):
        s = solved(cone, kind, number)
        expected = references(cone, kind)[number * PER_STACK :][:PER_STACK]
        status = {ConicStatus(int(k)).label: int(np.sum(s.status == k)) for k in np.unique(s.status)}
        assert status == {"optimal": PER_STACK}, (kind, status, np.flatnonzero(s.status))
        error = np.abs(s.objective - expected) / np.maximum(1, np.abs(expected))
        assert np.max(error) < 1e-6, (kind, np.argmax(error), np.max(error))


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("cone", CONES)
def test_certificates_of_random_programs(cone, number):
    """By definition: ``A'y + G'z = 0``, ``b'y + h'z = -1``, z in the dual cone; ``Px = 0, Ax = 0, c'x = -1``, -Gx in the cone."""
    stack, s = programs(cone, "infeasible")[number], solved(cone, "infeasible", number)
    assert np.all(s.status == PRIMAL), (np.flatnonzero(s.status != PRIMAL), s.status[s.status != PRIMAL])
    size = np.maximum(1, np.linalg.norm(s.z, axis=1) + np.linalg.norm(s.y, axis=1))
    balance = np.einsum("kij,ki->kj", stack.A, s.y) + np.einsum("kij,ki->kj", stack.G, s.z)
    assert np.max(np.linalg.norm(balance, axis=1) / size) < 1e-6
    np.testing.assert_allclose(np.sum(stack.b * s.y, 1) + np.sum(stack.h * s.z, 1), -1, rtol=1e-6)
    assert np.max(np.asarray(distances(stack.cones)(s.z)[1]) / size) < 1e-6

    stack, s = programs(cone, "unbounded")[number], solved(cone, "unbounded", number)
    assert np.all(s.status == DUAL), (np.flatnonzero(s.status != DUAL), s.status[s.status != DUAL])
    ray = -np.einsum("kij,kj->ki", stack.G, s.x)
    size = np.maximum(1, np.linalg.norm(s.x, axis=1) + np.linalg.norm(ray, axis=1))
    for matrix in (stack.P, stack.A):
        assert np.max(np.linalg.norm(np.einsum("kij,kj->ki", matrix, s.x), axis=1) / size) < 1e-6
    np.testing.assert_allclose(np.sum(stack.c * s.x, 1), -1, rtol=1e-6)
    assert np.max(np.asarray(distances(stack.cones)(ray)[0]) / size) < 1e-6


@pytest.mark.parametrize("cone", CONES)
def test_multipliers_of_random_programs(cone):
    """Stationarity, the cone of z, and no gap."""
    stack, s = programs(cone, "feasible")[1], solved(cone, "feasible", 1)
    gradient = np.einsum("kij,kj->ki", stack.P, s.x) + stack.c
    balance = gradient + np.einsum("kij,ki->kj", stack.A, s.y) + np.einsum("kij,ki->kj", stack.G, s.z)
    size = np.maximum(1, np.linalg.norm(s.z, axis=1) + np.linalg.norm(s.x, axis=1))
    assert np.max(np.linalg.norm(balance, axis=1) / size) < 1e-6
    np.testing.assert_allclose(s.s, stack.h - np.einsum("kij,kj->ki", stack.G, s.x), rtol=1e-9, atol=1e-9)
    assert np.max(np.asarray(distances(stack.cones)(s.z)[1]) / size) < 1e-6
    assert np.max(np.asarray(distances(stack.cones)(s.s)[0]) / size) < 1e-6
    assert np.max(np.abs(np.sum(s.s * s.z, axis=1)) / size) < 1e-5


@pytest.mark.parametrize("cone", CONES)
def test_spoilt_lanes(cone):
    """NaN, infinity and infeasible programs in a batch end without success, and no bit of the other lanes changes."""
    number = 1
    stack, plain = programs(cone, "feasible")[number], solved(cone, "feasible", number)
    data = {name: array.copy() for name, array in stack_data(stack).items()}
    spoilt = {}
    for lane, name in enumerate(data):
        data[name][lane] = np.nan
        data[name][10 + lane].flat[0] = np.nan
        data[name][20 + lane].flat[-1] = np.inf
        spoilt.update({lane: None, 10 + lane: None, 20 + lane: None})
    if cone in ("nonneg", "mixed"):
        spoilt.pop(25)  # an infinite right-hand side of the orthant is a row that is not there
        data["h"][25] = stack.h[25]
    for lane, kind, status in ((30, "infeasible", PRIMAL), (31, "unbounded", DUAL)):
        other = stack_data(programs(cone, kind)[number])
        for name in data:
            data[name][lane] = other[name][lane]
        spoilt[lane] = status
    s = jax.tree.map(np.asarray, batched(stack.cones)(data))
    for lane, status in spoilt.items():
        assert s.status[lane] not in (ConicStatus.Optimal, ConicStatus.Optimal_Inaccurate), (lane, s.status[lane])
        if status is not None:
            assert s.status[lane] == status
        else:
            assert s.status[lane] == ConicStatus.Numerical_Failure, (lane, s.status[lane])
    others = np.setdiff1d(np.arange(PER_STACK), list(spoilt))
    for a, b in zip(jax.tree.leaves(s), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a[others], b[others])


def test_number_of_random_programs():
    assert sum(len(stack) for cone in CONES for kind in KINDS for stack in programs(cone, kind)) == 5600


# -- warm starts --------------------------------------------------------------------------------------------------------

SEQUENCE = {"nonneg": 3, "soc": 3, "exp": 1, "psd": 1}  # cone: number of the stack
STEPS = 10


@functools.cache
def solvers(cone):
    """Cold and warm solves of a stack, with bounds beside the orthant."""
    cones = list(SHAPES[cone][SEQUENCE[cone]][3])
    cold = jax.jit(jax.vmap(lambda data: pounce.solve_conic(**data, cones=cones)))
    warm = jax.jit(jax.vmap(lambda data, start: pounce.solve_conic(**data, cones=cones, warm_start=start)))
    return cold, warm


def sequence(cone):
    """Ten stacks of programs, each a slight change of the last: by 1e-2, in the end by 1e-3, of every entry."""
    stack = programs(cone, "feasible")[SEQUENCE[cone]]
    data, random = stack_data(stack), np.random.default_rng(0)
    if cone == "nonneg":
        x = solved(cone, "feasible", SEQUENCE[cone]).x
        data["lb"], data["ub"] = x - random.uniform(0.05, 1, x.shape), x + random.uniform(0.05, 1, x.shape)
        data["lb"][:, 0], data["ub"][:, 1] = x[:, 0] + 0.02, -np.inf
        data["ub"][:, 1] = x[:, 1] - 0.02
        data["lb"][:, 2], data["ub"][:, 3] = -np.inf, 1e21
    yield data
    for change in np.geomspace(1e-2, 1e-3, STEPS - 1):

        def moved(name, v, change=change):
            noise = random.normal(size=v.shape[:1] if name == "P" else v.shape)
            return v * (1 + change * noise.reshape(*noise.shape, *(1,) * (v.ndim - noise.ndim)))

        data = {name: moved(name, v) for name, v in data.items()}
        yield data


def start_of(solution):
    return {name: getattr(solution, name) for name in ("x", "y", "z", "z_lb", "z_ub")}


def rank(status):
    """Better statuses first: a verdict, a doubtful one, none."""
    status = np.asarray(status)
    return np.where(
        np.isin(status, (OPTIMAL, PRIMAL, DUAL)), 0, np.where(status == ConicStatus.Optimal_Inaccurate, 1, 2)
    )


@pytest.mark.parametrize("cone", SEQUENCE)
def test_warm_starts(cone):
    """At most 60 % of the iterations of cold starts over a sequence, the first program included, and the same verdicts."""
    cold, warm = solvers(cone)
    last, iterations = None, np.zeros(2)
    for k, data in enumerate(sequence(cone)):
        plain = cold(data)
        started = plain if k == 0 else warm(data, start_of(last))
        if k:
            iterations += np.sum(plain.iterations), np.sum(started.iterations)
        assert np.all(rank(started.status) <= rank(plain.status)), (k, started.status, plain.status)
        good = np.asarray((plain.status == OPTIMAL) & (started.status == OPTIMAL))
        assert np.mean(good) > 0.9
        np.testing.assert_allclose(
            np.asarray(started.objective)[good], np.asarray(plain.objective)[good], rtol=1e-6, atol=1e-6
        )
        last = started
    assert iterations[1] <= 0.6 * iterations[0], f"{iterations[1] / iterations[0]:.2f} of the iterations of cold starts"


@pytest.mark.parametrize("cone", SEQUENCE)
def test_hostile_warm_starts(cone):
    """Garbage, enormous and tiny numbers, NaN: never a worse status than that of a cold start, nor another optimum."""
    cold, warm = solvers(cone)
    data, random = next(sequence(cone)), np.random.default_rng(1)
    plain = cold(data)
    good = start_of(plain)

    def noise(scale):
        return {name: scale * random.normal(size=v.shape) for name, v in good.items()}

    starts = {
        "random": noise(1.0),
        "large": noise(1e3),
        "huge": noise(1e15),
        "overflow": noise(1e300),
        "tiny": noise(1e-30),
        "nan": {name: np.full(v.shape, np.nan) for name, v in good.items()},
        "nan in y and z": good | {"y": np.full(good["y"].shape, np.nan), "z": np.full(good["z"].shape, np.nan)},
        "infinite": {name: np.full(v.shape, np.inf) for name, v in good.items()},
        "negative": {name: -v for name, v in good.items()},
        "another lane": {name: np.roll(v, 1, axis=0) for name, v in good.items()},
    }
    for name, start in starts.items():
        s = warm(data, start)
        assert np.all(rank(s.status) <= rank(plain.status)), (name, np.flatnonzero(rank(s.status) > rank(plain.status)))
        np.testing.assert_allclose(s.objective, plain.objective, rtol=1e-6, atol=1e-6, err_msg=name)


def test_warm_starts_of_infeasible_programs():
    """A former solution does not hide that there is none now."""
    _, warm = solvers("soc")
    start = start_of(solved("soc", "feasible", SEQUENCE["soc"]))
    for kind, status in (("infeasible", PRIMAL), ("unbounded", DUAL)):
        s = warm(stack_data(programs("soc", kind)[SEQUENCE["soc"]]), start)
        assert np.all(np.asarray(s.status) == status), (kind, np.flatnonzero(np.asarray(s.status) != status))


# -- odd programs -------------------------------------------------------------------------------------------------------

INF = np.inf
BASE = dict(
    P=np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 3.0]]),
    c=np.array([1.0, -2.0, 0.5]),
    A=np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]]),
    b=np.array([1.0, 0.3]),
    G=np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]]),
    h=np.array([1.0, 0.8]),
    lb=np.full(3, -INF),
    ub=np.full(3, INF),
)
NO_A = dict(A=np.zeros((2, 3)), b=np.zeros(2))
NO_G = dict(h=np.full(2, INF))
NO_P = dict(P=np.zeros((3, 3)))
# Everything but the numbers is the same, so that these are one compiled program.
ODD = {
    "plain": {},
    "sides beyond 1e20": dict(lb=np.full(3, -1e20), ub=np.full(3, 1e25), h=np.array([1e20, 0.8])),
    "infinite sides": NO_G,
    "one-sided bounds": dict(lb=np.array([0.0, -INF, -INF]), ub=np.array([INF, 0.2, INF])),
    "fixed variable": dict(lb=np.array([-INF, 0.25, -INF]), ub=np.array([INF, 0.25, INF]), **NO_A),
    "fixed and bounded": dict(lb=np.array([0.1, 0.25, 0.0]), ub=np.array([0.1, 0.25, 5.0]), **NO_A),
    "all fixed": dict(lb=np.array([0.1, 0.2, 0.3]), ub=np.array([0.1, 0.2, 0.3]), **NO_A),
    "fixed by bounds and rows": dict(lb=np.array([0.5, -INF, -INF]), ub=np.array([0.5, INF, INF])),
    "narrow box": dict(lb=np.full(3, 0.3), ub=np.full(3, 0.3 + 1e-6), **NO_A, **NO_G),
    "redundant equalities": dict(A=np.array([[1.0, 1, 1], [2.0, 2, 2]]), b=np.array([1.0, 2.0])),
    "zero equality": dict(A=np.array([[1.0, 1, 1], [0, 0, 0]]), b=np.array([1.0, 0.0])),
    "no equalities": NO_A,
    "equalities only": NO_G,
    "unconstrained": NO_A | NO_G,
    "linear with free variables": NO_P
    | dict(c=np.array([1.0, 2, 0]), lb=np.array([-INF, -INF, 0.0]), ub=np.array([INF, INF, 2.0])),
    "linear, box only": NO_P | NO_A | NO_G | dict(lb=np.array([-1.0, 0, 2]), ub=np.array([1.0, 3, 4])),
    "singular P": dict(P=np.diag([1.0, 0, 0]), lb=np.full(3, -1.0), ub=np.full(3, 1.0)),
    "zero objective": NO_P | dict(c=np.zeros(3)),
    "large bounds": dict(lb=np.full(3, -1e6), ub=np.full(3, 1e6)),
    "large data": dict(P=1e6 * BASE["P"], c=1e6 * BASE["c"]),
    "small data": dict(P=1e-4 * BASE["P"], c=1e-4 * BASE["c"]),
}  # fmt: skip


@functools.cache
def dense_solver():
    return jax.jit(lambda data: pounce.solve_conic(**data))


@pytest.mark.parametrize("name", ODD)
def test_odd_programs(name):
    data = BASE | ODD[name]
    s = dense_solver()(data)
    assert int(s.status) == OPTIMAL, ConicStatus(int(s.status))
    assert residual_of_kkt(data, s) < 1e-6 * max(1, np.max(np.abs(data["P"])))
    fixed = data["lb"] == data["ub"]
    np.testing.assert_array_equal(np.asarray(s.x)[fixed], data["lb"][fixed])


@pytest.mark.parametrize(
    "name", ["crossed", "slightly crossed", "crossed fixed rows", "row never", "bounds and rows", "zero row"]
)
def test_infeasible_odd_programs(name):
    """With a certificate: ``A'y + G'z - z_lb + z_ub = 0`` and ``b'y + h'z - lb'z_lb + ub'z_ub = -1``."""
    changes = {
        "crossed": dict(lb=np.array([1.0, -INF, -INF]), ub=np.array([0.0, INF, INF]), **NO_A),
        "slightly crossed": dict(lb=np.array([0.1001, 0, 0]), ub=np.array([0.1, 1, 1]), **NO_A),
        "crossed fixed rows": dict(lb=np.array([5.0, 5.0, 0]), ub=np.array([5.0, 5.0, 1]), **NO_A),
        "row never": dict(h=np.array([1.0, -1e20]), lb=np.full(3, -1.0), ub=np.full(3, 1.0), **NO_A),
        "bounds and rows": dict(lb=np.full(3, 1.0)),
        "zero row": dict(A=np.array([[1.0, 1, 1], [0, 0, 0]]), b=np.array([1.0, 1.0])),
    }
    data = BASE | changes[name]
    s = dense_solver()(data)
    assert int(s.status) == PRIMAL, ConicStatus(int(s.status))
    y, z, z_lb, z_ub = (np.asarray(v) for v in (s.y, s.z, s.z_lb, s.z_ub))
    assert all(np.all(v >= 0) for v in (z, z_lb, z_ub))
    size = max(1, *(np.max(v) for v in (z, z_lb, z_ub)))
    np.testing.assert_allclose(data["A"].T @ y + data["G"].T @ z - z_lb + z_ub, 0, atol=1e-6 * size)
    lb, ub = (np.where(np.isfinite(v), v, 0.0) for v in (data["lb"], data["ub"]))
    assert not np.any(z_lb[np.isinf(data["lb"])]) and not np.any(z_ub[np.isinf(data["ub"])])
    np.testing.assert_allclose(data["b"] @ y + data["h"] @ z - lb @ z_lb + ub @ z_ub, -1, rtol=1e-6)


def test_unbounded_odd_programs():
    one_row = dict(h=np.array([INF, 0.8]), lb=np.zeros(3))
    for change in (NO_A | NO_G | NO_P, NO_A | NO_G | dict(P=np.diag([1.0, 0, 1])), NO_P | NO_A | one_row):
        data = BASE | change
        s = dense_solver()(data)
        assert int(s.status) == DUAL, ConicStatus(int(s.status))
        x = np.asarray(s.x)
        np.testing.assert_allclose(data["P"] @ x, 0, atol=1e-6)
        np.testing.assert_allclose(data["c"] @ x, -1, rtol=1e-6)
        assert np.all((data["G"] @ x)[np.isfinite(data["h"])] <= 1e-6) and np.all(x[np.isfinite(data["lb"])] >= -1e-6)


def test_few_arguments():
    """No constraints; equality rows only; one variable."""
    P, c = BASE["P"], BASE["c"]
    s = pounce.solve_conic(P, c)
    np.testing.assert_allclose(s.x, -np.linalg.solve(P, c), atol=1e-9)
    assert s.y.shape == s.z.shape == s.s.shape == (0,) and s.z_lb.shape == (3,)
    s = pounce.solve_conic(P, c, BASE["A"], BASE["b"])
    kkt = np.block([[P, BASE["A"].T], [BASE["A"], np.zeros((2, 2))]])
    np.testing.assert_allclose(
        np.concatenate([s.x, s.y]), np.linalg.solve(kkt, np.concatenate([-c, BASE["b"]])), atol=1e-9
    )
    s = pounce.solve_conic(c=np.ones(1), lb=-3.0)
    assert int(s.status) == OPTIMAL
    np.testing.assert_allclose([s.x[0], s.z_lb[0], s.objective], [-3, 1, -3], atol=1e-6)


def test_what_a_nonsymmetric_P_stands_for():
    """Where numbers are traced, a lower triangle is mirrored, and of anything else the symmetric part is taken."""
    P = BASE["P"] + np.triu(np.ones((3, 3)), 1) - np.triu(np.ones((3, 3)), 1).T
    expected = dense_solver()(BASE)
    for other in (P, np.tril(BASE["P"])):
        np.testing.assert_allclose(dense_solver()(BASE | {"P": other}).x, expected.x, atol=1e-12)
    for wrong in (P, np.triu(BASE["P"]), jnp.triu(BASE["P"])):
        with pytest.raises(ValueError, match="`P` .*tril"):
            pounce.solve_conic(**BASE | {"P": wrong})
    rows, columns = np.tril_indices(3)
    indices = np.stack([rows, columns], axis=1)
    lower, upper = (
        BCOO((jnp.asarray(BASE["P"][rows, columns]), order), shape=(3, 3)) for order in (indices, indices[:, ::-1])
    )
    data = convex_data(lower, BASE["c"], None, None, None, None, None, None)
    np.testing.assert_array_equal(data.P.pattern.scipy(data.P.values).toarray(), np.tril(BASE["P"]))
    with pytest.raises(ValueError, match="above its diagonal"):
        convex_data(upper, BASE["c"], None, None, None, None, None, None)


# -- dtypes, compiled size ----------------------------------------------------------------------------------------------


def test_float32():
    """Every output is float32, the answers are good to three digits; statuses as in double precision."""
    stack = programs("mixed", "feasible")[1]
    low = {name: np.asarray(v, np.float32) for name, v in stack_data(stack).items()}
    s = batched(stack.cones)(low)
    for part in (s.x, s.y, s.z, s.s, s.z_lb, s.z_ub, s.objective, s.residuals.complementarity):
        assert part.dtype == jnp.float32
    assert np.all(rank(s.status) <= 1), np.flatnonzero(rank(s.status) > 1)
    expected = references("mixed", "feasible")[PER_STACK : 2 * PER_STACK]
    error = np.abs(s.objective - expected) / np.maximum(1, np.abs(expected))
    assert np.max(error) < 1e-3, (np.argmax(error), np.max(error))


def test_nothing_recompiles():
    data, cones = mixed_example()
    pounce.solve_conic(**data, cones=cones)
    program = conic.ConicSolve(parse(cones, 14), 1, 0.0, "zero")
    entry, *_ = conic.derivative(program)  # what plain calls run, and derivatives take along
    before = entry._cache_size()
    assert before >= 1
    for k, options in enumerate((dict(tol=1e-6), dict(tol=1e-10, max_iter=7), dict(max_iter=50))):
        changed = {name: v * (1 + 1e-3 * k) for name, v in data.items()}
        pounce.solve_conic(**changed, cones=tuple(cones), **options)
    assert entry._cache_size() == before
    assert int(pounce.solve_conic(**data, cones=cones, max_iter=3).status) == ConicStatus.Iteration_Limit


def test_absent_cones_leave_no_trace():
    """No eigenvalue problem in a quadratic program, no Cholesky factor of matrices of a cone, no root finding."""

    def text(cones, **data):
        return str(jax.make_jaxpr(lambda data: pounce.solve_conic(**data, cones=cones))(data))

    plain = {name: BASE[name] for name in DATA}
    qp = text(None, **plain)
    for word in ("eigh", "svd", "= exp ", "= log "):  # variables are called exp, too
        assert word not in qp, word
    soc = text([("soc", 2)], **plain)
    assert "eigh" not in soc and "svd" not in soc
    rows = dict(G=np.ones((3, 3)), h=np.ones(3))
    assert "eigh" in text([("psd", 2)], **(plain | rows))
    assert "eigh" not in text([("exp", 3)], **(plain | rows))
    assert len(text([("exp", 3)], **(plain | rows))) > len(qp)
    assert orthant(2).layout == parse([("nonneg", 2)], 2).layout


def test_small_residuals_that_matter():
    """Residuals that can move the objective are no solution, and a certificate within rounding of its own size no proof."""
    tolerances = Tolerances.of(jnp.asarray(1e-8))
    for measures, status in (
        (Measures.of(), ConicStatus.Optimal),
        (Measures.of(effect=1e-5), ConicStatus.Running),
    ):
        assert verdict(measures, tolerances) == status
    for kind, status in (("farkas", ConicStatus.Primal_Infeasible), ("ray", ConicStatus.Dual_Infeasible)):
        value = {f"{kind}_value": -1.0}
        candidate = Measures.of(ratio=1e10, **value)
        assert verdict(candidate, tolerances) == status
        ended = Measures.of(ratio=1e4, **value)
        assert verdict(ended, tolerances) == ConicStatus.Running and verdict(ended, tolerances.reduced()) == status
        none = Measures.of(ratio=1e3, **value)
        assert verdict(none, tolerances.reduced()) == ConicStatus.Running
        # What can become better is waited for; what leaves little unproven is believed once nothing does.
        for measures, error, going, stuck in (
            (candidate, 5e-10, True, True),
            (candidate, 1e-6, False, True),
            (candidate, 1e-4, False, False),
            (ended, 5e-9, False, True),
            (ended, 1e-6, False, False),
        ):
            for alpha, expected in ((False, going), (True, stuck)):
                held = proven(jnp.asarray(error), jnp.asarray(jnp.inf), measures, tolerances, jnp.asarray(alpha))
                assert bool(held) is expected


def test_feasible_points_far_away():
    """A linear program all of whose feasible points are beyond 1e8 is not called infeasible; its likeness nearby is solved."""
    rng = np.random.default_rng(1)
    batch, n, p, m = 200, 8, 3, 6
    c, A = np.abs(rng.normal(size=(batch, n))), rng.normal(size=(batch, p, n))
    x, G = np.abs(rng.normal(size=(batch, n))), rng.normal(size=(batch, m, n))
    room = np.abs(rng.normal(size=(batch, m)))

    def statuses(size):
        """Two of the rows are parallel but for 1 / size, and one apart."""
        rows = np.stack([A[:, 0], A[:, 0] + A[:, 1] / size, A[:, 2]], axis=1)
        b = size * np.einsum("bpn,bn->bp", rows, x)
        b[:, 1] = b[:, 0] + 1.0
        h = size * np.einsum("bmn,bn->bm", G, x) + room
        return np.asarray(linear(c, rows, b, G, h, np.zeros((batch, n))).status)

    linear = jax.jit(jax.vmap(lambda c, A, b, G, h, lb: pounce.solve_conic(None, c, A, b, G, h, lb=lb)))
    near, far = statuses(1e5), statuses(1e8)
    assert set(near) == {OPTIMAL, PRIMAL} and 100 < np.sum(near == OPTIMAL) < 180
    assert np.all(far[near == OPTIMAL] != PRIMAL)
    assert np.all(far[near == PRIMAL] == PRIMAL)
    assert np.mean(far[near == OPTIMAL] == OPTIMAL) > 0.5


def test_a_failed_solve_returns_its_best_iterate():
    """Where rounding errors have spoilt what was nearly a solution, that is returned, and called inaccurate."""
    program = ConicSolve(orthant(2), 2, 0.0, "zero")
    names = ("P", "c", "A", "b", "G", "h")
    data = ConicData(*(jnp.asarray(BASE[name]) for name in names), lb=None, ub=None)
    method, controls = program.method(None), Controls.of(1e-8, 100, np.float64)

    @jax.jit
    def run(good):
        begun = begin(data, program.rows.layout, None)
        start, _ = advance(method, begun, controls, jnp.asarray(0))
        solved, _ = advance(method, begun, controls, jnp.asarray(100))
        best = eqx.tree_at(lambda p: p.grade.defect, solved.point, jnp.where(good, 0.5, jnp.inf))
        failure = jnp.asarray(ConicStatus.Numerical_Failure)
        spoilt = eqx.tree_at(lambda s: (s.status, s.best), start, (failure, best))
        return solved, recalled(spoilt), start

    solved, found, start = run(True)
    assert solved.status == ConicStatus.Optimal
    assert found.status == ConicStatus.Optimal_Inaccurate
    np.testing.assert_allclose(found.measures.primal_objective, solved.measures.primal_objective, rtol=1e-12)
    _, left, _ = run(False)
    assert left.status == ConicStatus.Numerical_Failure
    np.testing.assert_array_equal(left.iterate.x, start.iterate.x)


def test_no_linear_objective():
    """Nothing that a stopping test looks at is infinite where the objective has no linear term."""
    solution = pounce.solve_conic(np.eye(3), np.zeros(3), np.ones((1, 3)), np.ones(1), lb=np.array([0.5, 0.0, -1.0]))
    assert solution.status == ConicStatus.Optimal
    np.testing.assert_allclose(solution.x, [0.5, 0.25, 0.25], atol=1e-9)
