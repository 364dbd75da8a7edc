"""A compiled solve of a nonlinear program: its static half, its arrays, and the derivative rule that belongs to it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import PyTree

from ._adjoint import nonlinear
from ._adjoint.nonlinear import Inputs
from ._adjoint.rule import OnFailure, differentiable_solve
from ._compile import compiler_options, program_cache
from ._interior.solver import InteriorPointMethod
from ._lanes import in_cache
from ._linalg.choice import sparse_solver
from ._linalg.hints import PivotHints
from ._linalg.kkt import AbstractKKTSolver
from ._linalg.sparse import Pattern
from ._meshes import placed
from ._problem.closed import trace
from ._problem.modes import Modes
from ._problem.nlp import FunctionNLP
from ._problem.sparse_nlp import SparseFunctionNLP, Structure, find_structure
from ._solution import Solution
from ._solve import ActiveFactor, Start, solve_and_keep, solve_nlp
from ._weak import held


NO_BOUND = 1e19
# How many numbers a sparse solve works on for each variable, slack and multiplier, and for each unknown of a linear system; and a
# dense one for each of the former, and each entry of the matrix of a system.
STATE, FACTOR = 100, 40
DENSE_STATE, DENSE_FACTOR = 40, 4


class Approximated(eqx.Module):
    """What a sparse solve with limited-memory Hessians knows of the exact ones, for its derivatives are those of the program."""

    pattern: Pattern | None = eqx.field(static=True)
    hints: PivotHints = eqx.field(static=True)


class Program(eqx.Module):
    """The static half of a compiled solve: hashable, so that equal calls share one compiled program.

    It refers to functions `weakly`, for it is a key of a cache. Who prepares it holds them until it has been called.
    """

    method: InteriorPointMethod
    functions: tuple = eqx.field(static=True)
    structure: Structure | None = eqx.field(static=True)
    relaxation: float = eqx.field(static=True)
    on_failure: OnFailure = eqx.field(static=True)
    approximated: Approximated | None = eqx.field(static=True, default=None)
    reuse: bool = eqx.field(static=True, default=True)  # whether solves keep a factor for their derivatives
    modes: Modes = eqx.field(static=True, default=Modes())

    def nlp(self, data: "Data") -> FunctionNLP | SparseFunctionNLP:
        """The functions, traced once: every use in the compiled program evaluates the same jaxpr."""
        f, g = eqx.combine(data.functions, self._static_functions())
        evaluate = together(f, g, data.start.x0.dtype)
        functions = trace(evaluate, data.start.x0, data.parameters)
        if self.structure is None:
            return FunctionNLP(functions, data.parameters, self.modes)
        return SparseFunctionNLP(functions, data.parameters, structure=self.structure, modes=self.modes)

    def _static_functions(self) -> tuple:
        leaves, structure = self.functions
        return jax.tree.unflatten(structure, map(held, leaves))

    def lane_bytes(self, data: "Data") -> int:
        """What a solve works on: its state and its factor."""
        n, m = data.start.x0.size, data.start.bounds.cl.size
        if self.structure is None:
            numbers = DENSE_STATE * (n + 4 * m) + DENSE_FACTOR * (n + m) ** 2
        else:
            numbers = STATE * (n + 4 * m) + FACTOR * (n + m)
        return numbers * data.start.x0.dtype.itemsize

    def inputs(self, data: "Data") -> Inputs:
        """What the solution depends on."""
        return Inputs(self.nlp(data), data.start.bounds, data.tables)

    def _solver(self, inputs: Inputs) -> AbstractKKTSolver:
        return eqx.combine(self.method.linear_solver, inputs.tables)

    def runner(self, function: Callable, data: "Data") -> Callable:
        """`solve_nlp` or `solve_and_keep` as a function of the inputs and the rest, which outlives ``data``."""
        lane_bytes = self.lane_bytes(data)

        def whole(inputs: Inputs, rest: tuple):
            x0, warm, scaling, numbers = rest
            method = eqx.tree_at(lambda m: m.linear_solver, self.method, self._solver(inputs))
            return function(method, inputs.nlp, Start(x0, inputs.bounds, warm, scaling, numbers))

        def by_parts(*given):
            arrays, static = eqx.partition(given, eqx.is_array)
            solve = lambda arrays: whole(*eqx.combine(arrays, static))
            return in_cache(solve, lane_bytes)(arrays)

        # Lanes on several devices go side by side there, as parts of a loop would not.
        alone = jax.default_backend() == "cpu" and jax.local_device_count() == 1
        return by_parts if alone or self.structure is not None else whole

    @property
    def reusable(self) -> bool:
        """Whether a derivative can do with the factor of the last pass.

        A dense factor costs less than carrying it through the loop of a batch; a relaxed derivative has a matrix of its own,
        and so has one whose solve approximates its Hessians.
        """
        return self.reuse and self.structure is not None and self.approximated is None and self.relaxation == 0

    def __call__(self, data: "Data") -> Solution:
        like = structs(data)  # a rule is kept with what was traced, and must not keep what was being transformed

        def tangent(inputs: Inputs, rates: Inputs, solution: Solution, kept: ActiveFactor | None = None) -> tuple:
            solver, inputs, rates = self.differentiated(like, inputs, rates)
            return nonlinear.tangent(inputs, rates, solution, kept, solver, NO_BOUND, self.relaxation)

        return differentiable_solve(
            self.runner(solve_nlp, data),
            self.inputs(data),
            rest_of(data),
            nonlinear.solved,
            nonlinear.outputs,
            tangent,
            self.on_failure,
            self.runner(solve_and_keep, data) if self.reusable else None,
        )

    def differentiated(self, like: "Data", *inputs: Inputs) -> tuple:
        """The linear solver for derivatives, and the inputs (and their tangents) with where exact Hessians have entries.

        ``like``: data of these shapes.
        """
        if self.approximated is None:
            return self._solver(inputs[0]), *inputs
        structure = self._exact_structure(structs(like), self.approximated.pattern)
        patterns = structure.hessian.pattern, structure.jacobian.pattern
        solver = jax.tree.map(jnp.asarray, sparse_solver("auto", *patterns, self.approximated.hints))

        def with_structure(nlp) -> SparseFunctionNLP:
            return SparseFunctionNLP(nlp.functions, nlp.parameters, structure=structure, modes=nlp.modes)

        return solver, *(eqx.tree_at(lambda i: i.nlp, each, with_structure(each.nlp)) for each in inputs)

    def _exact_structure(self, shapes: "Data", hessian: Pattern | None) -> Structure:
        """With where the Hessian has entries. Found only where derivatives are taken."""
        static = self._static_functions()

        def evaluate(x, functions, parameters):
            f, g = eqx.combine(functions, static)
            return together(f, g, x.dtype)(x, parameters)

        jacobian = None if self.structure is None else self.structure.jacobian.pattern
        arguments = shapes.start.x0, shapes.functions, shapes.parameters
        return find_structure(evaluate, *arguments, jacobian=jacobian, hessian=hessian, modes=self.modes)


class Data(eqx.Module):
    """The array half of a solve."""

    functions: PyTree  # arrays inside the user's callables
    parameters: PyTree
    start: Start
    tables: PyTree  # of the linear solver


def rest_of(data: Data) -> tuple:
    """What the solution does not depend on."""
    start = data.start
    return start.x0, start.warm, start.scaling, start.traced_numbers


def together(f: Callable, g: Callable | None, dtype) -> Callable:
    """``(x, p) -> (objective, rows)`` in one dtype."""

    def evaluate(x, p):
        value = jnp.asarray(f(x, p), dtype).reshape(())
        return value, jnp.zeros((0,), dtype) if g is None else jnp.asarray(g(x, p), dtype)

    return evaluate


def structs(data: Data) -> Data:
    """Shapes and dtypes in the place of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), data)


def owners(program: Program, *how: Any) -> tuple:
    """The functions that a compiled program lives with."""
    return program.functions[0]


@program_cache(maxsize=512, owners=owners)
def compiled(program: Program, top_level: bool, place: NamedSharding | None):
    """The compiled solve of a static program."""
    return jax.jit(placed(program.__call__, place), compiler_options=compiler_options() if top_level else None)
