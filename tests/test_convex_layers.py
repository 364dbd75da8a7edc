"""The differentiable convex layers of `pounce.jax`: `solve_qp`, `solve_qp_batch`, `solve_socp`, `QpLayer`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce.jax import QpLayer, solve_qp, solve_qp_batch, solve_socp


N, ROWS, BATCH = 3, 4, 5
RANDOM = np.random.default_rng(0)
L = RANDOM.normal(size=(N, N))
P, G, A = L @ L.T + np.eye(N), RANDOM.normal(size=(ROWS, N)), RANDOM.normal(size=(1, N))
CS, HS = RANDOM.normal(size=(BATCH, N)) * 3, 0.3 + RANDOM.uniform(size=(BATCH, ROWS))
BS = RANDOM.normal(size=(BATCH, 1)) * 0.1
C, H, B = CS[0], HS[0], BS[0]
MATRICES = dict(P=P, G=G, A=A, lb=-2.0, ub=2.0)


def differences(function, at, h=1e-5):
    """The gradient of a scalar by central differences."""
    at = np.asarray(at)
    flat = np.zeros(at.size)
    for i in range(at.size):
        e = np.zeros(at.size)
        e[i] = h
        e = e.reshape(at.shape)
        flat[i] = (float(function(at + e)) - float(function(at - e))) / (2 * h)
    return flat.reshape(at.shape)


# -- solve_qp -----------------------------------------------------------------------------------------------------------


def test_solve_qp():
    x = solve_qp(P=P, c=C, G=G, h=H, A=A, b=B, lb=-2.0, ub=2.0)
    expected = pounce.solve_qp(P, C, A, B, G, H, np.full(N, -2.0), np.full(N, 2.0))
    assert isinstance(x, jax.Array) and x.shape == (N,)
    np.testing.assert_allclose(x, expected.x, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda c: solve_qp(c=c, h=H, b=B, **MATRICES))(C), x, atol=1e-9)


def test_everything_is_keyword_only():
    with pytest.raises(TypeError):
        solve_qp(P, C)
    with pytest.raises(TypeError):
        solve_qp(c=C)


def test_gradients():
    """By every array, reverse mode."""
    w = np.arange(1.0, N + 1)
    data = dict(P=P, c=C, G=G, h=H, A=A, b=B)

    @jax.jit
    def loss(data):
        return w @ solve_qp(**data, lb=-2.0, ub=2.0, tol=1e-11)

    gradient = jax.jit(jax.grad(loss))(data)
    for name in data:
        expected = differences(lambda v, name=name: loss(data | {name: v}), data[name])
        np.testing.assert_allclose(gradient[name], expected, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(gradient["P"], gradient["P"].T, atol=1e-12)


def test_bounds_have_gradients():
    """More than the reference page promises: bounds may be traced."""
    loss = jax.jit(lambda lb, ub: jnp.sum(solve_qp(P=np.eye(2), c=np.array([3.0, -3.0]), lb=lb, ub=ub)))
    lower, upper = jax.jit(jax.grad(loss, (0, 1)))(jnp.full(2, -1.0), jnp.full(2, 2.0))
    np.testing.assert_allclose(lower, [1, 0], atol=1e-6)
    np.testing.assert_allclose(upper, [0, 1], atol=1e-6)


def test_vmap_equals_batch():
    single = jax.jit(jax.vmap(lambda c, h: solve_qp(c=c, h=h, b=B, **MATRICES)))
    np.testing.assert_allclose(single(CS, HS), solve_qp_batch(c=CS, h=HS, b=B, **MATRICES), atol=1e-7)


def test_failures():
    """Infeasible and unbounded: an error, or NaN with a zero gradient where the status cannot be looked at."""
    infeasible = dict(P=np.eye(1), c=np.zeros(1), G=np.array([[1.0], [-1.0]]), h=np.array([-1.0, -1.0]))
    with pytest.raises(RuntimeError, match="primal_infeasible"):
        solve_qp(**infeasible)
    with pytest.raises(RuntimeError, match="dual_infeasible"):
        solve_qp(P=np.zeros((1, 1)), c=np.ones(1))
    with pytest.raises(RuntimeError, match="iteration_limit"):
        solve_qp(P=P, c=C, G=G, h=H, A=A, b=B, max_iter=1)
    solve = lambda h: solve_qp(**(infeasible | {"h": h})).sum()
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(solve)))(jnp.array([[-1.0, -1.0], [1.0, -0.5]]))
    np.testing.assert_allclose(value, [np.nan, 0.5], atol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [0, -1]], atol=1e-6)


@pytest.mark.parametrize("form", ["array", "object", "mapping"])
def test_warm_start(form):
    full = pounce.solve_conic(P, C, A, B, G, H, -2.0, 2.0)
    warm = {"array": full.x, "object": full, "mapping": {"x": full.x, "z": full.z}}[form]
    np.testing.assert_allclose(solve_qp(c=C + 1e-3, h=H, b=B, warm_start=warm, **MATRICES),
                               solve_qp(c=C + 1e-3, h=H, b=B, **MATRICES), atol=1e-6)  # fmt: skip
    # What the solution does not depend on has no gradient.
    gradient = jax.jit(jax.grad(lambda x: solve_qp(c=C, h=H, b=B, warm_start=x, **MATRICES).sum()))(full.x)
    np.testing.assert_array_equal(gradient, 0)


BAD = {
    "P": dict(P=np.eye(2)),
    "c": dict(c=np.full(N, np.nan)),
    "G": dict(G=np.ones((ROWS, 2))),
    "h": dict(h=np.ones(2)),
    "A": dict(A=np.ones((1, 2))),
    "b": dict(b=np.ones(3)),
    "lb": dict(lb=np.zeros(2)),
    "ub": dict(ub=np.full(N, np.nan)),
    "tol": dict(tol=2.0),
    "max_iter": dict(max_iter=0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_the_argument(name):
    good = dict(P=P, c=C, G=G, h=H, A=A, b=B)
    with pytest.raises(ValueError, match=f"`{name}"):
        solve_qp(**(good | BAD[name]))
    with pytest.raises(ValueError, match=f"`{name}"):
        solve_qp_batch(**(good | {"c": CS} | ({"c": CS[:, 0]} if name == "c" else BAD[name])))


# -- solve_qp_batch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h, b", [(H, B), (HS, B), (H, BS), (HS, BS)], ids=["shared", "h", "b", "both"])
def test_solve_qp_batch(h, b):
    """Each lane is its own program; gradients of what is shared are sums."""
    weights = RANDOM.normal(size=(BATCH, N))
    data = {name: jnp.asarray(v) for name, v in dict(P=P, c=CS, G=G, h=h, A=A, b=b).items()}

    def loss(data):
        return jnp.sum(weights * solve_qp_batch(**data, lb=-2.0, ub=2.0, tol=1e-10))

    def loss_of_singles(data):
        plain = dict(P=P, c=C, G=G, h=H, A=A, b=B)
        lanes = {k: v if v.ndim > plain[k].ndim else jnp.broadcast_to(v, (BATCH, *v.shape)) for k, v in data.items()}
        x = jax.vmap(lambda one: solve_qp(**one, lb=-2.0, ub=2.0, tol=1e-10))(lanes)
        return jnp.sum(weights * x)

    value, gradient = jax.jit(jax.value_and_grad(loss))(data)
    expected, by_singles = jax.jit(jax.value_and_grad(loss_of_singles))(data)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    for name in data:
        assert gradient[name].shape == data[name].shape
        np.testing.assert_allclose(gradient[name], by_singles[name], atol=1e-7, err_msg=name)
    assert solve_qp_batch(**data, lb=-2.0, ub=2.0).shape == (BATCH, N)


def test_batch_shapes():
    with pytest.raises(ValueError, match=r"`c`.*`QpLayer.batch`"):
        solve_qp(c=CS, h=H, b=B, **MATRICES)
    with pytest.raises(ValueError, match="`c`"):
        solve_qp_batch(c=C, h=H, b=B, **MATRICES)
    with pytest.raises(ValueError, match=f"batch size {BATCH}"):
        solve_qp_batch(c=CS, h=HS[:2], b=B, **MATRICES)


def test_batch_warm_start():
    x = solve_qp_batch(c=CS, h=HS, b=B, **MATRICES)
    np.testing.assert_allclose(solve_qp_batch(c=CS, h=HS, b=B, warm_start=x, **MATRICES), x, atol=1e-6)


def test_failure_in_a_batch():
    bad = np.array(HS)
    G2 = np.concatenate([G, -G])
    h2 = np.concatenate([bad, np.full_like(bad, 50.0)], axis=1)
    h2[2, ROWS] = -60.0
    with pytest.raises(RuntimeError, match="lane 2"):
        solve_qp_batch(P=P, c=CS, G=G2, h=h2)
    x = jax.jit(lambda h: solve_qp_batch(P=P, c=CS, G=G2, h=h))(h2)
    assert np.all(np.isnan(x[2])) and np.all(np.isfinite(np.delete(x, 2, axis=0)))
    gradient = jax.jit(jax.grad(lambda c: solve_qp_batch(P=P, c=c, G=G2, h=h2)[jnp.array([0, 1, 3, 4])].sum()))(CS)
    assert np.all(np.isfinite(gradient)) and np.all(gradient[2] == 0) and np.any(gradient[0] != 0)


# -- solve_socp ---------------------------------------------------------------------------------------------------------

CONE_CASES = {
    # min x2 over points of the cone with x0, x1 given
    "exp": (("exp", 3), [0, 1], [0.0, 1.0], [0, 0, 1.0], [0, 1, 1.0]),
    "pow": (("pow", 0.5), [1, 2], [4.0, 1.0], [-1.0, 0, 0], [2, 4, 1.0]),
    "soc": (("soc", 3), [1, 2], [3.0, 4.0], [1.0, 0, 0], [5, 3, 4.0]),
    "dimension": (3, [1, 2], [3.0, 4.0], [1.0, 0, 0], [5, 3, 4.0]),
    "rsoc": (("rsoc", 3), [1, 2], [2.0, 2.0], [1.0, 0, 0], [1, 2, 2.0]),
    "nonneg": (("nonneg", 3), [1, 2], [3.0, 4.0], [1.0, 0, 0], [0, 3, 4.0]),
    "psd": (("psd", 2), [0, 1], [1.0, np.sqrt(2.0)], [0, 0, 1.0], [1, np.sqrt(2.0), 1.0]),
}


@pytest.mark.parametrize("name", CONE_CASES)
def test_solve_socp(name):
    """The answer, and its derivative by the two given numbers (the exponential cone gave zeros in the library this replaces)."""
    spec, given, values, c, expected = CONE_CASES[name]
    A = np.eye(3)[given]

    def x(b):
        return solve_socp(P=None, c=np.array(c), G=-np.eye(3), h=np.zeros(3), A=A, b=b, cones=[spec], tol=1e-10)

    value, jacobian = jax.jit(lambda b: (x(b), jax.jacrev(x)(b)))(jnp.array(values))
    np.testing.assert_allclose(value, expected, atol=1e-6)
    free = ({0, 1, 2} - set(given)).pop()
    u, v = values
    slopes = {
        "exp": (1.0, 1.0),  # y exp(x / y)
        "pow": (0.25, 1.0),  # sqrt(y z)
        "soc": (0.6, 0.8),
        "dimension": (0.6, 0.8),
        "rsoc": (-v * v / (2 * u * u), v / u) if u else None,
        "nonneg": (0.0, 0.0),
        "psd": (-1.0, np.sqrt(2.0)),  # v^2 / (2 u)
    }
    np.testing.assert_allclose(jacobian[free], slopes[name], atol=1e-5)
    np.testing.assert_allclose(jacobian[np.array(given)], np.eye(2), atol=1e-9)


def test_socp_failures():
    arguments = dict(P=None, c=np.zeros(1), G=np.zeros((3, 1)), h=np.array([1.0, 2.0, 0.0]), cones=[("soc", 3)])
    with pytest.raises(RuntimeError, match="primal_infeasible"):
        solve_socp(**arguments)
    with pytest.raises(ValueError, match="cones"):
        solve_socp(**(arguments | {"cones": [("soc", 2)]}))
    with pytest.raises(ValueError, match=r"cones\[0\]"):
        solve_socp(**(arguments | {"cones": [("sock", 3)]}))


# -- QpLayer ------------------------------------------------------------------------------------------------------------


def test_layer():
    layer = QpLayer(P, G, A, -2.0, 2.0, tol=1e-9)
    x = layer(C, b=B, h=H)
    np.testing.assert_allclose(x, solve_qp(c=C, b=B, h=H, **MATRICES), atol=1e-7)
    batch = layer.batch(CS, b=B, h=HS)
    np.testing.assert_allclose(batch, solve_qp_batch(c=CS, b=B, h=HS, **MATRICES), atol=1e-7)
    np.testing.assert_allclose(layer(C, b=B, h=H, warm_start=x), x, atol=1e-6)
    np.testing.assert_allclose(layer.batch(CS, b=B, h=HS, warm_start=batch), batch, atol=1e-6)
    np.testing.assert_allclose(eqx.filter_jit(layer)(C, b=B, h=H), x, atol=1e-8)
    np.testing.assert_allclose(jax.jit(lambda c: layer(c, b=B, h=H))(C), x, atol=1e-8)
    with pytest.raises(ValueError, match="`c`"):
        layer.batch(C, b=B, h=H)


def test_layer_is_trained():
    """Gradient descent on its arrays brings the answers to given ones."""
    layer = QpLayer(jnp.asarray(P), jnp.asarray(G), tol=1e-9)
    target = QpLayer(jnp.asarray(P) + 0.5 * jnp.eye(N), jnp.asarray(G) * 1.3).batch(CS, h=H)

    @eqx.filter_jit
    def loss(layer):
        return jnp.mean((layer.batch(CS, h=H) - target) ** 2)

    gradient = eqx.filter_jit(eqx.filter_grad(loss))
    first = loss(layer)
    for _ in range(30):
        layer = jax.tree.map(lambda v, g: v - 0.3 * g, layer, gradient(layer))
    assert loss(layer) < 0.2 * first
