"""Whether functions still do what they did when they were traced: callbacks, clocks and counters may have changed them since."""

import contextlib
from collections.abc import Callable

import jax
import numpy as np

from .._problem.purity import footprint, same_footprint
from .._problem.replaceable import BoxedFunctions
from .._problem.tracing import same_trace
from .._reverse import OnRow
from .functions import agree
from .program import Program
from .reasons import traced_or_why


class ChangedError(Exception):
    """Functions have become some of another kind in the middle of a solve, at ``x``. Never leaves `pounce.minimize`."""

    def __init__(self, x: np.ndarray):
        super().__init__()
        self.x = x


class Watch:
    """The functions of one solve, and what has become of them.

    **Arguments:**

    - `program`: what is being solved. `functions`: the same as the solver sees it.
    - `rebuild`: from a point to the program anew.
    """

    def __init__(self, program: Program, functions: BoxedFunctions, rebuild: Callable[[np.ndarray], Program]):
        self._program, self._functions, self._rebuild = program, functions, rebuild
        self._touched: set[int] = set()
        self._renewed: list[str] = []

    def around(self, on_row: OnRow) -> OnRow:
        """The same, followed by a look at what it may have done. A traced function that has changed is traced anew."""

        def look(*arguments) -> bool:
            parts = self._program.parts
            before = [footprint(function.announced.fun) for function, _ in parts]
            going_on = on_row(*arguments)
            for i, (function, _) in enumerate(parts):
                if not same_footprint(before[i], footprint(function.announced.fun)):
                    self._touched.add(i)
            if going_on and any(map(self._has_changed, self._touched)):
                self.renew()
            return going_on

        return look

    def _has_changed(self, i: int) -> bool:
        function, closed = self._program.parts[i]
        if closed is None:
            return False
        now, _ = traced_or_why(function.announced.fun, self._functions.n, function.start.size)
        return now is None or not same_trace(closed, now)

    def renew(self) -> None:
        """Make the program anew where derivatives were last asked for. Raises `ChangedError` where it does not fit the solve."""
        x = self._functions.point
        assert x is not None
        program = self._rebuild(x)
        if not self._functions.replace(program.functions):
            raise ChangedError(x)
        self._program = program
        self._renewed = [program.parts[i][0].announced.name for i in self._touched]

    def changed_last(self) -> list[str]:
        """The names of functions that changed after the last look at derivatives: the solve has ended with what they were."""
        return self._renewed if self._functions.point is None else []

    def changed(self, x: np.ndarray, objective: float, rows: np.ndarray) -> list[str]:
        """The names of functions that are something else now than what answered at ``x``: of those that were traced or that a
        callback may have changed, each of which is called once."""
        values, names = np.concatenate([[objective], rows]), []
        for i, (function, closed) in enumerate(self._program.parts):
            if closed is None and i not in self._touched:
                continue
            begin = self._program.places[i]
            with jax.enable_x64(True) if function.in_single else contextlib.nullcontext():
                original = function.original.fresh(x)
            if not agree([*function.seen, values[begin : begin + original.size]], [*function.seen, original]):
                names.append(function.announced.name)
        return names
