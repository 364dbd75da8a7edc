"""Declared pullbacks that can be differentiated again.

`jax.custom_vjp` asks for two functions: the forward one answers values and whatever the backward one needs. Differentiated again,
it is the code of the forward one that counts, and where that is a search by bisection, or rounds, or looks up, the value that the
first derivative was taken at seems to be a constant. But a value is a value of the function, whose derivative is declared. So
what is handed to the backward one and is such a value, or an argument, counts as that.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from .own_rules import inner_jaxprs
from .sparsity.known import as_function, scan_parts, struct_of


def tied(jaxpr: Jaxpr, constants: Sequence[Any], *inputs: Any) -> list[Any]:
    """The results of a program, with declared pullbacks in it tied to values, inside of calls, branches and scans too."""
    values: dict[Var, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*map(jnp.asarray, constants), *inputs)))

    def value_of(atom: Any) -> Any:
        return jnp.asarray(atom.val, struct_of(atom).dtype) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        own = list(map(value_of, equation.invars))
        values.update(zip(equation.outvars, _applied(equation, jaxpr, own)))
    return [value_of(atom) for atom in jaxpr.outvars]


def _declares(jaxpr: Jaxpr) -> bool:
    return any(
        each.primitive.name.startswith("custom_vjp_call") or any(map(_declares, inner_jaxprs(each)))
        for each in jaxpr.eqns
    )


def _applied(equation: JaxprEqn, jaxpr: Jaxpr, inputs: list[Any]) -> list[Any]:
    name, p = equation.primitive.name, equation.params
    function, which = as_function(equation, jaxpr)
    if name.startswith("custom_vjp_call"):
        return _tied_call(function, [inputs[k] for k in which], [k >= p["num_consts"] for k in which])
    if any(map(_declares, inner_jaxprs(equation))):
        if name in ("jit", "pjit", "closed_call") and isinstance(p.get("jaxpr"), ClosedJaxpr):
            return tied(p["jaxpr"].jaxpr, p["jaxpr"].consts, *inputs)
        if name == "cond":
            branches = [lambda *own, b=b: tied(b.jaxpr, b.consts, *own) for b in p["branches"]]
            return lax.switch(jnp.asarray(inputs[0], jnp.int32), branches, *inputs[1:])
        if name == "scan":
            return _tied_scan(equation, inputs)
    return function(*(inputs[k] for k in which))


def _tied_scan(equation: JaxprEqn, inputs: list[Any]) -> list[Any]:
    p, (first, last) = equation.params, scan_parts(equation)
    body = p["jaxpr"]

    def turn(carried, slices):
        results = tied(body.jaxpr, body.consts, *inputs[:first], *carried, *slices)
        return results[: last - first], results[last - first :]

    final, stacked = lax.scan(
        turn, inputs[first:last], inputs[last:], length=p["length"], reverse=p["reverse"], unroll=p["unroll"]
    )
    return [*final, *stacked]


def _tied_call(function: Callable, inputs: list[Any], declared: list[bool]) -> list[Any]:
    """One call of a function with a declared pullback; ``declared`` says for which inputs there is one."""
    moving = [k for k, yes in enumerate(declared) if yes and jnp.issubdtype(jnp.result_type(inputs[k]), jnp.inexact)]
    still = {k: each for k, each in enumerate(inputs) if k not in moving}

    def of(*arguments):
        whole = {**still, **dict(zip(moving, arguments))}
        return function(*(whole[k] for k in range(len(inputs))))

    @jax.custom_vjp
    def call(*arguments):
        return of(*arguments)

    def forward(*arguments):
        values, pullback = jax.vjp(of, *arguments)
        kept, structure = jax.tree.flatten(pullback)
        known = {id(each): k for k, each in enumerate([*values, *arguments])}
        places = [known.get(id(each)) for each in kept]

        def tie(results, arguments, kept):
            whole = [*results, *arguments]
            leaves = [each if place is None else whole[place] for each, place in zip(kept, places)]
            return jax.tree.unflatten(structure, leaves)

        @jax.custom_vjp
        def named(values, kept, arguments):
            """The values, as values of the function: nothing is evaluated again."""
            return values

        def forward_again(values, kept, arguments):
            results = named(values, kept, arguments)
            return results, tie(results, arguments, kept)

        named.defvjp(forward_again, lambda pullback, bars: (None, None, pullback(bars)))
        values = lax.stop_gradient(values)
        kept = [each if place is None else lax.stop_gradient(each) for each, place in zip(kept, places)]
        return forward_again(values, kept, arguments)

    call.defvjp(forward, lambda pullback, bars: pullback(bars))
    return call(*(inputs[k] for k in moving))
