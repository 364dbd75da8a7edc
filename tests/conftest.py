import ctypes
import os
import subprocess
import sys
from pathlib import Path


# Before anything imports NumPy or JAX. Child processes inherit these.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pounce" / "tests"  # another clone profits
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax"))
os.environ.setdefault("POUNCE_CACHE_DIR", str(CACHE))
os.environ.setdefault("POUNCE_QUICK_START", "0")  # every program once
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Compiling is most of what the tests do. It takes a third less with the older fusion emitters, which host doors choose too, and
# another third less where LLVM does not optimise; what depends on that compiles with `optimized.OPTIMIZED`. Tests of the code as
# users compile it: make test XLA_FLAGS=--xla_cpu_use_fusion_emitters=false
# An XLA that does not know a flag ends the process, so another one tries; workers inherit what it finds.
if "XLA_FLAGS" not in os.environ:
    trial = [sys.executable, "-c", "import jax; jax.numpy.zeros(1)"]
    flags = ("--xla_cpu_use_fusion_emitters=false", "--xla_backend_optimization_level=0")
    known = [
        flag
        for flag in flags
        if subprocess.run(trial, env={**os.environ, "XLA_FLAGS": flag}, capture_output=True).returncode == 0
    ]
    os.environ["XLA_FLAGS"] = " ".join(known)

import jax
import pytest

from pounce._compile import forget, mappings


jax.config.update("jax_enable_x64", True)
# Again as settings, in case a plugin imported JAX before the variables above were set.
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
)

# Linux aborts a process that asks for more than 65530 memory mappings, and a compiled program is some hundred of them. A hundred
# megabytes of what the compiler used may stay with it, too.
MOST_MAPPINGS, MOST_BYTES = 20_000, 3_000_000_000
MEMORY = Path("/proc/self/statm")
kept_mappings = kept_bytes = 0


LONG = Path(__file__).parent / "long.txt"


def pytest_addoption(parser):
    parser.addoption(
        "--part",
        choices=("short", "long", "all"),
        default="all",
        help="the tests that are not listed in tests/long.txt, those that are, or all",
    )


def pytest_collection_modifyitems(config, items):
    """Deselect the other part. The list names tests, or functions with all their parameters; each line must be of use."""
    part = config.getoption("--part")
    if part == "all":
        return
    listed = {line for line in LONG.read_text().splitlines() if line and not line.startswith("#")}
    names = [{item.nodeid, item.nodeid.split("[")[0]} & listed for item in items]
    unknown = listed.difference(*names)
    if unknown and config.args == config.getini("testpaths"):
        raise pytest.UsageError(f"{LONG.name} lists tests that are not there: {sorted(unknown)}")
    chosen = [item for item, found in zip(items, names) if bool(found) == (part == "long")]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def resident_bytes() -> int:
    return int(MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if MEMORY.exists() else 0


def pytest_runtest_teardown():
    """Drop the compiled programs of a process that has many; the cache on disk still has them.

    What others still hold stays, and is no reason to drop them again after the next test.
    """
    global kept_mappings, kept_bytes
    if mappings() > kept_mappings + MOST_MAPPINGS or resident_bytes() > kept_bytes + MOST_BYTES:
        jax.clear_caches()
        forget()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, which keeps what is free
        if trim is not None:
            trim(0)
        kept_mappings, kept_bytes = mappings(), resident_bytes()
