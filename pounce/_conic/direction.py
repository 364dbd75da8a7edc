"""Search directions of the homogeneous embedding from solves with the Newton system."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .iterate import Iterate, Residuals
from .program import ConicProgram
from .system import System, Vector


class Newton(eqx.Module):
    """The directions of an iteration (Goulart and Chen 2024, section 3.2).

    Every direction is a combination of the solution for ``(-c, b, h)``, which they share, and of one for its own targets.
    """

    program: ConicProgram
    system: System
    iterate: Iterate
    residuals: Residuals
    constant: Vector  # the solution for (-c, b, h)
    predictor: Vector  # the solution for the affine direction's targets
    denominator: Float[Array, ""]
    finite: Bool[Array, ""]

    @classmethod
    def at(cls, program: ConicProgram, system: System, v: Iterate, r: Residuals) -> "Newton":
        h = program.right_side()
        targets = Vector(-program.c, program.b, h), Vector(r.x, -r.y, v.s - r.z)
        # One after the other through one call site: two columns at once are slower.
        both, finite = lax.map(system.solve, jax.tree.map(lambda *leaves: jnp.stack(leaves), *targets))
        constant, predictor = (jax.tree.map(lambda leaf, k=k: leaf[k], both) for k in (0, 1))
        x2, z2 = constant.x, constant.z
        difference = v.x / v.tau - x2
        # Equal in exact arithmetic; the second form cannot lose its sign, the first is the one the residuals contract with.
        spread = difference @ program.curvature(difference)
        plain = -(program.c @ x2 + program.b @ constant.y + h @ z2) + spread - x2 @ program.curvature(x2)
        positive = spread + z2 @ system.product(z2)
        denominator = v.kappa / v.tau + jnp.maximum(plain, positive)
        return cls(program, system, v, r, constant, predictor, denominator, jnp.all(finite))

    def affine(self) -> Iterate:
        """The step towards all residuals and products zero."""
        v, r = self.iterate, self.residuals
        return self._step(self.predictor, r.tau, r.z, v.tau * v.kappa)

    def combined(
        self, sigma: Float[Array, ""], products: Float[Array, ""], q: Float[Array, " size"]
    ) -> tuple[Iterate, Bool[Array, ""]]:
        """The step that leaves the share ``sigma`` of the residuals, takes away ``products`` of tau and kappa and has
        ``ds = -(H dz + q)``; and whether it could be computed."""
        r = (1.0 - sigma) * self.residuals.vector
        solution, finite = self.system.solve(Vector(r.x, -r.y, q - r.z))
        step = self._step(solution, (1.0 - sigma) * self.residuals.tau, r.z, products)
        return step, finite & self.finite & jnp.isfinite(step.tau)

    def _step(self, first: Vector, residual_tau, residual_z, products) -> Iterate:
        v, program = self.iterate, self.program
        h = program.right_side()
        numerator = residual_tau - products / v.tau + program.c @ first.x + program.b @ first.y + h @ first.z
        numerator = numerator + 2.0 * (self.residuals.curvature @ first.x) / v.tau
        tau = numerator / self.denominator
        whole = first + tau * self.constant
        # From the rows, not from complementarity: what the solve leaves of its residual must not gather in G x + s - h tau.
        s = h * tau - program.rows(whole.x) - residual_z
        kappa = -(products + v.kappa * tau) / v.tau
        return Iterate(whole.x, whole.y, whole.z, s, tau, kappa)
