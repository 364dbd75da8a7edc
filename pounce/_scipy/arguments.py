"""Starting points, bounds, tolerances and options as people hand them to `scipy.optimize.minimize`."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .._check import finite_start, real_array
from ..options import SCIPY_NAMES, OptionError, checked


def real_vector(value: Any, name: str) -> np.ndarray:
    """A float64 copy; `TypeError` for what is not made of real numbers, `ValueError` for more than one dimension."""
    array = np.atleast_1d(real_array(value, name, "be a vector of"))
    if array.ndim != 1:
        raise ValueError(f"`{name}` must be a vector, got shape {array.shape}")
    return array


def starting_point(x0: Any) -> np.ndarray:
    """``x0`` as a finite vector; a scalar has length one."""
    point = real_vector(x0, "x0")
    finite_start(point)
    return point


def variable_bounds(bounds: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """``(lb, ub)`` from None, a `scipy.optimize.Bounds`, or a sequence of ``None | (lo, hi)`` with None for no bound."""
    if bounds is None:
        return np.full(n, -np.inf), np.full(n, np.inf)
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        pair = [_broadcast(getattr(bounds, side), f"bounds.{side}", n) for side in ("lb", "ub")]
        return checked_sides(pair[0], pair[1], "bounds")
    if isinstance(bounds, (str, bytes, Mapping)) or not isinstance(bounds, Iterable):
        raise TypeError(f"`bounds` must be a sequence of (lo, hi) or a scipy.optimize.Bounds, got {bounds!r}")
    entries = list(bounds)
    if len(entries) != n:
        raise ValueError(f"bounds has {len(entries)} entries but the problem has n = {n} variables")
    sides = [_pair(entry, i) for i, entry in enumerate(entries)]
    lower, upper = (np.array([pair[k] for pair in sides], dtype=np.float64) for k in (0, 1))
    return checked_sides(lower, upper, "bounds")


def _broadcast(value: Any, name: str, n: int) -> np.ndarray:
    array = real_vector(value, name)
    if array.size not in (1, n):
        raise ValueError(f"bounds has {array.size} entries but the problem has n = {n} variables (`{name}`)")
    return np.broadcast_to(array, (n,)).copy()


def _pair(entry: Any, i: int) -> tuple[float, float]:
    if entry is None:
        return -math.inf, math.inf
    try:
        if isinstance(entry, (str, bytes)):
            raise TypeError
        low, high = entry
        ends = tuple(math.inf * sign if end is None else float(end) for sign, end in ((-1, low), (1, high)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"bounds[{i}] must be None or a pair (lo, hi) of numbers or None, got {entry!r}") from error
    return ends[0], ends[1]


def checked_sides(lower: np.ndarray, upper: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both sides, if they can be met. Raises `ValueError` naming the first entry that cannot."""
    for i, (low, high) in enumerate(zip(lower, upper)):
        if math.isnan(low) or math.isnan(high):
            raise ValueError(f"{name}[{i}] is NaN: ({low}, {high}); use None or inf where there is no bound")
        if low == math.inf or high == -math.inf:
            raise ValueError(
                f"{name}[{i}] = ({low}, {high}) cannot be met: a lower bound of inf or an upper one of -inf"
            )
        if low > high:
            raise ValueError(f"{name}[{i}] is reversed: the lower bound {low} exceeds the upper bound {high}")
    return lower, upper


def merged_options(options: Any, more: Mapping[str, Any], tol: Any) -> dict[Any, Any]:
    """One mapping of all options that are not None. ``tol`` counts unless an option says otherwise, as in SciPy.

    Raises `TypeError` where ``options`` is no mapping.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"`options` must be a mapping from names to values, not {type(options).__name__}")
    merged = {name: value for name, value in {**(options or {}), **more}.items() if value is not None}
    tolerances = {alias for alias, name in SCIPY_NAMES.items() if name == "tol"} | {"tol"}
    if tol is not None and not tolerances & {name.lower() for name in merged if isinstance(name, str)}:
        merged["tol"] = tol
    return merged


def difference_steps(merged: dict[Any, Any], n: int) -> dict[str, Any]:
    """SciPy's options of differences, taken out of the others: ``eps``, an absolute step, and ``finite_diff_rel_step``, a
    relative one; each a positive number or one for every variable. By the names that `Announced` has for them."""
    found = {}
    for option, name in (("eps", "absolute_step"), ("finite_diff_rel_step", "relative_step")):
        given = [key for key in merged if isinstance(key, str) and key.lower() == option]
        for key in given:
            value = merged.pop(key)
            try:
                step = real_vector(value, option)
            except (TypeError, ValueError) as error:
                raise OptionError(f"`{option}` must be a positive number or {n} of them, got {value!r}") from error
            if step.size not in (1, n) or not np.all(np.isfinite(step) & (step > 0)):
                raise OptionError(f"`{option}` must be a positive number or {n} of them, got {value!r}")
            found[name] = step
    return found


def checked_options(merged: Mapping[Any, Any]) -> dict[str, Any]:
    """Options by canonical name. Ipopt's name outranks an alias, the last alias counts."""
    given: dict[str, Any] = checked(merged)
    tol, max_iter = given.get("tol", 1e-8), given.get("max_iter", 1)
    if not 0 < tol < 1:
        raise OptionError(f"`tol` must be finite, positive and less than 1, got {tol}")
    if max_iter < 1:
        raise OptionError(f"`max_iter` must be a positive integer, got {max_iter}")
    return given
