"""Compiled programs of our own: compiler options, and how many of them are kept."""

import functools
import gc
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
from jax.core import eval_context

from ._weak import weak_cache


MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")  # of Linux
_caches: weakref.WeakSet[Any] = weakref.WeakSet()  # of what has a method `cache_clear`


OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 4,
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion,simplify-while-loops,while-loop-constant-sinking",
}


@functools.cache
def compiler_options() -> dict[str, bool | int | str] | None:
    """Options that shorten compilation on CPU: those of `OPTIONS` that this XLA knows. None where it is not for a CPU.

    A solve is some hundred small kernels; the older fusion emitters compile them in 60 % of the time at the same speed. XLA's
    passes over loops find nothing to do in ours but take a tenth of the time, and so do 32 parts, in which a program is handed
    to LLVM, beside four. XLA from JAX 0.11 on has the newer emitters alone, and then the others give a few percent.
    """
    if jax.default_backend() != "cpu":
        return None
    known = {name: value for name, value in OPTIONS.items() if _is_known(name, value)}
    return known or None


@functools.cache
def quick_options() -> dict[str, bool | int | str] | None:
    """`compiler_options` without LLVM's optimisation; None where that is not to be had."""
    options = compiler_options()
    if options is None or not _is_known("xla_backend_optimization_level", 0):
        return None
    return options | {"xla_backend_optimization_level": 0}


def _is_known(name: str, value: bool | int | str) -> bool:
    """Whether this XLA has an option."""
    try:
        with eval_context():  # not a part of whatever is being traced when this is first asked
            jax.jit(lambda x: x, compiler_options={name: value})(0.0)
    except Exception:  # which exception it raises is not documented
        return False
    return True


def program_cache(maxsize: int, owners: Callable[..., Iterable[Any]] = lambda *key: ()) -> Callable[[Callable], Any]:
    """A cache of a function whose values hold compiled programs: `make_room` precedes each new one.

    Entries go with the functions that ``owners(*key)`` refer to, and those not asked for the longest where there are too many.
    """

    def decorate(make: Callable) -> Any:
        @weak_cache(maxsize, owners)
        @functools.wraps(make)
        def kept(*key):
            make_room()
            return make(*key)

        forgettable(kept)
        return kept

    return decorate


def forgettable(cache: Any) -> None:
    """Let `forget` call the ``cache_clear()`` of what holds compiled programs, for as long as it lives."""
    _caches.add(cache)


def make_room() -> None:
    """Forget the compiled programs if the process has half of the memory mappings that Linux allows it.

    A program is some hundred mappings (their number is what `vm.max_map_count` limits, 65530 by default), and a process that
    asks for one too many is aborted. What somebody still holds stays; the rest is compiled again when it is asked for.
    """
    if mappings() > _most_mappings() // 2:
        forget()


def forget() -> None:
    """Forget the compiled programs."""
    for cache in list(_caches):
        cache.cache_clear()
    gc.collect()


def mappings() -> int:
    """The number of memory mappings of this process; zero where the system does not tell."""
    try:
        return MAPPINGS.read_bytes().count(b"\n")
    except OSError:
        return 0


@functools.cache
def _most_mappings() -> int:
    try:
        return int(MOST_MAPPINGS.read_text())
    except (OSError, ValueError):
        return 65530
