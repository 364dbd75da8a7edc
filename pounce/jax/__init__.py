"""The JAX names of the Python API page: one-shot differentiable solves, each one compiled kernel."""

from .from_jax import from_jax as from_jax
from .oneshot import (
    solve as solve,
    solve_with_warm as solve_with_warm,
    vmap_solve as vmap_solve,
    vmap_solve_parallel as vmap_solve_parallel,
)
