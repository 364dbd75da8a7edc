"""The monotone strategy for the barrier parameter (Waechter and Biegler 2006, section 2.2, eq. 7)."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._choose import where
from .barrier import AbstractBarrier, Aimed, Linear, Updated, complementarity_tolerance, fallen
from .globalization import reset_line_search
from .observation import Observation
from .options import Choices, Numbers
from .restoration import phase_view
from .state import Frame, Globalization, Point, State
from .termination import phase_tolerance


class _Fall(eqx.Module):
    """The barrier parameter while it falls."""

    mu: Float[Array, ""]
    tau: Float[Array, ""]
    forced: Bool[Array, ""]  # by two tiny steps
    running: Bool[Array, ""]
    reset: Bool[Array, ""]  # it is another barrier problem
    stuck: Bool[Array, ""]  # tiny steps at a barrier parameter that cannot fall any more


class MonotoneBarrier(AbstractBarrier):
    """mu falls whenever its barrier problem has been solved to ``barrier_tol_factor * mu``, or after two tiny steps."""

    choices: Choices

    def first(self, point: Point, capacity: int, o: Numbers):
        del point, capacity
        return o.mu_init, None

    def update(self, judged: State, seen: Observation, frame: Frame, searching, o: Numbers) -> Updated:
        g, tiny, initialized = judged.globalization, judged.row.second_tiny, judged.iteration > 0
        tol, compl_tol = phase_tolerance(judged, o), complementarity_tolerance(seen, frame, o)
        # A restoration run keeps its first barrier parameter for its first step.
        skip = seen.view.restoring & (judged.entry.steps == 0) | ~searching

        def solved(mu):
            return seen.error_at(mu) <= o.barrier_tol_factor * mu

        def body(c: _Fall) -> _Fall:
            new = fallen(c.mu, tol, compl_tol, o)
            changed = new != c.mu
            stuck = ~changed & c.forced
            go_on = changed & solved(new)
            if not self.choices.mu_allow_fast_monotone_decrease:
                go_on = go_on & ~initialized
            tau = where(stuck, c.tau, jnp.maximum(o.tau_min, 1 - new))
            return _Fall(mu=new, tau=tau, forced=jnp.array(False), running=go_on, reset=changed, stuck=stuck)

        start, no = (solved(g.mu) | tiny) & ~skip, jnp.array(False)
        first = _Fall(mu=g.mu, tau=g.tau, forced=tiny, running=start, reset=no, stuck=no)
        last = lax.while_loop(lambda c: c.running, body, first)
        g = eqx.tree_at(lambda q: (q.mu, q.tau), g, (last.mu, last.tau))
        g, memory, soft = reset_line_search(g, judged.memory, judged.row.soft, last.reset)
        # Without bounds no barrier parameter can help.
        useless = tiny & ~jnp.any(seen.view.has)
        stuck = searching & (last.stuck | useless)
        return Updated(globalization=g, memory=memory, soft=soft, stuck=stuck, going_back=None)

    def aim(
        self, judged: State, seen: Observation, frame: Frame, g: Globalization, linear: Linear, searching, o: Numbers
    ) -> Aimed:
        """The direction stays; it is that of the old proximity weight of the restoration objective, the search sees the new."""
        del searching
        view = phase_view(frame, judged.phase, g.mu, judged.entry, o)
        gradient = view.objective_gradient(seen.derivatives.gradient, seen.iterate.primal)
        return Aimed(
            globalization=g,
            solved=linear.solved,
            primal_rhs=linear.rhs[0],
            view=view,
            gradient=gradient,
            target=g.mu,
        )
