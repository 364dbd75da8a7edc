"""Random nonlinear programs with known local solutions and derivatives, for `benchmarks.units`.

With ``u = x / d`` the well-scaled program is ``min c'u + 1/2 u'Hu + t exp(v'u)  s.t.  low <= Au + 1/2 q (Wu)^2 <= high`` and
bounds, two rows being equalities. c comes last, so that the conditions hold at a chosen u with chosen multipliers; H is bent
until the Hessian of the Lagrangian is positive where the active constraints leave room. There are four kinds: a convex
quadratic one, a vertex (H = 0), and convex and indefinite H with nonlinear rows; the last has bounds on all sides.

The tolerances of Ipopt's method are absolute, and costs and rows are only scaled down. In units drawn without regard to that
hardly a program has a solution that they determine: the family ``nlp any``, of which only no silence is asked. In the family
``nlp`` the units of one kind are drawn about a common one, more or less close, and all of them again until an error of the
tolerance in every condition moves the answer by no more than `RESOLVED`.
"""

import dataclasses

import numpy as np

from .units_program import Program, bounded, columns, derivative, stated, units


N, EQUALITIES, ROWS = 6, 2, 6
START = 0.3  # distance of the starting point
TOLERANCE = 1e-8
RESOLVED = 1e-6
DRAWS = 4000
KINDS = ("kink row", "kink bound", "doubled", "flat", "crowded")


def _active(random, kind, variant):
    """How many inequalities and bounds are active, the flat direction not counted."""
    room = N - EQUALITIES
    if kind == "crowded":
        return room + 1
    if kind == "flat":
        return room - 1 if variant == 1 else random.randint(0, room - 1)
    return room if variant == 1 else random.randint(1, room + 1)


def _attempt(random, kind, variant):
    """A program in good units, or None if it is not of the kind, and the matrix of `_derivative`."""
    inequalities = ROWS - EQUALITIES
    on = random.permutation(inequalities + N) < _active(random, kind, variant)
    rows = np.concatenate([np.ones(EQUALITIES, bool), on[:inequalities]])
    if kind == "doubled":
        rows[-2:] = True
    held, sides = on[inequalities:], random.uniform(size=N) < 0.5
    upper = random.uniform(size=ROWS) < 0.5
    curved = variant >= 2
    x, A, W, v = (random.standard_normal(shape) for shape in (N, (ROWS, N), (ROWS, N), N))
    W, v = W / np.linalg.norm(W, axis=1)[:, None], v / np.linalg.norm(v)
    q = curved * random.uniform(-1.0, 1.0, ROWS) * (random.uniform(size=ROWS) < 0.7)
    t = curved * random.uniform(-1.0, 1.0)
    if kind == "doubled":
        A[-1], W[-1], q[-1], upper[-1] = A[-2], W[-2], q[-2], upper[-2]
    d = None
    if kind == "flat":
        d = np.where(held, 0.0, random.standard_normal(N))
        if np.count_nonzero(d) < 2:
            return None, None
        d /= np.linalg.norm(d)
        A = np.where(rows[:, None], A - np.outer(A @ d, d), A)
        W, v = W - np.outer(W @ d, d), v - d * (v @ d)
    J = A + (q * (W @ x))[:, None] * W
    y = random.uniform(0.3, 2.0, ROWS) * np.where(upper, 1.0, -1.0) * rows
    y[:EQUALITIES] = random.standard_normal(EQUALITIES)
    low, high = held & sides, held & ~sides
    zl, zu = (np.where(side, random.uniform(0.3, 2.0, N), 0.0) for side in (low, high))
    if kind.startswith("kink"):
        candidates = np.flatnonzero(held if kind == "kink bound" else rows[EQUALITIES:])
        if not candidates.size:
            return None, None
        k = random.choice(candidates)
        if kind == "kink bound":
            zl[k] = zu[k] = 0.0
        else:
            y[EQUALITIES + k] = 0.0
    strong_rows, strong_bounds = rows & (y != 0), (zl > 0) | (zu > 0)
    H = _hessian(random, variant)
    exponential = t * np.exp(v @ x)
    binding = np.vstack([J[rows], np.eye(N)[held]] + ([] if d is None else [d[None]]))
    if np.linalg.matrix_rank(binding, 1e-2) < min(len(binding) - (kind == "doubled"), N):
        return None, None
    if variant != 1:
        # Along what a weakly active one leaves free the Hessian must be positive too, else the point is no solution.
        strong = np.vstack([J[strong_rows], np.eye(N)[strong_bounds]] + ([] if d is None else [d[None]]))
        free = np.linalg.svd(strong)[2][np.linalg.matrix_rank(strong, 1e-2) :].T
        curvature = H + exponential * np.outer(v, v) + np.einsum("r,ri,rj->ij", y * q, W, W)
        if free.size:
            least = np.linalg.eigvalsh(free.T @ curvature @ free)[0]
            H = H + max(0.0, random.uniform(0.3, 1.0) - least) * free @ free.T
    if d is not None:
        across = np.eye(N) - np.outer(d, d)
        H = across @ H @ across
    gradient = H @ x + exponential * v
    g = A @ x + 0.5 * q * (W @ x) ** 2
    away, beyond = random.uniform(0.3, 2.0, ROWS), random.uniform(0.3, 2.0, ROWS)
    one_sided = random.uniform(size=ROWS) < 0.5
    at_low, at_high = rows & ~upper, rows & upper
    cl = np.where(at_low, g, np.where(one_sided & upper, -np.inf, g - away))
    cu = np.where(at_high, g, np.where(one_sided & ~upper, np.inf, g + beyond))
    cl[:EQUALITIES], cu[:EQUALITIES] = -np.inf, np.inf
    lb, ub = bounded(random, x, low, high)
    if variant == 3 or kind == "flat" or (kind and variant == 1):
        lb, ub = np.maximum(lb, x - 2.0), np.minimum(ub, x + 2.0)
    data = dict(c=-(gradient + J.T @ y - zl + zu), A=A, b=g[:EQUALITIES], cl=cl, cu=cu, lb=lb, ub=ub)
    answer = dict(x=x, y=y, lower=zl, upper=zu)
    fixed = dict(H=H, t=np.array(t), v=v, q=q, W=W, x0=x + START * random.standard_normal(N))
    if kind:
        return Program(kind, data, answer, None, fixed), None
    curvature = H + exponential * np.outer(v, v) + np.einsum("r,ri,rj->ij", y * q, W, W)
    truth, matrix = _derivative(data, answer, curvature, J, rows, upper, low, high)
    return (None if truth is None else Program(kind, data, answer, truth, fixed)), matrix


def _hessian(random, variant):
    if variant == 1:
        return np.zeros((N, N))
    Q = np.linalg.qr(random.standard_normal((N, N)))[0]
    values = random.uniform(0.0, 2.0, N) * (random.uniform(size=N) < 0.7)
    if variant == 3:
        values = random.uniform(-1.0, 2.0, N)
    return (Q * values) @ Q.T


def _derivative(data, answer, curvature, J, rows, upper, low, high, **limits):
    """The derivative of the answer with respect to the data, and the matrix of the conditions linearised on the active set."""
    x, y, eye, at = answer["x"], answer["y"], np.eye(N), columns(data)
    width, O = at["ub"].stop, np.zeros
    first, second, third, fourth = O((N, width)), O((ROWS, width)), O((N, width)), O((N, width))
    first[:, at["c"]] = -eye
    first[:, at["A"]] = -np.einsum("r,kj->krj", y, eye).reshape(N, -1)
    second[:, at["A"]] = -np.einsum("kr,j->krj", np.diag(rows * 1.0), x).reshape(ROWS, -1)
    second[:EQUALITIES, at["b"]] = np.eye(EQUALITIES)
    inequality = rows & (np.arange(ROWS) >= EQUALITIES)
    second[:, at["cl"]], second[:, at["cu"]] = np.diag(inequality & ~upper) * 1.0, np.diag(inequality & upper) * 1.0
    third[:, at["lb"]], fourth[:, at["ub"]] = np.diag(low * 1.0), np.diag(high * 1.0)
    matrix = np.block(
        [
            [curvature, J.T, -eye, eye],
            [np.where(rows[:, None], J, 0.0), np.diag(~rows * 1.0), O((ROWS, 2 * N))],
            [np.diag(low * 1.0), O((N, ROWS)), np.diag(~low * 1.0), O((N, N))],
            [np.diag(high * 1.0), O((N, ROWS + N)), np.diag(~high * 1.0)],
        ]
    )
    truth = derivative(matrix, np.vstack([first, second, third, fourth]), **limits)
    return truth, matrix


def elsewhere(p: Program, vector: np.ndarray) -> Program | None:
    """The same program at another local solution that a solver has found, with the derivative there: None if it is not one.

    ``vector``: the answer in good units. It tells what is active, and Newton's method solves the equations of that set.
    """
    data = p.data
    x, y, zl, zu = np.split(vector, np.cumsum([N, ROWS, N]))
    low, high = zl > x - data["lb"], zu > data["ub"] - x
    _, g, J = _functions(p, x)
    upper = np.maximum(y, 0) > data["cu"] - g
    rows = upper | (np.maximum(-y, 0) > g - data["cl"]) | (np.arange(ROWS) < EQUALITIES)
    target = np.concatenate([data["b"], np.where(upper, data["cu"], data["cl"])[EQUALITIES:]])
    eye, y = np.eye(N), np.where(rows, y, 0.0)
    for _ in range(8):
        slope, g, J = _functions(p, x)
        curvature = _curvature(p, x, y)
        held = np.vstack([J[rows], eye[low], -eye[high]])
        left = np.concatenate([target[rows] - g[rows], (data["lb"] - x)[low], (x - data["ub"])[high]])
        matrix = np.block([[curvature, held.T], [held, np.zeros((len(held), len(held)))]])
        if not np.all(np.isfinite(matrix)) or np.linalg.cond(matrix) > 1e12:
            return None
        step = np.linalg.solve(matrix, np.concatenate([-slope, left]))
        x, multipliers = x + step[:N], step[N:]
        y, zl, zu = np.zeros(ROWS), np.zeros(N), np.zeros(N)
        y[rows], of_bounds = multipliers[: rows.sum()], -multipliers[rows.sum() :]
        zl[low], zu[high] = of_bounds[: low.sum()], of_bounds[low.sum() :]
    signs = np.concatenate([zl[low], zu[high], (np.where(upper, y, -y) * rows)[EQUALITIES:][rows[EQUALITIES:]]])
    _, g, J = _functions(p, x)
    room = np.concatenate(
        [x - data["lb"], data["ub"] - x, (data["cu"] - g)[EQUALITIES:], (g - data["cl"])[EQUALITIES:]]
    )
    free, curvature = np.linalg.svd(held)[2][len(held) :].T, _curvature(p, x, y)
    solved = np.abs(step[:N]).max() < 1e-10 and np.all(signs > 0) and np.all(room > -1e-10)
    if not solved or (free.size and np.linalg.eigvalsh(free.T @ curvature @ free)[0] <= 0):
        return None
    answer = dict(x=x, y=y, lower=zl, upper=zu)
    truth, _ = _derivative(data, answer, curvature, J, rows, upper, low, high, condition=1e12, largest=np.inf)
    return None if truth is None else dataclasses.replace(p, answer=answer, truth=truth)


def _functions(p: Program, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of the cost, rows and their Jacobian in good units."""
    data, fixed = p.data, p.fixed
    inner = fixed["W"] @ x
    gradient = data["c"] + fixed["H"] @ x + fixed["t"] * np.exp(fixed["v"] @ x) * fixed["v"]
    J = data["A"] + (fixed["q"] * inner)[:, None] * fixed["W"]
    return gradient, data["A"] @ x + 0.5 * fixed["q"] * inner**2, J


def _curvature(p: Program, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Hessian of the Lagrangian in good units."""
    fixed, W = p.fixed, p.fixed["W"]
    exponential = fixed["t"] * np.exp(fixed["v"] @ x)
    return fixed["H"] + exponential * np.outer(fixed["v"], fixed["v"]) + np.einsum("r,ri,rj->ij", y * fixed["q"], W, W)


def _errors(p: Program, matrix, cost, rows, variables):
    """By how much the answer moves, in good units, when every condition errs by its tolerance; one for each draw of units."""
    data, answer = p.data, p.answer
    gradient, _, J = _functions(p, p.fixed["x0"])
    of_cost = np.minimum(1, 100 / (cost[:, None] / variables * np.abs(gradient)).max(1))[:, None]
    of_rows = np.minimum(1, 100 / (rows[:, :, None] / variables[:, None] * np.abs(J)).max(2))
    o = cost[:, None] * of_cost  # the unit of the cost as the solver scales it
    z = np.hstack([answer["lower"] * o / variables, answer["upper"] * o / variables])
    y = np.abs(answer["y"]) * o / (rows * of_rows)
    most_dual = np.maximum(100, np.hstack([y, z]).mean(1))[:, None] / 100
    most_products = np.maximum(100, z.mean(1))[:, None] / 100

    def product(multiplier, slack):  # the error of the one that is zero, where the product errs
        return most_products / (o * np.where(multiplier > 0, multiplier, np.maximum(slack, 1e-300)))

    x, (_, g, _) = answer["x"], _functions(p, answer["x"])
    of_row = product(np.abs(answer["y"]), np.minimum(g - data["cl"], data["cu"] - g))
    of_row[:, :EQUALITIES] = 0
    at_row = (np.abs(answer["y"]) > 0) | (np.arange(ROWS) < EQUALITIES)
    errors = [
        most_dual * variables / o,
        at_row * (1 / (rows * of_rows) + 1) + of_row,
        (answer["lower"] > 0) / variables + product(answer["lower"], x - data["lb"]),
        (answer["upper"] > 0) / variables + product(answer["upper"], data["ub"] - x),
    ]
    return TOLERANCE * (np.hstack(errors) @ np.abs(np.linalg.inv(matrix)).T).max(1)


def _drawn(random, family, decades, shape):
    """Units each drawn for itself; for the family ``nlp`` about a common one, more or less close."""
    if family != "nlp":
        return units(random, decades, shape)
    level, spread = random.uniform(-decades, decades, shape[0]), random.uniform(0, decades, shape[0])
    exponents = level + spread * random.uniform(-1, 1, shape[::-1])
    return 10.0 ** np.clip(exponents.T, -decades, decades)


def make(random, family: str, kind: str, decades: float) -> Program:
    """A program of the kind ("" for a regular one) in random units."""
    while True:
        variant, program = random.randint(4), None
        while program is None:
            program, matrix = _attempt(random, kind, variant)
        draws = 1 if kind or family != "nlp" else DRAWS
        o, r, d = (_drawn(random, family, decades, (draws, *shape)) for shape in ((), (ROWS,), (N,)))
        resolved = _errors(program, matrix, o, r, d) <= RESOLVED if draws > 1 else np.array([True])
        if resolved.any():
            break
    k = int(np.argmax(resolved))
    o, r, d = o[k], r[k], d[k]
    program.data_units = dict(c=o / d, A=r[:, None] / d, b=r[:EQUALITIES], cl=r, cu=r, lb=d, ub=d)
    program.answer_units = dict(x=d, y=o / r, lower=o / d, upper=o / d)
    program.fixed |= dict(o=np.array(o), d=d, r=r, x0=d * program.fixed["x0"])
    program.stated = stated(o, r, d)
    return program


def solver(family: str):
    """A JAX function from ``(data, fixed)`` in the user's units to the answer, whether it is solved and its quality."""
    import jax.numpy as jnp

    import pounce

    method = pounce.InteriorPoint()

    def f(x, p):
        data, fixed = p
        u = x / fixed["d"]
        return data["c"] @ x + fixed["o"] * (0.5 * u @ fixed["H"] @ u + fixed["t"] * jnp.exp(fixed["v"] @ u))

    def g(x, p):
        data, fixed = p
        return data["A"] @ x + 0.5 * fixed["r"] * fixed["q"] * (fixed["W"] @ (x / fixed["d"])) ** 2

    def solve(data, fixed):
        cl, cu = (jnp.concatenate([data["b"], data[name][EQUALITIES:]]) for name in ("cl", "cu"))
        problem = pounce.NLP(f, g, lb=data["lb"], ub=data["ub"], cl=cl, cu=cu)
        s = pounce.solve(problem, method, fixed["x0"], (data, fixed))
        rows = s.multipliers
        answer = dict(x=s.x, y=rows.constraints, lower=rows.lower, upper=rows.upper)
        return answer, s.success, s.quality.differentiable

    return solve
