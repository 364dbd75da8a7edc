"""What a matrix ``P`` of ``1/2 x'Px`` stands for: itself if it is symmetric, its mirror image if it is a lower triangle."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sps

from . import _check as check
from ._linalg.sparse import SparseMatrix


def rounding_of(P: Any) -> float:
    """How much entries of a symmetric matrix may differ, relative to those that bound them: the square root of the rounding of
    whatever dtype it has been computed in."""
    dtype = np.dtype(getattr(P, "dtype", np.float64))
    precise = dtype == np.float64 or dtype.kind in "iubO"
    return float(np.sqrt(np.finfo(np.float64 if precise else np.float32).eps))


def symmetric_form(P: Any, rounding: float) -> Any:
    """The symmetric matrix that ``P`` of shape ``(n, n)``, dense or of SciPy, stands for; a sparse one in canonical order.

    ``P`` is mirrored if nothing stands above its diagonal, else its symmetric part is taken. Numbers that can be looked at
    have to be symmetric then: `ValueError` with both readings if they are not.
    """
    if isinstance(P, SparseMatrix):
        return P  # the lower triangle stands for all of it
    if sps.issparse(P):
        matrix = sps.csr_array(P, copy=True)  # the caller's stays as it is
        matrix.sum_duplicates()
        other = sps.csr_array(matrix.T)
        if all(np.array_equal(getattr(matrix, k), getattr(other, k)) for k in ("indptr", "indices", "data")):
            return matrix
        entries = matrix.tocoo()
        rows, columns, values = entries.row, entries.col, entries.data
        if is_triangle(P, rounding):
            values = np.where(rows == columns, 0.5, 1.0) * values
        else:
            values = 0.5 * values
        both = (np.concatenate([rows, columns]), np.concatenate([columns, rows]))
        found = sps.csr_array((np.concatenate([values, values]), both), shape=P.shape)
        found.sum_duplicates()
        return found
    if check.is_concrete(P):
        numbers = np.asarray(P)
        if np.array_equal(numbers, numbers.T):
            return P.copy()  # the caller may write to theirs
        triangle = is_triangle(numbers, rounding)
        return P + np.tril(P, -1).T if triangle else 0.5 * (P + P.T)
    triangle = jnp.any(jnp.tril(P, -1) != 0) & ~jnp.any(jnp.triu(P, 1) != 0)
    return jnp.where(triangle, jnp.tril(P) + jnp.tril(P, -1).T, 0.5 * (P + P.T))


def is_triangle(P: Any, rounding: float) -> bool:
    """Whether a matrix of finite numbers stands for its mirror image. Raises `ValueError` if it is neither that nor symmetric."""
    triangles = sps if sps.issparse(P) else np
    above, below = triangles.triu(P, 1), triangles.tril(P, -1)
    if not _any(above):
        return _any(below)
    i, j = abs(above - below.T).nonzero()
    if i.size == 0:
        return False
    P = sps.csr_array(P)
    here, there = (np.asarray(P[rows, columns]).ravel() for rows, columns in ((i, j), (j, i)))
    # Of a positive semidefinite matrix, sqrt(P_ii P_jj) bounds P_ij in whatever units.
    root = np.sqrt(np.abs(P.diagonal()))
    most = np.maximum(root[i] * root[j], np.maximum(np.abs(here), np.abs(there)))
    wrong = np.flatnonzero(np.abs(here - there) > rounding * most)
    if not wrong.size:
        return False
    k = wrong[0]
    if _any(below):
        how = "is not symmetric"
    else:
        how = "has entries above its diagonal alone (one triangle is mirrored if it is the lower one)"
    raise ValueError(
        f"`P` {how}: P[{i[k]}, {j[k]}] = {here[k]:.6g}, P[{j[k]}, {i[k]}] = {there[k]:.6g}. As the form x'Px it stands for "
        "(P + P.T) / 2, as one triangle of a symmetric matrix for triu(P) + triu(P, 1).T or tril(P) + tril(P, -1).T: give the "
        "whole matrix that is meant"
    )


def _any(matrix: Any) -> bool:
    return bool(np.any(matrix.data if sps.issparse(matrix) else matrix))
