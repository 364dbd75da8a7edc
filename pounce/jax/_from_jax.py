"""`from_jax`: a `pounce.Problem` from JAX functions."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _check as check
from .._problem.sparse_nlp import as_pattern
from ..problem import Problem, Sparsity


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
    lb: Float[Array, " n"] | Any = None,
    ub: Float[Array, " n"] | Any = None,
    cl: Float[Array, " m"] | Any = None,
    cu: Float[Array, " m"] | Any = None,
    x0: Any = None,
    seed: int = 0,
    sparse: bool | Literal["auto"] = "auto",
    n_probes: int | None = None,
    jac_pattern: Any = None,
    hess_pattern: Any = None,
    pattern_detection: str = "jaxpr",
) -> Problem:
    """Build a `pounce.Problem` from ``f(x) -> scalar`` and ``g(x) -> (m,)``.

    **Arguments:**

    - `f`, `g`: objective and rows, JAX functions of ``x (n,)`` alone; without ``g`` there are no rows.
    - `n`, `m`: numbers of variables and rows.
    - `lb`, `ub`: bounds of the variables, ``(n,)``; none by default.
    - `cl`, `cu`: bounds of the rows, ``(m,)``; both are required with rows.
    - `x0`, `seed`, `n_probes`, `pattern_detection`: no longer needed: where derivatives have entries is read from the
      functions, not probed.
    - `sparse`: whether derivatives, and the linear algebra of a solve, are those of sparse matrices; ``"auto"`` decides by what
      they look like. Structure and solution are the same either way.
    - `jac_pattern`, `hess_pattern`: where entries may be, if you know better: ``(rows, columns)`` or a SciPy sparse matrix for
      the Jacobian of ``g`` and for the Hessian of the Lagrangian (a triangle is enough).

    **Returns:** a `pounce.Problem`, whose ``solve(x0)`` returns ``(x, info)``.

    **Raises:** `ValueError` or `TypeError` naming the argument, before anything is compiled.
    """
    del x0, seed, n_probes, pattern_detection
    check.functions(f, g, m)
    if sparse not in (False, True, "auto"):
        raise ValueError(f"`sparse` must be True, False or 'auto', got {sparse!r}")
    problem = Problem(n, m, _Functions(f, g), lb, ub, cl, cu)
    given = ((jac_pattern, (m, n), "jac_pattern"), (hess_pattern, (n, n), "hess_pattern"))
    jacobian, hessian = (None if value is None else as_pattern(value, shape, name) for value, shape, name in given)
    problem._names = "f", "g"
    problem._sparsity = Sparsity(None if sparse == "auto" else sparse, (jacobian, hessian))
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((n,), jnp.float64)
        check.output_shape(jax.eval_shape(f, x), "f", (), None)
        if m:
            assert g is not None
            check.output_shape(jax.eval_shape(g, x), "g", (m,), None)
    return problem
