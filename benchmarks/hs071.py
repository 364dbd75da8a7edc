"""Cost of HS071: one compiled solve, a batch, and gradients, as ratios to cyipopt in the same run where that is installed.

python -m benchmarks.hs071 [--lanes 4096] [--rounds 7]
"""

import argparse
import os
import sys
import time


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--linear-solver", default="auto")
    arguments = parser.parse_args()

    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    import pounce
    from pounce._compile import compiler_options

    from .peers import cyipopt_hs071

    solver = pounce.InteriorPoint(linear_solver=arguments.linear_solver)
    x0 = jnp.array([1.0, 5.0, 5.0, 1.0])
    compiles = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiles.append(seconds) if name.endswith("backend_compile_duration") else None
    )

    def solve(p, options=solver):
        problem = pounce.NLP(
            lambda x, _: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
            lambda x, _: jnp.stack([jnp.prod(x), jnp.sum(x * x)]),
            lb=1.0,
            ub=5.0,
            cl=jnp.stack([p, jnp.full_like(p, 40.0)]),
            cu=jnp.array([jnp.inf, 40.0]),
        )
        return pounce.solve(problem, options, x0)

    def jit(function):
        return jax.jit(function, compiler_options=compiler_options())

    def first_call(function, argument):
        begin = time.perf_counter()
        jax.block_until_ready(function(argument))
        return time.perf_counter() - begin

    def median_time(function, argument, repeats):
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            jax.block_until_ready(function(argument))
            times.append(time.perf_counter() - begin)
        return float(np.median(times))

    cost = lambda p: jnp.sum(solve(p).x ** 2)
    one, batch = jnp.array(25.0), jnp.linspace(24.0, 26.0, arguments.lanes)
    rows = [
        ("one solve, whole Solution", jit(solve), one, 50, 1),
        ("one solve, x alone", jit(lambda p: solve(p).x), one, 50, 1),
        ("value and gradient", jit(jax.value_and_grad(cost)), one, 50, 1),
        (f"vmap({arguments.lanes})", jit(jax.vmap(cost)), batch, 3, arguments.lanes),
        (
            f"vmap({arguments.lanes}) value and gradient",
            jit(jax.vmap(jax.value_and_grad(cost))),
            batch,
            3,
            arguments.lanes,
        ),
    ]
    first = [first_call(function, argument) for _, function, argument, _, _ in rows]
    # A round measures everything once, so that a slow moment of the machine falls on the peer and on us alike.
    rounds = []
    for _ in range(arguments.rounds):
        peer = cyipopt_hs071()
        rounds.append([peer, *(median_time(f, argument, k) / lanes for _, f, argument, k, lanes in rows)])
    if rounds[0][0]:
        print(f"cyipopt: {1e6 * np.median([r[0] for r in rounds]):.0f} us per solve")
    else:
        print("cyipopt is not installed: no ratios")
    for k, (row, compile_time) in enumerate(zip(rows, first), start=1):
        each = float(np.median([r[k] for r in rounds]))
        ratio = f"  cyipopt / ours {np.median([r[0] / r[k] for r in rounds]):8.1f}" if rounds[0][0] else ""
        print(f"{row[0]:36s} first call {compile_time:6.2f} s   then {1e6 * each:9.1f} us per solve{ratio}")
    backward_over_forward = np.median([r[5] / r[4] for r in rounds])
    print(f"vmap(value and gradient) / vmap(value): {backward_over_forward:.2f}")

    step = pounce.NLP(lambda x, p: jnp.sum((x - p) ** 2), lb=0.0)
    pounce.solve(step, solver, jnp.ones(3), jnp.zeros(3))
    before = len(compiles)
    for k in range(5):
        changed = pounce.NLP(step.f, lb=jnp.full(3, -0.5 * k), ub=jnp.full(3, 1.0 + k))
        options = pounce.InteriorPoint(
            linear_solver=arguments.linear_solver, tol=10.0 ** (-6 - k % 3), mu_init=0.1 / (k + 1)
        )
        jax.block_until_ready(pounce.solve(changed, options, jnp.full(3, float(k)), jnp.full(3, 0.1 * k)))
    solves = [s for s in compiles[before:] if s > 0.2]
    print(f"compilations of the solver when p, x0, bounds, tol and mu_init change: {len(solves)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
