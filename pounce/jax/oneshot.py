"""One-shot solves under the names of the Python API page; thin wrappers of `pounce.solve`."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .. import _check as check
from .._adjoint.rule import OnFailure
from .._compile import compiler_options
from .._solution import Solution
from ..nlp import NLP, Data, InteriorPoint, Program, parameter_arrays, prepare, solve as solve_native
from ..options import split_options


ON_FAILURE: dict[str, OnFailure] = {"ignore": "zero", "zero": "zero", "nan": "nan", "warn": "warn", "raise": "raise"}


def _problem(f, g, n, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern) -> NLP:
    check.functions(f, g, m)
    if m > 0 and cl is None and cu is None:
        raise ValueError(f"`cl` and `cu` are both missing for m = {m} rows")
    rows = dict(cl=cl, cu=cu) if m else {}
    patterns = dict(sparse=sparse, jac_pattern=jac_pattern, hess_pattern=hess_pattern)
    return NLP(f, g if m else None, lb=lb, ub=ub, **rows, **patterns)


def _solver(options: Mapping[str, Any] | None, extra: dict[str, Any] | None = None) -> InteriorPoint:
    """Options of the host loop (print_level and its kin) mean nothing inside a compiled solve."""
    chosen = split_options(options)
    kept = {name: value for name, value in chosen.given.items() if name not in chosen.driver}
    return InteriorPoint(**{**kept, **(extra or {})})


def _failure(on_failure: str) -> OnFailure:
    if on_failure not in ON_FAILURE:
        raise ValueError(f"`on_failure` must be one of {sorted(ON_FAILURE)}, got {on_failure!r}")
    return ON_FAILURE[on_failure]


def _start(x0: Any, n: int) -> Array:
    start = check.start_point(x0)
    if start.shape[0] != n:
        raise ValueError(f"`x0` must have length n = {n}, got shape {start.shape}")
    return start


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
    on_failure: str = "zero",
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> Float[Array, " n"]:
    """The minimiser ``x*(p)`` of ``f(x, p)`` subject to ``cl <= g(x, p) <= cu`` and ``lb <= x <= ub``.

    Differentiable with respect to ``p`` and the bounds, in every mode and order; composes with `vmap`. Repeated calls with the
    same ``f`` and ``g`` neither retrace nor recompile, whatever ``p``, ``x0``, the bounds, ``tol`` or ``mu_init``.

    **Arguments:** `options` are Ipopt options by name; `on_failure` as in `pounce.solve` (`"ignore"` means `"zero"`);
    `sparse` and the patterns as in `pounce.NLP`.

    **Raises:** `TypeError` or `ValueError` naming the argument.
    """
    problem = _problem(f, g, n, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    return solve_native(
        problem, _solver(options), _start(x0, n), p, on_failure=_failure(on_failure), relaxation=relaxation
    ).x


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
    on_failure: str = "zero",
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> tuple[Float[Array, " n"], tuple]:
    """`solve`, returning ``(x, (lam, zL, zU))``, and taking such a triple from a neighbouring solve as `warm_start`.

    A 4-tuple ``(lam, zL, zU, mu)`` also hands over the barrier parameter (``None`` for the default) and is answered by one.
    """
    problem = _problem(f, g, n, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    extra: dict[str, Any] = {}
    seeds = None
    with_mu = False
    if warm_start is not None:
        if not isinstance(warm_start, (tuple, list)) or len(warm_start) not in (3, 4):
            raise ValueError("`warm_start` must be (lam, zL, zU) or (lam, zL, zU, mu)")
        seeds, with_mu = tuple(warm_start[:3]), len(warm_start) == 4
        extra["warm_start_init_point"] = "yes"
        mu = warm_start[3] if with_mu else None
        if mu is not None and math.isfinite(float(mu)):
            extra.update(mu_init=float(mu), warm_start_target_mu=float(mu))
    solution = solve_native(
        problem,
        _solver(options, extra),
        _start(x0, n),
        p,
        warm_start=seeds,
        on_failure=_failure(on_failure),
        relaxation=relaxation,
    )
    z = jax.lax.stop_gradient(solution.multipliers)
    warm = (z.constraints, z.lower, z.upper)
    return solution.x, (*warm, solution.mu) if with_mu else warm


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
    on_failure: str = "zero",
    relaxation: float = 0.0,
    sparse: bool | Literal["auto"] = False,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
) -> Float[Array, "B n"]:
    """One solve per leading entry of ``p_batch``, all of them in one batched kernel; ``x0`` is ``(n,)`` or ``(B, n)``."""
    problem = _problem(f, g, n, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
    return _batched(p_batch, problem, x0, n, options, on_failure, relaxation).x


def vmap_solve_parallel(p_batch: PyTree, *, workers: int | None = None, **arguments: Any) -> Float[Array, "B n"]:
    """`vmap_solve`; ``workers`` is accepted and, on one device, changes nothing: the kernel is batched, not threaded."""
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"`workers` must be a positive integer or None, got {workers!r}")
    return vmap_solve(p_batch, **arguments)


def _batched(p_batch, problem: NLP, x0, n, options, on_failure, relaxation) -> Solution:
    parameters = parameter_arrays(p_batch)
    leaves = jax.tree.leaves(parameters)
    sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"`p_batch` needs one leading batch dimension shared by all leaves, got shapes {[jnp.shape(leaf) for leaf in leaves]}"
        )
    (size,) = sizes.pop()
    start = jnp.asarray(x0)
    batched_start = start.ndim == 2
    if batched_start and start.shape != (size, n):
        raise ValueError(f"`x0` must have shape ({n},) or ({size}, {n}), got {start.shape}")
    first = _start(start[0] if batched_start else start, n)
    lane = jax.tree.map(lambda leaf: leaf[0], parameters)
    program, data = prepare(
        problem, _solver(options), first, lane, relaxation=relaxation, on_failure=_failure(on_failure)
    )
    whole = eqx.tree_at(lambda d: d.parameters, data, parameters, is_leaf=lambda leaf: leaf is None)
    if batched_start:
        whole = eqx.tree_at(lambda d: d.start.x0, whole, start.astype(first.dtype))
    return _compiled(program, batched_start, check.is_concrete(whole))(whole)


@functools.lru_cache(maxsize=512)
def _compiled(program: Program, batched_start: bool, top_level: bool):
    def run(data: Data) -> Solution:
        def lane(parameters, x0):
            one = eqx.tree_at(lambda d: (d.parameters, d.start.x0), data, (parameters, x0))
            return program(one)

        return jax.vmap(lane, in_axes=(0, 0 if batched_start else None))(data.parameters, data.start.x0)

    return jax.jit(run, compiler_options=compiler_options() if top_level else None)
