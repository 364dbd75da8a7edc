"""Which KKT solver a solve uses."""

import functools

from .block_tridiagonal import BlockTridiagonalLDL
from .dense import CondensedCholesky, NullSpaceCholesky, PivotedLU
from .hints import NOTHING_KNOWN, PivotHints
from .kkt import AbstractKKTSolver
from .quasi_definite import QuasiDefiniteLDL
from .sparse import Pattern
from .sparse_ldl import SparseLDL, analyze
from .stages import find_stages


DENSE = ("null-space", "condensed", "lu")
SPARSE = ("sparse-ldl", "stages")


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
    raise ValueError(
        f"`linear_solver` of a dense problem must be 'auto', 'null-space', 'condensed' or 'lu', got {name!r}"
    )


@functools.lru_cache(maxsize=64)
def quasi_definite_solver(hessian: Pattern, jacobian: Pattern) -> AbstractKKTSolver:
    """The sparse solver for operators with H positive semidefinite."""
    return QuasiDefiniteLDL(SparseLDL(analyze(hessian, jacobian, pairs=False, tail=True)))


@functools.lru_cache(maxsize=64)
def sparse_solver(
    name: str, hessian: Pattern, jacobian: Pattern, hints: PivotHints = NOTHING_KNOWN
) -> AbstractKKTSolver:
    """The sparse solver of that name for the patterns of the lower triangle of H and of J.

    The pivots of ``"stages"`` are those of one stage after the other: where a stage by itself is singular it takes the inertia
    for wrong. So it is never chosen unasked.
    """
    if name == "stages":
        stages = find_stages(hessian, jacobian)
        if stages is None:
            raise ValueError("`linear_solver='stages'`: this problem has no stages that can be told from its sparsity")
        return BlockTridiagonalLDL(stages)
    if name in ("auto", "sparse-ldl"):
        return SparseLDL(
            analyze(hessian, jacobian, jacobian_values=hints.entries, equality=hints.equality, fixed=hints.fixed)
        )
    raise ValueError(f"`linear_solver` of a sparse problem must be 'auto', 'stages' or 'sparse-ldl', got {name!r}")
