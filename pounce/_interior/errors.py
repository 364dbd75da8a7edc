"""Optimality errors of an iterate (Waechter and Biegler 2006, section 2.1; scaling factors s_d, s_c eq. 6)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where
from .._linalg.matrix import Matrix, transposed_times
from .iterate import Iterate, View, maximum_norm
from .options import Numbers
from .state import Frame


LITTLE = 1e-3  # a share of the terms of stationarity


class Products(eqx.Module):
    """Slacks times their multipliers."""

    largest: Float[Array, ""]
    smallest: Float[Array, ""]
    average: Float[Array, ""]


class Scales(eqx.Module):
    """What infeasibilities are divided by where multipliers are large."""

    dual: Float[Array, ""]  # s_d
    complementarity: Float[Array, ""]  # s_c


class Unscaled(eqx.Module):
    """The residuals of the problem as the user has it."""

    dual: Float[Array, ""]
    violation: Float[Array, ""]
    complementarity: Float[Array, ""]


class Errors(eqx.Module):
    """Sizes of the KKT residuals of the phase's scaled problem."""

    lagrangian: Float[Array, " N"]  # grad L on the unknowns of the phase
    dual: Float[Array, ""]  # its max norm
    primal: Float[Array, ""]  # |c - s|_inf, what the barrier problem sees
    violation: Float[Array, ""]  # largest violation of a row or its bounds, what the user sees
    products: Products
    scales: Scales
    unscaled: Unscaled
    system: Float[Array, ""]  # averaged 1-norm of the primal-dual equations at mu, for soft restoration

    def complementarity(self, mu: Float[Array, ""]) -> Float[Array, ""]:
        """``max |slack z - mu|``; zero without bounds."""
        return jnp.maximum(jnp.maximum(self.products.largest - mu, mu - self.products.smallest), 0.0)

    def at(self, mu: Float[Array, ""], dual: Float[Array, ""]) -> Float[Array, ""]:
        """The scaled dual and complementarity part of E_mu, for a given dual infeasibility."""
        return jnp.maximum(dual / self.scales.dual, self.complementarity(mu) / self.scales.complementarity)

    def overall(self, mu_target: Float[Array, ""]) -> Float[Array, ""]:
        """E_0, the error of the program itself."""
        return jnp.maximum(self.at(mu_target, self.dual), self.violation)


def unsupported(
    view: View, iterate: Iterate, gradient: Float[Array, " N"], jacobian: Matrix, e: Errors, tol
) -> Bool[Array, ""]:
    """Whether a multiplier of an inequality row does what no side of the row can.

    That multiplier is ``z_U - z_L`` of its slack, up to the slack's part of the Lagrangian's gradient. A row whose own gradient
    is large makes much of little: along ``min -y, y^2 >= 1`` an error of 1e-14, of the wrong sign, holds the objective at
    y = 1e13. So it counts by what it does to the variables, beside the terms that are there.
    """
    n, m = view.n, view.present.shape[0]
    effect = jnp.abs(transposed_times(jacobian, e.lagrangian[n : n + m]))
    terms = jnp.abs(gradient[:n]) + jnp.sum(iterate.bounds[:, :n], axis=0)
    return jnp.any(view.active[:n] & (effect > jnp.maximum(100 * tol * e.scales.dual, LITTLE * terms)))


def row_violation(view: View, rows: Float[Array, " m"], primal: Float[Array, " N"]) -> Float[Array, " m"]:
    """Violation of each row's own bounds (elastic variables included while restoring), ignoring the slacks."""
    m = rows.shape[0]
    _, n, p = view.auxiliary(primal)
    value = rows + n - p
    slack_block = slice(view.n, view.n + m)
    below = where(view.has[0, slack_block], view.bound[0, slack_block] - value, 0.0)
    above = where(view.has[1, slack_block], value - view.bound[1, slack_block], 0.0)
    inequality = jnp.maximum(jnp.maximum(below, above), 0.0)
    return where(view.equality, jnp.abs(value), inequality)


def measure(
    view: View,
    iterate: Iterate,
    gradient: Float[Array, " N"],
    jacobian: Matrix,
    rows: Float[Array, " m"],
    slack: Float[Array, "2 N"],
    mu: Float[Array, ""],
    frame: Frame,
    numbers: Numbers,
) -> Errors:
    """All errors of one iterate; ``gradient`` is that of the phase's objective."""
    z = iterate.bounds
    lagrangian = gradient + view.transposed_rows(jacobian, iterate.rows) - z[0] + z[1]
    lagrangian = where(view.active, lagrangian, 0.0)
    residual = view.residual(rows, iterate.primal)
    violation = row_violation(view, rows, iterate.primal)
    product = slack * z
    bounds = jnp.sum(view.has)
    total_z, total_y = jnp.sum(z), jnp.sum(jnp.abs(iterate.rows))
    present = jnp.sum(view.present)
    floor = numbers.s_max
    dual_scale = jnp.maximum(floor, (total_y + total_z) / jnp.maximum(present + bounds, 1)) / floor
    comp_scale = jnp.maximum(floor, total_z / jnp.maximum(bounds, 1)) / floor
    some = bounds > 0
    product_max = jnp.max(where(view.has, product, -jnp.inf), initial=-jnp.inf)
    product_min = jnp.min(where(view.has, product, jnp.inf), initial=jnp.inf)
    system = (
        jnp.sum(jnp.abs(lagrangian)) / jnp.maximum(jnp.sum(view.active), 1)
        + jnp.sum(jnp.abs(residual)) / jnp.maximum(present, 1)
        + jnp.sum(where(view.has, jnp.abs(product - mu), 0.0)) / jnp.maximum(bounds, 1)
    )
    # Inside restoration there is no scaling object: its problem is already the scaled one.
    per_row = where(view.restoring, 1.0, frame.row_scale)
    per_objective = where(view.restoring, 1.0, jnp.abs(frame.objective_scale))
    dual = maximum_norm(lagrangian)
    complementarity = where(some, jnp.maximum(product_max, 0.0), 0.0)
    average = jnp.sum(where(view.has, product, 0.0)) / jnp.maximum(bounds, 1)
    return Errors(
        lagrangian=lagrangian,
        dual=dual,
        primal=maximum_norm(residual),
        violation=maximum_norm(violation),
        products=Products(product_max, product_min, average),
        scales=Scales(dual_scale, comp_scale),
        unscaled=Unscaled(
            dual=dual / per_objective,
            violation=maximum_norm(violation / per_row),
            complementarity=complementarity / per_objective,
        ),
        system=system,
    )
