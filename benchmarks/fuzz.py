"""Random programs of every kind, and whether a success or a certificate of any of them is false.

    python -m benchmarks.fuzz                # 240 linear and quadratic, 120 cone and 80 nonconvex programs
    python -m benchmarks.fuzz --seed 7       # others
    python -m benchmarks.fuzz --only cones   # convex, cones or nonconvex

Linear and quadratic programs have whole numbers, repeated and opposite rows, empty interiors, and are solvable, infeasible or
unbounded by accident; HiGHS and Clarabel say which, where they are installed (HiGHS for linear ones comes with SciPy). Cone
programs are made around a complementary pair, or a certificate; Clarabel has its say. A success of either is false if it
fails its own optimality conditions, or if a peer's value is another one; a certificate, if it fails its conditions or a peer
has a solution.

Nonconvex programs go through `pounce.minimize` beside SciPy's SLSQP from the same point. A success is false if a row is
violated by more than 1e-6, or if no multipliers of the right signs make the gradient vanish; "infeasible" is false if the
point it ends at is no stationary one of the sum of the violations. The exit code is 1 if anything is false.
"""

import argparse
import os
import sys
import time
import warnings
from typing import Any

import numpy as np

from .convex_check import farkas_residual, ray_residual, residuals
from .convex_peers import SOLVERS, available
from .fuzz_programs import cone_programs, convex_programs, nonconvex_programs


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ACCURATE = 1e-5  # of a value, relative to max(1, |value|)
PROVEN, CERTIFIED = 1e-6, 1e-4  # residuals of optimality, of a certificate
STATIONARY = 1e-5


def kind_by_highs(data: dict) -> str:
    """What a program is, by linear programs alone: whether a point is feasible, and a direction of descent without curvature."""
    from scipy.optimize import linprog

    n = data["c"].size
    rows = dict(A_ub=data["G"], A_eq=data["A"], method="highs")
    feasible = linprog(np.zeros(n), b_ub=data["h"], b_eq=data["b"], bounds=list(zip(data["lb"], data["ub"])), **rows)
    if feasible.status == 2:
        return "primal_infeasible"
    size = np.sqrt(np.maximum(np.diag(data["P"]), 0.0)) + np.max(np.abs(np.vstack([data["A"], data["G"]])), axis=0)
    unit = 1.0 / np.where(size > 0, size, 1.0)
    box = [
        (0.0 if low > -np.inf else -u, 0.0 if high < np.inf else u)
        for low, high, u in zip(data["lb"], data["ub"], unit)
    ]
    curved = np.vstack([data["A"], data["P"] / max(1.0, float(np.max(np.abs(data["P"]))))])
    rows = dict(A_ub=data["G"], b_ub=np.zeros(data["h"].size), A_eq=curved, b_eq=np.zeros(curved.shape[0]))
    ray = linprog(data["c"], bounds=box, method="highs", **rows)
    scale = float(np.max(np.abs(data["c"] * unit), initial=0.0))
    return "dual_infeasible" if ray.status == 0 and ray.fun < -1e-6 * scale else "optimal"


def highs(data: dict) -> tuple[str, float]:
    """Status and value by HiGHS; ("unknown", nan) where it is not there for quadratic programs, or has nothing to say."""
    from scipy.optimize import linprog

    if not np.any(data["P"]):
        r = linprog(
            data["c"], data["G"], data["h"], data["A"], data["b"], list(zip(data["lb"], data["ub"])), method="highs"
        )
        names = {0: "optimal", 2: "primal_infeasible", 3: "dual_infeasible"}
        return names.get(r.status, "unknown"), float(r.fun) if r.status == 0 else float("nan")
    try:
        import highspy  # pyright: ignore[reportMissingImports]
    except ImportError:
        return "unknown", float("nan")
    import scipy.sparse as sp

    model, solver, infinite = highspy.HighsModel(), highspy.Highs(), highspy.kHighsInf
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("time_limit", 2.0)  # it may go round in circles
    rows: Any = sp.csc_matrix(np.vstack([data["A"], data["G"]]))
    lower: Any = sp.csc_matrix(np.tril(data["P"]))
    lp, hessian = model.lp_, model.hessian_
    lp.num_col_, lp.num_row_ = rows.shape[1], rows.shape[0]
    lp.col_cost_ = data["c"]
    lp.col_lower_, lp.col_upper_ = (np.clip(data[k], -infinite, infinite) for k in ("lb", "ub"))
    lp.row_lower_ = np.concatenate([data["b"], np.full(data["h"].size, -infinite)])
    lp.row_upper_ = np.concatenate([data["b"], data["h"]])
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = rows.indptr, rows.indices, rows.data
    hessian.dim_, hessian.format_ = rows.shape[1], highspy.HessianFormat.kTriangular
    hessian.start_, hessian.index_, hessian.value_ = lower.indptr, lower.indices, lower.data
    solver.passModel(model)
    solver.run()
    status = solver.getModelStatus()
    names = {
        highspy.HighsModelStatus.kOptimal: "optimal",
        highspy.HighsModelStatus.kInfeasible: "primal_infeasible",
        highspy.HighsModelStatus.kUnbounded: "dual_infeasible",
    }
    return names.get(status, "unknown"), float(solver.getInfo().objective_function_value)


def value_of(data: dict, x: np.ndarray) -> float:
    """Of the objective."""
    P = data.get("P")
    return float(data["c"] @ x + (0.0 if P is None else 0.5 * x @ P @ x))


def false_convex(data: dict, answer, peers: list[tuple[str, float]]) -> str:
    """What is false about an answer; empty if nothing is."""
    solved = [value for status, value in peers if status == "optimal"]
    valued = [value for value in solved if np.isfinite(value)]
    if answer.status == "optimal":
        error = residuals(data, answer).largest()
        if error > PROVEN:
            return f"success with residuals of {error:.1e}"
        value = value_of(data, answer.x)
        if valued and min(abs(value - other) / max(1.0, abs(other)) for other in valued) > ACCURATE:
            return f"success at {value:.8g}, peers say {valued}"
        said = [status for status, _ in peers if status != "unknown"]
        return f"success, peers say {said}" if said and not solved and len(set(said)) == 1 else ""
    if answer.status in ("primal_infeasible", "dual_infeasible"):
        judge = farkas_residual if answer.status == "primal_infeasible" else ray_residual
        if judge(data, answer) > CERTIFIED:
            return f"{answer.status} with a residual of {judge(data, answer):.1e}"
        return f"{answer.status}, peers have solutions" if solved else ""
    return ""


def convex(programs: list[dict], batch: bool, known: list[str]) -> list[str]:
    """Solves, judges, prints a table; what is false."""
    import pounce

    begin = time.perf_counter()
    if batch:
        answers = pounce.solve_qp_batch(programs)
    else:
        answers = [pounce.solve_socp(**data) for data in programs]
    seconds = time.perf_counter() - begin
    false, count, without = [], {}, []
    for k, (data, answer) in enumerate(zip(programs, answers)):
        peers = [highs(data)] if batch else []
        if peers and kind_by_highs(data) != peers[0][0]:  # for quadratic programs it has a method that may fail
            peers = [(kind_by_highs(data), float("nan"))]
        if available("clarabel"):
            theirs = SOLVERS["clarabel"](data)
            peers.append((theirs.status, value_of(data, theirs.x)))
        if known:
            peers = [each for each in peers if each[0] in ("optimal", known[k])]
        what = false_convex(data, answer, peers)
        if known and answer.status in ("optimal", "primal_infeasible", "dual_infeasible") and answer.status != known[k]:
            what = what or f"{answer.status}, made to be {known[k]}"
        if what:
            false.append(f"{k}: {what}")
        if answer.status not in ("optimal", "primal_infeasible", "dual_infeasible"):
            without.append(f"{k} {answer.status}")
        pair = answer.status, " ".join(status for status, _ in peers) or "-"
        count[pair] = count.get(pair, 0) + 1
    for (ours, theirs), many in sorted(count.items(), key=lambda item: -item[1]):
        print(f"  {many:4d}  {ours:20s} peers: {theirs}")
    print(
        f"  false: {len(false)}; without a verdict: {len(without)} {without[:8] or ''} ({seconds:.0f} s)",
        *false,
        sep="\n    ",
    )
    return false


def stationarity(problem, x: np.ndarray) -> float:
    """The least 1-norm of the gradient of the Lagrangian that multipliers of the right signs leave, relative to the gradient;
    what is not active within 1e-5 has none."""
    from scipy.optimize import lsq_linear

    gradient, rows, jacobian = problem.gradient(x), problem.rows(x), problem.jacobian(x)
    columns, lower = [], []
    for k in range(rows.size):
        equality = k < problem.equalities
        if equality or rows[k] < 1e-5 * max(1.0, float(np.max(np.abs(jacobian[k])))):
            columns.append(jacobian[k])
            lower.append(-np.inf if equality else 0.0)
    for side, bound, sign in ((x - problem.lb, problem.lb, 1.0), (problem.ub - x, problem.ub, -1.0)):
        for i in np.flatnonzero(np.isfinite(bound) & (side < 1e-5)):
            columns.append(sign * np.eye(x.size)[i])
            lower.append(0.0)
    scale = max(1.0, float(np.max(np.abs(gradient))))
    if not columns:
        return float(np.max(np.abs(gradient))) / scale
    fit = lsq_linear(np.stack(columns, axis=1), gradient, (np.array(lower), np.full(len(lower), np.inf)), tol=1e-14)
    return float(np.max(np.abs(fit.fun))) / scale


def descent(problem, x: np.ndarray) -> float:
    """How fast the sum of the violations falls from ``x`` within the bounds: the least gradient among those that it has there,
    relative to those of the rows."""
    from scipy.optimize import lsq_linear

    rows, jacobian, e = problem.rows(x), problem.jacobian(x), problem.equalities
    fixed, columns, limits = np.zeros(x.size), [], []
    for k in range(rows.size):
        if abs(rows[k]) <= 1e-6:
            columns.append(jacobian[k])
            limits.append((-1.0, 1.0 if k < e else 0.0))
        elif k < e or rows[k] < 0:
            fixed += np.sign(rows[k]) * jacobian[k]
    for side, sign in ((x - problem.lb, -1.0), (problem.ub - x, 1.0)):
        for i in np.flatnonzero(side < 1e-6):
            columns.append(sign * np.eye(x.size)[i])
            limits.append((0.0, np.inf))
    scale = max(1.0, float(np.max(np.abs(jacobian))))
    if not columns:
        return float(np.max(np.abs(fixed))) / scale
    fit = lsq_linear(np.stack(columns, axis=1), -fixed, tuple(np.array(limits).T), tol=1e-14)
    return float(np.max(np.abs(fit.fun))) / scale


def violation(problem, x: np.ndarray) -> float:
    """Of the rows, the largest."""
    rows = problem.rows(x)
    e = problem.equalities
    return max(float(np.max(np.abs(rows[:e]), initial=0.0)), float(np.max(-rows[e:], initial=0.0)))


def nonconvex(problems: list) -> list[str]:
    """Solves, judges, prints a table; what is false."""
    import scipy.optimize

    import pounce

    false, count, better = [], {}, [0, 0]
    begin = time.perf_counter()
    for k, problem in enumerate(problems):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            r = pounce.minimize(problem.objective, problem.x0, bounds=problem.bounds, constraints=problem.constraints)
            given = dict(bounds=problem.bounds, constraints=problem.for_scipy)
            s = scipy.optimize.minimize(problem.value, problem.x0, jac=problem.gradient, method="SLSQP", **given)
        theirs = bool(s.success) and violation(problem, s.x) < 1e-6
        if r.success:
            wrong = violation(problem, r.x)
            left = stationarity(problem, r.x)
            if wrong > 1e-6 or left > STATIONARY:
                false.append(f"{k}: success with a violation of {wrong:.1e}, stationarity {left:.1e}")
            if theirs:
                better[0] += r.fun < s.fun - 1e-6 * max(1.0, abs(s.fun))
                better[1] += s.fun < r.fun - 1e-6 * max(1.0, abs(s.fun))
        elif r.status == 2 and descent(problem, r.x) > 1e-4:
            false.append(f"{k}: infeasible where the violation falls at a rate of {descent(problem, r.x):.1e}")
        pair = r.info["status_msg"], f"SLSQP {'success' if theirs else 'failure'}"
        count[pair] = count.get(pair, 0) + 1
    for (ours, theirs), many in sorted(count.items(), key=lambda item: -item[1]):
        print(f"  {many:4d}  {ours:30s} {theirs}")
    print(f"  false: {len(false)}; better minimum: {better[0]} times ours, {better[1]} times SLSQP's", end="")
    print(f" ({time.perf_counter() - begin:.0f} s)", *false, sep="\n    ")
    return false


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("convex", "cones", "nonconvex"))
    arguments = parser.parse_args()
    peers = [name for name in ("clarabel", "highspy") if available(name)]
    print(f"python -m benchmarks.fuzz --seed {arguments.seed} (peers: SciPy {', '.join(peers)})")
    false: list[str] = []
    if arguments.only in (None, "convex"):
        for name in ("linear", "quadratic"):
            print(f"120 {name} programs")
            false += convex(convex_programs(120, arguments.seed, name == "quadratic"), True, [])
    if arguments.only in (None, "cones"):
        print("120 cone programs")
        made = cone_programs(120, arguments.seed)
        false += convex([data for data, _ in made], False, [kind for _, kind in made])
    if arguments.only in (None, "nonconvex"):
        print("80 nonconvex programs")
        false += nonconvex(nonconvex_programs(80, arguments.seed))
    print("nothing is false" if not false else f"{len(false)} are false")
    return int(bool(false))


if __name__ == "__main__":
    sys.exit(main())
