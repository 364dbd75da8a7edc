"""Convex programs on the host: quadratic and conic solves in float64, whatever JAX is set to. NumPy in, NumPy out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._cone_spec import Rows, orthant, parse
from ._conic.data import ConicData
from ._conic_solve import WarmPoint
from ._qp import batch
from ._qp.arguments import (
    Limits,
    PounceSparsityWarning as PounceSparsityWarning,
    host_data,
    limits,
    open_fraction,
    warm_point,
)
from ._qp.cones import host_cones
from ._qp.drive import Task
from ._qp.factorization import QpFactorization as QpFactorization
from ._qp.polish import polished
from ._qp.result import Asked, QpResult as QpResult, result_of
from ._qp.sensitivity import ActiveSet as ActiveSet, QpSensitivity as QpSensitivity, ReducedHessian as ReducedHessian
from .conic import ConicSolve


METHODS = ("ipm", "active-set")
