"""Ipopt's derivative checker: derivatives against finite differences at the starting point, before a solve."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sps

from ._problem.host import AbstractHostFunctions
from .options import SolverOptions


Entry = tuple[str, float, float]  # name, given, approximated


def run_derivative_test(
    functions: AbstractHostFunctions, x: np.ndarray, options: SolverOptions, write: Callable[[str], None] = print
) -> int | None:
    """Check what the option ``derivative_test`` asks for and write a report in Ipopt's form.

    An entry is marked with a star if it differs from its forward difference by more than ``derivative_test_tol`` relative to
    ``max(1, |difference|)``; the step is ``derivative_test_perturbation * max(1, |x_i|)``.

    **Returns:** the number of marked entries, or None if no test was asked for. Evaluations are not counted.
    """
    driver = options.driver
    kind, first = driver["derivative_test"], int(driver["derivative_test_first_index"])
    if kind == "none":
        return None
    step = float(driver["derivative_test_perturbation"])
    tests: list[tuple[str, Iterator[Entry]]] = []
    if kind != "only-second-order":
        tests.append(("first", _first_order(functions, x, step, max(first, 0))))
    if kind != "first-order":
        tests.append(("second", _second_order(functions, x, step, first)))
    counted = vars(functions.evaluations).copy()
    wrong = 0
    for name, entries in tests:
        write(f"Starting derivative checker for {name} derivatives.\n")
        if name == "second" and not functions.exact:
            write("There is no Hessian to check.\n")
            continue
        for label, given, approximated in entries:
            error = abs(given - approximated) / max(1.0, abs(approximated))
            marked = not error <= driver["derivative_test_tol"]
            wrong += marked
            if marked or driver["derivative_test_print_all"]:
                write(f"{'*' if marked else ' '} {label} = {given:23.16e}    ~ {approximated:23.16e}  [{error:10.3e}]")
    write(
        f"\nDerivative checker detected {wrong} error(s).\n"
        if wrong
        else "\nNo errors detected by derivative checker.\n"
    )
    vars(functions.evaluations).update(counted)
    return wrong


def _moved(x: np.ndarray, i: int, step: float) -> tuple[np.ndarray, float]:
    moved = x.copy()
    moved[i] += step * max(1.0, abs(x[i]))
    return moved, moved[i] - x[i]


def _first_order(functions: AbstractHostFunctions, x: np.ndarray, step: float, first: int) -> Iterator[Entry]:
    d = functions.derivatives(x, np.zeros(functions.m), 1.0, False)
    for i in range(first, functions.n):
        moved, distance = _moved(x, i, step)
        f, rows = functions.values(moved)
        yield f"grad_f[      {i:5d}]", float(d.gradient[i]), (f - d.objective) / distance
        for j, (row, before) in enumerate(zip(rows, d.rows)):
            yield f"jac_g [{j:5d},{i:5d}]", float(d.jacobian[j, i]), float((row - before) / distance)


def _second_order(functions: AbstractHostFunctions, x: np.ndarray, step: float, first: int) -> Iterator[Entry]:
    """The Hessian of the objective (index -1) and of each row against differences of first derivatives."""
    n, m = functions.n, functions.m
    nothing = np.zeros(m)
    here = functions.derivatives(x, nothing, 1.0, False)
    columns = []
    for i in range(n):
        moved, distance = _moved(x, i, step)
        d = functions.derivatives(moved, nothing, 1.0, False)
        change: Any = d.jacobian - here.jacobian
        change = change.toarray() if sps.issparse(change) else change
        columns.append(np.vstack([d.gradient - here.gradient, change]) / distance)
    for j in range(max(first, -1), m):
        y = nothing.copy()
        if j >= 0:
            y[j] = 1.0
        hessian = functions.derivatives(x, y, 1.0 if j < 0 else 0.0, True).hessian
        assert hessian is not None
        name = "obj_hess[" if j < 0 else f"{j:3d}-th constr_hess["
        for i in range(n):
            for k in range(i + 1):
                yield f"{name}{i:5d},{k:5d}]", float(hessian[i, k]), float(columns[i][j + 1, k])
