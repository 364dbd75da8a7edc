"""Which KKT solver a solve uses."""

from .dense import CondensedCholesky, NullSpaceCholesky, PivotedLU
from .kkt import AbstractKKTSolver


def dense_solver(name: str, n: int, m: int) -> AbstractKKTSolver:
    """The solver of that name; ``"auto"`` is the null-space Cholesky (see docs/design.md for the comparison)."""
    if m == 0 and name in ("auto", "null-space"):
        return CondensedCholesky()
    if name in ("auto", "null-space"):
        return NullSpaceCholesky()
    if name == "condensed":
        return CondensedCholesky()
    if name == "lu":
        return PivotedLU()
    raise ValueError(f"`linear_solver` must be 'auto', 'null-space', 'condensed' or 'lu', got {name!r}")
