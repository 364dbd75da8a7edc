"""What is known of a sparse KKT matrix beside its pattern, when its pivots are chosen."""

import functools

import numpy as np

from .sparse import Content


class PivotHints(Content):
    """Arrays by rows or columns of the Jacobian, each None where nothing is known. Equal by content.

    - `entries`: typical magnitudes of its entries, in the order of the pattern.
    - `equality`: the rows that always have ``D = 0``.
    - `fixed`: the columns that may be masked out.
    """

    entries: np.ndarray | None
    equality: np.ndarray | None
    fixed: np.ndarray | None

    def __init__(self, entries=None, equality=None, fixed=None):
        self.entries, self.equality, self.fixed = entries, equality, fixed

    @functools.cached_property
    def _key(self) -> tuple:
        return tuple(part if part is None else part.tobytes() for part in (self.entries, self.equality, self.fixed))


NOTHING_KNOWN = PivotHints()
