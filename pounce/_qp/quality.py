"""What is left of the conditions of optimality, or of those of a certificate, in NumPy from the user's own numbers."""

from typing import NamedTuple

import numpy as np
import scipy.sparse

from .._conic.data import NO_BOUND
from .cones import HostCones
from .data import Point, Program


INFINITE = float("inf")
CURVATURE, FLAT = 1e4 * float(np.finfo(np.float64).eps), 1e-3


class Quality(NamedTuple):
    """Largest violations, in user units.

    ``error`` is the worst of them and of the duality gap, each relative to what cancels in it. ``radius`` is that of a
    certificate: what it leaves unproven is at least that far away, in the 1-norm.
    """

    primal_infeasibility: float
    dual_infeasibility: float
    complementarity: float
    error: float
    objective: float
    radius: float | None = None  # None where there is no certificate

    @property
    def residuals(self) -> dict[str, float]:
        """As results give them."""
        parts = self.primal_infeasibility, self.dual_infeasibility, self.complementarity
        worst = float("nan") if any(part != part for part in parts) else max(parts)
        names = ("primal_infeasibility", "dual_infeasibility", "complementarity", "kkt_error")
        found: dict[str, float] = dict(zip(names, (*parts, worst)))
        return found if self.radius is None else found | {"radius": self.radius}


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
    right = size(t.b, np.where(t.present, t.h, 0.0), t.lower, t.upper)
    primal_scale = max(size(t.equalities, t.rows, x), right or 1.0)
    dual_scale = max(size(t.curvature, *t.pull, v.y, v.z), size(c) or 1.0)
    error = _worst(primal / primal_scale, dual / dual_scale, gap / max(_unit(data, t), abs(objective)))
    return Quality(primal, dual, complementarity, error, objective)


def _unit(data: Program, t: Terms) -> float:
    """What an objective is small against: the size that the data make one expect, at most one; one if they do not tell."""
    reach = [size(t.lower, t.upper)]
    for matrix, right in ((data.A, t.b), (data.G, np.where(t.present, t.h, 0.0))):
        if matrix is not None and right.size:
            largest = _row_sizes(matrix)
            reach.append(size(right[largest > 0] / largest[largest > 0]))
    far = max(reach) or 1.0
    curved = 0.0 if data.P is None or not data.P.size else float(abs(data.P).max())
    natural = far * size(data.c) + far**2 * curved
    return min(1.0, natural) if natural > 0 else 1.0


def _row_sizes(matrix) -> np.ndarray:
    """The largest magnitude of each row."""
    largest = abs(matrix).max(axis=1)
    return np.asarray(largest.todense()).ravel() if scipy.sparse.issparse(largest) else np.asarray(largest)


def _shares(remains: np.ndarray, terms: np.ndarray) -> float:
    """The largest share of its terms that remains in an entry; NaN if there are NaN."""
    some = (terms > 0) | np.isnan(terms)
    return float(np.max(np.abs(remains)[some] / terms[some], initial=0.0))


def _inverse(remains: float) -> float:
    return INFINITE if remains == 0.0 else 1.0 / remains


def farkas(data: Program, cones: HostCones, v: Point) -> Quality:
    """How far multipliers are from proving that there is no feasible point.

    Where cones curve, only as a matter of arithmetic: what is left of a column may be large beside its value if points that are
    far enough away for it to count are no points of the cones, which the solver knows (`_conic.certificate`).
    """
    t = Terms(data, cones, v)
    columns, outside = t.pull_y + t.pull_z - v.z_lb + v.z_ub, t.sign_violation(cones, v)
    terms = v.z_lb + v.z_ub
    if data.A is not None:
        terms = terms + np.abs(v.y) @ abs(data.A)
    if data.G is not None:
        terms = terms + cones.block_sizes(v.z) @ abs(data.G)
    products = t.b * v.y, np.where(t.present, t.h, 0.0) * v.z, t.lower * v.z_lb, t.upper * v.z_ub
    price = t.price(v)
    cancelled = sum(float(np.sum(np.abs(p))) for p in products) / -price if price < 0 else INFINITE
    share = _shares(columns, np.maximum(terms, 0.0))
    outside_share = outside / max(size(v.y, v.z, v.z_lb, v.z_ub), np.finfo(float).tiny)
    if not cones.curved:
        share = share * cancelled
    error = _worst(share, outside_share * cancelled, abs(price + 1.0) / max(1.0, size(*products)))
    dual = _worst(size(columns), outside)
    return Quality(INFINITE, dual, INFINITE, error, INFINITE, _inverse(dual))


def ray(data: Program, cones: HostCones, v: Point) -> Quality:
    """How far a direction is from proving that the objective has no bound (where there is a feasible point)."""
    t = Terms(data, cones, v)
    x, sizes = v.x, np.abs(v.x)
    below, above = np.where(t.has_lower, -x, 0.0), np.where(t.has_upper, x, 0.0)
    slack = t.slack(np.zeros_like(t.h))
    primal = _worst(size(t.curvature, t.equalities), cones.distance(slack), below.max(), above.max())
    share = _shares(np.maximum(np.maximum(below, above), 0.0), sizes)
    if data.A is not None:
        share = _worst(share, _shares(t.equalities, abs(data.A) @ sizes))
    if data.G is not None:
        terms = cones.block_sizes(abs(data.G) @ sizes)
        share = _worst(share, cones.distance(slack / np.where(terms > 0, terms, 1.0)))
    if data.P is not None:
        terms = abs(data.P) @ sizes
        real = float(x @ t.curvature) > CURVATURE * float(sizes @ terms)  # its minimum lies along the ray
        share = INFINITE if real else _worst(share, FLAT * _shares(t.curvature, terms))
    products = data.c * x
    value = float(np.sum(products))
    cancelled = float(np.sum(np.abs(products))) / -value if value < 0 else INFINITE
    error = _worst(share * cancelled, abs(value + 1.0) / max(1.0, size(products)))
    return Quality(primal, INFINITE, INFINITE, error, -INFINITE, _inverse(primal))
