"""Trace and compile time of a first solve, n = 5 to 50, each in a fresh process, without and with the persistent cache.

python -m benchmarks.compile_time [--sizes 5 20 50]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile


CHILD = """
import json, sys, time
begin = time.perf_counter()
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import pounce
imported = time.perf_counter()
n = int(sys.argv[1])
m = max(1, n // 2)
def f(x, p):
    return jnp.sum((x - p) ** 2) + 0.1 * jnp.sum(jnp.sin(x[1:] * x[:-1]))
def g(x, p):
    return x[:m] ** 2 + x[n - m:] - 0.5
problem = pounce.NLP(f, g, lb=-2.0, ub=2.0, cl=jnp.where(jnp.arange(m) % 2 == 0, 0.0, -jnp.inf), cu=jnp.zeros(m))
solver = pounce.InteriorPoint()
ready = time.perf_counter()
solution = jax.block_until_ready(pounce.solve(problem, solver, jnp.full(n, 0.3), jnp.full(n, 0.2)))
first = time.perf_counter()
jax.block_until_ready(pounce.solve(problem, solver, jnp.full(n, 0.3), jnp.full(n, 0.2)))
again = time.perf_counter()
print(json.dumps(dict(status=int(solution.status), imports=imported - begin, first=first - ready, again=again - first)))
"""


def run(n: int, cache: str | None) -> dict:
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        environment.update(JAX_COMPILATION_CACHE_DIR=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    done = subprocess.run([sys.executable, "-c", CHILD, str(n)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=[5, 20, 50])
    arguments = parser.parse_args()
    for n in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            cold = run(n, None)
            run(n, folder)
            warm = run(n, folder)
        print(
            f"n = {n:3d}: import {cold['imports']:.2f} s, first solve {cold['first']:.2f} s, "
            f"from the persistent cache {warm['first']:.2f} s, "
            f"later solves {1e3 * cold['again']:.2f} ms (status {cold['status']})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
