"""When a solve ends, judged at the top of every pass (Waechter and Biegler 2006, section 3.5; Ipopt's convergence checks)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import where
from .._results import Status
from .errors import Errors
from .iterate import maximum_norm
from .options import Numbers
from .state import Phase, State


class Verdict(eqx.Module):
    """``status`` (running or final), whether the point is acceptable, and whether to tighten a restoration run."""

    status: Int[Array, ""]
    acceptable: Bool[Array, ""]
    tighten: Bool[Array, ""]


def phase_tolerance(state: State, o: Numbers) -> Float[Array, ""]:
    """``tol``; a hundredth of it in a restoration run that has been tightened."""
    tightened = (state.phase == Phase.RESTORING) & state.entry.tightened
    return where(tightened, 1e-2 * o.tol, o.tol)


def converged(errors: Errors, tol: Float[Array, ""], o: Numbers) -> Bool[Array, ""]:
    return (
        (errors.overall(o.mu_target) <= tol)
        & (errors.unscaled.dual <= o.dual_inf_tol)
        & (errors.unscaled.violation <= o.constr_viol_tol)
        & (errors.unscaled.complementarity <= o.compl_inf_tol)
    )


def acceptable(errors: Errors, objective: Float[Array, ""], last: Float[Array, ""], o: Numbers) -> Bool[Array, ""]:
    change = jnp.abs(objective - last) / jnp.maximum(1.0, jnp.abs(objective))
    return (
        (errors.overall(o.mu_target) <= o.acceptable_tol)
        & (errors.unscaled.dual <= o.acceptable_dual_inf_tol)
        & (errors.unscaled.violation <= o.acceptable_constr_viol_tol)
        & (errors.unscaled.complementarity <= o.acceptable_compl_inf_tol)
        & ~(change > o.acceptable_obj_change_tol)
    )


def infeasible_or_failed(infeasibility: Float[Array, ""], o: Numbers) -> Int[Array, ""]:
    """Verdict when the restoration problem is solved: no feasible point near, or a feasible one the filter refuses."""
    return where(infeasibility > 1e2 * o.tol, Status.Infeasible_Problem_Detected, Status.Restoration_Failed)


def judge(
    state: State,
    errors: Errors,
    original_infeasibility: Float[Array, ""],
    finite: Bool[Array, ""],
    square: Bool[Array, ""],
    numbers: Numbers,
) -> Verdict:
    """Status at the present iterate. ``original_infeasibility`` is ``|c - s|_inf`` without elastic variables."""
    o, g = numbers, state.globalization
    restoring = state.phase == Phase.RESTORING
    tol = phase_tolerance(state, o)
    good = converged(errors, tol, o)
    fine = acceptable(errors, state.objective, state.memory.last_objective, o) & (o.acceptable_iter > 0)
    count = where(fine, g.acceptable_count + 1, 0)
    enough = fine & (count >= o.acceptable_iter)

    regular = where(good, Status.Solve_Succeeded, where(enough, Status.Solved_To_Acceptable_Level, Status.Running))
    # A restoration problem that converges close to feasibility is first tightened once.
    solved = good | enough
    nearly = original_infeasibility <= 1e2 * tol
    tighten = restoring & solved & nearly & ~state.entry.tightened
    feasible_end = where(square, Status.Feasible_Point_Found, Status.Restoration_Failed)
    end = where(nearly, feasible_end, Status.Infeasible_Problem_Detected)
    in_restoration = where(solved & ~tighten, end, Status.Running)
    status = where(restoring, in_restoration, regular)

    x = state.iterate.primal[: state.frame.free.shape[0]]
    # A step that the watchdog lets pass is a trial: nothing is concluded from where it leads.
    diverging = (maximum_norm(x) > o.diverging_iterates_tol) & ~state.memory.watchdog
    limit = (state.iteration >= o.max_iter) | (restoring & (state.entry.steps > o.max_resto_iter))
    later = where(
        diverging,
        Status.Diverging_Iterates,
        where(limit, Status.Maximum_Iterations_Exceeded, Status.Running),
    )
    status = where(status == Status.Running, later, status)
    status = where(finite, status, Status.Invalid_Number_Detected)
    return Verdict(status.astype(jnp.int32), fine & finite, tighten)


def after_failed_search(
    tol: Float[Array, ""],
    violation: Float[Array, ""],
    errors: Errors,
    is_acceptable: Bool[Array, ""],
    original_infeasibility: Float[Array, ""],
    restoring: Bool[Array, ""],
    has_acceptable: Bool[Array, ""],
    o: Numbers,
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """Status when no step was found (running: go to restoration), and whether to go back to the stored acceptable point."""
    almost = (violation <= 1e-2 * tol) & (errors.unscaled.violation <= 0.1 * o.constr_viol_tol)
    recover = almost & has_acceptable & ~is_acceptable
    failure = where(restoring, Status.Restoration_Failed, Status.Error_In_Step_Computation)
    at_acceptable = where(restoring, infeasible_or_failed(original_infeasibility, o), Status.Solved_To_Acceptable_Level)
    status = where(
        is_acceptable,
        at_acceptable,
        where(almost, where(recover, Status.Solved_To_Acceptable_Level, failure), Status.Running),
    )
    return status.astype(jnp.int32), recover


def when_stuck(
    is_acceptable: Bool[Array, ""], infeasibility: Float[Array, ""], restoring: Bool[Array, ""], o: Numbers
) -> Int[Array, ""]:
    """Status after tiny steps at the smallest barrier parameter. ``infeasibility`` is that without elastic variables."""
    end = where(is_acceptable, Status.Solved_To_Acceptable_Level, Status.Search_Direction_Becomes_Too_Small)
    return where(restoring, infeasible_or_failed(infeasibility, o), end).astype(jnp.int32)
