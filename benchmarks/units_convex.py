"""Random convex programs with known answers and derivatives, for `benchmarks.units`.

``min 1/2 u'Pu + c'u  s.t.  Au = b,  s = h - Gu in K,  lb <= u <= ub``, built from u, the multipliers and the state of each cone:
inside (z = 0), at its apex (s = 0), or both s and z on their boundaries. With that state the conditions of a cone are smooth:
``E ds + F dz = 0``. For a boundary ``phi(s) = 0`` with ``z = -l grad phi`` they say that ``grad phi' ds = 0`` and that
``dz + l (hess phi) ds`` is along ``grad phi``; for matrices S = diag(S1, 0), Z = diag(0, Z2) in a common frame that
``dS22 = 0``, ``dZ11 = 0`` and ``dS12 Z2 + S1 dZ12 = 0``.

Units of rows: a number for each row of A and each nonnegative one, a number for each second-order and exponential cone,
and for a matrix the units of its indices, equal ones in half of the programs, those of entry i, j being ``d_i d_j``.
"""

import numpy as np

from .units_program import Program, bounded, columns, derivative, stated, units


# (variables, equality rows, cones) and the kinds of degenerate programs
SHAPES = {
    "lp": (6, 2, (("nonneg", 5),)),
    "qp": (6, 2, (("nonneg", 5),)),
    "soc": (6, 1, (("nonneg", 2), ("soc", 4), ("soc", 3), ("soc", 3))),
    "exp": (6, 1, (("nonneg", 2), ("exp", 3), ("exp", 3), ("exp", 3))),
    "psd": (6, 1, (("nonneg", 2), ("psd", 3), ("psd", 2), ("psd", 2))),
}
LINEAR = ("kink row", "kink bound", "doubled", "flat", "crowded")
CURVED = ("kink row", "kink bound", "kink cone", "doubled", "flat")
KINDS = {family: LINEAR if family in ("lp", "qp") else CURVED for family in SHAPES}


# -- cones --------------------------------------------------------------------------------------------------------------


def _second_order(random, size, state):
    free = random.standard_normal(size - 1)
    inside = np.concatenate([[np.linalg.norm(free) + random.uniform(0.3, 1.5)], free])
    s = np.concatenate([[np.linalg.norm(free)], free])
    direction = free / np.linalg.norm(free)
    gradient = np.concatenate([[-1.0], direction])
    hessian = np.zeros((size, size))
    hessian[1:, 1:] = (np.eye(size - 1) - np.outer(direction, direction)) / np.linalg.norm(free)
    return inside, inside, s, gradient, hessian


def _exponential(random, size, state):
    x, y = random.uniform(-1.0, 1.0), random.uniform(0.4, 1.6)
    top = y * np.exp(x / y)
    inside = np.array([x, y, top + random.uniform(0.3, 1.5)])
    u, v = -random.uniform(0.4, 1.6), random.uniform(-1.0, 1.0)
    dual = np.array([u, v, -u * np.exp(v / u - 1) + random.uniform(0.3, 1.5)])
    e, r = np.exp(x / y), x / y
    gradient = np.array([e, (1 - r) * e, -1.0])
    hessian = np.zeros((3, 3))
    hessian[:2, :2] = e / y * np.outer([1.0, -r], [1.0, -r])
    return inside, dual, np.array([x, y, top]), gradient, hessian


SMOOTH = {"soc": _second_order, "exp": _exponential}


def svec(matrix):
    """The lower triangle column by column, off-diagonal entries times the square root of two."""
    j, i = np.triu_indices(matrix.shape[0])
    return matrix[i, j] * np.where(i == j, 1.0, np.sqrt(2.0))


def _basis(order):
    """The symmetric matrices whose svec are the unit vectors."""
    j, i = np.triu_indices(order)
    for row, column in zip(i, j):
        unit = np.zeros((order, order))
        unit[row, column] = unit[column, row] = 1.0 if row == column else np.sqrt(0.5)
        yield unit


def _semidefinite(random, order, state):
    frame = np.linalg.qr(random.standard_normal((order, order)))[0]
    rank = {"inside": order, "apex": 0}.get(state, random.randint(1, order))
    first, second = random.uniform(0.3, 2.0, rank), random.uniform(0.3, 2.0, order - rank)
    dead = 0.0 if state == "weak" else 1.0  # the smallest eigenvalue of Z gone: no rank of S and Z adds up to the order
    second[:1] *= dead
    s = svec((frame[:, :rank] * first) @ frame[:, :rank].T)
    z = svec((frame[:, rank:] * second) @ frame[:, rank:].T)
    E, F = [], []
    for unit in _basis(order):
        turned = frame.T @ unit @ frame
        of_s, of_z = np.zeros((order, order)), np.zeros((order, order))
        of_s[rank:, rank:], of_z[:rank, :rank] = turned[rank:, rank:], turned[:rank, :rank]
        cross_s, cross_z = turned[:rank, rank:] * second, first[:, None] * turned[:rank, rank:]
        of_s[:rank, rank:], of_s[rank:, :rank] = cross_s, cross_s.T
        of_z[:rank, rank:], of_z[rank:, :rank] = cross_z, cross_z.T
        E.append(svec(of_s))
        F.append(svec(of_z))
    return s, z, np.array(E).T, np.array(F).T


def cone(random, kind, size, state):
    """``s, z, E, F`` of a cone in a state: inside, apex, boundary, or weak (on the boundary with no multiplier)."""
    if kind == "psd":
        return _semidefinite(random, size, state)
    if kind == "nonneg":
        away = random.uniform(0.3, 2.0, 1)
        one, none = np.ones((1, 1)), np.zeros((1, 1))
        if state == "inside":
            return away, 0 * away, none, one
        return 0 * away, away if state == "boundary" else 0 * away, one, none
    inside, dual, s, gradient, hessian = SMOOTH[kind](random, size, state)
    eye, none = np.eye(size), np.zeros((size, size))
    if state == "inside":
        return inside, np.zeros(size), none, eye
    if state == "apex":
        return np.zeros(size), dual, eye, none
    length = random.uniform(0.4, 1.5) if state == "boundary" else 0.0
    along = np.outer(gradient, gradient) / (gradient @ gradient)
    across = eye - along
    return s, -length * gradient, along + length * across @ hessian, across


# -- programs -----------------------------------------------------------------------------------------------------------


def split(cones) -> list[tuple[str, int, slice]]:
    """``(kind, size, rows)`` of each cone, nonnegative ones row by row."""
    found, start = [], 0
    for kind, value in cones:
        for _ in range(value if kind == "nonneg" else 1):
            rows = {"nonneg": 1, "psd": value * (value + 1) // 2}.get(kind, value)
            found.append((kind, value, slice(start, start + rows)))
            start += rows
    return found


def _states(random, family, kind, blocks, n, p):
    """The state of each cone, whether each lower and upper bound is active, and the rank of P."""
    sides = random.uniform(size=n) < 0.5
    if family in ("lp", "qp"):
        rank = 0 if family == "lp" else random.randint(1, n + 1)
        count = n - p - (0 if family == "lp" else random.randint(0, min(rank, n - p) + 1))
        count += {"crowded": n - p - count + 1, "flat": -1}.get(kind, 0)
        on = random.permutation(len(blocks) + n) < max(count, 0)
        states = ["boundary" if active else "inside" for active in on[: len(blocks)]]
        return states, on[len(blocks) :] & sides, on[len(blocks) :] & ~sides, min(rank, n)
    choices = [
        ("boundary", "inside") if k == "nonneg" else ("boundary", "boundary", "inside", "apex") for k, _, _ in blocks
    ]
    on = random.uniform(size=n) < 0.2
    rank = random.choice([0, 0, 2, 4, n])
    return [c[random.randint(len(c))] for c in choices], on & sides, on & ~sides, rank


def _attempt(random, family, kind):
    """A program in good units, or None if it is not of the kind."""
    n, p, cones = SHAPES[family]
    blocks = split(cones)
    states, low, high, rank = _states(random, family, kind, blocks, n, p)
    first, twin = (0, 1) if family in ("lp", "qp") else (len(blocks) - 2, len(blocks) - 1)
    if kind == "doubled":
        states[first] = states[twin] = "boundary"
    weak = None
    if kind.startswith("kink") and kind != "kink bound":
        of_kind = [k for k, b in enumerate(blocks) if (b[0] == "nonneg") == (kind == "kink row")]
        weak = random.choice(of_kind)
        states[weak] = "weak"
    if kind == "kink bound" and not (low | high).any():
        return None
    m = blocks[-1][2].stop
    x, A, G = random.standard_normal(n), random.standard_normal((p, n)), random.standard_normal((m, n))
    L = random.standard_normal((n, rank)) / np.sqrt(n)
    if kind == "flat":
        d = np.where(low | high, 0.0, random.standard_normal(n))
        if np.count_nonzero(d) < 2:
            return None
        d /= np.linalg.norm(d)
        binds = np.concatenate([np.full(r.stop - r.start, s != "inside") for (_, _, r), s in zip(blocks, states)])
        A, L = A - np.outer(A @ d, d), L - np.outer(d, d @ L)
        G = np.where(binds[:, None], G - np.outer(G @ d, d), G)
    s, z, E, F = np.zeros(m), np.zeros(m), np.zeros((m, m)), np.zeros((m, m))
    for (name, size, rows), state in zip(blocks, states):
        s[rows], z[rows], E[rows, rows], F[rows, rows] = cone(random, name, size, state)
    if kind == "doubled":
        one, two = blocks[first][2], blocks[twin][2]
        G[two], s[two], z[two] = G[one], s[one], 0.7 * z[one]
    lb, ub = bounded(random, x, low, high)
    if kind == "flat":
        lb, ub = np.maximum(lb, x - 2.0), np.minimum(ub, x + 2.0)
    zl, zu = (np.where(side, random.uniform(0.3, 2.0, n), 0.0) for side in (low, high))
    if kind == "kink bound":
        k = random.choice(np.flatnonzero(low | high))
        zl[k] = zu[k] = 0.0
    y, P = random.standard_normal(p), L @ L.T
    c = -(P @ x + A.T @ y + G.T @ z - zl + zu)
    data = dict(P=P, c=c, A=A, b=A @ x, G=G, h=s + G @ x, lb=lb, ub=ub)
    if family == "lp":
        del data["P"]
    answer = dict(x=x, y=y, z=z, z_lb=zl, z_ub=zu)
    truth = None
    if not kind:
        truth = _derivative(data, answer, P, E, F, low, high)
        if truth is None:
            return None
    return Program(kind, data, answer, truth)


def _derivative(data, answer, P, E, F, low, high):
    """The derivative of the answer with respect to the data, from the conditions linearised in the known state."""
    A, G, x = data["A"], data["G"], answer["x"]
    n, p, m = x.size, A.shape[0], G.shape[0]
    eye, at = np.eye(n), columns(data)
    width = at["ub"].stop
    first, second, third = np.zeros((n, width)), np.zeros((p, width)), np.zeros((m, width))
    fourth, fifth = np.zeros((n, width)), np.zeros((n, width))
    if "P" in data:
        first[:, at["P"]] = -0.5 * (
            np.einsum("ki,j->kij", eye, x).reshape(n, -1) + np.einsum("kj,i->kij", eye, x).reshape(n, -1)
        )
    first[:, at["c"]] = -eye
    first[:, at["A"]] = -np.einsum("r,kj->krj", answer["y"], eye).reshape(n, -1)
    first[:, at["G"]] = -np.einsum("r,kj->krj", answer["z"], eye).reshape(n, -1)
    second[:, at["b"]] = np.eye(p)
    second[:, at["A"]] = -np.einsum("kr,j->krj", np.eye(p), x).reshape(p, -1)
    third[:, at["h"]] = -E
    third[:, at["G"]] = np.einsum("kr,j->krj", E, x).reshape(m, -1)
    fourth[:, at["lb"]], fifth[:, at["ub"]] = np.diag(low * 1.0), np.diag(high * 1.0)
    O = np.zeros
    matrix = np.block(
        [
            [P, A.T, G.T, -eye, eye],
            [A, O((p, p + m + 2 * n))],
            [-E @ G, O((m, p)), F, O((m, 2 * n))],
            [np.diag(low * 1.0), O((n, p + m)), np.diag(~low * 1.0), O((n, n))],
            [np.diag(high * 1.0), O((n, p + m + n)), np.diag(~high * 1.0)],
        ]
    )
    return derivative(matrix, np.vstack([first, second, third, fourth, fifth]))


def make(random, family: str, kind: str, decades: float) -> Program:
    """A program of the kind ("" for a regular one) in random units."""
    program = None
    while program is None:
        program = _attempt(random, family, kind)
    n, p, cones = SHAPES[family]
    o, d, ra = units(random, decades), units(random, decades, n), units(random, decades, p)
    parts, uniform = [], random.uniform() < 0.5
    for name, size, _ in split(cones):
        if name == "psd":
            index = np.full(size, units(random, decades / 2)) if uniform else units(random, decades / 2, size)
            j, i = np.triu_indices(size)
            parts.append(index[i] * index[j])
        else:
            parts.append(np.full(1 if name == "nonneg" else size, units(random, decades)))
    rg = np.concatenate(parts)
    given = dict(P=o / np.outer(d, d), c=o / d, A=ra[:, None] / d, b=ra, G=rg[:, None] / d, h=rg, lb=d, ub=d)
    program.data_units = {name: given[name] for name in program.data}
    program.answer_units = dict(x=d, y=o / ra, z=o / rg, z_lb=o / d, z_ub=o / d)
    program.stated = stated(o, [*ra, *rg], d)
    return program


def solver(family: str):
    """A JAX function from ``(data, fixed)`` in the user's units to the answer, whether it is solved and its quality."""
    import pounce

    cones = SHAPES[family][2]

    def solve(data, fixed):
        s = pounce.solve_conic(**data, cones=None if family in ("lp", "qp") else cones)
        answer = dict(x=s.x, y=s.y, z=s.z, z_lb=s.z_lb, z_ub=s.z_ub)
        quality = getattr(s, "quality", None)
        return answer, s.success, s.success if quality is None else quality.differentiable

    return solve
