"""What size classes save and cost over the open LPs and QPs: how many programs are compiled, and the time of padded solves.

    python -m benchmarks.size_classes                  # the collections of `benchmarks.qp` and `benchmarks.lp`
    python -m benchmarks.size_classes --random 200     # sparse programs of random patterns and sizes instead

Both ways in one process, each solved once to compile and then ``--repeats`` times, of which the quickest counts.
"""

import argparse
import os
import statistics
import sys
import time


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
COLLECTIONS = ("qp", "qp_mpc", "lp", "lp_infeasible")


def compiled() -> int:
    """How many forms of convex programs this process has made pieces for so far."""
    from pounce._qp.kernel import kernel_for

    return kernel_for.cache_info().misses


def timed(data: dict, repeats: int):
    """The result, the seconds of the first call and the least of later ones, and how many forms were new."""
    import pounce

    before, begin = compiled(), time.perf_counter()
    result = pounce.solve_qp(**data)
    first, best = time.perf_counter() - begin, float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        pounce.solve_qp(**data)
        best = min(best, time.perf_counter() - begin)
    return result, first, best, compiled() - before


def random_programs(count: int):
    """Sparse linear and quadratic programs with a feasible point and a bounded dual, of 10 to 300 variables."""
    import numpy as np
    import scipy.sparse as sps

    for seed in range(count):
        random = np.random.default_rng(seed)
        n = int(random.integers(10, 301))
        p, m = int(random.integers(0, n // 2)), int(random.integers(0, 2 * n))
        x, density = random.normal(size=n), min(1.0, 4.0 / n)
        data: dict = dict(c=random.normal(size=n), lb=x - random.uniform(0, 2, n), ub=x + random.uniform(0, 2, n))
        if seed % 2:
            data["P"] = sps.diags_array(random.uniform(0, 2, n), format="csr")
        for name, right, rows in (("A", "b", p), ("G", "h", m)):
            if rows:
                data[name] = sps.random_array((rows, n), density=density, rng=random, format="csr")
                data[right] = data[name] @ x + (0.0 if name == "A" else random.uniform(0, 1, rows))
        yield f"random {seed}", data


def open_programs():
    """Those of the collections."""
    from .convex_data import collection

    for which in COLLECTIONS:
        for program in collection(which) or ():
            if program.expected != "not convex":
                yield program.name, program.data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, metavar="COUNT", help="programs of random patterns instead")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--padded-only", action="store_true", help="count programs, compare nothing")
    arguments = parser.parse_args()
    import numpy as np

    from pounce._qp.size_class import unpadded

    made, own, ratios, apart, different = 0, 0, [], [], []
    programs = open_programs() if arguments.random is None else random_programs(arguments.random)
    for name, data in programs:
        result, first, seconds, new = timed(data, arguments.repeats)
        made += new
        line = f"{name:14s} {result.status:18s} {result.iters:4d} {1e3 * seconds:9.2f} ms, first {first:6.2f} s{' (new)' * new}"
        if not arguments.padded_only:
            with unpadded():
                alone, _, of_alone, new = timed(data, arguments.repeats)
            own += new
            ratios.append(seconds / of_alone)
            size = max(1.0, float(np.abs(alone.x).max(initial=0.0)))
            apart.append(float(np.abs(result.x - alone.x).max(initial=0.0)) / size)
            same = (result.status, result.iters) == (alone.status, alone.iters)
            if not same:
                different.append(name)
            line += (
                f", x {ratios[-1]:.2f}, x apart {apart[-1]:.1e}{'' if same else f', not {alone.status} {alone.iters}'}"
            )
        print(line, flush=True)
    print(f"\nforms compiled: {made}", end="")
    if ratios:
        print(
            f", unpadded {own}; time padded / unpadded: median {statistics.median(ratios):.2f}, most {max(ratios):.2f}"
        )
        print(f"x apart: median {statistics.median(apart):.1e}, most {max(apart):.1e}")
        print(f"status or iterations differ: {', '.join(different) or 'none'}", end="")
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
