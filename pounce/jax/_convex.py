"""Differentiable convex layers under the names of the Python API page; thin wrappers of `pounce.solve_conic`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._conic.solution import ConicSolution
from ..conic import solution_of
from ._failures import convex_minimiser, failure_of


def _warm(warm_start: Any) -> Any:
    """A former solution, or its ``x`` alone."""
    if warm_start is None or hasattr(warm_start, "x") or hasattr(warm_start, "get"):
        return warm_start
    return {"x": warm_start}


def solve_qp(
    *,
    P: Float[Array, "n n"] | Any,
    c: Float[Array, " n"] | Any,
    G: Float[Array, "m n"] | Any = None,
    h: Float[Array, " m"] | Any = None,
    A: Float[Array, "p n"] | Any = None,
    b: Float[Array, " p"] | Any = None,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: Any = None,
    on_failure: str | None = None,
    full: bool = False,
) -> Float[Array, " n"] | ConicSolution:
    """The minimiser of ``1/2 x'Px + c'x  s.t.  Gx <= h,  Ax = b,  lb <= x <= ub``.

    Differentiable with respect to every array, in every mode and order (the gradient of ``P`` is symmetric); composes with
    `jit` and `vmap`. `pounce.solve_conic` returns the multipliers and the status as well.

    **Arguments:**

    - `P`: positive semidefinite ``(n, n)``, as in `pounce.solve_conic`; None for a linear program.
    - `c`: ``(n,)``.
    - `G`, `h`: inequality rows, ``(m, n)`` and ``(m,)``; none by default.
    - `A`, `b`: equality rows, ``(p, n)`` and ``(p,)``; none by default.
    - `lb`, `ub`: bounds, ``(n,)`` or a scalar; none by default.
    - `tol`: 1e-8 by default (1e-4 in float32). `max_iter`: 200 by default.
    - `warm_start`: a former minimiser, or an object or mapping with ``x`` and any multipliers.
    - `on_failure`: what becomes of a program without a solution. A call on numbers raises `RuntimeError` unless told otherwise:
      ``"warn"`` warns, ``"ignore"`` is silent, and both return the last iterate. A traced call returns NaN with a derivative of
      zero (``"nan"``: NaN), and the last iterate where that is to be ignored; ``"raise"`` is an error of the running program.
    - `full`: return the whole `pounce.ConicSolution`, with status, success and quality per lane; nothing is then raised.

    **Returns:** ``x`` of shape ``(n,)``, or a `pounce.ConicSolution`.

    **Raises:** `RuntimeError` as above. `ValueError` naming the argument for bad input.
    """
    how: dict[str, Any] = dict(tol=tol, max_iter=max_iter, on_failure=failure_of(on_failure), quality=full)
    solution = solution_of(P, c, A, b, G, h, lb, ub, warm_start=_warm(warm_start), **how)
    return convex_minimiser(solution, on_failure, full)


def solve_socp(
    *,
    P: Float[Array, "n n"] | Any,
    c: Float[Array, " n"] | Any,
    G: Float[Array, "m n"] | Any,
    h: Float[Array, " m"] | Any,
    A: Float[Array, "p n"] | Any = None,
    b: Float[Array, " p"] | Any = None,
    cones: Any,
    tol: float | None = None,
    max_iter: int | None = None,
    on_failure: str | None = None,
    full: bool = False,
) -> Float[Array, " n"] | ConicSolution:
    """The minimiser of ``1/2 x'Px + c'x  s.t.  h - Gx in K,  Ax = b``, for all cones of `pounce.solve_socp`.

    **Arguments:**

    - `cones`: the cones that ``h - Gx`` is split by, in row order, as in `pounce.solve_socp`.
    - `P`, `c`, `G`, `h`, `A`, `b`, `tol`, `max_iter`, `on_failure`, `full`: as in
      `solve_qp`; the rows of ``G`` are those of the cones.

    **Returns:** ``x`` of shape ``(n,)``, or a `pounce.ConicSolution`.

    **Raises:** as `solve_qp`.
    """
    how: dict[str, Any] = dict(tol=tol, max_iter=max_iter, on_failure=failure_of(on_failure), quality=full)
    return convex_minimiser(solution_of(P, c, A, b, G, h, cones=cones, **how), on_failure, full)


def solve_qp_batch(
    *,
    P: Float[Array, "n n"] | Any,
    c: Float[Array, "B n"] | Any,
    G: Float[Array, "m n"] | Any = None,
    h: Float[Array, "*B m"] | Any = None,
    A: Float[Array, "p n"] | Any = None,
    b: Float[Array, "*B p"] | Any = None,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: Any = None,
    on_failure: str | None = None,
    full: bool = False,
) -> Float[Array, "B n"] | ConicSolution:
    """`solve_qp` for a batch of linear terms in one batched kernel.

    **Arguments:**

    - `c`: linear terms, ``(B, n)``.
    - `h`, `b`: right-hand sides, shared (``(m,)``, ``(p,)``) or one for each lane (``(B, m)``, ``(B, p)``).
    - `P`, `G`, `A`, `lb`, `ub`: as in `solve_qp`, shared by the lanes. Gradients of what is shared are sums over the batch.
    - `warm_start`: a former result of this function, ``(B, n)``, or an object or mapping with batched ``x`` and multipliers.
    - `tol`, `max_iter`, `on_failure`, `full`: as in `solve_qp`.

    **Returns:** the minimisers ``(B, n)``, or a `pounce.ConicSolution` of ``B`` lanes.

    **Raises:** `ValueError` naming the argument if ``c`` is not two-dimensional or another batch size is met; `RuntimeError` as
    `solve_qp`.
    """
    c, derivatives = jnp.asarray(c), failure_of(on_failure)
    if c.ndim != 2:
        raise ValueError(f"`c` must have shape (batch, n), got shape {c.shape}")
    size = c.shape[0]
    batched = {"c": c}
    shared: dict[str, Any] = {"P": P, "G": G, "A": A, "lb": lb, "ub": ub}
    for name, value in (("h", h), ("b", b)):
        if value is not None and np.ndim(value) == 2:
            batched[name] = jnp.asarray(value)
        else:
            shared[name] = value
    if warm_start is not None:
        warm = _warm(warm_start)
        names = ("x", "y", "z", "z_lb", "z_ub")
        parts = {k: warm.get(k) if hasattr(warm, "get") else getattr(warm, k, None) for k in names}
        batched["warm_start"] = {k: jnp.asarray(v) for k, v in parts.items() if v is not None}
    for leaf in jax.tree.leaves(batched):
        if leaf.shape[0] != size:
            raise ValueError(f"every batched argument needs the batch size {size} of `c`, got shape {leaf.shape}")

    def lane(arguments: dict[str, Any]) -> ConicSolution:
        given: dict[str, Any] = dict.fromkeys(("c", "b", "h")) | shared | arguments
        return solution_of(**given, tol=tol, max_iter=max_iter, on_failure=derivatives, quality=full)

    return convex_minimiser(jax.vmap(lane)(batched), on_failure, full)


class QpLayer(eqx.Module):
    """A convex quadratic program as a layer: matrices and bounds are held, ``c``, ``b`` and ``h`` come with the call.

    An equinox module: its arrays are leaves, so they can be trained. For many linear terms see `batch`; `jax.vmap` of a layer
    batches whatever else differs.
    """

    P: Float[Array, "n n"] | Any
    G: Float[Array, "m n"] | Any
    A: Float[Array, "p n"] | Any
    lb: Float[Array, " n"] | Any
    ub: Float[Array, " n"] | Any
    tol: float | None = eqx.field(static=True)
    max_iter: int | None = eqx.field(static=True)
    on_failure: str | None = eqx.field(static=True)

    def __init__(
        self,
        P: Float[Array, "n n"] | Any,
        G: Float[Array, "m n"] | Any = None,
        A: Float[Array, "p n"] | Any = None,
        lb: Float[Array, " n"] | Any = None,
        ub: Float[Array, " n"] | Any = None,
        *,
        tol: float | None = None,
        max_iter: int | None = None,
        on_failure: str | None = None,
    ):
        """**Arguments:**

        - `P`: positive semidefinite ``(n, n)``, as in `pounce.solve_conic`; None for a linear program.
        - `G`: matrix of the inequality rows, ``(m, n)``; their right-hand side ``h`` comes with the call.
        - `A`: matrix of the equality rows, ``(p, n)``; their right-hand side ``b`` comes with the call.
        - `lb`, `ub`: bounds, ``(n,)`` or a scalar; none by default.
        - `tol`, `max_iter`, `on_failure`: as in `solve_qp`.
        """
        self.P, self.G, self.A, self.lb, self.ub = P, G, A, lb, ub
        self.tol, self.max_iter, self.on_failure = tol, max_iter, on_failure

    def _held(self) -> dict[str, Any]:
        limits = dict(tol=self.tol, max_iter=self.max_iter, on_failure=self.on_failure)
        return {"P": self.P, "G": self.G, "A": self.A, "lb": self.lb, "ub": self.ub} | limits

    def __call__(
        self,
        c: Float[Array, " n"] | Any,
        *,
        b: Float[Array, " p"] | Any = None,
        h: Float[Array, " m"] | Any = None,
        warm_start: Any = None,
        full: bool = False,
    ) -> Float[Array, " n"] | ConicSolution:
        """The minimiser for one linear term.

        **Arguments:**

        - `c`: linear term, ``(n,)``.
        - `b`, `h`: right-hand sides of the equality rows, ``(p,)``, and of the inequality rows, ``(m,)``.
        - `warm_start`, `full`: as in `solve_qp`.

        **Returns:** ``x`` of shape ``(n,)``, or a `pounce.ConicSolution`.
        """
        return solve_qp(c=c, b=b, h=h, warm_start=warm_start, full=full, **self._held())

    def batch(
        self,
        cs: Float[Array, "B n"] | Any,
        *,
        b: Float[Array, "*B p"] | Any = None,
        h: Float[Array, "*B m"] | Any = None,
        warm_start: Any = None,
        full: bool = False,
    ) -> Float[Array, "B n"] | ConicSolution:
        """The minimisers for many linear terms, by one batched kernel.

        **Arguments:**

        - `cs`: linear terms, ``(B, n)``.
        - `b`, `h`: right-hand sides, shared or with a leading axis of lanes.
        - `warm_start`, `full`: as in `solve_qp_batch`.

        **Returns:** ``(B, n)``, or a `pounce.ConicSolution` of ``B`` lanes.
        """
        return solve_qp_batch(c=cs, b=b, h=h, warm_start=warm_start, full=full, **self._held())
