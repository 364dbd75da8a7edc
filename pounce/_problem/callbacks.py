"""cyipopt's callbacks as a program."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .._check import real_array
from .._linalg.sparse import Pattern
from .host import AbstractHostFunctions, Evaluations, HostDerivatives
from .sparse_host import Entries, HostStructure, stored


class CyIpoptEvaluationError(ArithmeticError):
    """Raised by a callback to say that its function cannot be evaluated there: the trial point is rejected."""


def says_not_here(error: Exception) -> bool:
    """Also cyipopt's own exception of that name, which ported code may still import."""
    return any(kind.__name__ == "CyIpoptEvaluationError" for kind in type(error).__mro__)


class Structure:
    """Where the entries of a sparse callback lie in the matrix. Entries of the same place are summed."""

    def __init__(self, pair: Any, name: str, shape: tuple[int, int]):
        try:
            rows, columns = (np.asarray(part) for part in pair)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must return a pair (rows, columns), got {pair!r}") from error
        if rows.shape != columns.shape or rows.ndim != 1:
            raise ValueError(
                f"`{name}` must return two vectors of one length, got shapes {rows.shape} and {columns.shape}"
            )
        for part, size, what in ((rows, shape[0], "row"), (columns, shape[1], "column")):
            if part.size and not np.issubdtype(part.dtype, np.integer):
                raise TypeError(f"`{name}` must return integers, got {what} indices of dtype {part.dtype}")
            if part.size and (part.min() < 0 or part.max() >= size):
                raise ValueError(
                    f"`{name}` has a {what} index of {part.min() if part.min() < 0 else part.max()}; "
                    f"indices run from 0 to {size - 1}"
                )
        self.rows, self.columns = rows.astype(np.intp), columns.astype(np.intp)
        self.shape, self.size = shape, rows.size

    @functools.cached_property
    def mirrored(self) -> np.ndarray:
        """Which entries of a symmetric matrix are given on both sides of its diagonal, ``(size,)``."""
        there = np.isin(self._places, self.columns * self.shape[1] + self.rows)
        return there & (self.rows != self.columns)

    @functools.cached_property
    def _places(self) -> np.ndarray:
        return self.rows * self.shape[1] + self.columns

    @functools.cached_property
    def _distinct(self) -> bool:
        return np.unique(self._places).size == self.size

    @functools.cached_property
    def pattern(self) -> Pattern:
        """The entries, each once."""
        return Pattern(self.rows, self.columns, self.shape)

    def dense(self, values: np.ndarray) -> np.ndarray:
        matrix = np.zeros(self.shape)
        if self._distinct:
            matrix.ravel()[self._places] = values
        else:
            np.add.at(matrix.ravel(), self._places, values)
        return matrix

    def halved(self, values: np.ndarray) -> np.ndarray:
        """The values of a symmetric matrix, each standing for the entry on the other side of the diagonal too."""
        return np.where(self.mirrored, 0.5 * values, values) if np.any(self.mirrored) else values

    def symmetric(self, values: np.ndarray) -> np.ndarray:
        """From the entries of one triangle: entry (i, j) stands for (j, i) too, unless both are given."""
        triangle = self.dense(self.halved(values))
        return triangle + triangle.T - np.diag(np.diagonal(triangle))


class CallbackFunctions(AbstractHostFunctions):
    """The callbacks of a ``problem_obj``: `objective`, `gradient`, `constraints`, `jacobian`, `hessian` and their structures.

    Structures are asked for once. A callback that raises `CyIpoptEvaluationError` answers NaN; other exceptions pass through.
    """

    def __init__(self, callbacks: Any, n: int, m: int, exact: bool):
        self.n, self.m, self.exact, self._callbacks = n, m, exact, callbacks
        self.evaluations = Evaluations()
        self._latest: tuple[bytes, float, np.ndarray] | None = None
        self._slopes: tuple[bytes, np.ndarray, np.ndarray] | None = None
        self.jacobian_structure = self.hessian_structure = None
        if m:
            self.jacobian_structure = self._structure(
                "jacobianstructure", (m, n), lambda: np.indices((m, n)).reshape(2, -1)
            )
        if exact:
            self.hessian_structure = self._structure("hessianstructure", (n, n), lambda: np.tril_indices(n))
        self._jacobian_matrix = None if self.jacobian_structure is None else self.jacobian_structure.dense
        self._hessian_matrix = None if self.hessian_structure is None else self.hessian_structure.symmetric

    def _structure(self, name: str, shape: tuple[int, int], dense: Callable[[], Any]) -> Structure:
        callback = getattr(self._callbacks, name, None)
        if callback is not None and not callable(callback):
            raise TypeError(f"`{name}` must be callable or None, got {type(callback).__name__}")
        return Structure((callback or dense)(), name, shape)

    @property
    def has_both_triangles(self) -> bool:
        """Whether entries of the Hessian are listed on both sides of its diagonal."""
        return self.hessian_structure is not None and bool(np.any(self.hessian_structure.mirrored))

    @property
    def has_structures(self) -> bool:
        """Whether anything was said about where entries are, if there are any."""
        names = ("jacobianstructure",) * (self.m > 0) + ("hessianstructure",) * self.exact
        return not names or any(callable(getattr(self._callbacks, name, None)) for name in names)

    @property
    def patterns(self) -> tuple[Pattern, Pattern]:
        """Of the Jacobian and, of one triangle or both, the Hessian; of one that is not exact, nothing."""
        jacobian, hessian, n = self.jacobian_structure, self.hessian_structure, self.n
        return (
            Pattern.empty(0, n) if jacobian is None else jacobian.pattern,
            Pattern.empty(n, n) if hessian is None else hessian.pattern,
        )

    def become_sparse(self) -> None:
        """From now on derivatives are sparse matrices."""
        self.structure = HostStructure.of(*self.patterns)
        j, h = self.jacobian_structure, self.hessian_structure
        if j is not None:
            self._jacobian_matrix = Entries(j.rows, j.columns, self.structure.jacobian).matrix
        if h is not None:
            lower = np.maximum(h.rows, h.columns), np.minimum(h.rows, h.columns)
            entries = Entries(*lower, self.structure.hessian)
            self._hessian_matrix = lambda values: entries.matrix(h.halved(values))

    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        key = x.tobytes()
        if self._latest is not None and self._latest[0] == key:
            return self._latest[1:]
        objective = self.objective(x.copy())
        rows = self.constraints(x.copy()) if self.m else np.zeros(0)
        self._latest = (key, objective, rows)
        return objective, rows

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        objective, rows = self.values(x)
        key = x.tobytes()
        if self._slopes is None or self._slopes[0] != key:
            # The pass that estimates multipliers and the first iteration look at the same point.
            jacobian = self.jacobian(x.copy()) if self.m else self._no_rows()
            self._slopes = (key, self.gradient(x.copy()), jacobian)
        _, gradient, jacobian = self._slopes
        hessian = self.hessian(x.copy(), y, weight) if second_order else None
        return HostDerivatives(objective, rows, gradient, jacobian, hessian)

    def objective(self, x: np.ndarray) -> float:
        self.evaluations.objective += 1
        return float(self._call("objective", (), x)[()])

    def gradient(self, x: np.ndarray) -> np.ndarray:
        self.evaluations.gradient += 1
        return self._call("gradient", (self.n,), x)

    def constraints(self, x: np.ndarray) -> np.ndarray:
        self.evaluations.constraints += 1
        return self._call("constraints", (self.m,), x)

    def _no_rows(self) -> Any:
        return np.zeros((0, self.n)) if self.structure is None else stored(self.structure.jacobian, np.zeros(0))

    def jacobian(self, x: np.ndarray) -> Any:
        """Dense or sparse, from the entries of the callback."""
        assert self.jacobian_structure is not None and self._jacobian_matrix is not None
        self.evaluations.jacobian += 1
        return self._jacobian_matrix(self._call("jacobian", (self.jacobian_structure.size,), x))

    def hessian(self, x: np.ndarray, y: np.ndarray, weight: float) -> Any:
        """Dense and symmetric, or the lower triangle of a sparse matrix; from one triangle."""
        assert self.hessian_structure is not None and self._hessian_matrix is not None
        self.evaluations.hessian += 1
        return self._hessian_matrix(self._call("hessian", (self.hessian_structure.size,), x, y.copy(), weight))

    def _call(self, name: str, shape: tuple[int, ...], *arguments: Any) -> np.ndarray:
        function: Callable = getattr(self._callbacks, name)
        try:
            value = function(*arguments)
        except Exception as error:
            if says_not_here(error):
                return np.full(shape, np.nan)
            raise
        array = real_array(value, name)
        size = shape[0] if shape else 1
        if array.size != size or (array.ndim > 1 and max(array.shape) != size):
            wanted = f"{shape[0]} numbers" if shape else "a scalar"
            raise ValueError(f"`{name}` must return {wanted}, got shape {array.shape}")
        return array.reshape(shape)
