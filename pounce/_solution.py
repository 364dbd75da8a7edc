"""What a solve returns: a pytree of arrays, the same under ``jit`` and ``vmap``."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._results import Status


class Multipliers(eqx.Module):
    """Lagrange multipliers in user units.

    ``grad f + J' constraints - lower + upper = 0`` with ``lower, upper >= 0``; ``constraints[i] > 0`` where the upper side of
    row i is active and ``< 0`` where the lower side is.
    """

    constraints: Float[Array, " m"]
    lower: Float[Array, " n"]
    upper: Float[Array, " n"]


class Residuals(eqx.Module):
    """Sizes (max norms) of what is left of the optimality conditions, in user units; ``kkt_error`` is Ipopt's scaled E_0,
    the figure that ``tol`` bounds."""

    kkt_error: Float[Array, ""]
    stationarity: Float[Array, ""]
    constraint_violation: Float[Array, ""]
    complementarity: Float[Array, ""]


class Statistics(eqx.Module):
    """How much work a solve was."""

    iterations: Int[Array, ""]
    evaluations: Int[Array, ""]
    factorizations: Int[Array, ""]
    restoration_calls: Int[Array, ""]
    restoration_iterations: Int[Array, ""]


class Quality(eqx.Module):
    """Whether the solution can be differentiated.

    - `margin`: the smallest strict-complementarity gap, ``min over bounds and inequalities of max(slack, multiplier)`` in
      the solver's scaled units (inf without bounds). Zero means a weakly active constraint, where the solution has a kink.
    - `linear_residual`: relative residual of a linear solve with the active-set KKT matrix.
    - `inertia_correct`: second-order sufficient conditions hold on the active set.
    - `regular`: the gradients of the active constraints are independent to working precision (LICQ).
    - `differentiable`: all of it together: the implicit function theorem applies.
    """

    margin: Float[Array, ""]
    linear_residual: Float[Array, ""]
    inertia_correct: Bool[Array, ""]
    regular: Bool[Array, ""]
    differentiable: Bool[Array, ""]


class History(eqx.Module):
    """The iteration table as arrays of a fixed length; rows from ``statistics.iterations + 1`` on are zero."""

    objective: Float[Array, " k"]
    primal_infeasibility: Float[Array, " k"]
    dual_infeasibility: Float[Array, " k"]
    mu: Float[Array, " k"]
    step: Float[Array, " k"]
    regularization: Float[Array, " k"]
    alpha_dual: Float[Array, " k"]
    alpha_primal: Float[Array, " k"]
    tag: Int[Array, " k"]
    trials: Int[Array, " k"]
    restoring: Bool[Array, " k"]


class Solution(eqx.Module):
    """A solution of a nonlinear program, one per lane.

    ``status`` is Ipopt's integer code (see `pounce.Status`); ``x``, ``constraints`` and ``multipliers`` are differentiable.
    """

    x: Float[Array, " n"]
    objective: Float[Array, ""]
    constraints: Float[Array, " m"]
    multipliers: Multipliers
    status: Int[Array, ""]
    residuals: Residuals
    stats: Statistics
    quality: Quality
    mu: Float[Array, ""]
    history: History | None

    @property
    def success(self) -> Bool[Array, ""]:
        """Solved, to the requested or to the acceptable tolerance."""
        return (self.status == Status.Solve_Succeeded) | (self.status == Status.Solved_To_Acceptable_Level)

    @property
    def message(self) -> str:
        """What the status means (concrete, unbatched solutions only)."""
        if jnp.ndim(self.status):
            raise ValueError("Solution.message is for one solution; index the batch first")
        return Status(int(self.status)).message
