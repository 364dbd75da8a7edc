"""One-shot solves under the names of the Python API page; thin wrappers of `pounce.solve`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxtyping import Array, Float, PyTree

from .._solution import Solution
from ..nlp import prepare, solve as solve_native
from ._anchors import duals_of
from ._arguments import problem_of, seeds_of, solver_of, start_point, warm_options, workers_of
from ._batches import batch_of
from ._failures import failure_of, minimiser


def solve(
    p: PyTree,
    *,
    f: Callable,
    g: Callable | None = None,
    x0: Float[Array, " n"] | Any,
    n: int,
    m: int = 0,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    cl: Float[Array, " m"] | Any = None,
    cu: Float[Array, " m"] | Any = None,
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
    same ``f`` and ``g`` neither retrace nor recompile, whatever ``p``, ``x0``, the bounds, ``tol`` or ``mu_init``. Outside
    of `jit`, derivatives add small programs to that of the solve, and a `vmap` is the program of `vmap_solve`. Each distinct
    `jit` around it is compiled once, with the solver inside.

    **Arguments:**

    - `p`: parameters that ``f`` and ``g`` are given, any pytree of arrays.
    - `f`, `g`: objective ``f(x, p) -> scalar`` and rows ``g(x, p) -> (m,)``, JAX functions; without ``g`` there are no rows.
    - `x0`: starting point, ``(n,)``, whose dtype is that of the solve. Derivatives with respect to it are zero.
    - `n`, `m`: numbers of variables and rows.
    - `lb`, `ub`: bounds of the variables, ``(n,)`` or a scalar; none by default. Magnitudes from 1e19 on mean no bound.
    - `cl`, `cu`: bounds of the rows, ``(m,)`` or a scalar; at least one is needed with rows. Equal ones make an equality.
    - `options`: Ipopt options by name, as `pounce.InteriorPoint` takes them.
    - `on_failure`: what becomes of a solve that failed. A call on numbers warns of it unless told otherwise: ``"raise"`` raises
      `RuntimeError`, ``"ignore"`` is silent. A traced call returns the last iterate, with a derivative of zero for that lane
      (``"nan"``: NaN), and says nothing unless told to: ``"raise"`` is an error of the running program, ``"warn"`` a warning when
      the solution is differentiated, from a host callback.
    - `full`: return the whole `pounce.Solution`, with status, success and quality per lane; nothing is then warned of.
    - `relaxation`: 0 differentiates the active set; a positive value the central path at that barrier parameter, which is
      smooth where the active set changes.
    - `sparse`: whether derivatives and linear algebra are those of sparse matrices; ``"auto"`` decides by what is found.
    - `jac_pattern`, `hess_pattern`: where their entries are, if you know better: ``(rows, columns)`` or a SciPy sparse matrix for
      the Jacobian of ``g`` and for the Hessian of the Lagrangian.

    **Returns:** ``x`` of shape ``(n,)``, or a `pounce.Solution`.

    **Raises:** `TypeError` or `ValueError` naming the argument; `RuntimeError` as `on_failure` says.
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
    x0: Float[Array, " n"] | Any,
    n: int,
    m: int = 0,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    cl: Float[Array, " m"] | Any = None,
    cu: Float[Array, " m"] | Any = None,
    options: Mapping[str, Any] | None = None,
    warm_start: tuple | None = None,
    on_failure: str | None = None,
    full: bool = False,
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> tuple[Float[Array, " n"] | Solution, tuple]:
    """`solve`, returning ``(x, (lam, zL, zU))``, and taking such a triple from a neighbouring solve.

    **Arguments:**

    - `p`, `f`, `g`, `x0`, `n`, `m`, `lb`, `ub`, `cl`, `cu`, `options`, `on_failure`, `full`, `relaxation`, `sparse`,
      `jac_pattern`, `hess_pattern`: as in `solve`.
    - `warm_start`: multipliers ``(lam (m,), zL (n,), zU (n,))`` to start from, as a former call returned them; None for a cold
      start. A 4-tuple ``(lam, zL, zU, mu)`` also hands over the barrier parameter (``None`` for the default) and
      is answered by one.

    **Returns:** the minimiser (the `pounce.Solution` where `full`), and its multipliers: ``lam`` is positive where ``cu`` holds a
    row back, ``zL, zU >= 0`` belong to the bounds.

    **Raises:** as `solve`.
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
    x0: Float[Array, "*B n"] | Any,
    n: int,
    m: int = 0,
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    cl: Float[Array, " m"] | Any = None,
    cu: Float[Array, " m"] | Any = None,
    options: Mapping[str, Any] | None = None,
    on_failure: str | None = None,
    full: bool = False,
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> Float[Array, "B n"] | Solution:
    """One solve per leading entry of ``p_batch``, all of them in one batched kernel.

    **Arguments:**

    - `p_batch`: parameters, a pytree whose leaves have a leading axis of ``B`` lanes.
    - `x0`: starting points, ``(n,)`` for all lanes or ``(B, n)``.
    - `f`, `g`, `n`, `m`, `lb`, `ub`, `cl`, `cu`, `options`, `on_failure`, `full`, `relaxation`, `sparse`, `jac_pattern`,
      `hess_pattern`: as in `solve`; bounds are shared by the lanes.

    **Returns:** the minimisers ``(B, n)``, or a `pounce.Solution` of ``B`` lanes. A lane that fails touches no other.

    **Raises:** as `solve`.
    """
    problem = problem_of(f, g, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    solver, failure = solver_of(options), failure_of(on_failure)
    lane = functools.partial(prepare, problem, solver, relaxation=relaxation, on_failure=failure)
    return minimiser(batch_of(p_batch, lane, x0, n).solved(), on_failure, full)


def vmap_solve_parallel(
    p_batch: PyTree, *, workers: int | None = None, **arguments: Any
) -> Float[Array, "B n"] | Solution:
    """`vmap_solve` under another name: the kernel is batched, not threaded.

    **Arguments:**

    - `p_batch`: as in `vmap_solve`.
    - `workers`: accepted and, on one device, without effect.
    - `arguments`: those of `vmap_solve`.

    **Returns:** what `vmap_solve` returns.
    """
    workers_of(workers)
    return vmap_solve(p_batch, **arguments)
