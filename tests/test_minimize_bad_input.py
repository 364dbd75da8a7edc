"""What `pounce.minimize` says to input it cannot take: the class of the error, and the name of the argument in its message."""

import warnings

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint
from scipy.sparse import csr_array

from pounce import OptionError, minimize


INF, NAN = np.inf, np.nan


def fun(x):
    return (x[0] - 1.0) ** 2 + (x[1] - 1.0) ** 2


def jac(x):
    return 2.0 * (x - 1.0)


def ineq(function=lambda x: x[0], **more):
    return {"type": "ineq", "fun": function, **more}


def rows(lb=0.0, ub=INF, **more):
    return NonlinearConstraint(lambda x: [x[0], x[1]], lb, ub, **more)


def changing(patterns):
    """A Jacobian whose sparsity pattern moves from one call to the next."""
    calls = iter(patterns)
    return lambda x: csr_array(([1.0], ([0], [next(calls, 1)])), shape=(1, 2))


def late(first, then):
    """Answers `first` once, then something else."""
    answers = iter([first])
    return lambda x: next(answers, then)


CASES = {
    # x0
    "x0 nan": (ValueError, "x0[1]", {"x0": [0.0, NAN]}),
    "x0 inf": (ValueError, "x0[0]", {"x0": [INF, 0.0]}),
    "x0 matrix": (ValueError, "`x0` must be a vector", {"x0": [[0.0, 0.0]]}),
    "x0 complex": (TypeError, "`x0`", {"x0": [1j, 0.0]}),
    "x0 text": (TypeError, "`x0`", {"x0": "ab"}),
    "x0 digits": (TypeError, "`x0`", {"x0": ["1", "2"]}),
    "x0 None": (TypeError, "`x0`", {"x0": None}),
    "x0 ragged": (TypeError, "`x0`", {"x0": [[1.0], [1.0, 2.0]]}),
    "x0 date": (TypeError, "`x0`", {"x0": np.array(["2020-01-01"] * 2, dtype="datetime64[D]")}),
    # fun
    "fun number": (TypeError, "`fun` must be callable", {"fun": 3.0}),
    "fun None": (TypeError, "`fun` must be callable", {"fun": None}),
    "fun returns None": (TypeError, "`fun` must return", {"fun": lambda x: None}),
    "fun returns text": (TypeError, "`fun` must return", {"fun": lambda x: "1.0"}),
    "fun returns complex": (TypeError, "`fun` must return", {"fun": lambda x: 1j}),
    "fun returns a vector": (ValueError, "`fun` must return a scalar, got shape (2,)", {"fun": lambda x: np.array(x)}),
    "fun returns nothing": (ValueError, "`fun` must return a scalar, got shape (0,)", {"fun": lambda x: []}),
    "fun returns a vector later": (
        ValueError,
        "`fun` must return a scalar",
        {"fun": late(1.0, [1.0, 2.0]), "jac": jac},
    ),
    "fun wants more arguments": (TypeError, "positional argument", {"fun": lambda x, a: a, "jac": jac}),
    "fun without its gradient": (ValueError, "pair (value, gradient)", {"jac": True}),
    "fun with three parts": (ValueError, "pair (value, gradient)", {"fun": lambda x: (1.0, x, x), "jac": True}),
    # jac, hess, hessp
    "jac number": (ValueError, "`jac` must be callable", {"jac": 1.0}),
    "jac scheme": (ValueError, "`jac` must be callable, one of 2-point", {"jac": "4-point"}),
    "jac short": (ValueError, "`jac` must return shape (2,), got shape (1,)", {"jac": lambda x: [1.0]}),
    "jac matrix": (ValueError, "`jac` must return shape (2,)", {"jac": lambda x: np.eye(2)}),
    "jac None": (TypeError, "`jac` must return", {"jac": lambda x: None}),
    "jac of a pair": (ValueError, "`jac` must return shape (2,)", {"fun": lambda x: (fun(x), [1.0]), "jac": True}),
    "jac cs of a real function": (
        ValueError,
        "complex number(s) for the scheme 'cs'",
        {"fun": lambda x: fun(np.real(x)), "jac": "cs"},
    ),
    "hess True": (ValueError, "`hess` must be callable", {"hess": True}),
    "hess matrix": (ValueError, "`hess` must be callable", {"hess": np.eye(2)}),
    "hess shape": (ValueError, "`hess` must return shape (2, 2), got shape (2,)", {"jac": jac, "hess": lambda x: x}),
    "hess None": (TypeError, "`hess` must return", {"jac": jac, "hess": lambda x: None}),
    "hess of differences": (
        ValueError,
        "`hess` = '3-point' takes differences of first derivatives",
        {"jac": "3-point", "hess": "3-point"},
    ),
    "hessp number": (TypeError, "`hessp` must be callable", {"hessp": 2.0}),
    "hessp shape": (ValueError, "`hessp` must return shape (2,)", {"jac": jac, "hessp": lambda x, p: [1.0]}),
    "hessp text": (TypeError, "must return real numbers", {"jac": jac, "hessp": lambda x, p: ["a", "b"]}),
    # bounds
    "bounds short": (ValueError, "bounds has 1 entries but the problem has n = 2", {"bounds": [(0, 1)]}),
    "bounds long": (ValueError, "bounds has 3 entries but the problem has n = 2", {"bounds": [None] * 3}),
    "bounds object long": (ValueError, "bounds has 3 entries but", {"bounds": Bounds([0, 0, 0], [1, 1, 1])}),
    "bounds nan": (ValueError, "bounds[1] is NaN", {"bounds": [None, (NAN, 1)]}),
    "bounds object nan": (ValueError, "bounds[0] is NaN", {"bounds": Bounds([NAN, 0], [1, 1])}),
    "bounds reversed": (ValueError, "bounds[0] is reversed", {"bounds": [(1, 0), None]}),
    "bounds object reversed": (ValueError, "bounds[1] is reversed", {"bounds": Bounds([0, 2], 1)}),
    "bounds lower inf": (ValueError, "bounds[0] = (inf", {"bounds": [(INF, None), None]}),
    "bounds upper -inf": (ValueError, "bounds[1] = (-inf, -inf)", {"bounds": [None, (None, -INF)]}),
    "bounds triple": (ValueError, "bounds[0] must be None or a pair", {"bounds": [(0, 1, 2), None]}),
    "bounds number": (ValueError, "bounds[0] must be None or a pair", {"bounds": [0.0, 1.0]}),
    "bounds text": (TypeError, "`bounds` must be a sequence", {"bounds": "01"}),
    "bounds text entry": (ValueError, "bounds[1] must be None or a pair", {"bounds": [None, "01"]}),
    "bounds one number": (TypeError, "`bounds` must be a sequence", {"bounds": 1.0}),
    "bounds dictionary": (TypeError, "`bounds` must be a sequence", {"bounds": {0: (0, 1)}}),
    "bounds of words": (ValueError, "bounds[0] must be None or a pair", {"bounds": [("a", "b"), None]}),
    # constraints
    "constraint without type": (
        ValueError,
        'constraints[0] is missing required key "type"',
        {"constraints": {"fun": fun}},
    ),
    "constraint without fun": (
        ValueError,
        'constraints[1] is missing required key "fun"',
        {"constraints": [ineq(), {"type": "eq"}]},
    ),
    "constraint type": (ValueError, 'constraints[0]["type"] must be "eq"', {"constraints": {"type": "le", "fun": fun}}),
    "constraint type number": (ValueError, 'constraints[0]["type"]', {"constraints": {"type": 1, "fun": fun}}),
    "constraint fun number": (ValueError, 'constraints[0]["fun"] must be callable', {"constraints": ineq(1.0)}),
    "constraint jac number": (ValueError, 'constraints[0]["jac"]` must be callable', {"constraints": ineq(jac=1.0)}),
    "constraint jac True": (ValueError, 'constraints[0]["jac"]` must be callable', {"constraints": ineq(jac=True)}),
    "constraint hess text": (
        ValueError,
        'constraints[0]["hess"]` must be callable',
        {"constraints": ineq(hess="exact")},
    ),
    "constraint tuple": (ValueError, "constraints[0] must be a dict", {"constraints": [("ineq", fun)]}),
    "constraint function": (ValueError, "constraints", {"constraints": fun}),
    "constraint text": (ValueError, "`constraints` must be", {"constraints": "ineq"}),
    "constraint number": (ValueError, "`constraints` must be", {"constraints": 1}),
    "constraint bounds": (ValueError, "constraints[0] must be a dict", {"constraints": [Bounds(0, 1)]}),
    "constraint returns None": (TypeError, 'constraints[0]["fun"]` must return', {"constraints": ineq(lambda x: None)}),
    "constraint returns a matrix": (
        ValueError,
        'constraints[0]["fun"]` must return a scalar or a vector, got shape (2, 2)',
        {"constraints": ineq(lambda x: np.eye(2))},
    ),
    "constraint of another size later": (
        ValueError,
        'constraints[0]["fun"]` must return shape (1,), got shape (2,)',
        {"constraints": ineq(late([1.0], [1.0, 1.0]), jac=lambda x: [1.0, 0.0])},
    ),
    "constraint Jacobian shape": (
        ValueError,
        'constraints[0]["jac"]` must return shape (1, 2), got shape (3, 3)',
        {"constraints": ineq(jac=lambda x: np.eye(3))},
    ),
    "constraint Jacobian transposed": (
        ValueError,
        'constraints[0]["jac"]` must return shape (1, 2), got shape (2, 1)',
        {"constraints": ineq(jac=lambda x: [[1.0], [0.0]])},
    ),
    "constraint Hessian shape": (
        ValueError,
        'constraints[0]["hess"]` must return shape (2, 2)',
        {"constraints": ineq(lambda x: x[0] - 3.0, jac=lambda x: [1.0, 0.0], hess=lambda x, v: np.zeros(3))},
    ),
    "constraint Hessian of differences": (
        ValueError,
        "takes differences of first derivatives",
        {"constraints": ineq(jac="3-point", hess="2-point")},
    ),
    "constraint pattern": (ValueError, "sparsity pattern changed", {"constraints": ineq(jac=changing([0, 0, 1]))}),
    "linear columns": (
        ValueError,
        "constraints[0].A must have n = 2 columns",
        {"constraints": LinearConstraint(np.eye(3), 0, 1)},
    ),
    "linear nan": (
        ValueError,
        "constraints[0].A must be finite",
        {"constraints": LinearConstraint([[NAN, 1.0]], 0, 1)},
    ),
    "linear reversed": (ValueError, "constraints[0][0] is reversed", {"constraints": LinearConstraint([[1, 1]], 1, 0)}),
    "linear bound nan": (
        ValueError,
        "constraints[0][1] is NaN",
        {"constraints": LinearConstraint(np.eye(2), [0, NAN], 1)},
    ),
    "nonlinear size": (
        ValueError,
        "constraints[0].lb has 3 entries but the constraint has 2 rows",
        {"constraints": rows([0, 0, 0])},
    ),
    "nonlinear reversed": (ValueError, "constraints[0][1] is reversed", {"constraints": rows([0, 2], 1)}),
    "nonlinear nan": (ValueError, "constraints[0][0] is NaN", {"constraints": rows(NAN)}),
    "nonlinear impossible": (ValueError, "cannot be met", {"constraints": [rows(INF)]}),
    "nonlinear text": (TypeError, "constraints[0].ub", {"constraints": [rows(ub="big")]}),
    "nonlinear fun": (
        ValueError,
        "constraints[0].fun must be callable",
        {"constraints": NonlinearConstraint(None, 0, 1)},
    ),
    "nonlinear sparsity": (
        ValueError,
        "constraints[0].finite_diff_jac_sparsity` must have shape (2, 2), got shape (3, 2)",
        {"constraints": rows(finite_diff_jac_sparsity=np.ones((3, 2)))},
    ),
    "nonlinear sparsity text": (
        ValueError,
        "constraints[0].finite_diff_jac_sparsity` must be a matrix of numbers",
        {"constraints": rows(finite_diff_jac_sparsity=[["a", "b"]])},
    ),
    "nonlinear jac": (ValueError, "constraints[0].jac` must be callable", {"constraints": rows(jac="exact")}),
    "nonlinear Jacobian shape": (
        ValueError,
        "constraints[0].jac` must return shape (2, 2)",
        {"constraints": rows(jac=lambda x: [1.0, 2.0])},
    ),
    # options
    "tol zero": (ValueError, "tol", {"tol": 0.0}),
    "tol negative": (ValueError, "tol", {"tol": -1e-8}),
    "tol one": (ValueError, "`tol` must be finite, positive and less than 1", {"tol": 1.0}),
    "tol inf": (ValueError, "tol", {"tol": INF}),
    "tol nan": (ValueError, "tol", {"tol": NAN}),
    "tol text": (ValueError, "tol", {"tol": "small"}),
    "tol True": (ValueError, "tol", {"tol": True}),
    "tol of the options": (ValueError, "`tol` must be", {"options": {"ftol": 2.0}}),
    "max_iter zero": (ValueError, "`max_iter` must be a positive integer", {"options": {"maxiter": 0}}),
    "max_iter negative": (ValueError, "max_iter", {"options": {"max_iter": -1}}),
    "max_iter fraction": (ValueError, "max_iter", {"options": {"maxiter": 10.5}}),
    "max_iter text": (ValueError, "max_iter", {"options": {"maxiter": "ten"}}),
    "options list": (TypeError, "`options` must be a mapping", {"options": [("tol", 1e-8)]}),
    "options number": (TypeError, "`options` must be a mapping", {"options": 1e-8}),
    "unknown option": (OptionError, "max_iter", {"options": {"max_itr": 10}}),
    "unknown keyword": (OptionError, "bound", {"bound_relax": 0.0}),
    "option of another method": (
        OptionError,
        'Unknown option "initial_tr_radius"',
        {"options": {"initial_tr_radius": 1.0}},
    ),
    "option value": (OptionError, "mu_strategy", {"mu_strategy": "fast"}),
    "option name": (OptionError, "name of an option", {"options": {1: 2}}),
    "selector": (ValueError, "solver_selection", {"options": {"solver_selection": "simplex"}}),
    "selector of later": (ValueError, 'solver_selection="qp-ipm" is not available yet', {"solver_selection": "qp-ipm"}),
    "route_tol": (ValueError, "route_tol", {"options": {"route_tol": -1.0}}),
    # the rest
    "callback number": (TypeError, "`callback` must be callable", {"callback": 1}),
    "method number": (TypeError, "`method` must be a name", {"method": 1}),
    "warm_start number": (TypeError, "`warm_start` must be a result", {"warm_start": 1.0}),
    "warm_start empty": (TypeError, "`warm_start` must be a result", {"warm_start": {}}),
}


@pytest.mark.parametrize(("error", "message", "keywords"), CASES.values(), ids=CASES.keys())
def test_bad_input(error, message, keywords):
    arguments = {"fun": fun, "x0": [0.0, 0.0]} | keywords
    with warnings.catch_warnings(), pytest.raises(error) as caught:
        warnings.simplefilter("ignore")
        minimize(**arguments)
    assert message in str(caught.value)


def test_the_process_survives():
    assert minimize(fun, [0.0, 0.0]).success


def test_warm_starts_of_other_problems():
    other = minimize(lambda x: x[0] ** 2 + x[1] ** 2, [1.0, 2.0], constraints=ineq())
    with pytest.raises(ValueError, match=r"`warm_start.x` has 2 entries but the problem has n = 3"):
        minimize(lambda x: x @ x, [1.0, 2.0, 3.0], warm_start=other)
    with pytest.raises(ValueError, match=r"`warm_start.mult_g` has 1 entries but the constraints have 0 rows"):
        minimize(fun, [0.0, 0.0], warm_start=other)


def test_arguments_given_twice():
    with pytest.raises(TypeError, match="multiple values for argument `jac`"):
        minimize(fun, [0.0, 0.0], jac, jac=jac)
    with pytest.raises(TypeError, match="at most 7 positional"):
        minimize(fun, [0.0, 0.0], jac, None, None, (), {}, None)


def test_what_cannot_be_kept_feasible_is_warned_about():
    with pytest.warns(UserWarning, match="keep_feasible"):
        minimize(fun, [0.0, 0.0], constraints=LinearConstraint([1, 1], 0, 1, keep_feasible=True))
