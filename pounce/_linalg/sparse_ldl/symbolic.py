"""The index tables of a sparse factorisation: everything about it that does not depend on values."""

import equinox as eqx
import jax
from jaxtyping import Bool, Int

from .schedule import Sweep, Table
from .tail import Tail


ENTRIES, PIVOTS = 64, 16  # how many blocks, and pivots, the loops over the pivots take at once
SLACK = 64  # no chunk is longer


class Rows(eqx.Module):
    """The full symmetric matrix by rows, cut into pieces of equal length: entry ``value`` in ``column`` (the zero behind the
    last value and the first column fill up), and the row each piece belongs to (ascending; the size for filled pieces)."""

    value: Int[Table, "q p"]
    column: Int[Table, "q p"]
    row: Int[Table, " p"]


class Symbolic(eqx.Module):
    """Index tables of a factorisation: a pytree of arrays, to be an argument of compiled functions.

    The matrix is cut into blocks of one or two unknowns, its *pivots*, and so is the factor: one buffer of blocks, numbered
    by the level of their column and longest update first, the last of them zero. The forward sweep numbers the pivots by
    level and length of their rows, the backward sweep by those of their columns; the last number of each is vacant.
    """

    source: Int[Table, "e cc"]  # block of the factor -> values of the matrix (a zero and a one behind the last)
    row: Int[Table, " k"]  # of each value of the matrix: its row and column, for scaling
    column: Int[Table, " k"]
    rows: Rows
    factor: Sweep
    # Per level: where its blocks and its pivots (in forward order) begin, and how many slices they are cut into.
    entry_slices: Int[Table, "l 2"]
    pivot_slices: Int[Table, "l 2"]
    entry_column: Int[
        Table, " e"
    ]  # the column of each block, in forward order; the vacant one for blocks of the diagonal
    pivot_entry: Int[Table, " s"]  # the block of each pivot
    sign: Int[Table, "s c"]  # the expected sign of each unknown of a pivot
    shift: Int[Table, "s c"]  # what is added to its diagonal, in square roots of the precision (see `analyze`)
    real: Bool[Table, " s"]  # which numbers of the forward order are pivots
    forward: Sweep
    backward: Sweep
    to_forward: Int[Table, "s c"]  # forward order -> unknowns, their number where there is none
    to_backward: Int[Table, " s"]  # backward order -> forward order
    from_backward: Int[Table, " u"]  # unknown -> place among the unknowns of the backward order
    levels: Int[Table, ""]
    tail: Tail | None = None  # what is factorised as one dense matrix

    @property
    def width(self) -> int:
        """The size of the blocks."""
        return self.to_forward.shape[1]

    @property
    def sizes(self) -> dict[str, int]:
        """Figures for reports: levels, blocks of the factor, their size, unknowns of the tail, and bytes of tables."""
        table_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self))
        tail = 0 if self.tail is None else self.tail.dense.primal.shape[0] + self.tail.dense.dual.shape[0]
        sizes = dict(levels=int(self.levels), blocks=self.source.shape[0], width=self.width, tail=tail)
        return sizes | dict(table_bytes=table_bytes)
