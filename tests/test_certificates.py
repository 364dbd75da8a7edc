"""Verdicts on programs whose points are far away, and in small units: no false certificate, no solution that is none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce import ConicStatus
from pounce._cone.layout import Layout
from pounce._conic.data import ConicData, presolve
from pounce._conic.equilibration import ruiz_equilibrate
from pounce._conic.extent import extent
from pounce._linalg.sparse import Pattern, SparseMatrix


CERTIFICATES = (ConicStatus.Primal_Infeasible, ConicStatus.Dual_Infeasible)


@functools.cache
def solver(cones):
    return jax.jit(jax.vmap(lambda c, A, b, G, h: pounce.solve_conic(None, c, A, b, G, h, cones=list(cones))))


def verdicts(cones, programs):
    """Status, objective and radius of programs ``(c, A, b, G, h)`` of one shape, and nothing but those."""
    stacked = [jnp.asarray(np.stack(parts), float) for parts in zip(*programs)]
    s = solver(tuple(cones))(*stacked)
    return np.asarray(s.status), np.asarray(s.objective), np.asarray(s.residuals.radius)


def test_exponentials_far_away():
    """``exp(u) <= t`` with one of them given, or with a price of t that makes it large."""
    G, h = -np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), np.array([0.0, 1.0, 0.0])
    none = np.zeros((1, 2)), np.zeros(1)
    programs = [([-1.0, 0.0], [[0.0, 1.0]], [t], G, h) for t in (3.0, 2e7, 7e9, 4e11)]
    programs += [([0.0, 1.0], [[1.0, 0.0]], [u], G, h) for u in (2.0, 21.0, 24.0, 27.0)]
    programs += [([-np.exp(u), 1.0], *none, G, h) for u in (1.0, 17.0, 23.0)]
    programs += [([0.0, -1.0], *none, G, h), ([0.0, 1.0], [[0.0, 1.0]], [-1.0], G, h)]
    values = [-np.log(t) for t in (3.0, 2e7, 7e9, 4e11)] + [np.exp(u) for u in (2.0, 21.0, 24.0, 27.0)]
    values += [np.exp(u) * (1 - u) for u in (1.0, 17.0, 23.0)]
    status, objective, radius = verdicts([("exp", 3)], programs)
    assert not np.isin(status[:-2], CERTIFICATES).any(), status
    right = np.abs(objective[:-2] - values) < 1e-5 * np.maximum(1.0, np.abs(values))
    assert np.all(right[status[:-2] == ConicStatus.Optimal])
    assert np.sum(status[:-2] == ConicStatus.Optimal) >= 6 and np.all(np.isinf(radius[:-2]))
    assert status[-2:].tolist() == [ConicStatus.Dual_Infeasible, ConicStatus.Primal_Infeasible]


def test_squares_far_away():
    """``t >= x^2`` as ``(t + 1) / 2 >= |((t - 1) / 2, x)|``: within the block nearly everything cancels."""
    G, h = -np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]), np.array([0.5, -0.5, 0.0])
    far = np.array([3.0, 2e3, 2e5, 1e6])
    programs = [([1.0, 0.0], [[0.0, 1.0]], [x], G, h) for x in far]
    programs += [([0.0, 0.0], [[1.0, 0.0]], [-1.0], G, h)]
    status, objective, radius = verdicts([("soc", 3)], programs)
    assert not np.isin(status[:-1], CERTIFICATES).any(), status
    optimal = status[:-1] == ConicStatus.Optimal
    assert np.all(np.abs(objective[:-1] - far**2)[optimal] < 1e-5 * far[optimal] ** 2) and optimal[0]
    assert status[-1] == ConicStatus.Primal_Infeasible and radius[-1] > 1e6


def test_second_order_edges():
    """``|x| <= size`` beside a line that touches the ball, or misses it by a little: multipliers on the boundary of the cone."""

    def program(size, excess, row=1.0):
        G, h = -np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), size * np.array([1.0, 0.0, 0.0])
        return [2.0, -1.0], [[0.0, row]], [row * size * (1.0 + excess)], row**2 * G, row**2 * h

    programs = [program(*numbers) for numbers in ((3.0, 2e-2), (2e4, 4e-4), (1.0, 3e-6, 1e-3), (5e-3, 7e-5))]
    status, objective, radius = verdicts([("soc", 3)], [*programs, program(2.0, -1e-3)])
    assert np.all(status[:-1] == ConicStatus.Primal_Infeasible), status
    assert np.all(radius[:-1] > 1e5 * np.array([3.0, 2e4, 1.0, 5e-3]))
    assert status[-1] == ConicStatus.Optimal
    np.testing.assert_allclose(objective[-1], -2.0 * 2.0 * np.sqrt(1.0 - 0.999**2) - 1.998, rtol=1e-6)


def test_semidefinite_edges():
    """Covariances of which one exceeds what its two variances allow, beside a third that is free; units of each and of all."""

    def program(excess, scales=(1.0, 1.0, 1.0), row=1.0):
        a, b, c = scales
        G, h = np.zeros((6, 2)), np.array([a * a, np.sqrt(2) * a * b * (1 + excess), 0.0, b * b, 0.0, c * c])
        G[2, 0] = G[4, 1] = -1.0
        return [-1.0, -2.0], np.zeros((1, 2)), [0.0], row * G, row * h

    programs = [program(3e-2), program(2e-4, (1.0, 30.0, 0.2)), program(5e-5, row=4e3), program(7e-6), program(-1e-3)]
    status, _, radius = verdicts([("psd", 3)], programs)
    assert np.all(status[:-1] == ConicStatus.Primal_Infeasible), status
    assert np.all(radius[:-1] > 1e6) and status[-1] == ConicStatus.Optimal


@pytest.mark.parametrize("sparse", [False, True])
def test_extent(sparse):
    """How far the variables of feasible points can be, through one row or cone after the other."""
    layout = Layout(nonnegative=1, second_order=((3, 1),), semidefinite=((2, 1),), exponential=1, power=(0.25,))
    A, G, h = np.zeros((1, 8)), np.zeros((13, 8)), np.zeros(13)
    A[0, :2] = 1.0, 2.0  # x0 + 2 x1 = 6, x1 >= 1, x0 >= 0: x0 <= 4, x1 <= 3
    G[0, 0] = -1.0
    G[1, 0], G[2, 2] = -1.0, 2.0  # |(2 x2, 3)| <= x0
    h[3] = 3.0
    h[4], h[5], G[6, 4] = 9.0, -1.0, -1.0  # [[9, (x3 - 1) / sqrt 2], [., x4]], x4 <= 4: |x3 - 1| <= sqrt 2 * 6
    G[5, 3] = -1.0
    h[8], G[7, 5], h[9] = 1.0, -1.0, 2.0  # exp(x5) <= 2: no lower bound
    G[10, 6], h[11], h[12] = 1.0, 16.0, 81.0  # |x6| <= 2 * 27; x7 is free
    lb, ub = np.full(8, -np.inf), np.full(8, np.inf)
    lb[1], ub[4] = 1.0, 4.0

    def matrix(M):
        return SparseMatrix(jnp.asarray(M[np.nonzero(M)]), Pattern.of(M)) if sparse else jnp.asarray(M)

    data = ConicData(None, jnp.zeros(8), matrix(A), jnp.array([6.0]), matrix(G), *map(jnp.asarray, (h, lb, ub)))
    found = jax.jit(lambda data: extent(presolve(data, layout).program))(data)
    np.testing.assert_allclose(found, [4.0, 3.0, 2.0, 1 + 6 * np.sqrt(2), 4.0, np.inf, 54.0, np.inf], rtol=1e-9)


@pytest.mark.parametrize("flat", [False, True])
def test_curvature_is_no_ray(flat):
    """A strictly convex program has a minimum, however far away."""
    programs = [
        dict(P=[[p]], c=[-q], lb=[0.0]) for p, q in ((1.0, 20.0), (2.0, 1e12), (1e-9, 3e4), (1e-12, 2.0), (1e3, 1e15))
    ]
    if flat:
        programs = [program | {"P": [[0.0]]} for program in programs]
    for program, r in zip(programs, pounce.solve_qp_batch(programs)):
        assert flat == (r.status == "dual_infeasible"), r.status
        if r.status == "optimal":
            np.testing.assert_allclose(r.x * program["P"][0], -np.array(program["c"]), rtol=1e-5)


def test_radius():
    """What is left of a certificate: no feasible point within its inverse."""
    G = np.array([[1.0, 2.0, 0.0], [-1.0, -2.0, 0.3], [0.0, 0.0, -1.0]])
    r = pounce.solve_qp(c=np.zeros(3), G=G, h=[1.0, -1.5, 0.0])
    assert r.status == "primal_infeasible"
    left = np.max(np.abs(G.T @ r.z))
    assert r.residuals["radius"] > 1e8
    assert left == 0 or r.residuals["radius"] * left == pytest.approx(1.0, rel=1e-3)
    assert "radius" not in pounce.solve_qp(c=np.zeros(3), G=G, h=[1.0, 1.5, 0.0]).residuals


def test_small_units():
    """The same quadratic program in other units of x, of its rows and of the objective has the same solution."""
    random = np.random.default_rng(8)
    n = 6
    L = random.normal(size=(n, 3))
    data = dict(
        P=L @ L.T, c=1e-2 * random.normal(size=n), A=np.ones((1, n)), b=np.ones(1), lb=np.zeros(n), ub=np.ones(n)
    )
    programs = [data]
    for x, row, cost in ((3e-5, 1.0, 1.0), (1e-7, 1.0, 1.0), (1.0, 1.0, 1e-7), (1e-3, 1e-6, 1e-4), (1e5, 1e4, 1e-6)):
        units = dict(P=cost * data["P"], c=cost * x * data["c"], A=row * data["A"], b=row * x * data["b"])
        programs.append(units | dict(lb=data["lb"], ub=x * data["ub"]))
    results = pounce.solve_qp_batch(programs)
    for program, r in zip(programs, results):
        assert r.status == "optimal"
        np.testing.assert_allclose(r.x / program["ub"], results[0].x, atol=1e-6)


def test_rounding_errors_have_no_size():
    """Right-hand sides that are rounding errors beside others tell as little about the size of points as zeros do."""
    random = np.random.default_rng(3)
    A, G = random.normal(size=(6, 8)), random.normal(size=(4, 8))

    @jax.jit
    @jax.vmap
    def units(b, h, ub):
        data = ConicData(jnp.eye(8), jnp.ones(8), jnp.asarray(A), b, jnp.asarray(G), h, jnp.zeros(8), ub)
        return ruiz_equilibrate(presolve(data, Layout(nonnegative=4)).program)[1]

    rest, far = np.array([1e-16, 3e-16, -2e-17, 6e-14]), np.array([1.0, 30.0, 1e15, *[np.inf] * 5])
    b, h = np.array([80.0, -3.0, *rest]), np.array([130.0, 5e-14, 4e-16, 1.0])
    cases = [
        (b, h, far),
        (np.where(abs(b) < 1e-9, 0, b), np.where(abs(h) < 1e-9, 0, h), far),
        (1e-9 * b, 1e-9 * h, 1e-9 * far),
    ]
    found = units(*(jnp.asarray(np.stack(parts)) for parts in zip(*cases)))
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf[0], leaf[1])
    assert np.all(found.variables[0] >= 0.25)  # these need no units
    assert np.all(found.variables[2] < 1e-6)  # small, though most of it is rounding errors
