"""Derivatives of `solve_conic`: forward = reverse = central differences for every cone and argument, second order."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import pounce
from pounce._conic.solution import ConicSolution
from pounce._results import ConicStatus

from .conic_programs import CONES, programs
from .optimized import OPTIMIZED
from .test_conic import mixed_example


NAMES = ("P", "c", "A", "b", "G", "h", "lb", "ub")
OUTPUTS = ("x", "y", "z", "s", "z_lb", "z_ub", "objective")
TOL = 1e-12
LANE = dict.fromkeys(CONES, 0) | {"soc": 1}  # which of the random programs: none with a kink within the differences


class Derivatives(NamedTuple):
    """Of the outputs, shape (outputs, data), and of a scalar function of them: its gradient and its Hessian."""

    solution: ConicSolution
    forward: jax.Array
    reverse: jax.Array
    gradient: jax.Array
    curvature: jax.Array


class Case:
    """A random program of a cone with some bounds added, one of each kind active: flat data to flat outputs.

    Two programs are compiled: the values of a batch, and every derivative at one point.
    """

    def __init__(self, cone):
        stack = programs(cone, "feasible")[1]
        lane, cones = LANE[cone], list(stack.cones)
        data = stack.data(lane)
        data.pop("cones")
        n = data["c"].size
        data["lb"], data["ub"] = np.full(n, -50.0), np.full(n, 50.0)
        at, self.unravel = ravel_pytree({name: jnp.asarray(data[name]) for name in NAMES})

        def solve(flat):
            return pounce.solve_conic(**self.unravel(flat), cones=cones, tol=TOL)

        def outputs(flat):
            s = solve(flat)
            return ravel_pytree([getattr(s, name) for name in OUTPUTS])[0], s

        def scalar(flat):
            value, _ = outputs(flat)
            return jnp.sum(jnp.cos(jnp.arange(value.size)) * value * (1 + value))

        def gradient(flat):
            """Of `scalar`, beside the outputs and their Jacobian in reverse."""
            value, pull, solution = jax.vjp(outputs, flat, has_aux=True)
            (slope,) = pull(jnp.cos(jnp.arange(value.size)) * (1 + 2 * value))
            return (value, slope), (jax.vmap(pull)(jnp.eye(value.size))[0], solution)

        def derivatives(flat):
            (_, slope), push, (reverse, solution) = jax.linearize(gradient, flat, has_aux=True)
            forward, curvature = jax.vmap(push, out_axes=-1)(jnp.eye(flat.size))
            return Derivatives(solution, forward, reverse, slope, curvature)

        self.derivatives = jax.jit(derivatives)
        self.solutions = jax.jit(jax.vmap(outputs))
        self.gradients = jax.jit(jax.vmap(jax.grad(scalar)))
        for _ in range(4):  # one changes the other
            # A batch of the size of the differences, so that nothing else is compiled.
            s = jax.tree.map(lambda v: v[0], self.solutions(jnp.tile(at, (4 * at.size, 1)))[1])
            data["lb"][0] += 0.0 if s.z_lb[0] > 0.01 else s.x[0] + 0.01 - data["lb"][0]
            data["ub"][1] -= 0.0 if s.z_ub[1] > 0.01 else data["ub"][1] - s.x[1] + 0.01
            at, _ = ravel_pytree({name: jnp.asarray(data[name]) for name in NAMES})
        self.at = at

    def values(self, batch):
        return np.asarray(self.solutions(batch)[0])

    def place(self, flat):
        """The argument, and the entry of it, of one position of the flat data."""
        names = self.unravel(jnp.arange(self.at.size))
        return next((name, i) for name, v in names.items() for i in np.flatnonzero(np.ravel(v) == flat))


@pytest.fixture(scope="module", params=CONES)
def cone(request):
    """Of the module, so that tests of one cone follow each other, mostly in one process, which has compiled its programs."""
    return request.param


@functools.cache
def case(cone):
    return Case(cone)


def central(function, at, directions, h):
    """Differences along rows of ``directions``, of a function that takes a batch: fourth order."""
    steps = h * np.concatenate([directions, -directions, 2 * directions, -2 * directions])
    a, b, c, d = np.split(np.asarray(function(at + steps)), 4)
    return (8 * (a - b) - (c - d)) / (12 * h)


def test_first_order(cone):
    """Every output by every argument."""
    one = case(cone)
    there = one.derivatives(one.at)
    forward, reverse, solution = there.forward, there.reverse, there.solution
    assert int(solution.status) == ConicStatus.Optimal, ConicStatus(int(solution.status))
    assert float(solution.z_lb[0]) > 1e-3 or float(solution.z_ub[1]) > 1e-3
    size = max(1.0, float(jnp.max(jnp.abs(forward))))
    np.testing.assert_allclose(forward, reverse, rtol=0, atol=1e-9 * size)
    expected = central(one.values, one.at, np.eye(one.at.size), 2e-4).T
    error = np.abs(forward - expected)
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert np.max(error) < 1e-5 * size, (np.max(error), size, worst, one.place(worst[1]))


def test_second_order(cone):
    """Forward over reverse, against differences of the gradient along random directions."""
    one = case(cone)
    directions = np.random.default_rng(0).normal(size=(6, one.at.size))
    curvature = np.asarray(one.derivatives(one.at).curvature)
    gradients = lambda batch: np.stack([one.derivatives(flat).gradient for flat in batch])
    expected = central(gradients, one.at, directions, 1e-4)
    size = max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(directions @ curvature.T, expected, rtol=0, atol=1e-4 * size)
    # Symmetry of the second derivative.
    np.testing.assert_allclose(curvature, curvature.T, rtol=0, atol=1e-7 * max(1, np.max(np.abs(curvature))))


@pytest.mark.parametrize("cone", ("soc", "exp"))
def test_vmap_of_gradient(cone):
    one = case(cone)
    batch = one.at + 1e-3 * np.random.default_rng(1).normal(size=(4 * 6, one.at.size))
    singles = np.stack([one.derivatives(flat).gradient for flat in batch[:3]])
    together = np.asarray(one.gradients(batch))[:3]
    np.testing.assert_allclose(together, singles, rtol=1e-6, atol=1e-6 * np.max(np.abs(singles)))


def test_gradient_of_P_is_symmetric():
    one = case("exp")
    P = np.asarray(one.unravel(one.derivatives(one.at).gradient)["P"])
    np.testing.assert_allclose(P, P.T, rtol=1e-12)


def test_mixed_example():
    """Known gradients of a program with all cones."""
    data, cones = mixed_example()

    def value(free):
        s = pounce.solve_conic(**(data | free), cones=cones, tol=1e-11)
        return s.x @ jnp.arange(1.0, 5.0), s

    free = {name: jnp.asarray(data[name]) for name in ("c", "b", "h")}
    (total, s), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(free)
    assert int(s.status) == ConicStatus.Optimal
    np.testing.assert_allclose(total, 3.99876050, rtol=1e-8)
    np.testing.assert_allclose(gradient["c"], [0.4701053, -0.4491888, 0.1427485, -0.1636649], atol=2e-7)
    np.testing.assert_allclose(gradient["b"], [2.2724320], atol=2e-7)
    h = np.zeros(14)
    h[1], h[5:8] = -0.0246501, (-0.4948966, -0.8196822, 0.9536078)
    np.testing.assert_allclose(gradient["h"], h, atol=2e-7)


def softmax_program(c):
    """``min -c'x + sum x log x`` over the simplex: ``t_i >= x_i log x_i`` is ``(-t_i, x_i, 1)`` in the exponential cone."""
    n = c.shape[0]
    G, h = np.zeros((3 * n, 2 * n)), np.tile([0.0, 0, 1], n)
    for i in range(n):
        G[3 * i, n + i], G[3 * i + 1, i] = 1.0, -1.0
    A = np.concatenate([np.ones((1, n)), np.zeros((1, n))], axis=1)
    return dict(c=jnp.concatenate([-c, jnp.ones(n)]), A=A, b=np.ones(1), G=G, h=h, cones=[("exp", 3)] * n)


def test_softmax():
    c = jnp.array([0.3, -1.2, 0.8])

    def x(c):
        s = pounce.solve_conic(**softmax_program(c), tol=1e-11)
        return s.x[:3], s.objective

    (value, objective), forward = jax.jit(lambda c: (x(c), jax.jacfwd(x)(c)))(c)
    reverse = jax.jit(jax.jacrev(x))(c)
    p = np.asarray(jax.nn.softmax(c))
    np.testing.assert_allclose(value, p, atol=1e-7)
    np.testing.assert_allclose(objective, -np.log(np.sum(np.exp(c))), atol=1e-9)
    for jacobian, slope in (forward, reverse):
        np.testing.assert_allclose(jacobian, np.diag(p) - np.outer(p, p), atol=1e-6)
        np.testing.assert_allclose(slope, -p, atol=1e-6)


# -- failed lanes, kinks, fixed variables ---------------------------------------------------------------------------------


def between(p, on_failure="zero", cones=None):
    """The least x between p and one."""
    G, h = np.array([[-1.0], [1.0]]), jnp.stack([-p, jnp.ones_like(p)])
    return pounce.solve_conic(c=np.ones(1), G=G, h=h, cones=cones, on_failure=on_failure).x[0]


@pytest.mark.parametrize("on_failure", ["zero", "nan", "warn"])
def test_failed_lanes(on_failure):
    batch = jnp.array([0.0, 2.0, jnp.nan, -1.0])
    gradient = jax.jit(jax.vmap(jax.grad(lambda p: between(p, on_failure))))
    if on_failure == "warn":
        with pytest.warns(UserWarning, match="did not succeed"):
            value = jax.block_until_ready(gradient(batch))
            jax.effects_barrier()
    else:
        value = gradient(batch)
    fill = np.nan if on_failure == "nan" else 0.0
    np.testing.assert_allclose(value, [1, fill, fill, 1], atol=1e-6)


def test_failure_raises():
    gradient = jax.jit(jax.grad(lambda p: between(p, "raise")))
    np.testing.assert_allclose(gradient(0.5), 1, atol=1e-6)
    with pytest.raises(Exception, match="did not succeed"):
        jax.block_until_ready(gradient(2.0))


def test_forward_mode_of_failed_lanes():
    value, tangent = jax.jit(jax.vmap(lambda p: jax.jvp(between, (p,), (1.0,))))(jnp.array([0.0, 2.0]))
    np.testing.assert_allclose(tangent, [1, 0], atol=1e-6)
    assert np.isfinite(value[0])


@pytest.mark.parametrize("kind", ["row", "bound"])
def test_weakly_active(kind):
    """``max(p, 0)``: a finite derivative at the kink, and that of ``(p + sqrt(p^2 + 4 mu)) / 2`` with a relaxation.

    The unit of mu is ``|p x| + |x P x|`` where x > 0 and, where all terms vanish, ``p^2 / P``."""

    def x(p, relaxation=0.0):
        side = dict(lb=np.zeros(1)) if kind == "bound" else dict(G=-np.ones((1, 1)), h=np.zeros(1))
        return pounce.solve_conic(P=np.ones((1, 1)), c=-p[None], **side, tol=1e-10, relaxation=relaxation).x[0]

    batch = jnp.array([-1.0, -1e-2, 0.0, 1e-2, 1.0])
    exact = np.asarray(jax.jit(jax.vmap(jax.grad(x)))(batch))
    np.testing.assert_allclose(exact[[0, 1, 3, 4]], [0, 0, 1, 1], atol=1e-6)
    assert 0 <= exact[2] <= 1
    mu = 0.1 * np.where(batch > 0, 2.0, 1.0) * batch**2 + 1e-300
    for mode in (jax.grad, jax.jacfwd):
        relaxed = jax.jit(jax.vmap(mode(lambda p: x(p, 0.1))))(batch)
        np.testing.assert_allclose(relaxed, 0.5 * (1 + batch / np.sqrt(batch**2 + 4 * mu)), atol=1e-6)


@pytest.mark.parametrize(
    "name, point, cones",
    [
        ("soc boundary", [1.0, 0.6, 0.8], [("soc", 3)]),
        ("soc apex", [0.0, 0.0, 0.0], [("soc", 3)]),
        ("psd boundary", [1.0, np.sqrt(2.0), 1.0], [("psd", 2)]),
        ("psd apex", [0.0, 0.0, 0.0], [("psd", 2)]),
        ("exp boundary", [0.0, 1.0, 1.0], [("exp", 3)]),
        ("pow boundary", [1.0, 1.0, 1.0], [("pow", 0.4)]),
    ],
)
def test_projection_of_a_point_on_the_boundary(name, point, cones):
    """Weakly active: the derivative of a projection is not unique, but what is returned is finite and bounded, in both modes."""

    def x(p, relaxation=0.0):
        return pounce.solve_conic(P=np.eye(3), c=-p, G=-np.eye(3), h=np.zeros(3), cones=cones, relaxation=relaxation).x

    p = jnp.array(point)
    both = jax.jit(lambda p: (jax.jacfwd(x)(p), jax.jacrev(x)(p)), compiler_options=OPTIMIZED)
    forward, reverse = both(p)
    for jacobian in (forward, reverse):
        assert np.all(np.isfinite(jacobian)) and np.max(np.abs(jacobian)) < 1.1
    np.testing.assert_allclose(forward, reverse, atol=1e-6)


def test_fixed_variables():
    """Equal bounds move together, or each takes half; multipliers of a fixed variable have derivatives too."""
    P, c = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -1.0])

    def outputs(lb0, ub0):
        lb, ub = jnp.stack([lb0, -5.0]), jnp.stack([ub0, 5.0])
        s = pounce.solve_conic(P, c, lb=lb, ub=ub, tol=1e-11)
        return jnp.concatenate([s.x, (s.z_ub - s.z_lb)[:1], s.objective[None]])

    value, (by_lower, by_upper) = jax.jit(lambda v: (outputs(v, v), jax.jacrev(outputs, (0, 1))(v, v)))(0.3)
    # x1 = 1 - x0 / 2, multiplier -(P x + c)_0, objective as a function of x0.
    np.testing.assert_allclose(value[:3], [0.3, 0.85, -(0.6 + 0.425 + 1)], atol=1e-8)
    slope = np.array([1, -0.5, -1.75, 0.6 + 0.425 + 1])
    np.testing.assert_allclose(by_lower, slope / 2, atol=1e-7)
    np.testing.assert_allclose(by_upper, slope / 2, atol=1e-7)


def test_no_rows_at_all():
    P = np.array([[2.0, 0.5], [0.5, 1.0]])
    jacobian = jax.jit(jax.jacrev(lambda c: pounce.solve_conic(P, c).x))(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(jacobian, -np.linalg.inv(P), atol=1e-9)


def test_float32():
    P, h = np.eye(2, dtype=np.float32), np.array([0.5, 9.0], np.float32)
    x = lambda c: pounce.solve_conic(P, c, G=np.eye(2, dtype=np.float32), h=h).x
    jacobian = jax.jit(jax.jacrev(x))(jnp.array([-1.0, -1.0], jnp.float32))
    assert jacobian.dtype == jnp.float32
    np.testing.assert_allclose(jacobian, np.diag([0.0, -1.0]), atol=1e-3)
