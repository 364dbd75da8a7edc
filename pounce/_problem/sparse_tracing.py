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
    """As `TracedFunctions`, with second derivatives and sparse matrices."""

    def __init__(self, program: TracedProgram, structure: Structure):
        super().__init__(program, True)
        self._patterns = HostStructure(structure.jacobian.pattern, structure.hessian.pattern)
        self.structure = self._patterns
        self._derivatives = program.sparse_derivatives(structure)

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        del second_order  # one program for both kinds of question, because compiling takes longer than running
        count = self.evaluations
        count.gradient, count.jacobian, count.hessian = (
            count.gradient + 1,
            count.jacobian + (self.m > 0),
            count.hessian + 1,
        )
        with jax.enable_x64(True):
            flat = np.asarray(self._derivatives(x, y, np.float64(weight)))
        jacobian, hessian = self._patterns
        sizes = (1, self.m, self.n, jacobian.nnz, hessian.nnz)
        objective, rows, gradient, *entries = np.split(flat, np.cumsum(sizes)[:-1])
        matrices = (stored(pattern, values) for pattern, values in zip(self._patterns, entries))
        return HostDerivatives(float(objective[0]), rows, gradient, *matrices)


def traced_structure(
    program: TracedProgram, sparse: Any, jacobian: Pattern | None = None, hessian: Pattern | None = None
) -> Structure | None:
    """Where the derivatives of a traced program have entries; None for dense ones. ``sparse``: True, False, or None, which lets
    the patterns decide."""
    if sparse is False or not program.has_hessian:
        return None
    find = find_structure if sparse else find_structure_if_sparse
    with jax.enable_x64(True), warnings.catch_warnings():
        if not sparse:  # nobody asked: there is nothing to warn of
            warnings.simplefilter("ignore", PounceSparsityWarning)
        x = jax.ShapeDtypeStruct((program.n,), jnp.float64)
        return find(program.objective_and_rows, x, jacobian=jacobian, hessian=hessian)
