"""Sparse matrices as users hand them in: SciPy's and JAX's, and when the sparse kernel is the one to use."""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sps
from jax.core import Tracer

from . import _check as check
from ._linalg.sparse import Pattern, SparseMatrix
from ._quadratic_form import is_triangle, rounding_of, symmetric_form


# From this many variables and rows on, and with no more than this share of the entries of the dense matrices.
LEAST_SPARSE, MOST_DENSITY = 500, 0.1
MATRICES = ("P", "A", "G")


def _is_bcoo(value: Any) -> bool:
    """Whether this is a `BCOO` matrix. Who has one has imported the module, which takes as long as half of our own."""
    module = sys.modules.get("jax.experimental.sparse")
    return module is not None and isinstance(value, module.BCOO)


def is_sparse(value: Any) -> bool:
    """Whether a matrix is of one of the sparse kinds."""
    return sps.issparse(value) or isinstance(value, SparseMatrix) or _is_bcoo(value)


def sparse_pays(given: Mapping[str, Any]) -> bool:
    """Whether a program is for the sparse kernel: one with matrices of SciPy, large and with few entries; one of JAX always."""
    matrices = [given[name] for name in MATRICES if given.get(name) is not None]
    if any(isinstance(value, SparseMatrix) or _is_bcoo(value) for value in matrices):
        return True
    if not any(sps.issparse(value) for value in matrices) or any(
        np.ndim(value) != 2 for value in matrices if not is_sparse(value)
    ):
        return False
    n = max(value.shape[1] for value in matrices)
    rows = sum(given[name].shape[0] for name in ("A", "G") if given.get(name) is not None)
    stored = sum(value.nnz if sps.issparse(value) else np.size(value) for value in matrices)
    return n + rows >= LEAST_SPARSE and stored <= MOST_DENSITY * n * (n + rows)


def host_matrix(value: Any, name: str) -> sps.csr_array:
    """A real matrix in float64, by rows, with duplicates summed; `ValueError` if it is not made of real numbers."""
    matrix = value if sps.issparse(value) else np.asarray(value)
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` must be made of real numbers, got dtype {matrix.dtype}")
    matrix = sps.csr_array(matrix, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    return matrix


def finite(numbers: Any, name: str) -> None:
    """Raises `ValueError` naming the first entry of an array or a sparse matrix that is not finite."""
    if isinstance(numbers, SparseMatrix):
        numbers = numbers.pattern.scipy(numbers.values)
    if sps.issparse(numbers):
        entries = numbers.tocoo()
        wrong = np.flatnonzero(~np.isfinite(entries.data))
        if wrong.size:
            i, j, value = entries.row[wrong[0]], entries.col[wrong[0]], entries.data[wrong[0]]
            raise ValueError(f"`{name}[{i}, {j}]` is {value}: every entry must be finite")
        return
    numbers = np.asarray(numbers)
    if not np.all(np.isfinite(numbers)):
        index = tuple(int(k) for k in np.argwhere(~np.isfinite(numbers))[0])
        place = ", ".join(map(str, index))
        raise ValueError(f"`{name}[{place}]` is {numbers[index]}: every entry must be finite")


def traced_matrix(value: Any, name: str, symmetric: bool) -> SparseMatrix:
    """A matrix for the kernel, whose entries may be traced; of a symmetric one the lower triangle, as `symmetric_form` reads it.
    Entries that are traced count as not zero there."""
    if isinstance(value, SparseMatrix):
        return value
    if symmetric and len(value.shape) == 2 and value.shape[0] == value.shape[1] and not _is_bcoo(value):
        if check.is_concrete(value):
            finite(value, name)
        value = symmetric_form(value, rounding_of(value))
    if sps.issparse(value):
        entries: Any = value.tocoo()  # pyright: ignore
        rows, columns, values = entries.row, entries.col, np.asarray(entries.data)
    elif _is_bcoo(value):
        if isinstance(value.indices, Tracer):
            raise ValueError(f"the indices of `{name}` are traced: where its entries are has to be known")
        if value.n_batch or value.n_dense:
            raise ValueError(f"`{name}` must be a BCOO matrix without batch and dense dimensions")
        indices = np.asarray(value.indices)
        inside = np.all(indices < np.array(value.shape), axis=1)  # padding points behind the end
        rows, columns = indices[inside].T
        values = value.data[np.flatnonzero(inside)]
    else:
        rows, columns = np.indices(np.shape(value)).reshape(2, -1)
        values = value.reshape(-1)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.result_type(float))
    shape = value.shape
    if len(shape) != 2 or symmetric and shape[0] != shape[1]:
        raise ValueError(f"`{name}` must be a {'square ' if symmetric else ''}matrix, got shape {shape}")
    if symmetric:
        if not _mirrored(rows, columns, values, shape):
            values = jnp.where(rows == columns, values, 0.5 * values)
        rows, columns = np.maximum(rows, columns), np.minimum(rows, columns)
        index = np.arange(shape[0])
        pattern = Pattern(np.concatenate([rows, index]), np.concatenate([columns, index]), shape)
    else:
        pattern = Pattern(rows, columns, shape)
    places = pattern.positions(rows, columns)
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    return SparseMatrix(jnp.zeros(pattern.nnz, dtype).at[places].add(values), pattern)


def _mirrored(rows: np.ndarray, columns: np.ndarray, values: Any, shape: tuple[int, ...]) -> bool:
    """Whether entries of a square matrix stand for those on the other side of the diagonal too; of traced ones, where they are
    decides."""
    if isinstance(values, Tracer):
        values, rounding = (rows != columns).astype(float), np.inf
    else:
        values, rounding = np.asarray(values), rounding_of(values)
    return is_triangle(sps.csr_array((values, (rows, columns)), shape=shape), rounding)
