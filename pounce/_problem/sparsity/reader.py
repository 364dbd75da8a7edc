"""Reads a traced program from front to back."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from . import contractions, elementwise, matrices, moving
from .flow import Flow
from .known import Known, aval, constant, differentiable, evaluated, shape_of
from .rules import RULES, Operation, Value, dense


assert contractions and elementwise and matrices and moving  # imported for the rules they register

# Primitives that hold other programs.
CallRule = Callable[["Reader", JaxprEqn, Jaxpr, Sequence[Value]], list[Value]]
CALLS: dict[str, CallRule] = {}


def call_rule(*names: str) -> Callable[[CallRule], CallRule]:
    def register(function: CallRule) -> CallRule:
        for name in names:
            CALLS[name] = function
        return function

    return register


class PounceSparsityWarning(UserWarning):
    """Sparsity could not be made use of: an operation of a function is not known, or a large matrix was handed over dense."""


# Operations of loops that are gone through turn by turn, all in all.
TURNS = 150_000

_warned: set[str] = set()


class Unreadable(Exception):
    """A program writes to arrays, which the order of its operations does not show. The primitive's name comes along."""


def warn(name: str) -> None:
    """Says once that a primitive is not known."""
    if name in _warned:
        return
    _warned.add(name)
    warnings.warn(
        f"the sparsity of `{name}` is not known: every element of its results is taken to depend on all elements of its "
        "operands. If that makes derivatives expensive, hand over the pattern yourself",
        PounceSparsityWarning,
        stacklevel=2,
    )


def warn_of_loop(reader: "Reader", loop: str) -> None:
    """Says once of a loop that it was not followed."""
    message = (
        f"{loop} is too long to be followed turn by turn: what changes in it is taken to depend on everything that it sees. "
        "Write it with jax.vmap or jax.lax.scan over the stages, or hand over the pattern (`jac_pattern`, `hess_pattern`)"
    )
    reader.kept.setdefault("loops", []).append(message)
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, PounceSparsityWarning, stacklevel=2)


class Reader:
    """Follows dependence through programs, with up to `turns` operations of loops turn by turn."""

    def __init__(self, flow: Flow, turns: int | None = None, depth: int = 0, kept: dict[Any, Any] | None = None):
        self.flow = flow
        self.turns = TURNS if turns is None else turns
        self.depth = depth  # of derivatives inside of derivatives
        # What has been worked out about equations, with the equations to keep them alive.
        self.kept: dict[Any, Any] = {} if kept is None else kept

    def read(self, jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        """The results of a program."""
        values: dict[Var, Value] = {}
        for variable, array in zip(jaxpr.constvars, constants):
            values[variable] = array if isinstance(array, Value) else Value(shape_of(variable), None, Known.of(array))
        values.update(zip(jaxpr.invars, inputs))

        def value_of(atom) -> Value:
            if isinstance(atom, Literal):
                return Value(shape_of(atom), None, constant(atom))
            return values[atom]

        for equation in jaxpr.eqns:
            inputs = [value_of(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, self._equation(equation, jaxpr, inputs)))
        return [value_of(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: JaxprEqn, jaxpr: Jaxpr, inputs: Sequence[Value]) -> list[Value]:
        if any(type(variable.aval).__name__ == "AbstractRef" for variable in equation.invars):
            raise Unreadable(equation.primitive.name)
        known = [value.known for value in inputs]
        inner = _inlined(equation)
        if inner is None and all(value.node is None for value in inputs):
            if equation.effects or not all(known):
                return [Value(shape_of(v)) for v in equation.outvars]
            results = evaluated(equation, jaxpr, [each for each in known if each is not None])
            return [Value(shape_of(v), None, each) for v, each in zip(equation.outvars, results)]
        if equation.primitive.name in CALLS:
            results = CALLS[equation.primitive.name](self, equation, jaxpr, inputs)
        elif inner is not None:
            results = self.read(inner.jaxpr, inner.consts, inputs)
        elif not any(map(differentiable, equation.outvars)):
            return [Value(shape_of(v)) for v in equation.outvars]
        else:
            results = self._simple(equation, inputs)
        return [
            value if differentiable(variable) else Value(value.shape, None, value.known)
            for variable, value in zip(equation.outvars, results)
        ]

    def _simple(self, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
        operation = Operation(
            equation.primitive.name,
            equation.params,
            tuple(shape_of(v) for v in equation.outvars),
            any(differentiable(v) and jnp.issubdtype(aval(v).dtype, jnp.complexfloating) for v in equation.invars),
        )
        rule = RULES.get(operation.name)
        nodes = NotImplemented if rule is None else rule(self.flow, operation, inputs)
        if nodes is NotImplemented:
            warn(operation.name)
            nodes = dense(self.flow, operation, inputs)
        nodes = nodes if isinstance(nodes, list) else [nodes]
        return [Value(shape, node) for shape, node in zip(operation.shapes, nodes, strict=True)]


_CALLING = ("call", "jit", "remat", "checkpoint", "composite")


def _inlined(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The program of a primitive that does nothing but call it: compiled or checkpointed functions, and their like."""
    name = equation.primitive.name
    if name in CALLS or name in RULES or not any(word in name for word in _CALLING):
        return None
    inner = [value for value in equation.params.values() if isinstance(value, (ClosedJaxpr, Jaxpr))]
    if len(inner) != 1:
        return None
    program = inner[0] if isinstance(inner[0], ClosedJaxpr) else ClosedJaxpr(inner[0], [])
    if len(program.jaxpr.constvars) != len(program.consts):
        return None
    for outer, own in ((equation.invars, program.jaxpr.invars), (equation.outvars, program.jaxpr.outvars)):
        if [shape_of(v) for v in outer] != [shape_of(v) for v in own]:
            return None
    return program
