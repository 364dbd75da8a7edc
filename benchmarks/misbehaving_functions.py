"""Sixty functions that break what an optimiser relies on, opaque ones, as a simulation hands them over.

Noise of three sizes, derivatives of the wrong sign or scale, walls of NaN and infinity, kinks, discontinuities, huge and
tiny variables, functions that change between calls. Their points are judged by the function without noise, before it changed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass
class Misbehaving:
    """A function as a solver sees it (``make()`` starts it anew), the honest one, and how it is called."""

    kind: str
    name: str
    make: Callable[[], Callable]
    honest: Callable
    start: np.ndarray
    jac: Any = None  # a callable, or a scheme of differences
    bounds: list | None = None
    rows: Callable | None = None  # rows(x) >= 0
    rows_jac: Callable | None = None
    noise: float = 0.0  # its size

    def violation(self, x: np.ndarray) -> float:
        """The largest violation of a bound or a row."""
        worst = 0.0
        for value, (low, high) in zip(x, self.bounds or []):
            worst = max(worst, -np.inf if low is None else low - value, -np.inf if high is None else value - high)
        return worst if self.rows is None else max(worst, float(np.max(-self.rows(x))))


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def rosenbrock_gradient(x):
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


def parabola(x):
    return float(np.sum((x - 1) ** 2))


def parabola_gradient(x):
    return 2 * (x - 1)


def quadratic(x):
    weights = np.arange(1, x.size + 1)
    return float(np.sum(weights * (x - 0.3 * weights) ** 2) + x[0] * x[-1])


def disk(x):
    return np.array([2.0 - x @ x])


def disk_gradient(x):
    return -2 * x[None]


def _noisy() -> list[Misbehaving]:
    found = []
    programs: list[tuple[str, Callable, dict[str, Any]]] = [
        ("parabola", parabola, dict(start=np.zeros(1), jac="3-point")),
        ("rosenbrock", rosenbrock, dict(start=np.array([-1.2, 1.0]))),
        ("box", quadratic, dict(start=np.zeros(5), bounds=[(-1, 1)] * 5, jac="3-point")),
        ("disk", rosenbrock, dict(start=np.zeros(2), rows=disk, jac="3-point")),
    ]
    for size in (1e-9, 1e-6, 1e-3):

        def noise(f, size=size):
            def make():
                random = np.random.default_rng(1)
                return lambda x: f(x) + size * random.normal()

            return make

        for name, f, more in programs:
            found.append(Misbehaving("noise", f"{name} {size:g}", noise(f), f, noise=size, **more))
    return found


def _wrong() -> list[Misbehaving]:
    def whole(f):
        return lambda: f

    def flipped(gradient, which):
        sign = np.where(np.arange(2) == which, -1.0, 1.0)
        return lambda x: sign * gradient(x)

    two, one = np.array([-1.2, 1.0]), np.ones(2) * 3
    cases: list[tuple[str, Callable, np.ndarray, Callable, dict[str, Any]]] = [
        ("parabola, sign", parabola, one, lambda x: -parabola_gradient(x), {}),
        ("rosenbrock, sign", rosenbrock, two, lambda x: -rosenbrock_gradient(x), {}),
        ("rosenbrock, one sign", rosenbrock, two, flipped(rosenbrock_gradient, 1), {}),
        ("parabola, ten times", parabola, one, lambda x: 10 * parabola_gradient(x), {}),
        ("parabola, a tenth", parabola, one, lambda x: 0.1 * parabola_gradient(x), {}),
        ("parabola, zero", parabola, one, lambda x: np.zeros(2), {}),
        ("parabola, box, sign", parabola, one, lambda x: -parabola_gradient(x), dict(bounds=[(0, 4)] * 2)),
        ("disk, sign of the row", parabola, np.array([0.5, -0.5]), parabola_gradient,
         dict(rows=disk, rows_jac=lambda x: -disk_gradient(x))),
        ("disk, sign of both", parabola, np.array([0.5, -0.5]), lambda x: -parabola_gradient(x),
         dict(rows=disk, rows_jac=lambda x: -disk_gradient(x))),
        ("constant gradient", parabola, one, lambda x: np.ones(2), {}),
    ]  # fmt: skip
    return [Misbehaving("wrong", name, whole(f), f, start, jac, **more) for name, f, start, jac, more in cases]


def _walls() -> list[Misbehaving]:
    def wall(f, inside, beyond):
        return lambda: lambda x: f(x) if inside(x) else beyond

    def far(x):
        return float(np.sum((x - 2) ** 2))

    def below_one(x):
        return x[0] <= 1

    with_log = lambda x: float(-np.log(x[0]) + x[0] ** 2)  # noqa: E731
    cases: list[tuple[str, Callable, Callable, float, dict[str, Any]]] = [
        ("nan beyond 1", far, below_one, np.nan, dict(start=np.zeros(1))),
        ("nan beyond 1, two", far, below_one, np.nan, dict(start=np.zeros(2))),
        ("inf beyond 1", far, below_one, np.inf, dict(start=np.zeros(2))),
        ("huge beyond 1", far, below_one, 1e20, dict(start=np.zeros(2))),
        ("nan outside of a ball", far, lambda x: x @ x <= 4, np.nan, dict(start=np.array([0.1, -0.2]))),
        ("nan in the valley", rosenbrock, lambda x: x[0] < 0.5, np.nan, dict(start=np.array([-1.2, 1.0]))),
        ("nan beyond 1, box", far, below_one, np.nan, dict(start=np.zeros(2), bounds=[(-3, 3)] * 2)),
        ("nan beyond 1, row", far, below_one, np.nan, dict(start=np.zeros(2), rows=lambda x: np.array([5 - x[0] - x[1]]))),
        ("logarithm", with_log, lambda x: x[0] > 0, np.nan, dict(start=np.array([5.0]))),
    ]  # fmt: skip
    return [
        Misbehaving("walls", name, wall(f, inside, beyond), wall(f, inside, beyond)(), **more)
        for name, f, inside, beyond, more in cases
    ]


def _kinks() -> list[Misbehaving]:
    functions = [
        ("absolute value", lambda x: float(abs(x[0] - 0.3)), np.array([2.0]), None),
        ("sum of absolute values", lambda x: float(np.sum(np.abs(x - 0.3))), np.array([2.0, -1.0, 0.5]), None),
        ("norm", lambda x: float(np.linalg.norm(x - 0.3)), np.array([1.0, 2.0]), None),
        ("largest", lambda x: float(np.max(x**2 - x)), np.array([2.0, 3.0]), None),
        ("root of absolute value", lambda x: float(np.sqrt(abs(x[0] - 0.3))), np.array([2.0]), None),
        ("kinked valley", lambda x: float(abs(x[1] - x[0] ** 2) + (1 - x[0]) ** 2), np.array([-1.2, 1.0]), None),
        ("hinges, box", lambda x: float(np.sum(np.maximum(0, 1 - x)) + 0.1 * x @ x), np.zeros(3), [(-2, 2)] * 3),
        ("absolute value and square", lambda x: float(abs(x[0]) + (x[0] - 2) ** 2 * (x[0] > 0)), np.array([-1.0]), None),
    ]  # fmt: skip
    return [Misbehaving("kinks", name, lambda f=f: f, f, start, bounds=bounds) for name, f, start, bounds in functions]


def _jumps() -> list[Misbehaving]:
    functions = [
        ("steps", lambda x: float(np.floor(10 * (x[0] - 1) ** 2) / 10), np.array([3.0]), None),
        ("fine steps", lambda x: float(np.round((x[0] - 1) ** 2, 6)), np.array([3.0]), "3-point"),
        ("a jump down", lambda x: float(x[0] ** 2 - 5 * (x[0] > 1)), np.array([-2.0]), None),
        ("a jump at the minimum", lambda x: float(x[0] ** 2 + (x[0] > 0)), np.array([2.0]), None),
        ("sign", lambda x: float(np.sum(np.sign(x - 0.3) + 0.1 * x**2)), np.array([2.0, -1.0]), None),
        ("a table", lambda x: float(np.interp(x[0], np.arange(6.0), [5, 2, 3, 1, 4, 6])), np.array([0.4]), None),
        ("single precision", lambda x: float(np.float32(np.sum((x - 1.1) ** 2))), np.array([3.0, -2.0]), None),
    ]
    return [Misbehaving("jumps", name, lambda f=f: f, f, start, jac) for name, f, start, jac in functions]


def _units() -> list[Misbehaving]:
    found = []
    for unit in (1e8, 1e-8):

        def scaled(f, unit=unit):
            return lambda x: f(x / unit)

        for name, f, start, width in (
            ("parabola", parabola, np.array([2.5, -1.0]), None),
            ("rosenbrock", rosenbrock, np.array([-1.2, 1.0]), None),
            ("box", quadratic, np.zeros(3), 1.0),
        ):
            box = None if width is None else [(-width * unit, width * unit)] * 3
            g = scaled(f)
            found.append(Misbehaving("units", f"{name} {unit:g}", lambda g=g: g, g, start * unit, bounds=box))
    units = np.array([1e-5, 1e5])
    mixed = lambda x: rosenbrock(x / units)  # noqa: E731
    found.append(Misbehaving("units", "mixed", lambda: mixed, mixed, np.array([-1.2, 1.0]) * units))
    return found


def _impure() -> list[Misbehaving]:
    def counting(f, size):
        def make():
            calls = [0]

            def g(x):
                calls[0] += 1
                return f(x) + size * calls[0]

            return g

        return make

    def switching(f, every):
        def make():
            calls = [0]

            def g(x):
                calls[0] += 1
                return f(x) * (1 + (calls[0] // every) % 2)

            return g

        return make

    def remembering(f):
        def make():
            last = [0.0]

            def g(x):
                value = 0.9 * f(x) + 0.1 * last[0]
                last[0] = value
                return value

            return g

        return make

    two = np.array([-1.2, 1.0])
    return [
        Misbehaving("impure", "drift up", counting(parabola, 1e-3), parabola, np.zeros(2)),
        Misbehaving("impure", "drift down", counting(parabola, -1e-3), parabola, np.zeros(2)),
        Misbehaving("impure", "drift, rosenbrock", counting(rosenbrock, 1e-5), rosenbrock, two),
        Misbehaving("impure", "every other call", switching(parabola, 1), parabola, np.array([3.0, 2.0])),
        Misbehaving("impure", "every seventh call", switching(rosenbrock, 7), rosenbrock, two),
        Misbehaving("impure", "memory", remembering(rosenbrock), rosenbrock, two),
        Misbehaving("impure", "drift, box", counting(quadratic, 1e-4), quadratic, np.zeros(3), bounds=[(-1, 1)] * 3),
    ]


FUNCTIONS = _noisy() + _wrong() + _walls() + _kinks() + _jumps() + _units() + _impure()
