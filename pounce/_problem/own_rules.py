"""What a traced program holds that JAX does not differentiate in every mode: functions that come with a pullback only
(`jax.custom_vjp`; `jax.experimental.ode.odeint` is one), and loops of unknown length, which cannot be run backwards."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var

from .sparsity.known import scan_parts


OWN_PULLBACK, LOOP = "a pullback of its own", "a loop of unknown length"


def rules_in(jaxpr: Jaxpr, moving: Sequence[bool]) -> set[str]:
    """Which of the two stand where real numbers come along that depend on the inputs said to be ``moving``.

    Too many rather than too few, where dependence is not followed in detail. Inside of a function with a rule of its own nothing
    is looked at: it is not what gets differentiated.
    """
    found: set[str] = set()
    _follow(jaxpr, moving, found)
    return found


def _follow(jaxpr: Jaxpr, moving: Sequence[bool], found: set[str]) -> list[bool]:
    """Adds to what was found; which results depend on the inputs."""
    reached = {variable for variable, yes in zip(jaxpr.invars, moving) if yes and _real(variable)}
    if not reached:
        return [False] * len(jaxpr.outvars)
    for equation in jaxpr.eqns:
        inputs = [isinstance(atom, Var) and atom in reached for atom in equation.invars]
        if any(inputs):
            results = _through(equation, inputs, found)
            reached.update(v for v, yes in zip(equation.outvars, results) if yes and _real(v))
    return [isinstance(atom, Var) and atom in reached for atom in jaxpr.outvars]


def _real(variable: Var) -> bool:
    aval: Any = variable.aval
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.inexact)


def _through(equation: JaxprEqn, inputs: list[bool], found: set[str]) -> list[bool]:
    name, p = equation.primitive.name, equation.params
    everything = [True] * len(equation.outvars)
    if name == "stop_gradient":
        return [False]
    if name.startswith("custom_vjp_call"):
        found.add(OWN_PULLBACK)
        return everything
    if name.startswith("custom_jvp_call"):
        return everything
    if name == "while":
        body, carried = p["body_jaxpr"].jaxpr, inputs[p["cond_nconsts"] + p["body_nconsts"] :]
        constants = inputs[p["cond_nconsts"] : p["cond_nconsts"] + p["body_nconsts"]]
        carried = _settled(body, constants, carried, [], found)
        if any(yes and _real(variable) for yes, variable in zip(carried, equation.outvars)):
            found.add(LOOP)
        return carried
    if name == "scan":
        body, (first, last) = p["jaxpr"].jaxpr, scan_parts(equation)
        carried = _settled(body, inputs[:first], inputs[first:last], inputs[last:], found)
        return _follow(body, [*inputs[:first], *carried, *inputs[last:]], found)
    inner = inner_jaxprs(equation)
    if not inner:
        return everything
    inputs = inputs[1:] if name == "cond" else inputs
    results = [False] * len(equation.outvars)
    for each in inner:
        own = inputs if len(each.invars) == len(inputs) else [True] * len(each.invars)
        reached = _follow(each, own, found)
        results = [a or b for a, b in zip(results, reached)] if len(reached) == len(results) else everything
    return results


def _settled(
    body: Jaxpr, constants: list[bool], carried: list[bool], slices: list[bool], found: set[str]
) -> list[bool]:
    """What depends on something before or after any turn of a loop."""
    while True:
        ends = _follow(body, [*constants, *carried, *slices], found)
        joined = [a or b for a, b in zip(carried, ends)]
        if joined == carried:
            return carried
        carried = joined


def inner_jaxprs(equation: JaxprEqn) -> list[Jaxpr]:
    """The programs that an operation holds."""
    found = []
    for parameter in equation.params.values():
        for each in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
            if isinstance(each, ClosedJaxpr):
                found.append(each.jaxpr)
            elif isinstance(each, Jaxpr):
                found.append(each)
    return found
