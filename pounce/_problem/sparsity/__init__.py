"""Sparsity patterns of derivatives, read from traced programs."""

from .patterns import (
    PatternTooLargeError as PatternTooLargeError,
    hessian_pattern as hessian_pattern,
    jacobian_pattern as jacobian_pattern,
)
from .reader import PounceSparsityWarning as PounceSparsityWarning
