"""How long a person waits for the first answer of each door, without and with what an earlier process kept.

    python -m benchmarks.first_answer                     # all cases
    python -m benchmarks.first_answer --names "qp dense"  # some

Every line is a fresh process: seconds of processor and of wall-clock time from the call to the answer; what imports take stands
apart. `again`: a later solve of other numbers. Peers answer the same call where they are at hand (SciPy, cyipopt; Clarabel by
`benchmarks.convex_peers`, which solves twice), in a process of their own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _quadratic_program(seed: int) -> dict:
    import numpy as np

    random = np.random.default_rng(seed)
    root, G = random.normal(size=(12, 12)), random.normal(size=(8, 12))
    return dict(
        P=root @ root.T + np.eye(12), c=random.normal(size=12), A=np.ones((1, 12)), b=[1.0], G=G, h=np.abs(G).sum(1)
    )


def _linear_program() -> dict:
    from .convex_data import collection

    return next(program.data for program in collection("lp") or () if program.name == LP)


def _geometric_program(seed: int) -> dict:
    """The largest entropy of a distribution with given moments: exponential cones."""
    import numpy as np

    n, random = 6, np.random.default_rng(seed)
    A = np.zeros((2, 2 * n))
    A[0, n:], A[1, n:] = 1.0, random.normal(size=n)
    G, h = np.zeros((3 * n, 2 * n)), np.zeros(3 * n)
    for k in range(n):
        G[3 * k, k], G[3 * k + 1, n + k], h[3 * k + 2] = -1.0, -1.0, 1.0
    c = np.concatenate([-np.ones(n), np.zeros(n)])
    return dict(P=None, c=c, A=A, b=[1.0, A[1, n:].mean()], G=G, h=h, cones=[("exp", 3)] * n)


class HS071:
    """Problem 71 of Hock and Schittkowski (1981), to cyipopt's interface."""

    def objective(self, x):
        return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]

    def gradient(self, x):
        s = x[0] + x[1] + x[2]
        return [x[0] * x[3] + x[3] * s, x[0] * x[3], x[0] * x[3] + 1.0, x[0] * s]

    def constraints(self, x):
        return [x[0] * x[1] * x[2] * x[3], x @ x]

    def jacobian(self, x):
        product = x[0] * x[1] * x[2] * x[3]
        return [*(product / x), *(2.0 * x)]

    def hessianstructure(self):
        return [0, 1, 1, 2, 2, 2, 3, 3, 3, 3], [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]

    def hessian(self, x, y, weight):
        a, b, c, d = x
        v, w = y
        return [
            2 * weight * d + 2 * w, weight * d + v * c * d, 2 * w, weight * d + v * b * d, v * a * d, 2 * w,
            weight * (2 * a + b + c) + v * b * c, weight * a + v * a * c, weight * a + v * a * b, 2 * w,
        ]  # fmt: skip


def _hs071(module, start) -> float:
    problem = module.Problem(
        n=4, m=2, problem_obj=HS071(), lb=[1.0] * 4, ub=[5.0] * 4, cl=[25.0, 40.0], cu=[2e19, 40.0]
    )
    problem.add_option("print_level", 0)
    if module.__name__ == "cyipopt":
        problem.add_option("sb", "yes")
    _, info = problem.solve(start)
    return info["obj_val"]


def _rosenbrock(x):
    import numpy as np

    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def _unseen(seed: int) -> Callable:
    import jax.numpy as jnp

    return lambda x: jnp.sum((x[1:] - jnp.sin(x[:-1])) ** 2 + seed * jnp.cosh(x[0] - 0.5)) + jnp.logaddexp(x[0], x[1])


def _ours(name: str) -> tuple[str, Callable[[int], float]]:
    """What is to be imported, and the solve with a number for its data."""
    import numpy as np

    if name == "minimize, NumPy function":
        solve = lambda pounce, k: pounce.minimize(_rosenbrock, np.full(4, 1.2 - 0.1 * k)).fun
    elif name == "minimize, JAX function":
        solve = lambda pounce, k: pounce.minimize(_unseen(2 + k), np.full(5, 0.3)).fun
    elif name == "Problem":
        solve = lambda pounce, k: _hs071(pounce, np.array([1.0, 5.0, 5.0, 1.0]) - 0.01 * k)
    elif name == "qp dense":
        solve = lambda pounce, k: pounce.solve_qp(**_quadratic_program(k)).obj
    elif name == "lp sparse":
        data = _linear_program()
        solve = lambda pounce, k: pounce.solve_qp(**{**data, "c": (1.0 + 0.01 * k) * data["c"]}).obj
    else:
        solve = lambda pounce, k: pounce.solve_socp(**_geometric_program(k)).obj
    return "pounce", solve


def _peer(name: str) -> tuple[str, Callable[[int], float]] | None:
    import importlib.util

    import numpy as np

    if name.startswith("minimize"):
        import_name = "scipy.optimize"
        solve = lambda module, k: module.minimize(_rosenbrock, np.full(4, 1.2 - 0.1 * k)).fun
    elif name == "Problem":
        import_name, solve = "cyipopt", lambda module, k: _hs071(module, np.array([1.0, 5.0, 5.0, 1.0]) - 0.01 * k)
    else:
        import_name = "clarabel"
        made = {"qp dense": _quadratic_program, "lp sparse": lambda k: _linear_program()}.get(name, _geometric_program)

        def solve(module, k):
            from .convex_peers import clarabel

            data = made(k)
            x = clarabel(data).x
            return x @ np.asarray(data["c"]) + (0.0 if data.get("P") is None else 0.5 * x @ (data["P"] @ x))

    return (import_name, solve) if importlib.util.find_spec(import_name.split(".")[0]) else None


DOORS = {"Problem": "Problem", "qp dense": "solve_qp", "lp sparse": "solve_qp", "exponential cone": "solve_socp"}
LP = "bandm"  # of Netlib
NAMES = ("minimize, NumPy function", "minimize, JAX function", "Problem", "qp dense", "lp sparse", "exponential cone")


def child(name: str, who: str) -> None:
    """One line in this process, as a JSON object."""
    import importlib

    clocks = lambda: (time.process_time(), time.perf_counter())
    found = _ours(name) if who == "pounce" else _peer(name)
    if found is None:
        print("null")
        return
    importing = [clocks()]
    if who == "pounce":
        importlib.import_module("jax"), importlib.import_module("equinox"), importlib.import_module("lineax")
        importing.append(clocks())
    module = importlib.import_module(found[0])
    importing.append(clocks())
    if who == "pounce":
        getattr(module, DOORS.get(name, "minimize"))
    importing.append(clocks())
    marks = [clocks()]
    values = []
    for k in range(3):
        values.append(float(found[1](module, k)))
        marks.append(clocks())
    lap = lambda k: [after - before for before, after in zip(marks[k], marks[k + 1])]
    imports = [[b - a for a, b in zip(x, y)] for x, y in zip(importing, importing[1:])]
    print(json.dumps(dict(imports=imports, first=lap(0), again=lap(2), values=values)))


def measured(name: str, who: str, folder: str) -> dict | None:
    plain = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", "benchmarks.first_answer", "--child", name, who]
    done = subprocess.run(command, env=plain | {"POUNCE_CACHE_DIR": folder}, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return 0
    begin = time.perf_counter()
    total = 0
    for k in range(20_000_000):
        total += k
    print(f"20 million additions: {time.perf_counter() - begin:.1f} s; Python {platform.python_version()}")
    print(f"{'':26s} {'CPU s':>7s} {'wall s':>7s} {'again ms':>9s}   answer")
    added, doors = [], []
    for name in given.names:
        with tempfile.TemporaryDirectory() as folder:
            for how in ("without cache", "with cache"):
                row = measured(name, "pounce", folder)
                if row is not None:
                    _print(f"{name}, {how}", row)
                    added.append(row["imports"][1][1])
                    doors.append(row["imports"][2][1])
        row = measured(name, "peer", "0")
        if row is not None:
            _print("  peer", row)
    print(f"import pounce, over jax, equinox and lineax: {statistics.median(added):.3f} s (median), of a door")
    print(f"from {min(doors):.2f} to {max(doors):.2f} s more when it is first asked for, not counted above")
    return 0


def _print(name: str, row: dict) -> None:
    print(
        f"{name:40s} {row['first'][0]:7.2f} {row['first'][1]:7.2f} {1e3 * row['again'][1]:9.2f}   {row['values'][0]:.8g}"
    )


if __name__ == "__main__":
    sys.exit(main())
