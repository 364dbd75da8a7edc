"""What the JAX names of the Python API page take, as what the native door takes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from .. import _check as check
from ..nlp import NLP, InteriorPoint
from ..options import split_options


def problem_of(f: Callable, g: Callable | None, m: int, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern) -> NLP:
    """The program; raises what `pounce.NLP` does, and `ValueError` where ``m`` rows lack functions or bounds."""
    check.functions(f, g, m)
    if m > 0 and cl is None and cu is None:
        raise ValueError(f"`cl` and `cu` are both missing for m = {m} rows")
    rows = dict(cl=cl, cu=cu) if m else {}
    patterns = dict(sparse=sparse, jac_pattern=jac_pattern, hess_pattern=hess_pattern)
    return NLP(f, g if m else None, lb=lb, ub=ub, **rows, **patterns)


def solver_of(options: Mapping[str, Any] | None, extra: dict[str, Any] | None = None) -> InteriorPoint:
    """Options of the host loop (print_level and its kin) mean nothing inside a compiled solve."""
    chosen = split_options(options)
    kept = {name: value for name, value in chosen.given.items() if name not in chosen.driver}
    return InteriorPoint(**{**kept, **(extra or {})})


def start_point(x0: Any, n: int) -> jax.Array:
    """``x0`` of one solve."""
    start = check.start_point(x0)
    if start.shape[0] != n:
        raise ValueError(f"`x0` must have length n = {n}, got shape {start.shape}")
    return start


def warm_options(mu: Any = None) -> dict[str, Any]:
    """Options of a solve that begins at given multipliers and, if it is a finite number, barrier parameter."""
    options: dict[str, Any] = {"warm_start_init_point": "yes"}
    if mu is not None and math.isfinite(float(mu)):
        options.update(mu_init=float(mu), warm_start_target_mu=float(mu))
    return options


def seeds_of(warm_start: Any, name: str, lengths: tuple[int, ...] = (3,)) -> tuple:
    """A warm start as a tuple."""
    if not isinstance(warm_start, (tuple, list)) or len(warm_start) not in lengths:
        wanted = " or ".join({3: "(lam, zL, zU)", 4: "(lam, zL, zU, mu)"}[length] for length in lengths)
        raise ValueError(f"`{name}` must be {wanted}")
    return tuple(warm_start)


def workers_of(workers: Any) -> None:
    """Nothing comes of it, but it has to make sense."""
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"`workers` must be a positive integer or None, got {workers!r}")
