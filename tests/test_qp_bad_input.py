"""What the host door of convex programs says to input that makes no sense: a `ValueError` that names the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from pounce import QpFactorization, QpSensitivity, solve_qp, solve_qp_batch, solve_qp_multi_rhs, solve_socp


def good():
    return dict(
        P=np.eye(2), c=np.zeros(2), A=np.ones((1, 2)), b=[2.0], G=np.eye(2), h=np.ones(2), lb=np.zeros(2), ub=np.ones(2)
    )


def without(*names):
    return {name: value for name, value in good().items() if name not in names}


def conic(**changes):
    return dict(c=np.zeros(2), G=-np.eye(2), h=np.ones(2), cones=[("nonneg", 2)]) | changes


BAD_DATA = [
    ({"c": None}, "`c` is missing"),
    ({"c": []}, "`c` must"),
    ({"c": np.zeros((2, 1))}, r"`c` .*\(2, 1\)"),
    ({"c": ["a", "b"]}, "`c` must"),
    ({"c": [1j, 0]}, "`c` must be made of real numbers"),
    ({"c": [[1.0], [1.0, 2.0]]}, "`c` must"),
    ({"c": [None, 1.0]}, "`c` must"),
    ({"c": [np.nan, 0]}, r"`c\[0\]` is nan"),
    ({"P": np.eye(3)}, r"`P` must have shape \(2, 2\).*\(3, 3\)"),
    ({"P": np.ones(2)}, "`P` must have shape"),
    ({"P": [[1.0, 0], [np.inf, 1]]}, r"`P\[1, 0\]` is inf"),
    ({"P": [[1.0, 0], [0, -1]]}, "`P` must be positive semidefinite.*-1"),
    ({"P": sp.csr_array([[1.0, 0], [3, 1]])}, "positive semidefinite"),
    ({"P": -1e-7 * np.eye(2)}, "positive semidefinite"),
    ({"A": np.ones((1, 3))}, r"`A` must have shape \(rows, 2\)"),
    ({"A": np.ones(2)}, "`A` must have shape"),
    ({"A": [[np.nan, 1]]}, r"`A\[0, 0\]` is nan"),
    ({"A": None}, "`A` is missing"),
    ({"b": None}, "`b` is missing"),
    ({"b": [1.0, 2]}, "`b` must have length 1"),
    ({"b": [np.inf]}, r"`b\[0\]` is inf"),
    ({"G": np.ones((2, 3))}, r"`G` must have shape \(rows, 2\)"),
    ({"G": [[1.0, 1], [1, -np.inf]]}, r"`G\[1, 1\]` is -inf"),
    ({"G": None}, "`G` is missing"),
    ({"h": None}, "`h` is missing"),
    ({"h": [1.0]}, "`h` must have length 2"),
    ({"h": [1.0, np.nan]}, r"`h\[1\]` is nan"),
    ({"h": [1.0, np.inf]}, r"`h\[1\]` is inf"),
    ({"lb": [0.0]}, "`lb` must have length 2"),
    ({"lb": [np.nan, 0]}, r"`lb\[0\]` is NaN"),
    ({"lb": [0, np.inf]}, r"`lb\[1\]` is inf"),
    ({"ub": np.ones(3)}, "`ub` must have length 2"),
    ({"ub": [0, np.nan]}, r"`ub\[1\]` is NaN"),
    ({"ub": -np.inf}, r"`ub\[0\]` is -inf"),
]
BAD_LIMITS = [
    ({"tol": 0.0}, "`tol`"),
    ({"tol": 1}, "`tol`"),
    ({"tol": np.nan}, "`tol`"),
    ({"tol": "1e-8"}, "`tol`"),
    ({"max_iter": 0}, "`max_iter`"),
    ({"max_iter": -3}, "`max_iter`"),
    ({"max_iter": 10.0}, "`max_iter`"),
    ({"max_iter": True}, "`max_iter`"),
]
BAD_TIMES = [({"time_limit": value}, "`time_limit`") for value in (-1.0, np.inf, np.nan, "1", True)]


@pytest.mark.parametrize(("change", "message"), BAD_DATA + BAD_LIMITS + BAD_TIMES)
def test_solve_qp(change, message):
    with pytest.raises(ValueError, match=message):
        solve_qp(**good() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"check_psd": "yes"}, "`check_psd`"),
        ({"tau": 0.0}, "`tau`"),
        ({"tau": 1.0}, "`tau`"),
        ({"tau": "0.5"}, "`tau`"),
        ({"tau_max": 1.5}, "`tau_max`"),
        ({"method": "simplex"}, "`method` must be 'ipm' or 'active-set'"),
        ({"method": "active-set", "warm_start": {"x": np.zeros(2)}}, "`warm_start`"),
        ({"warm_start": np.zeros(2)}, "`warm_start`"),
        ({"warm_start": {"x": ["a", "b"]}}, "`warm_start.x`"),
    ],
)
def test_solve_qp_options(change, message):
    with pytest.raises(ValueError, match=message):
        solve_qp(**good() | change)


def test_convexity_is_checked_as_asked():
    crooked = dict(P=np.diag([1.0, -0.5]), c=np.zeros(2), A=np.eye(2), b=np.ones(2))
    assert solve_qp(**crooked, check_psd=False).status  # whatever it is
    with pytest.raises(ValueError, match="positive semidefinite"):
        solve_qp(**crooked, check_psd=True)
    solve_qp(**without() | {"P": np.diag([1.0, -0.9e-8])})  # within the tolerance
    large = dict(P=sp.diags_array(-np.ones(1501)), c=np.zeros(1501))
    with pytest.raises(ValueError, match="positive semidefinite"):
        solve_qp(**large, check_psd=True)


@pytest.mark.parametrize(("change", "message"), [case for case in BAD_DATA if set(case[0]) <= {"c", "P", "A", "G"}][:8])
def test_every_door_checks(change, message):
    bad = good() | change
    with pytest.raises(ValueError, match=message):
        QpFactorization(**bad)
    with pytest.raises(ValueError, match=message):
        QpSensitivity(**bad)
    with pytest.raises(ValueError, match=r"problems\[1\].*" + message):
        solve_qp_batch([good(), bad])
    if change.get("c", "") is not None:
        with pytest.raises(ValueError, match=message):
            solve_qp_multi_rhs(**bad, cs=np.zeros((2, 2)))


@pytest.mark.parametrize(("change", "message"), BAD_LIMITS)
def test_every_door_checks_limits(change, message):
    for call in (
        lambda: QpFactorization(**good() | change),
        lambda: QpSensitivity(**good() | change),
        lambda: solve_qp_batch([good()], **change),
        lambda: solve_qp_multi_rhs(**good() | change, cs=np.zeros((2, 2))),
        lambda: solve_socp(**conic() | change),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("cones", "message"),
    [
        (None, "`cones` must be a sequence"),
        ("nonneg", "`cones` must be a sequence"),
        ([("nonneg", 1)], "`cones` cover 1 rows, but `G` has 2 rows"),
        ([("nonneg", 3)], "`cones` cover 3 rows, but `G` has 2 rows"),
        ([], "`cones` cover 0 rows"),
        ([("zero", 2)], r"`cones\[0\]` has the unknown kind 'zero'"),
        ([("nonneg", 0), ("soc", 0)], r"`cones\[1\]`"),
        ([("nonneg", -1)], r"`cones\[0\]`"),
        ([("soc", 1.5)], r"`cones\[0\]`"),
        ([0], r"`cones\[0\]`"),
        ([-2], r"`cones\[0\]`"),
        ([("psd", 0)], r"`cones\[0\]`"),
        ([("psd", 1.5)], r"`cones\[0\]`"),
        ([("pow", 0)], r"`cones\[0\]`.*\(0, 1\)"),
        ([("pow", 1.0)], r"`cones\[0\]`.*\(0, 1\)"),
        ([("nonneg", 2, 3)], r"`cones\[0\]` must be a pair"),
        ([None], r"`cones\[0\]` must be a pair"),
    ],
)
def test_cones(cones, message):
    with pytest.raises(ValueError, match=message):
        solve_socp(**conic(cones=cones))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": None}, "`c` is missing"),
        ({"h": [1.0, np.nan]}, r"`h\[1\]`"),
        ({"P": -np.eye(2)}, "positive semidefinite"),
        ({"time_limit": -1}, "`time_limit`"),
    ],
)
def test_solve_socp(change, message):
    with pytest.raises(ValueError, match=message):
        solve_socp(**conic(**change))


def test_solve_socp_has_no_bounds():
    with pytest.raises(TypeError, match="lb"):
        solve_socp(**conic(lb=np.zeros(2)))


def test_batch():
    for problems, message in ((good(), "`problems` must be a sequence"), (3, "`problems`"), ([3], r"`problems\[0\]`")):
        with pytest.raises(ValueError, match=message):
            solve_qp_batch(problems)
    with pytest.raises(ValueError, match=r"`problems\[1\]` has the unknown key 'Q'"):
        solve_qp_batch([good(), good() | {"Q": 1}])
    with pytest.raises(ValueError, match="`warm_starts` has length 1, but there are 2 problems"):
        solve_qp_batch([good(), good()], warm_starts=[None])
    with pytest.raises(ValueError, match=r"`warm_starts\[0\]`"):
        solve_qp_batch([good()], warm_starts=[np.zeros(2)])
    with pytest.raises(ValueError, match="`time_limit`"):
        solve_qp_batch([good()], time_limit=-1)


@pytest.mark.parametrize(
    ("cs", "message"),
    [
        ([], "`cs` must have shape"),
        (np.zeros((0, 2)), "`cs` must have shape"),
        (np.zeros(2), "`cs` must have shape"),
        (np.zeros((3, 4)), "`cs` must have rows of length 2"),
        ([[0, 0], [0, np.nan]], r"`cs\[1, 1\]` is nan"),
        ([["a", "b"]], "`cs`"),
    ],
)
def test_multi_rhs(cs, message):
    with pytest.raises(ValueError, match=message):
        solve_qp_multi_rhs(**good(), cs=cs)


def test_factorization():
    solver = QpFactorization(**good())
    with pytest.raises(ValueError, match="`c` is missing"):
        solver.solve(**without("c"))
    with pytest.raises(ValueError, match=r"`h\[0\]` is nan"):
        solver.solve(**good() | {"h": [np.nan, 1]})
    with pytest.raises(ValueError, match="`warm_start`"):
        solver.solve(**good(), warm_start=[1.0])


def test_sensitivity():
    for value in (0.0, -1, np.inf, "x", None, True):
        with pytest.raises(ValueError, match="`active_tol`"):
            QpSensitivity(**good(), active_tol=value)
    s = QpSensitivity(P=np.eye(2), c=np.zeros(2), A=np.ones((1, 2)), b=[2.0])
    for indices, deltas, message in (
        ([1], [1.0], "`pin_constraint_indices` contains 1, but `b` has 1 entries"),
        ([-1], [1.0], "`pin_constraint_indices` contains -1"),
        ([0], [1.0, 2.0], "`deltas` must have length 1"),
        ([0], 1.0, "`deltas` must have length 1"),
        ([0.0], [1.0], "`pin_constraint_indices` must be a sequence of integers"),
        (0, [1.0], "`pin_constraint_indices` must be a sequence of integers"),
    ):
        with pytest.raises(ValueError, match=message):
            s.parametric_step(indices, deltas)
    for rank_tol in (0.0, 1.0, "x"):
        with pytest.raises(ValueError, match="`rank_tol`"):
            s.reduced_hessian(rank_tol=rank_tol)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, lambda f: lambda c: jax.vmap(f)(c[None])])
def test_under_a_transformation(transform):
    """Not for JAX: the error says what is."""
    with pytest.raises(TypeError, match="`c` is traced by JAX.*pounce.jax"):
        transform(lambda c: jnp.sum(jnp.asarray(solve_qp(P=np.eye(2), c=c).x)))(jnp.ones(2))
