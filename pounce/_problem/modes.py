"""In which modes of differentiation the derivatives of a function are to be had."""

import warnings
import weakref
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import PyTree

from .own_rules import OWN_PULLBACK, rules_in
from .tied import tied


FORWARD, REVERSE = "forward", "reverse"
Direction = Literal["forward", "reverse"]


class Mode(NamedTuple):
    """Of one function of ``x``: the mode of first derivatives and that which is applied to these for second ones; None where
    there is none. `plain` functions have rules for every mode, and all modes give the same."""

    first: Direction | None = "reverse"
    second: Direction | None = "forward"
    plain: bool = True


class Modes(NamedTuple):
    """Of the objective and the rows, and whether there is something to heed where derivatives meet those with respect to
    parameters."""

    objective: Mode = Mode()
    rows: Mode = Mode()
    crossing: bool = False

    @property
    def both(self) -> tuple[Mode, Mode]:
        """Those of the objective and of the rows."""
        return self.objective, self.rows

    @property
    def plain(self) -> bool:
        """Whether nothing is to be heeded for derivatives with respect to ``x``."""
        return self.objective.plain and self.rows.plain


def looked_at(function: Callable, x: Any, *rest: PyTree) -> tuple[Any, Mode, bool]:
    """The shape of what a function returns, its `Mode`, and whether it is to be heeded in derivatives by ``rest`` too.

    The function is traced once; only one with a rule of its own is differentiated, without a result, to see what it can.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(x, *rest)
    inputs, constants = len(closed.jaxpr.invars), [isinstance(each, Tracer) for each in closed.consts]
    whole = closed.jaxpr.replace(invars=[*closed.jaxpr.invars, *closed.jaxpr.constvars], constvars=[])
    everywhere = rules_in(whole, [True] * inputs + constants)
    if not everywhere:
        return shape, Mode(), False
    of_x = rules_in(whole, [True] + [False] * (inputs - 1 + len(constants)))
    leaves = jax.tree.leaves(rest)
    flat = lambda x, leaves: jnp.ravel(tied(closed.jaxpr, closed.consts, x, *leaves)[0])
    mode = _tried(flat, of_x, x, leaves) if of_x else Mode()
    return shape, mode, OWN_PULLBACK in everywhere or any(constants) or not _crossed(flat, mode, x, leaves)


def _crossed(flat: Callable, mode: Mode, x: Any, leaves: list) -> bool:
    """Whether the gradient of a plain function can be pulled back to the other arrays that it is a function of."""
    reals = [k for k, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]

    def derivative(x, leaves):
        def gradient(moving):
            changed = dict(zip(reals, moving))
            whole = [changed.get(k, leaf) for k, leaf in enumerate(leaves)]
            return jax.grad(lambda x: jnp.sum(flat(x, whole)))(x)

        value, pullback = jax.vjp(gradient, [leaves[k] for k in reals])
        return pullback(value)

    return mode.plain and _possible(derivative, x, leaves)


def _possible(derivative: Callable, x: Any, leaves: list) -> bool:
    try:
        jax.eval_shape(derivative, x, leaves)
    except Exception:  # JAX has several for this, and rules are users' code
        return False
    return True


def _tried(flat: Callable, rules: set[str], x: Any, leaves: list) -> Mode:
    def pulled(x, rest):
        value, pullback = jax.vjp(lambda x: flat(x, rest), x)
        return pullback(jnp.ones_like(value))[0]

    def pushed(x, rest):
        return jax.jvp(lambda x: flat(x, rest), (x,), (jnp.ones_like(x),))[1]

    def again_forward(first: Callable):
        return lambda x, rest: jax.jvp(lambda x: first(x, rest), (x,), (jnp.ones_like(x),))[1]

    def again_reverse(x, rest):
        value, pullback = jax.vjp(lambda x: pulled(x, rest), x)
        return pullback(value)[0]

    possible = lambda derivative: _possible(derivative, x, leaves)
    declared = OWN_PULLBACK in rules
    if not declared and possible(again_forward(pulled)):
        return Mode()
    backwards = possible(pulled)
    if backwards and possible(again_reverse):
        return Mode(REVERSE, REVERSE, False)
    if backwards and declared and possible(again_forward(pulled)):
        return Mode(REVERSE, FORWARD, False)
    if not declared and possible(again_forward(pushed)):
        return Mode(FORWARD, FORWARD, False)
    if backwards:
        return Mode(REVERSE, None, False)
    return Mode(FORWARD if not declared and possible(pushed) else None, None, False)


def check_modes(mode: Mode, name: str, exact: bool) -> None:
    """Raises `TypeError` naming a function without first derivatives, or second ones where these are to be ``exact``."""
    if mode.first is None:
        raise TypeError(
            f"`{name}` has a derivative in neither mode: it has a part with a rule for reverse mode only (jax.custom_vjp, "
            "odeint) and one for forward mode only (lax.while_loop, or fori_loop with traced bounds). Give the loop a known "
            "number of turns (lax.scan), or declare the derivative of all of it by jax.custom_jvp or jax.lax.custom_root"
        )
    if exact and mode.second is None:
        raise TypeError(
            f"`{name}` has no second derivatives: JAX cannot differentiate it again, as what jax.custom_vjp declares. Choose "
            'hessian_approximation="limited-memory", hand on nothing but values and arguments from its forward part, or declare '
            "the derivative by jax.custom_jvp"
        )


_warned: weakref.WeakSet = weakref.WeakSet()


def warn_of_cost(mode: Mode, name: str, function: Any) -> None:
    """Says once of a function that its derivatives are taken forward only."""
    if mode.first != FORWARD:
        return
    try:
        if function in _warned:
            return
        _warned.add(function)
    except TypeError:  # neither hashed nor referred to weakly: say it each time it is looked at
        pass
    warnings.warn(
        f"`{name}` has a loop of unknown length (lax.while_loop, or fori_loop with traced bounds), which JAX differentiates "
        "in forward mode only: a gradient costs n evaluations, a Hessian n^2. A known number of turns (lax.scan) or a "
        "declared derivative (jax.lax.custom_root, jax.custom_jvp) is cheaper",
        UserWarning,
        stacklevel=2,
    )
