"""Sparse against dense derivatives and solves on a banded family: colours, times and their ratios.

    python -m benchmarks.sparse_ad                          # n = 800, 2000, 5000 and, sparse only, 100 000
    python -m benchmarks.sparse_ad --sizes 800 --rounds 20
    python -m benchmarks.sparse_ad --markdown

Each size runs in a process of its own. Detection is reading the patterns and colouring them; analysis, that of the KKT matrix.
Compile times are first calls less a median one. Evaluations and solves are medians with everything compiled. Dense solves stop
at ``--dense-solve`` variables, dense derivatives at ``--dense``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks import banded


SIZES = (800, 2000, 5000, 100_000)
# What the page of the Python API shows: Jacobian, Hessian, full solve.
PAGE = {800: (6.2, 2.0, 1.3), 2000: (18.4, 5.4, 7.6), 5000: (560.0, 200.0, None)}


def compared(functions: dict, rounds: int, enough: float = 10.0) -> tuple[dict, dict]:
    """Median seconds of each function, and of its first call beyond that. At most ten times ``rounds`` calls, and no more than
    ``rounds`` of what takes a millisecond; none after ``enough`` seconds."""
    import jax

    def once(function) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - begin

    median, compiling = {}, {}
    for name, function in functions.items():  # not in turn: a dense matrix leaves nothing of another's caches
        first = once(function)
        times = [once(function)]
        while sum(times) < enough and len(times) < rounds * (10 if statistics.median(times) < 1e-3 else 1):
            times.append(once(function))
        median[name] = statistics.median(times)
        compiling[name] = max(0.0, first - median[name])
    return median, compiling


def measure(n: int, rounds: int, dense: bool, dense_solve: bool) -> dict:
    """Everything about one size."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    import pounce
    from pounce._linalg.choice import sparse_solver
    from pounce._problem.compressed import sparse_hessian, sparse_jacobian
    from pounce._problem.sparse_nlp import find_structure

    x, y, p, solver = jnp.asarray(banded.start(n)), jnp.ones(n - 1), 1.0, pounce.InteriorPoint()

    def lagrangian(x, y):
        return banded.objective(x, p) + y @ banded.rows(x, p)

    clock = [time.perf_counter()]
    structure = find_structure(lambda x: (banded.objective(x, p), banded.rows(x, p)), x)
    clock.append(time.perf_counter())
    sparse_solver("auto", structure.hessian.pattern, structure.jacobian.pattern)
    clock.append(time.perf_counter())
    figures: dict = dict(
        n=n,
        colors=(structure.jacobian.count, structure.hessian.count),
        detection=clock[1] - clock[0],
        analysis=clock[2] - clock[1],
    )
    evaluations = {
        "jacobian": jax.jit(lambda x: sparse_jacobian(banded.rows, x, structure.jacobian, p).values),
        "hessian": jax.jit(lambda x: sparse_hessian(lagrangian, x, structure.hessian, y).values),
    }
    plain = {
        "jacobian": jax.jit(lambda x: jax.jacfwd(banded.rows)(x, p)),
        "hessian": jax.jit(lambda x: jax.hessian(lagrangian)(x, y)),
    }
    for name, function in evaluations.items():
        pair = {"sparse": lambda f=function: f(x)}
        if dense:
            pair["dense"] = lambda f=plain[name]: f(x)
        figures[name], figures[name + "_compile"] = compared(pair, rounds)

    kinds = ("sparse", "dense") if dense_solve else ("sparse",)
    problems = {kind: banded.problem(kind == "sparse") for kind in kinds}
    solves = {kind: lambda q=problem: pounce.solve(q, solver, x, p) for kind, problem in problems.items()}
    figures["solve"], figures["solve_compile"] = compared(solves, rounds)
    solutions = {kind: solve() for kind, solve in solves.items()}
    figures["status"] = {kind: int(s.status) for kind, s in solutions.items()}
    figures["iterations"] = {kind: int(s.stats.iterations) for kind, s in solutions.items()}
    if dense_solve:
        figures["apart"] = float(np.max(np.abs(solutions["sparse"].x - solutions["dense"].x)))
    return figures


def ratio(pair: dict) -> float | None:
    """How many times as long the dense one takes."""
    return pair["dense"] / pair["sparse"] if "dense" in pair else None


def shown(pair: dict, page: float | None) -> str:
    """Sparse and dense milliseconds, their ratio, and that of the page."""
    if "dense" not in pair:
        return f"{1e3 * pair['sparse']:.3g} / -"
    text = f"{1e3 * pair['sparse']:.3g} / {1e3 * pair['dense']:.3g} = {ratio(pair):.3g} x"
    return text if page is None else f"{text} ({page:g})"


def row(r: dict) -> list[str]:
    """One line of the table."""
    page = PAGE.get(r["n"], (None,) * 3)
    compiling = " / ".join(
        f"{r[name]['sparse']:.1f}" for name in ("jacobian_compile", "hessian_compile", "solve_compile")
    )
    return [
        str(r["n"]),
        "{} / {}".format(*r["colors"]),
        *(shown(r[name], bar) for name, bar in zip(("jacobian", "hessian", "solve"), page)),
        f"{r['detection']:.2f}",
        f"{r['analysis']:.2f}",
        compiling,
        str(r["iterations"]["sparse"]),
    ]


HEADER = [
    "n",
    "colours J / H",
    "Jacobian: sparse / dense ms = ratio (page)",
    "Hessian",
    "solve",
    "detection s",
    "analysis s",
    "compile s, sparse: J / H / solve",
    "iterations",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dense", type=int, default=5000, help="most variables for dense derivatives")
    parser.add_argument("--dense-solve", type=int, default=2000, help="most variables for dense solves")
    parser.add_argument("--markdown", action="store_true", help="print the table of benchmarks/results")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        (n,) = arguments.sizes
        figures = measure(n, arguments.rounds, n <= arguments.dense, n <= arguments.dense_solve)
        print(json.dumps(figures))
        return 0
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # compile times are to be seen
    join = lambda cells: "| " + " | ".join(cells) + " |" if arguments.markdown else "   ".join(cells)
    print(join(HEADER), flush=True)
    if arguments.markdown:
        print(join(["---"] * len(HEADER)), flush=True)
    good = True
    for n in arguments.sizes:
        command = [sys.executable, "-m", "benchmarks.sparse_ad", "--child", "--sizes", str(n)]
        command += ["--rounds", str(arguments.rounds), "--dense", str(arguments.dense)]
        command += ["--dense-solve", str(arguments.dense_solve)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"{n}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            good = False
            continue
        r = json.loads(done.stdout.splitlines()[-1])
        print(join(row(r)), flush=True)
        measured = [ratio(r[name]) for name in ("jacobian", "hessian", "solve")]
        bars = PAGE.get(n, (None,) * 3)
        good &= all(a is None or b is None or a >= b for a, b in zip(measured, bars))
        good &= all(status == 0 for status in r["status"].values()) and r.get("apart", 0.0) < 1e-6
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
