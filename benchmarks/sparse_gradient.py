"""A gradient through a large sparse solve: against central differences, and what it costs beyond the solve.

    python -m benchmarks.sparse_gradient [--n 10000]

The unit of cost is one factorisation of the KKT matrix and one solve with it, timed by themselves. So is what a gradient adds to
its solve.
"""

import argparse
import statistics
import sys
import time

from benchmarks import banded


def timed(function, *arguments) -> float:
    """Seconds of a call whose results are waited for."""
    import jax

    begin = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - begin


def measure(n: int, rounds: int) -> dict:
    """Errors and times of the banded problem with `n` variables and as many parameters."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    import pounce
    from pounce._adjoint import nonlinear
    from pounce._adjoint.nonlinear import Inputs
    from pounce._adjoint.rule import differentiable_solve
    from pounce._program import NO_BOUND
    from pounce._solve import solve_and_keep
    from pounce.nlp import prepare

    problem, solver, x0 = banded.problem(sparse=True), pounce.InteriorPoint(tol=1e-10), banded.start(n)
    p = jnp.asarray(0.7 + 0.4 * np.sin(np.arange(n)))

    def total(p):
        return jnp.sum(pounce.solve(problem, solver, x0, p).x ** 2)

    forward, both = jax.jit(total), jax.jit(jax.value_and_grad(total))
    gradient = both(p)[1]
    direction, step = jnp.cos(3.0 * jnp.arange(n)), 1e-6
    difference = (forward(p + step * direction) - forward(p - step * direction)) / (2 * step)

    program, data = prepare(problem, solver, x0, p)
    kkt_solver = eqx.combine(program.method.linear_solver, data.tables)

    @jax.jit
    def last_pass(data):
        """The linear system of the derivative, and whether the factor of the solve serves."""
        inputs = Inputs(program.nlp(data), data.start.bounds, data.tables)
        method = eqx.tree_at(lambda m: m.linear_solver, program.method, kkt_solver)
        solution, (kept,) = solve_and_keep(method, inputs.nlp, data.start)
        lin = nonlinear.linearize(inputs.nlp, solution, inputs.bounds, NO_BOUND, 0.0)
        return solution, kept, lin.operator, nonlinear.reused(kept, lin)[1]

    @jax.jit
    @jax.grad
    def rest_of_gradient(p, data, solution, kept):
        """Of `total`, by the derivative rule of a solve that has been made."""
        inputs = Inputs(program.nlp(eqx.tree_at(lambda d: d.parameters, data, p)), data.start.bounds, data.tables)

        def tangent(inputs, rates, solution, kept):
            return nonlinear.tangent(inputs, rates, solution, kept, kkt_solver, NO_BOUND, 0.0)

        made = differentiable_solve(
            lambda _, rest: rest[0], inputs, (solution, kept), nonlinear.solved, nonlinear.outputs, tangent, "zero",
            lambda _, rest: (rest[0], rest[1:]),
        )  # fmt: skip
        return jnp.sum(made.x**2)

    solution, kept, operator, serves = last_pass(data)
    same = float(jnp.max(jnp.abs(rest_of_gradient(p, data, solution, kept) - gradient)))
    assert same <= 1e-9 * float(jnp.max(jnp.abs(gradient))), same
    right = (jnp.ones(n), jnp.ones(n - 1))
    kkt = jax.jit(lambda solver, operator, right: solver.compute(solver.init(operator, {}), right, {})[0])
    kkt(kkt_solver, operator, right)
    times = []
    for _ in range(rounds):  # side by side, as other loads come and go
        times.append(
            (
                timed(forward, p),
                timed(both, p),
                timed(rest_of_gradient, p, data, solution, kept),
                timed(kkt, kkt_solver, operator, right),
            )
        )
    solve_s, both_s, beyond_s, kkt_s = (statistics.median(column) for column in zip(*times))
    return dict(
        n=n,
        status=int(solution.status),
        iterations=int(solution.stats.iterations),
        held=int(np.sum(np.asarray(jnp.abs(solution.multipliers.constraints) > 1e-6))),
        serves=bool(serves),
        error=abs(float(gradient @ direction) - float(difference)) / abs(float(difference)),
        solve_s=solve_s,
        both_s=both_s,
        beyond_s=beyond_s,
        kkt_s=kkt_s,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    r = measure(arguments.n, arguments.rounds)
    print(
        f"{r['n']} variables, {r['held']} rows held, status {r['status']}, {r['iterations']} iterations\n"
        f"gradient against central differences: {r['error']:.1e} relative\n"
        f"the solve: {1e3 * r['solve_s']:.1f} ms; with its gradient: {1e3 * r['both_s']:.1f} ms; what that adds, by itself: "
        f"{1e3 * r['beyond_s']:.1f} ms; a factorisation and a solve: {1e3 * r['kkt_s']:.1f} ms\n"
        f"the gradient costs {r['beyond_s'] / r['kkt_s']:.2f} of these; factor of the solve reused: {r['serves']}"
    )
    return 0 if r["serves"] and r["error"] < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
