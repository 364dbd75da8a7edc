"""The JAX names of the Python API page: differentiable solves, each one compiled kernel."""

from .anchors import AnchorState as AnchorState
from .convex import (
    QpLayer as QpLayer,
    solve_qp as solve_qp,
    solve_qp_batch as solve_qp_batch,
    solve_socp as solve_socp,
)
from .from_jax import from_jax as from_jax
from .jax_problem import JaxProblem as JaxProblem
from .oneshot import (
    solve as solve,
    solve_with_warm as solve_with_warm,
    vmap_solve as vmap_solve,
    vmap_solve_parallel as vmap_solve_parallel,
)
