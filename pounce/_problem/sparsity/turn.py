"""One turn of a loop, looked at once for all turns."""

import functools
from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr

from .flow import Flow, Maybe, Summary
from .known import Varying
from .reader import Reader
from .rules import Value


# Up to so many steps backwards are taken to tell what interacts for which element of the results; beyond, for any of them.
MOST_STEPS = 50_000


class Turn:
    """The body of a loop as a function of few elements: those of what it sees, whatever they depend on.

    **Arguments:**

    - `reader`: of the program that the loop is part of.
    - `body`: the program of one turn.
    - `fixed`, `carried`, `slices`: what it sees, with the shapes that one turn sees: what is the same in all turns, what comes
      from the turn before, and what belongs to this turn.
    - `moving`: which of the carried arrays may come to depend on variables.
    """

    def __init__(
        self,
        reader: Reader,
        body: ClosedJaxpr,
        fixed: Sequence[Value],
        carried: Sequence[Value],
        slices: Sequence[Value],
        moving: Sequence[bool],
    ):
        inputs = [*fixed, *carried, *slices]
        moves = [*(v.node is not None for v in fixed), *moving, *(v.node is not None for v in slices)]
        begins = np.cumsum([0, *(value.size if each else 0 for value, each in zip(inputs, moves))])
        self.operands = int(begins[-1])
        # Where the elements of an input stand among the operands; None if it does not depend on anything.
        places = [np.arange(a, a + v.size) if each else None for a, v, each in zip(begins, inputs, moves)]
        self.fixed, self.carried = places[: len(fixed)], places[len(fixed) : len(fixed) + len(carried)]
        self.slices = places[len(fixed) + len(carried) :]

        flow = Flow(self.operands, reader.flow.second_order)
        variables, wanted, values = flow.variables() if self.operands else None, [False], []
        for k, (value, place) in enumerate(zip(inputs, places)):
            node = None if place is None else flow.take(variables, place)
            known = None if place is not None or value.known is None else value.known
            values.append(Value(value.shape, node, Varying(wanted) if known and k >= len(fixed) else known))
        inner = Reader(flow, reader.turns, reader.depth, reader.kept)
        results = inner.read(body.jaxpr, body.consts, values)
        reader.turns = inner.turns
        ends = np.cumsum([0, *(value.size for value in results)])
        self.size = int(ends[-1])
        self.results = [np.arange(a, b) for a, b in zip(ends, ends[1:])]
        total = flow.place(self.size, [(value.node, place) for value, place in zip(results, self.results)])
        self._followed = flow, total
        # Whether an index or a choice was asked for that differs from turn to turn.
        self.index_wanted = wanted[0]

    @functools.cached_property
    def summary(self) -> Summary:
        flow, total = self._followed
        return _summary(flow, total, self.size)

    def work(self, length: int) -> int:
        """What following so many turns costs, in elements to look at."""
        flow, total = self._followed
        sizes = np.zeros(0, np.int64) if total is None else flow.sets.sizes(total.labels)
        return max(int(sizes.sum()) * length, int((sizes**2).sum()) if flow.second_order else 0)

    def alike(self) -> bool:
        """Whether nothing that is carried depends on anything, provided that it does not at the beginning."""
        count = sum(result.size for result in self.results[: len(self.carried)])
        return not (self.summary.targets < count).any()

    def at_once(
        self, flow: Flow, fixed: Sequence[Value], stacked: Sequence[Value], length: int
    ) -> tuple[list[Maybe], list[Maybe]]:
        """All turns of a loop that carries nothing of interest: what is carried, and the other results, stacked."""
        turns = np.arange(length)[:, None]
        parts = []
        for value, place in zip(fixed, self.fixed):
            if place is not None:
                node = flow.take(value.node, np.tile(np.arange(value.size), length))
                parts.append((node, turns * self.operands + place))
        for value, place in zip(stacked, self.slices):
            if place is not None:
                parts.append((value.node, turns * self.operands + place))
        operands = flow.place(length * self.operands, parts)
        results = flow.local(operands, self.summary.repeated(length, self.operands))
        count = len(self.carried)
        return [None] * count, [flow.take(results, turns * self.size + place) for place in self.results[count:]]

    def one_by_one(
        self,
        flow: Flow,
        fixed: Sequence[Value],
        carried: Sequence[Value],
        stacked: Sequence[Value],
        turns: Sequence[int],
    ) -> tuple[list[Maybe], list[Maybe]]:
        """As above, for any loop."""
        always = [(value.node, place) for value, place in zip(fixed, self.fixed) if place is not None]
        latest = [(value.node, place) for value, place in zip(carried, self.carried) if place is not None]
        # From the results of a turn to the operands of the next.
        onward = np.full(self.size, -1)
        for place, result in zip(self.carried, self.results):
            if place is not None:
                onward[result] = place
        outcomes = []
        node = None
        for k in turns:
            own = [
                (flow.take(value.node, np.arange(k * place.size, (k + 1) * place.size)), place)
                for value, place in zip(stacked, self.slices)
                if place is not None
            ]
            node = flow.local(flow.place(self.operands, [*always, *latest, *own]), self.summary)
            outcomes.append((node, k * self.size + np.arange(self.size)))
            latest = [(node, onward)]
        results = flow.place(len(turns) * self.size, outcomes)
        every, count = np.arange(len(turns))[:, None], len(self.carried)
        return (
            [None if place is None else flow.take(node, r) for place, r in zip(self.carried, self.results)],
            [flow.take(results, every * self.size + place) for place in self.results[count:]],
        )


def _summary(flow: Flow, total: Maybe, size: int) -> Summary:
    nothing = np.zeros(0, np.int64)
    if total is None:
        return Summary(size, nothing, nothing, nothing, nothing, nothing)
    sets, labels = flow.sets, total.labels
    targets, sources = np.repeat(np.arange(size), sets.sizes(labels)), sets.members(labels).astype(np.int64)
    owners, first, second = [nothing], [nothing], [nothing]
    if flow.second_order:
        alone = np.flatnonzero(labels)
        of_each = alone.size * len(flow.tape) <= MOST_STEPS
        for owner in alone if of_each else [-1]:
            pairs = flow.interactions(total, alone if owner < 0 else np.array([owner]))
            a, b = sets.crossed(pairs >> 32, pairs & 0xFFFFFFFF)
            owners.append(np.full(a.size, owner))
            first.append(a)
            second.append(b)
    return Summary(size, targets, sources, *(np.concatenate(each) for each in (owners, first, second)))
