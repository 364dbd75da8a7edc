"""The feasibility restoration phase (Waechter and Biegler 2006, section 3.3; Ipopt's `MinC_1NrmRestorationPhase`).

    min rho sum(n + p) + eta(mu)/2 |D_R (x - x_R)|^2   s.t.  c(x) - s + n - p = 0,  bounds,  n, p >= 0

It is a phase of the same loop: the same matrix with other diagonals, its own copy of the globalisation state.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where
from .filter import improves
from .iterate import Feasibility, Iterate, View, maximum_norm, step_to_boundary
from .options import Numbers
from .perturbation import Perturbation
from .quasi_newton import cleared
from .state import Entry, Frame, Globalization, Phase, Point


def phase_view(frame: Frame, phase, mu: Float[Array, ""], entry: Entry, numbers: Numbers) -> View:
    """The problem of the current phase."""
    n, m = frame.free.shape[0], frame.equality.shape[0]
    restoring = phase == Phase.RESTORING
    present = frame.equality | frame.inequality
    elastic = jnp.tile(restoring & present, 2)
    reference = entry.primal[:n]
    weight = numbers.resto_proximity_weight * jnp.sqrt(mu)
    proximity = where(restoring & frame.free, weight / jnp.square(jnp.maximum(1.0, jnp.abs(reference))), 0.0)
    none = jnp.zeros(2 * m, bool)
    has = jnp.concatenate([frame.has[:, : n + m], jnp.stack([elastic, none])], axis=1)
    active = jnp.concatenate([frame.free, frame.inequality, elastic])
    return View(
        n=n,
        bound=frame.bound,
        has=has,
        active=active,
        equality=frame.equality,
        present=present,
        damping=numbers.kappa_d,
        feasibility=Feasibility(
            restoring=restoring,
            penalty=numbers.resto_penalty_parameter,
            proximity=proximity,
            reference=reference,
        ),
    )


def elastics(residual: Float[Array, " m"], mu: Float[Array, ""], rho: Float[Array, ""]) -> Float[Array, "2 m"]:
    """The n and p that minimise the barrier problem for fixed x and s (eq. 33)."""
    half = mu / (2 * rho) - 0.5 * residual
    n = half + jnp.sqrt(half * half + mu * residual / (2 * rho))
    return jnp.stack([n, residual + n])


def fresh_globalization(
    main: Globalization, mu: Float[Array, ""], tau: Float[Array, ""], numbers: Numbers
) -> Globalization:
    """The state a restoration run starts with."""
    none, minus = jnp.array(0), -jnp.ones_like(mu)
    if main.barrier is not None:
        main = eqx.tree_at(lambda g: g.barrier, main, main.barrier.restarted())
    if main.quasi_newton is not None:
        main = eqx.tree_at(lambda g: g.quasi_newton, main, cleared(main.quasi_newton, numbers))
    return eqx.tree_at(
        lambda g: (
            g.mu, g.tau, g.acceptance.filter, g.acceptance.theta_max, g.acceptance.theta_min, g.acceptance.rejections,
            g.perturbation, g.acceptable_count
        ),
        main,
        (
            mu, tau, main.acceptance.filter.cleared(jnp.array(True)), minus, minus, none,
            Perturbation.fresh(mu.dtype), none,
        ),
    )  # fmt: skip


def entered(view: View, origin: Point, main: Globalization, numbers: Numbers) -> tuple:
    """First iterate of the restoration phase, its globalisation state, and the record of the entry."""
    n, m = view.n, view.equality.shape[0]
    iterate = origin.iterate
    s = iterate.primal[n : n + m]
    present = view.present
    residual = where(present, origin.rows - s, 0.0)
    infeasibility = maximum_norm(residual)
    mu = jnp.maximum(main.mu, infeasibility)
    rho = numbers.resto_penalty_parameter
    n_p = where(present, elastics(residual, mu, rho), 0.0)
    primal = jnp.concatenate([iterate.primal[: n + m], n_p.ravel()])
    z = jnp.minimum(rho, iterate.bounds[:, : n + m])
    z_elastic = where(present, mu / where(present, n_p, 1.0), 0.0).ravel()
    bounds = jnp.concatenate([z, jnp.stack([z_elastic, jnp.zeros_like(z_elastic)])], axis=1)
    first = Iterate(primal, jnp.zeros_like(iterate.rows), bounds)
    tau = jnp.maximum(numbers.tau_min, 1 - numbers.mu_init)
    g = fresh_globalization(main, mu, tau, numbers)
    return (
        first,
        g,
        Entry(
            primal=iterate.primal,
            bounds=iterate.bounds,
            infeasibility=infeasibility,
            steps=jnp.array(0),
            tightened=jnp.array(False),
        ),
    )


def recentred(view: View, point: Point, g: Globalization, numbers: Numbers) -> Iterate:
    """Restoration of the restoration phase: x and s stay, n and p are computed anew."""
    n, m = view.n, view.equality.shape[0]
    iterate = point.iterate
    residual = point.rows - iterate.primal[n : n + m]
    present = view.present
    n_p = where(present, elastics(residual, g.mu, numbers.resto_penalty_parameter), 0.0)
    return eqx.tree_at(lambda i: i.primal, iterate, jnp.concatenate([iterate.primal[: n + m], n_p.ravel()]))


def may_return(
    main_view: View,
    point: Point,
    outer: Globalization,
    entry: Entry,
    square: Bool[Array, ""],
    numbers: Numbers,
) -> Bool[Array, ""]:
    """The test for going back: less infeasible by a factor, acceptable to the main filter and to the entry point."""
    n, m = main_view.n, main_view.equality.shape[0]
    primal = jnp.concatenate([point.iterate.primal[: n + m], jnp.zeros(2 * m, point.rows.dtype)])
    residual = main_view.residual(point.rows, primal)
    infeasibility, theta = maximum_norm(residual), jnp.sum(jnp.abs(residual))
    slack = main_view.guarded_slack(primal, point.iterate.bounds, outer.mu, numbers.slack_move)
    phi = main_view.barrier(point.objective, primal, slack, outer.mu)
    smallest = jnp.minimum(numbers.tol, numbers.constr_viol_tol)
    limit = jnp.maximum(numbers.required_infeasibility_reduction * entry.infeasibility, smallest)
    progress = (
        (infeasibility <= limit)
        & outer.acceptance.filter.accepts(phi, theta)
        & improves(outer.acceptance.reference, phi, theta, numbers, limit_increase=False)
    )
    return where(square, infeasibility <= smallest, progress)


def returned(main_view: View, point: Point, outer: Globalization, entry: Entry, numbers: Numbers) -> Iterate:
    """The main iterate after restoration: its bound multipliers as after one Newton step, its row multipliers zero."""
    n, m = main_view.n, main_view.equality.shape[0]
    primal = jnp.concatenate([point.iterate.primal[: n + m], jnp.zeros(2 * m, point.rows.dtype)])
    before = main_view.guarded_slack(entry.primal, entry.bounds, outer.mu, numbers.slack_move)
    after = main_view.guarded_slack(primal, entry.bounds, outer.mu, numbers.slack_move)
    z = entry.bounds
    step = where(main_view.has, (outer.mu + z * (before - after)) / before - z, 0.0)
    alpha = step_to_boundary(z, step, main_view.has, outer.tau)
    z = z + alpha * step
    reset = jnp.max(z, initial=0.0) > numbers.bound_mult_reset_threshold
    z = where(reset, where(main_view.has, 1.0, 0.0), z)
    return Iterate(primal, jnp.zeros_like(point.iterate.rows), z)
