"""The globalisation state and the search memory: as a solve starts with them, and what a new barrier problem forgets."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where
from .._linalg.sparse import Pattern
from . import quasi_newton
from .filter import Filter, Reference
from .options import Choices, Numbers
from .perturbation import Perturbation
from .records import Packed
from .state import Acceptance, BarrierMemory, Departure, Direction, Globalization, Memory, Point


def first_globalization(
    point: Point,
    o: Numbers,
    choices: Choices,
    capacity: int,
    barrier: tuple[Float[Array, ""], BarrierMemory | None],
    sparse: Pattern | None = None,
) -> Globalization:
    """The state of the main phase before its first pass. ``barrier``: the first mu, and what its strategy remembers; ``sparse``:
    where the entries of a sparse Jacobian are."""
    dtype, m = point.objective.dtype, point.rows.size
    zero, none = jnp.zeros((), dtype), jnp.array(0)
    mu, remembered = barrier
    return Globalization(
        mu=mu,
        tau=jnp.maximum(o.tau_min, 1 - mu),
        acceptance=Acceptance(
            filter=Filter.empty(capacity, dtype),
            theta_max=zero - 1,
            theta_min=zero - 1,
            reference=Reference.of(zero, zero, zero),
            rejections=none,
        ),
        perturbation=Perturbation.fresh(dtype),
        acceptable_count=none,
        barrier=remembered,
        quasi_newton=quasi_newton.fresh(point.iterate.primal.size - 3 * m, m, o, choices, sparse),
    )


def first_memory(point: Point) -> Memory:
    """Nothing to remember yet."""
    iterate, zero, no = point.iterate, jnp.zeros_like(point.objective), jnp.array(False)
    direction = Direction(*(jnp.zeros_like(leaf) for leaf in (iterate.primal, iterate.rows, iterate.bounds)))
    return Memory(
        watchdog=no,
        stored=Packed.of(Departure(point, direction, zero, zero)),
        stored_error=zero,
        counters=jnp.zeros(5, int),
        acceptable=Packed.of(iterate),
        has_acceptable=no,
        last_objective=zero + jnp.inf,
    )


def reset_line_search(
    g: Globalization, memory: Memory, soft: Bool[Array, ""], when: Bool[Array, ""]
) -> tuple[Globalization, Memory, Bool[Array, ""]]:
    """With nothing kept from earlier barrier problems: filter, watchdog, soft restoration."""
    kept = ~when
    g = eqx.tree_at(
        lambda q: (q.acceptance.filter, q.acceptance.rejections),
        g,
        (g.acceptance.filter.cleared(when), where(kept, g.acceptance.rejections, 0)),
    )
    return g, memory.forgotten(when), soft & kept
