"""An independent judge of claimed solutions and certificates of convex programs, in NumPy, from the user's own data.

Nothing here is shared with the solver: cones are tested by their definitions and by the distance to them.
"""

import dataclasses

import numpy as np


TOLERANCE = 1e-6
NO_PROOF = 1e-3  # a certificate as far from being one as this is a false claim, not an inaccurate one
NOTHING_CANCELS = 1e-3
ROUNDING = 1e-12
EXPONENTS = np.sinh(np.linspace(-6, 6, 401))  # a grid over the slopes of boundary rays, up to +-200
KINDS = {
    "nonneg": ("nonneg", "nn", "+"),
    "soc": ("soc", "q", "secondorder"),
    "rsoc": ("rsoc", "rotated", "qr"),
    "exp": ("exp", "exponential", "e"),
    "pow": ("pow", "power", "p"),
    "psd": ("psd", "sdp", "s"),
}


# -- cones --------------------------------------------------------------------------------------------------------------


def blocks(cones) -> list[tuple[str, float, slice]]:
    """``(kind, parameter, rows)`` of each cone of a specification."""
    result, start = [], 0
    for spec in cones:
        name, value = spec if isinstance(spec, tuple | list) else ("soc", spec)
        kind = next(k for k, aliases in KINDS.items() if str(name).lower() in aliases)
        size = {"exp": 3, "pow": 3, "psd": int(value) * (int(value) + 1) // 2}.get(kind, int(value))
        result.append((kind, float(value), slice(start, start + size)))
        start += size
    return result


def cone_distance(cones, v, dual: bool = False) -> float:
    """The largest distance of a block of ``v`` from its cone (from the dual cone), infinite for NaN."""
    v = np.asarray(v, float)
    if not np.all(np.isfinite(v)):
        return float("inf")
    if cones is None:
        return float(np.max(-v, initial=0.0))
    groups: dict = {}
    for kind, value, rows in blocks(cones):
        groups.setdefault((kind, value), []).append(v[rows])
    return max((_distance(kind, value, np.array(rows), dual) for (kind, value), rows in groups.items()), default=0.0)


def _distance(kind: str, value: float, v: np.ndarray, dual: bool) -> float:
    if kind == "nonneg":
        return float(np.max(-v, initial=0.0))
    if kind == "rsoc":  # 2 v0 v1 >= |v2..|^2 is a second-order cone turned by 45 degrees
        v = np.hstack([(v[:, :1] + v[:, 1:2]) / np.sqrt(2), (v[:, :1] - v[:, 1:2]) / np.sqrt(2), v[:, 2:]])
    if kind in ("soc", "rsoc"):
        t, r = v[:, 0], np.linalg.norm(v[:, 1:], axis=1)
        return float(np.max(np.where(r <= -t, np.hypot(t, r), np.maximum(r - t, 0) / np.sqrt(2)), initial=0.0))
    if kind == "psd":
        return float(np.max(np.linalg.norm(np.minimum(np.linalg.eigvalsh(matrix(v)), 0), axis=1), initial=0.0))
    nearby = {("exp", False): _exp, ("exp", True): _exp_dual}.get((kind, dual))
    if nearby is None:
        v = np.hstack([np.abs(v[:, :1]), v[:, 1:]])
    points, rays = nearby(v) if nearby else _power(v, value, dual)
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.min([np.where(np.all(np.isfinite(p), 1), _norm(p - v), np.inf) for p in points], axis=0)
    outside = distances > 0
    if outside.any():
        distances[outside] = np.minimum(distances[outside], _ray_distance(v[outside], rays))
    return float(np.max(distances, initial=0.0))


def matrix(v: np.ndarray) -> np.ndarray:
    """Symmetric matrices from their scaled lower triangles, column by column."""
    n = int(np.sqrt(2 * v.shape[-1]))
    j, i = np.triu_indices(n)
    result = np.zeros(v.shape[:-1] + (n, n))
    result[..., i, j] = result[..., j, i] = v * np.where(i == j, 1.0, np.sqrt(0.5))
    return result


def _norm(v):
    return np.linalg.norm(v, axis=-1)


def _exp(v):
    """Points of ``y exp(x/y) <= z`` near ``v`` = (x, y, z), and the rays of its boundary."""
    x, y, z = v.T
    with np.errstate(all="ignore"):
        raised = np.where(y > 0, y * np.exp(x / y), np.inf)
        shifted = np.where((y > 0) & (z > 0), y * np.log(z / y), np.nan)
    points = [
        np.stack([x, y, np.maximum(z, raised)], 1),
        np.stack([np.minimum(x, shifted), y, z], 1),
        np.stack([np.minimum(x, 0), 0 * y, np.maximum(z, 0)], 1),
    ]
    return points, lambda r: np.stack([r, np.ones_like(r), np.exp(r)], -1)


def _exp_dual(v):
    """Points of ``-u exp(v/u) <= e w``, ``u < 0``, near ``v``, and the rays of its boundary."""
    u, v, w = v.T
    with np.errstate(all="ignore"):
        raised = np.where(u < 0, -u * np.exp(v / u - 1), np.inf)
        shifted = np.where((u < 0) & (w > 0), u * (1 + np.log(w / -u)), np.nan)
    points = [
        np.stack([u, v, np.maximum(w, raised)], 1),
        np.stack([u, np.maximum(v, shifted), w], 1),
        np.stack([0 * u, np.maximum(v, 0), np.maximum(w, 0)], 1),
    ]
    return points, lambda r: np.stack([-np.ones_like(r), -r, np.exp(r - 1)], -1)


def _power(v, alpha, dual):
    """Points of ``x <= y^alpha z^(1-alpha)`` near ``v`` with x >= 0 (dual: ``x <= (y/alpha)^alpha (z/(1-alpha))^(1-alpha)``)."""
    scale = (alpha, 1 - alpha) if dual else (1.0, 1.0)
    x, y, z = v[:, 0], np.maximum(v[:, 1], 0), np.maximum(v[:, 2], 0)
    most = (y / scale[0]) ** alpha * (z / scale[1]) ** (1 - alpha)
    points = [np.stack([np.minimum(x, most), y, z], 1)]
    return points, lambda r: np.stack(
        [np.ones_like(r), scale[0] * np.exp((1 - alpha) * r), scale[1] * np.exp(-alpha * r)], -1
    )


def _ray_distance(v, rays):
    """The distance of each row of ``v`` from the union of rays: the best of a grid, refined by golden sections."""

    def distance(r):
        direction = rays(r)
        direction = direction / np.max(np.abs(direction), axis=-1, keepdims=True)
        direction = direction / _norm(direction)[..., None]
        along = np.maximum(np.sum(points * direction, axis=-1, keepdims=True), 0)
        return _norm(points - along * direction)

    points = v[:, None, :]
    best = np.clip(np.argmin(distance(EXPONENTS), axis=1), 1, EXPONENTS.size - 2)
    low, high = EXPONENTS[best - 1][:, None], EXPONENTS[best + 1][:, None]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        smaller = distance(left) < distance(right)
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
    return distance((low + high) / 2)[:, 0]


# -- solutions and certificates -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Residuals:
    """Relative violations of the optimality conditions; ``sign``: of the multipliers' cones."""

    primal: float
    dual: float
    sign: float
    gap: float
    objective: float  # without the constant

    def largest(self) -> float:
        return max(self.primal, self.dual, self.sign, self.gap)

    def passes(self, tolerance: float = TOLERANCE) -> bool:
        return bool(self.largest() <= tolerance)


class _Data:
    """The data of a program with everything absent filled in."""

    def __init__(self, data: dict):
        self.c = np.asarray(data["c"], float)
        n = self.c.size
        empty = np.zeros((0, n))
        self.P = data.get("P")
        self.A, self.b = (empty, np.zeros(0)) if data.get("A") is None else (data["A"], np.asarray(data["b"], float))
        self.G, self.h = (empty, np.zeros(0)) if data.get("G") is None else (data["G"], np.asarray(data["h"], float))
        self.lb = np.full(n, -np.inf) if data.get("lb") is None else np.broadcast_to(np.asarray(data["lb"], float), n)
        self.ub = np.full(n, np.inf) if data.get("ub") is None else np.broadcast_to(np.asarray(data["ub"], float), n)
        self.has_lb, self.has_ub = self.lb > -1e20, self.ub < 1e20
        self.lower, self.upper = np.where(self.has_lb, self.lb, 0), np.where(self.has_ub, self.ub, 0)
        self.cones = data.get("cones")

    def product(self, x):
        return np.zeros_like(x) if self.P is None else np.asarray(self.P @ x).ravel()

    def transposed(self, y, z, z_lb, z_ub):
        return self.A.T @ y + self.G.T @ z - z_lb + z_ub

    def value(self, y, z, z_lb, z_ub):
        """``b'y + h'z - lb'z_lb + ub'z_ub``."""
        return float(self.b @ y + self.h @ z - self.lower @ z_lb + self.upper @ z_ub)

    def multipliers(self, answer):
        """The multipliers as arrays, zero where the answer has none, and how far they are from their cones."""
        n = self.c.size
        given = [getattr(answer, name, None) for name in ("y", "z", "z_lb", "z_ub")]
        sizes = (self.b.size, self.h.size, n, n)
        y, z, z_lb, z_ub = (
            np.zeros(size) if v is None or not np.size(v) else np.asarray(v, float).reshape(size)
            for v, size in zip(given, sizes)
        )
        misplaced = [np.abs(z_lb[~self.has_lb]), np.abs(z_ub[~self.has_ub]), -z_lb, -z_ub]
        outside = max(float(np.max(v, initial=0.0)) for v in misplaced)
        return (y, z, z_lb, z_ub), max(outside, cone_distance(self.cones, z, dual=True))


def _largest(*vectors) -> float:
    return max((float(np.max(np.abs(v), initial=0.0)) for v in vectors), default=0.0)


def residuals(data: dict, answer) -> Residuals:
    """Residuals of a claimed optimum: ``answer`` has x, y, z and, where there are bounds, z_lb and z_ub.

    Norms are maxima. The primal ones are relative to ``max(1, |b, h| + |x| + |s|)`` (bounds: to their own size and ``|x|``), the
    dual ones to ``max(1, |c| + |x| + |z|)``, the gap to the smaller objective.
    """
    d = _Data(data)
    x = np.asarray(answer.x, float)
    if not np.all(np.isfinite(x)):
        return Residuals(*[float("inf")] * 4, float("nan"))
    multipliers, outside = d.multipliers(answer)
    y, z, z_lb, z_ub = multipliers
    s = d.h - d.G @ x
    primal = max(_largest(d.A @ x - d.b), cone_distance(d.cones, s))
    primal = primal / max(1.0, _largest(d.b, d.h) + _largest(x) + _largest(s))
    for side, bound in ((d.lower - x)[d.has_lb], d.lower[d.has_lb]), ((x - d.upper)[d.has_ub], d.upper[d.has_ub]):
        primal = max(primal, float(np.max(side / np.maximum(1.0, np.abs(bound) + _largest(x)), initial=0.0)))
    Px = d.product(x)
    scale = max(1.0, _largest(d.c) + _largest(x) + _largest(*multipliers))
    dual = _largest(Px + d.c + d.transposed(*multipliers)) / scale
    objective = float(x @ Px / 2 + d.c @ x)
    dual_objective = float(-x @ Px / 2) - d.value(*multipliers)
    gap = abs(objective - dual_objective) / max(1.0, min(abs(objective), abs(dual_objective)))
    found = Residuals(primal, dual, outside / scale, gap, objective)
    return found if np.isfinite(found.largest()) else Residuals(*[float("inf")] * 4, objective)


def farkas_residual(data: dict, answer) -> float:
    """How far ``(y, z, z_lb, z_ub)`` is from a proof that no point is feasible; infinite if it proves nothing.

    With ``value = -(b'y + h'z - lb'z_lb + ub'z_ub) > 0`` both ``|A'y + G'z - z_lb + z_ub|`` and the distance of the
    multipliers from their cones count relative to ``value``: a residual r excludes the points with ``|x|_1 < 1 / r``. Where
    nothing cancels in the former, it is a large right-hand side alone that looks like a proof.
    """
    d = _Data(data)
    multipliers, outside = d.multipliers(answer)
    y, z, z_lb, z_ub = multipliers
    value = -d.value(*multipliers)
    if not np.isfinite(value) or value <= 0:
        return float("inf")
    rest = _largest(d.transposed(*multipliers))
    terms = _largest(abs(d.A).T @ np.abs(y) + abs(d.G).T @ np.abs(z) + np.abs(z_lb) + np.abs(z_ub))
    found = max(rest, outside) / value
    cancels = rest <= NOTHING_CANCELS * terms or rest <= ROUNDING * _largest(*multipliers)
    return found if np.isfinite(found) and cancels else float("inf")


def ray_residual(data: dict, answer) -> float:
    """How far x is from a direction of unbounded descent: ``Px = 0``, ``Ax = 0``, ``-Gx in K``, bounds never met, ``c'x < 0``."""
    d = _Data(data)
    x = np.asarray(answer.x, float)
    value = -float(d.c @ x)
    if not np.isfinite(value) or value <= 0:
        return float("inf")
    bounds = max(float(np.max(-x[d.has_lb], initial=0.0)), float(np.max(x[d.has_ub], initial=0.0)))
    rest = max(_largest(d.product(x)), _largest(d.A @ x), cone_distance(d.cones, -(d.G @ x)), bounds)
    curvature = 0.0 if d.P is None else abs(d.P) @ np.abs(x)
    terms = _largest(curvature, abs(d.A) @ np.abs(x), abs(d.G) @ np.abs(x), x)
    found = rest / value
    return found if np.isfinite(found) and rest <= NOTHING_CANCELS * terms else float("inf")


@dataclasses.dataclass
class Verdict:
    """``correct``: the expected answer, proven. ``wrong``: a claim that is false, which no solver may make."""

    correct: bool
    wrong: bool
    error: float  # of the objective, relative to max(1, |reference|)
    residuals: Residuals | None
    certificate: float | None


def judge(program, answer) -> Verdict:
    """Compare an answer (status, x, y, z, z_lb, z_ub) with what is known of a `convex_data.Program`."""
    status, expected = answer.status, program.expected
    if status == "not convex" or expected == "not convex":
        return Verdict(status == expected, status == "optimal", float("nan"), None, None)
    if status in ("primal_infeasible", "dual_infeasible"):
        find = farkas_residual if status == "primal_infeasible" else ray_residual
        found = find(program.data, answer)
        return Verdict(
            status == expected and found <= TOLERANCE,
            status != expected or found > NO_PROOF,
            float("nan"),
            None,
            found,
        )
    if status not in ("optimal", "optimal_inaccurate"):
        return Verdict(False, False, float("nan"), None, None)
    found = residuals(program.data, answer)
    difference = abs(found.objective + program.constant - program.reference)
    near = program.tolerance is None or difference <= program.tolerance
    possible = expected == "optimal" or program.lenient
    right = possible and near and found.passes(10 * TOLERANCE if program.lenient else TOLERANCE)
    error = difference / max(1.0, abs(program.reference))
    wrong = status == "optimal" and not right
    return Verdict(right and (status == "optimal" or program.lenient), wrong, error, found, None)
