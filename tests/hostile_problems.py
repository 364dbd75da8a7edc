"""Starts and problems that no solver likes: infeasible, undefined, unbounded, badly scaled, or with wrong derivatives.

Each entry of `HOSTILE` is ``(name, fun, x0, keywords)`` in two variables.
"""

import numpy as np


def square(x):
    return (x[0] - 1.0) ** 2 + (x[1] + 2.0) ** 2


def _log(x):
    with np.errstate(all="ignore"):
        return np.log(x)


def _sqrt(x):
    with np.errstate(all="ignore"):
        return np.sqrt(x)


def _exp(x):
    with np.errstate(all="ignore"):
        return np.exp(x)


def eq(fun, **more):
    return {"type": "eq", "fun": fun, **more}


def ineq(fun, **more):
    return {"type": "ineq", "fun": fun, **more}


BOX = [(0.0, 1.0), (0.0, 1.0)]
POSITIVE = [(0.0, None), (0.0, None)]

_INFEASIBLE = {
    "sum beyond the box": ([ineq(lambda x: x[0] + x[1] - 3.0)], BOX),
    "sum slightly beyond the box": ([ineq(lambda x: x[0] + x[1] - 2.0001)], BOX),
    "negative radius": ([ineq(lambda x: -1.0 - x[0] ** 2 - x[1] ** 2)], None),
    "two values at once": ([eq(lambda x: x[0]), eq(lambda x: x[0] - 1.0)], None),
    "two values at once, close": ([eq(lambda x: x[0]), eq(lambda x: x[0] - 1e-5)], None),
    "negative square": ([eq(lambda x: x[0] ** 2 + x[1] ** 2 + 1e-3)], None),
    "sine of two": ([eq(lambda x: np.sin(x[0]) - 2.0)], None),
    "disjoint discs": (
        [ineq(lambda x: 1 - x[0] ** 2 - x[1] ** 2), ineq(lambda x: 1 - (x[0] - 3) ** 2 - x[1] ** 2)],
        None,
    ),
    "between contradictory rows": ([ineq(lambda x: x[0] - x[1] - 1.0), ineq(lambda x: x[1] - x[0] - 1.0)], None),
    "three equalities": ([eq(lambda x: np.array([x[0] - 1.0, x[1] - 1.0, x[0] + x[1] - 3.0]))], None),
    "huge constant": ([ineq(lambda x: x[0] - 1e12)], BOX),
    "exponential below zero": ([eq(lambda x: _exp(x[0]) + 1.0)], None),
}
_UNDEFINED = {
    "logarithm": (lambda x: -_log(x[0]) + x[0] + x[1] ** 2, None),
    "root": (lambda x: _sqrt(x[0]) + x[1] ** 2, None),
    "root of the sum": (lambda x: -_sqrt(1.0 - x[0] ** 2 - x[1] ** 2), None),
    "logarithm downwards": (lambda x: _log(x[0]) + x[1] ** 2, POSITIVE),
    "reciprocal": (lambda x: float(np.divide(1.0, x[0])) + x[1] ** 2, None),
    "nowhere": (lambda x: np.nan, None),
    "infinite": (lambda x: np.inf, None),
    "infinite downwards": (lambda x: -np.inf, None),
    "in a disc only": (lambda x: square(x) if float(x @ x) < 2.0 else np.nan, None),
    "everywhere but at the start": (lambda x: np.nan if float(x[1]) == 1.0 else square(x), None),
}
_UNBOUNDED = {
    "linear": (lambda x: -x[0] - x[1], {}),
    "linear in a cone": (lambda x: -x[0] - x[1], {"bounds": POSITIVE}),
    "cubic": (lambda x: x[0] ** 3 + x[1] ** 2, {}),
    "exponential": (lambda x: -_exp(x[0]) + x[1] ** 2, {}),
    "along a row": (lambda x: -x[0], {"constraints": [eq(lambda x: x[0] - x[1])]}),
    "saddle": (lambda x: x[0] * x[1], {}),
}
_SCALED = {
    "1e20 f": (lambda x: 1e20 * square(x), {}),
    "1e-20 f": (lambda x: 1e-20 * square(x), {"constraints": [ineq(lambda x: x[0] + x[1] - 3.0)]}),
    "1e12 c": (square, {"constraints": [eq(lambda x: 1e12 * (x[0] + x[1] - 3.0))]}),
    "1e-12 c": (square, {"constraints": [ineq(lambda x: 1e-12 * (x[0] - 3.0) - 1e-4)], "bounds": BOX}),
    "x of 1e8": (lambda x: square(1e-8 * x), {"constraints": [ineq(lambda x: x[0] - 1e9)]}),
}
_WRONG = {
    "gradient of the wrong sign": (square, {"jac": lambda x: -2 * (x - [1.0, -2.0]), "bounds": BOX}),
    "gradient of NaN": (square, {"jac": lambda x: np.full(2, np.nan)}),
    "gradient of zero": (square, {"jac": lambda x: np.zeros(2), "constraints": [ineq(lambda x: x[0] - 3.0)]}),
    "Jacobian of the wrong sign": (square, {"constraints": [eq(lambda x: x[0] - 3.0, jac=lambda x: [-1.0, 0.0])]}),
    "Jacobian of zero": (square, {"constraints": [eq(lambda x: x[0] - 3.0, jac=lambda x: [0.0, 0.0])]}),
    "Hessian of NaN": (
        square,
        {"jac": lambda x: 2 * (x - [1.0, -2.0]), "hess": lambda x: np.full((2, 2), np.nan)},
    ),
    "kink": (lambda x: abs(float(x[0]) - 0.3) + abs(float(x[1])), {"constraints": [ineq(lambda x: x[0] - 1.0)]}),
    "steps": (lambda x: float(np.floor(x[0])) + x[1] ** 2, {"constraints": [ineq(lambda x: x[0] + 3.0)]}),
    "noise": (lambda x: square(x) + 1e-3 * np.sin(1e6 * float(x[0])), {"bounds": BOX}),
}
_STARTS = {"near": [0.5, 1.0], "far": [-1e6, 1e4], "corner": [0.0, 0.0]}


def _hostile():
    for start, x0 in _STARTS.items():
        for name, (constraints, bounds) in _INFEASIBLE.items():
            yield f"infeasible: {name}, {start}", square, x0, {"constraints": constraints, "bounds": bounds}
        for name, (fun, bounds) in _UNDEFINED.items():
            yield f"undefined: {name}, {start}", fun, x0, {"bounds": bounds}
        for kind, table in (("unbounded", _UNBOUNDED), ("scaled", _SCALED), ("wrong", _WRONG)):
            for name, (fun, keywords) in table.items():
                yield f"{kind}: {name}, {start}", fun, x0, keywords
    for x0 in ([1e300, -1e300], [1e-300, 0.0], [1e19, 1e20]):
        yield f"start at {x0}", square, x0, {"constraints": [ineq(lambda x: x[0] + x[1] - 3.0)]}


HOSTILE = tuple(_hostile())
