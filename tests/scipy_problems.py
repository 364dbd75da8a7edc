"""Problems from SciPy's documentation and test suite, for `pounce.minimize` and SciPy's own methods alike.

Each entry of `PROBLEMS` is a function that makes ``(fun, x0, keywords)``.
"""

import numpy as np
from scipy.optimize import (
    BFGS,
    Bounds,
    LinearConstraint,
    NonlinearConstraint,
    rosen,
    rosen_der,
    rosen_hess,
    rosen_hess_prod,
)
from scipy.sparse import csr_array, csr_matrix


TUTORIAL_START = np.array([1.3, 0.7, 0.8, 1.9, 1.2])


def rosenbrock(x):
    """SciPy's tutorial, in plain NumPy notation."""
    return sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0)


def tutorial_unconstrained():
    return rosenbrock, TUTORIAL_START, {}


def tutorial_gradient():
    return rosen, TUTORIAL_START, {"jac": rosen_der}


def tutorial_hessian():
    return rosen, TUTORIAL_START, {"jac": rosen_der, "hess": rosen_hess}


def tutorial_hessian_product():
    return rosen, TUTORIAL_START, {"jac": rosen_der, "hessp": rosen_hess_prod}


def tutorial_value_and_gradient():
    return (lambda x: (rosen(x), rosen_der(x))), TUTORIAL_START, {"jac": True}


def tutorial_arguments():
    def fun(x, a, b):
        return sum(a * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0) + b

    return fun, TUTORIAL_START, {"args": (0.5, 1.0)}


def tutorial_quasi_newton_hessian():
    return rosen, TUTORIAL_START[:2], {"jac": rosen_der, "hess": BFGS()}


TUTORIAL_LINEAR = LinearConstraint([[1, 2], [2, 1]], [-np.inf, 1], [1, 1])


def _cons_f(x):
    return [x[0] ** 2 + x[1], x[0] ** 2 - x[1]]


def _cons_J(x):
    return [[2 * x[0], 1], [2 * x[0], -1]]


def _cons_H(x, v):
    return v[0] * np.array([[2, 0], [0, 0]]) + v[1] * np.array([[2, 0], [0, 0]])


def _trust_constr(nonlinear):
    return {
        "jac": rosen_der, "hess": rosen_hess, "bounds": Bounds([0, -0.5], [1.0, 2.0]),
        "constraints": [TUTORIAL_LINEAR, nonlinear],
    }  # fmt: skip


def trust_constr_tutorial():
    return rosen, [0.5, 0], _trust_constr(NonlinearConstraint(_cons_f, -np.inf, 1, jac=_cons_J, hess=_cons_H))


def trust_constr_tutorial_sparse():
    nonlinear = NonlinearConstraint(
        _cons_f, -np.inf, 1, jac=lambda x: csr_matrix(_cons_J(x)), hess=lambda x, v: csr_array(_cons_H(x, v))
    )
    return rosen, [0.5, 0], _trust_constr(nonlinear)


def trust_constr_tutorial_quasi_newton():
    return rosen, [0.5, 0], _trust_constr(NonlinearConstraint(_cons_f, -np.inf, 1, jac=_cons_J, hess=BFGS()))


def trust_constr_tutorial_differences():
    return rosen, [0.5, 0], _trust_constr(NonlinearConstraint(_cons_f, -np.inf, 1, jac=_cons_J, hess="2-point"))


def slsqp_tutorial():
    inequality = {
        "type": "ineq",
        "fun": lambda x: np.array([1 - x[0] - 2 * x[1], 1 - x[0] ** 2 - x[1], 1 - x[0] ** 2 + x[1]]),
        "jac": lambda x: np.array([[-1.0, -2.0], [-2 * x[0], -1.0], [-2 * x[0], 1.0]]),
    }
    equality = {
        "type": "eq",
        "fun": lambda x: np.array([2 * x[0] + x[1] - 1]),
        "jac": lambda x: np.array([2.0, 1.0]),
    }
    bounds = Bounds([0, -0.5], [1.0, 2.0])
    return rosen, [0.5, 0], {"jac": rosen_der, "bounds": bounds, "constraints": [equality, inequality]}


def minimize_docstring():
    constraints = (
        {"type": "ineq", "fun": lambda x: x[0] - 2 * x[1] + 2},
        {"type": "ineq", "fun": lambda x: -x[0] - 2 * x[1] + 6},
        {"type": "ineq", "fun": lambda x: -x[0] + 2 * x[1] + 2},
    )
    keywords = {"bounds": ((0, None), (0, None)), "constraints": constraints}
    return (lambda x: (x[0] - 1) ** 2 + (x[1] - 2.5) ** 2), (2, 0), keywords


def _paraboloid(d, sign=1.0):
    x, y = d[0], d[1]
    return sign * (2 * x * y + 2 * x - x**2 - 2 * y**2)


def _paraboloid_gradient(d, sign=1.0):
    x, y = d[0], d[1]
    return sign * np.array([-2 * x + 2 * y + 2, 2 * x - 4 * y])


def slsqp_unbounded():
    return _paraboloid, [-1.0, 1.0], {"args": (-1.0,), "jac": _paraboloid_gradient}


def slsqp_bounded():
    return _paraboloid, [-1.0, 1.0], {"args": (-1.0,), "bounds": [(-2.5, 0.0), (None, 0.8)]}


def slsqp_equality():
    equality = {"type": "eq", "fun": lambda x, sign: x[0] - x[1], "args": (-1.0,)}
    return _paraboloid, [-1.0, 1.0], {"args": (-1.0,), "constraints": equality}


def slsqp_inequality_with_jacobian():
    inequality = {
        "type": "ineq",
        "fun": lambda d, sign: np.array([d[0] - d[1] - 1.0]),
        "jac": lambda d, sign: np.array([[1.0, -1.0]]),
        "args": (-1.0,),
    }
    return _paraboloid, [-1.0, 1.0], {"args": (-1.0,), "jac": _paraboloid_gradient, "constraints": [inequality]}


def slsqp_bounded_equality():
    bounds, equality = [(-0.8, 1.0), (-1, 0.8)], {"type": "eq", "fun": lambda x: np.array([x[0] ** 3 - x[1]])}
    return _paraboloid, [-1.0, 1.0], {"args": (-1.0,), "bounds": bounds, "constraints": equality}


def slsqp_inconsistent_linearization():
    """SciPy issue 5158: the linearised constraints contradict each other at the start."""
    keywords = {"bounds": ((0, None), (0, None)), "constraints": {"type": "ineq", "fun": lambda x: -x[0] + x[1]}}
    equality = {"type": "eq", "fun": lambda x: 2 * (x[0] + x[1]) - 2}
    keywords["constraints"] = (keywords["constraints"], equality)
    return (lambda x: x[0] ** 2 + x[1] ** 2 + 2 * x[0]), [0.0, 1.0], keywords


def slsqp_new_bounds():
    equality = {"type": "eq", "fun": lambda x: x[0] + x[1] - 1}
    return (
        (lambda x: x[0] ** 2 + 3 * x[1] ** 2),
        [0.2, 0.2],
        {"bounds": Bounds([-np.inf, 0.5], [np.inf, np.inf]), "constraints": equality},
    )


def maximum_entropy():
    """SciPy's test of the unconstrained methods: Berger's machine translation model."""
    F = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0], [1, 0, 0]])
    K = np.array([1.0, 0.3, 0.5])

    def fun(x):
        p = F @ x
        return np.log(np.sum(np.exp(p))) - K @ x

    def gradient(x):
        weights = np.exp(F @ x)
        return F.T @ (weights / np.sum(weights)) - K

    return fun, np.zeros(3), {"jac": gradient}


def maximum_entropy_on_a_simplex():
    value = np.array([1.0, 2.0, 4.0, 9.0])
    constraints = [LinearConstraint(np.ones(4), 1, 1), LinearConstraint(csr_array(value[None]), 3.5, 3.5)]
    return (lambda p: np.sum(p * np.log(p))), np.full(4, 0.25), {"bounds": [(1e-9, 1)] * 4, "constraints": constraints}


def maratos():
    sphere = NonlinearConstraint(lambda x: x[0] ** 2 + x[1] ** 2, 1, 1)
    angle = np.pi / 3
    return (lambda x: 2 * (x[0] ** 2 + x[1] ** 2 - 1) - x[0]), [np.cos(angle), np.sin(angle)], {"constraints": sphere}


def hyperbolic_inequality():
    constraint = NonlinearConstraint(lambda x: 1 / (x[0] + 1) - x[1], 0.25, np.inf)
    return (
        (lambda x: 1 / 2 * (x[0] - 2) ** 2 + 1 / 2 * (x[1] - 1 / 2) ** 2),
        [0.0, 0.0],
        {"constraints": constraint, "bounds": Bounds(0, np.inf)},
    )


def rosenbrock_with_equality_and_inequality():
    inequality, equality = LinearConstraint([[1, 2]], -np.inf, 1), LinearConstraint([[2, 1]], 1, 1)
    return rosenbrock, [-1, -0.5], {"constraints": (inequality, equality)}


def rosenbrock_in_a_box():
    return rosenbrock, [-0.2, 0.2], {"bounds": Bounds([-2, -0.5], [1.3, 0.6])}


def electrons():
    """Three electrons on a sphere, far apart: one at the pole, and one in a plane through it, to make the answer unique."""

    def fun(x):
        a, b, pole = x[:3], x[3:], np.array([0.0, 0.0, 1.0])
        return 1 / np.linalg.norm(a - b) + 1 / np.linalg.norm(a - pole) + 1 / np.linalg.norm(b - pole)

    sphere = NonlinearConstraint(lambda x: [np.sum(x[:3] ** 2), np.sum(x[3:] ** 2)], 1, 1)
    plane = LinearConstraint([0, 1, 0, 0, 0, 0], 0, 0)
    return fun, [0.9, 0.0, -0.3, -0.8, 0.2, -0.5], {"constraints": [sphere, plane]}


def hs071():
    def product(x):
        return x[0] * x[1] * x[2] * x[3] - 25.0

    def squares(x):
        return np.sum(x**2) - 40.0

    constraints = [{"type": "ineq", "fun": product}, {"type": "eq", "fun": squares}]
    return (
        (lambda x: x[0] * x[3] * np.sum(x[:3]) + x[2]),
        [1, 5, 5, 1],
        {"bounds": [(1, 5)] * 4, "constraints": constraints},
    )


def tnc_problem_5():
    fun = lambda x: np.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1.0
    return fun, [0.0, 0.0], {"bounds": [(-1.5, 4.0), (-3.0, 3.0)]}


def tnc_problem_38():
    def fun(x):
        return (
            100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + 90 * (x[3] - x[2] ** 2) ** 2 + (1 - x[2]) ** 2
            + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2) + 19.8 * (x[1] - 1) * (x[3] - 1)
        ) * 1e-5  # fmt: skip

    return fun, [-3.0, -1.0, -3.0, -1.0], {"bounds": [(-10, 10)] * 4, "tol": 1e-11}


def tnc_problem_45():
    keywords = {"bounds": [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]}
    return (lambda x: 2 - x[0] * x[1] * x[2] * x[3] * x[4] / 120.0), [0.9, 1.0, 2.0, 3.0, 4.0], keywords


def curve_fit_in_bounds():
    t = np.linspace(0, 4, 50)
    data = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.sin(40 * t)
    return (
        (lambda p: np.sum((p[0] * np.exp(-p[1] * t) + p[2] - data) ** 2)),
        [2.0, 1.0, 0.2],
        {"bounds": [(0, 3.0), (0, 1.0), (0, 0.5)]},
    )


def portfolio():
    covariance = np.array(
        [[0.10, 0.02, 0.04, 0.00], [0.02, 0.08, 0.01, 0.02], [0.04, 0.01, 0.20, 0.05], [0.00, 0.02, 0.05, 0.15]]
    )
    returns = np.array([0.05, 0.07, 0.12, 0.10])
    constraints = [
        {"type": "eq", "fun": lambda w: np.sum(w) - 1},
        {"type": "ineq", "fun": lambda w: w @ returns - 0.09},
    ]
    return (lambda w: w @ covariance @ w), np.full(4, 0.25), {"bounds": [(0, 1)] * 4, "constraints": constraints}


def fixed_variable():
    return rosen, [0.5, 0.5, 0.5], {"bounds": [(-2, 2), (0.7, 0.7), (-2, 2)], "jac": rosen_der}


def one_variable():
    return (lambda x: (x - 3.0) ** 2 + 0.1 * x**4), 1.0, {"bounds": [(None, 1.5)]}


PROBLEMS = (
    tutorial_unconstrained, tutorial_gradient, tutorial_hessian, tutorial_hessian_product, tutorial_value_and_gradient,
    tutorial_arguments, tutorial_quasi_newton_hessian, trust_constr_tutorial, trust_constr_tutorial_sparse,
    trust_constr_tutorial_quasi_newton, trust_constr_tutorial_differences, slsqp_tutorial, minimize_docstring,
    slsqp_unbounded, slsqp_bounded, slsqp_equality, slsqp_inequality_with_jacobian, slsqp_bounded_equality,
    slsqp_inconsistent_linearization, slsqp_new_bounds, maximum_entropy, maximum_entropy_on_a_simplex, maratos,
    hyperbolic_inequality, rosenbrock_with_equality_and_inequality, rosenbrock_in_a_box, electrons, hs071, tnc_problem_5,
    tnc_problem_38, tnc_problem_45, curve_fit_in_bounds, portfolio, fixed_variable, one_variable,
)  # fmt: skip
