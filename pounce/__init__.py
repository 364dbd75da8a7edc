"""Differentiable optimisation in JAX: nonlinear programs solved by an interior-point method that is a JAX function."""

from . import cache, jax, options, qp
from ._conic.solution import ConicSolution
from ._minimize import minimize, minimize_ipopt
from ._problem.callbacks import CyIpoptEvaluationError
from ._problem.sparsity import PounceSparsityWarning
from ._results import ConicStatus, Status
from ._solution import History, Multipliers, Quality, Residuals, Solution, Statistics
from ._version import __version__
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


def __dir__() -> list[str]:
    """The public names alone: the modules they are imported from lie in the package as well."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
