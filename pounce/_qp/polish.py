"""The last digits of a quadratic program: the equations of its active set, solved once."""

import dataclasses

import scipy.sparse

from .._results import ConicStatus
from .active import ActiveSystem, dominant
from .data import Point
from .result import Asked, QpResult, verdict


LARGEST = 50_000  # variables and rows of a sparse program


def polished(asked: Asked, result: QpResult) -> QpResult:
    """The solution on the active set of ``result``, if it is a better one: `result` otherwise."""
    if result.status not in (ConicStatus.Optimal.label, ConicStatus.Optimal_Inaccurate.label):
        return result
    data = asked.data
    if any(scipy.sparse.issparse(given) for given in (data.P, data.A, data.G)) and sum(data.sizes) > LARGEST:
        return result  # fill-in may take hours; the kernel has been on these equations already
    old = Point(result.x, result.y, result.z, result.z_lb, result.z_ub)
    point = ActiveSystem(data, dominant(data, old)).point()
    if point is None:
        return result
    status, quality = verdict(asked, point, ConicStatus.Optimal)
    # Signs, feasibility and stationarity are all in this one number.
    if not quality.residuals["kkt_error"] < result.kkt_error:
        return result
    if quality.error > asked.tol:
        status = ConicStatus[result.status.title()]
    s = result.s if data.G is None else data.h - data.G @ point.x
    return dataclasses.replace(
        result, status=status.label, **point._asdict(), obj=quality.objective, residuals=quality.residuals, s=s
    )
