"""What the message of a failed solve says beside the status: where constraints are violated most, and what may be to blame."""

from collections.abc import Sequence

import numpy as np

from .._interior.start import Bounds
from .._results import Status
from .outcome import GOOD_ENOUGH


# Ends that a wrong derivative leads to.
_UNEXPLAINED = (
    Status.Search_Direction_Becomes_Too_Small,
    Status.Maximum_Iterations_Exceeded,
    Status.Restoration_Failed,
    Status.Error_In_Step_Computation,
)


def remarks(
    status: int, rows: np.ndarray, bounds: Bounds, names: Sequence[tuple[str, int]], own_derivatives: Sequence[str]
) -> str:
    """To be appended to the message of a solve that did not succeed.

    **Arguments:**

    - `rows`: values of the constraints, ``(m,)``. `names`: the name of each constraint and its number of rows, in order.
    - `own_derivatives`: names of first derivatives that the user gave.
    """
    said = "" if status == Status.User_Requested_Stop else worst(rows, bounds, names)
    if own_derivatives and status in _UNEXPLAINED:
        names_of = " or ".join(f"`{name}`" for name in own_derivatives[:3])
        said += f'; is {names_of} right? options={{"derivative_test": "first-order"}} compares with differences'
    return said


def worst(rows: np.ndarray, bounds: Bounds, names: Sequence[tuple[str, int]]) -> str:
    """Which row is violated most, and by how much; empty if none is."""
    if not rows.size:
        return ""
    lower, upper = np.asarray(bounds.cl), np.asarray(bounds.cu)
    with np.errstate(invalid="ignore"):
        beyond = np.maximum(np.maximum(lower - rows, rows - upper), 0.0)
        limit = np.where(rows < lower, lower, upper)
        relative = beyond / np.maximum(1.0, np.where(np.isfinite(limit), np.abs(limit), 1.0))
    relative = np.where(np.isnan(rows), np.inf, relative)
    k = int(np.argmax(relative))
    if relative[k] <= GOOD_ENOUGH:
        return ""
    row, place = k, ""
    for name, size in names:
        if row < size:
            place = name if size == 1 else f"{name}, row {row}"
            break
        row -= size
    what = "is NaN" if np.isnan(rows[k]) else f"is violated by {beyond[k]:.3g}"
    others = int(np.count_nonzero(relative > GOOD_ENOUGH)) - 1
    more = f" (and {others} more row{'s' * (others > 1)} less)" if others else ""
    return f"; {place} {what}{more}"
