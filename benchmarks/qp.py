"""Convex quadratic programs: Maros-Meszaros and model predictive control, judged independently and beside Clarabel.

    python -m benchmarks.qp                       # all with at most 1500 variables plus rows
    python -m benchmarks.qp --limit 500 --json results.json
    python -m benchmarks.qp --names HS21 QSCFXM1
    python -m benchmarks.qp --solver clarabel     # a peer behind the same adapter

A solve is correct if it says "optimal", agrees with the reference objective and meets the optimality conditions to 1e-6, all
computed here. The exit code is 1 if anything false was claimed.
"""

import argparse
import json
import os
import statistics
import sys


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
COLLECTIONS = ("qp", "qp_mpc")
WORDS = {
    "optimal": "optimal",
    "optimal_inaccurate": "opt. inacc.",
    "primal_infeasible": "primal inf.",
    "dual_infeasible": "dual inf.",
    "primal_infeasible_inaccurate": "p. inf. inacc.",
    "dual_infeasible_inaccurate": "d. inf. inacc.",
    "iteration_limit": "iterations",
    "numerical_failure": "failure",
}


def solve_one(program, solver: str, peer: str | None, tol: float | None) -> dict:
    """Solve one program with the solver and its peer, and judge both."""
    from .convex_check import judge
    from .convex_peers import SOLVERS

    row = dict(
        name=program.name,
        collection=program.collection,
        n=program.n,
        rows=program.rows,
        expected=program.expected,
        lenient=program.lenient,
        reference=program.reference,
    )
    for prefix, name in (("", solver), ("peer_", peer)):
        if name is None:
            continue
        try:
            answer = SOLVERS[name](program.data, tol)
        except Exception as error:
            row |= {prefix + "status": "error", prefix + "error_text": f"{type(error).__name__}: {error}"[:300]}
            row |= {prefix + "correct": False, prefix + "wrong": False}
            continue
        verdict = judge(program, answer)
        found = verdict.residuals
        row |= {
            prefix + key: value
            for key, value in dict(
                status=answer.status,
                correct=verdict.correct,
                wrong=verdict.wrong,
                objective=found.objective + program.constant if found else None,
                error=verdict.error,
                primal=found.primal if found else None,
                dual=found.dual if found else None,
                sign=found.sign if found else None,
                gap=found.gap if found else None,
                certificate=verdict.certificate,
                iterations=answer.iterations,
                seconds=answer.seconds,
                compile_seconds=answer.first_seconds - answer.seconds,
            ).items()
        }
    return row


def shown(row: dict, peer: str | None) -> str:
    def number(value, form):
        width = int(form.split(".")[0].lstrip("+"))
        return " " * (width - 1) + "-" if value is None or value != value else format(value, form)

    parts = [
        f"{row['name']:18s} {row['n']:5d} {row['rows']:5d}  {WORDS.get(row['status'], row['status']):14s}",
        f"{row.get('iterations', 0):4d}",
        number(row.get("objective"), "16.8e"),
        number(row["reference"], "16.8e"),
        number(row.get("error"), "8.1e"),
    ]
    if row.get("certificate") is not None:
        parts.append(f"certificate {row['certificate']:8.1e}".ljust(35))
    else:
        parts += [number(row.get(key), "8.1e") for key in ("primal", "dual", "sign", "gap")]
    parts.append(number(1e3 * row["seconds"] if "seconds" in row else None, "10.2f"))
    parts.append(number(row.get("compile_seconds"), "7.2f"))
    if peer:
        parts.append(f"| {WORDS.get(row['peer_status'], row['peer_status']):14s} {row.get('peer_iterations', 0):4d}")
        parts.append(number(1e3 * row["peer_seconds"] if "peer_seconds" in row else None, "10.2f"))
        parts.append("" if row["peer_correct"] else "(x)")
    parts.append("" if row["correct"] else "  <-- WRONG" if row["wrong"] else "  <--")
    if row["status"] == "error":
        parts.append(row["error_text"])
    return " ".join(parts)


def heading(peer: str | None) -> str:
    line = (
        f"{'name':18s} {'n':>5s} {'rows':>5s}  {'status':14s} {'it':>4s} {'objective':>16s} {'reference':>16s} {'error':>8s} "
        f"{'primal':>8s} {'dual':>8s} {'sign':>8s} {'gap':>8s} {'ms':>10s} {'compile':>7s}"
    )
    return line + (f" | {peer:14s} {'it':>4s} {'ms':>10s}" if peer else "")


def summary(title: str, rows: list[dict], solver: str, peer: str | None) -> None:
    if not rows:
        return
    print(f"{title}: {solver} {sum(r['correct'] for r in rows)} of {len(rows)} correct", end="")
    if peer:
        print(f", {peer} {sum(r['peer_correct'] for r in rows)}", end="")
        both = [r for r in rows if r["correct"] and r["peer_correct"] and "iterations" in r]
        iterations = [r["iterations"] / r["peer_iterations"] for r in both if r["peer_iterations"]]
        times = [r["seconds"] / r["peer_seconds"] for r in both if r["seconds"] == r["seconds"]]
        if iterations and times:
            print(
                f"; {solver} / {peer} where both are: iterations median {statistics.median(iterations):.3f} "
                f"(equal on {sum(r['iterations'] == r['peer_iterations'] for r in both)} of {len(both)}), "
                f"time median {statistics.median(times):.2f}",
                end="",
            )
    print()


def groups(rows: list[dict]) -> list[tuple[str, list[dict]]]:
    """Rows that are counted together."""
    result = []
    for name in dict.fromkeys(r["collection"] for r in rows):
        here = [r for r in rows if r["collection"] == name]
        plain = [r for r in here if r["expected"] != "not convex" and not r["lenient"]]
        result.append((name, plain))
        result.append((f"{name}, not convex (to be refused)", [r for r in here if r["expected"] == "not convex"]))
        result.append((f"{name}, few digits known or marginal", [r for r in here if r["lenient"]]))
    return [(title, group) for title, group in result if group]


def run(collections, description: str | None, many: bool = False) -> int:
    """The command line shared by the convex benchmarks; ``many``: offer --large."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--limit", type=int, default=1500, help="most variables plus rows")
    if many:
        parser.add_argument("--large", action="store_true", help="no limit")
    parser.add_argument("--solver", default="pounce", choices=["pounce", "clarabel", "scs"])
    parser.add_argument("--tol", type=float, help="default: the solvers' own")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", metavar="PATH", help="write all figures there")
    arguments = parser.parse_args()
    from .convex_data import collection
    from .convex_peers import available

    if not available(arguments.solver):
        print(f"{arguments.solver} cannot solve convex programs here")
        return 0
    peer = "clarabel" if arguments.solver != "clarabel" and available("clarabel") and not arguments.no_peer else None
    limit = None if many and arguments.large else arguments.limit
    rows, missing = [], []
    for which in collections:
        programs = collection(which, arguments.names, limit)
        if programs is None:
            missing.append(which)
            continue
        for k, program in enumerate(programs):
            if k == 0:
                print(f"\n{which}\n{heading(peer)}")
            row = solve_one(program, arguments.solver, peer, arguments.tol)
            print(shown(row, peer), flush=True)
            rows.append(row)
    if missing:
        print(f"no collection {', '.join(missing)} found; set POUNCE_BENCH_DATA")
    print()
    for title, group in groups(rows):
        summary(title, group, arguments.solver, peer)
    compiles = [r["compile_seconds"] for r in rows if r.get("compile_seconds", float("nan")) >= 0]
    if arguments.solver == "pounce" and compiles:
        print(f"first call beyond the second: median {statistics.median(compiles):.2f} s, most {max(compiles):.1f} s")
    wrong = [r["name"] for r in rows if r["wrong"]]
    print(f"false claims: {', '.join(wrong) if wrong else 'none'}")
    if arguments.json:
        with open(arguments.json, "w") as stream:
            json.dump(rows, stream, indent=1)
    return 1 if wrong else 0


def main() -> int:
    return run(COLLECTIONS, __doc__, many=True)


if __name__ == "__main__":
    sys.exit(main())
