"""Sets of variables, each kept once and named by a number."""

import numpy as np
from jaxtyping import Int


# Work of one union, in members to sort; what needs more is replaced by the union of everything that takes part.
MOST_WORK = 30_000_000
# Members of all sets together, after which unions get coarse as well.
MOST_MEMBERS = 100_000_000


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``starts[0], starts[0] + 1, ...`` for `lengths[0]` numbers, then the same from ``starts[1]``, and so on."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def distinct(sorted_keys: np.ndarray) -> np.ndarray:
    """A mask of the first of each run of equal keys."""
    first = np.ones(sorted_keys.size, bool)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=first[1:])
    return first


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """64 well-stirred bits for each number (the finaliser of splitmix64)."""
    bits = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class Sets:
    """Subsets of ``{0, ..., n - 1}``, numbered: 0 is the empty set, ``i + 1`` is ``{i}``, unions follow as they come up.

    Equal sets have equal numbers (they are recognised by the sum of 64 random bits per member), so that an array in which
    everything depends on everything costs one set, and copying, moving or broadcasting elements copies numbers only.
    """

    def __init__(self, n: int):
        self.n = n
        self._count = n + 1
        self._starts = np.zeros(2 * n + 16, np.int64)
        self._starts[1 : n + 2] = np.arange(n + 1)
        self._members = np.empty(4 * n + 16, np.int32)
        self._members[:n] = np.arange(n)
        self._bits = _mixed(np.arange(n))
        self._by_bits: dict[int, int] = dict(zip(self._bits.tolist(), range(1, n + 1)))
        self._by_parts: dict[int, int] = {}

    def sizes(self, labels: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        return self._starts[labels + 1] - self._starts[labels]

    def members(self, labels: Int[np.ndarray, " k"]) -> Int[np.ndarray, " total"]:
        """Those of each set in ascending order, one set after the other."""
        return self._members[runs(self._starts[labels], self.sizes(labels))]

    def crossed(self, a: Int[np.ndarray, " k"], b: Int[np.ndarray, " k"]) -> tuple[np.ndarray, np.ndarray]:
        """The members of each set of `a`, each with all members of the set of `b` at the same place."""
        a_sizes, b_sizes = self.sizes(a), self.sizes(b)
        repeats = np.repeat(b_sizes, a_sizes)
        begins = np.repeat(np.cumsum(b_sizes) - b_sizes, a_sizes)
        first = np.repeat(self.members(a), repeats)
        return first.astype(np.int64), self.members(b)[runs(begins, repeats)].astype(np.int64)

    def union(
        self, groups: Int[np.ndarray, " k"], labels: Int[np.ndarray, " k"], count: int
    ) -> Int[np.ndarray, " count"]:
        """The union of the sets of each group: ``k`` pairs of a group and a set; groups are numbered up to `count`."""
        result = np.zeros(count, np.int64)
        keys = groups * self._count + labels
        if labels.size and labels.min() == 0:
            keys = keys[labels > 0]
        if not keys.size:
            return result
        keys.sort()
        groups, labels = np.divmod(keys[distinct(keys)], self._count)
        first = np.flatnonzero(distinct(groups))
        lengths = np.diff(first, append=groups.size)
        result[groups[first]] = labels[first]
        many = lengths > 1
        if not many.any():
            return result
        # Only unions that have not been formed before, each once.
        wide, first, lengths = groups[first[many]], first[many], lengths[many]
        labels = labels[runs(first, lengths)]
        starts = np.cumsum(lengths) - lengths
        names = np.add.reduceat(_mixed(labels + self.n), starts)
        known, place = np.unique(names, return_inverse=True)
        representative = np.empty(known.size, np.int64)
        representative[place] = np.arange(names.size)
        answers = np.fromiter((self._by_parts.get(name, -1) for name in known.tolist()), np.int64, known.size)
        new = np.flatnonzero(answers < 0)
        if new.size:
            chosen = representative[new]
            lengths = lengths[chosen]
            labels = labels[runs(starts[chosen], lengths)]
            answers[new], exact = self._unite(labels, lengths)
            if exact:
                self._by_parts.update(zip(known[new].tolist(), answers[new].tolist()))
        result[wide] = answers[place]
        return result

    def _unite(self, labels: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, bool]:
        """One union for each run of labels, and whether they are exactly that."""
        group = np.repeat(np.arange(lengths.size), lengths)
        sizes = self.sizes(labels)
        answers = np.zeros(lengths.size, np.int64)
        full = sizes == self.n
        if full.any():
            # A set that contains all variables swallows the others.
            answers[group[full]] = labels[full]
            kept = answers[group] == 0
            labels, sizes, group = labels[kept], sizes[kept], group[kept]
        if not labels.size:
            return answers, True
        work = int(sizes.sum())
        if work > MOST_WORK or int(self._starts[self._count]) + work > MOST_MEMBERS:
            answers[answers == 0] = self.everything(labels)
            return answers, False
        keys = np.repeat(group * self.n, sizes) + self.members(labels)
        keys.sort()
        rows, members = np.divmod(keys[distinct(keys)], self.n)
        first = np.flatnonzero(distinct(rows))
        answers[rows[first]] = self._intern(members, first)
        return answers, True

    def everything(self, labels: np.ndarray) -> int:
        """The number of the union of all these sets."""
        inside = np.zeros(self.n, bool)
        used = np.zeros(self._count, bool)
        used[labels] = True
        labels = np.flatnonzero(used)
        for start in range(0, labels.size, 10_000):
            inside[self.members(labels[start : start + 10_000])] = True
        members = np.flatnonzero(inside)
        return int(self._intern(members, np.zeros(1, np.int64))[0]) if members.size else 0

    def _intern(self, members: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Numbers for sets whose members stand one after the other, beginning at `first`."""
        bits = np.add.reduceat(self._bits[members], first)
        names, position, place = np.unique(bits, return_index=True, return_inverse=True)
        answers = np.fromiter((self._by_bits.get(name, -1) for name in names.tolist()), np.int64, names.size)
        new = np.flatnonzero(answers < 0)
        if new.size:
            lengths = np.diff(first, append=members.size)[position[new]]
            members = members[runs(first[position[new]], lengths)]
            answers[new] = np.arange(self._count, self._count + new.size)
            self._append(members, lengths)
            self._by_bits.update(zip(names[new].tolist(), answers[new].tolist()))
        return answers[place]

    def _append(self, members: np.ndarray, lengths: np.ndarray) -> None:
        used = int(self._starts[self._count])
        self._members = _grown(self._members, used, used + members.size)
        self._members[used : used + members.size] = members
        self._starts = _grown(self._starts, self._count + 1, self._count + 1 + lengths.size)
        self._starts[self._count + 1 : self._count + 1 + lengths.size] = used + np.cumsum(lengths)
        self._count += lengths.size


def _grown(array: np.ndarray, used: int, needed: int) -> np.ndarray:
    """The same array with room for `needed` elements, of which the first `used` count."""
    if needed <= array.size:
        return array
    larger = np.empty(2 * needed, array.dtype)
    larger[:used] = array[:used]
    return larger
