import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path


# Before anything imports NumPy or JAX. Child processes inherit these.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Compiling is most of what the tests do. It takes a third less with the older fusion emitters, which host doors choose too.
# An XLA that does not know a flag ends the process, so another one tries; workers inherit what it finds.
if "XLA_FLAGS" not in os.environ:
    flag = "--xla_cpu_use_fusion_emitters=false"
    trial = [sys.executable, "-c", "import jax; jax.numpy.zeros(1)"]
    known = subprocess.run(trial, env={**os.environ, "XLA_FLAGS": flag}, capture_output=True).returncode == 0
    os.environ["XLA_FLAGS"] = flag if known else ""

import jax


jax.config.update("jax_enable_x64", True)
# Again as settings, in case a plugin imported JAX before the variables above were set.
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
)

# Every compiled program is some hundred memory mappings, and Linux aborts a process that asks for more than 65530. A hundred
# megabytes of what the compiler used may stay with it.
MOST_MAPPINGS, MOST_BYTES = 30_000, 3_000_000_000
MAPPINGS, MEMORY = Path("/proc/self/maps"), Path("/proc/self/statm")
kept_bytes = 0


def resident_bytes() -> int:
    return int(MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pytest_runtest_teardown():
    """Drop the compiled programs of a process that has many; the cache on disk still has them."""
    global kept_bytes
    if not MAPPINGS.exists():
        return
    too_large = resident_bytes() > kept_bytes + MOST_BYTES
    if too_large or MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, which keeps what is free
        if trim is not None:
            trim(0)
        kept_bytes = resident_bytes()
