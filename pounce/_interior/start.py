"""From the user's bounds and point to the first iterate (Waechter and Biegler 2006, sections 3.6 and 3.8)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._choose import where
from .._linalg.matrix import masked, row_sizes
from .._problem.nlp import Derivatives, Scaling
from .._results import Status
from .iterate import Iterate, maximum_norm
from .options import Choices, Numbers
from .state import Frame


class Bounds(eqx.Module):
    """The user's bounds; infinities (or magnitudes from 1e19 on) mean none."""

    lb: Float[Array | np.ndarray, " n"]
    ub: Float[Array | np.ndarray, " n"]
    cl: Float[Array | np.ndarray, " m"]
    cu: Float[Array | np.ndarray, " m"]


class WarmStart(eqx.Module):
    """Multipliers in user units, as they are given: rows, lower and upper bounds; NaN: this one is not."""

    rows: Float[Array | np.ndarray, " m"]
    lower: Float[Array | np.ndarray, " n"]
    upper: Float[Array | np.ndarray, " n"]

    def seeds(self) -> "Seeds":
        """As a solve takes them."""
        own = np if all(isinstance(part, np.ndarray) for part in (self.rows, self.lower, self.upper)) else jnp
        rows = own.where(own.isnan(self.rows), 0.0, self.rows)
        elastic = np.zeros(2 * rows.shape[0], rows.dtype)
        sides = (self.lower, -rows), (self.upper, rows)
        bounds = own.stack([own.concatenate([*side, elastic]) for side in sides])
        return Seeds(rows, bounds, np.asarray(True))


class Seeds(eqx.Module):
    """Multipliers to start from, in user units, unless nothing is ``given``."""

    rows: Float[Array | np.ndarray, " m"]
    bounds: Float[Array | np.ndarray, "2 N"]  # of all unknowns, lower, then upper; NaN: this one is not given
    given: Bool[Array | np.ndarray, ""]

    @classmethod
    def nothing(cls, n: int, m: int, dtype) -> "Seeds":
        """None, for a cold start."""
        return cls(np.zeros(m, dtype), np.zeros((2, n + 3 * m), dtype), np.asarray(False))


def _relaxed(lower, upper, o: Numbers):
    def distance(bound):
        return jnp.minimum(o.constr_viol_tol, o.bound_relax_factor * jnp.maximum(1.0, jnp.abs(bound)))

    return lower - distance(lower), upper + distance(upper)


def build_frame(bounds: Bounds, numbers: Numbers, choices: Choices) -> tuple[Frame, Int[Array, ""]]:
    """Masks and relaxed bounds (rows not yet scaled), and the status: running, or why there is nothing to run."""
    o, b = numbers, bounds
    n, m = b.lb.shape[0], b.cl.shape[0]
    has_lb, has_ub = b.lb > o.nlp_lower_bound_inf, b.ub < o.nlp_upper_bound_inf
    has_cl, has_cu = b.cl > o.nlp_lower_bound_inf, b.cu < o.nlp_upper_bound_inf
    equality = (b.cl == b.cu) & has_cl & has_cu
    inequality = (has_cl | has_cu) & ~equality
    fixed = (b.lb == b.ub) & has_lb & has_ub
    if choices.fixed_variable_treatment == "relax_bounds":
        fixed = jnp.zeros_like(fixed)
    equalities = jnp.sum(equality)
    # Too few unknowns left after removing fixed variables: keep them as variables between relaxed bounds.
    fixed = fixed & (jnp.sum(~fixed) >= equalities)
    free = ~fixed
    finite = where(jnp.concatenate([has_lb, has_cl & inequality]), jnp.concatenate([b.lb, b.cl]), 0.0)
    finite_upper = where(jnp.concatenate([has_ub, has_cu & inequality]), jnp.concatenate([b.ub, b.cu]), 0.0)
    lower, upper = _relaxed(finite, finite_upper, o)
    has = jnp.stack(
        [jnp.concatenate([has_lb & free, has_cl & inequality]), jnp.concatenate([has_ub & free, has_cu & inequality])]
    )
    bound = where(has, jnp.stack([lower, upper]), 0.0)
    pad = ((0, 0), (0, 2 * m))
    frame = Frame(
        bound=jnp.pad(bound, pad),
        stated=jnp.pad(where(has, jnp.stack([finite, finite_upper]), 0.0), pad),
        has=jnp.pad(has, pad),
        free=free,
        equality=equality,
        inequality=inequality,
        scaling=Scaling(jnp.ones((), b.lb.dtype), jnp.ones_like(b.cl), where(equality, b.cl, 0.0)),
    )
    # Written so that a NaN bound counts as inconsistent.
    consistent = jnp.all(b.lb <= b.ub) & jnp.all(b.cl <= b.cu) & jnp.all(b.lb < jnp.inf) & jnp.all(b.ub > -jnp.inf)
    consistent = consistent & jnp.all(b.cl < jnp.inf) & jnp.all(b.cu > -jnp.inf)
    status = where(
        consistent & (n > 0),
        where(jnp.sum(free) < equalities, Status.Not_Enough_Degrees_Of_Freedom, Status.Running),
        Status.Invalid_Problem_Definition,
    )
    return frame, status.astype(jnp.int32)


def starting_variables(frame: Frame, bounds: Bounds, x0: Float[Array | np.ndarray, " n"]) -> Float[Array, " n"]:
    """The user's point with fixed variables at their values."""
    return where(frame.free, x0, bounds.lb)


def scaling_factors(frame: Frame, d: Derivatives, numbers: Numbers) -> tuple[Float[Array, ""], Float[Array, " m"]]:
    """Gradient-based scaling of the objective and of the equality and inequality blocks (section 3.8)."""
    o = numbers
    gradient = where(frame.free, d.gradient, 0.0)
    size = maximum_norm(gradient)
    by_target = o.nlp_scaling_obj_target_gradient / where(size > 0, size, 1.0)
    by_limit = where(size > o.nlp_scaling_max_gradient, o.nlp_scaling_max_gradient / size, 1.0)
    objective = where((o.nlp_scaling_obj_target_gradient > 0) & (size > 0), by_target, by_limit)
    objective = where(jnp.isfinite(size), jnp.maximum(objective, o.nlp_scaling_min_value), 1.0)

    row = row_sizes(masked(d.jacobian, jnp.ones_like(frame.equality), frame.free))

    def block(mask):
        largest = jnp.max(where(mask, row, 0.0), initial=0.0)
        each = jnp.minimum(1.0, o.nlp_scaling_max_gradient / where(row > 0, row, 1.0))
        limited = where(largest > o.nlp_scaling_max_gradient, jnp.maximum(each, o.nlp_scaling_min_value), 1.0)
        target = o.nlp_scaling_constr_target_gradient
        common = jnp.maximum(target / where(largest > 0, largest, 1.0), o.nlp_scaling_min_value)
        return where(mask, where((target > 0) & (largest > 0), common, limited), 1.0)

    rows = block(frame.equality) * block(frame.inequality)
    return objective, where(jnp.isfinite(rows), rows, 1.0)


def scaled_frame(frame: Frame, objective_scale: Float[Array, ""], row_scale: Float[Array, " m"]) -> Frame:
    """With scaling factors, and the slack bounds in scaled units."""
    n, m = frame.free.shape[0], row_scale.shape[0]
    factor = jnp.concatenate([jnp.ones(n, row_scale.dtype), row_scale, jnp.ones(2 * m, row_scale.dtype)])
    # A negative row factor (user scaling) is not meaningful; its size is what counts.
    return eqx.tree_at(
        lambda f: (f.bound, f.stated, f.objective_scale, f.row_scale),
        frame,
        (frame.bound * factor, frame.stated * factor, objective_scale, row_scale),
    )


def pushed(
    values: Float[Array, " k"],
    bound: Float[Array, "2 k"],
    has: Bool[Array, "2 k"],
    push: Float[Array, " k"],
    fraction: Float[Array, " k"],
) -> Float[Array, " k"]:
    """Project on the bounds, then move inside by ``min(push max(1, |bound|), fraction width)``."""
    lower, upper = bound
    both = has[0] & has[1]
    width = where(both, fraction * (upper - lower), jnp.inf)
    low = jnp.minimum(push * jnp.maximum(1.0, jnp.abs(lower)), width)
    high = jnp.minimum(push * jnp.maximum(1.0, jnp.abs(upper)), width)
    values = where(has[0], jnp.maximum(values, lower + low), values)
    return where(has[1], jnp.minimum(values, upper - high), values)


def push_inside(frame: Frame, x: Float[Array, " n"], rows: Float[Array, " m"], o: Numbers) -> Float[Array, " n+m"]:
    """Variables and slacks of the first iterate, moved inside of their bounds. What is there already stays where it is."""
    n, m = x.shape[0], rows.shape[0]
    variable = np.arange(n + m) < n
    push = where(variable, o.bound_push, o.slack_bound_push)
    fraction = where(variable, o.bound_frac, o.slack_bound_frac)
    values = jnp.concatenate([x, where(frame.inequality, rows, 0.0)])
    return pushed(values, frame.bound[:, : n + m], frame.has[:, : n + m], push, fraction)


def first_multipliers(
    frame: Frame,
    primal: Float[Array, " N"],
    mu: Float[Array, ""],
    warm: Seeds | None,
    numbers: Numbers,
    choices: Choices,
) -> Iterate:
    """Bound multipliers (and, warm, row multipliers) of the first iterate, in scaled units."""
    m = frame.equality.shape[0]
    slack = where(frame.has, jnp.abs(primal - frame.bound), 1.0)  # a program without a use for it has no such kernel
    cold = jnp.full(frame.bound.shape, numbers.bound_mult_init_val)
    if choices.bound_mult_init_method == "mu-based":
        cold = mu / slack
    if warm is None:
        return Iterate(primal, jnp.zeros(m, primal.dtype), where(frame.has, cold, 0.0))
    limit, least = numbers.warm_start_mult_init_max, numbers.warm_start_mult_bound_push
    scale = frame.objective_scale / frame.row_scale
    present = frame.equality | frame.inequality
    y = jnp.clip(where(present, warm.rows * scale, 0.0), -limit, limit)
    size = jnp.full(frame.free.shape, frame.objective_scale)
    z = warm.bounds * jnp.concatenate([size, scale, jnp.zeros(2 * m, y.dtype)])
    z = jnp.minimum(where(jnp.isnan(z), numbers.bound_mult_init_val, z), limit)
    if choices.warm_start_init_point:
        z = numbers.warm_start_target_mu / slack
    z = jnp.maximum(z, least)
    return Iterate(primal, y, where(frame.has, where(warm.given, z, cold), 0.0))
