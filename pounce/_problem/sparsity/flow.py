"""How the elements of arrays depend on the variables: first order forwards, second order by way of what is of use backwards.

Every array operation is put together from a few steps. Going forwards, a step makes the set of variables of each element of
its result. A step that bends (a product, a nonlinear function) also knows pairs of variables whose second derivative need
not vanish; those of an element matter only if the element has an influence on the final value, which a walk over the recorded
steps in reverse finds out. That gives the same pairs as carrying a set of pairs along with every element, for less.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .sets import Sets, distinct


class Node:
    """The elements of an array, flattened: the number of the set of variables of each, and whether it is of use."""

    __slots__ = ("labels", "live")

    def __init__(self, labels: np.ndarray):
        self.labels = labels
        self.live: np.ndarray | None = None

    @property
    def size(self) -> int:
        return self.labels.size

    def wake(self, where: np.ndarray) -> None:
        """Marks elements as of use, by a mask or by position."""
        if self.live is None:
            self.live = np.zeros(self.labels.size, bool)
        if where.dtype == bool:
            self.live |= where
        else:
            self.live[where] = True


@dataclass(frozen=True)
class Summary:
    """A function between arrays of few elements: ``targets[k]`` of its `size` results depends on the operand ``sources[k]``, and
    for the result ``owners[k]`` (for any, where negative), the operands ``first[k]`` and ``second[k]`` interact."""

    size: int
    targets: np.ndarray
    sources: np.ndarray
    owners: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def repeated(self, times: int, operands: int) -> "Summary":
        """The function applied to each of several rows of operands."""
        turn = np.arange(times)[:, None]
        shifted = lambda index, step: (turn * step + index).ravel()
        return Summary(
            self.size * times,
            shifted(self.targets, self.size),
            shifted(self.sources, operands),
            np.where(np.tile(self.owners, times) < 0, -1, shifted(self.owners, self.size)),
            shifted(self.first, operands),
            shifted(self.second, operands),
        )


Maybe = Node | None  # None: nothing depends on any variable


class Flow:
    """The steps. Those that take ``None`` for a node treat it as an array without dependence."""

    def __init__(self, n: int, second_order: bool):
        self.sets = Sets(n)
        self.second_order = second_order
        self.tape: list[Callable[[], None]] = []
        self._nodes: list[Node] = []
        self._pairs: list[np.ndarray] = []

    def variables(self) -> Node:
        return self._noted(np.arange(1, self.sets.n + 1))

    def _noted(self, labels: np.ndarray) -> Node:
        node = Node(labels)
        if self.second_order:
            self._nodes.append(node)
        return node

    def new(self, labels: np.ndarray, backward: Callable[[np.ndarray], None]) -> Maybe:
        """A node, and what its elements of use mean for others."""
        if not labels.any():
            return None
        node = self._noted(labels)
        if self.second_order:

            def step():
                if node.live is not None:
                    backward(node.live)

            self.tape.append(step)
        return node

    def take(self, node: Maybe, index: np.ndarray) -> Maybe:
        """``node[index]``; nothing where the index is negative."""
        if node is None:
            return None
        index = index.ravel()
        missing = index < 0
        labels = node.labels[index]
        if missing.any():
            labels[missing] = 0

            return self.new(labels, lambda live: node.wake(index[live & ~missing]))
        return self.new(labels, lambda live: node.wake(index[live]))

    def keep(self, node: Maybe, mask: np.ndarray) -> Maybe:
        """The elements where `mask` holds; nothing elsewhere."""
        if node is None or mask.all():
            return node
        mask = mask.ravel()
        return self.new(np.where(mask, node.labels, 0), lambda live: node.wake(live & mask))

    def place(self, size: int, parts: Sequence[tuple[Maybe, np.ndarray]]) -> Maybe:
        """An array made of others: elements of each part go to the given, different positions; negative ones are dropped."""
        there = [(node, where.ravel()) for node, where in parts if node is not None]
        labels = np.zeros(size, np.int64)
        moves = []
        for node, where in there:
            source = np.flatnonzero(where >= 0)
            target = where[source]
            labels[target] = node.labels[source]
            moves.append((node, source, target))

        def backward(live):
            for node, source, target in moves:
                node.wake(source[live[target]])

        return self.new(labels, backward)

    def link(self, node: Maybe, targets: np.ndarray, sources: np.ndarray | None, size: int) -> Maybe:
        """Sums: each element ``sources[k]`` (by default, ``k``) contributes to the element ``targets[k]`` of the result."""
        if node is None:
            return None
        targets = targets.ravel()
        labels = node.labels if sources is None else node.labels[sources]

        def backward(live):
            node.wake(live[targets] if sources is None else sources[live[targets]])

        return self.new(self.sets.union(targets, labels, size), backward)

    def join(self, *nodes: Maybe) -> Maybe:
        """Sums, and choices, of arrays of equal shapes."""
        there = list({id(node): node for node in nodes if node is not None}.values())
        if len(there) < 2:
            return there[0] if there else None

        def backward(live):
            for node in there:
                node.wake(live)

        return self.new(self.united(*(node.labels for node in there)), backward)

    def local(self, node: Maybe, summary: "Summary") -> Maybe:
        """A function that has been looked at before."""
        if node is None:
            return None
        s = summary

        def backward(live):
            active = live[s.owners] | (s.owners < 0)
            self.pair(node.labels[s.first[active]], node.labels[s.second[active]])
            node.wake(s.sources[live[s.targets]])

        return self.new(self.sets.union(s.targets, node.labels[s.sources], s.size), backward)

    def united(self, *labels: np.ndarray) -> np.ndarray:
        """Element by element, the union of sets."""
        first, *others = labels
        if all(np.array_equal(first, other) for other in others):
            return first
        groups = np.tile(np.arange(first.size), len(labels))
        return self.sets.union(groups, np.concatenate(labels), first.size)

    def bend(self, node: Maybe) -> Maybe:
        """A nonlinear function, element by element."""
        if node is None or not self.second_order:
            return node

        def backward(live):
            self.pair(node.labels[live], node.labels[live])
            node.wake(live)

        return self.new(node.labels, backward)

    def product(self, a: Maybe, b: Maybe) -> Maybe:
        """A function that is linear in either array, element by element."""
        if a is None or b is None or not self.second_order:
            return self.join(a, b)

        def backward(live):
            self.pair(a.labels[live], b.labels[live])
            a.wake(live)
            b.wake(live)

        return self.new(self.united(a.labels, b.labels), backward)

    def pair(self, a: np.ndarray, b: np.ndarray) -> None:
        """Notes that the variables of the sets `a` and those of the sets `b` interact, element by element."""
        keys = (np.minimum(a, b) << 32) | np.maximum(a, b)
        keys.sort()
        self._pairs.append(keys[distinct(keys) & (keys >> 32 > 0)])

    def loop(self, starts: Sequence[Maybe], carried: Sequence[Maybe], ends: Sequence[Maybe], body: list) -> list[Maybe]:
        """The values after a loop whose recorded `body` leads from the nodes `carried` to the nodes `ends`.

        `carried` holds enough for every turn, so that it is also what comes out.
        """
        results: list[Maybe] = [None if node is None else self._noted(node.labels) for node in carried]

        def back_and_forth():
            for result, end in zip(results, ends):
                if result is not None and end is not None and result.live is not None:
                    end.wake(result.live)
            while True:
                for step in reversed(body):
                    step()
                # What is of use at the start of a turn is of use at the end of the one before.
                stale = [
                    (node, end)
                    for node, end in zip(carried, ends)
                    if node is not None and end is not None and node.live is not None
                    if end.live is None or (node.live & ~end.live).any()
                ]
                if not stale:
                    break
                for node, end in stale:
                    assert node.live is not None
                    end.wake(node.live)
            for start, node, result in zip(starts, carried, results):
                if start is not None:
                    for other in (node, result):
                        if other is not None and other.live is not None:
                            start.wake(other.live)

        if self.second_order:
            self.tape.append(back_and_forth)
        return results

    def interactions(self, output: Maybe, of: np.ndarray | None = None) -> np.ndarray:
        """The pairs of sets that interact on their way to `output`, or to some of its elements.

        Each pair is one number, ``smaller << 32 | larger``.
        """
        if output is None:
            return np.zeros(0, np.int64)
        self._pairs.clear()
        for node in self._nodes:
            node.live = None
        output.wake(np.ones(output.size, bool) if of is None else of)
        for step in reversed(self.tape):
            step()
        keys = np.sort(np.concatenate([np.zeros(0, np.int64), *self._pairs]))
        return keys[distinct(keys)]
