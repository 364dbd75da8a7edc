"""The JAX names of the Python API page: differentiable solves, each one compiled kernel."""

from ._anchors import AnchorState
from ._convex import QpLayer, solve_qp, solve_qp_batch, solve_socp
from ._from_jax import from_jax
from ._jax_problem import JaxProblem
from ._oneshot import solve, solve_with_warm, vmap_solve, vmap_solve_parallel


__all__ = [
    "AnchorState",
    "JaxProblem",
    "QpLayer",
    "from_jax",
    "solve",
    "solve_qp",
    "solve_qp_batch",
    "solve_socp",
    "solve_with_warm",
    "vmap_solve",
    "vmap_solve_parallel",
]
