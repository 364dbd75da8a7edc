import os
from pathlib import Path


# Before anything imports NumPy or JAX. Child processes inherit these.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax


jax.config.update("jax_enable_x64", True)
# Again as settings, in case a plugin imported JAX before the variables above were set.
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
)

# Every compiled program is some hundred memory mappings, and Linux aborts a process that asks for more than 65530.
MOST_MAPPINGS = 30_000
MAPPINGS = Path("/proc/self/maps")


def pytest_runtest_teardown():
    """Drop the compiled programs of a process that has many; the cache on disk still has them."""
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
