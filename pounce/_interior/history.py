"""The iteration table as arrays of a fixed length."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._choose import where
from .._solution import History
from .state import Report, Row


def shown_row(objective, report: Report, row: Row, restoring) -> History:
    """The table row of a judged iterate."""
    return History(
        objective=objective,
        primal_infeasibility=report.primal_infeasibility,
        dual_infeasibility=report.dual_infeasibility,
        mu=row.mu,
        step=row.step,
        regularization=row.regularization,
        alpha_dual=row.alpha_dual,
        alpha_primal=row.alpha_primal,
        tag=row.tag,
        trials=row.trials,
        restoring=restoring,
    )


def blank_report(zero) -> Report:
    return Report(jnp.stack([zero] * 3))


def blank_history(row: Row, zero, no, length: int) -> History:
    first = shown_row(zero, blank_report(zero), row, no)
    return jax.tree.map(lambda leaf: jnp.zeros((length,), leaf.dtype), first)


def written(history: History, row: History, here: Bool[Array, " h"]) -> History:
    return jax.tree.map(lambda column, value: where(here, value, column), history, row)
