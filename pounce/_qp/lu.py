"""LU factorisations with row exchanges on the host, of dense and of sparse matrices."""

import abc
import functools
from typing import Any

import numpy as np
import scipy.sparse


@functools.cache
def _lapack(name: str) -> Any:
    """A routine of LAPACK for float64."""
    from scipy.linalg import get_lapack_funcs

    return get_lapack_funcs(name, dtype=np.float64)


class AbstractLU(abc.ABC):
    """The factors of a square matrix."""

    @abc.abstractmethod
    def solve(self, right: np.ndarray) -> np.ndarray:
        """The matrix's inverse times a vector."""

    @abc.abstractmethod
    def inverse_norm(self) -> float:
        """An estimate of the 1-norm of the inverse; infinite for a singular matrix."""


class DenseLU(AbstractLU):
    """By LAPACK."""

    def __init__(self, matrix: np.ndarray):
        self._factors, self._pivots, self._info = _lapack("getrf")(matrix)

    def solve(self, right: np.ndarray) -> np.ndarray:
        return _lapack("getrs")(self._factors, self._pivots, right)[0]

    def inverse_norm(self) -> float:
        reciprocal = _lapack("gecon")(self._factors, 1.0)[0] if self._info == 0 else 0.0
        return float("inf") if reciprocal == 0 else 1.0 / float(reciprocal)


class SparseLU(AbstractLU):
    """By SuperLU."""

    def __init__(self, matrix: Any):
        from scipy.sparse.linalg import splu

        self._size = matrix.shape[0]
        try:
            self._factors: Any = splu(scipy.sparse.csc_array(matrix))
        except RuntimeError:  # a column without any pivot
            self._factors = None

    def solve(self, right: np.ndarray) -> np.ndarray:
        return np.full_like(right, np.nan) if self._factors is None else self._factors.solve(right)

    def inverse_norm(self) -> float:
        """By Hager's method (1984), with Higham's last guess (1988)."""
        if self._factors is None:
            return float("inf")
        n, solve = self._size, self._factors.solve
        x, alternating = np.full(n, 1.0 / n), np.where(np.arange(n) % 2, -1.0, 1.0) * np.linspace(1.0, 2.0, n)
        estimate = 2.0 / (3.0 * n) * float(np.sum(np.abs(solve(alternating))))
        for _ in range(5):
            y = solve(x)
            size, z = float(np.sum(np.abs(y))), solve(np.where(y < 0, -1.0, 1.0), "T")
            estimate, best = max(size, estimate), int(np.argmax(np.abs(z)))
            if not abs(z[best]) > z @ x:
                break
            x = np.zeros(n)
            x[best] = 1.0
        return estimate if np.isfinite(estimate) else float("inf")


def factorized(matrix: Any) -> AbstractLU:
    """The factors of a matrix of either kind."""
    return SparseLU(matrix) if scipy.sparse.issparse(matrix) else DenseLU(matrix)
