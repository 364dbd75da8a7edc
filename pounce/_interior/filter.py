"""The filter and the acceptance test of a trial point (Waechter and Biegler 2006, section 2.3)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import where
from .._once import only_where
from .._records import entry
from .options import Numbers


class Filter(eqx.Module):
    """Forbidden corners in the plane (barrier objective, constraint violation); empty slots are +inf, and so are all of a filter
    into which nothing has been inserted, whatever its slots hold."""

    corners: Float[Array, "2 F"]  # barrier objectives, then violations
    inserted: Int[Array, ""]

    @staticmethod
    def empty(capacity: int, dtype) -> "Filter":
        return Filter(jnp.full((2, capacity), jnp.inf, dtype), jnp.array(0))

    def cleared(self, when: Bool[Array, ""]) -> "Filter":
        return Filter(self.corners, where(when, 0, self.inserted))

    def accepts(self, objective: Float[Array, ""], violation: Float[Array, ""]) -> Bool[Array, ""]:
        within = (objective <= self.corners[0]) | (violation <= self.corners[1])
        return (self.inserted == 0) | jnp.all(within)

    def augmented(self, objective: Float[Array, ""], violation: Float[Array, ""], when: Bool[Array, ""]) -> "Filter":
        """With one more corner; corners it dominates are dropped. A full filter forgets its oldest slot."""
        corner = jnp.stack([objective, violation])[:, None]

        def insert(old: Filter) -> Filter:
            dominated = jnp.all(old.corners >= corner, axis=0)
            corners = where(dominated | (old.inserted == 0), jnp.inf, old.corners)
            slots, capacity = jnp.arange(dominated.size), dominated.size
            free = jnp.min(where(jnp.isinf(corners[1]), slots, capacity))
            slot = where(free < capacity, free, old.inserted % capacity)
            return Filter(where(slots == slot, corner, corners), old.inserted + 1)

        return only_where(when, insert, self)


class Reference(eqx.Module):
    """The point a line search starts from: barrier objective, violation, and slope of the barrier objective."""

    figures: Float[Array, " 3"]

    objective = entry("figures", 0)
    violation = entry("figures", 1)
    slope = entry("figures", 2)

    @staticmethod
    def of(objective: Float[Array, ""], violation: Float[Array, ""], slope: Float[Array, ""]) -> "Reference":
        return Reference(jnp.stack([objective, violation, slope]))


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
