"""Programs put together from terms: an objective and any number of constraints, each with derivatives of its own kind."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sps

from .callbacks import says_not_here
from .host import AbstractHostFunctions, Evaluations, HostDerivatives
from .sparse_host import Assembly


class Callback:
    """A user's callable at float64 points: what it answers is checked, and its last answer is kept.

    **Arguments:**

    - `function`: called with a copy of the point and whatever else it is asked with.
    - `check`: turns an answer into an array of the expected shape, or raises.

    An exception named `CyIpoptEvaluationError` answers NaN; others pass through.
    """

    def __init__(self, function: Callable[..., Any], check: Callable[[Any], np.ndarray]):
        self._function, self._check = function, check
        self._latest: tuple[tuple[bytes, ...], np.ndarray] | None = None
        self.calls = 0

    def __call__(self, x: np.ndarray, *more: np.ndarray) -> np.ndarray:
        key = (x.tobytes(), *(each.tobytes() for each in more))
        if self._latest is None or self._latest[0] != key:
            self._latest = (key, self.fresh(x, *more))
        return self._latest[1]

    def fresh(self, x: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """The answer at a point that is not worth remembering."""
        self.calls += 1
        try:
            answer = self._function(x.copy(), *more)
        except Exception as error:
            if self._latest is not None and says_not_here(error):
                return self._latest[1] * np.nan
            raise
        return self._check(answer)


@dataclasses.dataclass
class Counts:
    """Evaluations of one term, by order of derivative."""

    values: int = 0
    first: int = 0
    second: int = 0


@dataclasses.dataclass(frozen=True)
class Term:
    """A function of ``n`` variables with ``size`` values: the objective (one value) or a constraint.

    - `value`: ``x`` to ``(size,)``.
    - `jacobian`: ``x`` to ``(size, n)``; SciPy sparse matrices of constraints, where the program is sparse.
    - `hessian`: ``x`` and weights ``(size,)`` to the ``(n, n)`` Hessian of ``weights @ value``, sparse where the program is; None
      where there is none.
    - `counts`: how often each has been evaluated so far.
    """

    size: int
    value: Callable[[np.ndarray], np.ndarray]
    jacobian: Callable[[np.ndarray], Any]
    hessian: Callable[[np.ndarray, np.ndarray], Any] | None
    counts: Callable[[], Counts]


def linear_term(matrix: Any) -> Term:
    """``matrix @ x``, dense or sparse."""
    n = matrix.shape[1]
    nothing = sps.csr_array((n, n)) if sps.issparse(matrix) else np.zeros((n, n))
    return Term(matrix.shape[0], lambda x: matrix @ x, lambda x: matrix, lambda x, weights: nothing, Counts)


class TermFunctions(AbstractHostFunctions):
    """An objective and constraints, the constraints' values stacked in their order.

    Hessians are exact if every term has one. Rows count as evaluated as often as the constraint evaluated most.
    """

    def __init__(self, objective: Term, constraints: Sequence[Term], n: int, assembly: Assembly | None = None):
        """``assembly``: how a sparse program is put together."""
        self._assembly, self.structure = assembly, None if assembly is None else assembly.structure
        self.n, self.m = n, sum(term.size for term in constraints)
        self.exact = all(term.hessian is not None for term in (objective, *constraints))
        self._objective, self._constraints = objective, tuple(constraints)
        self._split = np.cumsum([term.size for term in constraints])[:-1]
        self._first: tuple[bytes, np.ndarray, Any] | None = None  # the last point, gradient and Jacobian
        self.evaluations = Evaluations()

    def _count(self) -> None:
        f, rows = self._objective.counts(), [term.counts() for term in self._constraints]
        count = self.evaluations
        count.objective, count.gradient = f.values, f.first
        count.constraints = max((c.values for c in rows), default=0)
        count.jacobian = max((c.first for c in rows), default=0)
        count.hessian = max(c.second for c in (f, *rows))

    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        objective = float(self._objective.value(x)[0])
        rows = _stacked([term.value(x) for term in self._constraints], (0,))
        self._count()
        return objective, rows

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        objective, rows = self.values(x)
        key = x.tobytes()
        if self._first is None or self._first[0] != key:
            gradient, parts = self._objective.jacobian(x)[0], [term.jacobian(x) for term in self._constraints]
            sparse = self._assembly
            jacobian = _stacked(parts, (0, self.n)) if sparse is None else sparse.jacobian(parts)
            self._first = (key, gradient, jacobian)
        _, gradient, jacobian = self._first
        hessian = self._hessian(x, y, weight) if second_order else None
        self._count()
        return HostDerivatives(objective, rows, gradient, jacobian, hessian)

    def _hessian(self, x: np.ndarray, y: np.ndarray, weight: float) -> Any:
        parts = []
        terms = (self._objective, *self._constraints)
        for term, weights in zip(terms, (np.array([weight]), *np.split(y, self._split))):
            assert term.hessian is not None
            # Restoration wants nothing of the objective, inactive constraints nothing at all.
            parts.append(term.hessian(x, weights) if np.any(weights) else None)
        if self._assembly is not None:
            return self._assembly.hessian(parts)
        total = np.zeros((self.n, self.n))
        for part in parts:
            total += 0.0 if part is None else part
        return 0.5 * (total + total.T)


def _stacked(parts: Sequence[np.ndarray], nothing: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(nothing)
