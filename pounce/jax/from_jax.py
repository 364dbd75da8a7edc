"""`from_jax`: a `pounce.Problem` from JAX functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import _check as check
from ..problem import Problem


class _Functions:
    """JAX functions under cyipopt's callback names."""

    def __init__(self, f: Callable, g: Callable | None):
        self.objective = f
        self.constraints = g


def from_jax(
    f: Callable[[jax.Array], Any],
    g: Callable[[jax.Array], Any] | None = None,
    *,
    n: int,
    m: int = 0,
    lb: Any = None,
    ub: Any = None,
    cl: Any = None,
    cu: Any = None,
    x0: Any = None,
    seed: int = 0,
    sparse: bool = False,
    n_probes: int | None = None,
) -> Problem:
    """Build a `pounce.Problem` from ``f(x) -> scalar`` and ``g(x) -> (m,)``.

    **Arguments:**

    - `n`, `m`: numbers of variables and rows.
    - `lb`, `ub`, `cl`, `cu`: bounds; `cl` and `cu` are required with rows.
    - `x0`, `seed`, `n_probes`: accepted for compatibility; nothing is probed.
    - `sparse`: must be False: derivatives are dense.

    **Raises:** `ValueError` or `TypeError` naming the argument, before anything is compiled.
    """
    del x0, seed, n_probes
    check.functions(f, g, m)
    if sparse:
        raise NotImplementedError("`sparse=True` is not available yet: derivatives are dense")
    problem = Problem(n, m, _Functions(f, g), lb, ub, cl, cu)
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((n,), jnp.float64)
        check.output_shape(jax.eval_shape(f, x), "f", (), None)
        if m:
            assert g is not None
            check.output_shape(jax.eval_shape(g, x), "g", (m,), None)
    return problem
