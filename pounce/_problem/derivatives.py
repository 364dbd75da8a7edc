"""What is known about the functions of a program at one point."""

import equinox as eqx
from jaxtyping import Array, Float

from .._linalg.matrix import Matrix


class Derivatives(eqx.Module):
    """Everything known about the functions at one point. ``hessian`` is that of ``weight f + y'c`` (None if not asked)."""

    objective: Float[Array, ""]
    rows: Float[Array, " m"]
    gradient: Float[Array, " n"]
    jacobian: Matrix
    hessian: Matrix | None  # a sparse one by its lower triangle
