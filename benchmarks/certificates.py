"""Certificates and far points: 200 infeasible, 200 unbounded and 200 solvable convex programs, known to be so by construction,
and 200 that are infeasible by a little.

    python -m benchmarks.certificates             # all, beside Clarabel if it is installed
    python -m benchmarks.certificates --each 5    # five of each kind and family
    python -m benchmarks.certificates --list      # every false verdict, and every program without one

Every family of cones has programs with points at 1 to 1e10 and in units of 1e-6 to 1e6 of the cost, of every row (of every block
of a curved cone) and of every variable. An infeasible one is built around a Farkas certificate, an unbounded one around a ray and
a feasible point, a solvable one around a complementary pair; the other side is strictly feasible, so that one verdict alone is
right. One that is infeasible by a little has a certificate on the boundary of its cones, of a value that is 1e-6 to 1e-2 of its
terms, and bounds of its variables as rows. False is a certificate of something that is not so, and a solution whose value is
wrong, or that is none. No verdict is not false.
The exit code is 1 if a verdict of pounce is false.
"""

import argparse
import dataclasses
import os
import sys
import time

import numpy as np

from .convex_peers import SOLVERS, available


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
KINDS = ("infeasible", "unbounded", "solvable", "missed")
RIGHT = {
    "infeasible": "primal_infeasible",
    "unbounded": "dual_infeasible",
    "solvable": "optimal",
    "missed": "primal_infeasible",
}
FARTHEST = 10.0  # points are at 1 to ten to the power of this
UNITS = 6.0  # and units within ten to the power of this, up and down (one program in three has natural ones)
ACCURATE = 1e-4  # of a value, relative to the magnitudes of its terms

# (variables, equality rows, rank of P, cones); orthants alone go through `pounce.solve_qp`, with bounds.
FAMILIES: dict[str, tuple] = {
    "linear": (7, 2, 0, (("nonneg", 6),)),
    "quadratic": (7, 2, 4, (("nonneg", 6),)),
    "second-order": (7, 2, 0, (("soc", 4), ("soc", 3), ("soc", 3))),
    "rotated": (7, 2, 3, (("rsoc", 4), ("rsoc", 3), ("rsoc", 3))),
    "exponential": (7, 2, 0, (("exp", 3), ("exp", 3), ("exp", 3))),
    "power": (7, 2, 0, (("pow", 0.3), ("pow", 0.6), ("pow", 0.6))),
    "semidefinite": (7, 2, 0, (("psd", 3), ("psd", 2), ("psd", 2))),
    "mixed": (9, 2, 4, (("nonneg", 3), ("soc", 3), ("psd", 2), ("exp", 3), ("pow", 0.4))),
}


@dataclasses.dataclass
class Instance:
    """A program for `convex_peers`, what it is, and its minimum with the magnitudes of the terms of that."""

    family: str
    kind: str
    number: int
    data: dict
    value: float = float("nan")
    terms: float = float("nan")


# -- points of cones ----------------------------------------------------------------------------------------------------


def _size(cone) -> int:
    kind, value = cone
    if kind in ("exp", "pow"):
        return 3
    return value * (value + 1) // 2 if kind == "psd" else value


def _blocks(cones) -> list[np.ndarray]:
    """The rows that one unit is common to."""
    blocks, start = [], 0
    for cone in cones:
        rows = start + np.arange(_size(cone))
        blocks += list(rows[:, None]) if cone[0] == "nonneg" else [rows]
        start += rows.size
    return blocks


def _turned(v: np.ndarray) -> np.ndarray:
    """Between the second-order cone and the rotated one; its own inverse."""
    return np.r_[(v[0] + v[1]) / np.sqrt(2), (v[0] - v[1]) / np.sqrt(2), v[2:]]


def _triangle(matrix: np.ndarray) -> np.ndarray:
    column, row = np.triu_indices(matrix.shape[0])
    return matrix[row, column] * np.where(row == column, 1.0, np.sqrt(2.0))


def _inside(random, cone, dual: bool) -> np.ndarray:
    """A point well inside of a cone, or of its dual."""
    kind, value = cone
    d, a = _size(cone), random.uniform(0.3, 2.0, 3)
    if kind == "nonneg":
        return random.uniform(0.3, 2.0, d)
    if kind in ("soc", "rsoc"):
        v = random.normal(size=d - 1)
        point = np.r_[np.linalg.norm(v) + a[0], v]
        return _turned(point) if kind == "rsoc" else point
    if kind == "psd":
        Q = np.linalg.qr(random.normal(size=(value, value)))[0]
        return _triangle(Q @ np.diag(random.uniform(0.3, 2.0, value)) @ Q.T)
    if kind == "exp":
        r = random.uniform(-1.0, 1.0)
        if dual:
            return a[0] * np.array([-1.0, -r, np.exp(r - 1.0)]) + [0.0, 0.0, a[1]]
        return a[0] * np.array([r, 1.0, np.exp(r)]) + [0.0, 0.0, a[1]]
    weights = np.array([value, 1.0 - value]) if dual else np.ones(2)
    return np.r_[random.uniform(-0.8, 0.8) * a[0] ** value * a[1] ** (1.0 - value), a[:2] * weights]


def _pair(random, cone, far: float) -> tuple[np.ndarray, np.ndarray]:
    """A complementary pair of a cone and its dual; the slack has entries from 1 to about ``far``."""
    kind, value = cone
    d, size = _size(cone), random.uniform(0.5, 2.0)
    if kind == "nonneg":
        held = random.integers(0, 2, d)
        return (1 - held) * random.uniform(0.5, 2.0, d) * far, held * random.uniform(0.5, 2.0, d)
    if kind in ("soc", "rsoc"):
        tail = random.normal(size=d - 1) if kind == "soc" else np.r_[0.0, random.normal(size=d - 2)]
        root = np.sqrt(far)
        if kind == "soc":
            tail[0] *= far
            norm = np.linalg.norm(tail)
            return np.r_[norm, tail], size * np.r_[norm, -tail] / norm
        tail = tail[1:]
        first = tail @ tail / 2.0  # 2 first = |tail|^2 beside a one
        s, z = np.r_[first * far, 1.0, tail * root], np.r_[1.0, first * far, -tail * root]
        return s, size * z / np.linalg.norm(z)
    if kind == "psd":
        v = np.r_[np.sqrt(far), random.normal(size=value - 1)]
        flat = np.linalg.svd(v[None])[2][1:].T
        return _triangle(np.outer(v, v)), size * _triangle(flat @ flat.T)
    if kind == "exp":
        r = np.log(far) + random.uniform(-1.0, 1.0)
        z = np.array([-np.exp(r), (r - 1.0) * np.exp(r), 1.0])
        return np.array([r, 1.0, np.exp(r)]), size * z / np.linalg.norm(z)
    y, z = far, random.uniform(0.5, 2.0)
    t = y**value * z ** (1.0 - value)
    dual = np.array([-1.0, value * t / y, (1.0 - value) * t / z])
    return np.array([t, y, z]), size * dual / np.linalg.norm(dual)


def _joined(points) -> np.ndarray:
    return np.concatenate(list(points))


# -- programs -----------------------------------------------------------------------------------------------------------


def _without(matrix: np.ndarray, direction: np.ndarray, wanted) -> np.ndarray:
    """The matrix nearest to this one with ``matrix @ direction == wanted``."""
    return matrix + np.outer(wanted - matrix @ direction, direction) / (direction @ direction)


def _infeasible(random, n, p, rank, cones, far) -> dict:
    m = sum(map(_size, cones))
    G, A, L = random.normal(size=(m, n)), random.normal(size=(p, n)), random.normal(size=(n, rank))
    y, z = random.normal(size=p), _joined(_inside(random, cone, True) * random.integers(0, 2) for cone in cones)
    if not z.any():
        z = _joined(_inside(random, cone, True) for cone in cones)
    G = _without(G.T, z, -A.T @ y).T
    b, h = random.normal(size=p), random.normal(size=m)
    h = h - z * (b @ y + h @ z + 10.0 ** random.uniform(-2.0, 0.0)) / (z @ z)
    P, w = L @ L.T, _joined(_inside(random, cone, True) for cone in cones)
    return dict(
        P=P, c=-P @ random.normal(size=n) - A.T @ random.normal(size=p) - G.T @ w, A=A, b=far * b, G=G, h=far * h
    )


def _unbounded(random, n, p, rank, cones, far) -> dict:
    m = sum(map(_size, cones))
    G, A, L = random.normal(size=(m, n)), random.normal(size=(p, n)), random.normal(size=(n, rank))
    d, x = random.normal(size=n), far * random.normal(size=n)
    P = L @ L.T / far  # so that the slope of the ray is not lost beside P x
    if rank:
        # Exactly flat along the ray, in binary units too: curvature of 1e-16 would be a minimum at 1e16.
        d = np.where(np.arange(n) == n - 2, 1.0, 0.0) - (np.arange(n) == n - 1)
        P[:, -1], P[-1] = P[:, -2], P[-2]
        P[-1, -1] = P[-2, -1]
    s = _joined(_inside(random, cone, False) * random.integers(0, 2) for cone in cones)
    G, A = _without(G, d, -s), _without(A, d, 0.0)
    c = random.normal(size=n)
    c = c - d * (c @ d + 10.0 ** random.uniform(-2.0, 0.0)) / (d @ d)
    inside = far * _joined(_inside(random, cone, False) for cone in cones)
    return dict(P=P, c=c, A=A, b=A @ x, G=G, h=G @ x + inside)


def _solvable(random, n, p, rank, cones, far) -> dict:
    """Everything far away, or the entries of each cone from near to far (with a variable for every row)."""
    spread = random.integers(0, 2) and not any(kind == "nonneg" for kind, _ in cones)
    pairs = [_pair(random, cone, far if spread else 1.0) for cone in cones]
    s, z = (_joined(parts) for parts in zip(*pairs))
    m = s.size
    if spread:
        # Of the first variables each is an entry of s, in its own size; the others enter the equalities only.
        sizes = np.r_[np.maximum(np.abs(s), 1.0), np.ones(n)][:n]
        G = np.zeros((m, n))
        G[np.arange(min(m, n)), np.arange(min(m, n))] = -1.0
        x = np.r_[s, random.normal(size=n)][:n]
        A = random.normal(size=(p, n)) / sizes
    else:
        G, A, x, s = random.normal(size=(m, n)), random.normal(size=(p, n)), far * random.normal(size=n), far * s
    L = random.normal(size=(n, rank)) / (np.maximum(np.abs(x), 1.0)[:, None] if spread else np.sqrt(far))
    P, y = L @ L.T, random.normal(size=p)
    c = -P @ x - A.T @ y - G.T @ z
    value, terms = x @ P @ x / 2.0 + c @ x, abs(x @ P @ x) / 2.0 + np.abs(c) @ np.abs(x)
    return dict(P=P, c=c, A=A, b=A @ x, G=G, h=G @ x + s, value=value, terms=terms)


def _touching(random, cone) -> tuple[np.ndarray, np.ndarray]:
    """A complementary pair of which only few entries touch, as those of a ball and a plane along an axis."""
    kind, value = cone
    s, z = np.zeros(_size(cone)), np.zeros(_size(cone))
    if kind in ("soc", "rsoc"):
        s[:2], z[:2] = 1.0, (1.0, -1.0)
        return (_turned(s), _turned(z)) if kind == "rsoc" else (s, z)
    if kind == "psd":
        matrix = np.eye(value)
        matrix[:2, :2] = 1.0
        s, held = _triangle(matrix), np.zeros((value, value))
        held[:2, :2] = [[1.0, -1.0], [-1.0, 1.0]]
        return s, _triangle(held)
    return _pair(random, cone, 1.0)


def _missed(random, n, p, rank, cones, far) -> dict:
    """The multipliers that prove it are on the boundary of their cones, and points of the cones nearly feasible.

    In every other program the first variables are entries of slacks; those whose multiplier is zero are in no equality.
    """
    own = random.integers(0, 2)
    pairs = [_touching(random, cone) if own else _pair(random, cone, 1.0) for cone in cones]
    s, z = (_joined(parts) for parts in zip(*pairs))
    if not z.any():
        z = z + 1.0 * (s == 0)
    G, A, L = random.normal(size=(z.size, n)), random.normal(size=(p, n)), random.normal(size=(n, rank))
    y, x = random.normal(size=p), random.normal(size=n)
    if own:
        G = -np.eye(z.size, n)
        A = _without(A.T, y, -G.T @ z).T * (G.T @ z != 0)
    else:
        G = _without(G.T, z, -A.T @ y).T
    b, h = A @ x, G @ x + s
    terms = np.abs(b) @ np.abs(y) + np.abs(h) @ np.abs(z)
    h = h - z * 10.0 ** random.uniform(-6.0, -2.0) * terms / (z @ z)
    return dict(
        P=L @ L.T / far,
        c=random.normal(size=n),
        A=A,
        b=far * b,
        G=np.vstack([G, np.eye(n), -np.eye(n)]),
        h=far * np.r_[h, 10.0 * np.ones(2 * n)],
        cones=(*cones, ("nonneg", 2 * n)),
    )


MAKERS = {"infeasible": _infeasible, "unbounded": _unbounded, "solvable": _solvable, "missed": _missed}


def instance(family: str, kind: str, number: int) -> Instance:
    """The program of that number, in units of its own."""
    random = np.random.default_rng([KINDS.index(kind), list(FAMILIES).index(family), number])
    n, p, rank, cones = FAMILIES[family]
    far = 10.0 ** random.uniform(0.0, FARTHEST)
    made = MAKERS[kind](random, n, p, rank, cones, far)
    cones = made.pop("cones", cones)

    within = max(0.0, random.uniform(-0.5 * UNITS, UNITS))

    def units(count: int) -> np.ndarray:
        return 2.0 ** np.round(random.uniform(-within, within, count) / np.log10(2.0))

    columns, equalities, cost = units(n), units(p), units(1)[0]
    rows = np.empty(made["h"].size)
    for block in _blocks(cones):
        rows[block] = units(1)
    data = dict(
        c=cost * columns * made["c"],
        A=equalities[:, None] * made["A"] * columns,
        b=equalities * made["b"],
        G=rows[:, None] * made["G"] * columns,
        h=rows * made["h"],
    )
    if rank:
        data["P"] = cost * columns[:, None] * made["P"] * columns
    if any(kind != "nonneg" for kind, _ in cones):
        data["cones"] = list(cones)
    value, terms = (cost * made.get(name, np.nan) for name in ("value", "terms"))
    return Instance(family, kind, number, data, value, terms)


# -- judging ------------------------------------------------------------------------------------------------------------


def verdict(problem: Instance, status: str, x: np.ndarray) -> str:
    """``right``, ``false`` or ``none``."""
    if status in ("primal_infeasible", "dual_infeasible"):
        return "right" if status == RIGHT[problem.kind] else "false"
    if status != "optimal":
        return "none"
    if problem.kind != "solvable":
        return "false"
    P, c = problem.data.get("P"), problem.data["c"]
    value = c @ x + (0.0 if P is None else x @ P @ x / 2.0)
    return "right" if abs(value - problem.value) <= ACCURATE * problem.terms else "false"


def run(solver: str, problems: list[Instance], listed: bool) -> dict:
    """How often each verdict was given, by kind and family; prints a line for each kind."""
    counts: dict = {}
    remarks, iterations, begin = [], [], time.perf_counter()
    for problem in problems:
        try:
            answer = SOLVERS[solver](problem.data)
            status, x = answer.status, answer.x
            iterations.append(answer.iterations)
        except Exception as error:
            status, x = f"{type(error).__name__}: {error}"[:60], np.zeros(0)
        found = verdict(problem, status, x)
        key = problem.kind, problem.family
        counts.setdefault(key, dict(right=0, false=0, none=0))[found] += 1
        if found != "right":
            remarks.append(f"    {found:5s} {problem.family} {problem.kind} {problem.number}: {status}")
    seconds = time.perf_counter() - begin
    print(f"{solver} ({seconds:.0f} s, {np.mean(iterations):.1f} iterations)")
    print(f"  {'':14s}" + "".join(f"{kind + ': right, none, false':>36s}" for kind in KINDS))
    for family in (*FAMILIES, "all"):
        cells = []
        for kind in KINDS:
            rows = [row for (k, f), row in counts.items() if k == kind and family in (f, "all")]
            cells.append([sum(row[name] for row in rows) for name in ("right", "none", "false")])
        if any(map(sum, cells)):
            print(f"  {family:14s}" + "".join(f"{right:22d} {none:6d} {false:6d}" for right, none, false in cells))
    if listed:
        print("\n".join(remarks))
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=25, help="programs of each kind and family")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--solvers", nargs="*", default=["pounce", "clarabel"], choices=list(SOLVERS))
    parser.add_argument("--list", action="store_true", help="name what got a false verdict or none")
    arguments = parser.parse_args()
    problems = [
        instance(family, kind, k) for family in arguments.families for kind in KINDS for k in range(arguments.each)
    ]
    wrong = 0
    for solver in arguments.solvers:
        if not available(solver):
            print(f"{solver} is not installed")
            continue
        counts = run(solver, problems, arguments.list)
        if solver == "pounce":
            wrong = sum(row["false"] for row in counts.values())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
