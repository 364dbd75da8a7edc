"""Names for the arrays that cross the doors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


ArrayLike = jax.Array | np.ndarray | float | int
Objective = Callable[..., Any]
Constraints = Callable[..., Any]
Parameters = PyTree[Any]
Options = Mapping[str, Any]
