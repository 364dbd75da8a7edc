"""Differentiable optimisation in JAX: nonlinear programs solved by an interior-point method that is a JAX function."""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__


if TYPE_CHECKING:
    from . import cache, jax, options, qp
    from ._conic.solution import ConicSolution
    from ._minimize import minimize, minimize_ipopt
    from ._problem.callbacks import CyIpoptEvaluationError
    from ._problem.sparsity import PounceSparsityWarning
    from ._results import ConicStatus, Status
    from ._solution import History, Multipliers, Quality, Residuals, Solution, Statistics
    from .conic import solve_conic
    from .nlp import NLP, InteriorPoint, solve
    from .options import OptionError
    from .problem import Problem
    from .qp import (
        ActiveSet,
        QpFactorization,
        QpResult,
        QpSensitivity,
        ReducedHessian,
        solve_qp,
        solve_qp_batch,
        solve_qp_multi_rhs,
        solve_socp,
    )


# Where public names are defined: a door, and what it stands on, is imported when it is first asked for.
_MODULES = ("cache", "jax", "options", "qp")
_PLACES = {
    "_conic.solution": ("ConicSolution",),
    "_minimize": ("minimize", "minimize_ipopt"),
    "_problem.callbacks": ("CyIpoptEvaluationError",),
    "_problem.sparsity": ("PounceSparsityWarning",),
    "_results": ("ConicStatus", "Status"),
    "_solution": ("History", "Multipliers", "Quality", "Residuals", "Solution", "Statistics"),
    "conic": ("solve_conic",),
    "nlp": ("NLP", "InteriorPoint", "solve"),
    "options": ("OptionError",),
    "problem": ("Problem",),
    "qp": (
        "ActiveSet",
        "QpFactorization",
        "QpResult",
        "QpSensitivity",
        "ReducedHessian",
        "solve_qp",
        "solve_qp_batch",
        "solve_qp_multi_rhs",
        "solve_socp",
    ),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "NLP",
    "ActiveSet",
    "ConicSolution",
    "ConicStatus",
    "CyIpoptEvaluationError",
    "History",
    "InteriorPoint",
    "Multipliers",
    "OptionError",
    "PounceSparsityWarning",
    "Problem",
    "QpFactorization",
    "QpResult",
    "QpSensitivity",
    "Quality",
    "ReducedHessian",
    "Residuals",
    "Solution",
    "Statistics",
    "Status",
    "__version__",
    "cache",
    "jax",
    "minimize",
    "minimize_ipopt",
    "options",
    "qp",
    "solve",
    "solve_conic",
    "solve_qp",
    "solve_qp_batch",
    "solve_qp_multi_rhs",
    "solve_socp",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_PLACE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names alone: the modules they are imported from lie in the package as well."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
