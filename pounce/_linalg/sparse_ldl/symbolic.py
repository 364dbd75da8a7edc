"""The index tables of a sparse factorisation: everything about it that does not depend on values."""

import equinox as eqx
import jax
from jaxtyping import Bool, Float, Int

from .schedule import KINDS, Sweep, Table


SLACK = max(64, *(width for width, _ in KINDS))
ENTRIES, UNKNOWNS = 64, 16  # how many entries, and unknowns, the loops over the pivots take at once


class Pivots(eqx.Module):
    """Where the pivot ``[[own, off], [off, other]]`` of each scalar stands in the factor. A pivot of size one has
    ``off = 0`` and ``other = 1``. ``sign``: the expected sign of ``own``; ``shift``: what is added to it, in units of the
    square root of the precision (see `analyze`)."""

    own: Int[Table, " s"]
    other: Int[Table, " s"]
    off: Int[Table, " s"]
    sign: Float[Table, " s"]
    shift: Float[Table, " s"]


class Rows(eqx.Module):
    """The full symmetric matrix by rows, cut into pieces of equal length: entry ``value`` in ``column`` (the zero behind the
    last value and the first column fill up), and the row each piece belongs to (ascending; the size for filled pieces)."""

    value: Int[Table, "p q"]
    column: Int[Table, "p q"]
    row: Int[Table, " p"]


class Symbolic(eqx.Module):
    """Index tables of a factorisation: a pytree of arrays, to be an argument of compiled functions.

    The factor is one buffer of *entries*, numbered by level of their column and longest update first; behind them come slack
    for the chunks that overlap the end, a zero and a one. The forward sweep numbers the unknowns by the level and length of
    their rows, the backward sweep by those of their columns.
    """

    source: Int[Table, " e"]  # entry of the factor -> value of the matrix (zero and one behind the last)
    row: Int[Table, " k"]  # of each value of the matrix: its row and column, for scaling
    column: Int[Table, " k"]
    rows: Rows
    factor: Sweep
    # Per level: where its entries and its unknowns (in forward order) begin, and how many slices they are cut into.
    entry_slices: Int[Table, "l 2"]
    unknown_slices: Int[Table, "l 2"]
    entry_column: Int[Table, " e"]  # the column of each entry, in forward order; a vacant one in diagonal blocks
    mate: Int[Table, " e"]  # the entry beside each entry in the other column of its pivot; the zero if there is none
    pivots: Pivots  # in forward order
    # What an unknown of the forward order counts for: 1 a pivot alone, 2 a pair, 0 its second.
    counts: Int[Table, " s"]
    real: Bool[Table, " s"]  # which positions of the forward order are unknowns
    beside: Int[Table, " s"]  # the position of the other unknown of the pivot; a vacant one if there is none
    forward: Sweep
    backward: Sweep
    to_forward: Int[Table, " s"]  # position in the forward order -> unknown
    to_backward: Int[Table, " s"]  # position in the backward order -> position in the forward order
    from_backward: Int[Table, " u"]  # unknown -> position in the backward order
    levels: Int[Table, ""]

    @property
    def sizes(self) -> dict[str, int]:
        """Figures for reports: levels, entries of the factor and bytes of tables."""
        table_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self))
        return dict(levels=int(self.levels), entries=self.source.size, table_bytes=table_bytes)
