"""The monotone barrier update (Waechter and Biegler 2006, section 2.2, eq. 7)."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._choose import where
from .options import Choices, Numbers


class BarrierUpdate(eqx.Module):
    mu: Float[Array, ""]
    tau: Float[Array, ""]
    reset: Bool[Array, ""]  # the filter is cleared
    stuck: Bool[Array, ""]  # tiny steps at a barrier parameter that cannot fall any more


def decreased(mu: Float[Array, ""], tol: Float[Array, ""], compl_tol: Float[Array, ""], o: Numbers) -> Float[Array, ""]:
    """Next barrier parameter; ``compl_tol`` is the complementarity tolerance in scaled units."""
    smaller = jnp.minimum(o.mu_linear_decrease_factor * mu, mu**o.mu_superlinear_decrease_power)
    floor = jnp.minimum(tol, compl_tol) / (o.barrier_tol_factor + 1)
    return jnp.maximum(smaller, jnp.maximum(o.mu_target, floor))


class _Loop(eqx.Module):
    mu: Float[Array, ""]
    tau: Float[Array, ""]
    forced: Bool[Array, ""]
    running: Bool[Array, ""]
    reset: Bool[Array, ""]
    stuck: Bool[Array, ""]


def monotone_update(
    error_at: Callable[[Float[Array, ""]], Float[Array, ""]],
    mu: Float[Array, ""],
    tau: Float[Array, ""],
    tol: Float[Array, ""],
    compl_tol: Float[Array, ""],
    tiny: Bool[Array, ""],
    skip: Bool[Array, ""],
    initialized: Bool[Array, ""],
    numbers: Numbers,
    choices: Choices,
) -> BarrierUpdate:
    """Lower mu while the barrier problem is solved to ``barrier_tol_factor * mu``, or once after two tiny steps.

    ``error_at(mu)`` is E_mu at the present iterate.
    """

    def solved(mu):
        return error_at(mu) <= numbers.barrier_tol_factor * mu

    def body(c: _Loop) -> _Loop:
        new = decreased(c.mu, tol, compl_tol, numbers)
        changed = new != c.mu
        stuck = ~changed & c.forced
        go_on = changed & solved(new)
        if not choices.mu_allow_fast_monotone_decrease:
            go_on = go_on & ~initialized
        tau = where(stuck, c.tau, jnp.maximum(numbers.tau_min, 1 - new))
        return _Loop(new, tau, jnp.array(False), go_on, changed, stuck)

    start = (solved(mu) | tiny) & ~skip
    no = jnp.array(False)
    last = lax.while_loop(lambda c: c.running, body, _Loop(mu, tau, tiny, start, no, no))
    return BarrierUpdate(last.mu, last.tau, last.reset, last.stuck)
