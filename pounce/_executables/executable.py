"""A function of arrays, compiled for one kind of arguments: loaded from disk where it has been compiled before."""

import collections
import enum
import functools
import math
import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable
from jaxtyping import PyTree

from .._compile import compiler_options, quick_options
from .._stopwatch import uncounted
from .fingerprint import UnknownError, fingerprint, surroundings
from .store import current


# A quick program is replaced when it has run for so many times what it took to compile, which is about what a good one takes.
WORTH = 2.0


class Entry:
    """Where something is filed, if it is: a store may be switched off, and not everything can be told by a name."""

    def __init__(self, *identity: Any):
        self._store = current()
        self._key = ""
        if self._store is not None:
            try:
                self._key = fingerprint(surroundings(), _place(), *identity)
            except UnknownError:
                self._store = None

    def read(self, loads: Callable[[bytes], Any]) -> Any:
        """What ``loads`` makes of the entry; None if there is none that it can use."""
        body = None if self._store is None else self._store.read(self._key)
        if self._store is None or body is None:
            return None
        try:
            value = loads(body)
        except Exception as error:  # whatever a foreign entry raises
            self._store.distrust(self._key, f"cannot be loaded ({type(error).__name__}: {error})")
            return None
        return value

    def write(self, dumps: Callable[[], bytes]) -> None:
        """Keep what ``dumps`` returns, if it can."""
        if self._store is None:
            return
        try:
            body = dumps()
        except Exception as error:  # which programs cannot be serialised is not documented
            self._store.warn(f"a program cannot be kept ({type(error).__name__}: {error})")
            return
        self._store.write(self._key, body)


class Counts(NamedTuple):
    """How many programs this process has loaded, and how many it has compiled."""

    loaded: int
    compiled: int


_counts = collections.Counter()


def counts() -> Counts:
    """So far."""
    return Counts(_counts["loaded"], _counts["compiled"])


def known(make: Callable[[], Any], *identity: Any) -> Any:
    """``make()``, a value that can be pickled, or what it was in another process that asked for the same."""
    entry = Entry("value", *identity)
    value = entry.read(pickle.loads)
    if value is None:
        value = make()
        entry.write(lambda: pickle.dumps(value))
    return value


class Tier(enum.Enum):
    """How well a program is compiled."""

    QUICK = "quick"  # in a third to two thirds of the time, at 1.1 to 1.3 times the time of a run
    GOOD = "good"


class Policy:
    """Whether programs may start in the quick tier."""

    quick_start = os.environ.get("POUNCE_QUICK_START", "1") not in ("", "0")


class Executable:
    """``function`` of the arguments ``like`` (pytrees of shapes), in float64. It returns nested tuples of arrays.

    It is loaded, or traced and compiled, when it is made. Where nothing is kept it is compiled quickly, and well when it has run
    for about as long as that takes: whatever is to come, at most twice the least time is spent so. ``identity`` is what the
    function depends on beside its arguments: equal ones stand for equal programs, in other processes too. ``heavy``: a run
    takes so long that it is compiled well at once.
    """

    def __init__(self, function: Callable[..., PyTree], like: tuple[PyTree, ...], *identity: Any, heavy: bool = False):
        leaves, structure = jax.tree.flatten(like)
        self._shapes = tuple(jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves)
        self._flat = lambda *leaves: function(*jax.tree.unflatten(structure, leaves))
        self._identity = ("executable", self._shapes, *identity)
        self.tier, self._spent, self._worth = Tier.GOOD, 0.0, math.inf
        compiled, quick = self._read(Tier.GOOD), Policy.quick_start and not heavy
        if compiled is None and quick:
            compiled = self._read(Tier.QUICK)
            if (
                compiled is not None or quick_options() is not None
            ):  # the latter tries them out, which takes a tenth of a second
                self.tier = Tier.QUICK
        _counts["compiled" if compiled is None else "loaded"] += 1
        self._compiled = self._compile(self.tier) if compiled is None else compiled

    def _read(self, tier: Tier) -> jax.stages.Compiled | None:
        found = Entry(tier, *self._identity).read(functools.partial(_loads, count=len(self._shapes)))
        if found is None:
            return None
        compiled, seconds = found
        if tier is Tier.QUICK:
            self._worth = WORTH * seconds
        return compiled

    def _compile(self, tier: Tier) -> jax.stages.Compiled:
        """Trace and compile, and keep it."""
        begin = time.perf_counter()
        options = quick_options() if tier is Tier.QUICK else compiler_options()
        with jax.enable_x64(True):
            compiled, whole = _compiled(jax.jit(self._flat, compiler_options=options).lower(*self._shapes))
        seconds = time.perf_counter() - begin
        if tier is Tier.QUICK:
            self._worth = WORTH * seconds
        if whole:
            Entry(tier, *self._identity).write(functools.partial(_dumps, compiled, seconds))
        return compiled

    def __call__(self, *arguments: PyTree) -> PyTree:
        """``arguments``: as those it was made for, in any containers whose leaves come in the same order.

        To be called with 64-bit numbers enabled.
        """
        if self.tier is Tier.GOOD:
            return self._compiled(*jax.tree.leaves(arguments))
        if self._spent > self._worth:
            self.improve()
        begin = time.perf_counter()
        results = jax.block_until_ready(self._compiled(*jax.tree.leaves(arguments)))
        self._spent += time.perf_counter() - begin
        return results

    def improve(self) -> None:
        """Have the good tier from now on."""
        with uncounted():
            compiled = self._read(Tier.GOOD)  # another process may have been there
            self._compiled = self._compile(Tier.GOOD) if compiled is None else compiled
        self.tier = Tier.GOOD


class _Retrieved(threading.local):
    """Programs that JAX's own cache has given to this thread."""

    count = 0


_retrieved = _Retrieved()


def _listen(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _retrieved.count += 1


@functools.cache
def _listening() -> None:
    jax.monitoring.register_event_listener(_listen)


def _compiled(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, bool]:
    """The compiled program, and whether it can be kept: one that JAX's own cache had lacks functions when it is serialised again
    ("Function ... not found")."""
    _listening()
    before = _retrieved.count
    compiled = lowered.compile()
    return compiled, _retrieved.count == before


def _dumps(compiled: jax.stages.Compiled, seconds: float) -> bytes:
    payload, _, structure = serialize_executable.serialize(compiled)
    results = jax.tree.unflatten(structure, range(structure.num_leaves))
    return pickle.dumps((results, payload, seconds))


def _loads(body: bytes, count: int) -> tuple[jax.stages.Compiled, float]:
    """The program, and the seconds that it took to compile."""
    results, payload, seconds = pickle.loads(body)
    _find_lapack()
    arguments = jax.tree.structure((tuple(range(count)), {}))
    with jax.enable_x64(True):
        compiled = serialize_executable.deserialize_and_load(
            payload, arguments, jax.tree.structure(results), execution_devices=[_device()]
        )
    return compiled, seconds


def _place() -> tuple:
    """What of the device decides about a program."""
    device = _device()
    return device.platform, device.device_kind, device.id


def _device() -> Any:
    """The device that programs are compiled for."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is None or isinstance(chosen, str):
        return jax.devices(chosen)[0]
    return chosen


@functools.cache
def _find_lapack() -> None:
    """JAX looks for LAPACK's functions when it lowers the first call of one; a loaded program that calls one before that crashes
    the process."""
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), np.float32))
