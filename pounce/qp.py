"""Convex programs on the host: quadratic and conic solves in float64, whatever JAX is set to. NumPy in, NumPy out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ._cone_spec import parse
from ._qp.arguments import (
    NAMES,
    host_array,
    host_data,
    limits,
    open_fraction,
    warm_point,
)
from ._qp.batch import solve_many, solve_terms
from ._qp.factorization import QpFactorization
from ._qp.polish import polished
from ._qp.result import QpResult
from ._qp.sensitivity import ActiveSet, QpSensitivity, ReducedHessian
from ._qp.solve import asked_of, inequalities, solve_one


__all__ = [
    "ActiveSet",
    "QpFactorization",
    "QpResult",
    "QpSensitivity",
    "ReducedHessian",
    "solve_qp",
    "solve_qp_batch",
    "solve_qp_multi_rhs",
    "solve_socp",
]

METHODS = ("ipm", "active-set")


def solve_qp(
    P: Float[np.ndarray, "n n"] | Any = None,
    c: Float[np.ndarray, " n"] | Any = None,
    A: Float[np.ndarray, "p n"] | Any = None,
    b: Float[np.ndarray, " p"] | Any = None,
    G: Float[np.ndarray, "m n"] | Any = None,
    h: Float[np.ndarray, " m"] | Any = None,
    lb: Float[np.ndarray, " n"] | Any = None,
    ub: Float[np.ndarray, " n"] | Any = None,
    *,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: QpResult | Mapping[str, Any] | None = None,
    collect_iterates: bool = False,
    check_psd: bool | None = None,
    time_limit: float | None = None,
    method: str = "ipm",
    tau: float | None = None,
    tau_max: float | None = None,
) -> QpResult:
    """Solve ``min 1/2 x'Px + c'x  s.t.  Ax = b,  Gx <= h,  lb <= x <= ub``, a convex quadratic or linear program.

    The interior-point method on the homogeneous embedding: it ends with a solution or with a certificate that there is
    none. Matrices may be NumPy arrays, SciPy sparse matrices or JAX arrays. Under `jax.jit` and for derivatives, see
    `pounce.solve_conic`.

    **Arguments:**

    - `P`: positive semidefinite ``(n, n)``, symmetric, or zero above the diagonal and then mirrored; none for a linear program.
    - `c`: ``(n,)``, required.
    - `A`, `b`: equality rows, ``(p, n)`` and ``(p,)``. `G`, `h`: inequality rows, ``(m, n)`` and ``(m,)``.
    - `lb`, `ub`: bounds, ``(n,)`` or a scalar; magnitudes from 1e20 on mean none. Equal bounds fix a variable; crossed
      ones make the program infeasible.
    - `tol`: 1e-8 by default. `max_iter`: 200 by default.
    - `warm_start`: a result of a similar program, or a mapping with any of ``x, y, z, z_lb, z_ub``; what has another
      size is ignored. It changes the number of iterations only.
    - `collect_iterates`: keep a dictionary with `iter`, `objective`, `primal_infeasibility`, `dual_infeasibility`,
      `mu`, `alpha_primal` and `alpha_dual` for the start and each iteration.
    - `check_psd`: whether ``P`` is checked, to ``-1e-8 max(1, max |P|)``; by default up to 1500 variables.
    - `time_limit`: seconds, without the compilation that the first solve of a shape needs. Looked at between
      iterations.
    - `method`: ``"active-set"`` follows the interior-point method by one solve of the equations of the active set,
      which is kept if all residuals together are better for it: usually the last digits.
    - `tau`, `tau_max`: accepted and without effect; the step fraction of the homogeneous method is fixed.

    **Returns:** a `QpResult`, whose docstring has the sign conventions.

    **Raises:** `ValueError` naming the argument for bad input.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be 'ipm' or 'active-set', got {method!r}")
    if method == "active-set" and warm_start is not None:
        raise ValueError("`warm_start` cannot be used with method='active-set'")
    open_fraction(tau, "tau")
    open_fraction(tau_max, "tau_max")
    allowed = limits(tol, max_iter, time_limit)
    data = host_data(dict(P=P, c=c, A=A, b=b, G=G, h=h, lb=lb, ub=ub), check_psd)
    rows = inequalities(data)
    result = solve_one(data, rows, warm_point(warm_start, data), allowed, bool(collect_iterates))
    return polished(asked_of(data, rows, allowed), result) if method == "active-set" else result


def solve_socp(
    P: Float[np.ndarray, "n n"] | Any = None,
    c: Float[np.ndarray, " n"] | Any = None,
    A: Float[np.ndarray, "p n"] | Any = None,
    b: Float[np.ndarray, " p"] | Any = None,
    G: Float[np.ndarray, "m n"] | Any = None,
    h: Float[np.ndarray, " m"] | Any = None,
    *,
    cones: Sequence[Any],
    tol: float | None = None,
    max_iter: int | None = None,
    warm_start: QpResult | Mapping[str, Any] | None = None,
    collect_iterates: bool = False,
    check_psd: bool | None = None,
    time_limit: float | None = None,
) -> QpResult:
    """Solve ``min 1/2 x'Px + c'x  s.t.  Ax = b,  h - Gx in K``, where ``K`` is a product of cones.

    `cones` splits the rows of ``G`` in order and must cover them exactly; cones of all kinds mix. Kinds are
    case-insensitive:

    - ``("nonneg" | "nn" | "+", d)``: ``s >= 0``.
    - ``("soc" | "q" | "secondorder", d)`` or ``d`` alone: ``s0 >= |s1..|``.
    - ``("rsoc" | "qr", d)``: ``2 s0 s1 >= |s2..|^2``, ``s0, s1 >= 0``.
    - ``("exp" | "exponential" | "e", 3)``: the closure of ``y exp(x / y) <= z``, ``y > 0``, with ``s = (x, y, z)``.
    - ``("pow" | "power" | "p", a)`` with ``0 < a < 1``: ``|x| <= y^a z^(1-a)``, ``y, z >= 0``.
    - ``("psd" | "sdp" | "s", k)``: ``k (k + 1) / 2`` rows, the lower triangle of a positive semidefinite matrix column
      by column with the off-diagonal entries times the square root of 2.

    **Arguments:**

    - `cones`: as above.
    - `G`, `h`: the rows of the cones, ``(m, n)`` and ``(m,)``. Bounds are rows of ``G`` here.
    - `P`, `c`, `A`, `b`, `tol`, `max_iter`, `warm_start`, `collect_iterates`, `check_psd`, `time_limit`: as in `solve_qp`.

    **Returns:** a `QpResult`, with ``z`` in the dual cone.

    **Raises:** as `solve_qp`.
    """
    allowed = limits(tol, max_iter, time_limit)
    data = host_data(dict(P=P, c=c, A=A, b=b, G=G, h=h), check_psd)
    rows = parse(cones, 0 if data.h is None else data.h.shape[0])
    return solve_one(data, rows, warm_point(warm_start, data), allowed, bool(collect_iterates))


def solve_qp_batch(
    problems: Sequence[Mapping[str, Any]],
    *,
    tol: float | None = None,
    max_iter: int | None = None,
    warm_starts: Sequence[QpResult | Mapping[str, Any] | None] | None = None,
    time_limit: float | None = None,
    check_psd: bool | None = None,
) -> list[QpResult]:
    """Solve many quadratic programs: those of equal shapes together, as lanes of one compiled solve.

    **Arguments:**

    - `problems`: mappings with any of the keys ``P, c, A, b, G, h, lb, ub``, as `solve_qp` takes them.
    - `warm_starts`: one for each problem, or None.
    - `time_limit`: seconds for all of them together.
    - `tol`, `max_iter`, `check_psd`: as in `solve_qp`.

    **Returns:** the results in order. One problem without a solution affects no other. **Raises:** `ValueError` naming
    the problem and the argument.
    """
    allowed = limits(tol, max_iter, time_limit)
    if isinstance(problems, (Mapping, str)) or not hasattr(problems, "__iter__"):
        raise ValueError(f"`problems` must be a sequence of mappings, got {type(problems).__name__}")
    problems = list(problems)
    starts = [None] * len(problems) if warm_starts is None else list(warm_starts)
    if len(starts) != len(problems):
        raise ValueError(f"`warm_starts` has length {len(starts)}, but there are {len(problems)} problems")
    datas, warms = [], []
    for k, (problem, start) in enumerate(zip(problems, starts)):
        if not isinstance(problem, Mapping):
            raise ValueError(f"`problems[{k}]` must be a mapping, got {type(problem).__name__}")
        unknown = [key for key in problem if key not in NAMES]
        if unknown:
            raise ValueError(f"`problems[{k}]` has the unknown key {unknown[0]!r}; known are {', '.join(NAMES)}")
        try:
            datas.append(host_data(problem, check_psd))
        except ValueError as error:
            raise ValueError(f"problems[{k}]: {error}") from error
        warms.append(warm_point(start, datas[-1], f"warm_starts[{k}]"))
    return solve_many(datas, warms, allowed)


def solve_qp_multi_rhs(
    P: Float[np.ndarray, "n n"] | Any = None,
    c: Float[np.ndarray, " n"] | Any = None,
    A: Float[np.ndarray, "p n"] | Any = None,
    b: Float[np.ndarray, " p"] | Any = None,
    G: Float[np.ndarray, "m n"] | Any = None,
    h: Float[np.ndarray, " m"] | Any = None,
    lb: Float[np.ndarray, " n"] | Any = None,
    ub: Float[np.ndarray, " n"] | Any = None,
    *,
    cs: Float[np.ndarray, "k n"] | Any,
    tol: float | None = None,
    max_iter: int | None = None,
    time_limit: float | None = None,
    check_psd: bool | None = None,
) -> list[QpResult]:
    """Solve one quadratic program for many linear terms, as lanes of one compiled solve.

    **Arguments:**

    - `cs`: the linear terms, ``(k, n)``.
    - `c`: a placeholder: it may be left out, and its values are not used.
    - `P`, `A`, `b`, `G`, `h`, `lb`, `ub`, `tol`, `max_iter`, `check_psd`: as in `solve_qp`.
    - `time_limit`: seconds for all of them together.

    **Returns:** the results in order.

    **Raises:** `ValueError` if `cs` is empty or its rows are of the wrong length, and as `solve_qp`.
    """
    allowed = limits(tol, max_iter, time_limit)
    terms = host_array(cs, "cs")
    if terms.ndim != 2 or terms.size == 0:
        raise ValueError(f"`cs` must have shape (k, n) with at least one row, got shape {terms.shape}")
    given = dict(P=P, c=np.zeros(terms.shape[1]) if c is None else c, A=A, b=b, G=G, h=h, lb=lb, ub=ub)
    data = host_data(given, check_psd)
    n = data.c.shape[0]
    if terms.shape[1] != n:
        raise ValueError(f"`cs` must have rows of length {n}, got shape {terms.shape}")
    wrong = np.argwhere(~np.isfinite(terms))
    if wrong.size:
        row, column = map(int, wrong[0])
        raise ValueError(f"`cs[{row}, {column}]` is {terms[row, column]}: every entry must be finite")
    return solve_terms(data, terms, allowed)
