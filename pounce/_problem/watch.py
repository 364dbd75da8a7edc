"""Whether functions still do what they did when they were traced: callbacks, clocks and counters may have changed them since."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr

from .host import AbstractHostFunctions
from .purity import footprint, same_footprint
from .replaceable import Replaceable
from .tracing import same_trace, trace


# How far values of a traced function and of the original may differ, relative to their size at several points. They run the
# same operations in another order; what is to be noticed are functions that are not the same at all.
_AGREEMENT = 1e-6


class Part(NamedTuple):
    """One function of a program.

    - `name`: what messages call it. `fun`: what was handed in.
    - `closed`: what was traced of it, if it is that which answers.
    - `place`: where its values begin among the objective and the rows.
    - `original`: its values at a point, by a call of ``fun``. `seen`: some values, to know how large they are.
    """

    name: str
    fun: Callable[..., Any]
    closed: ClosedJaxpr | None
    place: int
    original: Callable[[np.ndarray], np.ndarray]
    seen: Sequence[np.ndarray]


Rebuild = Callable[[np.ndarray], tuple[AbstractHostFunctions, Sequence[Part]]]


class ChangedError(Exception):
    """Functions have become some of another kind in the middle of a solve, at ``x``. Never leaves the doors."""

    def __init__(self, x: np.ndarray):
        super().__init__()
        self.x = x


class Watch:
    """The functions of one solve, and what has become of them.

    **Arguments:**

    - `functions`: as the solver sees them. `parts`: what they are made of.
    - `rebuild`: from a point to both anew.
    """

    def __init__(self, functions: Replaceable, parts: Sequence[Part], rebuild: Rebuild):
        self._functions, self._parts, self._rebuild = functions, parts, rebuild
        self._touched: set[int] = set()
        self._renewed: list[str] = []

    def around(self, on_row: Callable[..., bool]) -> Callable[..., bool]:
        """The same, followed by a look at what it may have done. A traced function that has changed is traced anew."""

        def look(*arguments: Any) -> bool:
            before = [footprint(part.fun) for part in self._parts]
            going_on = on_row(*arguments)
            touched = {i for i, part in enumerate(self._parts) if not same_footprint(before[i], footprint(part.fun))}
            self._touched |= touched
            if going_on and any(self._has_changed(self._parts[i]) for i in touched):
                self._renew()
            return going_on

        return look

    def _has_changed(self, part: Part) -> bool:
        if part.closed is None:
            return False
        try:
            return not same_trace(part.closed, trace(part.fun, self._functions.n))
        except Exception:  # whatever it has become
            return True

    def _renew(self) -> None:
        x = self._functions.point
        assert x is not None
        functions, parts = self._rebuild(x)
        if not self._functions.replace(functions):
            raise ChangedError(x)
        self._parts = parts
        self._renewed = [parts[i].name for i in sorted(self._touched)]

    def changed_last(self) -> list[str]:
        """The names of functions that changed after the last look at derivatives: the solve has ended with what they were."""
        return self._renewed if self._functions.point is None else []

    def changed(self, x: np.ndarray, answer: Callable[[], tuple[float, np.ndarray]]) -> list[str]:
        """The names of functions that are something else now than when they gave the ``answer`` at ``x``, objective and rows.
        Those whose trace is another one, and others that a callback may have changed, are called once."""
        names: list[str] = []
        for i, part in enumerate(self._parts):
            if not (i in self._touched if part.closed is None else self._has_changed(part)):
                continue
            original = part.original(x)
            objective, rows = answer()
            values = np.append(objective, rows)
            if not agree([*part.seen, values[part.place : part.place + original.size]], [*part.seen, original]):
                names.append(part.name)
        return names


def agree(ours: Sequence[np.ndarray], originals: Sequence[np.ndarray] | None) -> bool:
    """Whether a traced function does what the original does, going by its values at some points."""
    if originals is None:
        return False
    each = np.max([np.where(np.isfinite(values), np.abs(values), 0.0) for values in originals], axis=0)
    # The second part is for values that are zero but for rounding.
    near = _AGREEMENT * each + 1e-6 * _AGREEMENT * np.max(each, initial=0.0)
    with np.errstate(invalid="ignore"):
        return all(
            bool(np.all((np.abs(a - b) <= near) | (a == b) | (np.isnan(a) & np.isnan(b))))
            for a, b in zip(ours, originals)
        )
