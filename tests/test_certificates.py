"""Verdicts on programs whose points are far away, and in small units: no false certificate, no solution that is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce import ConicStatus


CERTIFICATES = (ConicStatus.Primal_Infeasible, ConicStatus.Dual_Infeasible)


def verdicts(cones, programs):
    """Status, objective and radius of programs ``(c, A, b, G, h)`` of one shape, and nothing but those."""
    stacked = [jnp.asarray(np.stack(parts), float) for parts in zip(*programs)]
    solve = jax.jit(jax.vmap(lambda c, A, b, G, h: pounce.solve_conic(None, c, A, b, G, h, cones=cones)))
    s = solve(*stacked)
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
