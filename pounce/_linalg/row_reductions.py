"""Reductions over the terms of each row in a fixed pattern, by gathers alone: XLA scatters one term after the other."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .gather import taken


LENGTH = 8  # of the terms that are added at once


class RowReductions:
    """Which terms belong to which of ``count`` rows: ``rows[t]`` is that of term t. A row without any has a zero."""

    def __init__(self, rows: np.ndarray, count: int):
        rows = np.asarray(rows)
        self._gathers: list[np.ndarray] = []
        while True:
            lengths = np.bincount(rows, minlength=count)
            longest = int(lengths.max(initial=0))
            order = np.argsort(rows, kind="stable")
            within = np.arange(rows.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            last = longest <= LENGTH
            # Pieces of rows that are too long; at last the rows themselves.
            pieces = np.ones(count, np.int64) if last else -(-lengths // LENGTH)
            start = np.cumsum(pieces) - pieces
            terms = np.full((longest if last else LENGTH, int(pieces.sum())), rows.size, np.int32)
            terms[within % LENGTH, start[rows[order]] + within // LENGTH] = order
            self._gathers.append(terms)
            if last:
                return
            rows = np.repeat(np.arange(count), pieces)

    def sums(self, terms: Float[Array, " t"]) -> Float[Array, " count"]:
        """The sum of each row."""
        return self._reduced(jnp.add, terms, 0.0)

    def largest(self, terms: Float[Array, " t"]) -> Float[Array, " count"]:
        """The largest of each row, of terms that are not negative."""
        return self._reduced(jnp.maximum, terms, 0.0)

    def smallest(self, terms: Float[Array, " t"]) -> Float[Array, " count"]:
        """The smallest of each row; infinite for a row without terms."""
        return self._reduced(jnp.minimum, terms, jnp.inf)

    def _reduced(self, operation: Callable, terms, neutral: float):
        for gather in self._gathers:
            extended = jnp.concatenate([terms, jnp.full(1, neutral, terms.dtype)])
            parts = [taken(extended, index) for index in gather]
            terms = functools.reduce(operation, parts, jnp.full(gather.shape[1], neutral, terms.dtype))
        return terms
