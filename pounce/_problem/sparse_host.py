"""Sparse derivatives of host functions: patterns that are fixed before a solve, and SciPy matrices that have exactly these."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sps

from .._linalg.sparse import Pattern


class HostStructure(NamedTuple):
    """The patterns of the Jacobian of the rows, and of the lower triangle of the Hessian with the whole diagonal. Hessians that
    are approximated count as diagonal."""

    jacobian: Pattern
    hessian: Pattern

    @classmethod
    def of(cls, jacobian: Pattern, hessian: Pattern | None) -> "HostStructure":
        """From patterns; that of the Hessian may be of a triangle or of all of it, and is None where there is no Hessian."""
        n = np.arange(jacobian.shape[1])
        diagonal = Pattern(n, n, (n.size, n.size))
        return cls(jacobian, diagonal if hessian is None else (hessian | hessian.transpose | diagonal).lower)


class Assembly:
    """Sparse derivatives of programs that are put together from terms, from those of the terms.

    **Arguments:**

    - `jacobians`: the pattern of each constraint.
    - `hessians`: that of each term, the objective first; of both triangles or one.
    - `names`: what messages call the Hessians and Jacobians, in pairs, the objective first.
    """

    def __init__(
        self, jacobians: Sequence[Pattern], hessians: Sequence[Pattern], names: Sequence[tuple[str, str]], n: int
    ):
        none = np.zeros(0, np.int64)
        ends = np.cumsum([0, *(each.shape[0] for each in jacobians)])
        rows = np.concatenate([none, *(each.rows + begin for each, begin in zip(jacobians, ends))])
        columns = np.concatenate([none, *(each.columns for each in jacobians)])
        whole = Pattern(none, none, (n, n))
        for each in hessians:
            whole = whole | each
        self.structure = HostStructure.of(Pattern(rows, columns, (int(ends[-1]), n)), whole)
        self._jacobians, self._names = tuple(jacobians), tuple(names)
        self._hessians = tuple((each | each.transpose).lower for each in hessians)
        self._places = [self.structure.hessian.positions(each.rows, each.columns) for each in self._hessians]

    def jacobian(self, parts: Sequence[Any]) -> sps.csr_array:
        """Of the rows, one constraint after the other."""
        names = [name for _, name in self._names[1:]]
        data = [in_pattern(part, each, name).data for part, each, name in zip(parts, self._jacobians, names)]
        return stored(self.structure.jacobian, np.concatenate([np.zeros(0), *data]))

    def hessian(self, parts: Sequence[Any]) -> sps.csr_array:
        """The sum of the terms' Hessians, None for one that is zero."""
        values = np.zeros(self.structure.hessian.nnz)
        for part, each, places, (name, _) in zip(parts, self._hessians, self._places, self._names):
            if part is not None:
                values[places] += in_pattern(part, each, name, symmetric=True).data
        return stored(self.structure.hessian, values)


class Entries:
    """Where entries that come in some order stand in a pattern. Entries of the same place are summed."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, pattern: Pattern):
        self.pattern = pattern
        self._places = pattern.positions(rows, columns)
        if np.any(self._places < 0):
            raise ValueError("an entry lies outside of the pattern")
        self._in_order = np.array_equal(self._places, np.arange(pattern.nnz))

    def matrix(self, values: np.ndarray) -> sps.csr_array:
        """The matrix of these entries, with the pattern's order and none left out."""
        if not self._in_order:
            values = np.bincount(self._places, weights=values, minlength=self.pattern.nnz)
        return stored(self.pattern, values)


def stored(pattern: Pattern, values: np.ndarray) -> sps.csr_array:
    """A matrix with the pattern's entries in the pattern's order."""
    return sps.csr_array((values, pattern.columns, pattern.starts), shape=pattern.shape)


def in_pattern(matrix: Any, pattern: Pattern, name: str, symmetric: bool = False) -> sps.csr_array:
    """A SciPy sparse matrix as one of the given pattern; of a symmetric one, both triangles, the lower one.

    Raises `ValueError` where it has entries that the pattern has not.
    """
    entries = matrix.tocoo()
    rows, columns = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
    kept = entries.data != 0
    if symmetric:
        kept = kept & (rows >= columns)
    try:
        return Entries(rows[kept], columns[kept], pattern).matrix(entries.data[kept].astype(np.float64))
    except ValueError:
        raise ValueError(
            f"{name}: the sparsity pattern changed since the first call; store the zeros too, or ask for dense algebra with "
            'linear_solver="null-space"'
        ) from None
