"""Random conic programs with known answers, in NumPy, from fixed seeds: ``programs(cone, kind)``.

Each is ``min 1/2 x'Px + c'x`` over ``Ax = b``, ``s = h - Gx`` in K, in the form and the order of rows of `pounce.solve_socp`.
There are 200 of each cone and kind, in four stacks of 50 that differ in nothing but numbers, so that a stack is one compiled
program:

- ``feasible``: strictly feasible, and so is the dual. The optimum is in ``data/conic_references.npz``.
- ``infeasible``: ``y, z`` are a Farkas certificate, ``b'y + h'z = -1``. The dual is strictly feasible.
- ``unbounded``: ``x`` is a ray, ``c'x = -1``. The primal is strictly feasible.
- ``degenerate``: built around an optimal ``x, y, z`` (and s) where complementarity is not strict. Primal and dual are strictly
  feasible all the same. Some have dependent equality rows, some a block twice, so that the multipliers are not unique.

The stream is that of `numpy.random.RandomState`, which never changes, and no LAPACK routine takes part.
"""

import dataclasses
import functools
import pathlib

import numpy as np


CONES = ("nonneg", "soc", "rsoc", "exp", "power", "psd", "mixed")
KINDS = ("feasible", "infeasible", "unbounded", "degenerate")
PER_STACK = 50
REFERENCES = pathlib.Path(__file__).parent / "data" / "conic_references.npz"

# (variables, equality rows, rank of P, cones) of the four stacks. The last two blocks are equal: see `_degenerate`.
SHAPES = {
    "nonneg": (
        (4, 1, 0, (("nonneg", 6), ("nonneg", 2), ("nonneg", 2))),
        (6, 2, 3, (("nonneg", 5), ("nonneg", 3), ("nonneg", 3))),
        (8, 3, 0, (("nonneg", 10), ("nonneg", 3), ("nonneg", 3))),
        (10, 0, 6, (("nonneg", 8), ("nonneg", 4), ("nonneg", 4))),
    ),
    "soc": (
        (4, 1, 0, (("soc", 4), ("soc", 3), ("soc", 3))),
        (6, 2, 2, (("soc", 2), ("soc", 5), ("soc", 3), ("soc", 3))),
        (8, 3, 0, (("soc", 6), ("soc", 4), ("soc", 4))),
        (7, 0, 3, (("soc", 8), ("soc", 1), ("soc", 4), ("soc", 4))),
    ),
    "rsoc": (
        (4, 1, 0, (("rsoc", 4), ("rsoc", 3), ("rsoc", 3))),
        (6, 2, 2, (("rsoc", 2), ("rsoc", 5), ("rsoc", 3), ("rsoc", 3))),
        (8, 3, 0, (("rsoc", 6), ("rsoc", 4), ("rsoc", 4))),
        (7, 0, 3, (("rsoc", 8), ("rsoc", 4), ("rsoc", 4))),
    ),
    "exp": (
        (3, 0, 0, (("exp", 3), ("exp", 3))),
        (5, 2, 2, (("exp", 3),) * 3),
        (7, 2, 0, (("exp", 3),) * 4),
        (8, 0, 4, (("exp", 3),) * 5),
    ),
    "power": (
        (3, 0, 0, (("pow", 0.5), ("pow", 0.5))),
        (5, 2, 2, (("pow", 0.1463), ("pow", 0.6881), ("pow", 0.6881))),
        (7, 2, 0, (("pow", 0.8912), ("pow", 0.3347), ("pow", 0.2571), ("pow", 0.2571))),
        (8, 0, 4, (("pow", 0.0602), ("pow", 0.9525), ("pow", 0.4188), ("pow", 0.7344), ("pow", 0.7344))),
    ),
    "psd": (
        (3, 1, 0, (("psd", 2), ("psd", 2))),
        (5, 2, 2, (("psd", 3), ("psd", 2), ("psd", 2))),
        (7, 2, 0, (("psd", 4), ("psd", 2), ("psd", 2))),
        (8, 0, 4, (("psd", 1), ("psd", 3), ("psd", 3))),
    ),
    "mixed": (
        (6, 1, 0, (("nonneg", 2), ("soc", 3), ("rsoc", 3), ("pow", 0.3), ("psd", 2), ("exp", 3), ("exp", 3))),
        (7, 2, 3, (("exp", 3), ("rsoc", 4), ("nonneg", 3), ("psd", 3), ("pow", 0.7), ("soc", 4), ("soc", 4))),
        (8, 3, 0, (("psd", 2), ("pow", 0.2), ("soc", 5), ("exp", 3), ("nonneg", 1), ("rsoc", 3), ("rsoc", 3))),
        (9, 0, 4, (("pow", 0.85), ("exp", 3), ("soc", 3), ("rsoc", 5), ("nonneg", 4), ("psd", 2), ("psd", 2))),
    ),
}


@dataclasses.dataclass(frozen=True)
class Stack:
    """Programs of one shape; every array has the programs on axis 0.

    ``value`` is the optimum (NaN where there is none). ``x, s, y, z`` are what the construction knows: the optimal pair of a
    degenerate program, a certificate (y, z) or ray (x) of the others, zeros otherwise.
    """

    cone: str
    kind: str
    cones: tuple
    first: int  # index of the first program among those of its cone and kind
    P: np.ndarray
    c: np.ndarray
    A: np.ndarray
    b: np.ndarray
    G: np.ndarray
    h: np.ndarray
    x: np.ndarray
    s: np.ndarray
    y: np.ndarray
    z: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return self.c.shape[0]

    def data(self, k: int) -> dict:
        """Keyword arguments of `pounce.solve_socp` for one program."""
        arrays = {name: getattr(self, name)[k] for name in ("P", "c", "A", "b", "G", "h")}
        return arrays | {"cones": list(self.cones)}


# -- points of cones ----------------------------------------------------------------------------------------------------


def size(spec) -> int:
    kind, value = spec
    return {"exp": 3, "pow": 3, "psd": int(value * (value + 1) // 2)}.get(kind, value)


def _turn(v):
    """Between the second-order cone and the rotated one, ``2 v0 v1 >= |v2..|^2``; its own inverse."""
    return np.concatenate([[(v[0] + v[1]) / np.sqrt(2), (v[0] - v[1]) / np.sqrt(2)], v[2:]])


def svec(S):
    """The lower triangle column by column, off-diagonal entries times the square root of 2."""
    j, i = np.triu_indices(S.shape[0])
    return S[i, j] * np.where(i == j, 1.0, np.sqrt(2.0))


def _orthogonal(random, n):
    Q = np.eye(n)
    for _ in range(n):
        v = random.standard_normal(n)
        Q = Q - 2 * np.outer(Q @ v, v) / np.sum(v * v)
    return Q


def interior(random, spec, dual: bool = False):
    """A random interior point of a cone or of its dual, neither close to the boundary nor tiny."""
    kind, value = spec
    d = size(spec)
    free, positive = random.standard_normal(d), np.exp(0.7 * random.standard_normal(d))
    if kind == "nonneg":
        return positive
    if kind in ("soc", "rsoc"):
        point = np.concatenate([[np.sqrt(np.sum(free[1:] ** 2)) + positive[0]], free[1:]])
        return _turn(point) if kind == "rsoc" else point
    if kind == "psd":
        Q = _orthogonal(random, value)
        return svec((Q * np.exp(0.7 * random.standard_normal(value))) @ Q.T)
    if kind == "exp":
        slope = 1.5 * np.tanh(free[0])
        if dual:
            return np.array([-1.0, -slope, np.exp(slope - 1)]) * positive[0] + [0, 0, positive[1]]
        return np.array([slope, 1.0, np.exp(slope)]) * positive[0] + [0, 0, positive[1]]
    weights = np.array([value, 1 - value]) if dual else np.ones(2)
    y, z = positive[1] * weights[0], positive[2] * weights[1]
    most = positive[1] ** value * positive[2] ** (1 - value)
    return np.array([0.9 * np.tanh(free[0]) * most, y, z])


def complementary(random, spec):
    """A random pair ``s in K``, ``z in K*`` with ``s'z = 0``, more often than not without strict complementarity."""
    kind, value = spec
    d = size(spec)
    if kind == "nonneg":
        case, sizes = random.randint(0, 3, d), np.exp(0.7 * random.standard_normal((2, d)))
        return np.where(case == 0, sizes[0], 0.0), np.where(case == 1, sizes[1], 0.0)
    if kind == "psd":
        Q, case = _orthogonal(random, value), random.randint(0, 3, value)
        sizes = np.exp(0.7 * random.standard_normal((2, value)))
        return tuple(svec((Q * np.where(case == which, sizes[which], 0.0)) @ Q.T) for which in (0, 1))
    edge_s, edge_z = _edge(random, spec)
    s, z = [
        (edge_s, edge_z),
        (edge_s, 0 * edge_z),
        (0 * edge_s, edge_z),
        (0 * edge_s, 0 * edge_z),
        (interior(random, spec), 0 * edge_z),
        (0 * edge_s, interior(random, spec, dual=True)),
    ][random.randint(0, 6)]
    return s, z


def _edge(random, spec):
    """A complementary pair on the boundaries, both nonzero (in one dimension, where there is none, both zero)."""
    kind, value = spec
    d = size(spec)
    free, (a, b) = random.standard_normal(d), np.exp(0.7 * random.standard_normal(2))
    if kind in ("soc", "rsoc"):
        if d == 1:
            return np.zeros(1), np.zeros(1)
        u = free[1:] / np.sqrt(np.sum(free[1:] ** 2))
        s, z = np.concatenate([[a], a * u]), np.concatenate([[b], -b * u])
        return (_turn(s), _turn(z)) if kind == "rsoc" else (s, z)
    face = random.randint(0, 4) == 0  # the flat part of the boundary
    if kind == "exp":
        if face:
            return np.array([-a, 0.0, b]), np.array([0.0, np.exp(0.7 * free[0]), 0.0])
        r = 1.5 * np.tanh(free[0])
        return a * np.array([r, 1.0, np.exp(r)]), b * np.array([-np.exp(r), (r - 1) * np.exp(r), 1.0])
    if face:
        return np.array([0.0, a, 0.0]), np.array([0.0, 0.0, b])
    sign, ratio = np.sign(free[0]), np.exp(free[1])  # y / z
    y, z = ratio ** (1 - value), ratio ** (-value)
    return a * np.array([sign, y, z]), b * np.array([-sign, value / y, (1 - value) / z])


def _stacked(points):
    return np.concatenate(points)


def _interior(random, cones, dual=False):
    return _stacked([interior(random, spec, dual) for spec in cones])


# -- programs -----------------------------------------------------------------------------------------------------------


def _matrices(random, n, p, rank, m):
    """Random G, A and a factor L of P, entries of order one; P = LL' of lower rank than n."""
    G, A, L = (random.standard_normal(shape) for shape in ((m, n), (p, n), (n, rank)))
    return G, A, L / np.sqrt(n)


def _feasible(random, n, p, rank, cones):
    m = sum(map(size, cones))
    G, A, L = _matrices(random, n, p, rank, m)
    x, y, z = random.standard_normal(n), random.standard_normal(p), _interior(random, cones, dual=True)
    P = L @ L.T
    c = -P @ random.standard_normal(n) - A.T @ y - G.T @ z
    return dict(P=P, c=c, A=A, b=A @ x, G=G, h=G @ x + _interior(random, cones))


def _some(random, cones, dual):
    """An interior point with some of the blocks, never all, replaced by zero in every other program."""
    blocks = [interior(random, spec, dual) for spec in cones]
    if random.randint(0, 2):
        keep = random.randint(0, 2, len(cones))
        keep[random.randint(0, len(cones))] = 1
        blocks = [k * block for k, block in zip(keep, blocks)]
    return _stacked(blocks)


def _infeasible(random, n, p, rank, cones):
    m = sum(map(size, cones))
    G, A, L = _matrices(random, n, p, rank, m)
    y, z = random.standard_normal(p), _some(random, cones, dual=True)
    G = G - np.outer(z, A.T @ y + G.T @ z) / np.sum(z * z)
    b, h = random.standard_normal(p), random.standard_normal(m)
    h = h - z * (b @ y + h @ z + 1) / np.sum(z * z)
    P = L @ L.T
    c = -P @ random.standard_normal(n) - A.T @ random.standard_normal(p) - G.T @ _interior(random, cones, dual=True)
    return dict(P=P, c=c, A=A, b=b, G=G, h=h, y=y, z=z)


def _unbounded(random, n, p, rank, cones):
    m = sum(map(size, cones))
    G, A, L = _matrices(random, n, p, rank, m)
    x, s = random.standard_normal(n), _some(random, cones, dual=False)
    square = np.sum(x * x)
    G = G - np.outer(G @ x + s, x) / square
    A = A - np.outer(A @ x, x) / square
    L = L - np.outer(x, x @ L) / square
    c = random.standard_normal(n)
    c = c - x * (c @ x + 1) / square
    start = random.standard_normal(n)
    return dict(P=L @ L.T, c=c, A=A, b=A @ start, G=G, h=G @ start + _interior(random, cones), x=x, s=s)


def _degenerate(random, n, p, rank, cones):
    """Choose ``s, z``, then G such that x + d is strictly feasible and so is z + w: ``Gd = s - s1``, ``G'w = 0``.

    Both at once ask for ``(s1 - s)'(z1 - z) = 0``, which the scale of ``s1`` and ``z1`` provides.
    """
    doubled = bool(random.randint(0, 2))
    used = cones[:-1] if doubled else cones
    m = sum(map(size, used))
    G, A, L = _matrices(random, n, p, rank, m)
    while True:
        s, z = (_stacked(points) for points in zip(*(complementary(random, spec) for spec in used)))
        if s @ s + z @ z > 0:
            break
    s1, z1 = _interior(random, used), _interior(random, used, dual=True)
    both, of_s, of_z = s1 @ z1, s @ z1, s1 @ z
    if of_z > 0:
        s1 = s1 * (1 + of_s / both)
        both, of_z = s1 @ z1, s1 @ z
        z1 = z1 * (of_z / (both - of_s))
    else:
        s1 = s1 * (of_s / both)
    d, w = random.standard_normal(n), z1 - z
    G = G - np.outer(w, G.T @ w) / np.sum(w * w)
    G = G - np.outer(G @ d + s1 - s, d) / np.sum(d * d)
    A = A - np.outer(A @ d, d) / np.sum(d * d)
    if p > 1 and random.randint(0, 2):
        A[-1] = A[:-1].sum(0)
    x, y = random.standard_normal(n), random.standard_normal(p)
    if doubled:
        last = slice(m - size(cones[-1]), m)
        share = random.uniform(0.1, 0.9)
        G, s, z = np.vstack([G, G[last]]), np.append(s, s[last]), np.append(z, (1 - share) * z[last])
        z[last] *= share
    P = L @ L.T
    c = -P @ x - A.T @ y - G.T @ z
    return dict(P=P, c=c, A=A, b=A @ x, G=G, h=G @ x + s, x=x, s=s, y=y, z=z, value=x @ P @ x / 2 + c @ x)


MAKERS = {"feasible": _feasible, "infeasible": _infeasible, "unbounded": _unbounded, "degenerate": _degenerate}


@functools.cache
def programs(cone: str, kind: str) -> tuple[Stack, ...]:
    """The four stacks of one cone and kind, without the references: the optimum of a feasible program is NaN."""
    stacks = []
    for number, (n, p, rank, cones) in enumerate(SHAPES[cone]):
        random = np.random.RandomState([CONES.index(cone), KINDS.index(kind), number, 20])
        made = [MAKERS[kind](random, n, p, rank, cones) for _ in range(PER_STACK)]
        m = sum(map(size, cones))
        absent = dict(x=np.zeros(n), s=np.zeros(m), y=np.zeros(p), z=np.zeros(m), value=np.nan)
        arrays = {
            name: np.stack([np.asarray(program.get(name, absent.get(name))) for program in made])
            for name in ("P", "c", "A", "b", "G", "h", *absent)
        }
        stacks.append(Stack(cone, kind, cones, number * PER_STACK, **arrays))
    return tuple(stacks)


def checksum(cone: str, kind: str) -> np.ndarray:
    """One number per stack that changes with the data (compare to nine digits: sums round differently elsewhere)."""
    sums = []
    for stack in programs(cone, kind):
        data = np.concatenate([getattr(stack, name).ravel() for name in ("P", "c", "A", "b", "G", "h")])
        sums.append(np.sum(np.abs(data) * (1 + np.arange(data.size) % 7)))
    return np.array(sums)


def references(cone: str, kind: str) -> np.ndarray:
    """The 200 optimal values: by construction or, for feasible programs, from the file."""
    if kind == "degenerate":
        return np.concatenate([stack.value for stack in programs(cone, kind)])
    if kind != "feasible":
        return np.full(len(SHAPES[cone]) * PER_STACK, np.nan)
    with np.load(REFERENCES) as file:
        if not np.allclose(file[f"{cone}_{kind}_checksum"], checksum(cone, kind), rtol=1e-9):
            raise ValueError(f"{REFERENCES.name} is of other {cone} programs: run benchmarks.conic_references")
        return file[cone]
