"""Parametric problems with known structure, shared by the tests.

Each is `f(x, p)`, `g(x, p)` or None, bounds, a start and a parameter, with the features it exercises.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


INF = np.inf


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    f: Callable
    x0: tuple
    p: tuple
    g: Callable | None = None
    lb: Any = None
    ub: Any = None
    cl: Any = None
    cu: Any = None

    def data(self):
        return jnp.array(self.x0, float), jnp.array(self.p, float)


def rows(*functions):
    return lambda x, p: jnp.stack([function(x, p) for function in functions])


def _quartic(x, p):
    return jnp.sum((x - p[: x.shape[0]]) ** 2) + 0.1 * jnp.sum(x**4)


def _hs071(x, p):
    return x[0] * x[3] * (x[0] + x[1] + x[2]) + p[0] * x[2]


def _rosenbrock(x, p):
    return p[0] * (x[1] - x[0] ** 2) ** 2 + (p[1] - x[0]) ** 2


def _entropy(x, p):
    return jnp.sum(x * jnp.log(x)) - jnp.dot(p, x)


HS071_ROWS = rows(lambda x, p: jnp.prod(x), lambda x, p: jnp.sum(x * x) + p[1] - 1)

CASES = [
    # Unconstrained and box-constrained
    Case("quadratic", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (0.3, 0.7)),
    Case("one variable", lambda x, p: (x[0] - p[0]) ** 4 + (x[0] - p[0]) ** 2, (3,), (0.4,)),
    Case("rosenbrock", _rosenbrock, (-1.2, 1), (100, 1)),
    Case("exponential", lambda x, p: jnp.exp(p[0] * x[0]) - x[0] + x[1] ** 2 * p[1], (0, 1), (2, 3)),
    Case("logistic", lambda x, p: jnp.log1p(jnp.exp(-p[0] * x[0])) + 0.5 * p[1] * x[0] ** 2, (0,), (1.5, 0.5)),
    Case("active lower bound", _quartic, (1, 1), (-1, 2), lb=0.0),
    Case("active upper bound", _quartic, (0, 0), (3, 0.2), ub=1.0),
    Case("inactive bounds", _quartic, (0.1, 0.1), (0.3, -0.2), lb=-5.0, ub=5.0),
    Case("both bounds active", _quartic, (0, 0), (4, -4), lb=-1.0, ub=1.0),
    Case("mixed box", _quartic, (0, 0, 0), (4, -4, 0.1), lb=-1.0, ub=1.0),
    Case("fixed variable", _quartic, (0, 0, 0), (1, 2, 3), lb=(-9, 0.5, -9), ub=(9, 0.5, 9)),
    Case("coupled box", lambda x, p: (x[0] * x[1] - p[0]) ** 2 + (x[0] - p[1]) ** 2, (1, 1), (2, 0.3), lb=0.5, ub=3.0),
    # Equalities
    Case("projection", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (0.3, 0.7), rows(lambda x, p: x[0] + x[1] - 1), cl=0, cu=0),
    Case("circle", lambda x, p: -jnp.dot(p, x), (0.5, 0.5), (1, 2), rows(lambda x, p: jnp.sum(x * x)), cl=1, cu=1),
    Case("sphere with parameter", lambda x, p: x[0] + 2 * x[1] + 3 * x[2], (-1, -1, -1), (2.0,),
         rows(lambda x, p: jnp.sum(x * x) - p[0]), cl=0, cu=0),
    Case("two equalities", lambda x, p: jnp.sum(x**4) + jnp.dot(x[:2], p), (0.2, 0.2, 0.2, 0.2), (0.5, -0.3),
         rows(lambda x, p: jnp.sum(x) - 1, lambda x, p: x[0] - x[3] + 0.1 * x[1] ** 2 - p[0]), cl=0, cu=0),
    Case("square system", lambda x, p: 0.0 * x[0], (1, -1.5), (4, 1),
         rows(lambda x, p: jnp.sum(x * x) - p[0], lambda x, p: jnp.exp(x[0]) + x[1] - p[1]), cl=0, cu=0),
    Case("entropy simplex", _entropy, (0.3, 0.3, 0.4), (0.1, 0.5, -0.2), rows(lambda x, p: jnp.sum(x)), lb=0.0, cl=1, cu=1),
    Case("hs006", lambda x, p: (p[0] - x[0]) ** 2, (-1.2, 1), (1, 10), rows(lambda x, p: p[1] * (x[1] - x[0] ** 2)), cl=0, cu=0),
    Case("hs028", lambda x, p: (x[0] + x[1]) ** 2 + (x[1] + p[0] * x[2]) ** 2, (-4, 1, 1), (1.1,),
         rows(lambda x, p: x[0] + 2 * x[1] + 3 * x[2]), cl=1, cu=1),
    Case("equality and bound", lambda x, p: jnp.sum((x - p) ** 2), (0.5, 0.5, 0.1), (2, 0.1, -1),
         rows(lambda x, p: jnp.sum(x)), lb=0.0, cl=1, cu=1),
    # Inequalities
    Case("active half-space", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (2, 2), rows(lambda x, p: x[0] + x[1]), cl=-INF, cu=1),
    Case("slack half-space", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (0.1, 0.1), rows(lambda x, p: x[0] + x[1]), cl=-INF, cu=1),
    Case("active lower row", lambda x, p: jnp.sum((x - p) ** 2), (3, 3), (0, 0.5), rows(lambda x, p: x[0] * x[1]), cl=1, cu=INF),
    Case("range row upper", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (2, 2), rows(lambda x, p: x[0] + 2 * x[1]), cl=-1, cu=1),
    Case("range row lower", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (-2, -2), rows(lambda x, p: x[0] + 2 * x[1]), cl=-1, cu=1),
    Case("range row slack", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (0.1, 0.2), rows(lambda x, p: x[0] + 2 * x[1]), cl=-1, cu=1),
    Case("ball", lambda x, p: -jnp.dot(p, x), (0.1, 0.1), (1, 1), rows(lambda x, p: jnp.sum(x * x)), cl=-INF, cu=1),
    Case("ball radius", lambda x, p: -x[0] - x[1], (0.1, 0.1), (2.0,), rows(lambda x, p: jnp.sum(x * x) / p[0]), cl=-INF, cu=1),
    Case("two rows one active", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (2, 0),
         rows(lambda x, p: x[0], lambda x, p: x[1]), cl=-INF, cu=1),
    Case("vertex", lambda x, p: -x[0] * p[0] - x[1] * p[1], (0.1, 0.1), (1, 2),
         rows(lambda x, p: x[0] + x[1], lambda x, p: x[0] + 3 * x[1]), lb=0.0, cl=-INF, cu=(4, 6)),
    Case("hs012", lambda x, p: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - p[0] * x[0] - 7 * x[1], (0, 0), (7.0,),
         rows(lambda x, p: 25 - 4 * x[0] ** 2 - x[1] ** 2), cl=0, cu=INF),
    Case("hs035", lambda x, p: 9 - 8 * x[0] - 6 * x[1] - 4 * x[2] + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2
         + 2 * x[0] * x[1] + 2 * x[0] * x[2], (0.5, 0.5, 0.5), (3.0,), rows(lambda x, p: p[0] - x[0] - x[1] - 2 * x[2]),
         lb=0.0, cl=0, cu=INF),
    Case("hs043", lambda x, p: x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
         (0, 0, 0, 0), (8, 10, 5),
         rows(lambda x, p: p[0] - jnp.sum(x * x) - x[0] + x[1] - x[2] + x[3],
              lambda x, p: p[1] - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - 2 * x[3] ** 2 + x[0] + x[3],
              lambda x, p: p[2] - 2 * x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - 2 * x[0] + x[1] + x[3]), cl=0, cu=INF),
    Case("hs071", _hs071, (1, 5, 5, 1), (1, 1), HS071_ROWS, lb=1.0, ub=5.0, cl=(25, 40), cu=(INF, 40)),
    Case("mixed rows", lambda x, p: jnp.sum((x - p[0]) ** 2) + jnp.sin(x[1] * p[1]), (0.5, 0.5, 0.5), (1, 0.5),
         rows(lambda x, p: jnp.sum(x) - 1, lambda x, p: x[0] - x[1], lambda x, p: x[2] * x[0]),
         lb=(0, -INF, 0), cl=(0, -0.2, -INF), cu=(0, 0.2, 0.05)),
    Case("log utility", lambda x, p: -jnp.dot(p, jnp.log(x)), (0.3, 0.3, 0.3), (1, 2, 3), rows(lambda x, p: jnp.dot(p, x)),
         lb=1e-3, cl=-INF, cu=1),
    Case("least norm", lambda x, p: jnp.sum(x * x), (1, 1, 1, 1), (1, 2),
         rows(lambda x, p: x[0] + x[1] - p[0], lambda x, p: x[2] - x[3] - p[1]), cl=0, cu=0),
    Case("nonconvex ball", lambda x, p: -x[0] * x[1] - x[0] ** 4 / 4 + p[0] * x[0], (0.4, 0.3), (0.1,),
         rows(lambda x, p: jnp.sum(x * x)), lb=-2.0, ub=2.0, cl=-INF, cu=1),
    Case("free row", lambda x, p: jnp.sum((x - p) ** 2), (0, 0), (1, 2), rows(lambda x, p: x[0] * x[1], lambda x, p: x[0]),
         cl=(-INF, 0), cu=(INF, 0.5)),
    Case("control chain", lambda x, p: jnp.sum(x[3:] ** 2) + 4 * jnp.sum((x[:3] - 1) ** 2), (0, 0, 0, 0, 0, 0), (0.2, 0.1),
         rows(lambda x, p: x[0] - p[0] - x[3], lambda x, p: x[1] - x[0] - p[1] * x[0] ** 2 - x[4],
              lambda x, p: x[2] - x[1] - p[1] * x[1] ** 2 - x[5]), ub=0.6, cl=0, cu=0),
    Case("degenerate multipliers", lambda x, p: (x[0] - p[0]) ** 2 + (x[1] - p[1]) ** 2 + x[2] ** 2, (0, 0, 0), (2, 1),
         rows(lambda x, p: x[0] + x[1] - 1, lambda x, p: 2 * x[0] + 2 * x[1] - 2), cl=0, cu=0),
]  # fmt: skip

BY_NAME = {case.name: case for case in CASES}
REGULAR = [case for case in CASES if case.name != "degenerate multipliers"]
