"""The NLP collection: status, objective, feasibility and iterations per problem beside Ipopt's.

    python -m benchmarks.nlp                      # the problems with a confirmed optimum and n <= 100
    python -m benchmarks.nlp --set hs             # the Hock-Schittkowski ones among them
    python -m benchmarks.nlp --set infeasible     # overdetermined, infeasible and unbounded ones: the right status?
    python -m benchmarks.nlp --set medium         # 100 < n <= 500
    python -m benchmarks.nlp --set large          # a sample without references, judged by residuals alone
    python -m benchmarks.nlp --names HS71 HS13 --options linear_solver=condensed

Writes one JSON line per problem with --out FILE.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import statistics
import sys
import time


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
OBJECTIVE_TOLERANCE = 1e-5  # relative, and absolute below one
MOST_ENTRIES = 4_000_000


def solve_one(name: str, options: dict) -> dict:
    """Solve one problem of the collection and check the answer independently."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    import pounce

    from .data import load_problem, nlp_problems
    from .kkt_check import check

    problems = nlp_problems()
    assert problems is not None
    p = load_problem(problems, name)
    if p.n * (p.n + p.m) > MOST_ENTRIES:
        raise ValueError(f"left out: n = {p.n}, m = {p.m} is too large for dense derivatives")
    problem = pounce.NLP(
        lambda x, _: p.f(x),
        None if p.g is None else lambda x, _: p.g(x),
        lb=p.lb,
        ub=p.ub,
        cl=p.cl if p.g is not None else None,
        cu=p.cu if p.g is not None else None,
    )
    solver = pounce.InteriorPoint(**options)
    begin = time.perf_counter()
    solution = jax.block_until_ready(pounce.solve(problem, solver, jnp.asarray(p.x0)))
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    jax.block_until_ready(pounce.solve(problem, solver, jnp.asarray(p.x0)))
    again = time.perf_counter() - begin
    x = solution.x
    gradient = np.asarray(jax.grad(p.f)(x))
    rows = np.zeros(0) if p.g is None else np.asarray(p.g(x))
    jacobian = np.zeros((0, p.n)) if p.g is None else np.asarray(jax.jacfwd(p.g)(x))
    z = solution.multipliers
    at_start = float(np.max(np.abs(np.asarray(jax.grad(p.f)(jnp.asarray(p.x0)))), initial=0.0))
    verdict = check(at_start, x, gradient, jacobian, rows, p.lb, p.ub, p.cl, p.cu, z.constraints, z.lower, z.upper)
    reference = p.row["best_known"] or p.row["ipopt_obj"]
    objective = float(solution.objective)
    target = float(reference) if reference else float("nan")
    jax.clear_caches()  # a process compiles dozens of programs
    return dict(
        name=name,
        n=p.n,
        m=p.m,
        status=int(solution.status),
        objective=objective,
        reference=target,
        objective_ok=not reference or bool(objective - target <= OBJECTIVE_TOLERANCE * max(1.0, abs(target))),
        feasibility=verdict.feasibility,
        stationarity=verdict.stationarity,
        complementarity=verdict.complementarity,
        kkt_ok=bool(verdict.passes(1e-5)),
        iterations=int(solution.stats.iterations),
        ipopt_iterations=int(p.row["ipopt_iter"] or 0),
        ipopt_status=p.row["ipopt_status"],
        compile_seconds=first - again,
        solve_seconds=again,
    )


def chosen_names(which: str, problems, sample: int) -> list[str]:
    rows = problems._rows
    usable = problems.usable()
    if which == "hs":
        return [n for n in usable if n.startswith("HS")]
    if which == "usable":
        return usable
    if which == "medium":
        return [n for n in problems.usable(max_n=500) if int(rows[n]["n"]) > 100]
    if which == "infeasible":
        return [n for n, r in rows.items() if r["confidence"] == "overdetermined" or r["ipopt_status"] in ("2", "4")]
    if which == "large":
        import pathlib

        import lazy_sif2jax

        names = json.loads((pathlib.Path(problems.__file__).parent / "large_unverified.json").read_text())
        return [n for n in names if n in lazy_sif2jax.names()][:: max(1, len(names) // sample)]
    raise ValueError(which)


def report(results: list[dict], which: str) -> None:
    solved = [r for r in results if r.get("status") in (0, 1) and r["objective_ok"] and r["kkt_ok"]]
    wrong = [r for r in results if r.get("status") == 0 and not r["kkt_ok"]]
    ratios = [
        r["iterations"] / r["ipopt_iterations"] for r in solved if r["ipopt_iterations"] and r["ipopt_status"] == "0"
    ]
    same = sum(r["iterations"] == r["ipopt_iterations"] for r in solved)
    print(f"\n{which}: {len(solved)} of {len(results)} solved to the reference objective")
    if ratios:
        print(f"iterations / Ipopt's: median {statistics.median(ratios):.3f}, equal on {same} of {len(solved)}")
    print(f"success reported where the KKT conditions fail: {[r['name'] for r in wrong]}")
    compiled = [r["compile_seconds"] for r in results if "compile_seconds" in r]
    if compiled:
        print(f"trace + compile: median {statistics.median(compiled):.2f} s, most {max(compiled):.1f} s")
    for r in results:
        if r not in solved:
            print(
                "  not solved:", {k: r.get(k) for k in ("name", "status", "objective", "reference", "kkt_ok", "error")}
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="usable", choices=["usable", "hs", "infeasible", "medium", "large"])
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--options", nargs="*", default=[], help="name=value")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    from .data import nlp_problems

    problems = nlp_problems()
    if problems is None:
        print("no problem collection found; set POUNCE_BENCH_DATA")
        return 0
    names = arguments.names or chosen_names(arguments.set, problems, arguments.sample)
    # Some are unrolled sums that take any solver minutes to compile: those go last.
    names.sort(key=lambda name: float(problems._rows.get(name, {}).get("t_compile_s") or 0))
    options = {}
    for pair in arguments.options:
        key, value = pair.split("=", 1)
        try:
            options[key] = float(value)
        except ValueError:
            options[key] = value
    results = []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(arguments.workers, context) as pool:
        futures = {pool.submit(solve_one, name, options): name for name in names}
        for future in concurrent.futures.as_completed(futures):
            name = futures[future]
            try:
                r = future.result()
            except Exception as error:
                r = dict(name=name, error=f"{type(error).__name__}: {error}"[:200])
                print(f"{name:12s} ERROR {r['error']}", flush=True)
            else:
                flag = "" if r["objective_ok"] and r["kkt_ok"] else "  <--"
                print(
                    f"{name:12s} n={r['n']:4d} m={r['m']:4d} status {r['status']:4d} f {r['objective']:+.8e} "
                    f"ref {r['reference']:+.8e} feas {r['feasibility']:.1e} stat {r['stationarity']:.1e} "
                    f"it {r['iterations']:4d}/{r['ipopt_iterations']:4d} compile {r['compile_seconds']:5.1f}s "
                    f"solve {1e3 * r['solve_seconds']:8.2f}ms{flag}",
                    flush=True,
                )
            results.append(r)
            if arguments.out:
                with open(arguments.out, "a") as stream:
                    stream.write(json.dumps(r, default=float) + "\n")
    results.sort(key=lambda r: r["name"])
    report(results, arguments.set)
    return 0


if __name__ == "__main__":
    sys.exit(main())
