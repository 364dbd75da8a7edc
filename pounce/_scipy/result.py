"""The result of `pounce.minimize`. It imports `scipy.optimize`, so it is itself imported only when a solve is over."""

from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult


class MinimizeResult(OptimizeResult):
    """A `scipy.optimize.OptimizeResult` whose ``info`` is printed by the names of its entries, not by their values.

    - `x`: the point, ``(n,)``, within the bounds; `fun`, `jac`: the objective and its gradient there.
    - `success`: status 0 or 1, or an optimality error of at most 1e-6, at a finite point that violates nothing by more than
      1e-6 times ``max(1, |bound|)``.
    - `status`, `message`: Ipopt's code, see `pounce.Status`, and its name.
    - `nit`: iterations. `nfev`, `njev`, `nhev`: evaluations of the objective, its gradient and the Hessian.
    - `constr_violation`: the largest violation of a bound or row.
    - `wall_time`: seconds, tracing and compiling included.
    - `info`: what `pounce.Problem.solve` returns; ``mult_g, mult_x_L, mult_x_U`` are the multipliers.
    """

    x: np.ndarray
    fun: float
    success: bool
    status: int
    message: str
    nit: int
    nfev: int
    njev: int
    nhev: int
    jac: np.ndarray
    constr_violation: float
    wall_time: float
    info: dict[str, Any]

    def __repr__(self) -> str:
        info = self.get("info")
        if not isinstance(info, dict):
            return super().__repr__()
        names = [name for name in info if name not in self]
        rest = OptimizeResult({key: value for key, value in self.items() if key != "info"})
        return f"{rest!r}\n{'info':>{1 + max(map(len, rest), default=4)}}: {len(info)} entries: {', '.join(names[:6])}, ..."
