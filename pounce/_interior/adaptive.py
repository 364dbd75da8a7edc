"""The adaptive barrier strategy (Nocedal, Waechter and Waltz 2009; Ipopt's `AdaptiveMuUpdate`).

In free mode an oracle chooses mu anew in every iteration, as long as a test on the iterates (section 4) sees progress;
then mu falls as in the monotone strategy, from a fixed value, until there is progress again.

The Newton equations are linear in mu and their matrix does not know it, so the system is factorised and solved at the
mu at hand, once more for the centering direction, and the oracle chooses among the combinations of the two.

Not honoured: `fixed_mu_oracle` other than `average_compl`, `adaptive_mu_kkt_norm_type`, `fast_step_computation`. The
second-order term of `mehrotra_algorithm` needs an oracle that computes the affine step (not `loqo`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import select, where
from .._linalg.refinement import Falling, refined_solve
from .barrier import AbstractBarrier, Aimed, Linear, Updated, complementarity_tolerance, fallen
from .filter import Filter
from .globalization import reset_line_search
from .iterate import Iterate, View
from .observation import Observation
from .options import Choices, Numbers
from .quality_function import StepFamily, averaged_norm, best_sigma, quality_function
from .state import BarrierMemory, Frame, Globalization, Point, State
from .termination import phase_tolerance


RESTORATION_MU_MIN_FACTOR = 100.0  # Ipopt's default for `resto.mu_min` is this much larger
KKT_ERROR_NORM = "2-norm-squared"  # Ipopt's default for `adaptive_mu_kkt_norm_type`
LARGEST_CLIPPING_MU = 1e3  # as Ipopt's free mode


class Adaptive(BarrierMemory):
    """What the strategy remembers. What the chosen test of progress does not need is None."""

    free: Bool[Array, ""]  # the oracle chooses mu; else it falls monotonically
    mu_max: Float[Array, ""]  # negative until the first update
    filter: Filter | None  # accepted (objective, violation) pairs
    errors: Float[Array, " k"] | None  # latest accepted KKT errors, the oldest first; empty places are +inf
    first_dual: Float[Array, ""]  # averaged infeasibilities at the first update; negative before
    first_primal: Float[Array, ""]
    kept: Iterate | None  # last iterate that made progress
    returned: Bool[Array, ""] | None  # the iterate is the kept one, about to turn monotone

    def restarted(self) -> "Adaptive":
        minus, no = -jnp.ones_like(self.mu_max), jnp.array(False)
        return Adaptive(
            free=~no,
            mu_max=minus,
            filter=None if self.filter is None else self.filter.cleared(~no),
            errors=None if self.errors is None else jnp.full_like(self.errors, jnp.inf),
            first_dual=minus,
            first_primal=minus,
            kept=self.kept,
            returned=None if self.returned is None else no,
        )


def _remembered(g: Globalization) -> Adaptive:
    assert isinstance(g.barrier, Adaptive)
    return g.barrier


def _residual(seen: Observation) -> Float[Array, " m"]:
    return seen.view.residual(seen.derivatives.rows, seen.iterate.primal)


def _infeasibilities(seen: Observation, kind: str) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Averaged dual and primal infeasibility."""
    dual = averaged_norm(seen.errors.lagrangian, jnp.sum(seen.view.active), kind)
    return dual, averaged_norm(_residual(seen), jnp.sum(seen.view.present), kind)


def _kkt_error(seen: Observation) -> Float[Array, ""]:
    """What the quality function predicts, at the iterate itself."""
    view = seen.view
    products = where(view.has, seen.slack * seen.iterate.bounds, 0.0)
    dual, primal = _infeasibilities(seen, KKT_ERROR_NORM)
    return dual + primal + averaged_norm(products, jnp.sum(view.has), KKT_ERROR_NORM)


def _progress(a: Adaptive, seen: Observation, o: Numbers) -> tuple[Bool[Array, ""], Adaptive]:
    """Whether the iterate is better than those remembered, and the memory with it."""
    progress = jnp.array(True)
    if a.errors is not None:
        error = _kkt_error(seen)
        progress = jnp.any(error <= o.adaptive_mu_kkterror_red_fact * a.errors)
        a = eqx.tree_at(lambda q: q.errors, a, jnp.concatenate([a.errors[1:], error[None]]))
    if a.filter is not None:
        objective = seen.view.objective(seen.derivatives.objective, seen.iterate.primal)
        violation = jnp.sum(jnp.abs(_residual(seen)))
        margin = o.filter_margin_fact * jnp.minimum(o.filter_max_margin, seen.errors.overall(o.mu_target))
        progress = a.filter.accepts(objective + margin, violation + margin)
        a = eqx.tree_at(lambda q: q.filter, a, a.filter.augmented(objective, violation, jnp.array(True)))
    if a.kept is not None:
        a = eqx.tree_at(lambda q: q.kept, a, seen.iterate)
    return progress, a


class _Limits(eqx.Module):
    smallest: Float[Array, ""]  # mu_min
    safeguard: Float[Array, ""]
    largest: Float[Array, ""]

    def clipped(self, mu: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.minimum(jnp.maximum(mu, jnp.maximum(self.smallest, self.safeguard)), self.largest)


def _limits(a: Adaptive, seen: Observation, frame: Frame, o: Numbers) -> _Limits:
    """What mu has to lie between; the safeguard keeps it in proportion to the infeasibilities (section 5)."""
    floor = o.mu_min * where(seen.view.restoring, RESTORATION_MU_MIN_FACTOR, 1.0)
    smallest = jnp.minimum(floor, 0.5 * jnp.minimum(o.tol, complementarity_tolerance(seen, frame, o)))
    dual, primal = _infeasibilities(seen, "1-norm")
    safeguard = o.adaptive_mu_safeguard_factor * jnp.maximum(dual / a.first_dual, primal / a.first_primal)
    if a.errors is not None:
        safeguard = jnp.minimum(safeguard, jnp.min(a.errors))
    return _Limits(smallest, safeguard, a.mu_max)


def _initialized(a: Adaptive, seen: Observation, o: Numbers) -> Adaptive:
    """With what the first update of a run fixes."""
    mu_max = where(a.mu_max < 0, o.mu_max_fact * seen.errors.products.average, a.mu_max)
    dual, primal = _infeasibilities(seen, "1-norm")
    return eqx.tree_at(
        lambda q: (q.mu_max, q.first_dual, q.first_primal),
        a,
        (
            where(o.mu_max < 0, mu_max, o.mu_max),
            where(a.first_dual < 0, jnp.maximum(1.0, dual), a.first_dual),
            where(a.first_primal < 0, jnp.maximum(1.0, primal), a.first_primal),
        ),
    )


def _loqo(seen: Observation) -> Float[Array, ""]:
    """Vanderbei and Shanno 1999: the less uniform the complementarity products, the larger."""
    average = seen.errors.products.average
    uniformity = jnp.minimum(1.0, seen.errors.products.smallest / average)
    return 0.1 * jnp.minimum(0.05 * (1 - uniformity) / uniformity, 2.0) ** 3 * average


def _moved_view(seen: Observation, mu: Float[Array, ""]) -> tuple[View, Float[Array, " N"]]:
    """View and objective gradient at another mu: the proximity weight of the restoration objective follows it.

    Only the line search sees them. As in Ipopt, the direction is computed with the weight of the previous mu.
    """
    view = eqx.tree_at(lambda v: v.proximity, seen.view, seen.view.proximity * jnp.sqrt(mu / seen.mu))
    return view, view.objective_gradient(seen.derivatives.gradient, seen.iterate.primal)


class AdaptiveBarrier(AbstractBarrier):
    """Free and fixed mode."""

    choices: Choices

    def first(self, point: Point, capacity: int, o: Numbers):
        """The strategy has no mu of its own before its first update."""
        del o
        dtype, no, choices = point.objective.dtype, jnp.array(False), self.choices
        minus, rule = -jnp.ones((), dtype), choices.adaptive_mu_globalization
        back, k = choices.adaptive_mu_restore_previous_iterate, choices.adaptive_mu_kkterror_red_iters
        return jnp.ones((), dtype), Adaptive(
            free=~no,
            mu_max=minus,
            filter=Filter.empty(capacity, dtype) if rule == "obj-constr-filter" else None,
            errors=jnp.full((k,), jnp.inf, dtype) if rule == "kkt-error" else None,
            first_dual=minus,
            first_primal=minus,
            kept=point.iterate if back else None,
            returned=no if back else None,
        )

    def update(self, judged: State, seen: Observation, frame: Frame, searching, o: Numbers) -> Updated:
        """Free or fixed mode, with mu if it does not take a linear system to know it. Without any bound, mu stays at its minimum
        and there are no modes."""
        g, tiny = judged.globalization, judged.row.second_tiny
        a, bounded = _initialized(_remembered(g), seen, o), jnp.any(seen.view.has)
        progress, remembered = _progress(a, seen, o)
        free, was_free, going_back = progress & ~tiny, a.free, None
        if a.returned is not None:
            free = free & ~a.returned
        entering, staying = was_free & ~free, ~was_free & ~free
        if a.returned is not None:
            going_back = searching & bounded & entering & ~a.returned
            entering = entering & ~going_back
        limits = _limits(a, seen, frame, o)

        # Fixed mode: first a value from the average complementarity, then Fiacco-McCormick
        solved = (seen.error_at(g.mu) <= o.barrier_tol_factor * g.mu) | tiny
        lower = staying & solved
        smaller = fallen(g.mu, phase_tolerance(judged, o), complementarity_tolerance(seen, frame, o), o)
        first = limits.clipped(o.adaptive_mu_monotone_init_factor * seen.errors.products.average)
        mu = where(entering, first, where(lower, smaller, g.mu))
        closeness = where(free, seen.errors.overall(o.mu_target), where(entering, mu, g.mu))
        tau = where(free | entering | lower, jnp.maximum(o.tau_min, 1 - closeness), g.tau)
        if self.choices.mu_oracle == "loqo":
            mu = where(free, limits.clipped(_loqo(seen)), mu)
        stuck = tiny & where(bounded, staying & (mu == g.mu), True)

        a = select(free, remembered, a)
        a = eqx.tree_at(lambda q: q.free, a, free | ~bounded)
        if going_back is not None:
            a = eqx.tree_at(lambda q: (q.free, q.returned), a, (a.free | going_back, going_back))
        reset = searching & bounded & (free | entering | lower)
        updated, memory, soft = reset_line_search(g, judged.memory, judged.row.soft, reset)
        updated = eqx.tree_at(
            lambda q: (q.mu, q.tau, q.barrier),
            updated,
            (where(bounded, mu, limits.smallest), where(bounded, tau, o.tau_min), a),
        )
        return Updated(
            globalization=select(searching, updated, g),
            memory=memory,
            soft=soft,
            stuck=searching & stuck,
            going_back=going_back,
        )

    def aim(
        self, judged: State, seen: Observation, frame: Frame, g: Globalization, linear: Linear, searching, o: Numbers
    ) -> Aimed:
        """In free mode: let the oracle choose mu, and turn the direction for the old mu towards it.

        With `mehrotra_algorithm` what the products of slacks and multipliers aim at includes the second-order term of the affine
        step (Mehrotra 1992).
        """
        del judged
        choices, solved, system, rhs = self.choices, linear.solved, linear.system, linear.rhs
        if choices.mu_oracle == "loqo":
            view, gradient = _moved_view(seen, g.mu)
            return Aimed(globalization=g, solved=solved, primal_rhs=rhs[0], view=view, gradient=gradient, target=g.mu)
        view, gradient, slack, z = seen.view, seen.gradient, seen.slack, seen.iterate.bounds
        dw, dc = solved.perturbation.dw, solved.perturbation.dc
        oracle = searching & _remembered(g).free & solved.success & jnp.any(view.has)
        average = where(oracle, seen.errors.products.average, 1.0)

        def resolved(wanted, start):
            return refined_solve(
                lambda v: system.apply(dw, dc, v),
                lambda v: system.solve(linear.solver, solved.factor, dw, v),
                wanted,
                Falling(0.0, o.max_refinement_steps, o.residual_ratio_max, o.residual_improvement_factor),
                enabled=oracle,
                start=start,
            ).solution

        def right_side(gradient, mu):
            return where(view.active, -view.barrier_gradient(gradient, slack, mu), 0.0)

        here = (solved.primal, solved.rows)
        centering = resolved((right_side(jnp.zeros_like(gradient), average), jnp.zeros_like(rhs[1])), None)
        affine = solved.primal - g.mu / average * centering[0]
        steps = StepFamily.from_primal(view, slack, z, affine, centering[0], average)
        limits = _limits(_remembered(g), seen, frame, o)
        if choices.mu_oracle == "probing":
            mean = jnp.sum(steps.taken(0.0, 1.0)[2]) / jnp.maximum(jnp.sum(view.has), 1)
            sigma = jnp.minimum((mean / average) ** 3, o.sigma_max)
        else:
            quality = quality_function(
                steps, view, seen.errors.lagrangian, _residual(seen), jnp.sum(seen.view.present), g.tau, choices
            )
            smallest = jnp.maximum(o.sigma_min, limits.smallest / average)
            largest = jnp.minimum(o.sigma_max, limits.largest / average)
            sigma = best_sigma(quality, smallest, largest, oracle, o, choices.quality_function_max_section_steps)
        mu = where(oracle, limits.clipped(sigma * average), g.mu)

        dual = right_side(gradient, mu) - view.transposed_rows(seen.derivatives.jacobian, seen.iterate.rows)
        target = mu
        if choices.mehrotra_algorithm:
            correction = where(oracle, steps.slack_affine * steps.z_affine, 0.0)
            target = mu - correction
            dual = dual - (correction / slack)[0] + (correction / slack)[1]
        new_rhs = (where(oracle, dual, rhs[0]), rhs[1])
        guess = jax.tree.map(lambda v, c: v + (mu - g.mu) / average * c, here, centering)
        primal, rows = resolved(new_rhs, guess)
        solved = eqx.tree_at(lambda s: (s.primal, s.rows), solved, (primal, rows))
        view, gradient = _moved_view(seen, mu)
        return Aimed(
            globalization=eqx.tree_at(lambda q: q.mu, g, mu),
            solved=solved,
            primal_rhs=new_rhs[0],
            view=view,
            gradient=gradient,
            target=target,
        )

    def clipping_mu(self, view: View, iterate: Iterate, g: Globalization, o: Numbers) -> Float[Array, ""]:
        """While an oracle chooses mu, the iterate's average complementarity."""
        slack = view.guarded_slack(iterate.primal, iterate.bounds, g.mu, o.slack_move)
        total = jnp.sum(where(view.has, slack * iterate.bounds, 0.0))
        average = jnp.minimum(total / jnp.maximum(jnp.sum(view.has), 1), LARGEST_CLIPPING_MU)
        return where(_remembered(g).free, average, g.mu)

    def gone_back(self, judged: State, g: Globalization) -> State:
        """To the last iterate that made progress (`adaptive_mu_restore_previous_iterate`)."""
        return eqx.tree_at(lambda s: (s.iterate, s.globalization), judged, (_remembered(g).kept, g))
