"""Peers to measure against, where they are installed. Importing a function's module never imports the peer."""

import time

import numpy as np


class HS071:
    """HS071 as NumPy callbacks."""

    def objective(self, x):
        return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]

    def gradient(self, x):
        return np.array(
            [x[0] * x[3] + x[3] * (x[0] + x[1] + x[2]), x[0] * x[3], x[0] * x[3] + 1.0, x[0] * (x[0] + x[1] + x[2])]
        )

    def constraints(self, x):
        return np.array([np.prod(x), np.dot(x, x)])

    def jacobianstructure(self):
        return np.repeat([0, 1], 4), np.tile([0, 1, 2, 3], 2)

    def jacobian(self, x):
        return np.concatenate([np.prod(x) / x, 2 * x])

    def hessianstructure(self):
        return np.tril_indices(4)

    def hessian(self, x, lagrange, obj_factor):
        h = np.zeros((4, 4))
        h[0, 0] = 2 * x[3]
        h[1, 0] = h[2, 0] = x[3]
        h[3, 0] = 2 * x[0] + x[1] + x[2]
        h[3, 1] = h[3, 2] = x[0]
        product = np.prod(x) / np.outer(x, x)
        h = obj_factor * h + lagrange[0] * np.tril(product, -1) + lagrange[1] * 2 * np.eye(4)
        return h[np.tril_indices(4)]


def cyipopt_hs071(repeats: int = 30) -> float | None:
    """Median seconds of one cyipopt solve of HS071 with exact NumPy derivatives; None if cyipopt is missing."""
    try:
        import cyipopt  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    problem = cyipopt.Problem(
        n=4, m=2, problem_obj=HS071(), lb=[1.0] * 4, ub=[5.0] * 4, cl=[25.0, 40.0], cu=[2e19, 40.0]
    )
    problem.add_option("print_level", 0)
    problem.add_option("sb", "yes")
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        _, info = problem.solve(np.array([1.0, 5.0, 5.0, 1.0]))
        times.append(time.perf_counter() - begin)
        assert info["status"] == 0
    return float(np.median(times))
