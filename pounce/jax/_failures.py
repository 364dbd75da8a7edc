"""What a function of `pounce.jax` makes of a solve that failed: one rule for all of them."""

import warnings
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .. import _check as check
from .._adjoint.rule import OnFailure
from .._conic.solution import ConicSolution
from .._conic.termination import has_solution
from .._results import ConicStatus, Status
from .._solution import Solution


# What each asks of derivatives. None is what a function does unless told otherwise: a word if it can be said.
DERIVATIVES: dict[str | None, OnFailure] = {
    None: "zero",
    "ignore": "zero",
    "zero": "zero",
    "nan": "nan",
    "warn": "warn",
    "raise": "raise",
}


def failure_of(on_failure: str | None) -> OnFailure:
    """What becomes of the derivative of a solve that failed; raises `ValueError` for a word that is none."""
    if on_failure not in DERIVATIVES:
        words = sorted(word for word in DERIVATIVES if word is not None)
        raise ValueError(f"`on_failure` must be None or one of {words}, got {on_failure!r}")
    return DERIVATIVES[on_failure]


def heeded(solution: Any, on_failure: str | None, *, unless_told: str = "warn", level: int = 3) -> Any:
    """The solution of one lane or of a batch, once a failure has been spoken of.

    Where its numbers can be looked at, a failure is a warning, an error, or nothing, as `on_failure` says or else
    `unless_told`; ``"nan"`` is a word about derivatives alone. Where they cannot, ``"raise"`` becomes an error of the running
    program, and nothing else is said here. A solution that is nearly one raises only if errors were asked for; it is what a
    traced call returns. ``level``: of the stack, where the user's call is.
    """
    wanted = unless_told if on_failure in (None, "nan") else on_failure
    if not check.is_concrete(solution):
        message = 'pounce: a solve did not succeed, and `on_failure="raise"`'
        return eqx.error_if(solution, ~solution.success, message) if on_failure == "raise" else solution
    if wanted in ("warn", "raise") and not np.all(solution.success):
        if wanted == "raise" and (on_failure == "raise" or not nearly_solved(solution)):
            raise RuntimeError(described(solution))
        warnings.warn(f'{described(solution)} (`on_failure="ignore"` is silent)', RuntimeWarning, stacklevel=level)
    return solution


def nearly_solved(solution: Any) -> bool:
    """Whether all lanes have a solution, if not to the tolerance that was asked for."""
    found = has_solution(solution.status) if isinstance(solution, ConicSolution) else solution.success
    return bool(np.all(found))


def described(solution: Any) -> str:
    """How the first lane that failed has ended, and how many have."""
    status = np.asarray(solution.status)
    lanes = np.flatnonzero(~np.asarray(solution.success))
    where = "" if status.ndim == 0 else f" in lane {lanes[0]} ({lanes.size} of {status.size} lanes failed)"
    code = int(status.reshape(-1)[lanes[0]])
    if isinstance(solution, ConicSolution):
        status = ConicStatus(code)
        doubtful = status in (
            ConicStatus.Numerical_Failure,
            ConicStatus.Iteration_Limit,
            ConicStatus.Optimal_Inaccurate,
        )
        hint = (
            ". Is `P` positive semidefinite? With a negative eigenvalue the program is not convex" if doubtful else ""
        )
        return f"the convex solve ended with status {status.label!r}{where}{hint}"
    return f"the solve ended with status {Status(code).name}{where}. {Status(code).message}"


def minimiser(solution: Solution, on_failure: str | None, full: bool) -> Any:
    """What a function that solves nonlinear programs returns: ``x``, of a failed lane that of its last iterate, or all of it
    where ``full``."""
    solution = heeded(solution, on_failure, unless_told="ignore" if full else "warn", level=4)
    return solution if full else solution.x


def convex_minimiser(solution: ConicSolution, on_failure: str | None, full: bool) -> Any:
    """What one that solves convex programs returns. Where a failed lane cannot raise, its ``x`` is NaN unless that is to be
    ignored."""
    solution = heeded(solution, on_failure, unless_told="ignore" if full else "raise", level=4)
    if full:
        return solution
    if check.is_concrete(solution) or on_failure in ("ignore", "zero"):
        return solution.x
    return jnp.where(has_solution(solution.status)[..., None], solution.x, jnp.nan)
