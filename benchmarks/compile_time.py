"""What compilation costs: counts of each program, CPU seconds to trace, to lower and to compile it, and the time of a solve.

    python -m benchmarks.compile_time                                   # this checkout, with the options that the doors use
    python -m benchmarks.compile_time --options none                    # as `jax.jit` compiles by itself
    python -m benchmarks.compile_time --checkout ../before .            # two checkouts beside each other
    python -m benchmarks.compile_time --python .venv/bin/python .venv-other/bin/python --programs hs071 "hs071 vmap"

Every program is compiled in a process of its own without a cache. CPU seconds are those of all threads and scatter by a tenth;
counts do not. `kernels`: functions of machine code. `HLO`: instructions after optimisation. `carried`: arrays that the largest
loop carries. `IR` (with --ir): lines of optimised LLVM IR, which LLVM's time follows. `us`: median time of a solve, in a batch
of a lane.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


HERE = Path(__file__).resolve().parent.parent
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import benchmarks.compile_time
sys.path[0] = sys.argv[2]
benchmarks.compile_time.child(*sys.argv[3:])
"""
COLUMNS = ("kernels", "equations", "HLO", "carried", "IR", "trace", "lower", "compile", "CPU s", "us")


def child(name: str, options: str, counts_only: str = "") -> None:
    """Measure one program in this process and print a JSON object."""
    import time

    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    from pounce._compile import compiler_options

    from . import compile_counts as counts
    from .compile_programs import program

    function, arguments, solves = program(name)
    jax.block_until_ready(jax.jit(lambda x: x + 1.0)(arguments[-1]))  # the backend has started
    chosen = compiler_options() if options == "doors" else None
    clock = time.process_time
    times = [clock()]
    traced = jax.jit(function, compiler_options=chosen).trace(*arguments)
    times.append(clock())
    lowered = traced.lower()
    times.append(clock())
    compiled = lowered.compile()
    times.append(clock())
    if counts_only:
        return
    hlo = compiled.as_text()
    result = dict(
        jax=jax.__version__,
        python=sys.version.split()[0],
        kernels=counts.kernels(hlo),
        equations=counts.equations(traced.jaxpr.jaxpr),
        HLO=counts.instructions(hlo),
        carried=counts.carried(traced.jaxpr.jaxpr),
        trace=times[1] - times[0],
        lower=times[2] - times[1],
        compile=times[3] - times[2],
    )
    result["CPU s"] = times[3] - times[0]
    solution = jax.block_until_ready(compiled(*arguments))
    if hasattr(solution, "status"):
        statuses = solution.status.reshape(-1).tolist()
        result["unsolved"] = len(statuses) - statuses.count(0)
    rounds, begin = [], time.perf_counter()
    while len(rounds) < 5 or (time.perf_counter() - begin < 0.5 and len(rounds) < 500):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        rounds.append(time.perf_counter() - start)
    result["us"] = 1e6 * sorted(rounds)[len(rounds) // 2] / solves
    print(json.dumps(result))


def measure(name: str, checkout: Path, python: str, options: str, with_ir: bool) -> dict:
    """The row of one program, measured in fresh processes."""
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    for variable in ("JAX_COMPILATION_CACHE_DIR", "PYTHONPATH"):
        environment.pop(variable, None)
    command = [python, "-c", CHILD, str(HERE), str(checkout.resolve()), name, options]
    row = json.loads(output(command, environment).splitlines()[-1])
    if with_ir:
        with tempfile.TemporaryDirectory() as folder:
            # The last one for an XLA that else keeps silent about what its fusion emitters do.
            flags = f"{environment.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_emitter_re=llvm"
            output([*command, "counts"], dict(environment, XLA_FLAGS=flags))
            row["IR"] = ir_lines(Path(folder))
    return row


def output(command: list[str], environment: dict) -> str:
    done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def ir_lines(folder: Path) -> int:
    """Lines inside the functions of the largest program among those dumped."""
    programs: dict[str, int] = {}
    for path in folder.rglob("*ir-with-opt*.ll"):
        module, inside = path.name.split(".")[0], False
        for line in path.read_text().splitlines():
            if line.startswith("define "):
                inside = True
            elif line.startswith("}"):
                inside = False
            elif inside and line.strip() and not line.lstrip().startswith(";"):
                programs[module] = programs.get(module, 0) + 1
    return max(programs.values(), default=0)


def shown(row: dict, columns: list[str]) -> str:
    cells = []
    for column in columns:
        value = row[column]
        cells.append(f"{value:10.2f}" if column in ("trace", "lower", "compile", "CPU s") else f"{value:10.0f}")
    return "".join(cells) + (f"   {row['unsolved']} unsolved" if row.get("unsolved") else "")


def compared(before: dict, after: dict, columns: list[str]) -> str:
    return "".join(f"{after[c] / before[c]:10.2f}" if before[c] else " " * 10 for c in columns)


def main() -> int:
    from .compile_programs import NAMES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--options", choices=("doors", "none"), default="doors")
    parser.add_argument(
        "--checkout", nargs="*", type=Path, default=[HERE], help="folders that `pounce` is imported from"
    )
    parser.add_argument("--python", nargs="*", default=[sys.executable], help="interpreters, each with its own JAX")
    parser.add_argument("--ir", action="store_true", help="count lines of optimised LLVM IR, too: compiles twice")
    arguments = parser.parse_args()
    columns = [column for column in COLUMNS if column != "IR" or arguments.ir]
    for python in arguments.python:
        print(" " * 43 + "".join(f"{column:>10s}" for column in columns), flush=True)
        for name in arguments.programs:
            rows = []
            for checkout in arguments.checkout:
                row = measure(name, checkout, python, arguments.options, arguments.ir)
                where = f"jax {row['jax']}" + (f" {checkout.name or checkout}" if len(arguments.checkout) > 1 else "")
                print(f"{name:21s} {where:20s} " + shown(row, columns), flush=True)
                rows.append(row)
            if len(rows) == 2:
                print(f"{'':21s} {'ratio':20s} " + compared(*rows, columns), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
