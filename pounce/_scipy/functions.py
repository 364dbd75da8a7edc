"""Announced functions with their answers at the starting point, and what traced ones must agree with."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.sparse as sps

from .._problem.answers import scalar, vector
from .._problem.purity import footprint, same_footprint
from .._problem.terms import Callback
from .._problem.typical import near
from .announced import Announced, Linear
from .reasons import KINK, LEAVES_SOMETHING


class Function:
    """An announced function with its answer at the starting point."""

    def __init__(self, announced: Announced, is_objective: bool, x: np.ndarray):
        self.announced, self.is_objective = announced, is_objective
        self.size: int | None = 1 if is_objective else None
        self.answer: Any = None
        before = footprint(announced.fun) if announced.jac is None else []
        self.original = self.callback = Callback(self._remembered, self._check)
        self.start = self.callback(x)
        self.size = self.start.size
        if announced.sparsity is not None and announced.sparsity.shape != (self.size, x.size):
            name, shape = announced.name.removesuffix(".fun"), announced.sparsity.shape
            raise ValueError(
                f"`{name}.finite_diff_jac_sparsity` must have shape {(self.size, x.size)}, got shape {shape}"
            )
        # Functions written for JAX are traced whatever else they do: their authors know. Others had better be pure.
        arrays = [leaf for leaf in jax.tree.leaves(self.answer) if isinstance(leaf, jax.Array)]
        pure = bool(arrays) or announced.jac is not None or same_footprint(before, footprint(announced.fun))
        self.why_not = "" if pure else LEAVES_SOMETHING  # why JAX takes no derivatives of it, though nobody gave any
        self.may_be_traced = announced.jac is None and pure
        self.smooth = True  # at the starting point, where its values are
        self.in_single = any(array.dtype == np.float32 for array in arrays)
        self.seen = [self.start]  # what else it has answered, to know how large its values are
        self.answer = None

    def original_at(self, x: np.ndarray) -> np.ndarray:
        """Its values by a call; in float64, also of a function that makes float32 of what it is given."""
        with jax.enable_x64(True) if self.in_single else contextlib.nullcontext():
            return self.original.fresh(x)

    def values_of(self, values: Callable[[np.ndarray], np.ndarray]) -> None:
        """From now on the values of what was traced of it stand for its own."""
        self.smooth, self.in_single, self.why_not = False, False, KINK
        self.callback = Callback(values, lambda answer: answer)

    def _remembered(self, x: np.ndarray) -> Any:
        self.answer = self.announced.fun(x)
        return self.answer

    def _check(self, answer: Any) -> np.ndarray:
        name = self.announced.name
        return scalar(answer, name) if self.is_objective else vector(answer, name, self.size)


def densified(function: Function | Linear) -> Function | Linear:
    """With a dense matrix, if it is linear."""
    if isinstance(function, Linear) and isinstance(function.matrix, sps.csr_array):
        return dataclasses.replace(function, matrix=function.matrix.toarray())
    return function


class Points:
    """The starting point and one near it, at which a traced function must do what the original does."""

    def __init__(self, x: np.ndarray, lb: np.ndarray, ub: np.ndarray):
        self.start, self.lb, self.ub = x, lb, ub
        # Steps of different lengths, lest an antisymmetric difference cancel.
        self.near = near(x, lb, ub, np.random.default_rng(0), far=1e-2)

    def originals(self, function: Function) -> list[np.ndarray] | None:
        """Values of the original at both; in float64, also of a function that makes float32 of what it is given."""
        try:
            start = function.original_at(self.start) if function.in_single else function.start
            function.seen = [start, function.original_at(self.near)]
            return function.seen
        except Exception:  # a function that raises cannot have been traced in full
            return None


def finite_where(values: np.ndarray, derivatives: np.ndarray) -> bool:
    """Whether derivatives exist wherever values do."""
    return bool(np.all(np.isfinite(derivatives[np.isfinite(values)])))
