"""Time that counts for limits: that of the process without what compiling took."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple


class Elapsed(NamedTuple):
    """Seconds of wall-clock and of processor time."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Elapsed":
        """Of this process, from some time on."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall - other.wall, self.cpu - other.cpu)


class _Compiling(threading.local):
    spent = Elapsed(0.0, 0.0)


_compiling = _Compiling()


def since(begin: Elapsed) -> Elapsed:
    """The time since then that this thread did not spend `uncounted`. ``begin`` comes from `counted`."""
    return counted() - begin


def counted() -> Elapsed:
    """The time of the process without what this thread has spent `uncounted`."""
    return Elapsed.now() - _compiling.spent


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """While this thread compiles."""
    begin = counted()
    try:
        yield
    finally:
        spent, before = since(begin), _compiling.spent
        _compiling.spent = Elapsed(before.wall + spent.wall, before.cpu + spent.cpu)
