"""Eager JAX doors of one program, one after the other in one process: what each compiles, and what the first call costs.

    python -m benchmarks.eager_doors            # HS071 by `pounce.jax`, a dense convex program by `pounce.solve_conic`
    python -m benchmarks.eager_doors nonlinear  # one of the two

`programs`: compiled by XLA during the first call, helpers of a few operations among them. `CPU s`: seconds of all threads.
`ms`: median time of a later call. Without a compilation cache.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


LANES, CALLS = 64, 30


class Row(NamedTuple):
    """What a door costs: programs compiled and CPU seconds of its first call, and milliseconds of a later one."""

    door: str
    programs: int
    seconds: float
    later: float


def measured(doors: dict[str, Callable[[], Any]]) -> Iterator[Row]:
    """The first call of each door, in their order, and later ones."""
    import jax

    compiled: list[str] = []

    def listener(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    for name, call in doors.items():
        before, start = len(compiled), time.process_time()
        jax.block_until_ready(call())
        row = Row(name, len(compiled) - before, time.process_time() - start, 0.0)
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            jax.block_until_ready(call())
            times.append(time.perf_counter() - start)
        yield row._replace(later=1e3 * statistics.median(times))


def nonlinear() -> dict[str, Callable[[], Any]]:
    """The doors of HS071, whose second row is ``x @ x = p``."""
    import jax
    import jax.numpy as jnp

    from pounce.jax import JaxProblem, solve, solve_with_warm, vmap_solve, vmap_solve_parallel

    def f(x, p):
        return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]

    def g(x, p):
        return jnp.stack([jnp.prod(x), x @ x - p])

    program: dict[str, Any] = dict(f=f, g=g, n=4, m=2, lb=1.0, ub=5.0, cl=[25.0, 0.0], cu=[jnp.inf, 0.0])
    x0, p, many = jnp.array([1.0, 5.0, 5.0, 1.0]), jnp.array(40.0), jnp.linspace(38.0, 42.0, LANES)

    def one(p) -> jax.Array:
        return jnp.asarray(solve(p, x0=x0, **program))

    held = JaxProblem(**program, p_example=p)
    duals: list[Any] = []  # of the solution, once there is one

    def warm():
        if not duals:
            duals.append(solve_with_warm(p, x0=x0, **program)[1])
        return solve_with_warm(p, x0=x0, **program, warm_start=duals[0])

    return {
        "solve": lambda: one(p),
        "warm solve": warm,
        "grad": lambda: jax.grad(lambda p: jnp.sum(one(p) ** 2))(p),
        "jacfwd": lambda: jax.jacfwd(one)(p),
        "vmap": lambda: jax.vmap(one)(many),
        "vmap_solve": lambda: vmap_solve(many, x0=x0, **program),
        "vmap_solve_parallel": lambda: vmap_solve_parallel(many, x0=x0, **program),
        "JaxProblem.solve": lambda: held.solve(p, x0),
        "JaxProblem.vmap_solve": lambda: held.vmap_solve(many, x0),
        "hessian": lambda: jax.hessian(lambda p: jnp.sum(one(p) ** 2))(p),
    }


def convex() -> dict[str, Callable[[], Any]]:
    """The doors of a dense quadratic program with bounds, equalities and inequalities."""
    import jax
    import jax.numpy as jnp

    import pounce

    from .compile_programs import dense_qp

    _, (P, A, G, c) = dense_qp()
    rows: dict[str, Any] = dict(A=A, b=jnp.zeros(A.shape[0]), G=G, h=jnp.ones(G.shape[0]), lb=-1.0, ub=1.0)
    many = c * jnp.linspace(0.9, 1.1, LANES)[:, None]
    solve = lambda c, **how: pounce.solve_conic(P, c, **rows, **how)
    former: list[Any] = []

    def warm():
        if not former:
            former.append(solve(c))
        return solve(c, warm_start=former[0]).x

    return {
        "solve": lambda: solve(c).x,
        "warm solve": warm,
        "grad": lambda: jax.grad(lambda c: jnp.sum(solve(c).x ** 2))(c),
        "jacfwd": lambda: jax.jacfwd(lambda c: solve(c).x)(c),
        "vmap": lambda: jax.vmap(lambda c: solve(c).x)(many),
        "solve_qp_batch": lambda: pounce.jax.solve_qp_batch(P=P, c=many, full=True, **rows),
    }


PROGRAMS: dict[str, Callable[[], dict[str, Callable[[], Any]]]] = {"nonlinear": nonlinear, "convex": convex}


def main(names: list[str]) -> None:
    """Print a table for each of the named programs."""
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    import jax

    jax.config.update("jax_enable_x64", True)
    for name in names or PROGRAMS:
        print(f"{name:24}{'programs':>10}{'CPU s':>10}{'ms':>10}")
        rows = []
        for row in measured(PROGRAMS[name]()):
            rows.append(row)
            print(f"{row.door:24}{row.programs:10}{row.seconds:10.2f}{row.later:10.2f}", flush=True)
        total = sum(row.programs for row in rows), sum(row.seconds for row in rows)
        print(f"{'in sum':24}{total[0]:10}{total[1]:10.2f}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
