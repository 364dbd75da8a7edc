"""The host doors beside cyipopt and SciPy: time per solve through the same NumPy callbacks, answers, and cold starts.

    python -m benchmarks.host                 # the open Hock-Schittkowski set, then cold starts
    python -m benchmarks.host --names HS71 HS35 --rounds 9
    python -m benchmarks.host --cold          # cold starts alone

Needs cyipopt for the ratios to it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COLD = """
import time
begin = time.perf_counter()
import numpy as np, pounce
imported = time.perf_counter()
from benchmarks.peers import HS071
events = []
import jax
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: events.append(name) if name.endswith("backend_compile_duration") else None)
def solve():
    problem = pounce.Problem(4, 2, HS071(), lb=[1.0] * 4, ub=[5.0] * 4, cl=[25.0, 40.0], cu=[2e19, 40.0])
    problem.add_option("print_level", 0)
    assert problem.solve(np.array([1.0, 5.0, 5.0, 1.0]))[1]["status"] == 0
solve()
first = time.perf_counter()
count = len(events)
class Other:
    objective = staticmethod(lambda x: float(np.sum((x - 2.0) ** 2)))
    gradient = staticmethod(lambda x: 2.0 * (x - 2.0))
    constraints = staticmethod(lambda x: np.array([x[0] * x[1], x[2] + x[3]]))
    jacobian = staticmethod(lambda x: np.array([x[1], x[0], 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]))
    hessianstructure = staticmethod(lambda: ([0, 1, 2, 3, 1], [0, 1, 2, 3, 0]))
    hessian = staticmethod(lambda x, y, w: np.array([2.0 * w, 2.0 * w, 2.0 * w, 2.0 * w, y[0]]))
other = pounce.Problem(4, 2, Other(), cl=[-1.0, -5.0], cu=[1.0, 5.0])
other.add_option("print_level", 0)
second = time.perf_counter()
assert other.solve(np.ones(4))[1]["status"] == 0
print(imported - begin, first - imported, time.perf_counter() - second, len(events) - count)
"""


def cold_starts() -> None:
    """First solve of a process, without and with the persistent cache, and another problem of the same padded shape."""
    with tempfile.TemporaryDirectory() as folder:
        plain = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "POUNCE_CACHE_DIR")}
        cached = plain | {"POUNCE_CACHE_DIR": folder}
        for name, environment in (
            ("no cache", plain | {"POUNCE_CACHE_DIR": "0"}),
            ("filling the cache", cached),
            ("from the cache", cached),
        ):
            run = subprocess.run(
                [sys.executable, "-c", COLD], env=environment, capture_output=True, text=True, check=True
            )
            imports, first, second, compiled = run.stdout.split()
            print(
                f"{name:18s} import {float(imports):5.2f} s  first solve {float(first):5.2f} s  "
                f"another problem of the shape {1e3 * float(second):6.1f} ms, {compiled} compilations"
            )


def callbacks(p):
    """NumPy callbacks of a problem of the collection, compiled and warm."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def compiled(function):
        jitted = jax.jit(function)
        return lambda *arguments: np.asarray(jitted(*arguments))

    lower = np.tril_indices(p.n)

    def lagrangian(x, y, weight):
        return weight * p.f(x) + (0.0 if p.g is None else y @ p.g(x))

    class Callbacks:
        pass

    c = Callbacks()
    c.objective = compiled(p.f)
    c.gradient = compiled(jax.grad(p.f))
    if p.g is not None:
        c.constraints = compiled(p.g)
        c.jacobian = compiled(lambda x: jax.jacfwd(p.g)(x).ravel())
        c.jacobianstructure = lambda: (np.repeat(np.arange(p.m), p.n), np.tile(np.arange(p.n), p.m))
    c.hessianstructure = lambda: lower
    c.hessian = compiled(lambda x, y, weight: jax.hessian(lagrangian)(x, jnp.asarray(y), weight)[lower])
    return c


def timed(function, rounds: int):
    """The result, and the median time of ``rounds`` calls."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begin)
    return result, statistics.median(times)


def compare(name: str, rounds: int) -> dict | None:
    """One problem through `pounce.Problem`, cyipopt and SLSQP."""
    import numpy as np
    import scipy.optimize

    import pounce

    from .data import load_problem, nlp_problems

    problems = nlp_problems()
    assert problems is not None
    p = load_problem(problems, name)
    c = callbacks(p)
    data = dict(n=p.n, m=p.m, problem_obj=c, lb=p.lb, ub=p.ub, cl=p.cl, cu=p.cu)
    ours = pounce.Problem(**data)
    solvers = {"ours": lambda: ours.solve(p.x0)}
    ours.add_option("print_level", 0)
    try:
        import cyipopt  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        finite = {key: np.clip(data[key], -2e19, 2e19) for key in ("lb", "ub", "cl", "cu")}
        theirs = cyipopt.Problem(**(data | finite))
        theirs.add_option("print_level", 0)
        theirs.add_option("sb", "yes")
        solvers["cyipopt"] = lambda: theirs.solve(p.x0)
    rows = []
    if p.g is not None:
        for i in range(p.m):
            equal = p.cl[i] == p.cu[i]
            sides = [(1.0, p.cl[i])] if equal else [(1.0, p.cl[i]), (-1.0, p.cu[i])]
            for sign, bound in sides:
                if abs(bound) < 1e19:
                    rows.append(
                        {
                            "type": "eq" if equal else "ineq",
                            "fun": lambda x, i=i, s=sign, b=bound: s * (c.constraints(x)[i] - b),
                            "jac": lambda x, i=i, s=sign: s * c.jacobian(x).reshape(p.m, p.n)[i],
                        }
                    )
    bounds = scipy.optimize.Bounds(p.lb, p.ub)
    solvers["slsqp"] = lambda: scipy.optimize.minimize(
        c.objective, p.x0, jac=c.gradient, bounds=bounds, constraints=rows, method="SLSQP", options={"maxiter": 500}
    )
    for solve in solvers.values():
        solve()
    results = {key: timed(solve, rounds) for key, solve in solvers.items()}
    answer = dict(name=name, ours=results["ours"][1], slsqp=results["slsqp"][1], slsqp_ok=results["slsqp"][0].success)
    x, info = results["ours"][0]
    answer |= dict(status=info["status"], iterations=info["iter_count"], objective=info["obj_val"])
    if "cyipopt" in results:
        (x2, info2), seconds = results["cyipopt"]
        counter = _count_iterations(data, p, finite)
        size = 1 + float(np.max(np.abs(x2)))
        answer |= dict(
            cyipopt=seconds, their_status=info2["status"], their_objective=info2["obj_val"], their_iterations=counter,
            x_distance=float(np.max(np.abs(x - x2))) / size,
            multiplier_distance=float(np.max(np.abs(info["mult_g"] - info2["mult_g"]), initial=0.0)),
        )  # fmt: skip
    return answer


def _count_iterations(data, p, finite) -> int:
    """cyipopt's info does not say how many iterations there were."""
    import cyipopt  # pyright: ignore[reportMissingImports]

    seen = []
    data["problem_obj"].intermediate = lambda _, iteration, *rest: seen.append(iteration) or True
    problem = cyipopt.Problem(**(data | finite))
    problem.add_option("print_level", 0)
    problem.add_option("sb", "yes")
    problem.solve(p.x0)
    del data["problem_obj"].intermediate
    return max(seen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    if arguments.cold:
        cold_starts()
        return 0
    import jax

    jax.config.update("jax_enable_x64", True)
    from .data import nlp_problems
    from .nlp import chosen_names

    problems = nlp_problems()
    if problems is None:
        print("no problem collection found; set POUNCE_BENCH_DATA")
    else:
        rows = []
        for name in arguments.names or chosen_names("hs", problems, 0):
            r = compare(name, arguments.rounds)
            rows.append(r)
            peer = same = ""
            if "cyipopt" in r:
                peer = f"cyipopt {1e3 * r['cyipopt']:7.2f} ms ratio {r['ours'] / r['cyipopt']:5.2f}"
                same = f"it {r['iterations']}/{r['their_iterations']} dx {r['x_distance']:.0e} dy {r['multiplier_distance']:.0e}"
            print(
                f"{name:10s} status {r['status']} ours {1e3 * r['ours']:7.2f} ms {peer} SLSQP ratio "
                f"{r['ours'] / r['slsqp']:5.2f} {same}",
                flush=True,
            )
            jax.clear_caches() if len(rows) % 20 == 0 else None
        if rows and "cyipopt" in rows[0]:
            ratios = [r["ours"] / r["cyipopt"] for r in rows]
            print(
                f"\nours / cyipopt: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}"
            )
            differ = [r["name"] for r in rows if abs(r["iterations"] - r["their_iterations"]) > 2]
            print(f"iterations differ by more than 2: {differ}")
            print(f"status differs: {[r['name'] for r in rows if r['status'] != r['their_status']]}")
            print(f"x differs by more than 1e-5: {[r['name'] for r in rows if r['x_distance'] > 1e-5]}")
        if rows:
            print(f"ours / SLSQP: median {statistics.median(r['ours'] / r['slsqp'] for r in rows):.2f}")
    cold_starts()
    return 0


if __name__ == "__main__":
    sys.exit(main())
