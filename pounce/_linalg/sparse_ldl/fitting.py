"""Tables of a factorisation in larger ones, so that many patterns share what is compiled."""

import dataclasses
from typing import NamedTuple

import numpy as np

from .columns import ColumnSymbolic, Counts
from .tail import DenseTail


class Room(NamedTuple):
    """Sizes of tables: of values and unknowns that are handed over, of pivots, blocks and blocks left of the diagonal; and of the
    primal and the dual unknowns of a tail (zero: there is no room for one)."""

    values: int
    unknowns: int
    pivots: int
    blocks: int
    left: int
    tail: tuple[int, int]


def needed(symbolic: ColumnSymbolic) -> Room:
    """What tables take at least."""
    pivots = int(symbolic.pivots)
    blocks, left, tail = int(symbolic.start[pivots]), int(symbolic.prior_start[pivots]), symbolic.tail
    dense = (0, 0) if tail is None else (tail.primal.shape[0], tail.dual.shape[0])
    return Room(symbolic.row.shape[0], symbolic.place.shape[0], pivots + 1, blocks + 1, left + 1, dense)


def fitted(symbolic: ColumnSymbolic, room: Room, source: np.ndarray, unknown: np.ndarray) -> ColumnSymbolic:
    """The same tables in that room. Values and unknowns of these stand at ``source`` and ``unknown`` in what is handed over; what
    else is handed over is not looked at, and solutions are zero there."""
    own, numbers = needed(symbolic), symbolic.width**2
    before, dump = symbolic.below.shape[0] * numbers - 1, room.blocks * numbers - 1

    def table(values, size: int, fill: int = 0):
        result = np.full(size, fill, np.uint32)
        values = np.asarray(values)[:size]
        result[: values.size] = values
        return result

    def at(values, size: int):
        return table(np.where(np.asarray(values) == before, dump, values), size, dump)

    def by_pivots(values, fill):
        rows = np.asarray(values)[: own.pivots]
        return np.concatenate([rows, np.full((room.pivots - rows.shape[0], *rows.shape[1:]), fill, rows.dtype)])

    pivots, blocks, left = own.pivots - 1, own.blocks - 1, own.left - 1
    return dataclasses.replace(
        symbolic,
        source=table(source, room.values),
        row=table(unknown[np.asarray(symbolic.row)], room.values),
        column=table(unknown[np.asarray(symbolic.column)], room.values),
        target=at(symbolic.target, room.values),
        mirror=at(symbolic.mirror, room.values),
        vacant=at(symbolic.vacant, max(symbolic.vacant.shape[0], 16)),
        start=table(symbolic.start[: own.pivots], room.pivots + 1, blocks),
        below=table(symbolic.below[:blocks], room.blocks, pivots),
        prior_start=table(symbolic.prior_start[: own.pivots], room.pivots + 1, left),
        prior=table(symbolic.prior[:left], room.left, blocks),
        prior_column=table(symbolic.prior_column[:left], room.left, pivots),
        sign=by_pivots(symbolic.sign, 1),
        shift=by_pivots(symbolic.shift, 0),
        unknown=table(unknown, room.unknowns),
        place=table(symbolic.place, room.unknowns, pivots * symbolic.width),
        counts=Counts.of(own.values, own.unknowns, int(symbolic.counts.duals)),
        dense=by_pivots(symbolic.dense, False),
        real=np.isin(np.arange(room.unknowns), unknown),
        tail=_tail(symbolic.tail or NO_TAIL, room, pivots * symbolic.width) if sum(room.tail) else None,
        optional=sum(room.tail) > 0,
    )


_NOTHING = np.zeros(0, np.int32)
NO_TAIL = DenseTail(np.zeros((0, 1), np.int32), _NOTHING, _NOTHING, _NOTHING)


def _tail(tail: DenseTail, room: Room, nowhere: int) -> DenseTail:
    """A tail whose primal and dual unknowns are filled up; ``nowhere``: a number of the pivots that is none of an unknown."""
    (a, b), (primal, dual) = (tail.primal.shape[0], tail.dual.shape[0]), room.tail
    moved = np.concatenate([np.arange(a), primal + np.arange(b), [primal + dual]])
    row, column = np.divmod(np.asarray(tail.place, np.int64), max(a + b, 1))
    inside = row < a + b
    place = np.full((_blocks(primal + dual), tail.place.shape[1]), (primal + dual) ** 2, np.int32)
    rows, columns = (moved[np.where(inside, v, a + b)] for v in (row, column))
    place[: row.shape[0]] = np.where(inside, rows * (primal + dual) + columns, (primal + dual) ** 2)
    first, second = (np.full(size, nowhere, np.int32) for size in (primal, dual))
    first[:a], second[:b] = tail.primal, tail.dual
    vacant = np.concatenate([np.ones(primal, np.int8), -np.ones(dual, np.int8)])
    vacant[:a] = vacant[primal : primal + b] = 0
    return DenseTail(place, first, second, vacant)


def _blocks(unknowns: int) -> int:
    """Those of a triangle."""
    return unknowns * (unknowns + 1) // 2
