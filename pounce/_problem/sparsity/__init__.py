"""Sparsity patterns of derivatives, read from traced programs."""

from . import control, declared  # for the rules they register
from .patterns import (
    MOST_ENTRIES as MOST_ENTRIES,
    PatternTooLargeError as PatternTooLargeError,
    hessian_pattern as hessian_pattern,
    jacobian_pattern as jacobian_pattern,
)
from .reader import PounceSparsityWarning as PounceSparsityWarning


assert control and declared
