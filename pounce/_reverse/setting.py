"""What a solve is given beside its functions, and the few shapes it is rounded up to.

Rounding up costs nothing but zeros: a variable too many is fixed, a row too many has no bounds.
"""

from typing import Any, NamedTuple

import numpy as np

from .._interior.options import Choices
from .._packing import Packing


class Setting(NamedTuple):
    """Everything a solve takes but its functions: float64 vectors of NumPy outside, traced inside. None: not used."""

    x0: Any
    lb: Any
    ub: Any
    cl: Any
    cu: Any
    warm_rows: Any  # multipliers to start from
    warm_lower: Any
    warm_upper: Any
    objective_scale: Any  # the user's factors
    row_scale: Any
    traced_numbers: Any


BY_VARIABLE = ("x0", "lb", "ub", "warm_lower", "warm_upper")
BY_ROW = ("cl", "cu", "warm_rows", "row_scale")
BEYOND = {"cl": -np.inf, "cu": np.inf, "row_scale": 1.0}  # what rows too many have; zero otherwise


def padded_size(size: int) -> int:
    """The size that a program of ``size`` variables or rows is compiled for: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, ... 128.

    Larger programs are compiled as they are: their zeros would cost more than a compilation is worth.
    """
    if size == 0 or size > 128:
        return size
    if size > 32:
        return -(-size // 16) * 16
    half = 1 << max((size - 1).bit_length() - 1, 0)
    between = half + half // 2
    return between if size <= between else 2 * half


def padded_shape(setting: Setting, choices: Choices) -> tuple[int, int]:
    """The numbers of variables and rows that a solve is rounded up to."""
    n, m = setting.x0.shape[0], setting.cl.shape[0]
    # Variables too many must stay fixed, which they do unless too few others are free.
    too_few = np.count_nonzero(setting.cl == setting.cu) > np.count_nonzero(setting.lb != setting.ub)
    if too_few or choices.fixed_variable_treatment == "relax_bounds":
        return n, m
    return padded_size(n), padded_size(m)


def blank_setting(setting: Setting, n: int, m: int) -> Setting:
    """A setting of that shape which uses what ``setting`` uses."""
    sizes = dict.fromkeys(BY_VARIABLE, (n,)) | dict.fromkeys(BY_ROW, (m,))
    sizes |= {"objective_scale": (), "traced_numbers": setting.traced_numbers.shape}
    return Setting(*(None if value is None else np.zeros(sizes[name]) for name, value in zip(Setting._fields, setting)))


def packed_setting(setting: Setting, packing: Packing) -> list[np.ndarray]:
    """The vectors of the setting in the packing of a larger shape."""
    vectors, views = packing.blank()
    given = ((name, value) for name, value in zip(Setting._fields, setting) if value is not None)
    for (name, value), view in zip(given, views):
        if value.ndim == 0:
            view[()] = value
            continue
        view[: value.shape[0]] = value
        if name in BEYOND:
            view[value.shape[0] :] = BEYOND[name]
    return vectors


def scaled_setting(setting: Setting, scale: np.ndarray) -> Setting:
    """The setting in the variables ``scale * x``."""
    lower, upper = setting.warm_lower, setting.warm_upper
    return setting._replace(
        x0=setting.x0 * scale,
        lb=setting.lb * scale,
        ub=setting.ub * scale,
        warm_lower=None if lower is None else lower / scale,
        warm_upper=None if upper is None else upper / scale,
    )
