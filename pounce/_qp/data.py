"""Programs and points on the host: tuples of float64 arrays of NumPy, and of SciPy where matrices are sparse."""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from .._linalg.entries import Entries
from .._linalg.sparse import Pattern, SparseMatrix


class Program(NamedTuple):
    """``min 1/2 x'Px + c'x  s.t.  Ax = b,  h - Gx in K,  lb <= x <= ub``; an array that is not there is None.

    The matrices are arrays of NumPy, or all of them are sparse arrays of SciPy, by rows and in canonical order.
    """

    P: Any
    c: Any
    A: Any
    b: Any
    G: Any
    h: Any
    lb: Any
    ub: Any

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of variables, of equality rows and of cone rows."""
        return self.c.shape[0], 0 if self.b is None else self.b.shape[0], 0 if self.h is None else self.h.shape[0]


def kernel_data(data: Program) -> Program:
    """The program with its sparse matrices as the kernel wants them: of ``P`` the lower triangle, the diagonal in full."""
    P, A, G = (
        kernel_matrix(given, symmetric) for given, symmetric in ((data.P, True), (data.A, False), (data.G, False))
    )
    return data._replace(P=P, A=A, G=G)


def kernel_matrix(given: Any, symmetric: bool) -> Any:
    """A matrix as the kernel wants it."""
    if not scipy.sparse.issparse(given):
        return given
    pattern = Pattern.of(given)
    if not symmetric:
        return SparseMatrix(given.data, pattern)
    diagonal = np.arange(given.shape[0])
    pattern = pattern.lower | Pattern(diagonal, diagonal, given.shape)
    values: Any = np.asarray(given[pattern.rows, pattern.columns]).ravel()
    return SparseMatrix(values, pattern)


class Point(NamedTuple):
    """A primal and dual point, or a certificate, in user units."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    z_lb: np.ndarray
    z_ub: np.ndarray


class Facts(NamedTuple):
    """Of a program that was rounded up to a larger one, in floats: how many variables there are in fact, and whether it has no
    Hessian, so that the one it has been given is zero."""

    variables: np.ndarray
    linear: np.ndarray


class Inputs(NamedTuple):
    """What a compiled solve is given: a program in the kernel's form, where to start (None: anywhere), and what its arrays do not
    tell (None: nothing)."""

    data: Program
    warm: Point | None
    facts: Facts | None


class Tables(NamedTuple):
    """The index tables of a sparse program: those of its KKT solver and, where its patterns are data, those of ``P``, ``A`` and
    ``G``, which are given by their values alone then."""

    solver: Any
    patterns: tuple[Entries, Entries, Entries] | None = None
