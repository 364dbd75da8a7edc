"""The method against reference logs of Ipopt 3.14.19 with default options: iterations, tags and printed digits."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

import pounce


INF = np.inf


@dataclasses.dataclass(frozen=True)
class Log:
    """A problem, its reference status and iterations, and printed (objective, inf_pr, inf_du, tag) of some rows."""

    f: Callable
    rows: tuple[Callable, ...]
    x0: tuple
    lb: object
    ub: object
    cl: tuple
    cu: tuple
    status: int
    iterations: int
    printed: dict[int, tuple] = dataclasses.field(default_factory=dict)
    slack: int = 0  # in iterations, where the reference itself depends on rounding


LOGS = {
    "second-order correction": Log(
        lambda x: 2 * (x[0] ** 2 + x[1] ** 2 - 1) - x[0], (lambda x: x[0] ** 2 + x[1] ** 2 - 1,),
        (np.cos(0.8), np.sin(0.8)), -INF, INF, (0,), (0,), 0, 6,
        {1: (-7.4884164e-1, 6.63e-2, 3.86e-1, "f"), 2: (-8.3001948e-1, 9.10e-2, 2.66e-1, "F"), 5: (-9.9999929e-1, 4.76e-7, 7.09e-7, "h")}),
    "inertia correction": Log(
        lambda x: -x[0] * x[1] - x[0] ** 4 / 4, (lambda x: x[0] ** 2 + x[1] ** 2,), (0.1, 0.3), -2, 2, (-INF,), (1,), 0, 8,
        {2: (-2.9700126e-1, 0, 2.80e-1, "f"), 3: (-7.3081482e-1, 2.22e-1, 3.84e-1, "f"), 5: (-5.8188504e-1, 0, 8.01e-4, "h")}),
    "dependent rows": Log(
        lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2 + x[2] ** 4, (lambda x: jnp.sum(x), lambda x: 2 * jnp.sum(x)),
        (3, 1, 2), -INF, INF, (2, 4), (2, 4), 0, 9, {1: (5.3448563, 5.14e-9, 10.8, "f"), 4: (2.4154187e-1, 1.45e-9, 5.48e-1, "f")}),
    "restoration": Log(
        lambda x: x[0] ** 2 + x[1] ** 2, (lambda x: x[0] ** 4 - 2 * x[0] ** 2 + x[1], lambda x: x[0] * x[1] + x[1]),
        (0, 0), -INF, INF, (0.5, -INF), (0.5, 0.3), 0, 17,
        {5: (9.6415327e-2, 2.04e-1, 3.16e3, "h"), 7: (9.7056172e-2, 2.04e-1, 2.35e4, "h"), 10: (1.4036605, 6.95e-1, 52.9, "f"),
         13: (2.4451628, 4.57e-4, 9.58e-2, "h")}),
    "soft restoration": Log(
        lambda x: x[0] * x[1], (lambda x: x[0] ** 2 - x[1] - 1,), (0.1, 0.1), 0.1, 10, (0,), (0,), 0, 18,
        {6: (7.0480337e-1, 23.7, 570, "h"), 7: (46.269147, 10.9, 278, "s"), 9: (34.209012, 9.07e-1, 53.1, "S"), 12: (1.4503055, 7.03e-3, 2.38e-1, "h")}),
    "watchdog": Log(
        lambda x: x[0] ** 2 + x[1] ** 2, (lambda x: x[0] ** 2 + x[1] ** 2,), (0, 1.5), 0.1, 10, (1,), (1,), 0, 19,
        {5: (1.0000220, 2.20e-5, 1.21e-6, "h"), 16: (1.1593942, 1.59e-1, 6.23e-9, "w"), 18: (1.0000075, 7.48e-6, 1.82e-10, "h")}),
    "infeasible": Log(
        lambda x: (x[0] - 1) ** 2 + (x[1] - 1) ** 2, (lambda x: x[0] ** 2 + x[1] ** 2, lambda x: x[0] + x[1]),
        (0, 0), -INF, INF, (-INF, 3), (1, INF), 2, 20,
        {3: (5.0396845e-1, 3.51, 178, "h"), 7: (4.9424282e-1, 3.48, 670, "f"), 12: (1.4185746e-1, 1.53, 996, "f")}, 1),
    "square": Log(
        lambda x: 0 * x[0], (lambda x: x[0] ** 2 + x[1] ** 2, lambda x: jnp.exp(x[0]) + x[1]), (1, -1.5), -INF, INF, (4, 1), (4, 1), 0, 3,
        {1: (0, 5.95e-2, 0, "h"), 2: (0, 2.25e-4, 0, "h")}),
    "rosenbrock": Log(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, (), (-1.2, 1), -INF, INF, (), (), 0, 21,
        {1: (4.7318843, 0, 2.15, "f"), 4: (3.2138981, 0, 10.2, "f"), 20: (8.5170750e-12, 0, 4.90e-5, "f")}),
    "linear program": Log(
        lambda x: -x[0] - 2 * x[1], (lambda x: x[0] + x[1], lambda x: x[0] + 2 * x[1]), (0.1, 0.1), 0, INF, (-INF, -INF), (4, 6), 0, 7),
    "hs006": Log(lambda x: (1 - x[0]) ** 2, (lambda x: 10 * (x[1] - x[0] ** 2),), (-1.2, 1), -INF, INF, (0,), (0,), 0, 5),
    "hs012": Log(
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1], (lambda x: 25 - 4 * x[0] ** 2 - x[1] ** 2,),
        (0, 0), -INF, INF, (0,), (INF,), 0, 8),
    "degenerate cusp": Log(
        lambda x: (x[0] - 2) ** 2 + x[1] ** 2, (lambda x: (1 - x[0]) ** 3 - x[1],), (-2, -2), 0, INF, (0,), (INF,), 0, 55, {}, 5),
    "wrong verdict": Log(
        lambda x: x[0], (lambda x: x[0] ** 2 - x[1] - 1, lambda x: x[0] - x[2] - 0.5), (-2, 3, 1), (-INF, 0, 0), INF, (0, 0), (0, 0), 2, 16, {}, 2),
    "unbounded": Log(lambda x: -x[0] - x[1] ** 2, (lambda x: x[0] - x[1],), (1, 1), -INF, INF, (-INF,), (0,), 4, 0, {}, 500),
}  # fmt: skip


def approximately(value, printed, digits):
    """Equal as far as ``digits`` significant digits were printed."""
    return (
        abs(value - printed) <= 1.01 * 10.0 ** (np.floor(np.log10(abs(printed))) - digits + 1)
        if printed
        else abs(value) < 1e-12
    )


@pytest.mark.parametrize("name", LOGS)
def test_reference_log(name):
    log = LOGS[name]
    g = (lambda x, p: jnp.stack([row(x) for row in log.rows])) if log.rows else None
    bounds = dict(cl=jnp.array(log.cl, float), cu=jnp.array(log.cu, float)) if log.rows else {}
    n = len(log.x0)
    full = lambda value: jnp.broadcast_to(jnp.asarray(value, float), (n,))
    problem = pounce.NLP(lambda x, p: log.f(x), g, lb=full(log.lb), ub=full(log.ub), **bounds)
    s = pounce.solve(problem, pounce.InteriorPoint(history=32), jnp.array(log.x0, float))
    assert int(s.status) == log.status
    assert abs(int(s.stats.iterations) - log.iterations) <= log.slack
    assert s.history is not None
    for row, (objective, inf_pr, inf_du, tag) in log.printed.items():
        h = s.history
        assert approximately(float(h.objective[row]), objective, 7), row
        assert approximately(float(h.primal_infeasibility[row]), inf_pr, 2), row
        assert approximately(float(h.dual_infeasibility[row]), inf_du, 2), row
        assert chr(int(h.tag[row])) == tag, row


@pytest.mark.parametrize("linear_solver", ["condensed", "lu"])
def test_other_linear_solvers_take_the_same_path(linear_solver):
    log = LOGS["inertia correction"]
    problem = pounce.NLP(
        lambda x, p: log.f(x),
        lambda x, p: jnp.stack([log.rows[0](x)]),
        lb=-2.0,
        ub=2.0,
        cl=jnp.array([-INF]),
        cu=jnp.ones(1),
    )
    s = pounce.solve(problem, pounce.InteriorPoint(linear_solver=linear_solver), jnp.array(log.x0))
    assert int(s.status) == 0 and int(s.stats.iterations) == log.iterations
