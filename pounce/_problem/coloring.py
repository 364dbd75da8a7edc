"""Which columns or rows of a sparse derivative can be computed together, and where their entries are found afterwards.

Columns without a common row can be added up and still be told apart, so that one directional derivative serves for all of
them (Curtis, Powell and Reid 1974); fewest groups are a colouring of a graph (Coleman and Moré 1983). Of a symmetric matrix
every entry off the diagonal can be found at two places, and one is enough: a star colouring (Coleman and Moré 1984;
Gebremedhin, Manne and Pothen 2005). Colourings here are greedy: vertex after vertex gets the first colour that is left for it.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from jaxtyping import Int

from .._linalg.sparse import Content, Pattern


class Coloring(Content):
    """Groups of columns or rows, equal by content and hashable, so that it can be static under ``jit``.

    - `pattern`: where the entries are that are asked for.
    - `by`: ``"columns"`` or ``"rows"``: what has colours. One derivative is taken for each colour, along the sum of the unit
      vectors of that colour: a product with the matrix for columns, with its transpose for rows.
    - `colors`: the colour of each column or row, from 0 to ``count - 1``.
    - `places`: where each entry of the pattern stands in the flattened array of these ``count`` products.
    """

    pattern: Pattern
    by: Literal["columns", "rows"]
    colors: Int[np.ndarray, " n"]
    count: int
    places: Int[np.ndarray, " nnz"]

    def __init__(self, pattern: Pattern, by: Literal["columns", "rows"], colors: np.ndarray, places: np.ndarray):
        self.pattern, self.by = pattern, by
        self.colors = np.ascontiguousarray(colors, np.int32)
        self.count = int(self.colors.max(initial=-1)) + 1
        # Half the memory of a large program's constants, where it fits.
        small = places.max(initial=0) < 2**31
        self.places = np.ascontiguousarray(places, np.int32 if small else np.int64)
        for array in (self.colors, self.places):
            array.flags.writeable = False

    @functools.cached_property
    def _key(self) -> tuple:
        return self.pattern, self.by, self.colors.tobytes(), self.places.tobytes()

    def __repr__(self) -> str:
        return f"Coloring({self.pattern}, by={self.by!r}, count={self.count})"


def color_columns(pattern: Pattern) -> Coloring:
    """Columns of one colour have no row in common."""
    colors = _apart(pattern)
    return Coloring(
        pattern, "columns", colors, colors[pattern.columns].astype(np.int64) * pattern.shape[0] + pattern.rows
    )


def color_rows(pattern: Pattern) -> Coloring:
    """Rows of one colour have no column in common."""
    colors = _apart(pattern.transpose)
    return Coloring(pattern, "rows", colors, colors[pattern.rows].astype(np.int64) * pattern.shape[1] + pattern.columns)


def color_jacobian(pattern: Pattern) -> Coloring:
    """By columns, or by rows where that needs fewer colours."""
    columns = color_columns(pattern)
    # No colouring by rows has fewer colours than the fullest column has entries.
    if columns.count <= _fullest(pattern.transpose):
        return columns
    rows = color_rows(pattern)
    return rows if rows.count < columns.count else columns


def color_symmetric(pattern: Pattern) -> Coloring:
    """Columns of a symmetric matrix in a star colouring: neighbours differ, and no path over four vertices has two colours.

    The entry ``(i, j)`` then stands alone among the columns of the colour of ``j`` in row ``i``, or the other way round.

    **Arguments:**

    - `pattern`: the entries that are asked for: both triangles, or one of them, such as `pattern.lower`. The matrix is taken to
      have all of these and their mirror images.
    """
    whole = pattern | pattern.transpose
    n = whole.shape[0]
    colors = _fewest(whole, _star)
    if colors.max(initial=-1) + 1 > _fullest(whole):
        # What tells all entries of a row apart does so as well, and now and then with fewer colours.
        diagonal = np.arange(n)
        apart = _apart(whole | Pattern(diagonal, diagonal, whole.shape))
        colors = min(colors, apart, key=lambda some: some.max(initial=-1))
    crowd = whole.rows * np.int64(n) + colors[whole.columns]
    _, place, crowded = np.unique(crowd, return_inverse=True, return_counts=True)
    alone = np.zeros(whole.nnz, bool)
    alone[:] = crowded[place] == 1
    i, j = pattern.rows.astype(np.int64), pattern.columns.astype(np.int64)
    direct = alone[whole.positions(i, j)]
    return Coloring(pattern, "columns", colors, np.where(direct, colors[j] * n + i, colors[i] * n + j))


def _fullest(pattern: Pattern) -> int:
    """The most entries of any row."""
    return int(np.bincount(pattern.rows).max(initial=0))


class Lists:
    """The columns of each row. They are cut out when asked for: hundreds of thousands of lists that live on keep the garbage
    collector busy for seconds."""

    def __init__(self, pattern: Pattern):
        self._columns, self._starts = pattern.columns.tolist(), pattern.starts.tolist()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> list[int]:
        return self._columns[self._starts[row] : self._starts[row + 1]]


Greedy = Callable[[Lists, int, Iterable[int]], list[int]]


def _fewest(pattern: Pattern, greedy: Greedy) -> np.ndarray:
    """The best of the natural order and of largest degree first."""
    m, n = pattern.shape
    if pattern.nnz == m * n and m:
        return np.arange(n)
    of_columns = Lists(pattern.transpose)
    first = np.array(greedy(of_columns, m, range(n)), np.int64)
    if first.max(initial=-1) + 1 <= _fullest(pattern) and greedy is _distinct:
        return first
    neighbours = np.zeros(n, np.int64)
    np.add.at(neighbours, pattern.columns, np.bincount(pattern.rows, minlength=m)[pattern.rows])
    order = np.argsort(-neighbours, kind="stable")
    second = np.array(greedy(of_columns, m, order.tolist()), np.int64)
    return min(first, second, key=lambda colors: colors.max(initial=-1))


def _apart(pattern: Pattern) -> np.ndarray:
    return _fewest(pattern, _distinct)


# Sets of colours are bits of whole numbers: union and search are one instruction for up to thirty colours or so, and still fast
# for thousands.


def _distinct(of_columns: Lists, rows_there_are: int, order: Iterable[int]) -> list[int]:
    """Different colours for columns with a common row."""
    colors = [0] * len(of_columns)
    used = [0] * rows_there_are  # in each row
    for column in order:
        rows = of_columns[column]
        taken = 0
        for row in rows:
            taken |= used[row]
        bit = ~taken & (taken + 1)
        colors[column] = bit.bit_length() - 1
        for row in rows:
            used[row] |= bit
    return colors


def _star(of_columns: Lists, _: int, order: Iterable[int]) -> list[int]:
    """A star colouring of the graph of a symmetric matrix.

    A path of four whose last vertex gets its colour now is one of two kinds: ``v - w - x - y``, where `v` must not get the
    colour of ``x`` if ``y`` has that of ``w``; and ``w - v - x - y``, where it must not get that of ``y`` if ``w`` and ``x``
    have the same.
    """
    n = len(of_columns)
    bits = [0] * n  # the colour of each vertex
    once, twice = [0] * n, [0] * n  # colours of its neighbours, and those that several neighbours have
    barred = [0] * n  # colours of neighbours that have a second neighbour of the vertex's own colour
    for v in order:
        neighbours = of_columns[v]
        taken, repeated = once[v], twice[v]
        for w in neighbours:
            taken |= barred[w]
            if bits[w] & repeated:
                taken |= once[w]
        bit = ~taken & (taken + 1)
        bits[v] = bit
        for w in neighbours:
            if w == v:
                continue
            color = bits[w]
            if color & repeated:
                barred[w] |= bit
            if not once[w] & bit:
                once[w] |= bit
            elif twice[w] & bit:
                barred[v] |= color
            else:
                twice[w] |= bit
                if color:
                    for z in of_columns[w]:
                        if bits[z] == bit:
                            barred[z] |= color
    return [bit.bit_length() - 1 for bit in bits]
