"""The iterate of a solve under way, as cyipopt's `get_current_iterate` and `get_current_violations` give it."""

from typing import Any

import numpy as np

from ._interior.start import Bounds
from ._reverse import Now


def current_iterate(now: Now, scaled: bool) -> dict[str, Any]:
    """Variables, rows and multipliers; in the solver's units if ``scaled``."""
    s, z = now.solution, now.solution.multipliers
    objective, x, rows = now.scaling if scaled else (1.0, 1.0, 1.0)
    return dict(
        x=s.x * x,
        mult_x_L=z.lower * (objective / x),
        mult_x_U=z.upper * (objective / x),
        g=s.constraints * rows,
        mult_g=z.constraints * (objective / rows),
    )


def current_violations(now: Now, bounds: Bounds, scaled: bool) -> dict[str, Any]:
    """Violations, complementarity products and the gradient of the Lagrangian; in the solver's units if ``scaled``."""
    s, z, d = now.solution, now.solution.multipliers, now.derivatives
    objective, x, rows = now.scaling if scaled else (1.0, 1.0, 1.0)
    lower_rows, upper_rows = np.maximum(-z.constraints, 0.0), np.maximum(z.constraints, 0.0)
    equality = bounds.cl == bounds.cu
    products = _product(s.constraints - bounds.cl, lower_rows) + _product(bounds.cu - s.constraints, upper_rows)
    return dict(
        x_L_violation=np.maximum(bounds.lb - s.x, 0.0) * x,
        x_U_violation=np.maximum(s.x - bounds.ub, 0.0) * x,
        compl_x_L=_product(s.x - bounds.lb, z.lower) * objective,
        compl_x_U=_product(bounds.ub - s.x, z.upper) * objective,
        grad_lag_x=(d.gradient + z.constraints @ d.jacobian - z.lower + z.upper) * (objective / x),
        g_violation=np.maximum(np.maximum(bounds.cl - s.constraints, s.constraints - bounds.cu), 0.0) * rows,
        compl_g=np.where(equality, 0.0, products) * objective,
    )


def _product(slack: Any, multiplier: Any) -> Any:
    """Zero where there is no bound."""
    return np.where(np.abs(slack) < 1e19, slack, 0.0) * multiplier
