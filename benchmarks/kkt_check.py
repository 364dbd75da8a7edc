"""An independent check of a claimed solution, in NumPy, from the definition of the optimality conditions."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Check:
    """Violations in user units; ``stationarity`` relative to the size of the multipliers, as Ipopt's s_d."""

    feasibility: float
    stationarity: float
    complementarity: float
    sign: float

    def passes(self, tol: float) -> bool:
        return max(self.feasibility, self.stationarity, self.complementarity, self.sign) <= tol


def check(gradient_at_start, x, gradient, jacobian, rows, lb, ub, cl, cu, y, z_lower, z_upper) -> Check:
    """Residuals of ``grad f + J'y - zl + zu = 0``, feasibility, complementarity and multiplier signs.

    Stationarity and complementarity are judged in the scale of the objective, whose gradient at the start beyond 100 counts as
    scale (the rule of gradient-based scaling), and of the multipliers.
    """
    x, rows, y = (np.asarray(v, float) for v in (x, rows, y))
    z_lower, z_upper = np.asarray(z_lower, float), np.asarray(z_upper, float)
    y_lower, y_upper = np.maximum(-y, 0), np.maximum(y, 0)
    one_sided = max(
        np.max(np.where(np.isinf(cl), y_lower, 0), initial=0), np.max(np.where(np.isinf(cu), y_upper, 0), initial=0)
    )
    size = np.abs(y).sum() + z_lower.sum() + z_upper.sum()
    scale = max(
        1.0,
        size / max(1, y.size + 2 * x.size) / 100,
        gradient_at_start / 100 if np.isfinite(gradient_at_start) else 1.0,
    )

    def relative(distance, bound):
        return distance / np.maximum(1.0, np.abs(np.where(np.isinf(bound), 1, bound)))

    def violation(values, low, high):
        below = np.where(np.isinf(low), 0, relative(low - values, low))
        above = np.where(np.isinf(high), 0, relative(values - high, high))
        return float(np.max(np.maximum(np.maximum(below, above), 0), initial=0))

    def products(values, low, high, m_low, m_high):
        # Relative in the multiplier: bounds are met to 1e-8 of their size, whatever force holds them.
        a = np.where(np.isinf(low), 0, np.abs(values - np.where(np.isinf(low), 0, low)) * relative_force(m_low))
        b = np.where(np.isinf(high), 0, np.abs(np.where(np.isinf(high), 0, high) - values) * relative_force(m_high))
        equal = low == high
        return float(np.max(np.where(equal, 0, np.maximum(a, b)), initial=0))

    def relative_force(multiplier):
        return (multiplier / scale) / np.maximum(1.0, multiplier / scale)

    stationarity = gradient + (jacobian.T @ y if y.size else 0) - z_lower + z_upper
    return Check(
        max(violation(x, lb, ub), violation(rows, cl, cu)),
        float(np.max(np.abs(stationarity), initial=0)) / scale,
        max(products(x, lb, ub, z_lower, z_upper), products(rows, cl, cu, y_lower, y_upper)),
        max(0.0, -min(z_lower.min(initial=0), z_upper.min(initial=0)), float(one_sided)) / scale,
    )
