"""When a conic solve ends, and with what (Goulart and Chen 2024, section 3.4)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._results import ConicStatus
from .iterate import Measures


VANISHED, LENIENCE = 1e3, 5.0
# Times the tolerance: what residuals do to the objective, which is an upper bound, and what a certificate leaves unproven.
EFFECT, PROOF = 100.0, 100.0


class Tolerances(eqx.Module):
    """What counts as zero, in user units."""

    gap_absolute: Float[Array, ""]
    gap_relative: Float[Array, ""]
    effect: Float[Array, ""]
    feasibility: Float[Array, ""]
    infeasibility_absolute: Float[Array, ""]
    infeasibility_relative: Float[Array, ""]
    proof: Float[Array, ""]
    belief: Float[
        Array, ""
    ]  # what a certificate may leave unproven to be believed where the square of kappa / tau exceeds
    ratio: Float[Array, ""]  # kappa / tau from which others are believed

    @classmethod
    def of(cls, tol: Float[Array, ""]) -> "Tolerances":
        """All of them from one number; the certificate's threshold follows the dtype."""
        ratio = jnp.where(jnp.finfo(tol.dtype).eps < 1e-10, 1e9, 1e4)
        none = jnp.zeros_like(tol)
        return cls(tol, tol, EFFECT * tol, tol, tol, 10.0 * tol, PROOF * tol, none, ratio.astype(tol.dtype))

    def reduced(self) -> "Tolerances":
        """What an iterate must satisfy to count where progress has ended.

        A certificate that leaves less than the tolerance unproven excludes all points up to its inverse, in the 1-norm. Beyond,
        feasibility, which is relative to the size of a point, means nothing.
        """
        return Tolerances(
            5e3 * self.gap_absolute,
            5e3 * self.gap_relative,
            1e4 * self.effect,
            1e4 * self.feasibility,
            5e-4 * self.infeasibility_absolute,
            5e2 * self.infeasibility_relative,
            self.proof,
            self.feasibility,
            1e-2 * self.ratio,
        )


def verdict(m: Measures, t: Tolerances) -> Int[Array, ""]:
    """The status an iterate deserves; `ConicStatus.Running` if none."""
    gap = (m.gap < t.gap_absolute) | (m.relative_gap < t.gap_relative)
    gap = gap & (m.effect < t.effect)
    optimal = (m.ratio <= 1.0) & gap & (m.primal < t.feasibility) & (m.dual < t.feasibility)
    certain = certain_ray = m.ratio > t.ratio
    if m.polyhedral:
        # Where all feasible points are that far away, kappa / tau was seen to end at 1 to 250 and such certificates to be found.
        likely = m.ratio**2 > t.ratio
        certain, certain_ray = (
            certain | likely & (m.farkas_error < t.belief),
            certain | likely & (m.ray_error < t.belief),
        )
    # Where rounding keeps a certificate from becoming better, tau vanishes all the same, as it never does with a solution.
    allowed = jnp.where(m.ratio > VANISHED * t.ratio, LENIENCE, 1.0) * t.infeasibility_relative
    farkas = (m.farkas_residual < allowed) & (m.farkas_error < t.proof)
    ray = (m.ray_residual < allowed) & (m.ray_error < t.proof)
    primal = certain & (m.farkas_value < -t.infeasibility_absolute) & farkas
    dual = certain_ray & (m.ray_value < -t.infeasibility_absolute) & ray
    status = jnp.where(dual, ConicStatus.Dual_Infeasible, ConicStatus.Running)
    status = jnp.where(primal, ConicStatus.Primal_Infeasible, status)
    return jnp.where(optimal, ConicStatus.Optimal, status).astype(jnp.int32)


def defect(m: Measures, t: Tolerances) -> Float[Array, ""]:
    """By what factor an iterate misses the tolerances of a solution; at most one where it is one."""
    gap = jnp.minimum(m.gap / t.gap_absolute, m.relative_gap / t.gap_relative)
    parts = jnp.stack([gap, m.effect / t.effect, m.primal / t.feasibility, m.dual / t.feasibility])
    return jnp.where(m.ratio <= 1.0, jnp.max(parts), jnp.inf)


def fallen(m: Measures, t: Tolerances) -> Int[Array, ""]:
    """The status of an iterate from which no step leads on."""
    status = verdict(m, t.reduced())
    status = jnp.where(status == ConicStatus.Optimal, ConicStatus.Optimal_Inaccurate, status)
    return jnp.where(status == ConicStatus.Running, ConicStatus.Numerical_Failure, status)


def has_solution(status: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a status stands for a solution, to the tolerance or nearly."""
    return (status == ConicStatus.Optimal) | (status == ConicStatus.Optimal_Inaccurate)


def insufficient_progress(old: Measures, new: Measures, t: Tolerances) -> Bool[Array, ""]:
    """Whether a step has made things so much worse that rounding must be to blame."""
    eps = jnp.finfo(new.gap.dtype).eps
    grown = (new.primal > old.primal) | (new.dual > old.dual)
    within = jnp.minimum(old.gap / t.gap_absolute, old.relative_gap / t.gap_relative) < 1.0
    settled = (new.ratio < 100 * eps) & within
    old_worst, new_worst = jnp.maximum(old.primal, old.dual), jnp.maximum(new.primal, new.dual)
    blown_up = (new.ratio < 1.0) & (new_worst > 100 * t.feasibility) & (new_worst > 100 * old_worst)
    return grown & (settled | blown_up)
