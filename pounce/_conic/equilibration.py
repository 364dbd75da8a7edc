"""Ruiz equilibration of a conic program (Ruiz 2001; bounds and cost scaling as in Goulart and Chen 2024, section 5)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._cone.units import inverse_root
from .._linalg import matrix
from .._linalg.powers_of_two import geometric_mean, nearest_power_of_two
from .._once import computed_once
from .program import ConeRows, ConicProgram, Equalities, Objective, Side


SWEEPS = 10
SETTLED = 0.1  # relative change of the factors at which no more sweeps are made
LARGEST, LARGEST_CURVED = 1e4, 1e8  # factor, and the inverse of the smallest: units of what curves decide about more
ROUNDING = 100.0  # times the precision: a row or a right-hand side that is no larger beside others
# Right-hand sides and costs of such sizes are left as they are: an embedding starts at points of size one.
NEAR, FAR = 1e-3, 1e4


class Scaling(eqx.Module):
    """``x = variables * x'``; rows are multiplied by ``equalities`` and ``rows``, the objective by ``cost``.

    ``unit`` is the size that the data make one expect of the objective, in the user's units, at most one: what small is
    measured by. It is one where the data do not tell.
    """

    variables: Float[Array, " n"]
    equalities: Float[Array, " p"]
    rows: Float[Array, " size"]
    cost: Float[Array, ""]
    unit: Float[Array, ""]


def _size(value, otherwise=1.0):
    """A size, or another number where there is nothing to be measured."""
    return jnp.where(value > 0, value, otherwise)


def _far(size):
    return (size > FAR) | (size < NEAR)


def _typical(equalities: Float[Array, " p"], limits: list[Float[Array, " k"]]) -> Float[Array, ""]:
    """The size of right-hand sides, as a power of two: their geometric mean without zeros, and without what is a rounding error
    beside the largest. A limit far away may mean that there is none, and makes nothing else a rounding error."""
    given = jnp.abs(jnp.concatenate([equalities, *limits]))
    most = np.where(np.arange(given.size) < equalities.size, np.inf, FAR).astype(given.dtype)
    largest = jnp.max(jnp.minimum(given, most), initial=0.0)
    return geometric_mean(given, ROUNDING * jnp.finfo(given.dtype).eps * largest)


def ruiz_equilibrate(program: ConicProgram) -> tuple[ConicProgram, Scaling]:
    """The scaled program and its factors. Those of a cone's rows are an automorphism of it; a bound row keeps the coefficient
    one."""
    cones = program.cones.leading(program.G.shape[0])
    most = LARGEST if program.cones.polyhedral else LARGEST_CURVED
    least = 1.0 / most
    p_abs = None if program.P is None else matrix.magnitudes(program.P)
    a_abs, g_abs, c_abs = matrix.magnitudes(program.A), matrix.magnitudes(program.G), jnp.abs(program.c)

    # Of rows that curve, those that are rounding errors have no size: a constant stays one.
    real = None if program.cones.polyhedral else program.row_shares() > ROUNDING * jnp.finfo(program.c.dtype).eps

    def sweep(carry):
        d, e, f, cost, _, count = carry
        sizes = (matrix.column_sizes(matrix.row_scaled(rows, scale)) for rows, scale in ((a_abs, e), (g_abs, f)))
        columns = jnp.maximum(*sizes)
        if p_abs is not None:
            columns = jnp.maximum(columns, cost * matrix.symmetric_column_sizes(p_abs, d))
        new_e = e * inverse_root(matrix.row_sizes(matrix.column_scaled(a_abs, d)) * e)
        rows = matrix.row_sizes(matrix.column_scaled(g_abs, d)) * f
        new_f = cones.equilibrated(f, rows if real is None else jnp.where(real, rows, 0.0), least, most)
        new_d = d * inverse_root(columns * d)
        new_d, new_e = (jnp.clip(v, least, most) for v in (new_d, new_e))
        ratios = jnp.concatenate([new_d / d, new_e / e, new_f / f])
        change = jnp.maximum(jnp.max(ratios), 1.0 / jnp.min(ratios)) - 1.0
        d, e, f = new_d, new_e, new_f
        if p_abs is not None:
            size_p = program.objective.mean(d * matrix.symmetric_column_sizes(p_abs, d))
            size_c = jnp.max(c_abs * d)
            useful = (size_p > 0) & (size_c > 0)
            size = jnp.where(useful, jnp.maximum(size_p, size_c), 1.0)
            cost = jnp.where(useful, jnp.clip(1.0 / size, least, most), cost)
        return d, e, f, cost, change, count + 1

    one = jnp.ones((), program.c.dtype)
    start = tuple(jnp.ones_like(v) for v in (program.c, program.b, program.h))
    d, e, f, cost, _, sweeps = lax.while_loop(
        lambda carry: (carry[-2] > SETTLED) & (carry[-1] < SWEEPS),
        sweep,
        (*start, one, jnp.full_like(one, jnp.inf), jnp.zeros((), int)),
    )

    # Powers of two leave every digit of the data as it is: rounding would bend what is flat.
    d, e, cost = (nearest_power_of_two(factor) for factor in (d, e, cost))
    f = cones.rounded(f)
    # Points of a size of their own become points of size one; then the objective.
    right = _typical(e * program.b, [f * program.h, *(side.mask * side.value / d for side in program.sides)])
    unit = jnp.where(_far(right), right, 1.0)
    d, e, f, right = d * unit, e / unit, f / unit, right / unit
    size_c = jnp.max(c_abs * d, initial=0.0)
    size_p = (
        jnp.zeros_like(size_c) if p_abs is None else program.objective.mean(d * matrix.symmetric_column_sizes(p_abs, d))
    )
    size = _size(jnp.maximum(size_p, size_c))
    cost = jnp.where(_far(cost * size), 1.0 / nearest_power_of_two(size), cost)
    unit = jnp.minimum(1.0, _size(right * size_c + right**2 * size_p))
    d, e, f, cost, unit = computed_once((d, e, f, cost, unit), sweeps < 0)

    def side(bounds: Side | None) -> Side | None:
        return None if bounds is None else Side(bounds.value / d, bounds.mask)

    scaled = ConicProgram(
        objective=Objective(
            P=None if program.P is None else matrix.scaled(program.P, cost * d, d),
            c=cost * d * program.c,
            constant=cost * program.constant,
            facts=program.objective.facts,
        ),
        equalities=Equalities(matrix.scaled(program.A, e, d), e * program.b),
        inequalities=ConeRows(matrix.scaled(program.G, f, d), f * program.h, program.cones),
        lower=side(program.lower),
        upper=side(program.upper),
    )
    return scaled, Scaling(
        variables=d, equalities=e, rows=jnp.concatenate([f, *(1.0 / d for _ in program.sides)]), cost=cost, unit=unit
    )
