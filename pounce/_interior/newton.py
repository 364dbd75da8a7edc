"""The one linear system of a pass, whatever the pass is for."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._choose import select, where
from .._linalg.kkt import AbstractKKTSolver
from . import quasi_newton
from .certification import Examiner
from .direction import Solved, System, least_squares_system, newton_system, solve_system
from .examination import nothing_known
from .iterate import View
from .observation import Observation
from .options import Numbers
from .state import Globalization, Phase, State


def barrier_rhs(view: View, gradient, slack, mu) -> Float[Array, " N"]:
    """Minus the gradient of the barrier objective on the unknowns of the phase."""
    return where(view.active, -view.barrier_gradient(gradient, slack, mu), 0.0)


def solve_pass(
    linear_solver: AbstractKKTSolver,
    seen: Observation,
    g: Globalization,
    squared,
    least_squares,
    searching,
    o: Numbers,
    always_dc: bool,
    certifying,
    state: State,
) -> tuple[Solved, System, tuple]:
    """One linear system: Newton's, or the least-squares problem for the row multipliers; or, at the end, the few by which a
    solution is certified, unless ``certifying`` is None."""
    d, iterate, slack, view, gradient = seen.derivatives, seen.iterate, seen.slack, seen.view, seen.gradient
    barrier = barrier_rhs(view, gradient, slack, g.mu) - view.transposed_rows(d.jacobian, iterate.rows)
    z = where(squared, 0.0, iterate.bounds)
    dual = where(view.active, z[0] - z[1] - gradient, 0.0)
    residual = view.residual(d.rows, iterate.primal)
    sigma = jnp.sum(iterate.bounds / slack, axis=0)
    hessian = quasi_newton.hessian(g.quasi_newton, d, view)
    system = newton_system(view, hessian, d.jacobian, sigma)
    system = select(least_squares, least_squares_system(view, hessian, d.jacobian), system)
    rhs = where(least_squares, dual, barrier), where(least_squares, 0.0, -residual)
    enabled, examination, examiner = searching | least_squares, None, None
    if certifying is not None:
        again = state.phase == Phase.CERTIFYING
        assert state.finding is not None
        examiner, enabled = functools.partial(Examiner.at, seen, hessian, state, again), enabled | certifying
        x, y = iterate.primal[: view.n], iterate.rows
        examination = nothing_known(certifying, again, x, y, iterate.primal.size)
    solved = solve_system(
        linear_solver, system, rhs, g.perturbation, g.mu, least_squares, enabled, o, always_dc, examination, examiner
    )  # fmt: skip
    return solved, system, rhs
