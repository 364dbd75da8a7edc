"""The sparse LDL' of KKT matrices beside SuperLU (SciPy) and QDLDL: analysis, factorisation and solve, one and many.

    python -m benchmarks.ldl                                   # networks, optimal control, PDE; batches of 1, 8 and 64
    python -m benchmarks.ldl --cases control pde-60 --batch 1 --rounds 15
    python -m benchmarks.ldl --single                          # pivots without pairs as well

Times are medians in milliseconds, for a batch per item. SuperLU repeats its analysis in each factorisation, as SciPy offers
nothing else; QDLDL (where installed) updates values, regularised by 1e-8, and is called in a loop for a batch. `residual` is
relative, before and after two refinements.
"""

import argparse
import os
import statistics
import time


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

DEFAULT = (
    "opf-300", "opf-1000", "opf-3000", "pglib_opf_case240_pserc", "pglib_opf_case793_goc", "pglib_opf_case1951_rte",
    "control", "pde-60", "pde-100",
)  # fmt: skip


def median(function, rounds: int) -> float:
    """Milliseconds of a call, compiled or warm already."""
    function()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def peers(system, batches, rounds: int) -> None:
    import numpy as np
    import scipy.sparse as sps
    from scipy.sparse.linalg import splu

    matrix, rhs = system.matrix, np.random.default_rng(0).normal(size=system.matrix.shape[0])
    factor = splu(matrix)
    print(f"  superlu            factor {median(lambda: splu(matrix), rounds):8.2f}", end="")
    print(f"  solve {median(lambda: factor.solve(rhs), rounds):7.3f}")
    try:
        import qdldl  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    n, m = system.hessian.shape[0], system.jacobian.shape[0]
    shift = sps.diags_array(np.concatenate([np.full(n, 1e-8), np.full(m, -1e-8)]))
    shifted = sps.csc_matrix(matrix + shift)
    solver = qdldl.Solver(shifted)
    print(f"  qdldl              factor {median(lambda: solver.update(shifted), rounds):8.2f}", end="")
    print(f"  solve {median(lambda: solver.solve(rhs), rounds):7.3f}")
    for batch in batches:
        if batch > 1:
            each = median(lambda: [solver.update(shifted) for _ in range(batch)], max(2, rounds // batch)) / batch
            print(f"  qdldl x{batch:<3d}         factor {each:8.2f}")


def ours(system, batches, rounds: int, pairs: bool) -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np
    import scipy.sparse as sps

    from pounce._linalg.block_tridiagonal import BlockTridiagonalLDL, find_stages
    from pounce._linalg.kkt import KKTOperator
    from pounce._linalg.refinement import Counted, refined_solve
    from pounce._linalg.sparse import Pattern, SparseMatrix
    from pounce._linalg.sparse_ldl import SparseLDL, analyze

    lower = sps.csr_array(sps.tril(system.hessian))
    hessian, jacobian = Pattern.of(lower), Pattern.of(system.jacobian)
    values = [np.asarray(a[p.rows, p.columns]).ravel() for a, p in ((lower, hessian), (system.jacobian, jacobian))]
    equality = np.arange(jacobian.shape[0]) < system.equalities
    operator = KKTOperator(
        SparseMatrix(jnp.asarray(values[0]), hessian),
        SparseMatrix(jnp.asarray(values[1]), jacobian),
        jnp.asarray(system.diagonal),
    )
    rng = np.random.default_rng(0)
    rhs = tuple(jnp.asarray(rng.normal(size=k)) for k in jacobian.shape[::-1])
    solvers = {}
    begin = time.perf_counter()
    symbolic = analyze(hessian, jacobian, *values, equality, pairs=pairs)
    print(f"  analysis {time.perf_counter() - begin:.2f} s, {symbolic.sizes}")
    solvers["ldl" if pairs else "ldl, no pairs"] = SparseLDL(jax.tree.map(jnp.asarray, symbolic))
    stages = find_stages(hessian, jacobian, values[1], equality) if pairs else None
    if stages is not None:
        print(f"  {stages.shape[0]} stages of {stages.shape[1]}")
        solvers["block tridiagonal"] = BlockTridiagonalLDL(jax.tree.map(jnp.asarray, stages))

    def refined(solver, operator, rhs, steps: int):
        state = solver.init(operator, {})
        return refined_solve(operator.mv, lambda v: solver.compute(state, v, {})[0], rhs, Counted(steps + 1)).solution

    def run(batch, name, solver):
        many, vectors = operator, rhs
        if batch > 1:
            many, vectors = jax.tree.map(lambda x: jnp.stack([x] * batch), (operator, rhs))
        lift = jax.vmap if batch > 1 else lambda f: f
        # Solver and values are arguments: index tables must not become constants of the program.
        factorize = jax.jit(lambda s, operator: lift(lambda o: s.init(o, {}))(operator))
        solve = jax.jit(lambda s, state, v: lift(lambda f, v: s.compute(f, v, {})[0])(state, v))
        begin = time.perf_counter()
        factorize = factorize.lower(solver, many).compile()
        state = factorize(solver, many)
        solve = solve.lower(solver, state, vectors).compile()
        compiled = time.perf_counter() - begin
        factor_time = median(lambda: jax.block_until_ready(factorize(solver, many)), rounds) / batch
        solve_time = median(lambda: jax.block_until_ready(solve(solver, state, vectors)), rounds) / batch
        print(
            f"  {name:18s} factor {factor_time:8.2f}  solve {solve_time:7.3f}  x{batch:<3d} compile {compiled:.1f} s",
            end="",
        )
        if batch == 1:
            figures = []
            for steps in (0, 2):
                x = jax.jit(refined, static_argnums=3)(solver, operator, rhs, steps)
                residual = jax.tree.map(jnp.subtract, rhs, operator.mv(x))
                size = max(float(jnp.max(jnp.abs(v))) for v in x)
                figures.append(max(float(jnp.max(jnp.abs(v))) for v in residual) / (1.0 + size))
            correct = bool(solver.inertia(state).correct)
            print(
                f"  residual {figures[0]:.0e} {figures[1]:.0e}  inertia {'as expected' if correct else 'wrong'}", end=""
            )
            print(f"  growth {float(state.growth):.0e}", end="")
        print(flush=True)

    for name, solver in solvers.items():
        for batch in batches:
            run(batch, name, solver)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", help="names of cases, or of network files of the collection")
    parser.add_argument("--batch", nargs="*", type=int, default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--single", action="store_true", help="pivots without pairs as well")
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    from .kkt_systems import cases

    available = cases()
    for name in arguments.cases or [name for name in DEFAULT if name in available]:
        system = available[name]()
        matrix = system.matrix
        print(f"{name}: dimension {matrix.shape[0]}, {matrix.nnz} entries", flush=True)
        batches = [batch for batch in arguments.batch if batch == 1 or matrix.shape[0] < 8000 or arguments.cases]
        peers(system, batches, arguments.rounds)
        ours(system, batches, arguments.rounds, True)
        if arguments.single:
            ours(system, batches, arguments.rounds, False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
