"""One convex program: solved, and the solution judged."""

from typing import Any

import numpy as np

from .._cone_spec import Rows, orthant
from .arguments import Limits
from .cones import host_cones
from .data import Point, Program
from .drive import Task
from .kernel import Glance
from .result import Asked, QpResult, result_of
from .size_class import Fit


def inequalities(data: Program) -> Rows:
    """All rows of ``G`` in the orthant."""
    return orthant(data.sizes[2])


def asked_of(data: Program, rows: Rows, limits: Limits) -> Asked:
    """What a solution is to be judged by."""
    return Asked(data, host_cones(rows, data.sizes[2]), limits.tol)


def solve_one(
    data: Program, rows: Rows, warm: Point | None, limits: Limits, collect_iterates: bool = False
) -> QpResult:
    """The result for one program."""
    iterates: list[dict[str, Any]] | None = [] if collect_iterates else None
    on_row = None if iterates is None else lambda glance: iterates.append(_row(glance))
    fit = Fit(data, rows)
    solution, late = Task(fit.program, fit.inputs(data, warm), fit.tables).solve(limits, on_row)
    return result_of(asked_of(data, rows, limits), fit.solution(solution), late, iterates)


def _row(glance: Glance) -> dict[str, Any]:
    alpha = glance.alpha if np.isfinite(glance.alpha) else 0.0
    return dict(
        iter=int(glance.iteration),
        objective=glance.objective,
        primal_infeasibility=glance.primal_infeasibility,
        dual_infeasibility=glance.dual_infeasibility,
        mu=glance.mu,
        alpha_primal=alpha,
        alpha_dual=alpha,
    )
