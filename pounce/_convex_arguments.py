"""The arguments all convex doors share: matrices and vectors checked and made into one `ConicData`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

from . import _check as check
from ._conic.data import ConicData
from ._linalg.sparse import SparseMatrix
from ._quadratic_form import rounding_of, symmetric_form
from ._sparse_arguments import MATRICES, finite, is_sparse, sparse_pays, traced_matrix


def convex_data(P: Any, c: Any, A: Any, b: Any, G: Any, h: Any, lb: Any, ub: Any) -> ConicData:
    """The program ``min 1/2 x'Px + c'x  s.t.  Ax = b, Gx <= h (in a cone), lb <= x <= ub``.

    NumPy arrays, SciPy sparse matrices and JAX arrays (traced ones too) are all accepted, `BCOO` matrices if their indices are
    known. What is sparse stays so where that pays. ``P`` stands for what `symmetric_form` says. Numbers that are known are
    checked: `ValueError` names the argument, its shape or entry, and what was expected. An infinite entry of ``h`` may stand for
    a row that is absent; `closed_cones` checks whether it may do so there.
    """
    if c is None:
        raise ValueError("`c` is missing: it gives the number of variables (use zeros for no linear term)")
    given = {"P": P, "c": c, "A": A, "b": b, "G": G, "h": h, "lb": lb, "ub": ub}
    sparse = sparse_pays(given)

    def array(value: Any, name: str) -> Any:
        if sparse and name in MATRICES:
            return traced_matrix(value if is_sparse(value) else _array(value, name), name, symmetric=name == "P")
        return _array(value, name)

    arrays = {name: array(value, name) for name, value in given.items() if value is not None}
    dtype = jnp.result_type(*(v.dtype for v in arrays.values() if jnp.issubdtype(v.dtype, jnp.floating)), jnp.float32)
    if not any(jnp.issubdtype(v.dtype, jnp.floating) for v in arrays.values()):
        dtype = jnp.result_type(float)

    def cast(value: Any) -> Any:
        if isinstance(value, SparseMatrix):
            return SparseMatrix(cast(value.values), value.pattern)
        return check.strong(value if value.dtype == dtype else value.astype(dtype))

    arrays = {name: cast(value) for name, value in arrays.items()}
    return ConicData(*stated(arrays, rounding_of(P), open_rows=True))


def stated(arrays: dict[str, Any], rounding: float, open_rows: bool = False) -> tuple[Any, ...]:
    """The parts of a program, in order, from arrays of one floating dtype by name; ``P`` is symmetric up to ``rounding``.

    Shapes are checked, and what of the numbers is known.
    """
    c = arrays["c"]
    if c.ndim != 1 or c.shape[0] == 0:
        many = "; many linear terms are for `solve_qp_batch` or `QpLayer.batch`" if c.ndim == 2 else ""
        raise ValueError(f"`c` must be a one-dimensional array with at least one entry, got shape {c.shape}{many}")
    n = c.shape[0]
    P = arrays.get("P")
    if P is not None:
        if P.shape != (n, n):
            raise ValueError(f"`P` must have shape ({n}, {n}) to go with `c`, got shape {P.shape}")
        if check.is_concrete(P):
            finite(P, "P")
        P = symmetric_form(P, rounding)
    A, b = _rows(arrays, "A", "b", n)
    G, h = _rows(arrays, "G", "h", n)
    lb, ub = (_bound(arrays.get(name), name, n) for name in ("lb", "ub"))
    for name, value in (("c", c), ("A", A), ("b", b), ("G", G), ("h", h)):
        if value is not None and check.is_concrete(value):
            absent = name == "h" and open_rows
            finite(np.where(np.asarray(value) == np.inf, 0.0, value) if absent else value, name)
    return P, c, A, b, G, h, lb, ub


def closed_cones(h: Any, inequalities: np.ndarray) -> None:
    """Raises `ValueError` where ``h`` is known to be infinite in another row than an inequality."""
    if h is not None and check.is_concrete(h):
        absent = np.setdiff1d(np.flatnonzero(np.asarray(h) == np.inf), inequalities)
        if absent.size:
            raise ValueError(f"`h[{absent[0]}]` is inf: only a row of a nonnegative cone can be absent")


def _array(value: Any, name: str) -> Array | np.ndarray:
    array = real_numbers(value, name)
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
    return array


def real_numbers(value: Any, name: str) -> Array | np.ndarray:
    """``value`` as a dense array of whatever real dtype; `ValueError` naming it if it is something else."""
    if scipy.sparse.issparse(value):
        value = value.toarray()
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be an array of real numbers, got {value!r:.60}") from error
    if array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"`{name}` must be made of real numbers, got dtype {array.dtype}")
    return array


def _rows(arrays: dict[str, Any], matrix: str, side: str, n: int) -> tuple[Any, Any]:
    """A matrix and its right-hand side; both None if there are no rows."""
    rows, right = arrays.get(matrix), arrays.get(side)
    if rows is None and right is None:
        return None, None
    if rows is None or right is None:
        missing, there = (matrix, side) if rows is None else (side, matrix)
        given: Any = right if rows is None else rows
        if math.prod(given.shape) == 0:
            return None, None
        raise ValueError(f"`{missing}` is missing: `{there}` was given without it")
    if len(rows.shape) != 2 or rows.shape[1] != n:
        raise ValueError(f"`{matrix}` must have shape (rows, {n}) to go with `c`, got shape {rows.shape}")
    if right.ndim != 1 or right.shape[0] != rows.shape[0]:
        raise ValueError(
            f"`{side}` must have length {rows.shape[0]}, one entry for each row of `{matrix}`, got shape {right.shape}"
        )
    return (rows, right) if rows.shape[0] else (None, None)


def _bound(value: Any, name: str, n: int) -> Any:
    if value is None:
        return None
    if value.ndim == 0:
        value = (np if isinstance(value, np.ndarray) else jnp).broadcast_to(value, (n,))
    if value.shape != (n,):
        raise ValueError(f"`{name}` must have length {n}, got shape {value.shape}")
    if check.is_concrete(value):
        numbers = np.asarray(value)
        check.no_nan(numbers, name)
        wrong = np.inf if name == "lb" else -np.inf
        if np.any(numbers == wrong):
            i = int(np.flatnonzero(numbers == wrong)[0])
            raise ValueError(f"`{name}[{i}]` is {wrong}: no point can satisfy that")
    return value


def tolerance(tol: Any, dtype) -> float:
    """``tol``, or the default of the dtype; `ValueError` unless it lies in (0, 1)."""
    if tol is None:
        return 1e-8 if dtype == np.float64 else 1e-4
    if isinstance(tol, bool) or not isinstance(tol, (int, float, np.number)) or not 0.0 < float(tol) < 1.0:
        raise ValueError(f"`tol` must be a number in (0, 1), got {tol!r}")
    return float(tol)


def iteration_limit(max_iter: Any) -> int:
    """``max_iter``, 200 by default; `ValueError` unless it is a positive integer."""
    if max_iter is None:
        return 200
    if isinstance(max_iter, bool) or not isinstance(max_iter, (int, np.integer)) or max_iter < 1:
        raise ValueError(f"`max_iter` must be a positive integer, got {max_iter!r}")
    return int(max_iter)
