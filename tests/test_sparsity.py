"""Patterns against dense derivatives: nothing missing, whatever the program, and nothing too much where that can be told."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sps
from jax import lax
from jax.experimental import sparse
from jax.experimental.ode import odeint

from pounce._problem.sparsity import (
    PatternTooLargeError,
    PounceSparsityWarning,
    control,
    hessian_pattern,
    jacobian_pattern,
    reader,
    turn,
)


N = 6
WEIGHTS = np.random.default_rng(3).normal(size=300)


def mask(pattern):
    dense = np.zeros(pattern.shape, bool)
    dense[pattern.rows, pattern.columns] = True
    return dense


def scalar(f):
    """A weighted sum of everything that `f` returns."""

    def weighted(x):
        value = f(x).ravel()
        return jnp.vdot(jnp.asarray(WEIGHTS)[: value.size], value)

    return weighted


def true_patterns(f, n, points, each=False):
    """Nonzeros of the Jacobian, and of the Hessian of the weighted sum, at any of the points; or those for each row."""

    def both(x):
        if each:
            return jax.jacfwd(f)(x), jax.jacfwd(jax.jacfwd(lambda x: f(x) @ WEIGHTS[:N]))(x)
        return jax.jacfwd(lambda x: f(x).ravel())(x), jax.jacfwd(jax.jacfwd(scalar(f)))(x)

    evaluate = jax.jit(jax.vmap(both), compiler_options={"xla_backend_optimization_level": 0})
    jacobians, hessians = evaluate(jnp.stack(points))
    return (np.asarray(jacobians) != 0).any(0), (np.asarray(hessians) != 0).any(0)


def points(n, count=3, low=0.2, high=1.8, seed=0):
    return [jnp.asarray(x) for x in np.random.default_rng(seed).uniform(low, high, (count, n))]


def of_gradient(f, struct):
    """The pattern of the Jacobian of the gradient, where JAX has one: it goes through what derivatives are made of."""
    try:
        return mask(jacobian_pattern(jax.grad(scalar(f)), struct))
    except (ValueError, NotImplementedError):
        return np.ones((), bool)


def check(f, n=N, exact=True, exact_hessian=None, **where):
    """Patterns hold all nonzeros, and no more if they are to be exact."""
    jacobian, hessian = true_patterns(f, n, points(n, **where))
    struct = jax.ShapeDtypeStruct((n,), jnp.float64)
    found = mask(jacobian_pattern(f, struct))
    found_hessian = mask(hessian_pattern(scalar(f), struct))
    assert not (jacobian & ~found).any(), "entries of the Jacobian are missing"
    assert not (hessian & ~found_hessian).any(), "entries of the Hessian are missing"
    np.testing.assert_array_equal(found_hessian, found_hessian.T)
    assert not (hessian & ~of_gradient(f, struct)).any(), "entries of the Jacobian of the gradient are missing"
    if exact:
        np.testing.assert_array_equal(found, jacobian)
    if exact if exact_hessian is None else exact_hessian:
        np.testing.assert_array_equal(found_hessian, hessian)


# --- elementwise operations -------------------------------------------------------------------------------------------

NONLINEAR = {
    **{
        name: getattr(jnp, name)
        for name in "sin cos tan sinh cosh tanh exp exp2 expm1 log log1p sqrt cbrt square".split()
    },
    **{name: getattr(lax, name) for name in "rsqrt logistic erf erfc lgamma digamma asinh atan bessel_i0e".split()},
    "asin": lambda x: jnp.arcsin(x / 2),
    "erf_inv": lambda x: lax.erf_inv(x / 2),
    "cube": lambda x: x**3,
    "reciprocal": lambda x: x**-1,
    "power": lambda x: x**1.7,
    "power of a constant": lambda x: 2.0**x,
    "self power": lambda x: x**x,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "sinc": jnp.sinc,
    "logaddexp": lambda x: jnp.logaddexp(x, 1.0),
    "xlogy": lambda x: jax.scipy.special.xlogy(x, x),
    "quotient": lambda x: 1.0 / x,
    "igamma": lambda x: lax.igamma(2.0, x),
}
LINEAR = {
    "neg": lambda x: -x,
    "scale": lambda x: 3 * x / 7 + 1,
    "abs": jnp.abs,
    "relu": lambda x: jax.nn.relu(x - 0.1),
    "maximum": lambda x: jnp.maximum(x, 0.1),
    "clip": lambda x: jnp.clip(x, 0.1, 5.0),
    "remainder": lambda x: x % 5.0,
    "convert": lambda x: x.astype(jnp.float32),
    "first power": lambda x: x**1,
    "first power given late": lambda x: lax.pow(x, np.ones(N)),
    "where": lambda x: jnp.where(x > 0, 2 * x, x),
    "real": lambda x: (x * (1 + 1j)).real,
}
CONSTANT = {
    "sign": jnp.sign,
    "floor": jnp.floor,
    "round": jnp.round,
    "stop": lax.stop_gradient,
    "comparison": lambda x: (x > 1).astype(float),
    "argmax": lambda x: jnp.argmax(x) * jnp.ones(N),
    "whole number": lambda x: x.astype(int).astype(float),
    "zeroth power": lambda x: x**0,
    "times zero": lambda x: x * np.zeros(N),
    "sorting order": lambda x: jnp.argsort(x).astype(float),
    "shape": lambda x: jnp.full(N, x.size * 1.0),
}


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in ("NONLINEAR", "LINEAR", "CONSTANT") for n in globals()[k]])
def test_elementwise(kind, name):
    f = globals()[kind][name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jacobian = jacobian_pattern(f, jnp.ones(N))
        hessian = hessian_pattern(scalar(f), jnp.ones(N))
    diagonal, nothing = np.eye(N, dtype=bool), np.zeros((N, N), bool)
    np.testing.assert_array_equal(mask(jacobian), nothing if kind == "CONSTANT" else diagonal)
    np.testing.assert_array_equal(mask(hessian), diagonal if kind == "NONLINEAR" else nothing)


def test_elementwise_is_true():
    """The tables above against derivatives, all in one program."""
    for table in (NONLINEAR, LINEAR, CONSTANT):
        check(lambda x: jnp.concatenate([f(x) for f in table.values()]))


def test_complex_numbers():
    check(lambda x: jnp.abs(x[:3] + 1j * x[3:]))
    check(lambda x: ((x[:3] + 1j * x[3:]) * jnp.conj(x[:3] + 2j * x[3:])).imag, exact=False)


# --- programs with known patterns -------------------------------------------------------------------------------------

CONSTANT_MATRIX = np.where(np.random.default_rng(0).uniform(size=(5, N)) < 0.4, 1.5, 0.0)
INDICES = np.array([[0, 3], [2, 2], [5, 1]])
TRIANGLE = np.array([[2.0, 0, 0], [1, 3, 0], [1, 1, 2]])
SMALL = np.array([[4.0, 1, 0], [1, 5, 2], [0, 2, 6]])


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rollout(x):
    def step(state, control):
        position, speed = state
        speed = speed + jnp.sin(control) - 0.1 * speed
        return (position + speed, speed), position**2

    (position, _), costs = lax.scan(step, (x[0], x[1]), x[2:])
    return jnp.append(costs, position)


def while_known(x):
    return lax.while_loop(
        lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1].at[c[0]].mul(c[1][3], unique_indices=True)), (0, x)
    )[1]


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda p, t: (straight_through(*p), t[0]))


@jax.custom_jvp
def own_exponential(x):
    return jnp.exp(x)


own_exponential.defjvp(lambda p, t: (own_exponential(*p), own_exponential(*p) * t[0]))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def own_neighbours(x, k):
    return x * jnp.roll(x, k)


own_neighbours.defjvp(lambda k, p, t: (own_neighbours(*p, k), p[0] * jnp.roll(t[0], k) + jnp.roll(p[0], k) * t[0]))


@jax.custom_vjp
def own_pullback(x):
    return jnp.floor(x[1:]) + x[:-1] ** 2


own_pullback.defvjp(
    lambda x: (own_pullback(x), x), lambda x, g: (jnp.append(2 * x[:-1] * g, 0.0).at[1:].add(g * x[1:]),)
)

EXACT = {
    "rosenbrock": rosenbrock,
    "inner product": lambda x: x @ x,
    "outer product": lambda x: jnp.outer(x[:2], x[2:]),
    "constant matrix": lambda x: CONSTANT_MATRIX @ x,
    "constant matrix, later": lambda x: jnp.sin(jnp.asarray(CONSTANT_MATRIX) * 2) @ x,
    "constant matrix from the right": lambda x: x.reshape(3, 2) @ (CONSTANT_MATRIX[:2, :3] + 0.0),
    "constant batch": lambda x: jnp.einsum("bij,bj->bi", CONSTANT_MATRIX.reshape(2, 5, 3), x.reshape(2, 3)),
    "batch of products": lambda x: jnp.einsum("bi,bi->b", x.reshape(2, 3), x.reshape(2, 3) ** 2),
    "matrix product": lambda x: x[:4].reshape(2, 2) @ x[2:].reshape(2, 2),
    "squares of a constant matrix": lambda x: (CONSTANT_MATRIX @ x) ** 2,
    "gather": lambda x: x[INDICES].prod(axis=1),
    "gather rows": lambda x: x.reshape(3, 2)[np.array([2, 0, 0])] ** 2,
    "gather, negative": lambda x: x[np.array([-1, -2])] ** 2,
    "gather, outside": lambda x: x.at[np.array([1, 77])].get(mode="fill", fill_value=0.0) ** 2,
    "gather, clipped": lambda x: x.at[np.array([1, 77])].get(mode="clip") ** 2,
    "gather of two axes": lambda x: x.reshape(3, 2)[np.array([0, 2]), np.array([1, 0])] * x[0],
    "take along": lambda x: jnp.take_along_axis(x.reshape(2, 3), np.array([[1, 1], [0, 2]]), axis=1) ** 2,
    "strided": lambda x: x[::2] * x[1::2],
    "flip": lambda x: x[::-1] * x,
    "roll": lambda x: jnp.roll(x, 2) * x,
    "transpose": lambda x: jnp.exp(x.reshape(2, 3).T),
    "broadcast": lambda x: x[:2, None] * jnp.ones((2, 3)),
    "singleton axes": lambda x: x[:1] * x,
    "tile": lambda x: jnp.tile(x, 2) ** 2,
    "repeat": lambda x: jnp.repeat(x, np.array([1, 0, 2, 1, 1, 1]), total_repeat_length=6) ** 2,
    "pad": lambda x: lax.pad(x.reshape(2, 3), 0.0, ((1, 0, 1), (-1, 2, 0))) ** 2,
    "pad with a variable": lambda x: lax.pad(x[1:], x[0], ((1, 1, 1),)) ** 2,
    "concatenate": lambda x: jnp.concatenate([x[:2] ** 2, x[3:], jnp.ones(1)]),
    "stack": lambda x: jnp.stack([x[:3] ** 2, x[3:]], axis=1),
    "split": lambda x: jnp.split(x, [2, 3])[2] ** 2,
    "set": lambda x: x.at[np.array([1, 3])].set(x[:2] ** 2),
    "set, dropped": lambda x: x.at[np.array([1, 30])].set(x[:2] ** 2),
    "add at": lambda x: jnp.zeros(3).at[np.array([0, 2, 2, 0, 0, 2])].add(x**2),
    "multiply at": lambda x: x.at[np.array([0, 1])].mul(x[3:5], unique_indices=True),
    "segment sum": lambda x: jax.ops.segment_sum(x**2, np.array([0, 0, 1, 1, 2, 2]), 3),
    "sum": lambda x: x.reshape(2, 3).sum(0) ** 2,
    "product of all": lambda x: jnp.prod(x[1:]),
    "product of some": lambda x: jnp.prod(x.reshape(2, 3), axis=0),
    "mean and variance": lambda x: jnp.stack([x[:2].mean(), x[2:].var()]),
    "cumulative sum": lambda x: jnp.cumsum(x) ** 2,
    "cumulative sum, reverse": lambda x: lax.cumsum(x.reshape(3, 2), axis=0, reverse=True) ** 2,
    "softmax": lambda x: jax.nn.softmax(x.reshape(2, 3), axis=1),
    "norm": lambda x: jnp.linalg.norm(x[1:]),
    "differences": lambda x: jnp.diff(x) ** 2,
    "convolution": lambda x: jnp.convolve(x**2, np.array([1.0, 0.0, 2.0]), mode="same"),
    "convolution of two": lambda x: jnp.convolve(x[:2], x[3:]),
    "masked": lambda x: x**2 * np.array([1.0, 0, 0, 1, 1, 0]),
    "where with a constant choice": lambda x: jnp.where(np.arange(N) < 2, x**2, x),
    "dynamic slice": lambda x: lax.dynamic_slice(x, (np.int32(2),), (3,)) ** 2,
    "dynamic update": lambda x: lax.dynamic_update_slice(x, x[:2] ** 2, (np.int32(9),)),
    "rollout": rollout,
    "loop over indices": lambda x: lax.fori_loop(1, N, lambda i, y: y.at[i].set(y[i - 1] * 0.5 + x[i] ** 2), x),
    "loop with known end": while_known,
    "map": lambda x: lax.map(lambda row: row[0] * row[1], x.reshape(3, 2)),
    "reverse scan": lambda x: lax.scan(lambda c, y: (c + y**2, c), 0.0, x, reverse=True)[1],
    "associative scan": lambda x: lax.associative_scan(jnp.add, x),
    "vmap": lambda x: jax.vmap(lambda a, b: a * jnp.sin(b))(x[:3], x[3:]),
    "jit and checkpoint": lambda x: jax.jit(jax.checkpoint(lambda x: x[1:] * jnp.sin(x[:-1])))(x),
    "known branch": lambda x: lax.cond(np.bool_(True), lambda x: x**2, lambda x: x[::-1], x),
    "straight through": lambda x: straight_through(x) * 2,
    "own derivative": own_exponential,
    "own derivative of neighbours": lambda x: own_neighbours(x, 1),
    "derivative inside": jax.grad(lambda x: jnp.sum(x[1:] ** 2 * x[:-1] ** 3)),
    "hessian-vector product inside": lambda x: jax.jvp(jax.grad(rosenbrock), (x,), (x,))[1],
    "cholesky of blocks": lambda x: jax.vmap(lambda d: jnp.linalg.cholesky(d * SMALL[:2, :2], symmetrize_input=False))(
        x
    )[:, 1, 1],
    "triangular": lambda x: lax.linalg.triangular_solve(TRIANGLE[:2, :2], x.reshape(2, 3), left_side=True, lower=True)[
        1
    ],
    "sort": lambda x: jnp.sort(x.reshape(2, 3), axis=1)[:, :0],
    "fourier": lambda x: jnp.abs(jnp.fft.fft(x.reshape(2, 3), axis=1)[:, 1]),
    "constant solve": lambda x: jnp.linalg.solve(SMALL, x.reshape(3, 2))[:, 0],
    "batch of solves": lambda x: jnp.linalg.solve(np.stack([SMALL, SMALL @ SMALL]), x.reshape(2, 3)[..., None]),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name):
    check(EXACT[name])


SOUND = {
    "cumulative product": lambda x: jnp.cumprod(x),
    "cumulative maximum": lambda x: lax.cummax(x**2),
    "cumulative logsumexp": lambda x: lax.cumlogsumexp(x),
    "triangular, both": lambda x: lax.linalg.triangular_solve(
        x[:4].reshape(2, 2), x[2:].reshape(2, 2), left_side=True, lower=True
    ),
    "solve": lambda x: jnp.linalg.solve(x[:4].reshape(2, 2), x[4:]),
    "inverse": lambda x: jnp.linalg.inv(x[:4].reshape(2, 2)),
    "determinant": lambda x: jnp.linalg.det(x[:4].reshape(2, 2)),
    "logdet": lambda x: jnp.linalg.slogdet(x[:4].reshape(2, 2))[1],
    "eigenvalues": lambda x: jnp.linalg.eigvalsh(jnp.outer(x[:3], x[:3]) + np.diag([1.0, 2, 3])),
    "singular values": lambda x: jnp.linalg.svd(x.reshape(2, 3), compute_uv=False),
    "qr": lambda x: jnp.linalg.qr(x[:4].reshape(2, 2))[1],
    "cholesky": lambda x: jnp.linalg.cholesky(jnp.outer(x[:2], x[:2]) + jnp.diag(x[2:4])),
    "matrix exponential": lambda x: jax.scipy.linalg.expm(x[:4].reshape(2, 2)),
    "fourier": lambda x: jnp.fft.rfft(x**2).real,
    "sorted": lambda x: jnp.sort(x) ** 2,
    "largest": lambda x: lax.top_k(x, 2)[0] ** 2,
    "median": lambda x: jnp.median(x) ** 2,
    "maximum": lambda x: jnp.max(x) ** 2,
    "maximum at": lambda x: x.at[np.array([0, 1])].max(x[3:5] ** 2),
    "unknown gather": lambda x: x[jnp.argsort(x)] ** 2,
    "unknown gather of rows": lambda x: x.reshape(3, 2)[(x[0] > 1).astype(int)] ** 2,
    "unknown set": lambda x: x.at[jnp.argmax(x)].set(x[0] ** 2),
    "unknown add": lambda x: x.at[jnp.argsort(x)[:2]].add(x[:2] ** 2),
    "unknown multiply": lambda x: x.at[jnp.argsort(x)[:2]].mul(x[:2], unique_indices=True),
    "unknown slice": lambda x: lax.dynamic_slice(x.reshape(3, 2), (jnp.argmax(x[:2]), 0), (2, 1)) ** 2,
    "unknown update": lambda x: lax.dynamic_update_slice(
        x.reshape(3, 2), x[:2].reshape(1, 2) ** 2, (jnp.argmax(x[:2]), 0)
    ),
    "branches": lambda x: lax.cond(x[0] > 1, lambda x: x**2, lambda x: x[::-1] * x[0], x),
    "switch": lambda x: lax.switch((x[0] * 2).astype(int), [lambda x: x, lambda x: x**2, lambda x: x[::-1] * x[0]], x),
    "both sides": lambda x: jnp.where(x > 1, x**2, 0),
    "unknown end": lambda x: lax.while_loop(lambda y: y[0] < 4, lambda y: jnp.roll(y, 1) * 1.5 + y, x),
    "unknown end, index": lambda x: lax.fori_loop(
        0, (x[0] * 3).astype(int), lambda i, y: y.at[i].mul(y[0], unique_indices=True), x
    ),
    "nested loops": lambda x: lax.while_loop(
        lambda c: c[0] < 4,
        lambda c: (
            c[0] + 1,
            lax.fori_loop(0, (c[1][0] + 1).astype(int), lambda i, y: y.at[i].add(y[i + 1] ** 2 / 9), c[1]),
        ),
        ((x[0]).astype(int), x),
    )[1],
    "long scan": lambda x: lax.scan(lambda c, _: (jnp.roll(c, 1) + 0.1 * jnp.sin(c), c[0]), x, None, length=7)[0],
    "interpolation": lambda x: jnp.interp(x[:2], np.array([0.0, 1.0, 2.0]), x[3:]),
    "own pullback": own_pullback,
    "conjugate gradients": lambda x: jax.scipy.sparse.linalg.cg(SMALL, x[:3] ** 2)[0],
    "max pooling inside": jax.grad(lambda x: jnp.sum(lax.reduce_window(x**2, -jnp.inf, lax.max, (2,), (1,), "VALID"))),
    "windows": lambda x: lax.reduce_window(x**2, 0.0, lax.add, (2,), (2,), "VALID"),
    "general reduction": lambda x: lax.reduce_window(x**2, 0.0, lax.add, (2,), (1,), "SAME"),
    "image": lambda x: lax.conv_general_dilated(
        jnp.outer(x, x)[None, None], x[:4].reshape(1, 1, 2, 2), (2, 1), "SAME", rhs_dilation=(2, 1)
    ),
    "grouped image": lambda x: (
        lax.conv_general_dilated(
            x.reshape(1, 2, 3), np.ones((4, 1, 2)), (1,), ((1, 0),), lhs_dilation=(2,), feature_group_count=2
        )
        ** 2
    ),
    "relu network": lambda x: jax.nn.relu(CONSTANT_MATRIX @ x - 1) @ np.ones(5),
    "logsumexp": lambda x: jax.nn.logsumexp(CONSTANT_MATRIX @ x),
    "remainder of two": lambda x: jnp.fmod(x[:3] * 5, x[3:]),
    "two angles": lambda x: jnp.arctan2(x[:3], x[3:]) + jnp.hypot(x[:3], x[3:]),
    "ode": lambda x: odeint(lambda y, t: -y * x[0], x[:2], jnp.array([0.0, 0.1]))[-1],
}


REVERSE_ONLY = "own pullback", "ode"


@pytest.mark.parametrize("name", SOUND)
def test_sound(name):
    if name in REVERSE_ONLY:  # the oracle takes forward derivatives
        f, x = SOUND[name], points(N)[0]
        assert not ((np.asarray(jax.jacrev(f)(x)) != 0) & ~mask(jacobian_pattern(f, x))).any()
        return
    check(SOUND[name], exact=False)


# --- loops looked at in different ways ---------------------------------------------------------------------------------


def long_rollout(x):
    """Coupled states of which only some bend, a running cost, a control for each turn, and a parameter for all."""

    def step(state, inputs):
        y, cost = state
        control, time = inputs
        y = jnp.stack([y[0] + y[1] * 0.1, y[1] + jnp.sin(control), y[2] + x[0] * y[0]])
        return (y, cost + time * control**2), y[:2] * time

    (y, cost), outputs = lax.scan(step, (x[1:4], 0.0), (x[4:], jnp.arange(x.size - 4.0)))
    return jnp.concatenate([outputs.ravel(), y, cost[None]])


LOOPS = {
    "rollout": long_rollout,
    "map": lambda x: lax.map(lambda row: row[0] * jnp.sin(row[1]) + x[0] + row[2], x.reshape(-1, 3)),
    "reverse": lambda x: lax.scan(lambda c, y: (c[::-1] * y, c[0]), x[:2], x[2:] ** 2, reverse=True)[1],
    "nested": lambda x: lax.scan(
        lambda c, row: (c + lax.scan(lambda d, y: (d * y, None), c, row)[0], c), x[0], x.reshape(3, -1)
    )[1],
    "counted": lambda x: lax.fori_loop(1, x.size - 1, lambda i, y: y.at[i].set(x[i - 1] + x[i] * x[i + 1]), x),
    "of choices": lambda x: lax.scan(
        lambda c, i: (lax.cond(i % 2 == 0, lambda c: c * x[0], lambda c: c + x[1] ** 2, c), c), x[2], jnp.arange(5)
    )[1],
    "nothing carried": lambda x: lax.fori_loop(0, 4, lambda i, y: y + 1.0, jnp.zeros(3)) * x[:3],
    "written rows": lambda x: lax.fori_loop(
        0, 7, lambda i, y: y.at[i].set(x[i] * x[i + 2]).at[7].add(x[8 - i] ** 2), jnp.zeros(8)
    ),
    "written blocks": lambda x: lax.fori_loop(
        0, 3, lambda i, y: lax.dynamic_update_slice(y, jnp.sin(x.reshape(3, 3)[i, :2])[None], (i, 1)), x.reshape(3, 3)
    ).ravel(),
    "written in two loops": lambda x: lax.fori_loop(
        0,
        3,
        lambda i, y: lax.fori_loop(0, 2, lambda j, y: y.at[i, j].set(x[i + j] * x[3 * i + j]), y),
        jnp.zeros((3, 2)),
    ).ravel(),
    "written with a state": lambda x: lax.fori_loop(
        0, 4, lambda i, c: (c[0] * x[i], c[1].at[2 * i].set(c[0] + x[8 - i])), (x[8], jnp.zeros(8))
    )[1],
    "read back": lambda x: lax.fori_loop(1, 5, lambda i, y: y.at[i].set(y[i - 1] * x[i]), x[:5]),
    "counted results": lambda x: lax.scan(lambda i, _: (i + 2, x[i] * x[i + 1]), 0, None, length=4)[1],
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name, monkeypatch):
    """Turn by turn and by looking at one turn for all, the same patterns; as a loop of unknown length, no smaller ones."""
    f, struct = LOOPS[name], jax.ShapeDtypeStruct((9,), jnp.float64)
    patterns = lambda: [mask(jacobian_pattern(f, struct)), mask(hessian_pattern(scalar(f), struct))]
    check(f, n=9, exact=name != "rollout")  # where a time is zero, a factor is
    exact = patterns()
    monkeypatch.setattr(control, "SHORT", 0)
    for found, expected in zip(patterns(), exact):
        assert not (expected & ~found).any()
        if name != "rollout":
            np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr(turn, "MOST_STEPS", 0)
    for found, expected in zip(patterns(), exact):
        assert not (expected & ~found).any()
    monkeypatch.setattr(reader, "TURNS", 0)
    for found, expected in zip(patterns(), exact):
        assert not (expected & ~found).any()


@pytest.mark.parametrize("name", [name for name in (*EXACT, *SOUND) if name != "own pullback"])
def test_nothing_is_missing_without_turns(name, monkeypatch):
    """All loops as if they were of unknown length."""
    f = {**EXACT, **SOUND}[name]
    if not any(word in str(jax.make_jaxpr(f)(jnp.ones(N))) for word in ("scan[", "while[")):
        return
    exact = [mask(jacobian_pattern(f, jnp.ones(N))), mask(hessian_pattern(scalar(f), jnp.ones(N)))]
    monkeypatch.setattr(control, "SHORT", 0)
    monkeypatch.setattr(reader, "TURNS", 0)
    found = [mask(jacobian_pattern(f, jnp.ones(N))), mask(hessian_pattern(scalar(f), jnp.ones(N)))]
    assert not any((a & ~b).any() for a, b in zip(exact, found))


def test_rows_written_in_a_long_loop():
    """A step of Heun's method for a pendulum in each of many turns, with a step size that is a parameter."""
    count = 3000
    slope = lambda z: jnp.stack([z[1], -jnp.sin(z[0])])

    def rows(x, h):
        z = x.reshape(-1, 2)

        def turn(k, carry):
            time, out = carry
            ahead = z[k] + h * slope(z[k])
            defect = z[k + 1] - z[k] - h / 2 * (slope(z[k]) + slope(ahead)) + jnp.cos(time)
            return time + h, out.at[k].set(defect)

        return lax.fori_loop(0, count, turn, (0.0, jnp.zeros((count, 2))))[1].ravel()

    struct = jax.ShapeDtypeStruct((2 * count + 2,), jnp.float64)
    jacobian = jacobian_pattern(rows, struct, 0.1)
    assert jacobian.nnz == 6 * count
    assert hessian_pattern(lambda x, h: rows(x, h) @ jnp.ones(2 * count), struct, 0.1).nnz == 4 * count


def test_a_loop_that_is_not_followed_is_named(monkeypatch):
    monkeypatch.setattr(reader, "TURNS", 2000)
    mixes = lambda k, y: y.at[k + 1].set(y[k] + x_of[0][k])
    x_of = [None]

    def f(x):
        x_of[0] = x
        return lax.fori_loop(0, 2999, mixes, x)

    struct = jax.ShapeDtypeStruct((3000,), jnp.float64)
    with pytest.warns(
        PounceSparsityWarning, match=r"loop of 2999 turns at .*test_sparsity.py:\d+.*jac_pattern"
    ) as caught:
        with pytest.raises(PatternTooLargeError, match="The loop of 2999 turns"):
            jacobian_pattern(f, struct, most=100_000)
    assert len(caught) == 1


# --- arguments, sizes, warnings -----------------------------------------------------------------------------------------


def test_arguments_carry_no_dependence():
    f = lambda x, p, q: p["a"] * x[1:] * x[:-1] + q @ x
    p, q = {"a": jax.ShapeDtypeStruct((N - 1,), float)}, np.zeros((N - 1, N))
    assert jacobian_pattern(f, jnp.ones(N), p, q).density == 1.0  # the zeros of an argument are not to be relied on
    lagrangian = lambda x, y: y @ (x[1:] * x[:-1])
    found = hessian_pattern(lagrangian, jax.ShapeDtypeStruct((N,), float), 1.0 * np.arange(N - 1))
    np.testing.assert_array_equal(mask(found), np.eye(N, k=1, dtype=bool) | np.eye(N, k=-1, dtype=bool))


def test_linear_functions_have_no_second_derivatives():
    a = np.random.default_rng(0).normal(size=(4, N))
    assert hessian_pattern(lambda x: jnp.sum(a @ x), jnp.ones(N)).nnz == 0
    assert hessian_pattern(lambda x: jnp.sum(jnp.fft.rfft(x).real), jnp.ones(N)).nnz == 0


def test_results_of_any_shape():
    assert jacobian_pattern(lambda x: x.reshape(2, 3), jnp.ones(N)).shape == (N, N)
    assert jacobian_pattern(lambda x: jnp.zeros((0, 2)), jnp.ones(N)).shape == (0, N)
    assert jacobian_pattern(lambda x: x[0], jnp.ones(N)).shape == (1, N)
    assert jacobian_pattern(lambda x: 2 * x, jnp.ones(0)).shape == (0, 0)
    assert hessian_pattern(lambda x: jnp.sum(x**2), jnp.ones(0)).shape == (0, 0)
    with pytest.raises(ValueError, match="one vector"):
        jacobian_pattern(lambda x: x, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="scalar"):
        hessian_pattern(lambda x: x, jnp.ones(N))


def test_inside_of_transformations():
    """Patterns are found while something else is traced; arrays of an outer trace are unknown."""
    found = []

    @jax.jit
    def outer(p):
        f = lambda x: p @ x + np.eye(N) @ x
        found.append(jacobian_pattern(f, jax.ShapeDtypeStruct((N,), float)))
        found.append(jacobian_pattern(lambda x: (x[jnp.arange(3) * 2]) ** 2, jax.ShapeDtypeStruct((N,), float)))
        return p

    outer(jnp.zeros((N, N)))
    assert found[0].density == 1.0 and found[1].nnz == 3


def test_large_banded():
    n = 100_000
    struct = jax.ShapeDtypeStruct((n,), jnp.float64)
    assert hessian_pattern(rosenbrock, struct).nnz == 3 * n - 2
    assert jacobian_pattern(lambda x: jnp.sin(x[2:]) * x[1:-1] - x[:-2], struct).nnz == 3 * (n - 2)


def test_large_dense():
    struct = jax.ShapeDtypeStruct((50_000,), jnp.float64)
    for f in (jnp.cumsum, lambda x: x * jnp.sum(x), lambda x: jnp.sort(x)):
        with pytest.raises(PatternTooLargeError):
            jacobian_pattern(f, struct)
        assert jacobian_pattern(lambda x: f(x)[:2], struct).shape == (2, 50_000)
        with pytest.raises(PatternTooLargeError):
            hessian_pattern(lambda x: jnp.sum(f(x) ** 2), struct)
    for f in (jnp.cumsum, jnp.sort):
        assert hessian_pattern(lambda x: jnp.sum(f(x)) + x[0] ** 2, struct).nnz == 1


def test_constants_of_sparse_types():
    matrix = sps.random(40, N, density=0.2, random_state=0)
    for kind in (sparse.BCOO, sparse.BCSR):
        constant = kind.from_scipy_sparse(matrix.tocsr())
        expected = matrix.toarray() != 0
        np.testing.assert_array_equal(mask(jacobian_pattern(lambda x: constant @ x, jnp.ones(N))), expected)
        np.testing.assert_array_equal(
            mask(hessian_pattern(lambda x: jnp.sum((constant @ x) ** 2), jnp.ones(N))), expected.T @ expected
        )


def test_unknown_primitives_are_dense_and_named_once():
    from jax.extend.core import Primitive

    unheard = Primitive("unheard_of")
    unheard.def_abstract_eval(lambda x, y: x)
    f = lambda x: unheard.bind(x[:2], x[3:5])
    with pytest.warns(PounceSparsityWarning, match="unheard_of"):
        found = mask(jacobian_pattern(f, jnp.ones(N)))
    used = np.isin(np.arange(N), [0, 1, 3, 4])
    np.testing.assert_array_equal(found, [used, used])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hessian = mask(hessian_pattern(lambda x: f(x)[0], jnp.ones(N)))
    np.testing.assert_array_equal(hessian, np.outer(used, used))


def test_mutable_arrays_are_dense():
    if not hasattr(jax, "new_ref"):
        pytest.skip("no mutable arrays in this version of JAX")

    def f(x):
        store = jax.new_ref(jnp.zeros(3))
        store[1] = x[0] * x[1]
        return store[...]

    with pytest.warns(PounceSparsityWarning):
        assert jacobian_pattern(f, jnp.ones(N)).density == 1.0
    assert hessian_pattern(lambda x: f(x).sum(), jnp.ones(N)).density == 1.0


@pytest.mark.parametrize("name", [*EXACT, *SOUND])
def test_all_primitives_are_known(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PounceSparsityWarning)
        jacobian_pattern({**EXACT, **SOUND}[name], jnp.ones(N))


# --- another implementation ---------------------------------------------------------------------------------------------

FAMILIES = {
    "rosenbrock": rosenbrock,
    "wood": lambda x: jnp.sum((x[::2] ** 2 - x[1::2]) ** 2 + (x[::2] - 1) ** 2 + x[1::2] * x[::2]),
    "broyden": lambda x: jnp.sum(((3 - 2 * x[1:-1]) * x[1:-1] - x[:-2] - 2 * x[2:] + 1) ** 2),
    "gathered": lambda x: jnp.sum(jnp.cos(x[np.arange(30).reshape(10, 3) % x.size]).prod(axis=1)),
    "grid": lambda x: jnp.sum(jnp.diff(x.reshape(4, -1), axis=0) ** 4) + jnp.sum(jnp.exp(x[1:] - x[:-1])),
    "bilinear": lambda x: x[: x.size // 2] @ x[x.size // 2 :],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_against_asdex(name):
    asdex = pytest.importorskip("asdex", exc_type=ImportError)  # also one that does not know this JAX yet
    f = FAMILIES[name]
    for function, ours, theirs in (
        (jax.grad(f), jacobian_pattern, asdex.jacobian_sparsity),
        (f, hessian_pattern, asdex.hessian_sparsity),
    ):
        expected = np.asarray(theirs(function, jnp.ones(12)).todense()) != 0
        found = mask(ours(function, jnp.ones(12)))
        assert not (found & ~expected).any(), "less exact than another implementation"
    check(f, n=12)


# --- random programs --------------------------------------------------------------------------------------------------


def random_program(seed):
    """A composition of operations on vectors of length six."""
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.uniform(size=(N, N)) < 0.3, rng.normal(size=(N, N)), 0.0)
    index, where, some = rng.integers(0, N, N), rng.uniform(size=N) < 0.5, rng.permutation(N)[:3]
    half = N // 2
    operations = [
        lambda a, b: jnp.sin(a),
        lambda a, b: a**2,
        lambda a, b: jnp.tanh(a) + 1,
        lambda a, b: 2.0 * a - b,
        lambda a, b: a * b,
        lambda a, b: a / (2 + b * b),
        lambda a, b: jnp.where(a > b, a * a, b),
        lambda a, b: jnp.where(where, jnp.cos(a), b),
        lambda a, b: jnp.maximum(a, b),
        lambda a, b: matrix @ a,
        lambda a, b: (a.reshape(2, half).T @ b.reshape(half, 2).T).ravel()[:N],
        lambda a, b: a[index],
        lambda a, b: a.at[some].set(b[:3]),
        lambda a, b: a.at[index].add(b),
        lambda a, b: jnp.concatenate([a[half:], b[:half] ** 2]),
        lambda a, b: jnp.roll(a, 1) + b,
        lambda a, b: jnp.sum(a[:2]) * b,
        lambda a, b: jnp.repeat(jnp.sum(a.reshape(half, 2) ** 2, axis=1), 2),
        lambda a, b: jnp.cumsum(a),
        lambda a, b: lax.stop_gradient(a) * b,
        lambda a, b: jnp.sort(a),
        lambda a, b: a[jnp.argmax(b)] * b,
        lambda a, b: lax.cond(a[0] > 0.5, lambda a, b: a * b, lambda a, b: a + b, a, b),
        lambda a, b: jax.nn.relu(a) - jnp.abs(b),
        lambda a, b: jnp.floor(a) * b,
        lambda a, b: lax.scan(lambda c, r: (c * 0.5 + r[0] * r[1], c), a[0], (a, b))[1],
        lambda a, b: jax.nn.softplus(a) * where,
    ]
    steps = [(operations[rng.integers(len(operations))], *rng.integers(0, 3, 2)) for _ in range(rng.integers(2, 7))]

    def f(x):
        recent = [x, x[::-1], x]
        for operation, i, j in steps:
            recent = [operation(recent[i], recent[j]), *recent[:2]]
        return recent[0]

    return f


@pytest.mark.parametrize("block", range(20))
def test_random_programs(block):
    """Nothing is missing, at points on all sides of the kinks. Ten programs are compiled together."""
    programs = [random_program(10 * block + k) for k in range(10)]
    start = np.random.default_rng(block).normal(size=(4, N))
    jacobians, hessians = true_patterns(
        lambda x: jnp.stack([f(x) for f in programs]), N, list(jnp.asarray(start)), each=True
    )
    for f, jacobian, hessian in zip(programs, jacobians, hessians):
        assert not (jacobian & ~mask(jacobian_pattern(f, jnp.ones(N)))).any()
        assert not (hessian & ~mask(hessian_pattern(scalar(f), jnp.ones(N)))).any()
        assert not (hessian & ~of_gradient(f, jnp.ones(N))).any()
