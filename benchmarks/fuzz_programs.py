"""The random programs of `benchmarks.fuzz`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


def convex_programs(count: int, seed: int, quadratic: bool) -> list[dict]:
    """Programs of six variables, two equalities and five inequalities in small whole numbers: ties, degenerate vertices, rows
    that repeat or contradict each other. One in three has units from 1e-3 to 1e3."""
    random = np.random.default_rng([seed, quadratic])
    programs = []
    for k in range(count):
        A, G = random.integers(-2, 3, (2, 6)).astype(float), random.integers(-2, 3, (5, 6)).astype(float)
        x, c = random.integers(-1, 3, 6).astype(float), random.integers(-3, 4, 6).astype(float)
        b = A @ x if k % 5 else random.integers(-3, 4, 2).astype(float)
        h = G @ x + random.integers(0, 3, 5) if k % 4 else random.integers(-3, 4, 5).astype(float)
        kind = k % 8
        if kind == 1:  # a row again
            A[1], b[1] = -2 * A[0], -2 * b[0]
        elif kind == 3:  # an equality in two halves
            G[4], h[4] = -G[3], -h[3]
        elif kind == 5:  # a row of zeros
            G[2] = 0.0
            h[2] = float(random.integers(0, 2))
        elif kind == 6:  # a cost that a combination of rows is, so that a whole face is optimal
            c = A[0] - G[0] - G[1]
        lb = np.where(random.random(6) < 0.5, np.minimum(x, 0.0), -np.inf)
        ub = np.where(random.random(6) < 0.3, np.maximum(x, 2.0), np.inf)
        if kind == 7:
            lb[0] = ub[0] = x[0]
        P = np.zeros((6, 6))
        if quadratic:
            L = random.integers(-2, 3, (6, 1 + k % 6)).astype(float)
            P = L @ L.T
        if k % 3 == 2:
            column, row, cost = (10.0 ** random.uniform(-3, 3, size) for size in (6, 7, 1))
            A, G = row[:2, None] * A / column, row[2:, None] * G / column
            b, h = row[:2] * b, row[2:] * h
            P, c = cost * P / np.outer(column, column), cost * c / column
            lb, ub = lb * column, ub * column
        programs.append(dict(P=P, c=c, A=A, b=b, G=G, h=h, lb=lb, ub=ub))
    return programs


CONES = [("nonneg", 2), ("soc", 3), ("psd", 2), ("exp", 3), ("pow", 0.4), ("rsoc", 3)]
SIZES = [2, 3, 3, 3, 3, 3]


def _inside(random: np.random.Generator, dual: bool) -> np.ndarray:
    """A point in the interior of the product of `CONES`, or of the dual one."""
    nonneg = random.uniform(0.2, 2.0, 2)
    tail = random.normal(size=2)
    soc = np.append(np.linalg.norm(tail) + random.uniform(0.1, 2.0), tail)
    M = random.normal(size=(2, 2))
    M = M @ M.T + 0.1 * np.eye(2)
    psd = np.array([M[0, 0], np.sqrt(2) * M[1, 0], M[1, 1]])
    a, y = random.uniform(-2, 1), random.uniform(0.3, 2.0)
    exponential = np.array([a, y, y * np.exp(a / y) + random.uniform(0.1, 1.0)])
    if dual:
        u = -random.uniform(0.3, 2.0)
        exponential = np.array([u, a, -u * np.exp(a / u - 1.0) + random.uniform(0.1, 1.0)])
    y, z = random.uniform(0.3, 2.0, 2)
    most = y**0.4 * z**0.6 if not dual else (y / 0.4) ** 0.4 * (z / 0.6) ** 0.6
    power = np.array([random.uniform(-0.9, 0.9) * most, y, z])
    p, q = random.uniform(0.3, 2.0, 2)
    rotated = np.array([p, q, random.uniform(-0.9, 0.9) * np.sqrt(2 * p * q)])
    return np.concatenate([nonneg, soc, psd, exponential, power, rotated])


def cone_programs(count: int, seed: int) -> list[tuple[dict, str]]:
    """Programs over a product of all cones, strictly feasible on both sides, or with a certificate by construction, and what they
    are."""
    random = np.random.default_rng([seed, 2])
    n, p, m, programs = 8, 2, sum(SIZES), []
    for k in range(count):
        A, G, x = random.normal(size=(p, n)), random.normal(size=(m, n)), random.normal(size=n)
        L = random.normal(size=(n, k % 4))
        s, z, y = _inside(random, False), _inside(random, True), random.normal(size=p)
        P, b, h, kind = L @ L.T, A @ x, G @ x + s, "optimal"
        c = -(P @ x + A.T @ y + G.T @ z)
        if k % 4 == 2:  # A'y + G'z = 0 and b'y + h'z < 0
            kind = "primal_infeasible"
            A[0] -= (A.T @ y + G.T @ z) / y[0]
            h = h - (b @ y + h @ z + random.uniform(0.1, 2.0)) * z / (z @ z)
            c, P = random.normal(size=n), P
        elif k % 4 == 3:  # a ray of descent: P d = 0, A d = 0, -G d in K
            kind = "dual_infeasible"
            d = random.normal(size=n)
            project = np.eye(n) - np.outer(d, d) / (d @ d)
            A, P = A @ project, project @ P @ project
            G = G - np.outer(G @ d + _inside(random, False), d) / (d @ d)
            b, h = A @ x, G @ x + s
            c = c - (c @ d + random.uniform(0.1, 2.0)) * d / (d @ d)
        cost = 10.0 ** random.uniform(-2, 2)
        programs.append((dict(P=cost * P, c=cost * c, A=A, b=b, G=G, h=h, cones=CONES), kind))
    return programs


@dataclasses.dataclass
class Nonconvex:
    """A program for `pounce.minimize`; rows are equalities first, then ``>= 0``."""

    objective: Callable[[Any], Any]
    of_rows: Callable[[Any], Any]
    equalities: int
    lb: np.ndarray
    ub: np.ndarray
    x0: np.ndarray

    def __post_init__(self):
        import jax

        with jax.enable_x64(True):
            self._value, self._rows = jax.jit(self.objective), jax.jit(self.of_rows)
            self._gradient, self._jacobian = jax.jit(jax.grad(self.objective)), jax.jit(jax.jacfwd(self.of_rows))

    def _at(self, function, x):
        import jax

        with jax.enable_x64(True):
            return np.asarray(function(np.asarray(x, float)))

    def value(self, x):
        return float(self._at(self._value, x))

    def gradient(self, x):
        return self._at(self._gradient, x)

    def rows(self, x):
        return self._at(self._rows, x)

    def jacobian(self, x):
        return self._at(self._jacobian, x)

    @property
    def bounds(self):
        return list(zip(self.lb, self.ub))

    @property
    def constraints(self):
        from scipy.optimize import NonlinearConstraint

        return NonlinearConstraint(self.of_rows, np.zeros(self._size), self._upper)

    @property
    def _size(self) -> int:
        return self.rows(self.x0).size

    @property
    def _upper(self) -> np.ndarray:
        return np.where(np.arange(self._size) < self.equalities, 0.0, np.inf)

    @property
    def for_scipy(self):
        e = self.equalities
        parts = (("eq", slice(0, e)), ("ineq", slice(e, None)))
        return [
            dict(type=kind, fun=lambda x, k=k: self.rows(x)[k], jac=lambda x, k=k: self.jacobian(x)[k])
            for kind, k in parts
        ]


def nonconvex_programs(count: int, seed: int) -> list[Nonconvex]:
    """Of five variables, one equality and three inequalities, in four families: polynomials, sines, products of exponentials and
    quotients. One in four may be infeasible."""
    import jax.numpy as jnp

    random = np.random.default_rng([seed, 3])
    problems = []
    for k in range(count):
        Q, R, S = random.normal(size=(5, 5)), random.normal(size=(4, 5)), random.normal(size=(4, 5, 5))
        feasible, q = random.uniform(-1, 1, 5), random.normal(size=5)
        family = k % 4

        def curves(x, family=family, R=R, S=S):
            square = jnp.einsum("kij,i,j->k", jnp.asarray(S), x, x)
            if family == 0:
                return jnp.asarray(R) @ x + 0.3 * square
            if family == 1:
                return jnp.sin(jnp.asarray(R) @ x) + 0.1 * square
            if family == 2:
                return jnp.exp(0.3 * (jnp.asarray(R) @ x)) + 0.1 * square
            return (jnp.asarray(R) @ x) / (1.0 + jnp.sum(x**2)) + 0.05 * square

        def objective(x, family=family, Q=Q, q=q):
            quadratic = x @ (jnp.asarray(Q) @ x) + jnp.asarray(q) @ x
            more = (jnp.sum(x**4), jnp.sum(jnp.cos(3 * x)), jnp.sum(jnp.exp(-x)), jnp.sum(x**2 / (1 + x**2)))
            return quadratic + more[family]

        at = np.asarray(curves(feasible), float)
        offset = at - np.array([0.0, *random.uniform(0, 0.5, 3)]) if k % 4 != 3 else random.normal(size=4) + at

        def rows(x, curves=curves, offset=offset):
            return curves(x) - jnp.asarray(offset)

        lb, ub = np.full(5, -2.0), np.full(5, 2.0)
        lb[0] = -1.5 if k % 2 else -np.inf
        problems.append(Nonconvex(objective, rows, 1, lb, ub, random.uniform(-2, 2, 5)))
    return problems
