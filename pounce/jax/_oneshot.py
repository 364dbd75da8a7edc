"""One-shot solves under the names of the Python API page; thin wrappers of `pounce.solve`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxtyping import Array, Float, PyTree

from .._solution import Solution
from ..nlp import prepare, solve as solve_native
from ._anchors import duals_of
from ._arguments import problem_of, seeds_of, solver_of, start_point, warm_options, workers_of
from ._batches import batch_of, solve_lane
from ._failures import failure_of, minimiser


def solve(
    p: PyTree,
    *,
    f: Callable,
    g: Callable | None = None,
    x0: Any,
    n: int,
    m: int = 0,
    lb: Any = None,
    ub: Any = None,
    cl: Any = None,
    cu: Any = None,
    options: Mapping[str, Any] | None = None,
    on_failure: str | None = None,
    full: bool = False,
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> Float[Array, " n"] | Solution:
    """The minimiser ``x*(p)`` of ``f(x, p)`` subject to ``cl <= g(x, p) <= cu`` and ``lb <= x <= ub``.

    Differentiable with respect to ``p`` and the bounds, in every mode and order; composes with `vmap`. Repeated calls with the
    same ``f`` and ``g`` neither retrace nor recompile, whatever ``p``, ``x0``, the bounds, ``tol`` or ``mu_init``.

    **Arguments:**

    - `f`, `g`: objective ``f(x, p) -> scalar`` and rows ``g(x, p) -> (m,)``. `x0`: ``(n,)``, whose dtype is that of the solve.
    - `lb`, `ub`, `cl`, `cu`: bounds, arrays or scalars; ``cl`` or ``cu`` is needed with rows.
    - `options`: Ipopt options by name. `sparse` and the patterns as in `pounce.NLP`, `relaxation` as in `pounce.solve`.
    - `on_failure`: what becomes of a solve that failed. A call on numbers warns of it unless told otherwise: ``"raise"`` raises
      `RuntimeError`, ``"ignore"`` is silent. A traced call returns the last iterate, with a derivative of zero for that lane
      (``"nan"``: NaN), and says nothing unless told to: ``"raise"`` is an error of the running program, ``"warn"`` a warning when
      the solution is differentiated, from a host callback.
    - `full`: return the whole `pounce.Solution`, with status, success and quality per lane; nothing is then warned of.

    **Raises:** `TypeError` or `ValueError` naming the argument.
    """
    problem = problem_of(f, g, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    solution = solve_native(
        problem, solver_of(options), start_point(x0, n), p, on_failure=failure_of(on_failure), relaxation=relaxation
    )
    return minimiser(solution, on_failure, full)


def solve_with_warm(
    p: PyTree,
    *,
    f: Callable,
    g: Callable | None = None,
    x0: Any,
    n: int,
    m: int = 0,
    lb: Any = None,
    ub: Any = None,
    cl: Any = None,
    cu: Any = None,
    options: Mapping[str, Any] | None = None,
    warm_start: tuple | None = None,
    on_failure: str | None = None,
    full: bool = False,
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> tuple[Float[Array, " n"] | Solution, tuple]:
    """`solve`, returning ``(x, (lam, zL, zU))``, and taking such a triple from a neighbouring solve as `warm_start`.

    A 4-tuple ``(lam, zL, zU, mu)`` also hands over the barrier parameter (``None`` for the default) and is answered by one.
    """
    problem = problem_of(f, g, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    extra: dict[str, Any] = {}
    seeds = None
    with_mu = False
    if warm_start is not None:
        given = seeds_of(warm_start, "warm_start", (3, 4))
        seeds, with_mu = given[:3], len(given) == 4
        extra = warm_options(given[3] if with_mu else None)
    solution = solve_native(
        problem,
        solver_of(options, extra),
        start_point(x0, n),
        p,
        warm_start=seeds,
        on_failure=failure_of(on_failure),
        relaxation=relaxation,
    )
    warm = duals_of(solution)
    return minimiser(solution, on_failure, full), (*warm, solution.mu) if with_mu else warm


def vmap_solve(
    p_batch: PyTree,
    *,
    f: Callable,
    g: Callable | None = None,
    x0: Any,
    n: int,
    m: int = 0,
    lb: Any = None,
    ub: Any = None,
    cl: Any = None,
    cu: Any = None,
    options: Mapping[str, Any] | None = None,
    on_failure: str | None = None,
    full: bool = False,
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> Float[Array, "B n"] | Solution:
    """One solve per leading entry of ``p_batch``, all of them in one batched kernel; ``x0`` is ``(n,)`` or ``(B, n)``."""
    problem = problem_of(f, g, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    solver, failure = solver_of(options), failure_of(on_failure)
    lane = functools.partial(prepare, problem, solver, relaxation=relaxation, on_failure=failure)
    return minimiser(batch_of(p_batch, lane, x0, n).over_lanes(solve_lane), on_failure, full)


def vmap_solve_parallel(
    p_batch: PyTree, *, workers: int | None = None, **arguments: Any
) -> Float[Array, "B n"] | Solution:
    """`vmap_solve`; ``workers`` is accepted and, on one device, changes nothing: the kernel is batched, not threaded."""
    workers_of(workers)
    return vmap_solve(p_batch, **arguments)
