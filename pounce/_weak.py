"""Caches that do not keep alive what users hand in: a function that nobody else holds takes its entries with it."""

import collections
import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Weakly:
    """A function in a key of a cache: equal to others of the same function while it lives, and no reason for it to do so."""

    def __init__(self, function: Any):
        method = isinstance(function, types.MethodType)
        self._function: Any = weakref.WeakMethod(function) if method else weakref.ref(function)
        self._hash = hash(function)
        self.owner = weakref.ref(function.__self__ if method else function)

    def __call__(self) -> Any:
        """The function. Raises `ReferenceError` if it is gone."""
        function = self._function()
        if function is None:
            raise ReferenceError("pounce: a function is gone, and with it what was compiled of it")
        return function

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Weakly):
            return self is other
        mine = self._function()
        return mine is not None and mine == other._function()


def weakly(value: Any) -> Any:
    """``value`` as a `Weakly` if it equals nothing but itself, so that nobody can ask for it once it is gone; else itself."""
    itself = isinstance(value, types.MethodType) or type(value).__eq__ is object.__eq__
    if not callable(value) or isinstance(value, type) or not itself:
        return value
    try:
        return Weakly(value)
    except TypeError:  # not every callable can be referred to weakly
        return value


def held(value: Any) -> Any:
    """What `weakly` was given."""
    return value() if isinstance(value, Weakly) else value


class Key:
    """What a function was asked with, hashed once: that takes long for a program."""

    __slots__ = ("parts", "hash")

    def __init__(self, parts: tuple):
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Key) and self.hash == other.hash and self.parts == other.parts)


class Info(NamedTuple):
    """What `functools.lru_cache` tells."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class WeakCache:
    """`functools.lru_cache` whose entries also go with the functions that ``owners(*key)`` are references to."""

    def __init__(self, make: Callable, maxsize: int, owners: Callable[..., Iterable[Any]]):
        functools.update_wrapper(self, make)
        self.make, self._maxsize, self._owners = make, maxsize, owners  # `make` asks without remembering
        self._lock, self._hits, self._misses = threading.Lock(), 0, 0
        self._made: collections.OrderedDict[Key, tuple[Any, Key, list]] = collections.OrderedDict()
        self._gone: collections.deque[Key] = collections.deque()

    def __call__(self, *parts: Any) -> Any:
        key = Key(parts)
        self._sweep()
        with self._lock:
            found = self._made.get(key)
            if found is not None:
                self._hits += 1
                self._made.move_to_end(found[1])
                return found[0]
            self._misses += 1
        made = self.make(*parts)
        owners = [each.owner() for each in self._owners(*parts) if isinstance(each, Weakly)]
        watched = [weakref.ref(owner, lambda _: self._forget(key)) for owner in owners if owner is not None]
        with self._lock:
            made = self._made.setdefault(key, (made, key, watched))[0]
            while len(self._made) > self._maxsize:
                self._made.popitem(last=False)
        return made

    def _forget(self, key: Key) -> None:
        """Called by the collector, which may come at any time."""
        self._gone.append(key)
        self._sweep()

    def _sweep(self) -> None:
        while self._gone and self._lock.acquire(blocking=False):  # who has it, perhaps further up the stack, is at work
            made = None
            try:
                made = self._made.pop(self._gone.popleft(), None)
            except IndexError:  # another thread was faster
                pass
            finally:
                self._lock.release()
            del made  # what goes with it may come here again

    def cache_clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._hits = self._misses = 0
            self._made.clear()

    def cache_info(self) -> Info:
        """How often it was asked for what is there and for what is not, and how many entries there are."""
        return Info(self._hits, self._misses, self._maxsize, len(self._made))


def weak_cache(maxsize: int, owners: Callable[..., Iterable[Any]]) -> Callable[[Callable], WeakCache]:
    """A `WeakCache` of a function's values."""
    return lambda make: WeakCache(make, maxsize, owners)
