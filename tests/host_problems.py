"""Problems as cyipopt users write them: NumPy callbacks."""

import numpy as np


class HS071:
    """Hock-Schittkowski 71 with exact first and second derivatives; everything its callbacks see is counted."""

    n, m = 4, 2
    x0 = np.array([1.0, 5.0, 5.0, 1.0])
    bounds = dict(lb=[1.0] * 4, ub=[5.0] * 4, cl=[25.0, 40.0], cu=[2e19, 40.0])
    solution = np.array([1.0, 4.74299964, 3.82114998, 1.37940829])
    multipliers = np.array([-0.55229366, 0.16146856])

    def __init__(self):
        self.calls: dict[str, int] = {}

    def count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def objective(self, x):
        self.count("objective")
        return x[0] * x[3] * np.sum(x[0:3]) + x[2]

    def gradient(self, x):
        self.count("gradient")
        return np.array([x[0] * x[3] + x[3] * np.sum(x[0:3]), x[0] * x[3], x[0] * x[3] + 1.0, x[0] * np.sum(x[0:3])])

    def constraints(self, x):
        self.count("constraints")
        return np.array((np.prod(x), np.dot(x, x)))

    def jacobian(self, x):
        self.count("jacobian")
        return np.concatenate((np.prod(x) / x, 2 * x))


class HS071WithHessian(HS071):
    def hessianstructure(self):
        return np.nonzero(np.tril(np.ones((4, 4))))

    def hessian(self, x, lagrange, obj_factor):
        self.count("hessian")
        H = obj_factor * np.array(
            (
                (2 * x[3], 0, 0, 0),
                (x[3], 0, 0, 0),
                (x[3], 0, 0, 0),
                (2 * x[0] + x[1] + x[2], x[0], x[0], 0),
            )
        )
        H += lagrange[0] * np.array(
            (
                (0, 0, 0, 0),
                (x[2] * x[3], 0, 0, 0),
                (x[1] * x[3], x[0] * x[3], 0, 0),
                (x[1] * x[2], x[0] * x[2], x[0] * x[1], 0),
            )
        )
        H += lagrange[1] * 2 * np.eye(4)
        row, col = self.hessianstructure()
        return H[row, col]


class Lasso:
    """``min 1/2 |A w - y|^2 + penalty sum(u)  s.t.  -u <= w <= u`` in ``x = (w, u)``."""

    def __init__(self, A, y, penalty):
        self.A, self.y, self.penalty = A, y, penalty
        self.k = A.shape[1]

    def objective(self, x):
        w, u = x[: self.k], x[self.k :]
        return np.linalg.norm(self.A @ w - self.y) ** 2 / 2 + self.penalty * np.sum(u)

    def constraints(self, x):
        w, u = x[: self.k], x[self.k :]
        return np.hstack((u + w, u - w))

    def gradient(self, x):
        return np.hstack((self.A.T @ (self.A @ x[: self.k] - self.y), self.penalty * np.ones(self.k)))

    def jacobianstructure(self):
        k = np.arange(self.k)
        # every row of the form u + w has the entries (i, i) and (i, k + i), in no particular order
        rows = np.concatenate([k, k, self.k + k, self.k + k])
        columns = np.concatenate([k, self.k + k, k, self.k + k])
        return rows, columns

    def jacobian(self, x):
        one = np.ones(self.k)
        return np.concatenate([one, one, -one, one])

    def hessianstructure(self):
        return np.tril_indices(self.k)

    def hessian(self, x, lagrange, obj_factor):
        return obj_factor * (self.A.T @ self.A)[np.tril_indices(self.k)]
