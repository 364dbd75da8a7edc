"""What is compiled is kept: what one process compiles, the next ones load.

The doors for NumPy (`pounce.Problem`, `pounce.minimize`, `pounce.solve_qp` and its kin) run programs that depend on sizes alone,
not on a problem's numbers or functions. These are kept by default in ``programs`` below `default_folder`, so a solve of a size
that this user has had before compiles nothing, in any process. An entry belongs to a version of this package and of JAX and
to a processor; those not asked for the longest go when all of them have more than a gigabyte. Entries are code: the folder
is closed to other users, and an entry that is damaged, or was not written by this user, is compiled again with a warning.
The environment variable ``POUNCE_CACHE_DIR`` names another folder, and empty or ``0`` switches this off. JAX's settings are
left as they are.

The doors for JAX (`pounce.solve`, `pounce.solve_conic`, `pounce.jax`) compile the user's functions together with the solver, so
what they compile is as much the user's as ours. JAX has a cache for that, which serves everything that JAX compiles and is
therefore for the user to switch on: `enable`, or ``jax.config.update("jax_compilation_cache_dir", folder)``.

``python -m pounce.cache`` shows what is kept; ``... warm`` compiles common sizes ahead, ``... clear`` removes everything.
"""

from pathlib import Path
from typing import NamedTuple

import jax

from .. import _executables
from .._executables import Store, default_folder


__all__ = ["CacheInfo", "clear", "default_folder", "disable", "enable", "info", "quick_start"]


class CacheInfo(NamedTuple):
    """What `info` tells.

    - `folder`: where programs of the doors for NumPy are kept; None where they are not.
    - `entries`, `bytes`: how many there are, and how large they are together; at most `largest` bytes.
    - `loaded`, `compiled`: how many this process has loaded from there, and how many it has compiled.
    - `jax_folder`: where JAX keeps what it compiles; None where it does not.
    """

    folder: Path | None
    entries: int
    bytes: int
    largest: int
    loaded: int
    compiled: int
    jax_folder: Path | None


def enable(folder: str | Path | None = None, *, jax_doors: bool = True) -> Path:
    """Keep compiled programs on disk and load them from there, also those of the doors for JAX.

    The latter are kept in ``jax`` below the folder, by JAX's own cache and thus with all else that JAX compiles; call this before
    anything is compiled. JAX deletes nothing there, so empty the folder when it grows too large.

    **Arguments:** `folder`: where; `default_folder` without one. `jax_doors`: False leaves JAX's own cache as it is.

    **Returns:** the folder. **Raises:** `OSError` if it cannot be made.
    """
    folder = default_folder() if folder is None else Path(folder).expanduser()
    programs, ours = folder / "programs", folder / "jax"
    programs.mkdir(mode=0o700, parents=True, exist_ok=True)
    _executables.choose(Store(programs))
    if jax_doors:
        ours.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(ours))
        _Enabled.jax_folder = ours
        # Every piece of a solve counts, also those that compile in a tenth of a second.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def quick_start(on: bool) -> None:
    """Say whether programs of the doors for NumPy that nobody has compiled before are compiled quickly at first.

    By default they are: that takes a third to two thirds of the time, and a run 1.1 to 1.3 times as long, with answers that are
    equal to rounding. One that has run for about as long as compiling it well takes is then compiled well, which holds up that
    one call, and kept. False compiles well at once, and so does ``POUNCE_QUICK_START=0`` in the environment.

    **Arguments:** `on`: for programs made from now on.
    """
    _executables.Policy.quick_start = bool(on)


def disable() -> None:
    """Neither keep nor load compiled programs from now on. JAX's own cache is left alone, unless it was `enable` that switched it
    on."""
    _executables.choose(None)
    if _jax_folder() is not None and _jax_folder() == _Enabled.jax_folder:
        jax.config.update("jax_compilation_cache_dir", None)
    _Enabled.jax_folder = None


def info() -> CacheInfo:
    """What is kept, and what this process has had of it."""
    store, counts = _executables.current(), _executables.counts()
    entries = [] if store is None else store.entries()
    return CacheInfo(
        folder=None if store is None else store.folder,
        entries=len(entries),
        bytes=sum(size for _, size, _ in entries),
        largest=0 if store is None else store.largest,
        loaded=counts.loaded,
        compiled=counts.compiled,
        jax_folder=_jax_folder(),
    )


def clear() -> None:
    """Remove every program of the doors for NumPy from the disk. What is loaded stays so."""
    store = _executables.current()
    if store is not None:
        store.clear()


class _Enabled:
    jax_folder: Path | None = None  # that `enable` has chosen


def _jax_folder() -> Path | None:
    folder = getattr(jax.config, "jax_compilation_cache_dir", None)
    return Path(folder) if folder else None
