"""What the host doors of convex programs return."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from .._conic.solution import ConicSolution
from .._results import ConicStatus
from .arguments import scaling_warning, warn_if_not_convex
from .cones import HostCones
from .data import Point, Program
from .quality import Quality, farkas, optimality, ray


TRUSTED = 1e-6  # a relative error up to which a verdict of the solver stands whatever the tolerance
USELESS = 1e-3
UNPROVEN = 1e-4  # a relative error from which on a certificate is none
CERTIFICATES = {ConicStatus.Primal_Infeasible: farkas, ConicStatus.Dual_Infeasible: ray}


@dataclasses.dataclass(frozen=True, eq=False)
class QpResult:
    """A solution of a convex program, or a certificate that there is none. Arrays are NumPy's, in float64.

    ``P x + c + A'y + G'z - z_lb + z_ub = 0`` at a solution, with ``s = h - G x`` in the cone, ``z`` in its dual (for
    inequalities: ``s, z >= 0``) and ``z_lb, z_ub >= 0``.

    - `status`: ``"optimal"``, ``"optimal_inaccurate"`` (progress ended just before the tolerance),
      ``"primal_infeasible"``, ``"dual_infeasible"`` (unbounded, if there is a feasible point), ``"iteration_limit"``,
      ``"time_limit"``, ``"numerical_failure"``.
    - `x`, `y`, `z`, `z_lb`, `z_ub`: the point and its multipliers; zeros where there is no bound. After a limit, the
      last iterate. If primal infeasible, ``(y, z, z_lb, z_ub)`` is a Farkas certificate,
      ``A'y + G'z - z_lb + z_ub = 0`` and ``b'y + h'z - lb'z_lb + ub'z_ub = -1``, and ``x`` is zero. If dual
      infeasible, ``x`` is a ray, ``Px = 0``, ``Ax = 0``, ``-Gx`` in the cone and ``c'x = -1``, and the multipliers are
      zero.
    - `obj`: the objective at `x`; ``inf`` if primal infeasible, ``-inf`` if dual infeasible.
    - `iters`: interior-point iterations.
    - `residuals`: the largest violations of what defines a solution, computed from the arguments, the point and its
      multipliers alone: ``primal_infeasibility`` (rows, bounds, distance to the cones), ``dual_infeasibility``
      (stationarity, signs of multipliers), ``complementarity`` and the largest of them, ``kkt_error``. Of a
      certificate, how far its own conditions are violated; ``inf`` for the others. A certificate has a ``radius``
      too, which says how far it reaches in spite of that: no feasible ``x`` (if primal infeasible), no multipliers of
      a bounded program (if dual infeasible) have a 1-norm below it; ``inf`` if nothing is violated.
    - `iterates`: with ``collect_iterates=True`` one dictionary for each iteration, else None.
    - `scaling_warning`: a sentence if the nonzero data range over more than twelve orders of magnitude, else None.
    - `s`: ``h - G x``; zero if primal infeasible, ``-G x`` for a ray.
    """

    status: str
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    z_lb: np.ndarray
    z_ub: np.ndarray
    obj: float
    iters: int
    residuals: dict[str, float]
    iterates: list[dict[str, Any]] | None = None
    scaling_warning: str | None = None
    s: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def success(self) -> bool:
        """Solved to the requested tolerance."""
        return self.status == "optimal"

    @property
    def kkt_error(self) -> float:
        """The largest of the `residuals`."""
        return self.residuals["kkt_error"]


class Asked(NamedTuple):
    """A program and the tolerance it was to be solved to."""

    data: Program
    cones: HostCones
    tol: float


def verdict(asked: Asked, point: Point, claimed: ConicStatus) -> tuple[ConicStatus, Quality]:
    """The status that a point deserves, given what the solver says of it, and how good it is."""
    judge = CERTIFICATES.get(claimed, optimality)
    with np.errstate(over="ignore", invalid="ignore"):
        quality = judge(asked.data, asked.cones, point)
    if claimed == ConicStatus.Optimal and not quality.error <= max(TRUSTED, 100.0 * asked.tol):
        claimed = ConicStatus.Optimal_Inaccurate
    most = UNPROVEN if claimed in CERTIFICATES else max(USELESS, 1e5 * asked.tol)
    if claimed in (ConicStatus.Optimal, ConicStatus.Optimal_Inaccurate, *CERTIFICATES) and not quality.error <= most:
        claimed = ConicStatus.Numerical_Failure
    return claimed, quality


def result_of(
    asked: Asked, solution: ConicSolution, timed_out: bool, iterates: list[dict[str, Any]] | None = None
) -> QpResult:
    """A solution of the solver (in NumPy), judged."""
    claimed = ConicStatus(int(solution.status))
    if timed_out and claimed == ConicStatus.Iteration_Limit:
        claimed = ConicStatus.Time_Limit
    point = Point(*(np.array(v) for v in (solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub)))
    status, quality = verdict(asked, point, claimed)
    if status in (ConicStatus.Numerical_Failure, ConicStatus.Iteration_Limit):
        warn_if_not_convex(asked.data.P, status.label)
    return QpResult(
        status.label,
        *point,
        quality.objective,
        int(solution.iterations),
        quality.residuals,
        iterates,
        scaling_warning(asked.data),
        np.array(solution.s),
    )


def no_result(data: Program) -> QpResult:
    """The answer to a program that was not solved at all."""
    nan, (n, p, m) = float("nan"), data.sizes
    residuals = Quality(nan, nan, nan, nan, nan).residuals
    x, y, z, z_lb, z_ub, s = (np.full(k, nan) for k in (n, p, m, n, n, m))
    return QpResult("numerical_failure", x, y, z, z_lb, z_ub, nan, 0, residuals, s=s)
