"""What callables return, as float64 arrays of the shape that was expected, or an error that says what came instead."""

from typing import Any

import numpy as np

from .._check import real_array


def scalar(value: Any, name: str) -> np.ndarray:
    """One number, whatever its shape, as shape ``(1,)``."""
    array = real_array(value, name)
    if array.size != 1:
        raise ValueError(f"`{name}` must return a scalar, got shape {array.shape}")
    return array.reshape(1)


def vector(value: Any, name: str, size: int | None) -> np.ndarray:
    """Numbers along at most one dimension, as shape ``(size,)``; any number of them if ``size`` is None."""
    array = real_array(value, name)
    if array.size != max(array.shape, default=1) or (size is not None and array.size != size):
        wanted = "a scalar or a vector" if size is None else f"shape ({size},)"
        raise ValueError(f"`{name}` must return {wanted}, got shape {array.shape}")
    return array.reshape(-1)


def matrix(value: Any, name: str, shape: tuple[int, int]) -> np.ndarray:
    """A dense matrix from a dense or sparse one, a `LinearOperator`, or a vector where the matrix has one row or column."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    elif hasattr(value, "matmat"):
        value = value.matmat(np.eye(value.shape[1]))
    array = real_array(value, name)
    fits = array.shape == shape or (array.ndim < 2 and 1 in shape and array.size == shape[0] * shape[1])
    if not fits:
        raise ValueError(f"`{name}` must return shape {shape}, got shape {array.shape}")
    return array.reshape(shape)
