"""Large sparse nonlinear programs: objective, iterations and time beside Ipopt's, from the manifests of the collections.

    python -m benchmarks.sparse_nlp                            # structured problems, and networks of up to 300 buses
    python -m benchmarks.sparse_nlp --set structured opf --most inf
    python -m benchmarks.sparse_nlp --names robot-80 pglib_opf_case30_ieee
    python -m benchmarks.sparse_nlp --scenarios 64             # loads of a network of 30 buses, in one vmap

Prepare: reading the patterns, colouring, analysing the KKT matrix. Compile: the first solve less a second one. Run: the median of
three solves with everything compiled. Objectives must agree to 1e-5, relative. Where cyipopt is installed it solves the same
problems in the same run, with the same compressed derivatives; otherwise its figures are those of the manifest.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
OBJECTIVE_TOLERANCE = 1e-5


def cases(sets: list[str], most: float):
    """``(name, build, reference objective, Ipopt's iterations, Ipopt's seconds)`` of each case."""
    from .data import data_folder

    folder = data_folder()
    if folder is None:
        return
    if "structured" in sets:
        sys.path.insert(0, str(folder / "structured"))
        import structured_nlp  # pyright: ignore[reportMissingImports]

        for row in json.loads((folder / "structured" / "manifest.json").read_text()):
            build = lambda row=row: structured_nlp.PROBLEMS[row["name"]](N=row["N"])
            yield f"{row['name']}-{row['N']}", build, row["ipopt_obj"], row["ipopt_iter"], row["ipopt_time"]
    if "opf" in sets:
        sys.path.insert(0, str(folder / "opf"))
        import acopf  # pyright: ignore[reportMissingImports]

        rows = json.loads((folder / "opf" / "manifest.json").read_text())
        for row in rows:
            if row.get("n", float("inf")) > most:
                continue
            build = lambda row=row: acopf.build(acopf.load(folder / "opf" / f"{row['name']}.npz"))
            yield row["name"], build, row.get("ipopt_obj"), row.get("ipopt_iter"), row.get("ipopt_time")


def solve_one(p, options: dict, with_peer: bool = True) -> dict:
    """Prepare, compile and solve; figures by name."""
    import jax
    import numpy as np

    import pounce
    from pounce.nlp import prepare

    from . import sparse_peers

    rows = {} if p.c is None else dict(g=lambda x, _: p.c(x), cl=p.cl, cu=p.cu)
    problem = pounce.NLP(lambda x, _: p.f(x), lb=p.lb, ub=p.ub, **rows, sparse=True)
    solver = pounce.InteriorPoint(**options)
    begin = time.perf_counter()
    program, data = prepare(problem, solver, np.asarray(p.x0))
    prepared = time.perf_counter() - begin
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        solution = jax.block_until_ready(pounce.solve(problem, solver, np.asarray(p.x0)))
        times.append(time.perf_counter() - begin)
    run = statistics.median(times[1:])
    peer = None
    if with_peer and sparse_peers.available():
        peer = sparse_peers.solve(p, program.structure, {})
    jax.clear_caches()
    return dict(
        n=p.x0.size,
        m=0 if p.c is None else p.cl.size,
        colors=(program.structure.jacobian.count, program.structure.hessian.count),
        solver=type(program.method.linear_solver).__name__,
        status=int(solution.status),
        objective=float(solution.objective),
        violation=float(solution.residuals.constraint_violation),
        iterations=int(solution.stats.iterations),
        prepare_s=prepared,
        compile_s=times[0] - run,
        run_s=run,
        peer=None if peer is None else peer._asdict(),
    )


def scenarios(count: int) -> dict:
    """Seconds of one solve, and of each of ``count`` solves in one `vmap`, of a network under loads scaled bus by bus."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import pounce

    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))
    import optimal_power_flow as opf  # pyright: ignore[reportMissingImports]

    network = opf.read_case(pathlib.Path(opf.__file__).with_name("case30.m"))
    problem, x0 = opf.optimal_power_flow(network)
    factors = np.random.default_rng(0).uniform(0.8, 1.0, (count, 1, network.load.shape[1]))
    loads = jnp.asarray(factors * network.load)
    one = jax.jit(lambda loads: pounce.solve(problem, pounce.InteriorPoint(), x0, loads))
    all_ = jax.jit(jax.vmap(one))

    def seconds(function, argument):
        jax.block_until_ready(function(argument))
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            jax.block_until_ready(function(argument))
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    single = statistics.median(seconds(one, loads[k]) for k in range(min(count, 5)))
    batch = seconds(all_, loads)
    solved = np.asarray(all_(loads).status)
    return dict(single_s=single, lane_s=batch / count, ratio=batch / count / single, solved=int(np.sum(solved == 0)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="*", default=["structured", "opf"], choices=["structured", "opf"])
    parser.add_argument("--most", type=float, default=6000, help="variables of the largest network, or inf")
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--scenarios", type=int, metavar="COUNT", help="only the batch of loads")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", metavar="FILE", help="one JSON line per problem")
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    if arguments.scenarios:
        r = scenarios(arguments.scenarios)
        print(
            f"30 buses: one solve {1e3 * r['single_s']:.1f} ms, {arguments.scenarios} in a vmap {1e3 * r['lane_s']:.1f} ms each "
            f"(ratio {r['ratio']:.2f}), {r['solved']} solved"
        )
        return 0
    options = dict(pair.split("=", 1) for pair in arguments.options)
    print(
        f"{'problem':32s} {'n':>6s} {'m':>6s} {'colours':>8s} {'solver':>10s} {'status':>6s} "
        f"{'objective':>14s} {'rel. error':>10s} "
        f"{'iterations (Ipopt)':>18s} {'prepare s':>9s} {'compile s':>9s} {'run s':>8s} {'Ipopt s':>8s}"
    )
    good = total = 0
    iteration_ratios, time_ratios = [], []
    for name, build, reference, iterations, seconds in cases(arguments.set, arguments.most):
        if arguments.names and name not in arguments.names:
            continue
        total += 1
        try:
            r = solve_one(build(), options, not arguments.no_peer)
        except Exception as error:
            print(f"{name:32s} {type(error).__name__}: {str(error)[:120]}", flush=True)
            continue
        if r["peer"] is not None:
            iterations, seconds = r["peer"]["iterations"], statistics.median(r["peer"]["seconds"])
            reference = r["peer"]["objective"] if reference is None else reference
            time_ratios.append(r["run_s"] / seconds)
        if iterations:
            iteration_ratios.append(r["iterations"] / iterations)
        error = abs(r["objective"] - reference) / max(1.0, abs(reference)) if reference is not None else float("nan")
        fine = r["status"] in (0, 1) and error <= OBJECTIVE_TOLERANCE
        good += fine
        print(
            f"{name:32s} {r['n']:6d} {r['m']:6d} {'{}/{}'.format(*r['colors']):>8s} {r['solver'][:10]:>10s} {r['status']:6d} "
            f"{r['objective']:14.7g} {error:10.1e} {r['iterations']:10d} ({iterations!s:>5s}) {r['prepare_s']:9.2f} "
            f"{r['compile_s']:9.2f} {r['run_s']:8.3f} {seconds if seconds is not None else float('nan'):8.2f}"
            f"{'' if fine else '  <--'}",
            flush=True,
        )
        if arguments.out:
            with open(arguments.out, "a") as out:
                out.write(json.dumps(dict(name=name, reference=reference, ipopt_iterations=iterations, **r)) + "\n")
    print(f"{good} of {total} with Ipopt's objective")
    for what, ratios in (("iterations", iteration_ratios), ("seconds of a solve", time_ratios)):
        if ratios:
            ratios.sort()
            print(
                f"{what}, ratio to Ipopt: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
            )
    return 0 if good == total else 1


if __name__ == "__main__":
    sys.exit(main())
