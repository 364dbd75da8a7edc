"""Nonlinear programs whose functions live outside compiled code: the same two questions, asked from Python.

Everything here is NumPy in float64. A value that is not finite means that the functions cannot be evaluated there.
"""

import abc
import dataclasses

import numpy as np
import scipy.sparse as sps

from .sparse_host import HostStructure


@dataclasses.dataclass
class Evaluations:
    """How often each kind of function was evaluated."""

    objective: int = 0
    gradient: int = 0
    constraints: int = 0
    jacobian: int = 0
    hessian: int = 0


@dataclasses.dataclass(frozen=True)
class HostDerivatives:
    """Values and first derivatives at a point, and the Hessian of ``weight f + y'c`` where it was asked for.

    Matrices of sparse functions have all entries of their patterns, in order.
    """

    objective: float
    rows: np.ndarray  # (m,)
    gradient: np.ndarray  # (n,)
    jacobian: np.ndarray | sps.csr_array  # (m, n)
    hessian: np.ndarray | sps.csr_array | None  # (n, n), both triangles; a sparse one by its lower triangle


class AbstractHostFunctions(abc.ABC):
    """The functions of a program of ``n`` variables and ``m`` rows.

    ``exact`` says whether Hessians are to be had; ``structure``, whether matrices are sparse, and where their entries are.
    Exceptions pass through to whoever runs the solve.
    """

    n: int
    m: int
    exact: bool
    structure: HostStructure | None = None
    evaluations: Evaluations

    @abc.abstractmethod
    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective and rows at ``x`` of shape ``(n,)``: all a line search ever asks."""

    @abc.abstractmethod
    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        """Asked once per iteration."""
