"""Patterns against dense derivatives: nothing missing, whatever the program, and nothing too much where that can be told."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pounce._problem.sparsity import hessian_pattern, jacobian_pattern


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


def check(f, n=N, exact=True, exact_hessian=None, **where):
    """Patterns hold all nonzeros, and no more if they are to be exact."""
    jacobian, hessian = true_patterns(f, n, points(n, **where))
    struct = jax.ShapeDtypeStruct((n,), jnp.float64)
    found = mask(jacobian_pattern(f, struct))
    found_hessian = mask(hessian_pattern(scalar(f), struct))
    assert not (jacobian & ~found).any(), "entries of the Jacobian are missing"
    assert not (hessian & ~found_hessian).any(), "entries of the Hessian are missing"
    np.testing.assert_array_equal(found_hessian, found_hessian.T)
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
    "ode": lambda x: (
        jax.experimental.ode.odeint(lambda y, t: -y * x[0], x[:2], jnp.array([0.0, 0.1]))[-1]
        if hasattr(jax.experimental, "ode")
        else x
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound(name):
    if name == "own pullback":  # has no forward derivative, the oracle takes one
        f = own_pullback
        x = points(N)[0]
        assert not ((np.asarray(jax.jacrev(f)(x)) != 0) & ~mask(jacobian_pattern(f, x))).any()
        return
    check(SOUND[name], exact=False)


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
