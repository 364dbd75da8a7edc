"""What is known of a sparse KKT matrix beside its pattern, when its pivots are chosen."""

import collections
import functools
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

from .sparse import Content


Made = TypeVar("Made")


class PivotHints(Content):
    """Arrays by rows or columns of the Jacobian, each None where nothing is known. Equal by content.

    - `entries`: typical magnitudes of its entries, in the order of the pattern.
    - `equality`: the rows that always have ``D = 0``.
    - `fixed`: the columns that may be masked out.
    """

    entries: np.ndarray | None
    equality: np.ndarray | None
    fixed: np.ndarray | None

    def __init__(self, entries=None, equality=None, fixed=None):
        self.entries, self.equality, self.fixed = entries, equality, fixed

    @functools.cached_property
    def _key(self) -> tuple:
        return tuple(part if part is None else part.tobytes() for part in (self.entries, self.equality, self.fixed))


NOTHING_KNOWN = PivotHints()


class FirstSeen(Generic[Made]):
    """What is made of the first numbers of a program and serves for all that come after them: tables, and what is compiled for
    them, must not depend on later numbers. Of the programs, those that were not asked for the longest are forgotten."""

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._made: collections.OrderedDict[Hashable, Made] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Made], keep: bool = True) -> Made:
        """What is there for a program, made now if nothing is; kept for later calls unless ``keep`` is off."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = make()
        if not keep:
            return made
        with self._lock:
            made = self._made.setdefault(key, made)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return made
