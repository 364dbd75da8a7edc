"""Common sizes, compiled ahead."""

import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .. import _executables
from .._minimize import minimize
from .._qp.size_class import LEVELS
from ..problem import Problem
from ..qp import solve_qp


VARIABLES, ROWS = (1, 2, 3, 4, 6, 8), (0, 1, 2, 4)  # those that programs of other sizes are rounded up to


class Job(NamedTuple):
    """A solve that needs what is to be compiled, and what it is called."""

    name: str
    run: Callable[[], object]


class _Quadratic:
    """``sum (x - 1)^2`` with rows ``sum x <= 1``, to cyipopt's interface."""

    def __init__(self, n: int, m: int):
        self.n, self.m = n, m

    def objective(self, x):
        return float(np.sum((x - 1.0) ** 2))

    def gradient(self, x):
        return 2.0 * (x - 1.0)

    def constraints(self, x):
        return np.full(self.m, np.sum(x))

    def jacobian(self, x):
        return np.ones(self.m * self.n)

    def hessianstructure(self):
        return np.tril_indices(self.n)

    def hessian(self, x, lagrange, obj_factor):
        return 2.0 * obj_factor * np.eye(self.n)[np.tril_indices(self.n)]


def _problem(n: int, m: int) -> object:
    problem = Problem(n=n, m=m, problem_obj=_Quadratic(n, m), cl=[-np.inf] * m, cu=[1.0 + k for k in range(m)])
    problem.add_option("print_level", 0)
    return problem.solve(np.zeros(n))


def _minimize(n: int, m: int) -> object:
    rows = {"type": "ineq", "fun": lambda x: np.arange(1.0, m + 1.0) - np.full(m, np.sum(x)), "jac": "2-point"}
    # float() keeps JAX from tracing this.
    return minimize(
        lambda x: float(np.sum((x - 1.0) ** 2)), np.zeros(n), jac="2-point", constraints=[rows] if m else []
    )


def _quadratic_program(n: int, p: int, m: int) -> object:
    rows = {"A": np.eye(p, n), "b": np.zeros(p)} if p else {}
    rows |= {"G": np.ones((m, n)), "h": np.arange(1.0, m + 1.0)} if m else {}
    return solve_qp(np.eye(n), -np.ones(n), **rows)


def jobs() -> Iterator[Job]:
    """What `warm` does."""
    for n, m in itertools.product(VARIABLES, ROWS):
        size = f"{n} variables, {m} rows"
        yield Job(f"Problem, {size}", lambda n=n, m=m: _problem(n, m))
        yield Job(f"minimize without derivatives, {size}", lambda n=n, m=m: _minimize(n, m))
    for level, plain in itertools.product(LEVELS[:2], (True, False)):
        n, p, m = level.n, 0 if plain else level.p, level.m
        yield Job(
            f"solve_qp, up to {n} variables, {p} equalities, {m} inequalities",
            lambda n=n, p=p, m=m: _quadratic_program(n, p, m),
        )


def warm(stream=None) -> None:
    """Compile and keep the programs of `jobs`, with a line for each on ``stream`` (standard error). What is kept already is
    loaded; an interrupt loses at most the one that is being compiled."""
    stream = sys.stderr if stream is None else stream
    _executables.Policy.quick_start = False  # there is time
    todo, begin = list(jobs()), time.perf_counter()
    for k, job in enumerate(todo):
        left = "" if k == 0 else f", about {(time.perf_counter() - begin) / k * (len(todo) - k):.0f} s left"
        print(f"[{k + 1}/{len(todo)}] {job.name}{left}", file=stream, flush=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            job.run()
