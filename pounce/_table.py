"""Ipopt's iteration table as text."""

import math
from collections.abc import Callable
from typing import Any

from ._results import Status
from ._solution import Solution


HEADER = "iter    objective    inf_pr   inf_du lg(mu)  ||d||  lg(rg) alpha_du alpha_pr  ls"


def _exponent(value: float) -> str:
    """As C's %7.2e: at least two digits in the exponent."""
    return f"{value:7.2e}"


def table_row(iteration: int, row: Any) -> str:
    """One row of the table; ``row`` has the fields of `History` as scalars."""
    regularization = float(row.regularization)
    shown = f"{math.log10(regularization):5.1f}" if regularization > 0 else "   - "
    mark = "r" if bool(row.restoring) else " "
    tag = chr(int(row.tag)) if int(row.tag) else " "
    mu = max(float(row.mu), 1e-300)
    return (
        f"{iteration:4d}{mark}{float(row.objective):14.7e} {_exponent(float(row.primal_infeasibility))} "
        f"{_exponent(float(row.dual_infeasibility))} {math.log10(mu):5.1f} {_exponent(float(row.step))} {shown} "
        f"{_exponent(float(row.alpha_dual))} {_exponent(float(row.alpha_primal))}{tag}{int(row.trials):3d}"
    )


def summary(solution: Solution) -> str:
    """What Ipopt prints after the table."""
    r = solution.residuals
    status = Status(int(solution.status))
    return "\n".join(
        [
            "",
            f"Number of Iterations....: {int(solution.stats.iterations)}",
            "",
            f"Objective...............: {float(solution.objective):24.16e}",
            f"Dual infeasibility......: {float(r.stationarity):24.16e}",
            f"Constraint violation....: {float(r.constraint_violation):24.16e}",
            f"Complementarity.........: {float(r.complementarity):24.16e}",
            f"Overall NLP error.......: {float(r.kkt_error):24.16e}",
            "",
            f"EXIT: {status.name}: {status.message}",
        ]
    )


class TablePrinter:
    """Prints a header every ten rows and a row every ``frequency`` iterations."""

    def __init__(self, write: Callable[[str], Any], frequency: int = 1):
        self._write, self._frequency, self._count = write, max(1, frequency), 0

    def row(self, iteration: int, row: Any) -> None:
        if iteration % self._frequency:
            return
        if self._count % 10 == 0:
            self._write(HEADER)
        self._count += 1
        self._write(table_row(iteration, row))
