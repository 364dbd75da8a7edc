"""Rules for operations that work element by element."""

from collections.abc import Sequence

import numpy as np

from .flow import Flow, Maybe
from .rules import Operation, Value, positions, rule, stretched


def _operands(flow: Flow, operation: Operation, values: Sequence[Value]) -> list[Maybe]:
    return [stretched(flow, value, operation.shape) for value in values]


@rule(
    "neg", "copy", "copy_p", "real", "imag", "conj", "convert_element_type", "reduce_precision", "bitcast_convert_type"
)
@rule("sharding_constraint", "name", "pvary", "layout_constraint", "squeeze", "expand_dims")
def same(flow: Flow, operation: Operation, values: Sequence[Value]):
    """The same elements in the same order, or a linear function of each."""
    return values[0].node


@rule("device_put", "optimization_barrier")
def several(flow: Flow, operation: Operation, values: Sequence[Value]):
    return [value.node for value in values]


@rule("stop_gradient", "sign", "floor", "ceil", "round", "nextafter", "bitcast_convert_type")
def constant(flow: Flow, operation: Operation, values: Sequence[Value]):
    """Functions whose derivative is zero wherever there is one. (The sign of a complex number is its direction.)"""
    if operation.name == "sign" and operation.complex:
        return flow.bend(values[0].node)
    return None


@rule("abs")
def absolute(flow: Flow, operation: Operation, values: Sequence[Value]):
    # Linear on either side of zero. The modulus of a complex number is not.
    return flow.bend(values[0].node) if operation.complex else values[0].node


@rule("add", "sub", "add_any", "complex", "max", "min", "rem", "clamp")
def linear(flow: Flow, operation: Operation, values: Sequence[Value]):
    """Linear, or one of the operands at a time; a remainder is ``a - k b`` with a whole number ``k``."""
    return flow.join(*_operands(flow, operation, values))


@rule("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
@rule("exp", "exp2", "expm1", "log", "log2", "log1p", "logistic", "sqrt", "rsqrt", "cbrt", "square")
@rule("erf", "erfc", "erf_inv", "lgamma", "digamma", "polygamma", "zeta", "igamma", "igammac", "igamma_grad_a")
@rule("bessel_i0e", "bessel_i1e", "regularized_incomplete_beta", "random_gamma_grad", "atan2")
@rule("polynomial", "one_minus_square")
def nonlinear(flow: Flow, operation: Operation, values: Sequence[Value]):
    return flow.bend(flow.join(*_operands(flow, operation, values)))


@rule("integer_pow")
def integer_power(flow: Flow, operation: Operation, values: Sequence[Value]):
    if operation["y"] == 0:
        return None
    return values[0].node if operation["y"] == 1 else flow.bend(values[0].node)


@rule("pow")
def power(flow: Flow, operation: Operation, values: Sequence[Value]):
    base, exponent = _operands(flow, operation, values)
    y = values[1].factor()
    if y is None:
        return flow.bend(flow.join(base, exponent))
    y = np.broadcast_to(y, operation.shape).ravel()
    return flow.join(flow.keep(base, y == 1), flow.bend(flow.keep(base, (y != 1) & (y != 0))))


def _without_zeros(flow: Flow, node: Maybe, factor: Value, shape: Sequence[int]) -> Maybe:
    """What is left of an array when it is multiplied by a factor: nothing where that is known to be zero."""
    if node is None or factor.node is not None:
        return node
    array = factor.factor()
    if array is None or array.all():
        return node
    return flow.keep(node, np.broadcast_to(array != 0, shape))


@rule("mul")
def product(flow: Flow, operation: Operation, values: Sequence[Value]):
    a, b = _operands(flow, operation, values)
    a = _without_zeros(flow, a, values[1], operation.shape)
    b = _without_zeros(flow, b, values[0], operation.shape)
    return flow.product(a, b)


@rule("div")
def quotient(flow: Flow, operation: Operation, values: Sequence[Value]):
    a, b = _operands(flow, operation, values)
    b = _without_zeros(flow, b, values[0], operation.shape)
    return flow.product(a, flow.bend(b))


@rule("select_n")
def select(flow: Flow, operation: Operation, values: Sequence[Value]):
    which, *cases = values
    chosen = which.array()
    if chosen is None:
        return flow.join(*(case.node for case in cases))
    chosen = np.broadcast_to(chosen.astype(int), operation.shape).ravel()
    every = positions(operation.shape).ravel()
    parts = [(case.node, np.where(chosen == k, every, -1)) for k, case in enumerate(cases)]
    return flow.place(operation.size, parts)
