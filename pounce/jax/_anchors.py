"""`AnchorState`: solutions held with their factors, for products with their derivatives."""

import itertools
import weakref
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from .._anchor import Anchor
from .._solution import Solution
from ._batches import Batch


_identities = itertools.count()


class AnchorState:
    """Solutions of a batch and, held with them, the factors that products with their derivatives need.

    What is held are arrays, so there may be any number of states, and they go with the last reference to them. Made by
    `JaxProblem.anchor`; as a context manager it closes itself.
    """

    def __init__(self, owner: Any, batch: Batch, anchor: Anchor, basis: Float[np.ndarray, "k p"] | None):
        """**Arguments:** `owner`: the problem. `batch`, `anchor`: what was solved, and its solutions with their factors.
        `basis`: the directions ``(k, p)`` of the parameters that derivatives are taken for; None for all. `JaxProblem.anchor`
        knows them.
        """
        self.sid = next(_identities)
        self._owner = weakref.ref(owner)
        self.basis = basis  # the directions of the parameters that derivatives are taken for; None for all
        self._hold(batch, anchor)

    def _hold(self, batch: Batch, anchor: Anchor) -> None:
        self._held: tuple[Batch, Anchor] | None = (batch, anchor)

    @property
    def closed(self) -> bool:
        """Whether the factors have been let go."""
        return self._held is None

    def opened(self, owner: Any) -> tuple[Batch, Anchor]:
        """What is held.

        **Arguments:** `owner`: the problem that asks.

        **Raises:** `ValueError` if it belongs to another problem, `RuntimeError` if it is closed.
        """
        if self._owner() is not owner:
            raise ValueError("`state` belongs to a different JaxProblem")
        return self._open()

    def _open(self) -> tuple[Batch, Anchor]:
        if self._held is None:
            raise RuntimeError("`state` is closed")
        return self._held

    @property
    def x_star(self) -> Float[Array, "B n"]:
        """The solutions."""
        return self._open()[1].solution.x

    @property
    def duals(self) -> tuple[Float[Array, "B m"], Float[Array, "B n"], Float[Array, "B n"]]:
        """Their multipliers ``(lam, zL, zU)``."""
        return duals_of(self._open()[1].solution)

    @property
    def status(self) -> Int[Array, " B"]:
        """How the solves ended, as in `pounce.Status`."""
        return self._open()[1].solution.status

    def reanchor(self, p_batch: PyTree, x0: Any) -> "AnchorState":
        """Solve for other parameters and hold that instead.

        **Arguments:** `p_batch`, `x0`: as in `JaxProblem.anchor`.
        """
        owner = self._owner()
        if owner is None:
            raise RuntimeError("the JaxProblem of this state is gone")
        self._hold(*owner.anchored(p_batch, x0))
        return self

    def close(self) -> None:
        """Let the factors go. More than once does no harm."""
        self._held = None

    def __enter__(self) -> "AnchorState":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def duals_of(solution) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``(lam, zL, zU)``, without derivatives."""
    z = jax.lax.stop_gradient(solution.multipliers)
    return z.constraints, z.lower, z.upper


def info_of(solution: Solution) -> dict[str, Any]:
    """A solution of numbers under the keys of cyipopt's ``info``."""
    z = solution.multipliers
    return dict(
        status=int(solution.status), success=bool(solution.success), iter_count=int(solution.stats.iterations),
        x=solution.x, obj_val=float(solution.objective), g=solution.constraints, mult_g=z.constraints, mult_x_L=z.lower,
        mult_x_U=z.upper, mu=float(solution.mu),
    )  # fmt: skip
