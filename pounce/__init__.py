"""Differentiable optimisation in JAX: nonlinear programs solved by an interior-point method that is a JAX function."""

from . import cache as cache
from ._problem.callbacks import CyIpoptEvaluationError as CyIpoptEvaluationError
from ._results import Status as Status
from ._solution import (
    History as History,
    Multipliers as Multipliers,
    Quality as Quality,
    Residuals as Residuals,
    Solution as Solution,
    Statistics as Statistics,
)
from .minimize import minimize as minimize, minimize_ipopt as minimize_ipopt
from .nlp import NLP as NLP, InteriorPoint as InteriorPoint, solve as solve
from .options import OptionError as OptionError
from .problem import Problem as Problem


cache.enable_from_environment()
