"""The persistent compilation cache: what one process compiles, the next ones load.

Compiling a solve takes seconds, loading a compiled one a fraction of a second. Call `enable` at the start of a program, or
set the environment variable ``POUNCE_CACHE_DIR`` to a folder (``1`` for the default one) before importing `pounce`.
"""

import os
from pathlib import Path

import jax


__all__ = ["default_folder", "disable", "enable"]

VARIABLE = "POUNCE_CACHE_DIR"


def default_folder() -> Path:
    """``pounce`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pounce"


def enable(folder: str | Path | None = None) -> Path:
    """Keep compiled programs on disk and load them from there.

    This is JAX's own cache, so programs that are not ours are kept there too; call it before anything is compiled. Entries
    belong to a version of JAX and a kind of processor; nothing is deleted, so empty the folder when it grows too large.

    **Arguments:** `folder`: where; `default_folder` without one.

    **Returns:** the folder. **Raises:** `OSError` if it cannot be made.
    """
    folder = default_folder() if folder is None else Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Every piece of a solve counts, also those that compile in a tenth of a second.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def disable() -> None:
    """Neither keep nor load compiled programs from now on."""
    jax.config.update("jax_compilation_cache_dir", None)


def enable_from_environment() -> None:
    """`enable` if ``POUNCE_CACHE_DIR`` asks for it: a folder, or ``1`` for the default one. Empty or ``0``: nothing."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0"):
        enable(None if value == "1" else value)
