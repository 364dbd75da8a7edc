"""One rule of failure for the functions of `pounce.jax`: said aloud where it can be, a status or a number where it cannot."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce.jax import JaxProblem, QpLayer, solve, solve_qp, solve_qp_batch, solve_with_warm, vmap_solve


def objective(x, p):
    return jnp.sum((x - p[:2]) ** 2)


def rows(x, p):
    """Within the unit box their sum is at most two: ``p[2]`` beyond that is asked for in vain."""
    return jnp.array([x[0] + x[1] - p[2]])


FUNCTIONS = dict(f=objective, g=rows, m=1, lb=0.0, ub=1.0, cl=0.0)
HOW = dict(n=2, x0=jnp.full(2, 0.5), **FUNCTIONS)
GOOD, BAD = jnp.array([0.7, 0.3, 1.4]), jnp.array([0.7, 0.3, 2.5])
BATCH = jnp.stack([GOOD, BAD, GOOD + 0.05])
BOX = dict(P=np.eye(2), c=np.array([-1.0, 0.5]), A=np.ones((1, 2)), lb=0.0, ub=1.0)


def silent(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def test_eager_nonlinear():
    """A warning by default, an error or silence if that is asked for, whether or not anybody differentiates."""
    with pytest.warns(RuntimeWarning, match="Infeasible_Problem_Detected"):
        x = solve(BAD, **HOW)
    assert np.all(np.isfinite(x))
    with pytest.raises(RuntimeError, match="Infeasible_Problem_Detected"):
        solve(BAD, **HOW, on_failure="raise")
    np.testing.assert_array_equal(silent(lambda: solve(BAD, **HOW, on_failure="ignore")), x)
    with pytest.warns(RuntimeWarning, match="Infeasible_Problem_Detected"):
        solve(BAD, **HOW, on_failure="nan")
    whole = silent(lambda: solve(BAD, **HOW, full=True))
    assert not whole.success and whole.status == pounce.Status.Infeasible_Problem_Detected
    np.testing.assert_allclose(silent(lambda: solve(GOOD, **HOW)), [0.9, 0.5], atol=1e-7)
    with pytest.warns(RuntimeWarning, match=r"Maximum_Iterations_Exceeded"):
        solve(GOOD, **HOW, options={"max_iter": 2})
    with pytest.raises(ValueError, match="`on_failure`"):
        solve(GOOD, **HOW, on_failure="perhaps")


def test_eager_batches_and_problems():
    """Which lane it was; and the same of all methods of a `JaxProblem`."""
    lane = r"in lane 1 \(1 of 3 lanes failed\)"
    with pytest.warns(RuntimeWarning, match=lane):
        vmap_solve(BATCH, **HOW)
    with pytest.raises(RuntimeError, match=lane):
        vmap_solve(BATCH, **HOW, on_failure="raise")
    problem = JaxProblem(n=2, p_example=GOOD, **FUNCTIONS)
    with pytest.warns(RuntimeWarning, match=lane):
        problem.vmap_solve(BATCH, HOW["x0"])
    whole = silent(lambda: problem.vmap_solve(BATCH, HOW["x0"], full=True))
    np.testing.assert_array_equal(whole.success, [True, False, True])
    np.testing.assert_array_equal(whole.quality.differentiable, [True, False, True])
    with pytest.warns(RuntimeWarning, match="Infeasible_Problem_Detected"):
        problem.solve(BAD, HOW["x0"])
    with pytest.warns(RuntimeWarning, match="Infeasible_Problem_Detected"):
        solve_with_warm(BAD, **HOW)


def test_traced_nonlinear():
    """The last iterate with a derivative of zero, no callback in the program; the status if the whole solution is wanted."""

    def cost(p):
        return jnp.sum(solve(p, **HOW) ** 2)

    program = jax.make_jaxpr(jax.vmap(jax.value_and_grad(cost)))(BATCH)
    assert "callback" not in str(program)
    values, gradients = silent(lambda: jax.jit(jax.vmap(jax.value_and_grad(cost)))(BATCH))
    assert np.all(np.isfinite(values))
    np.testing.assert_array_equal(gradients[1], 0.0)
    assert np.all(np.any(gradients[jnp.array([0, 2])] != 0, axis=1))
    whole = jax.jit(lambda p: solve(p, **HOW, full=True))(BAD)
    assert int(whole.status) == pounce.Status.Infeasible_Problem_Detected and not bool(whole.success)
    with pytest.raises(Exception, match="did not succeed"):
        jax.block_until_ready(jax.jit(lambda p: solve(p, **HOW, on_failure="raise"))(BAD))


def test_convex():
    """An error by default; NaN where nothing can be raised; the last iterate where that is asked for."""
    good, bad, layer = np.array([1.0]), np.array([5.0]), QpLayer(**{k: v for k, v in BOX.items() if k != "c"})
    c = BOX["c"]
    with pytest.raises(RuntimeError, match="primal_infeasible"):
        solve_qp(**BOX, b=bad)
    with pytest.raises(RuntimeError, match="numerical_failure'. Is `P` positive semidefinite"):
        solve_qp(**BOX | dict(P=np.diag([-300.0, -200.0])), b=good)
    with pytest.warns(RuntimeWarning, match="primal_infeasible"):
        x = solve_qp(**BOX, b=bad, on_failure="warn")
    assert np.all(np.isfinite(x)) and np.all(np.isfinite(silent(lambda: solve_qp(**BOX, b=bad, on_failure="ignore"))))
    whole = silent(lambda: layer(c, b=bad, full=True))
    assert whole.status == pounce.ConicStatus.Primal_Infeasible and not whole.quality.differentiable
    both = dict(BOX, c=np.stack([c, c]), b=np.stack([good, bad]))
    with pytest.raises(RuntimeError, match=r"lane 1 \(1 of 2"):
        solve_qp_batch(**both)
    np.testing.assert_array_equal(silent(lambda: solve_qp_batch(**both, full=True)).success, [True, False])

    def traced(on_failure):
        def cost(b):
            return jnp.sum(solve_qp(**BOX, b=b, on_failure=on_failure) ** 2)

        return silent(lambda: jax.jit(jax.vmap(jax.value_and_grad(cost)))(jnp.array([[1.0], [5.0]])))

    for on_failure, finite in ((None, False), ("ignore", True)):
        values, gradients = traced(on_failure)
        assert np.isfinite(values[0]) and bool(np.isfinite(values[1])) is finite
        assert gradients[0] != 0 and gradients[1] == 0
