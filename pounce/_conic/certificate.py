"""How much of a certificate is proof (Farkas 1902), whatever the units of rows, variables and objective.

From ``A'y + G'z = r`` and ``b'y + h'z = -1`` with ``z`` in the dual cone follows ``r'x <= -1`` for every feasible ``x``: what
is left of the equations excludes points near the origin only. How near is a matter of units, so each column of ``r`` is compared
with the terms that cancel in it. Where ``|r| <= error (|A|'|y| + |G|'|z|)`` in every column, the certificate is an exact one of a
program whose matrices differ by the factor ``error`` from this one, and only points whose rows cancel to that share can be
feasible. Cones that curve, like the exponential one, have feasible points far beyond their data; multipliers that exclude near
ones leave a column in which nothing cancels at all. So do singular multipliers of near points, by rounding: there the data must
say how far feasible points can be (`extent`). For rays the same holds with rows and columns exchanged.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._cone.product import ConeProduct
from .._linalg import matrix
from .iterate import Iterate
from .program import ConicProgram


# What is smaller, in equilibrated units, is on its way to zero, and is zero in the certificate: the first of these that leaves a
# proof. Where rows are nearly parallel, multipliers that cancel are that much larger than others that count.
NEGLIGIBLE = 1e-8, 1e-12, 0.0
# Times as much is asked of rows of cones that curve, and of a column where nothing cancels but within a block.
CURVED, ROUNDING = 1e3, 1e11
# Times the precision: what rounding may leave of x'Px along a ray. As this is a square, P x is then its root at best.
CURVATURE = 1e3
FLAT = 1e-3


def cleaned(program: ConicProgram, v: Iterate, negligible: Float[Array, ""]) -> Iterate:
    """Without what is no larger than a share of the largest: a block of a cone is kept or dropped as a whole."""

    def kept(part: Array, sizes: Array, whole: Array) -> Array:
        return jnp.where(sizes > negligible * whole, part, 0.0)

    sizes_z, sizes_s, size_x, size_y = (
        _block_sizes(program.cones, v.z),
        _block_sizes(program.cones, v.s),
        abs(v.x),
        abs(v.y),
    )
    multipliers = jnp.max(jnp.concatenate([size_y, sizes_z]), initial=0.0)
    point = jnp.max(jnp.concatenate([size_x, sizes_s]), initial=0.0)
    return Iterate.of(
        x=kept(v.x, size_x, jnp.max(size_x, initial=0.0)),
        y=kept(v.y, size_y, multipliers),
        z=kept(v.z, sizes_z, multipliers),
        s=kept(v.s, sizes_s, point),
        tau=v.tau,
        kappa=v.kappa,
    )


def _block_sizes(cones: ConeProduct, v: Float[Array, " size"]) -> Float[Array, " size"]:
    """The largest magnitude in the block of each row."""
    return _over_blocks(cones, jnp.abs(v), lambda blocks: jnp.max(blocks, axis=1, keepdims=True, initial=0.0))


def _block_sums(cones: ConeProduct, v: Float[Array, " size"]) -> Float[Array, " size"]:
    """The sum over the block of each row."""
    return _over_blocks(cones, v, lambda blocks: jnp.sum(blocks, axis=1, keepdims=True))


def _over_blocks(
    cones: ConeProduct, v: Float[Array, " size"], reduced: Callable[[Array], Array]
) -> Float[Array, " size"]:
    parts = [jnp.zeros_like(v[:0])]
    for cone, part in zip(cones.cones, cones.split(v), strict=True):
        width = 1 if not cone.blocks else cone.blocks[0]
        blocks = part.reshape(-1, width)
        parts.append(jnp.broadcast_to(reduced(blocks), blocks.shape).reshape(-1))
    return jnp.concatenate(parts)


def margins(program: ConicProgram, v: Iterate) -> Float[Array, " size"]:
    """How far inside the dual cone each block of multipliers is, relative to its size: the cosine of its angle with its slacks.

    Near the central path, slacks are the gradient of the dual barrier, which is the larger the nearer the boundary is.
    """
    if program.cones.polyhedral:
        return jnp.zeros_like(v.z)  # rows of their own are well inside or nothing
    s, z = (
        part / jnp.where(size > 0, size, 1.0)
        for part, size in ((v.s, _block_sizes(program.cones, v.s)), (v.z, _block_sizes(program.cones, v.z)))
    )
    inner, s_squared, z_squared = (_block_sums(program.cones, product) for product in (s * z, s * s, z * z))
    lengths = jnp.sqrt(s_squared * z_squared)
    return jnp.clip(inner / jnp.where(lengths > 0, lengths, 1.0), 0.0, 1.0)


def errors(
    program: ConicProgram, v: Iterate, margin: Float[Array, " size"], farthest: Float[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What is unproven of the multipliers as a Farkas certificate, and of the point as a ray; at least one if nothing is
    proven. What remains of each column or row is compared with its terms, and the value with its own. ``margin``: of `margins`;
    ``farthest``: of `extent`.
    """
    x, y, z, s = jnp.abs(v.x), jnp.abs(v.y), jnp.abs(v.z), jnp.abs(v.s)
    b, h, c = jnp.abs(program.b), jnp.abs(program.right_side()), jnp.abs(program.c)
    A, G, cones = matrix.magnitudes(program.A), matrix.magnitudes(program.G), program.cones
    curved = not cones.polyhedral
    pulling = jnp.where(_constant(program), 0.0, v.z) if curved else v.z
    columns = matrix.transposed_times(program.A, v.y) + program.rows_transposed(pulling)
    pull = matrix.transposed_times(A, y)
    terms = pull + _pull(program, pulling)
    value, products = program.b @ v.y + program.right_side() @ v.z, b @ y + h @ z
    if curved:
        # Within a block near the boundary of its cone there is cancellation that says nothing, but to rounding errors. Inside,
        # feasible slacks that are large are worth much to the multipliers, in proportion to the margin.
        own = jnp.abs(pulling)
        whole, _, _ = program.split(jnp.maximum(_block_sizes(cones, own) / ROUNDING, margin * own))
        terms = jnp.maximum(terms, matrix.transposed_times(G, whole))
    shares = _shares(columns, terms) * _cancelled(value, products)
    if curved:
        # What remains, rounded as it is, is worth no more than the data allow the variable, whether or not anything cancels.
        rounding = jnp.finfo(x.dtype).eps * (pull + matrix.transposed_times(G, z[: G.shape[0]]))
        worth = (jnp.abs(columns) + rounding) * farthest
        shares = jnp.minimum(shares, _cancelled(value, jnp.where(jnp.isnan(worth), 0.0, worth)))
    farkas = jnp.max(shares, initial=0.0)
    rows = jnp.concatenate([G @ x, *(side.mask * x for side in program.sides)]) + s
    remains = program.rows(v.x) + v.s
    if curved:
        flat = np.repeat([cone.blocks is None for cone in cones.cones], [cone.size for cone in cones.cones])
        remains = jnp.where(flat, remains, CURVED * remains)
        rows = _block_sizes(cones, rows)
    ray = jnp.maximum(_worst(program.A @ v.x, A @ x), _worst(remains, rows))
    if program.P is not None:
        curvature, terms = program.curvature(v.x), matrix.symmetric_times(matrix.magnitudes(program.P), x)
        # Curvature that is real has its minimum along the ray, however far away.
        real = v.x @ curvature > CURVATURE * jnp.finfo(x.dtype).eps * (x @ terms)
        ray = jnp.where(real, 1.0, jnp.maximum(ray, FLAT * _worst(curvature, terms)))
    return farkas, ray * _cancelled(program.c @ v.x, c @ x)


def _constant(program: ConicProgram) -> Bool[Array, " size"]:
    """Whether the block of each row, of a cone that curves, is a constant: its coefficients are but rounding errors, both beside
    those of other rows in the same columns and beside its own right-hand side. No point near the data then changes its slacks.
    """
    shares, cones = program.row_shares(), program.cones
    beside = jnp.minimum(1.0, _block_sizes(cones, program.right_side()))
    curves = np.repeat([cone.blocks is not None for cone in cones.cones], [cone.size for cone in cones.cones])
    rest = jnp.ones(beside.size - shares.size, shares.dtype)  # rows of bounds
    return jnp.asarray(curves) & (ROUNDING * _block_sizes(cones, jnp.concatenate([shares, rest])) < beside)


def _pull(program: ConicProgram, z: Float[Array, " size"]) -> Float[Array, " n"]:
    """The magnitudes of what each block of cone rows adds to each column, summed up."""
    m = program.G.shape[0]
    _, lower, upper = program.split(jnp.abs(z))
    total = matrix.group_sizes(program.G, z[:m], _blocks(program.cones, m))
    return sum((side for side in (lower, upper) if side is not None), start=total)


def _blocks(cones: ConeProduct, m: int) -> np.ndarray | None:
    """The number of the block that each of the first rows belongs to; None if every row is one."""
    if cones.polyhedral:
        return None
    widths = [width for cone in cones.cones for width in (cone.blocks or (1,) * cone.size)]
    return np.repeat(np.arange(len(widths)), widths)[:m]


def _shares(remains: Array, terms: Array) -> Array:
    """The share of its terms that remains in each entry."""
    some = terms > 0
    return jnp.where(some, jnp.abs(remains) / jnp.where(some, terms, 1.0), 0.0)


def _worst(remains: Array, terms: Array) -> Float[Array, ""]:
    """The largest of them."""
    return jnp.max(_shares(remains, terms), initial=0.0)


def _cancelled(value: Array, terms: Array) -> Float[Array, ""]:
    """How many times the terms are as large as their sum, infinite if that is not negative."""
    return jnp.where(value < 0, terms / jnp.where(value < 0, -value, 1.0), jnp.inf)
