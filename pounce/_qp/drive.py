"""Convex solves driven by the host: small ones in one compiled call, others so that limits and Ctrl-C are obeyed."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .._conic.solution import ConicSolution
from .._conic_solve import Controls
from .._results import ConicStatus
from ..conic import ConicSolve
from .arguments import Limits
from .data import Inputs, Tables
from .kernel import Form, Glance, Kernel, kernel_for


PATIENCE = 1.0  # seconds that a Ctrl-C may have to wait, at worst
CHUNK = 0.1  # seconds between two looks at the clock, where iterations are shorter
OPERATIONS_PER_SECOND, ITERATION_OVERHEAD = 4e9, 1e-4  # of a slow machine

OnRow = Callable[[Glance], None]


class Task:
    """A program to be solved with others of its form: the compiled pieces and the numbers for them.

    **Arguments:**

    - `program`: what is compiled in. `inputs`: the numbers. `tables`: of a sparse program.
    - `batched`: for a batch, a pytree like the inputs that says which leaves have a leading axis of lanes.
    """

    def __init__(self, program: ConicSolve, inputs: Inputs, tables: Tables | None = None, batched: Any = None):
        self.leaves, structure = jax.tree.flatten(inputs)
        shapes = tuple(leaf.shape for leaf in self.leaves)
        axes, lanes = None, 1
        if batched is not None:
            axes = tuple(0 if yes else None for yes in jax.tree.leaves(batched))
            lanes = shapes[axes.index(0)][0]
        self.tables = tables
        leaves, form = jax.tree.flatten(tables)
        sizes = tuple((np.shape(leaf), leaf.dtype) for leaf in leaves)
        self.kernel: Kernel = kernel_for(program, Form(structure, shapes, axes, lanes, tables and (sizes, form)))
        n, *rows = self.kernel.sizes
        matrices = sum(count * order**3 for order, count in program.rows.layout.semidefinite)
        operations = n * n * (n / 3 + sum(rows)) + 4.0 * n * matrices
        if tables is not None:
            operations = 10.0 * sum(np.size(table) for table in jax.tree.leaves(tables.solver))
        self._iteration = ITERATION_OVERHEAD + lanes * operations / OPERATIONS_PER_SECOND
        self._attempts = 1 if inputs.warm is None else 2  # a warm start that fails is followed by a cold one

    def prepare(self, limits: Limits) -> None:
        """Compile what `solve` will need."""
        _ = self.kernel.whole if self._at_once(limits) else self.kernel.pieces

    def _at_once(self, limits: Limits) -> bool:
        patience = PATIENCE if limits.time_limit is None else min(limits.time_limit, PATIENCE)
        return self._attempts * limits.max_iter * self._iteration <= patience

    def solve(self, limits: Limits, on_row: OnRow | None = None) -> tuple[ConicSolution, bool]:
        """The solution in NumPy (its arrays may share memory), and whether the time limit ended it.

        ``on_row`` sees every iterate, the start too. Compiling does not count for the time limit.
        """
        controls = Controls.of(limits.tol, min(limits.max_iter, 2**30), np.float64)
        if on_row is None and self._at_once(limits):
            whole = self.kernel.whole
            with jax.enable_x64(True):
                vectors = whole(self.leaves, controls, self.tables)
            return self.kernel.solution.unpack_host(vectors), False
        return self._stepwise(limits, controls, on_row)

    def _stepwise(self, limits: Limits, controls: Controls, on_row: OnRow | None) -> tuple[ConicSolution, bool]:
        begin, proceed = self.kernel.pieces
        end = float("inf") if limits.time_limit is None else time.perf_counter() + limits.time_limit
        with jax.enable_x64(True):
            held, state = begin(self.leaves, self.tables)
        until, chunk = 0, 1

        def step():
            with jax.enable_x64(True):
                return proceed(self.leaves, held, state, controls, np.asarray(until, np.int32), self.tables)

        state, glance, vectors = step()
        while True:
            seen = np.asarray(glance).reshape(-1, len(Glance._fields))
            if on_row is not None:
                on_row(Glance(*seen[0].tolist()))
            before = time.perf_counter()
            running = bool(np.any(seen[:, 0] == ConicStatus.Running))
            late = running and before >= end
            if late or not running:
                break
            until += chunk
            state, glance, vectors = step()
            glance.block_until_ready()
            if on_row is None:
                now = time.perf_counter()
                chunk = max(1, int(min(CHUNK, end - now) * chunk / max(now - before, 1e-9)))
        return self.kernel.solution.unpack_host(vectors), late
