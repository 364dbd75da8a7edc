"""Search directions of the homogeneous embedding from solves with the Newton system."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .iterate import Iterate, Residuals
from .program import ConicProgram
from .system import System, Vector


class Newton(eqx.Module):
    """The part of all directions of an iteration that does not depend on their targets (Goulart and Chen 2024, section 3.2)."""

    program: ConicProgram
    system: System
    iterate: Iterate
    constant: Vector  # the solution for (-c, b, h)
    denominator: Float[Array, ""]
    finite: Bool[Array, ""]

    @classmethod
    def at(cls, program: ConicProgram, system: System, v: Iterate, r: Residuals) -> "Newton":
        h = program.right_side()
        constant, finite = system.solve(Vector(-program.c, program.b, h))
        x2, z2 = constant.x, constant.z
        xi = v.x / v.tau
        difference = xi - x2
        # Equal in exact arithmetic; the second form cannot lose its sign, the first is the one the residuals contract with.
        spread = difference @ program.curvature(difference)
        plain = -(program.c @ x2 + program.b @ constant.y + h @ z2) + spread - x2 @ program.curvature(x2)
        positive = spread + z2 @ system.product(z2)
        return cls(program, system, v, constant, v.kappa / v.tau + jnp.maximum(plain, positive), finite)

    def direction(
        self,
        residual: Vector,
        residual_tau: Float[Array, ""],
        products: Float[Array, ""],
        q: Float[Array, " size"],
    ) -> tuple[Iterate, Bool[Array, ""]]:
        """The step that takes away ``residual`` and ``products`` (of tau and kappa), with ``ds = -(H dz + q)``."""
        v, program = self.iterate, self.program
        h = program.right_side()
        first, finite = self.system.solve(Vector(residual.x, -residual.y, q - residual.z))
        xi = v.x / v.tau
        numerator = residual_tau - products / v.tau + program.c @ first.x + program.b @ first.y + h @ first.z
        numerator = numerator + 2.0 * (xi @ program.curvature(first.x))
        tau = numerator / self.denominator
        whole = first + tau * self.constant
        # From the rows rather than from complementarity: what the solve leaves of its residual must not gather in G x + s - h tau.
        s = h * tau - program.rows(whole.x) - residual.z
        kappa = -(products + v.kappa * tau) / v.tau
        return Iterate(whole.x, whole.y, whole.z, s, tau, kappa), finite & jnp.isfinite(tau)
