"""Convex solvers behind one adapter: ours, Clarabel and SCS take a program in the user's form and answer in it.

Importing this module imports none of them.
"""

import dataclasses
import time

import numpy as np
import scipy.sparse as sp

from .convex_check import blocks
from .convex_data import INFINITE


@dataclasses.dataclass
class Answer:
    """A status in our words, the point with its multipliers, iterations, seconds of the first and of the second call."""

    status: str
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    z_lb: np.ndarray | None = None
    z_ub: np.ndarray | None = None
    iterations: int = 0
    first_seconds: float = float("nan")
    seconds: float = float("nan")
    message: str = ""


CLARABEL = {
    "Solved": "optimal",
    "AlmostSolved": "optimal_inaccurate",
    "PrimalInfeasible": "primal_infeasible",
    "DualInfeasible": "dual_infeasible",
    "AlmostPrimalInfeasible": "primal_infeasible_inaccurate",
    "AlmostDualInfeasible": "dual_infeasible_inaccurate",
    "MaxIterations": "iteration_limit",
    "MaxTime": "time_limit",
}
SCS = {
    1: "optimal",
    2: "optimal_inaccurate",
    -1: "dual_infeasible",
    -2: "primal_infeasible",
    -6: "dual_infeasible_inaccurate",
    -7: "primal_infeasible_inaccurate",
}


def available(name: str) -> bool:
    """Whether a solver of `SOLVERS` can be called here."""
    try:
        if name == "pounce":
            import pounce

            return hasattr(pounce, "solve_qp") and hasattr(pounce, "solve_socp")
        __import__(name)
    except ImportError:
        return False
    return True


def ours(data: dict, tol: float | None = None) -> Answer:
    """`pounce.solve_qp` or `pounce.solve_socp`, twice: the first call compiles."""
    import pounce

    solve = pounce.solve_socp if "cones" in data else pounce.solve_qp
    begin = time.perf_counter()
    try:
        result = solve(**data, tol=tol)
    except ValueError as error:
        if "positive semidefinite" not in str(error):
            raise
        nothing = np.zeros(0)
        return Answer("not convex", nothing, nothing, nothing, message=str(error))
    middle = time.perf_counter()
    result = solve(**data, tol=tol)
    end = time.perf_counter()
    return Answer(
        str(result.status),
        *(np.asarray(v, float) for v in (result.x, result.y, result.z)),
        z_lb=getattr(result, "z_lb", None),
        z_ub=getattr(result, "z_ub", None),
        iterations=int(result.iters),
        first_seconds=middle - begin,
        seconds=end - middle,
    )


class ConeForm:
    """``Ax + s = b`` with s in a product of cones: equality rows and fixed variables, then G's rows, then bounds.

    ``cones`` holds (kind, parameter, rows) with rotated cones turned upright; power cones have the bounded coordinate last, and
    triangles are walked by columns of the ``upper`` one, or of the lower one as `pounce` does.
    """

    def __init__(self, data: dict, upper: bool):
        n = np.size(data["c"])
        self.c = np.asarray(data["c"], float)
        P = data.get("P")
        self.P = sp.csc_matrix((n, n)) if P is None else sp.csc_matrix(P)
        lb = np.full(n, -np.inf) if data.get("lb") is None else np.broadcast_to(np.asarray(data["lb"], float), n)
        ub = np.full(n, np.inf) if data.get("ub") is None else np.broadcast_to(np.asarray(data["ub"], float), n)
        self.n, self.fixed = n, np.flatnonzero(lb == ub)
        free = lb != ub
        self.low, self.high = np.flatnonzero(free & (lb > -INFINITE)), np.flatnonzero(free & (ub < INFINITE))
        identity = sp.identity(n, format="csr")
        parts, right = [], []
        for matrix, vector in ((data.get("A"), data.get("b")), (identity[self.fixed], lb[self.fixed])):
            if matrix is not None and matrix.shape[0]:
                parts.append(sp.csr_matrix(matrix)), right.append(np.asarray(vector, float))
        equalities = sum(m.shape[0] for m in parts)
        self.size_A = equalities - self.fixed.size
        self.cones = [("zero", 0.0, slice(0, equalities))] if equalities else []
        self.turn = None
        if data.get("G") is not None and data["G"].shape[0]:
            G, h = sp.csr_matrix(data["G"]), np.asarray(data["h"], float)
            specs = blocks(data.get("cones") or [("nonneg", h.size)])
            self.turn = sp.block_diag([_turn(kind, value, rows, upper) for kind, value, rows in specs], format="csr")
            parts.append(self.turn @ G), right.append(self.turn @ h)
            self.cones += [
                ("soc" if kind == "rsoc" else kind, value, slice(rows.start + equalities, rows.stop + equalities))
                for kind, value, rows in specs
            ]
        self.size_G = 0 if self.turn is None else self.turn.shape[0]
        start = equalities + self.size_G
        for sign, where, bound in ((-1.0, self.low, -lb), (1.0, self.high, ub)):
            if where.size:
                parts.append(sign * identity[where]), right.append(bound[where])
                self.cones.append(("nonneg", float(where.size), slice(start, start + where.size)))
                start += where.size
        self.A = sp.vstack(parts).tocsc() if parts else sp.csc_matrix((0, n))
        self.b = np.concatenate(right) if right else np.zeros(0)

    def multipliers(self, dual) -> dict:
        """The multipliers of the stacked rows as y, z, z_lb, z_ub of the user's form."""
        dual = np.asarray(dual, float)
        y, of_fixed, z, low, high = np.split(
            dual, np.cumsum([self.size_A, self.fixed.size, self.size_G, self.low.size])
        )
        z_lb, z_ub = np.zeros(self.n), np.zeros(self.n)
        z_lb[self.low], z_ub[self.high] = low, high
        z_lb[self.fixed], z_ub[self.fixed] = np.maximum(-of_fixed, 0), np.maximum(of_fixed, 0)
        return dict(y=y, z=z if self.turn is None else self.turn.T @ z, z_lb=z_lb, z_ub=z_ub)


def _turn(kind: str, value: float, rows: slice, upper: bool):
    """The orthogonal map from our order of a block's rows to the peers'."""
    size = rows.stop - rows.start
    if kind == "rsoc":
        top = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
        return sp.block_diag([top, sp.identity(size - 2)]) if size > 2 else sp.csr_matrix(top)
    order = np.arange(size)
    if kind == "pow":
        order = np.array([1, 2, 0])
    elif kind == "psd" and upper:
        i, j = np.tril_indices(int(value))  # row by row of the lower triangle: by columns of the upper one
        order = j * int(value) - j * (j - 1) // 2 + i - j
    return sp.identity(size, format="csr")[order]


def clarabel(data: dict, tol: float | None = None, max_iter: int = 200) -> Answer:
    import clarabel as peer  # pyright: ignore[reportMissingImports]

    form = ConeForm(data, upper=True)
    kinds = {
        "zero": lambda size, _: peer.ZeroConeT(size),
        "nonneg": lambda size, _: peer.NonnegativeConeT(size),
        "soc": lambda size, _: peer.SecondOrderConeT(size) if size > 1 else peer.NonnegativeConeT(1),
        "exp": lambda *_: peer.ExponentialConeT(),
        "pow": lambda _, alpha: peer.PowerConeT(alpha),
        "psd": lambda _, order: peer.PSDTriangleConeT(int(order)),
    }
    cones = [kinds[kind](rows.stop - rows.start, value) for kind, value, rows in form.cones]
    settings = peer.DefaultSettings()
    settings.verbose, settings.max_iter, settings.max_threads = False, max_iter, 1
    if tol is not None:
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
        settings.tol_infeas_abs = settings.tol_infeas_rel = tol
    triangle = sp.triu(form.P).tocsc()
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        result = peer.DefaultSolver(triangle, form.c, form.A, form.b, cones, settings).solve()
        times.append(time.perf_counter() - begin)
    status = CLARABEL.get(str(result.status), "numerical_failure")
    x, dual = np.array(result.x), form.multipliers(result.z)
    return Answer(status, x, **dual, iterations=result.iterations, first_seconds=times[0], seconds=times[1])


def scs(data: dict, tol: float | None = None, max_iter: int = 100_000) -> Answer:
    import scs as peer  # pyright: ignore[reportMissingImports]

    form = ConeForm(data, upper=False)
    names = {"zero": "z", "nonneg": "l", "soc": "q", "psd": "s", "exp": "ep", "pow": "p"}
    rows = {name: [] for name in names.values()}
    sizes: dict = {"q": [], "s": [], "p": []}
    for kind, value, where in form.cones:
        name = names[kind]
        rows[name].append(np.arange(where.start, where.stop))
        if name in sizes:
            sizes[name].append({"q": where.stop - where.start, "s": int(value), "p": value}[name])
    order = np.concatenate([block for name in names.values() for block in rows[name]])
    cone: dict = {name: sum(map(len, rows[name])) for name in ("z", "l")}
    cone |= {name: listed for name, listed in sizes.items() if listed}
    if rows["ep"]:
        cone["ep"] = len(rows["ep"])
    problem = dict(P=sp.triu(form.P).tocsc(), A=form.A.tocsr()[order].tocsc(), b=form.b[order], c=form.c)
    tol = 1e-8 if tol is None else tol
    begin = time.perf_counter()
    result = peer.SCS(
        problem, cone, eps_abs=tol, eps_rel=tol, eps_infeas=min(tol, 1e-8), max_iters=max_iter, verbose=False
    ).solve()
    seconds = time.perf_counter() - begin
    dual = np.empty(order.size)
    dual[order] = result["y"]
    info = result["info"]
    return Answer(
        SCS.get(info["status_val"], "numerical_failure"),
        np.array(result["x"]),
        **form.multipliers(dual),
        iterations=info["iter"],
        first_seconds=seconds,
        seconds=seconds,
    )


SOLVERS = {"pounce": ours, "clarabel": clarabel, "scs": scs}
