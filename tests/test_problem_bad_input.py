"""What `pounce.Problem` says to bad input: a Python error that names the argument, at once, and nothing is broken by it."""

import numpy as np
import pytest

import pounce

from .host_problems import HS071, HS071WithHessian


class Scalar:
    """One variable, no rows."""

    def objective(self, x):
        return float(x @ x)

    def gradient(self, x):
        return 2 * x


GOOD = dict(n=4, m=2, problem_obj=HS071WithHessian(), **HS071.bounds)


def made(**changes):
    return pounce.Problem(**(GOOD | changes))


def solved(**arguments):
    problem = made()
    problem.add_option("print_level", 0)
    return problem.solve(**({"x0": HS071.x0} | arguments))


def option(name, value):
    return made().add_option(name, value)


def scaling(**arguments):
    return made().set_problem_scaling(**arguments)


def answering(name, value):
    """Solve with a callback that answers ``value``."""
    callbacks = HS071WithHessian()
    setattr(callbacks, name, (lambda *arguments: value))
    problem = made(problem_obj=callbacks)
    problem.add_option("print_level", 0)
    return problem.solve(HS071.x0)


class Nothing:
    pass


BAD = {
    # construction
    "n negative": (lambda: made(n=-1), ValueError, "`n`"),
    "n not whole": (lambda: made(n=4.0), ValueError, "`n`"),
    "n text": (lambda: made(n="4"), ValueError, "`n`"),
    "n bool": (lambda: made(n=True), ValueError, "`n`"),
    "n too large": (lambda: made(n=2**31), ValueError, "`n`"),
    "m negative": (lambda: made(m=-2), ValueError, "`m`"),
    "m none": (lambda: made(m=None), ValueError, "`m`"),
    "m too large": (lambda: made(m=2**40), ValueError, "`m`"),
    "no objective": (lambda: made(problem_obj=Nothing()), ValueError, "`objective`"),
    "no constraints": (lambda: made(problem_obj=Scalar()), ValueError, "`constraints`"),
    "objective not callable": (lambda: made(problem_obj=type("T", (), {"objective": 3})()), ValueError, "`objective`"),
    "no problem_obj": (lambda: pounce.Problem(1, 0), ValueError, "`objective`"),
    "cl missing": (lambda: made(cl=None), ValueError, "`cl`"),
    "cu missing": (lambda: made(cu=None), ValueError, "`cu`"),
    "lb too short": (lambda: made(lb=[1.0] * 3), ValueError, "`lb`"),
    "lb too long": (lambda: made(lb=[1.0] * 5), ValueError, "`lb`"),
    "ub scalar": (lambda: made(ub=5.0), ValueError, "`ub`"),
    "ub matrix": (lambda: made(ub=np.ones((2, 2))), ValueError, "`ub`"),
    "cl too short": (lambda: made(cl=[25.0]), ValueError, "`cl`"),
    "cu too long": (lambda: made(cu=[25.0] * 3), ValueError, "`cu`"),
    "lb text": (lambda: made(lb=["a"] * 4), TypeError, "`lb`"),
    "ub object": (lambda: made(ub=Nothing()), TypeError, "`ub`"),
    "cl ragged": (lambda: made(cl=[[1.0], [1.0, 2.0]]), TypeError, "`cl`"),
    "lb complex": (lambda: made(lb=np.ones(4) * 1j), TypeError, "`lb`"),
    "lb nan": (lambda: made(lb=[1, np.nan, 1, 1]), ValueError, r"`lb\[1\]`"),
    "ub nan": (lambda: made(ub=[5, 5, 5, np.nan]), ValueError, r"`ub\[3\]`"),
    "cl nan": (lambda: made(cl=[np.nan, 40]), ValueError, r"`cl\[0\]`"),
    "cu nan": (lambda: made(cu=[25, np.nan]), ValueError, r"`cu\[1\]`"),
    # options
    "unknown option": (lambda: option("tolerance", 1e-8), pounce.OptionError, "tol"),
    "option name number": (lambda: option(3, 1e-8), pounce.OptionError, "name"),
    "tol zero": (lambda: option("tol", 0.0), pounce.OptionError, "tol"),
    "tol negative": (lambda: option("tol", -1e-8), pounce.OptionError, "tol"),
    "tol text": (lambda: option("tol", "small"), pounce.OptionError, "tol"),
    "tol nan": (lambda: option("tol", np.nan), pounce.OptionError, "tol"),
    "tol bool": (lambda: option("tol", True), pounce.OptionError, "tol"),
    "tol none": (lambda: option("tol", None), pounce.OptionError, "tol"),
    "tol vector": (lambda: option("tol", np.ones(2)), pounce.OptionError, "tol"),
    "max_iter fraction": (lambda: option("max_iter", 1.5), pounce.OptionError, "max_iter"),
    "max_iter negative": (lambda: option("max_iter", -1), pounce.OptionError, "max_iter"),
    "max_iter huge": (lambda: option("max_iter", 2**40), pounce.OptionError, "max_iter"),
    "mu_strategy": (lambda: option("mu_strategy", "clever"), pounce.OptionError, "mu_strategy"),
    "mu_strategy number": (lambda: option("mu_strategy", 1), pounce.OptionError, "mu_strategy"),
    "hessian_approximation": (lambda: option("hessian_approximation", "bfgs"), pounce.OptionError, "limited-memory"),
    "print_level": (lambda: option("print_level", 13), pounce.OptionError, "print_level"),
    "bound_push": (lambda: option("bound_push", 0.0), pounce.OptionError, "bound_push"),
    "derivative_test": (lambda: option("derivative_test", "third-order"), pounce.OptionError, "derivative_test"),
    # solve
    "no start": (lambda: made().solve(), TypeError, "`x0`"),
    "two starts": (lambda: made().solve(HS071.x0, x=HS071.x0), TypeError, "`x0`"),
    "x0 short": (lambda: solved(x0=[1.0, 5.0, 5.0]), ValueError, "`x0`"),
    "x0 scalar": (lambda: solved(x0=1.0), ValueError, "`x0`"),
    "x0 matrix": (lambda: solved(x0=np.ones((4, 1))), ValueError, "`x0`"),
    "x0 text": (lambda: solved(x0="abcd"), TypeError, "`x0`"),
    "x0 nan": (lambda: solved(x0=[1, np.nan, 5, 1]), ValueError, r"`x0\[1\]`"),
    "x0 infinite": (lambda: solved(x0=[1, 5, 5, np.inf]), ValueError, r"`x0\[3\]`"),
    "lagrange short": (lambda: solved(lagrange=[1.0]), ValueError, "`lagrange`"),
    "zl long": (lambda: solved(zl=np.ones(5)), ValueError, "`zl`"),
    "zu text": (lambda: solved(zu=["x"] * 4), TypeError, "`zu`"),
    # scaling
    "obj_scaling zero": (lambda: scaling(obj_scaling=0.0), ValueError, "`obj_scaling`"),
    "obj_scaling nan": (lambda: scaling(obj_scaling=np.nan), ValueError, "`obj_scaling`"),
    "x_scaling short": (lambda: scaling(x_scaling=[1.0]), ValueError, "`x_scaling`"),
    "x_scaling negative": (lambda: scaling(x_scaling=[1, -1, 1, 1]), ValueError, "`x_scaling`"),
    "g_scaling zero": (lambda: scaling(g_scaling=[1.0, 0.0]), ValueError, "`g_scaling`"),
    "g_scaling long": (lambda: scaling(g_scaling=np.ones(3)), ValueError, "`g_scaling`"),
    # answers of callbacks
    "objective none": (lambda: answering("objective", None), TypeError, "`objective`"),
    "objective text": (lambda: answering("objective", "x"), TypeError, "`objective`"),
    "gradient none": (lambda: answering("gradient", None), TypeError, "`gradient`"),
    "constraints none": (lambda: answering("constraints", None), TypeError, "`constraints`"),
    "jacobian text": (lambda: answering("jacobian", "abc"), TypeError, "`jacobian`"),
    "hessian complex": (lambda: answering("hessian", np.ones(10) * 1j), TypeError, "`hessian`"),
    "jacobianstructure none": (lambda: answering("jacobianstructure", None), ValueError, "`jacobianstructure`"),
    "jacobianstructure triple": (lambda: answering("jacobianstructure", ([0], [0], [0])), ValueError, "`jacobianstructure`"),
    "jacobianstructure float": (lambda: answering("jacobianstructure", ([0.5], [0.5])), TypeError, "`jacobianstructure`"),
    "jacobianstructure row": (lambda: answering("jacobianstructure", ([2], [0])), ValueError, "row index of 2"),
    "jacobianstructure column": (lambda: answering("jacobianstructure", ([0], [-1])), ValueError, "column index of -1"),
    "hessianstructure column": (lambda: answering("hessianstructure", ([0], [4])), ValueError, "column index of 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input(name):
    action, error, text = BAD[name]
    with pytest.raises(error, match=text):
        action()


def test_good_input_still_works_afterwards():
    x, info = solved()
    assert info["status"] == 0
    np.testing.assert_allclose(x, HS071.solution, atol=1e-6)
