"""What is left of the conditions of optimality, or of those of a certificate, in NumPy from the user's own numbers."""

from typing import NamedTuple

import numpy as np

from .._conic.data import NO_BOUND
from .cones import HostCones
from .data import Point, Program


INFINITE = float("inf")


class Quality(NamedTuple):
    """Largest violations, in user units.

    ``error`` is the worst of them and of the duality gap, each relative to what cancels in it.
    """

    primal_infeasibility: float
    dual_infeasibility: float
    complementarity: float
    error: float
    objective: float

    @property
    def residuals(self) -> dict[str, float]:
        """As results give them."""
        parts = self.primal_infeasibility, self.dual_infeasibility, self.complementarity
        worst = float("nan") if any(part != part for part in parts) else max(parts)
        names = ("primal_infeasibility", "dual_infeasibility", "complementarity", "kkt_error")
        return dict(zip(names, (*parts, worst)))


def size(*vectors: np.ndarray) -> float:
    """The largest magnitude; NaN if there are NaN."""
    return float(np.maximum.reduce([np.abs(v).max() if v.size else 0.0 for v in vectors]))


class Terms:
    """The products of a program's matrices with a point."""

    def __init__(self, data: Program, cones: HostCones, v: Point):
        n, nothing = v.x.shape[0], np.zeros(0)
        self.curvature = np.zeros(n) if data.P is None else data.P @ v.x
        self.equalities = nothing if data.A is None else data.A @ v.x
        self.rows = nothing if data.G is None else data.G @ v.x
        self.pull_y = np.zeros(n) if data.A is None else v.y @ data.A
        self.pull_z = np.zeros(n) if data.G is None else v.z @ data.G
        self.b = nothing if data.b is None else data.b
        self.h = nothing if data.h is None else data.h
        present = np.ones(self.h.shape[0], bool)
        present[cones.orthant] = self.h[cones.orthant] < NO_BOUND
        self.present = present
        self.lower, self.has_lower = _bound(data.lb, n, -1.0)
        self.upper, self.has_upper = _bound(data.ub, n, 1.0)

    @property
    def pull(self) -> tuple[np.ndarray, ...]:
        return self.pull_y, self.pull_z

    def price(self, v: Point) -> float:
        """``b'y + h'z - lb'z_lb + ub'z_ub``."""
        h = np.where(self.present, self.h, 0.0)
        return float(self.b @ v.y + h @ v.z - self.lower @ v.z_lb + self.upper @ v.z_ub)

    def slack(self, right: np.ndarray) -> np.ndarray:
        """``right - Gx``, zero in rows that are absent."""
        return np.where(self.present, right - self.rows, 0.0)

    def sign_violation(self, cones: HostCones, v: Point) -> float:
        """How far multipliers are outside of the dual cone; those of absent rows and bounds must be zero."""
        absent_rows = np.where(self.present, 0.0, v.z)
        lower, upper = (np.where(has, -z, np.abs(z)) for has, z in ((self.has_lower, v.z_lb), (self.has_upper, v.z_ub)))
        return _worst(cones.distance(v.z, dual=True), size(absent_rows), *(z.max() for z in (lower, upper)))


def _bound(bound: np.ndarray | None, n: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """The bound, zero where it is absent, and where it is not."""
    if bound is None:
        return np.zeros(n), np.zeros(n, bool)
    has = sign * bound < NO_BOUND
    return np.where(has, bound, 0.0), has


def _worst(*values: float) -> float:
    """The largest of zero and these; NaN if one is."""
    return float("nan") if any(v != v for v in values) else max(0.0, *map(float, values))


def optimality(data: Program, cones: HostCones, v: Point) -> Quality:
    """How far a point is from being optimal."""
    t = Terms(data, cones, v)
    c, x = data.c, v.x
    slack = t.slack(t.h)
    below, above = np.where(t.has_lower, t.lower - x, 0.0), np.where(t.has_upper, x - t.upper, 0.0)
    primal = _worst(size(t.equalities - t.b), cones.distance(slack), below.max(), above.max())
    stationarity = size(t.curvature + c + t.pull_y + t.pull_z - v.z_lb + v.z_ub)
    dual = _worst(stationarity, t.sign_violation(cones, v))
    complementarity = _worst(cones.products(slack, v.z), size(below * v.z_lb, above * v.z_ub))
    quadratic = float(x @ t.curvature)
    objective = 0.5 * quadratic + float(c @ x)
    gap = abs(quadratic + float(c @ x) + t.price(v))
    primal_scale = max(1.0, size(t.equalities, t.rows, t.b, np.where(t.present, t.h, 0.0), x))
    dual_scale = max(1.0, size(t.curvature, c, *t.pull, v.y, v.z))
    error = _worst(primal / primal_scale, dual / dual_scale, gap / max(1.0, abs(objective)))
    return Quality(primal, dual, complementarity, error, objective)


def farkas(data: Program, cones: HostCones, v: Point) -> Quality:
    """How far multipliers are from proving that there is no feasible point."""
    t = Terms(data, cones, v)
    dual = _worst(size(t.pull_y + t.pull_z - v.z_lb + v.z_ub), t.sign_violation(cones, v))
    products = [p for p in (t.b * v.y, np.where(t.present, t.h, 0.0) * v.z, t.lower * v.z_lb, t.upper * v.z_ub)]
    value = abs(t.price(v) + 1.0)
    error = _worst(dual / max(1.0, size(*t.pull, v.y, v.z)), value / max(1.0, size(*products)))
    return Quality(INFINITE, dual, INFINITE, error, INFINITE)


def ray(data: Program, cones: HostCones, v: Point) -> Quality:
    """How far a direction is from proving that the objective has no bound (where there is a feasible point)."""
    t = Terms(data, cones, v)
    x = v.x
    below, above = np.where(t.has_lower, -x, 0.0), np.where(t.has_upper, x, 0.0)
    slack = t.slack(np.zeros_like(t.h))
    primal = _worst(size(t.curvature, t.equalities), cones.distance(slack), below.max(), above.max())
    value = abs(float(data.c @ x) + 1.0)
    scale = max(1.0, size(t.rows, x))
    error = _worst(primal / scale, value / max(1.0, size(data.c * x)))
    return Quality(primal, INFINITE, INFINITE, error, -INFINITE)
