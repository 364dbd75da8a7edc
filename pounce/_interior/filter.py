"""The filter and the acceptance test of a trial point (Waechter and Biegler 2006, section 2.3)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import where
from .options import Numbers


class Filter(eqx.Module):
    """Forbidden corners in the plane (barrier objective, constraint violation); empty slots are +inf."""

    objective: Float[Array, " F"]
    violation: Float[Array, " F"]
    inserted: Int[Array, ""]

    @staticmethod
    def empty(capacity: int, dtype) -> "Filter":
        blank = jnp.full((capacity,), jnp.inf, dtype)
        return Filter(blank, blank, jnp.array(0))

    def cleared(self, when: Bool[Array, ""]) -> "Filter":
        return Filter(
            where(when, jnp.inf, self.objective),
            where(when, jnp.inf, self.violation),
            where(when, 0, self.inserted),
        )

    def accepts(self, objective: Float[Array, ""], violation: Float[Array, ""]) -> Bool[Array, ""]:
        return jnp.all((objective <= self.objective) | (violation <= self.violation))

    def augmented(self, objective: Float[Array, ""], violation: Float[Array, ""], when: Bool[Array, ""]) -> "Filter":
        """With one more corner; corners it dominates are dropped. A full filter forgets its oldest slot."""
        dominated = (self.objective >= objective) & (self.violation >= violation)
        first = where(dominated, jnp.inf, self.objective)
        second = where(dominated, jnp.inf, self.violation)
        free = jnp.isinf(second)
        slot = where(jnp.any(free), jnp.argmax(free), self.inserted % free.shape[0])
        here = jnp.arange(free.shape[0]) == slot
        return Filter(
            where(when, where(here, objective, first), self.objective),
            where(when, where(here, violation, second), self.violation),
            self.inserted + when,
        )


class Reference(eqx.Module):
    """The point a line search starts from: barrier objective, violation, and slope of the barrier objective."""

    objective: Float[Array, ""]
    violation: Float[Array, ""]
    slope: Float[Array, ""]


def adjusted_slope(reference: Reference) -> Float[Array, ""]:
    """At a feasible point a slope that is positive by rounding alone counts as a descent direction."""
    eps = jnp.finfo(reference.slope.dtype).eps
    rounding = (reference.violation == 0) & (reference.slope > 0) & (reference.slope < 100 * eps)
    return where(rounding, -eps, reference.slope)


def is_f_type(reference: Reference, alpha: Float[Array, ""], o: Numbers) -> Bool[Array, ""]:
    """Switching condition (eq. 19)."""
    slope = adjusted_slope(reference)
    descent = where(slope < 0, -slope, 0.0)
    return (slope < 0) & (alpha * descent**o.s_phi > o.delta * reference.violation**o.s_theta)


def _at_most(left, right, scale):
    return left - right <= 10 * jnp.finfo(scale.dtype).eps * jnp.abs(scale)


def armijo(reference: Reference, objective: Float[Array, ""], alpha: Float[Array, ""], o: Numbers) -> Bool[Array, ""]:
    """Sufficient decrease of the barrier objective (eq. 20)."""
    bound = o.eta_phi * alpha * adjusted_slope(reference)
    return _at_most(objective - reference.objective, bound, reference.objective)


def improves(
    reference: Reference, objective: Float[Array, ""], violation: Float[Array, ""], o: Numbers, limit_increase: bool
) -> Bool[Array, ""]:
    """Sufficient decrease of either measure against the reference point (eq. 18)."""
    better = _at_most(violation, (1 - o.gamma_theta) * reference.violation, reference.violation) | _at_most(
        objective - reference.objective, -o.gamma_phi * reference.violation, reference.objective
    )
    if not limit_increase:
        return better
    size = jnp.abs(reference.objective)
    base = where(size > 10, jnp.log10(jnp.maximum(size, 10.0)), 1.0)
    increase = objective - reference.objective
    excessive = (increase > 0) & (jnp.log10(jnp.maximum(increase, jnp.finfo(size.dtype).tiny)) > o.obj_max_inc + base)
    return better & ~excessive


def acceptable_to_reference(
    reference: Reference,
    objective: Float[Array, ""],
    violation: Float[Array, ""],
    alpha: Float[Array, ""],
    theta_min: Float[Array, ""],
    o: Numbers,
) -> Bool[Array, ""]:
    """The test before the filter: Armijo on f-type steps near feasibility, else progress in either measure."""
    by_objective = (alpha > 0) & is_f_type(reference, alpha, o) & (reference.violation <= theta_min)
    return where(
        by_objective,
        armijo(reference, objective, alpha, o),
        improves(reference, objective, violation, o, limit_increase=True),
    )


def smallest_step(reference: Reference, theta_min: Float[Array, ""], o: Numbers) -> Float[Array, ""]:
    """Step length below which a line search gives up (eq. 23)."""
    slope, theta = reference.slope, reference.violation
    descent = where(slope < 0, -slope, 1.0)
    by_filter = jnp.minimum(o.gamma_theta, o.gamma_phi * theta / descent)
    by_switch = jnp.minimum(by_filter, o.delta * theta**o.s_theta / descent**o.s_phi)
    smallest = where(theta <= theta_min, by_switch, by_filter)
    return o.alpha_min_frac * where(slope < 0, smallest, o.gamma_theta)


def corner(reference: Reference, o: Numbers) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What the filter forbids after leaving a reference point: its measures with their margins."""
    return (
        reference.objective - o.gamma_phi * reference.violation,
        (1 - o.gamma_theta) * reference.violation,
    )
