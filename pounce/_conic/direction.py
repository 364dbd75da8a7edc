"""Search directions of the homogeneous embedding from solves with the Newton system."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._cone.nonnegative import longest_step
from .._cone.product import ProductScaling
from .iterate import Iterate, Residuals
from .program import ConicProgram
from .system import System, Vector


STEP_FRACTION = 0.99
MOST_STEP_FRACTION = 1.0 - 1e-5  # far enough from one for rounding not to end outside
SHORT_PREDICTOR = 0.3


class Direction(eqx.Module):
    """A step, how much of it stays in the cones, and the solutions it is made of."""

    step: Iterate
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]
    solutions: Float[Array, "2 k"]  # the one that all directions share, and that for its own targets
    solved: Bool[Array, ""]


class Newton(eqx.Module):
    """The directions of an iteration (Goulart and Chen 2024, section 3.2).

    Every direction is a combination of the solution for ``(-c, b, h)``, which they share, and of one for its own targets.
    """

    program: ConicProgram
    system: System
    iterate: Iterate
    residuals: Residuals

    @property
    def _scaling(self) -> ProductScaling:
        return self.system.scaling

    def _start(self) -> tuple[Float[Array, "2 k"], Int[Array, ""] | int]:
        """Right-hand sides whose solutions are a starting point, and how many there are of them."""
        program, zeros = self.program, jnp.zeros_like
        c, b, h = program.c, program.b, program.right_side()
        both, apart = Vector(-c, b, h).flat(), program.linear
        if apart is False:
            return jnp.stack([both, both]), 1
        primal, dual = Vector(zeros(c), b, h).flat(), Vector(-c, zeros(b), zeros(h)).flat()
        if apart is True:
            return jnp.stack([primal, dual]), 2
        return jnp.stack([jnp.where(apart, primal, both), jnp.where(apart, dual, both)]), jnp.where(apart, 2, 1)

    def combined(
        self, least_sigma: Float[Array, ""], cautious: Bool[Array, ""], starting: Bool[Array, ""] | None
    ) -> Direction:
        """The step of a predictor and a corrector; where a solve is ``starting``, what a starting point is made of.

        The second-order term is that of a full step. At a badly centred start (``cautious``), or where the predictor does not
        come far, all of it would lead astray: two iterates can then follow each other for ever.

        Both are trips through one loop, since they differ in numbers only: the predictor leaves nothing of the residuals, has
        no target and follows no step.
        """
        program, cones, v, r = self.program, self.program.cones, self.iterate, self.residuals
        v_s, v_z, ends = v.s, v.z, v.tau * v.kappa
        mu, shared = r.mu, Vector(-program.c, program.b, program.right_side()).flat()

        def solve(carry):
            sides, solutions, k, solved = carry
            # By choice and not by index: indices that differ between lanes are scatters.
            solution, finite = self.system.solve(jnp.where(k == 0, sides[0], sides[1]))
            solutions = jnp.where(jnp.arange(2)[:, None] == k, solution, solutions)
            return sides, solutions, k + 1, solved & finite

        def trip(carry):
            found, count = carry
            first = count == 0
            sigma = jnp.where(first, 0.0, jnp.maximum((1.0 - found.alpha) ** 3, least_sigma))
            damping = jnp.where(cautious | (found.alpha < SHORT_PREDICTOR), found.alpha, 1.0)
            target = sigma * mu
            q = cones.combined(self._scaling, v_s, v_z, found.step.s, damping * found.step.z, target)
            products = ends + damping * found.step.tau * found.step.kappa - target
            left = 1.0 - sigma
            residual = self.system.parted(left * r.flat)
            sides = jnp.stack([shared, Vector(residual.x, -residual.y, q - residual.z).flat()])
            last = 2
            if starting is not None:
                of_start, number = self._start()
                sides, last = jnp.where(starting, of_start, sides), jnp.where(starting, number, 2)
            begin = sides, found.solutions, jnp.where(first, 0, 1), found.solved
            _, solutions, _, solved = lax.while_loop(lambda carry: carry[2] < last, solve, begin)
            step = self._step(solutions, left * r.tau, residual.z, products)
            fraction: Float[Array, ""] | float = STEP_FRACTION
            if cones.polyhedral:
                # Where nothing curves, a predictor that comes close to the boundary may be followed closer to it.
                fraction = jnp.clip(1.0 - 0.1 * (1.0 - found.alpha), STEP_FRACTION, MOST_STEP_FRACTION)
            alpha = jnp.where(first, 1.0, fraction) * self._longest(step)
            return Direction(step=step, alpha=alpha, sigma=sigma, solutions=solutions, solved=solved), count + 1

        zero = jnp.zeros_like(v.tau)
        nothing = Direction(
            step=jax.tree.map(jnp.zeros_like, v),
            alpha=zero,
            sigma=zero,
            solutions=jnp.zeros((2, *shared.shape), shared.dtype),
            solved=jnp.array(True),
        )
        trips = 2 if starting is None else jnp.where(starting, 1, 2)
        found, _ = lax.while_loop(lambda carry: carry[1] < trips, trip, (nothing, jnp.zeros((), int)))
        return dataclasses.replace(found, solved=found.solved & jnp.isfinite(found.step.tau))

    def _step(self, solutions: Float[Array, "2 k"], residual_tau, residual_z, products) -> Iterate:
        v, program, h = self.iterate, self.program, self.program.right_side()
        own_tau, own_kappa = v.tau, v.kappa
        constant, own = self.system.parted(solutions[0]), self.system.parted(solutions[1])
        x2, z2 = constant.x, constant.z
        difference = v.x / own_tau - x2
        # Equal in exact arithmetic; the second form cannot lose its sign, the first is the one the residuals contract with.
        spread = difference @ program.curvature(difference)
        plain = -(program.c @ x2 + program.b @ constant.y + h @ z2) + spread - x2 @ program.curvature(x2)
        positive = spread + z2 @ self.system.product(z2)
        denominator = own_kappa / own_tau + jnp.maximum(plain, positive)
        numerator = residual_tau - products / own_tau + program.c @ own.x + program.b @ own.y + h @ own.z
        numerator = numerator + 2.0 * (self.residuals.curvature @ own.x) / own_tau
        tau = numerator / denominator
        whole = solutions[1] + tau * solutions[0]
        # From the rows, not from complementarity: what the solve leaves of its residual must not gather in G x + s - h tau.
        s = h * tau - program.rows(whole[: v.n]) - residual_z
        kappa = -(products + own_kappa * tau) / own_tau
        return Iterate(jnp.concatenate([whole, s, jnp.stack([tau, kappa])]), v.n, v.p)

    def _longest(self, step: Iterate) -> Float[Array, ""]:
        """How much of a step stays in the cones; at most one."""
        v = self.iterate
        most = jnp.minimum(1.0, longest_step(v.flat[-2:], step.flat[-2:]))
        alpha = self.program.cones.step_length(self._scaling, v.s, v.z, step.s, step.z, most)
        return jnp.where(jnp.isnan(alpha), 0.0, alpha)
