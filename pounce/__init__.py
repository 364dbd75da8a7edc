"""Differentiable optimisation in JAX: nonlinear programs solved by an interior-point method that is a JAX function."""

from . import cache as cache
from ._conic.solution import ConicSolution as ConicSolution
from ._problem.callbacks import CyIpoptEvaluationError as CyIpoptEvaluationError
from ._problem.sparsity import PounceSparsityWarning as PounceSparsityWarning
from ._results import ConicStatus as ConicStatus, Status as Status
from ._solution import (
    History as History,
    Multipliers as Multipliers,
    Quality as Quality,
    Residuals as Residuals,
    Solution as Solution,
    Statistics as Statistics,
)
from .conic import solve_conic as solve_conic
from .minimize import minimize as minimize, minimize_ipopt as minimize_ipopt
from .nlp import NLP as NLP, InteriorPoint as InteriorPoint, solve as solve
from .options import OptionError as OptionError
from .problem import Problem as Problem
from .qp import (
    ActiveSet as ActiveSet,
    QpFactorization as QpFactorization,
    QpResult as QpResult,
    QpSensitivity as QpSensitivity,
    ReducedHessian as ReducedHessian,
    solve_qp as solve_qp,
    solve_qp_batch as solve_qp_batch,
    solve_qp_multi_rhs as solve_qp_multi_rhs,
    solve_socp as solve_socp,
)


cache.enable_from_environment()
