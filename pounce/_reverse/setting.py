"""What a solve is given beside its functions, and the few shapes it is rounded up to.

Rounding up costs nothing but zeros: a variable too many is fixed, a row too many has no bounds.
"""

import equinox as eqx
import numpy as np

from .._interior.solver import InteriorPointMethod
from .._interior.start import Bounds, WarmStart


class Setting(eqx.Module):
    """Everything a solve takes but its functions, in float64. Arrays of NumPy outside, traced inside."""

    x0: np.ndarray
    bounds: Bounds
    warm: WarmStart | None
    scaling: tuple | None  # user's (objective, rows) factors
    traced_numbers: np.ndarray


def padded_size(size: int, smallest: int) -> int:
    """The size that a program of ``size`` variables or rows is compiled for."""
    if size == 0 or size > 128:
        return size
    if size <= 32:
        return max(smallest, 1 << (size - 1).bit_length())
    return -(-size // 16) * 16


def pad(setting: Setting, method: InteriorPointMethod) -> Setting:
    """The setting rounded up to a shape that others share."""
    n, m, b = setting.x0.shape[0], setting.bounds.cl.shape[0], setting.bounds
    # Variables too many must stay fixed, which they do unless too few others are free.
    too_few = np.sum(b.cl == b.cu) > np.sum(b.lb != b.ub)
    if too_few or method.choices.fixed_variable_treatment == "relax_bounds":
        return setting
    more_n, more_m = padded_size(n, 4) - n, padded_size(m, 4) - m
    zeros, ones = np.zeros(more_n), np.ones(more_m)
    bounds = Bounds(
        np.concatenate([b.lb, zeros]),
        np.concatenate([b.ub, zeros]),
        np.concatenate([b.cl, -np.inf * ones]),
        np.concatenate([b.cu, np.inf * ones]),
    )
    warm, scaling = setting.warm, setting.scaling
    if warm is not None:
        warm = WarmStart(
            np.concatenate([warm.rows, 0 * ones]),
            np.concatenate([warm.lower, zeros]),
            np.concatenate([warm.upper, zeros]),
        )
    if scaling is not None:
        scaling = (scaling[0], np.concatenate([scaling[1], ones]))
    return Setting(np.concatenate([setting.x0, zeros]), bounds, warm, scaling, setting.traced_numbers)


def scaled(setting: Setting, scale: np.ndarray) -> Setting:
    """The setting in the variables ``scale * x``."""
    b, warm = setting.bounds, setting.warm
    if warm is not None:
        warm = WarmStart(warm.rows, warm.lower / scale, warm.upper / scale)
    bounds = Bounds(b.lb * scale, b.ub * scale, b.cl, b.cu)
    return Setting(setting.x0 * scale, bounds, warm, setting.scaling, setting.traced_numbers)
