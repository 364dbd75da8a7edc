"""What a solve returns: a pytree of arrays, the same under ``jit`` and ``vmap``."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ._results import Status
from ._shown import record


LEAST_MARGIN = 1e-2  # of a solution that is called differentiable


def is_solved(status: Int[Array, "*lanes"]) -> Bool[Array, "*lanes"]:
    """Whether a status is that of a solution, to the requested or to the acceptable tolerance."""
    return (status == Status.Solve_Succeeded) | (status == Status.Solved_To_Acceptable_Level)


class Multipliers(eqx.Module):
    """Lagrange multipliers in user units.

    - `constraints`: one per row, ``(m,)``. `lower`, `upper`: one per bound of a variable, ``(n,)``.

    ``grad f + J' constraints - lower + upper = 0`` with ``lower, upper >= 0``; ``constraints[i] > 0`` where the upper side of
    row i is active and ``< 0`` where the lower side is.
    """

    constraints: Float[Array, " m"]
    lower: Float[Array, " n"]
    upper: Float[Array, " n"]

    __repr__ = record


class Residuals(eqx.Module):
    """Sizes (max norms) of what is left of the optimality conditions, in user units.

    All but `kkt_error` follow from the point, the multipliers and the bounds as they were given, whatever ended the solve.

    - `kkt_error`: Ipopt's scaled E_0 with its relaxed bounds, the figure that ``tol`` bounds.
    - `stationarity`: of the gradient of the Lagrangian with respect to variables that are not fixed.
    - `constraint_violation`: of rows and bounds.
    - `complementarity`: the largest product of a multiplier and the distance from its bound.
    """

    kkt_error: Float[Array, ""]
    stationarity: Float[Array, ""]
    constraint_violation: Float[Array, ""]
    complementarity: Float[Array, ""]

    __repr__ = record


def _counted(value: Any) -> Any:
    """A counter that began as a number of Python, with a dtype of its own."""
    return lax.convert_element_type(value, value.dtype) if getattr(value, "weak_type", False) else value


class Statistics(eqx.Module):
    """How much work a solve was.

    - `iterations`: as Ipopt counts them.
    - `evaluations`: of the functions with their derivatives.
    - `factorizations`: of the KKT matrix.
    - `restoration_calls`, `restoration_iterations`: how often feasibility had to be restored, and iterations spent on it.
    """

    iterations: Int[Array, ""] = eqx.field(converter=_counted)
    evaluations: Int[Array, ""] = eqx.field(converter=_counted)
    factorizations: Int[Array, ""] = eqx.field(converter=_counted)
    restoration_calls: Int[Array, ""] = eqx.field(converter=_counted)
    restoration_iterations: Int[Array, ""] = eqx.field(converter=_counted)

    __repr__ = record


class ActiveSet(eqx.Module):
    """Which bounds and which sides of inequality rows hold a solution in place; fixed variables and equality rows always do, and
    are not in it. ``x`` and the row multipliers ``constraints`` solve the equations of that set, to rounding errors where
    `Quality` says that the solution can be differentiated: derivatives are taken there."""

    lower: Bool[Array, " n"]
    upper: Bool[Array, " n"]
    rows_lower: Bool[Array, " m"]
    rows_upper: Bool[Array, " m"]
    x: Float[Array, " n"]
    constraints: Float[Array, " m"]

    __repr__ = record


class Quality(eqx.Module):
    """Whether the solution can be differentiated. None of it depends on units of the objective, the rows or the variables.

    - `margin`: strict complementarity, ``min over bounds and inequalities of max(s' / s, z' / z)``, where ``(s, z)`` are slack
      and multiplier at the end of the solve and ``(s', z')`` those after a Newton step for the equations of the active set, zero
      where that set says so. About one where it is clear what is active, zero at a kink, where a constraint is weakly active,
      or where no set confirms itself; inf without bounds. What grows counts by the inverse of its growth.
    - `linear_residual`: relative residual of a linear solve with the active-set KKT matrix.
    - `inertia_correct`: second-order sufficient conditions hold on the active set, by more than the solver's error.
    - `regular`: the gradients of the active constraints are independent to working precision (LICQ).
    - `differentiable`: all of it together, with a margin of at least 0.01: the implicit function theorem applies.

    Where there is no solution, figures are NaN and verdicts False.
    """

    margin: Float[Array, ""]
    linear_residual: Float[Array, ""]
    inertia_correct: Bool[Array, ""]
    regular: Bool[Array, ""]
    differentiable: Bool[Array, ""]

    __repr__ = record

    @classmethod
    def unknown(cls, like: Float[Array, " n"]) -> "Quality":
        """Of what nobody has looked at.

        **Arguments:** `like`: an array of the dtype of the figures.
        """
        unknown, no = jnp.full((), jnp.nan, like.dtype), jnp.array(False)
        return cls(unknown, unknown, no, no, no)

    @classmethod
    def of(cls, margin, linear_residual, inertia_correct, regular) -> "Quality":
        """With the verdict that follows from the rest.

        **Arguments:** `margin`, `linear_residual`, `inertia_correct`, `regular`: the fields of those names.
        """
        clear = margin > LEAST_MARGIN
        return cls(margin, linear_residual, inertia_correct, regular, inertia_correct & regular & clear)


class History(eqx.Module):
    """The iteration table as arrays of a fixed length; rows from ``stats.iterations + 1`` on are zero.

    - `objective`, `primal_infeasibility`, `dual_infeasibility`: of each iterate, as Ipopt prints them.
    - `mu`: the barrier parameter.
    - `step`: the max norm of the step that led there; `regularization`: what was added to the Hessian for it.
    - `alpha_dual`, `alpha_primal`: the step lengths.
    - `tag`: the character that Ipopt prints after the primal one, as its code.
    - `trials`: points tried by the line search.
    - `restoring`: whether the iterate belongs to the restoration phase.
    """

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

    __repr__ = record


class Solution(eqx.Module):
    """A solution of a nonlinear program, one per lane.

    - `x`: the point, ``(n,)``; after a failure that of the last iterate.
    - `objective`, `constraints`: the objective, and the values of the rows, ``(m,)``, there.
    - `multipliers`: `pounce.Multipliers`, with the sign convention.
    - `status`: Ipopt's integer code, see `pounce.Status`.
    - `residuals`: `pounce.Residuals`, how well the optimality conditions hold.
    - `stats`: `pounce.Statistics`, how much work it was.
    - `quality`: `pounce.Quality`, whether the solution can be differentiated.
    - `active`: which bounds and sides of rows hold the solution in place.
    - `mu`: the barrier parameter at the end.
    - `history`: `pounce.History` where the solver keeps one, else None.

    ``x``, ``objective``, ``constraints`` and ``multipliers`` are differentiable. Printed, a solution shows its numbers.
    """

    x: Float[Array, " n"]
    objective: Float[Array, ""]
    constraints: Float[Array, " m"]
    multipliers: Multipliers
    status: Int[Array, ""]
    residuals: Residuals
    stats: Statistics
    quality: Quality
    active: ActiveSet
    mu: Float[Array, ""]
    history: History | None

    def __repr__(self) -> str:
        return record(self, Status)

    @property
    def success(self) -> Bool[Array, ""]:
        """Solved, to the requested or to the acceptable tolerance."""
        return is_solved(self.status)

    @property
    def message(self) -> str:
        """What the status means (concrete, unbatched solutions only)."""
        if jnp.ndim(self.status):
            raise ValueError("Solution.message is for one solution; index the batch first")
        return Status(int(self.status)).message
