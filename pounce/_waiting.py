"""A line in the log, on standard error by default, where somebody waits for a compilation and would else see nothing."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from ._executables import current
from ._stopwatch import uncounted


PATIENCE = 2.0  # seconds of silence
LOG = logging.getLogger("pounce")


def somebody_looks_on() -> bool:
    """Whether standard error is a terminal, or the session one of an interactive Python or a notebook."""
    return hasattr(sys, "ps1") or (sys.stderr is not None and sys.stderr.isatty())


class Wait:
    """What is said, once, if all that compiles for one solve takes longer than `PATIENCE`.

    It is a warning of the logger "pounce", and information where it was not asked for and nobody looks on.

    - `n`, `m`: how many variables and rows are compiled for.
    - `aloud`: whether to say it; None where that depends on whether somebody looks on.
    """

    def __init__(self, n: int, m: int, aloud: bool | None = None):
        self._what = f"{n} variable{'s' * (n != 1)}, {m} row{'s' * (m != 1)}"
        self._level = logging.WARNING if aloud or (aloud is None and somebody_looks_on()) else logging.INFO
        self._silent = aloud is False
        self._spent = 0.0

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """While something compiles. The time of several of them adds up."""
        if self._silent or not LOG.isEnabledFor(self._level):
            yield
            return
        begin = time.perf_counter()
        timer = threading.Timer(max(PATIENCE - self._spent, 0.0), self._say)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._spent += time.perf_counter() - begin

    def _say(self) -> None:
        if self._silent:
            return
        self._silent = True
        store = current()
        kept = "for this process" if store is None or not store.usable() else f"it is kept in {store.folder}"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream that is closed, or none
            LOG.log(self._level, "pounce: compiling for %s, once for all of about this size; %s", self._what, kept)


_of_this_solve: ContextVar[Wait | None] = ContextVar("_of_this_solve", default=None)


@contextlib.contextmanager
def one_solve(wait: Wait) -> Iterator[None]:
    """While this lasts, it is for ``wait`` to speak of what `speaking` compiles."""
    token = _of_this_solve.set(wait)
    try:
        yield
    finally:
        _of_this_solve.reset(token)


def compiling() -> contextlib.AbstractContextManager[None]:
    """While something compiles for the solve that is under way in this thread."""
    wait = _of_this_solve.get()
    return contextlib.nullcontext() if wait is None else wait.during()


def speaking(piece: Callable) -> Callable:
    """A compiled function whose first call, which compiles it, may be spoken of and counts for no limit of time."""
    cold = True

    def call(*arguments: Any) -> Any:
        nonlocal cold
        if not cold:
            return piece(*arguments)
        with compiling(), uncounted():
            answer = piece(*arguments)
        cold = False
        return answer

    return call


def once_made(make: Callable[[], Callable]) -> Callable:
    """The function that ``make`` returns, made when it is first called; that may be spoken of and counts for no limit of time."""
    made: list[Callable] = []

    def call(*arguments: Any) -> Any:
        if not made:
            with compiling(), uncounted():
                made.append(make())
        return made[0](*arguments)

    return call
