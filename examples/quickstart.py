"""The main job in one script: solve, solve four thousand at once, differentiate, and say how long it took.

Run with `make demo`.
"""

import json
import os


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pathlib
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

import pounce


jax.config.update("jax_enable_x64", True)
LANES = 4096


def f(x, p):
    return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]


def g(x, p):
    return jnp.array([jnp.prod(x), jnp.sum(x**2) - p])


# Hock-Schittkowski 71: min f  s.t.  prod(x) >= 25,  sum(x^2) = p,  1 <= x <= 5.
PROBLEM = pounce.NLP(f, g, lb=1.0, ub=5.0, cl=jnp.array([25.0, 0.0]), cu=jnp.array([jnp.inf, 0.0]))
SOLVER = pounce.InteriorPoint()
X0 = jnp.array([1.0, 5.0, 5.0, 1.0])


def solve(p):
    return pounce.solve(PROBLEM, SOLVER, X0, p)


def cost(p):
    return jnp.sum(solve(p).x ** 3)


def timed(what, function, *arguments, repeats=5):
    """First call (trace, compile, run) and the median of later ones, in seconds. A first call that takes long is spoken of."""
    message = f"  ... compiling {what} for 4 variables, 2 rows: seconds on a fast core, up to a minute on a slow one"
    timer = threading.Timer(2.0, print, [message], {"file": sys.stderr, "flush": True})
    timer.start()
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    first = time.perf_counter() - begin
    timer.cancel()
    later = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        later.append(time.perf_counter() - begin)
    return result, first, float(np.median(later))


def cyipopt_seconds():
    """One solve through cyipopt with NumPy callbacks, where that and the benchmarks are at hand."""
    try:
        from benchmarks.peers import cyipopt_hs071
    except ImportError:
        return None
    return cyipopt_hs071()


def main() -> int:
    print(f"pounce {pounce.__version__} on {jax.devices()[0].platform}, float64\n", flush=True)
    p = jnp.array(40.0, dtype=float)
    solution, first_one, one = timed("one solve", solve, p, repeats=50)
    print(f"HS071: f = {float(solution.objective):.7f}, x = {np.asarray(solution.x).round(6)}")
    status, iterations = pounce.Status(int(solution.status)), int(solution.stats.iterations)
    print(f"       {status.name} in {iterations} iterations", flush=True)
    assert abs(float(solution.objective) - 17.0140173) < 1e-6

    batch = jnp.linspace(38.0, 42.0, LANES)
    many, first_many, all_many = timed(f"a batch of {LANES} solves", jax.vmap(solve), batch)
    print(f"\n{LANES} values of p in one vmap: {int(jnp.sum(many.success))} solved", flush=True)
    assert bool(jnp.all(many.success))

    # Called without `jit`, it shares the program of the solve above, and compiles its derivative alone.
    both = jax.value_and_grad(cost)
    (_, derivative), first_gradient, one_gradient = timed("value and gradient", both, p, repeats=20)
    h = 1e-4
    difference = (both(p + h)[0] - both(p - h)[0]) / (2 * h)
    print(f"\nd(sum x^3)/dp = {float(derivative):.8f}, central difference {float(difference):.8f}")
    assert abs(float(derivative)) > 0.1 and abs(float(derivative - difference)) < 1e-5

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    real_problem()

    peer = cyipopt_seconds()
    print("\n                          first call        later, per solve")
    table = [
        ("one solve", first_one, one),
        (f"vmap of {LANES}", first_many, all_many / LANES),
        ("value and gradient, no jit", first_gradient, one_gradient),
    ]
    for name, first, later in table:
        ratio = f"   1/{peer / later:.0f} of cyipopt" if peer else ""
        print(f"{name:24s} {first:9.2f} s  {1e6 * later:14.1f} us{ratio}")
    if peer:
        print(f"{'cyipopt':24s} {'':9s}    {1e6 * peer:14.1f} us")
    print("\nA first call compiles. The doors for NumPy keep what they compiled for the next process,")
    print("and `pounce.cache.enable()` at the start of a program keeps what the doors for JAX compile.")
    return 0


def real_problem(name: str = "QAFIRO"):
    """A Maros-Meszaros quadratic program of the benchmark collection, where that is at hand."""
    from benchmarks.data import data_folder

    folder = data_folder()
    if folder is None or not (folder / "qp" / f"{name}.npz").is_file():
        return
    sys.path.insert(0, str(folder))
    import readers

    qp = readers.load_qp(folder / "qp" / f"{name}.npz")
    hessian, linear, rows_matrix = jnp.asarray(qp["P"].toarray()), jnp.asarray(qp["q"]), jnp.asarray(qp["A"].toarray())
    problem = pounce.NLP(
        lambda x, _: 0.5 * x @ hessian @ x + linear @ x + qp["c0"],
        lambda x, _: rows_matrix @ x,
        lb=qp["lb"],
        ub=qp["ub"],
        cl=qp["cl"],
        cu=qp["cu"],
    )
    solution = pounce.solve(problem, SOLVER, jnp.zeros(linear.shape[0]))
    reference = next(
        row["ref_obj"] for row in json.loads((folder / "qp" / "manifest.json").read_text()) if row["name"] == name
    )
    print(
        f"\n{name} (n = {linear.shape[0]}, m = {rows_matrix.shape[0]}): f = {float(solution.objective):.7f}, "
        f"reference {reference:.7f}, {pounce.Status(int(solution.status)).name} "
        f"in {int(solution.stats.iterations)} iterations"
    )
    assert abs(float(solution.objective) - reference) < 1e-5 * max(1.0, abs(reference))


if __name__ == "__main__":
    sys.exit(main())
