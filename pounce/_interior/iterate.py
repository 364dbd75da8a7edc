"""The primal-dual iterate, how its primal vector is laid out, and the problem of the current phase.

One vector holds every primal unknown: ``[x | s | n | p]`` with the slacks ``s`` of the inequality rows and the elastic
variables ``n, p`` of the restoration phase, ``N = n + 3m`` entries; entries that a row or a phase does not have stay at
exactly zero. Rows read ``c(x) - s + n - p = 0``. Bounds and their multipliers are ``[2, N]`` arrays, lower then upper.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._choose import where
from .._linalg.matrix import Matrix, transposed_times
from .._records import within


SIDES = np.array([[1.0], [-1.0]])  # sign of the slack of a lower and of an upper bound
AUXILIARY_SIGNS = np.array([[-1.0], [1.0], [-1.0]])  # coefficients of s, n, p in their row


class Iterate(eqx.Module):
    """Primal vector, row multipliers and bound multipliers."""

    primal: Float[Array, " N"]
    rows: Float[Array, " m"]
    bounds: Float[Array, "2 N"]


class Feasibility(eqx.Module):
    """The objective of the restoration phase."""

    restoring: Bool[Array, ""]  # it is that of the present one
    penalty: Float[Array, ""]  # rho
    proximity: Float[Array, " n"]  # eta(mu) * D_R^2, zero outside restoration
    reference: Float[Array, " n"]  # x_R


class View(eqx.Module):
    """The problem of the current phase: the original one, or the restoration problem with its elastic variables."""

    n: int = eqx.field(static=True)
    bound: Float[Array, "2 N"]  # finite everywhere; zero where there is none
    has: Bool[Array, "2 N"]
    active: Bool[Array, " N"]  # entries that are unknowns in this phase
    equality: Bool[Array, " m"]
    present: Bool[Array, " m"]  # rows that have a bound
    damping: Float[Array, ""]  # kappa_d
    feasibility: Feasibility

    restoring = within("feasibility", "restoring")
    penalty = within("feasibility", "penalty")
    proximity = within("feasibility", "proximity")
    reference = within("feasibility", "reference")

    @property
    def one_sided(self) -> Float[Array, " N"]:
        """+1 where only a lower bound exists, -1 where only an upper one, else 0."""
        return self.has[0].astype(self.bound.dtype) - self.has[1].astype(self.bound.dtype)

    def slack(self, primal: Float[Array, " N"]) -> Float[Array, "2 N"]:
        """Distance to each bound; one where there is none."""
        return where(self.has, SIDES.astype(primal.dtype) * (primal - self.bound), 1.0)

    def guarded_slack(
        self, primal: Float[Array, " N"], z: Float[Array, "2 N"], mu: Float[Array, ""], move: Float[Array, ""]
    ):
        """Slacks with those below ``eps min(1, mu)`` replaced, as Ipopt's `CalculateSafeSlack` does."""
        slack = self.slack(primal)
        eps = jnp.finfo(primal.dtype).eps
        smallest = eps * jnp.minimum(1.0, mu)
        size = jnp.maximum(1.0, jnp.abs(self.bound))
        wanted = jnp.maximum(mu / where(z > 0, z, 1.0), smallest)
        repaired = jnp.minimum(wanted, jnp.maximum(slack, 0.0) + move * size)
        return where(self.has & (slack < smallest), repaired, slack)

    def residual(self, rows: Float[Array, " m"], primal: Float[Array, " N"]) -> Float[Array, " m"]:
        """``c(x) - s + n - p``, zero for rows without bounds."""
        s, n, p = self.auxiliary(primal)
        return where(self.present, rows - s + n - p, 0.0)

    def auxiliary(self, primal: Float[Array, " N"]) -> Float[Array, "3 m"]:
        return primal[self.n :].reshape(3, -1)

    def objective(self, objective: Float[Array, ""], primal: Float[Array, " N"]) -> Float[Array, ""]:
        """Objective of the phase."""
        _, n, p = self.auxiliary(primal)
        away = primal[: self.n] - self.reference
        restoration = self.penalty * (jnp.sum(n) + jnp.sum(p)) + 0.5 * jnp.sum(self.proximity * away * away)
        return where(self.restoring, restoration, objective)

    def objective_gradient(self, gradient: Float[Array, " n"], primal: Float[Array, " N"]) -> Float[Array, " N"]:
        m = self.equality.shape[0]
        x = where(self.restoring, self.proximity * (primal[: self.n] - self.reference), gradient)
        elastic = jnp.full((2 * m,), where(self.restoring, self.penalty, 0.0))
        return where(self.active, jnp.concatenate([x, jnp.zeros(m, x.dtype), elastic]), 0.0)

    def transposed_rows(self, jacobian: Matrix, y: Float[Array, " m"]) -> Float[Array, " N"]:
        """``A'y`` with ``A = [J, -I, I, -I]``, on the unknowns of the phase."""
        auxiliary = (AUXILIARY_SIGNS.astype(y.dtype) * y).ravel()
        return where(self.active, jnp.concatenate([transposed_times(jacobian, y), auxiliary]), 0.0)

    def barrier(
        self, objective: Float[Array, ""], primal: Float[Array, " N"], slack: Float[Array, "2 N"], mu: Float[Array, ""]
    ) -> Float[Array, ""]:
        """``phi = objective - mu sum log(slack) + kappa_d mu sum(slack of one-sided bounds)``."""
        logs = jnp.sum(where(self.has, jnp.log(slack), 0.0))
        single = where(self.has & (self.has[0] != self.has[1]), slack, 0.0)
        return self.objective(objective, primal) - mu * logs + self.damping * mu * jnp.sum(single)

    def barrier_gradient(
        self, gradient: Float[Array, " N"], slack: Float[Array, "2 N"], mu: Float[Array, ""]
    ) -> Float[Array, " N"]:
        pull = where(self.has, mu / slack, 0.0)
        return gradient - pull[0] + pull[1] + self.damping * mu * self.one_sided


def step_to_boundary(
    value: Float[Array, " *k"], step: Float[Array, " *k"], has: Bool[Array, " *k"], tau: Float[Array, ""] | float
):
    """Largest ``a`` in (0, 1] with ``value + a step >= (1 - tau) value`` wherever ``has``."""
    ratio = where(has, -step / (tau * value), 0.0)
    return 1.0 / jnp.maximum(jnp.max(ratio, initial=0.0), 1.0)


def bound_steps(step: Float[Array, " N"]) -> Float[Array, "2 N"]:
    """Change of the slacks along a primal step."""
    return jnp.asarray(SIDES, step.dtype) * step


def maximum_norm(values: Float[Array, " *k"]) -> Float[Array, ""]:
    """Max norm that is zero for empty arrays and keeps NaN."""
    return jnp.max(jnp.abs(values), initial=0.0)
