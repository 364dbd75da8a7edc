"""When a conic solve ends, and with what (Goulart and Chen 2024, section 3.4)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._results import ConicStatus
from .iterate import Measures


VANISHED, LENIENCE = 1e3, 5.0
EFFECT = 100.0  # times the tolerance: what residuals do to the objective, which is an upper bound
# What a certificate may leave unproven (see `certificate`) while it becomes better; where kappa / tau alone would convince, as
# rounding may keep it from becoming so; and where no step leads on.
PROVEN, BELIEVED, FAIR = 1e-9, 1e-8, 1e-5
COARSE = 1e5  # times that in single precision
# The tolerance from which on a quadratic program is polished for the first time, instead of being iterated further.
FIRST_POLISH = 1e-4


class Tolerances(eqx.Module):
    """What counts as zero: a solution relative to its own size, a certificate relative to the equilibrated program."""

    gap_absolute: Float[Array, ""]
    gap_relative: Float[Array, ""]
    effect: Float[Array, ""]
    feasibility: Float[Array, ""]
    infeasibility: Float[Array, ""]
    ratio: Float[Array, ""]  # kappa / tau from which multipliers or a point may be a certificate

    @classmethod
    def of(cls, tol: Float[Array, ""]) -> "Tolerances":
        """All of them from one number; the certificate's threshold follows the dtype."""
        ratio = jnp.where(jnp.finfo(tol.dtype).eps < 1e-10, 1e9, 1e4)
        return cls(tol, tol, EFFECT * tol, tol, 10.0 * tol, ratio.astype(tol.dtype))

    def reduced(self) -> "Tolerances":
        """What an iterate must satisfy to count where progress has ended."""
        return Tolerances(
            gap_absolute=5e3 * self.gap_absolute,
            gap_relative=5e3 * self.gap_relative,
            effect=1e4 * self.effect,
            feasibility=1e4 * self.feasibility,
            infeasibility=5e2 * self.infeasibility,
            ratio=jnp.sqrt(1e-2 * self.ratio),
        )


class Levels(eqx.Module):
    """All tolerances that iterates are held against, together."""

    own: Tolerances
    all: Tolerances  # stacked: these, the reduced ones, those of a solution near enough for a polish, and of a first polish

    @classmethod
    def of(cls, tol: Float[Array, ""]) -> "Levels":
        """``tol``: that of the solve."""
        own, eps = Tolerances.of(tol), jnp.finfo(tol.dtype).eps
        near, first = jnp.asarray(eps ** (1 / 3), tol.dtype), jnp.asarray(FIRST_POLISH, tol.dtype)
        levels = own, own.reduced(), Tolerances.of(near), Tolerances.of(jnp.maximum(tol, first))
        return cls(own, jax.tree.map(lambda *parts: jnp.stack(parts), *levels))


class Grade(eqx.Module):
    """What an iterate is worth: its `verdict` at each of the `Levels`, and its `defect`."""

    verdicts: Int[Array, " k"]
    defect: Float[Array, ""]

    @property
    def status(self) -> Int[Array, ""]:
        """The status it deserves; `ConicStatus.Running` if none."""
        return self.verdicts[0]

    @property
    def fallen(self) -> Int[Array, ""]:
        """Its status if no step leads on."""
        status = self.verdicts[1]
        status = jnp.where(status == ConicStatus.Optimal, ConicStatus.Optimal_Inaccurate, status)
        return jnp.where(status == ConicStatus.Running, ConicStatus.Numerical_Failure, status)

    @property
    def near(self) -> Bool[Array, ""]:
        """Whether a polish may make it a solution."""
        return self.verdicts[2] == ConicStatus.Optimal

    @property
    def promising(self) -> Bool[Array, ""]:
        """Whether the active rows of a quadratic program may be known."""
        return self.verdicts[3] == ConicStatus.Optimal

    @classmethod
    def nothing(cls, like: Array) -> "Grade":
        """Of no point."""
        return cls(jnp.full((4,), ConicStatus.Running, jnp.int32), jnp.asarray(jnp.inf, like.dtype))


def grade(m: Measures, levels: Levels) -> Grade:
    """What an iterate is worth."""
    return Grade(verdict(m, levels.all), defect(m, levels.own))


def verdict(m: Measures, t: Tolerances) -> Int[Array, "*levels"]:
    """The status an iterate deserves, at each level of tolerances; `ConicStatus.Running` if none. A certificate is a candidate
    until it is `proven`."""
    gap = (m.gap < t.gap_absolute * m.unit) | (m.relative_gap < t.gap_relative)
    gap = gap & (m.effect < t.effect)
    optimal = (m.ratio <= 1.0) & gap & (m.primal < t.feasibility) & (m.dual < t.feasibility)
    # Where rounding keeps a certificate from becoming better, tau vanishes all the same, as it never does with a solution.
    allowed = jnp.where(m.ratio > VANISHED * t.ratio, LENIENCE, 1.0) * t.infeasibility
    certain = m.ratio > t.ratio
    primal = certain & (m.farkas_value < 0) & (m.farkas_residual < allowed)
    dual = certain & (m.ray_value < 0) & (m.ray_residual < allowed)
    status = jnp.where(dual, ConicStatus.Dual_Infeasible, ConicStatus.Running)
    status = jnp.where(primal, ConicStatus.Primal_Infeasible, status)
    return jnp.where(optimal, ConicStatus.Optimal, status).astype(jnp.int32)


def is_certificate(status: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a status stands for a certificate."""
    return (status == ConicStatus.Primal_Infeasible) | (status == ConicStatus.Dual_Infeasible)


def proven(
    error: Float[Array, ""], residual: Float[Array, ""], m: Measures, t: Tolerances, stuck: Bool[Array, ""]
) -> Bool[Array, ""]:
    """Whether a candidate is a certificate; while steps lead on, only one that cannot become much better.

    ``residual``: what is left of all its equations together; zero to the tolerance where that alone convinces.
    """
    coarse = jnp.where(jnp.finfo(error.dtype).eps < 1e-10, 1.0, COARSE)
    ended = jnp.where(m.ratio > 1e-2 * t.ratio, FAIR, BELIEVED)
    going = jnp.where((m.ratio > VANISHED * t.ratio) | (residual < t.feasibility), FAIR, PROVEN)
    return error < coarse * jnp.where(stuck, ended, going)


def defect(m: Measures, t: Tolerances) -> Float[Array, ""]:
    """By what factor an iterate misses the tolerances of a solution; at most one where it is one."""
    gap = jnp.minimum(m.gap / (t.gap_absolute * m.unit), m.relative_gap / t.gap_relative)
    parts = jnp.stack([gap, m.effect / t.effect, m.primal / t.feasibility, m.dual / t.feasibility])
    return jnp.where(m.ratio <= 1.0, jnp.max(parts), jnp.inf)


def has_solution(status: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a status stands for a solution, to the tolerance or nearly."""
    return (status == ConicStatus.Optimal) | (status == ConicStatus.Optimal_Inaccurate)


def insufficient_progress(old: Measures, new: Measures, t: Tolerances) -> Bool[Array, ""]:
    """Whether a step has made things so much worse that rounding must be to blame."""
    eps = jnp.finfo(new.gap.dtype).eps
    grown = (new.primal > old.primal) | (new.dual > old.dual)
    within = jnp.minimum(old.gap / (t.gap_absolute * old.unit), old.relative_gap / t.gap_relative) < 1.0
    settled = (new.ratio < 100 * eps) & within
    old_worst, new_worst = jnp.maximum(old.primal, old.dual), jnp.maximum(new.primal, new.dual)
    blown_up = (new.ratio < 1.0) & (new_worst > 100 * t.feasibility) & (new_worst > 100 * old_worst)
    return grown & (settled | blown_up)
