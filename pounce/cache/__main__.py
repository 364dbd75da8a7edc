"""``python -m pounce.cache [info | warm | clear]``."""

import argparse
import sys

from . import clear, info


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pounce.cache", description="Compiled programs kept on disk.")
    parser.add_argument("command", nargs="?", choices=("info", "warm", "clear"), default="info")
    command = parser.parse_args(arguments).command
    told = info()
    if told.folder is None:
        print("nothing is kept: POUNCE_CACHE_DIR switches it off")
        return 1 if command != "info" else 0
    if command == "clear":
        clear()
        print(f"removed {told.entries} programs ({_megabytes(told.bytes)}) from {told.folder}")
        return 0
    if command == "warm":
        from .warm import warm

        warm()
        told = info()
    print(f"{told.folder}: {told.entries} entries, {_megabytes(told.bytes)} of {_megabytes(told.largest)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
