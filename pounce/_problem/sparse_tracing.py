"""Traced functions with sparse derivatives: patterns read from their operations, one directional derivative for each colour."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._linalg.sparse import Pattern
from .host import HostDerivatives
from .sparse_host import HostStructure, stored
from .sparse_nlp import Structure, find_structure, find_structure_if_sparse
from .sparsity import PounceSparsityWarning
from .tracing import TracedFunctions, TracedProgram


class SparseTracedFunctions(TracedFunctions):
    """As `TracedFunctions`, with sparse matrices."""

    def __init__(self, program: TracedProgram, structure: Structure, exact: bool = True):
        super().__init__(program, exact)
        self._patterns = HostStructure(structure.jacobian.pattern, structure.hessian.pattern)
        self.structure = self._patterns
        self._derivatives = program.sparse_derivatives(structure)
        self._first_derivatives = program.sparse_first_derivatives(structure)

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        del second_order  # one program for both kinds of question, because compiling takes longer than running
        count = self.evaluations
        count.gradient, count.jacobian, count.hessian = (
            count.gradient + 1,
            count.jacobian + (self.m > 0),
            count.hessian + self.exact,
        )
        with jax.enable_x64(True):
            flat = self._derivatives(x, y, np.float64(weight)) if self.exact else self._first_derivatives(x)
        patterns = self._patterns[: 1 + self.exact]
        sizes = (1, self.m, self.n, *(pattern.nnz for pattern in patterns))
        objective, rows, gradient, *entries = np.split(np.asarray(flat), np.cumsum(sizes)[:-1])
        jacobian, *hessian = (stored(pattern, values) for pattern, values in zip(patterns, entries))
        return HostDerivatives(float(objective[0]), rows, gradient, jacobian, hessian[0] if hessian else None)


def traced_structure(
    program: TracedProgram,
    sparse: Any,
    jacobian: Pattern | None = None,
    hessian: Pattern | None = None,
    *,
    exact: bool = True,
) -> Structure | None:
    """Where the derivatives of a traced program have entries; None for dense ones. ``sparse``: True, False, or None, which lets
    the patterns decide. ``exact``: with Hessians, which count as diagonal otherwise."""
    if sparse is False or (exact and not program.has_hessian):
        return None
    if not exact:
        hessian = Pattern.empty(program.n, program.n)
    find = find_structure if sparse else find_structure_if_sparse
    with jax.enable_x64(True), warnings.catch_warnings():
        if not sparse:  # nobody asked: there is nothing to warn of
            warnings.simplefilter("ignore", PounceSparsityWarning)
        x = jax.ShapeDtypeStruct((program.n,), jnp.float64)
        return find(program.objective_and_rows, x, jacobian=jacobian, hessian=hessian, modes=program.modes)
