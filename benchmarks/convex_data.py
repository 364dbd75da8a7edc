"""The convex collections, in the form that `pounce.solve_qp` and `pounce.solve_socp` take.

A program is ``min 1/2 x'Px + c'x + constant`` over ``Ax = b`` and ``h - Gx`` in a product of cones, or ``Gx <= h`` with bounds.
"""

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from .data import data_folder


INFINITE = 1e20
LIMIT = 1500  # variables plus rows
NOT_CONVEX = {"VALUES"}
MARGINAL = {"cplex2"}  # infeasible by 1e-9 of the multipliers that prove it: feasible to any solver's tolerance
UNCERTAIN = ("LISWET", "YAO")  # published objectives disagree: the residuals are the judge


@dataclasses.dataclass
class Program:
    """One program and what is known of its answer.

    ``expected`` is a status or "not convex"; ``tolerance`` is that of the objective (absolute), None if residuals alone decide.
    ``lenient``: known to few digits, or infeasible by less than any tolerance.
    """

    name: str
    collection: str
    n: int
    rows: int
    data: dict  # keyword arguments of the solver
    constant: float = 0.0
    expected: str = "optimal"
    reference: float = float("nan")
    tolerance: float | None = None
    lenient: bool = False

    @property
    def conic(self) -> bool:
        return "cones" in self.data


def allowed_error(reference: float) -> float:
    return 1e-5 + 1e-4 * max(1.0, abs(reference))


def _readers(folder: pathlib.Path):
    spec = importlib.util.spec_from_file_location("benchmark_readers", folder / "readers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def collection(which: str, names=None, limit: int | None = LIMIT) -> Iterator[Program] | None:
    """The programs of one collection (qp, qp_mpc, lp, lp_infeasible, conic, sdp) in the order of their size.

    ``limit`` bounds variables plus rows; None for all. ``names`` overrides it. None if the collection is not there.
    """
    folder = data_folder()
    if folder is None or not (folder / which / "manifest.json").is_file():
        return None
    facts = json.loads((folder / which / "manifest.json").read_text())
    chosen = []
    for row in facts:
        n, rows = (row["m"], row["rows"]) if which == "sdp" else (row["n"], row["m"])
        if names is not None:
            wanted = row["name"] in names
        else:
            wanted = limit is None or n + rows <= limit
        if wanted:
            chosen.append((n + rows, row["name"], n, rows, row))
    chosen.sort(key=lambda entry: entry[:2])
    return _load_all(which, folder, chosen)


def _load_all(which, folder, chosen) -> Iterator[Program]:
    readers = _readers(folder)
    for _, name, n, rows, row in chosen:
        path = folder / which / name
        if which == "conic":
            program = readers.load_cbf(f"{path}.cbf.gz")
            data, constant = cone_data(program), program.c0
        elif which == "sdp":
            path = next(p for p in (folder / which).iterdir() if p.name.startswith(f"{name}.dat-s"))
            program = readers.load_sdpa(path)
            data, constant = cone_data(program), program.c0
        elif which in ("lp", "lp_infeasible"):
            raw = readers.load_lp(f"{path}.npz")
            data, constant = row_data(None, raw["c"], raw), raw["c0"]
        else:
            raw = readers.load_qp(f"{path}.npz")
            data, constant = row_data(raw["P"], raw["q"], raw), raw["c0"]
        yield Program(name, which, n, rows, data, float(constant), **_known(which, row))


def _known(which: str, row: dict) -> dict:
    """What the manifest says of the answer, as fields of `Program`."""
    name = row["name"]
    if which == "lp_infeasible":
        return dict(expected="primal_infeasible", lenient=name in MARGINAL)
    if which == "sdp" and row["ref_obj"] is None:
        return dict(expected=row["ref"].replace(" ", "_"))
    if name in NOT_CONVEX:
        return dict(expected="not convex")
    key = {"qp": "ref_obj", "qp_mpc": "clarabel_obj", "lp": "highs_obj", "conic": "best_ref", "sdp": "ref_obj"}[which]
    if row.get("highs_status") == "Time limit reached":
        key = "highs_ipm_obj"  # its simplex method had not come to an end
    reference = float(row[key])
    if row.get("objective_uncertain") or name.startswith(UNCERTAIN):
        return dict(reference=reference)
    if name.startswith("hinf"):  # two to four digits are known, and few solvers get more
        return dict(reference=reference, tolerance=0.03 * abs(reference), lenient=True)
    tolerance = allowed_error(reference)
    if which == "sdp":  # some are published to three digits: one unit of the last place
        digits, exponent = row["ref"].split("e")
        tolerance = max(tolerance, 10.0 ** (int(exponent) - len(digits.partition(".")[2])))
    return dict(reference=reference, tolerance=tolerance)


def row_data(P, c, raw: dict) -> dict:
    """``cl <= Ax <= cu``, ``lb <= x <= ub`` as equality rows, ``Gx <= h`` (a two-sided row gives two) and bounds."""
    A, cl, cu = raw["A"].tocsr(), raw["cl"], raw["cu"]
    equal = cl == cu
    above = ~equal & (cu < INFINITE)
    below = ~equal & (cl > -INFINITE)
    data = dict(c=np.asarray(c, float))
    if P is not None:
        data["P"] = sp.csc_matrix(P)
    if equal.any():
        data["A"], data["b"] = A[equal].tocsc(), cl[equal]
    if above.any() or below.any():
        data["G"] = sp.vstack([A[above], -A[below]]).tocsc()
        data["h"] = np.concatenate([cu[above], -cl[below]])
    lb, ub = np.array(raw["lb"], float), np.array(raw["ub"], float)
    lb[lb <= -INFINITE], ub[ub >= INFINITE] = -np.inf, np.inf
    if np.isfinite(lb).any():
        data["lb"] = lb
    if np.isfinite(ub).any():
        data["ub"] = ub
    return data


def cone_data(program) -> dict:
    """``s = b - Ax in K`` of the readers as ``Ax = b`` and ``h - Gx in K``, in the order of rows that `solve_socp` documents.

    The readers have the bounded coordinate of a power cone last and walk triangles by columns of the upper one.
    """
    A, b = program.A.tocsr(), program.b
    equality, order, cones, start = [], [], [], 0
    for kind, dim, extra in program.cones:
        size = dim * (dim + 1) // 2 if kind == "psd" else dim
        rows = start + np.arange(size)
        start += size
        if kind == "z":
            equality.append(rows)
            continue
        if kind == "l":
            cones.append(("nonneg", dim))
        elif kind == "q":
            cones.append(("soc", dim))
        elif kind == "exp":
            cones.append(("exp", 3))
        elif kind == "pow":
            cones.append(("pow", extra))
            rows = rows[[2, 0, 1]]
        elif kind == "psd":
            cones.append(("psd", dim))
            i, j = lower_triangle(dim)
            rows = rows[i * (i + 1) // 2 + j]
        else:
            raise ValueError(f"{program.name}: no cone of kind {kind!r}")
        order.append(rows)
    data = dict(c=program.c, cones=cones)
    rows = np.concatenate(order) if order else np.zeros(0, int)
    data["G"], data["h"] = A[rows].tocsc(), b[rows]
    if equality:
        rows = np.concatenate(equality)
        data["A"], data["b"] = A[rows].tocsc(), b[rows]
    return data


def lower_triangle(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column indices of the lower triangle, column by column."""
    j, i = np.triu_indices(n)
    return i, j
