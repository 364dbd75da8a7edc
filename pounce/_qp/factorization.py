"""Quadratic programs of one structure, solved again and again with other numbers."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float

from .._conic.data import NO_BOUND
from .._linalg.sparse import Pattern
from .arguments import check_convex, host_data, limits, warm_point
from .data import Program
from .drive import Task
from .result import QpResult, no_result
from .size_class import Fit
from .solve import inequalities, solve_one


class QpFactorization:
    """A solver for quadratic programs of one structure: it compiles when it is made, and never again.

    What is kept from one solve to the next is the compiled program and the structure. The numbers are new in each
    solve, and so are the factorisations that an interior-point method makes of them.
    """

    def __init__(
        self,
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
        check_psd: bool | None = None,
    ):
        """**Arguments:**

        - `P`, `c`, `A`, `b`, `G`, `h`, `lb`, `ub`, `tol`, `max_iter`, `check_psd`: as in `pounce.solve_qp`, of a program that has
          the structure of those to come. Nothing is solved yet.
        """
        self._limits = limits(tol, max_iter)
        given = dict(P=P, c=c, A=A, b=b, G=G, h=h, lb=lb, ub=ub)
        data = host_data(given, check_psd)
        self._check_psd = check_psd
        self._checked = data.P  # the P that is known to be fine
        self._key, self._structure = _key(given, data), _structure(given, data)
        fit = Fit(data, inequalities(data))
        Task(fit.program, fit.inputs(data, None), fit.tables).prepare(self._limits)

    def solve(
        self,
        P: Float[np.ndarray, "n n"] | Any = None,
        c: Float[np.ndarray, " n"] | Any = None,
        A: Float[np.ndarray, "p n"] | Any = None,
        b: Float[np.ndarray, " p"] | Any = None,
        G: Float[np.ndarray, "m n"] | Any = None,
        h: Float[np.ndarray, " m"] | Any = None,
        lb: Float[np.ndarray, " n"] | Any = None,
        ub: Float[np.ndarray, " n"] | Any = None,
        *,
        warm_start: Any = None,
    ) -> QpResult:
        """Solve a program of the same structure: all of its data, not only what has changed.

        Same structure means equal shapes, nonzeros of ``P`` (lower triangle), ``A`` and ``G`` in equal places (stored
        entries of sparse matrices count as nonzero), and the same finite bounds. Otherwise the status is
        ``"numerical_failure"``, the arrays are NaN, and a warning names the arguments that differ.

        **Arguments:** `P`, `c`, `A`, `b`, `G`, `h`, `lb`, `ub`: as in `pounce.solve_qp`. `warm_start`: likewise; the first one
        compiles again.

        **Raises:** `ValueError` for bad numbers, as `pounce.solve_qp` does; a ``P`` that has changed is checked anew.
        """
        given = dict(P=P, c=c, A=A, b=b, G=G, h=h, lb=lb, ub=ub)
        data = host_data(given, check_psd=False)
        if _key(given, data) != self._key:
            before, now = self._structure, _structure(given, data)
            what = [_difference(name, before[name], now[name]) for name in now if before[name] != now[name]]
            warnings.warn(
                f"nothing was solved, as the structure is not that of this QpFactorization: {'; '.join(what)}",
                UserWarning,
                stacklevel=2,
            )
            return no_result(data)
        if data.P is not None and self._check_psd is not False and not _equal(data.P, self._checked):
            check_convex(data.P, self._check_psd)
            self._checked = data.P
        return solve_one(data, inequalities(data), warm_point(warm_start, data), self._limits)


def _equal(first: Any, second: Any) -> bool:
    if scipy.sparse.issparse(first):
        return (
            scipy.sparse.issparse(second)
            and Pattern.of(first) == Pattern.of(second)
            and np.array_equal(first.data, second.data)
        )
    return np.array_equal(first, second)


def _key(given: dict[str, Any], data: Program) -> tuple:
    """What programs must have in common, to be compared fast."""
    patterns = []
    for name, values in (("P", data.P), ("A", data.A), ("G", data.G)):
        if values is None:
            patterns.append(None)
            continue
        if scipy.sparse.issparse(values):
            pattern = Pattern.of(values)
            patterns.append(pattern.lower if name == "P" else pattern)
            continue
        nonzero = values != 0
        if scipy.sparse.issparse(given[name]):
            stored = given[name].tocoo()
            nonzero[stored.row, stored.col] = True
        if name == "P":
            nonzero = np.tril(nonzero)
        patterns.append((values.shape, np.packbits(nonzero).tobytes()))
    bounds = [
        None if bound is None else (sign * bound < NO_BOUND).tobytes()
        for sign, bound in ((-1.0, data.lb), (1.0, data.ub))
    ]
    return data.c.shape, tuple(patterns), tuple(bounds)


def _structure(given: dict[str, Any], data: Program) -> dict[str, Any]:
    """The same by argument, to be spoken of: a length, the pattern of a matrix, which bounds are finite."""
    found: dict[str, Any] = {"c": data.c.shape[0]}
    for name, values in (("P", data.P), ("A", data.A), ("G", data.G)):
        if values is None:
            found[name] = None
            continue
        if scipy.sparse.issparse(values):
            pattern = Pattern.of(values)
        else:
            nonzero = values != 0
            if scipy.sparse.issparse(given[name]):
                stored = given[name].tocoo()
                nonzero[stored.row, stored.col] = True
            pattern = Pattern.of(nonzero)
        found[name] = pattern.lower if name == "P" else pattern
    for name, bound, sign in (("lb", data.lb, -1.0), ("ub", data.ub, 1.0)):
        found[name] = None if bound is None else Finite(tuple(np.flatnonzero(sign * bound < NO_BOUND).tolist()))
    return found


class Finite(NamedTuple):
    """Which entries of a vector of bounds are."""

    entries: tuple[int, ...]


def _difference(name: str, first: Any, now: Any) -> str:
    """How one argument differs from what it was."""
    if isinstance(now, int):
        return f"`{name}` has length {now}, not {first}"
    if first is None or now is None:
        kind = "finite bounds" if name in ("lb", "ub") else "matrix"
        return f"`{name}` has no {kind} now" if now is None else f"`{name}` had no {kind}"
    if isinstance(now, Finite):
        changed = sorted(set(now.entries) ^ set(first.entries))[0]
        return f"`{name}[{changed}]` is {'finite' if changed in now.entries else 'infinite'} now"
    if now.shape != first.shape:
        return f"`{name}` has shape {now.shape}, not {first.shape}"
    before, after = (set(zip(p.rows.tolist(), p.columns.tolist())) for p in (first, now))
    place = min(before ^ after)
    return f"`{name}[{place[0]}, {place[1]}]` is {'not zero' if place in after else 'zero'} now"
