"""A random program for `benchmarks.units`: well-scaled numbers with their answer and its derivative, and its units.

``user's number = unit * well-scaled number``, entry by entry, for data and answers alike; so what a solver says of the
program in its units is comparable, entry by entry, with what is true of the well-scaled one. A program depends on
``(seed, family, index)`` alone.
"""

import dataclasses

import numpy as np


CONDITION = 1e4  # of the linearised conditions, and the largest entry of the derivative, of what is called regular
LARGEST = 50.0


@dataclasses.dataclass
class Program:
    """Dictionaries by the names of arrays; their order is that of the columns (data) and rows (answer) of `truth`.

    `data`: what derivatives are taken with respect to; `fixed`: other arrays, in the user's units; `truth`: derivative of the
    answer with respect to the data, well-scaled, None for a degenerate program; `stated`: units in words.
    """

    kind: str
    data: dict
    answer: dict
    truth: np.ndarray | None
    fixed: dict = dataclasses.field(default_factory=dict)
    data_units: dict = dataclasses.field(default_factory=dict)
    answer_units: dict = dataclasses.field(default_factory=dict)
    stated: str = ""

    def in_units(self) -> dict:
        """The data as the solver gets them."""
        return {name: self.data_units[name] * value for name, value in self.data.items()}


def flat(arrays: dict) -> np.ndarray:
    """All entries, one after another."""
    return np.concatenate([np.ravel(value) for value in arrays.values()])


def units(random, decades: float, shape=()) -> np.ndarray:
    """Log-uniform between ``10**-decades`` and ``10**decades``."""
    return 10.0 ** random.uniform(-decades, decades, shape)


def stated(cost, rows, variables) -> str:
    """Units in words."""

    def written(values):
        return " ".join(f"{value:.0e}" for value in np.ravel(values))

    return f"cost {written(cost)} | rows {written(rows)} | variables {written(variables)}"


def bounded(random, x, low, high):
    """Bounds around ``x``: active where ``low`` or ``high`` says so; others 0.3 to 2 away, or absent in a third of the cases."""
    lb, ub = (np.where(random.uniform(size=x.size) < 0.3, np.inf, random.uniform(0.3, 2.0, x.size)) for _ in range(2))
    return x - np.where(low, 0.0, lb), x + np.where(high, 0.0, ub)


def derivative(matrix, right_side, condition=CONDITION, largest=LARGEST) -> np.ndarray | None:
    """The solution of linearised conditions, None where they are nearly singular."""
    if np.linalg.cond(matrix) > condition:
        return None
    solution = np.linalg.solve(matrix, right_side)
    return None if np.abs(solution).max() > largest else solution


def columns(data: dict) -> dict:
    """The slice of columns that belongs to each array of the data."""
    ends = np.cumsum([np.size(value) for value in data.values()])
    return {name: slice(end - np.size(value), end) for (name, value), end in zip(data.items(), ends)}
