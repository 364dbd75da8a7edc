"""Arguments of the host doors of convex programs: everything becomes float64 in NumPy, and is checked."""

import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jax.core import Tracer

from .._conic.data import NO_BOUND
from .._convex_arguments import iteration_limit, real_numbers, stated, tolerance
from .._problem.sparsity import PounceSparsityWarning
from .._quadratic_form import rounding_of
from .._sparse_arguments import MATRICES, host_matrix, sparse_pays
from .data import Point, Program


NAMES = Program._fields
MANY_ELEMENTS = 1_000_000
ALWAYS_CHECKED = 1500  # variables up to which convexity is checked unasked
WIDE_RANGE = 1e12
PACKAGE = str(Path(__file__).resolve().parent.parent)


_warned = False


class Limits(NamedTuple):
    """When a solve ends."""

    tol: float
    max_iter: int
    time_limit: float | None


def limits(tol: Any, max_iter: Any, time_limit: Any = None) -> Limits:
    """Checked limits, with their defaults."""
    if time_limit is not None:
        good = isinstance(time_limit, (int, float, np.number)) and not isinstance(time_limit, bool)
        if not good or not 0 <= float(time_limit) < math.inf:
            raise ValueError(f"`time_limit` must be a finite number of seconds >= 0, got {time_limit!r}")
        time_limit = float(time_limit)
    return Limits(tolerance(tol, np.float64), iteration_limit(max_iter), time_limit)


def open_fraction(value: Any, name: str) -> None:
    """Raises `ValueError` unless ``value`` is None or lies in (0, 1)."""
    good = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if value is not None and not (good and 0.0 < float(value) < 1.0):
        raise ValueError(f"`{name}` must be a number in (0, 1), got {value!r}")


def host_data(given: Mapping[str, Any], check_psd: bool | None = None) -> Program:
    """The program of the arguments that are called ``P, c, A, b, G, h, lb, ub``, its numbers in NumPy.

    ``P`` is symmetric or a lower triangle, and checked to be positive semidefinite if ``check_psd`` says so, by default up to
    1500 variables.
    """
    if check_psd is not None and not isinstance(check_psd, (bool, np.bool_)):
        raise ValueError(f"`check_psd` must be True, False or None, got {check_psd!r}")
    if given.get("c") is None:
        raise ValueError("`c` is missing: it gives the number of variables (use zeros for no linear term)")
    for name in ("P", "A", "G"):
        _watch_size(given.get(name), name)
    sparse = sparse_pays(given)

    def array(name: str) -> Any:
        if sparse and name in MATRICES and not isinstance(given[name], Tracer):
            return host_matrix(given[name], name)
        return host_array(given[name], name)

    arrays = {name: array(name) for name in NAMES if given.get(name) is not None}
    data = Program._make(stated(arrays, rounding_of(given.get("P"))))
    lb, ub = (_or_none(bound, sign) for bound, sign in ((data.lb, -1.0), (data.ub, 1.0)))
    check_convex(data.P, check_psd)
    return data._replace(lb=lb, ub=ub)


def _or_none(bound: Any, sign: float) -> Any:
    """A bound; None if it is absent everywhere."""
    return bound if bound is not None and np.any(sign * bound < NO_BOUND) else None


def host_array(value: Any, name: str) -> np.ndarray:
    """``value`` in float64."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"`{name}` is traced by JAX, but this function runs outside of JAX: under jit, grad and vmap use "
            "`pounce.solve_conic` or the functions of `pounce.jax`"
        )
    return np.asarray(real_numbers(value, name), np.float64)


def _watch_size(value: Any, name: str) -> None:
    global _warned
    if _warned or value is None or scipy.sparse.issparse(value) or np.size(value) < MANY_ELEMENTS:
        return
    _warned = True
    warnings.warn(
        f"`{name}` is a dense matrix of {np.size(value)} elements. If most of them are zero, hand it over as a scipy.sparse "
        "matrix; if not, expect every iteration to take long",
        PounceSparsityWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """The level of the first frame that is not in this package, as `warnings.warn` in the caller of this function counts."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def _check_convex_sparse(P: Any, slack: float) -> None:
    """By a factorisation without row exchanges, whose pivots have the signs of the eigenvalues (Sylvester)."""
    from scipy.sparse.linalg import splu

    n = P.shape[0]
    linked = np.flatnonzero(np.diff(P.indptr) > (P.diagonal() != 0))
    least = float(P.diagonal().min())
    if least >= -slack and linked.size:
        block = scipy.sparse.csc_array(P[linked][:, linked] + slack * scipy.sparse.eye_array(linked.size))
        try:
            factor = splu(block, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=dict(SymmetricMode=True))
            kept = np.array_equal(factor.perm_r, factor.perm_c)
            least = float(factor.U.diagonal().min()) if kept else -np.inf
        except RuntimeError:
            least = -np.inf
        if least < 0 and linked.size <= ALWAYS_CHECKED:
            # Rounding may have done that.
            least = float(np.linalg.eigvalsh(P[linked][:, linked].toarray())[0])
    if least < -slack:
        raise ValueError(f"`P` must be positive semidefinite, but it has a negative eigenvalue ({n} rows)")


def check_convex(P: Any, check_psd: bool | None) -> None:
    """Raises `ValueError` if ``P`` has an eigenvalue below ``-1e-8 max(1, max |P|)``, if that is to be checked."""
    if P is None or check_psd is False or (check_psd is None and P.shape[0] > ALWAYS_CHECKED):
        return
    slack = 1e-8 * max(1.0, float(abs(P).max()))
    if scipy.sparse.issparse(P):
        _check_convex_sparse(P, slack)
        return
    try:
        np.linalg.cholesky(P + slack * np.eye(P.shape[0]))
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(P)[0])
        if least < -slack:
            raise ValueError(f"`P` must be positive semidefinite, but its smallest eigenvalue is {least:.6g}") from None


def warn_if_not_convex(P: Any, status: str) -> None:
    """After a solve that failed: say so if ``P``, which may not have been checked, is to blame."""
    if P is None:
        return
    try:
        check_convex(P, True)
    except ValueError as error:
        warnings.warn(
            f"the solve ended with status {status!r}, and it is not convex: {error}", UserWarning, stacklevel=_outside()
        )


def scaling_warning(data: Program) -> str | None:
    """A sentence if the nonzero numbers of a program differ by more than a factor of 1e12 in magnitude."""
    arrays = [
        v.data if scipy.sparse.issparse(v) else v.ravel()
        for v in (data.P, data.c, data.A, data.b, data.G, data.h)
        if v is not None
    ]
    magnitudes = np.abs(np.concatenate(arrays))
    magnitudes = magnitudes[(magnitudes > 0) & (magnitudes < NO_BOUND)]
    if not magnitudes.size:
        return None
    low, high = float(magnitudes.min()), float(magnitudes.max())
    if high <= WIDE_RANGE * low:
        return None
    return (
        f"the nonzero data range from {low:.1e} to {high:.1e} in magnitude: are the smallest meant to be zero, "
        "or would other units bring them together?"
    )


def warm_point(warm_start: Any, data: Program, name: str = "warm_start") -> Point | None:
    """The parts ``x, y, z, z_lb, z_ub`` of a former result or a mapping; what is missing or of another size is zero."""
    if warm_start is None:
        return None
    mapping = isinstance(warm_start, Mapping)
    if not mapping and not hasattr(warm_start, "x"):
        raise ValueError(
            f"`{name}` must be a result or a mapping with any of x, y, z, z_lb, z_ub, got {type(warm_start).__name__}"
        )
    n, p, m = data.sizes
    sizes = dict(zip(Point._fields, (n, p, m, n, n)))

    def part(key: str) -> np.ndarray:
        value = warm_start.get(key) if mapping else getattr(warm_start, key, None)
        if value is None:
            return np.zeros(sizes[key])
        array = host_array(value, f"{name}.{key}")
        fits = array.shape == (sizes[key],) and np.all(np.isfinite(array))
        return array if fits else np.zeros(sizes[key])

    return Point._make(map(part, Point._fields))
