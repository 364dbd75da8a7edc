"""Orthant, second-order and semidefinite cones: scaling, directions, steps, projections,
frames. Oracles are definitions and jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._cone.nonnegative import Nonnegative
from pounce._cone.product import ConeProduct
from pounce._cone.second_order import SecondOrder
from pounce._cone.semidefinite import Semidefinite, smat, svec

from .conic_programs import svec as packed


COUNT = 5
STACKS = {
    "nonneg": Nonnegative(jnp.ones(COUNT, bool)),
    **{f"soc {d}": SecondOrder(d, COUNT) for d in (1, 2, 3, 6)},
    **{f"psd {n}": Semidefinite(n, COUNT) for n in (1, 2, 4)},
}
ZERO, FALSE = jnp.zeros(()), jnp.array(False)


@pytest.fixture(params=STACKS)
def cone(request):
    return STACKS[request.param]


def interior(cone, rng, scale=1.0, depth=0.3):
    """A point of every cone of the stack; ``scale``: its size, ``depth``: distance from the boundary next to it."""
    if isinstance(cone, Nonnegative):
        return scale * (depth + rng.uniform(size=cone.size))
    if isinstance(cone, SecondOrder):
        u = rng.normal(size=(cone.count, cone.dimension))
        u[:, 0] = np.linalg.norm(u[:, 1:], axis=1) * (1 + depth) + depth * rng.uniform(0.5, 1, cone.count)
        return scale * u.reshape(-1)
    x = rng.normal(size=(cone.count, cone.order, cone.order))
    q, _ = np.linalg.qr(x)
    values = depth + rng.uniform(size=(cone.count, 1, cone.order))
    return scale * np.asarray(svec((q * values) @ np.swapaxes(q, 1, 2))).reshape(-1)


def jordan(cone, u, v):
    """The Jordan product, by definition."""
    if isinstance(cone, Nonnegative):
        return u * v
    if isinstance(cone, SecondOrder):
        u, v = u.reshape(cone.count, -1), v.reshape(cone.count, -1)
        head = np.sum(u * v, axis=1, keepdims=True)
        return np.concatenate([head, u[:, :1] * v[:, 1:] + v[:, :1] * u[:, 1:]], axis=1).reshape(-1)
    x, y = (np.asarray(smat(w.reshape(cone.count, -1))) for w in (u, v))
    return np.asarray(svec(0.5 * (x @ y + y @ x))).reshape(-1)


def margin(cone, v):
    """Signed distance to the boundary, in NumPy."""
    if isinstance(cone, Nonnegative):
        return np.min(v)
    if isinstance(cone, SecondOrder):
        v = np.reshape(v, (cone.count, -1))
        return np.min(v[:, 0] - np.linalg.norm(v[:, 1:], axis=1))
    return np.min(np.linalg.eigvalsh(np.asarray(smat(np.reshape(v, (cone.count, -1))))))


def dense(operator, size):
    return np.asarray(operator(jnp.eye(size)))


def close(a, b, tolerance=1e-11):
    size = max(np.max(np.abs(a), initial=0.0), np.max(np.abs(b), initial=0.0))
    assert np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0.0) <= tolerance * max(size, 1e-300)


def pair(cone, seed, scale_s=1.0, scale_z=1.0, depth=0.3):
    rng = np.random.default_rng(seed)
    return jnp.asarray(interior(cone, rng, scale_s, depth)), jnp.asarray(interior(cone, rng, scale_z, depth)), rng


def test_unit(cone):
    """``e o v = v``, and e is central: ``-grad f(e) = e``."""
    e = np.asarray(cone.unit(np.float64))
    v = np.random.default_rng(0).normal(size=cone.size)
    close(jordan(cone, e, v), v)
    gradient = jax.grad(lambda s: cone.barrier(s, jnp.asarray(e)))(jnp.asarray(e))
    close(-gradient, e)
    assert margin(cone, e) == pytest.approx(1)
    least, total = cone.margin(jnp.asarray(e))
    assert least == pytest.approx(1) and total == pytest.approx(float(cone.degree()))


def test_margin(cone):
    v = np.random.default_rng(1).normal(size=cone.size)
    np.testing.assert_allclose(cone.margin(jnp.asarray(v))[0], margin(cone, v), rtol=1e-12)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e8, 1e-8), (1e-8, 1e-8), (1e-8, 1e8), (1e8, 1e8)])
def test_scaling(cone, scales):
    """``H z = s``, ``W z = W^-T s``, ``W^-1 W^-T = H^-1``, H symmetric positive definite."""
    s, z, rng = pair(cone, 2, *scales)
    scaling = cone.scaling(s, z, ZERO, FALSE)
    close(scaling.product(z[:, None])[:, 0], s, 1e-12)
    h = dense(scaling.product, cone.size)
    close(h, h.T, 1e-12)
    assert np.min(np.linalg.eigvalsh(h)) > 0
    white = dense(scaling.whiten, cone.size)  # W^-T
    close(white.T, dense(scaling.recover, cone.size), 1e-12)
    close(white @ h @ white.T, np.eye(cone.size), 1e-10)
    # The two images of the pair are one point.
    close(scaling.whiten(s[:, None])[:, 0], np.linalg.solve(white.T, np.asarray(z)), 1e-9)
    v = jnp.asarray(rng.normal(size=(cone.size, 3)))
    close(scaling.recover(scaling.whiten(scaling.product(v))), v, 1e-10)


@pytest.mark.parametrize("depth", [1e-3, 1e-4])
def test_scaling_near_the_boundary(cone, depth):
    """On the central path with a small barrier parameter, as at the end of a solve."""
    rng = np.random.default_rng(3)
    v = jnp.asarray(rng.normal(size=cone.size))
    s, z = cone.central_pair(v, jnp.asarray(depth**2))
    scaling = cone.scaling(s, z, ZERO, FALSE)
    close(scaling.product(z[:, None])[:, 0], s, 1e-7)
    white_s = np.asarray(scaling.whiten(s[:, None])[:, 0])
    np.testing.assert_allclose(np.sum(white_s**2), float(s @ z), rtol=1e-6)


def test_barrier_identities(cone):
    """``f(a s) = f(s) - degree log a``, ``-s'grad f(s) = degree``, ``hess f(s) s = -grad f(s)``, the same of the dual barrier."""
    s, z, _ = pair(cone, 4)
    degree = float(cone.degree())
    for k in (0, 1):

        def f(v, k=k):
            return cone.barrier(v, z) if k == 0 else cone.barrier(s, v)

        v = (s, z)[k]
        gradient = jax.grad(f)(v)
        np.testing.assert_allclose(f(7.0 * v), f(v) - degree * np.log(7.0), rtol=1e-12)
        np.testing.assert_allclose(-v @ gradient, degree, rtol=1e-11)
        close(jax.jvp(jax.grad(f), (v,), (v,))[1], -gradient, 1e-10)
    # f*(-grad f(s)) = -f(s).
    dual = -jax.grad(lambda v: cone.barrier(v, z))(s)
    np.testing.assert_allclose(cone.barrier(s, dual), 0.0, atol=1e-9)
    # H maps grad f(s) to grad f*(z).
    scaling = cone.scaling(s, z, ZERO, FALSE)
    on_s = jax.grad(lambda v: cone.barrier(v, z))(s)
    on_z = jax.grad(lambda v: cone.barrier(s, v))(z)
    close(scaling.product(on_s[:, None])[:, 0], on_z, 1e-10)
    assert not np.isfinite(cone.barrier(-s, z))


def test_combined(cone):
    """``q = W'(lambda \\ d)`` with ``d = lambda o lambda + (W^-T ds) o (W dz) - target e``, by dense linear algebra."""
    s, z, rng = pair(cone, 5)
    ds, dz = (jnp.asarray(rng.normal(size=cone.size)) for _ in range(2))
    target = 0.37
    scaling = cone.scaling(s, z, ZERO, FALSE)
    w_inverse = dense(scaling.recover, cone.size)
    w = np.linalg.inv(w_inverse)
    lam = w @ np.asarray(z)
    e = np.asarray(cone.unit(np.float64))
    d = jordan(cone, lam, lam) + jordan(cone, w_inverse.T @ np.asarray(ds), w @ np.asarray(dz)) - target * e
    columns = np.stack([jordan(cone, lam, column) for column in np.eye(cone.size)], axis=1)
    expected = w.T @ np.linalg.solve(columns, d)
    close(cone.combined(scaling, s, z, ds, dz, jnp.asarray(target)), expected, 1e-9)
    # Without a target and a predictor it is the affine one.
    close(cone.combined(scaling, s, z, 0 * ds, 0 * dz, ZERO), s, 1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_step_length(cone, scale):
    """At the step one of the pair is on the boundary, and before it both are inside."""
    for seed in range(6):
        s, z, rng = pair(cone, 10 + seed, scale, 1 / scale)
        ds = scale * jnp.asarray(rng.normal(size=cone.size))
        dz = jnp.asarray(rng.normal(size=cone.size)) / scale
        scaling = cone.scaling(s, z, ZERO, FALSE)
        alpha = float(cone.step_length(scaling, s, z, ds, dz, jnp.asarray(1e6)))

        def least(a, s=s, z=z, ds=ds, dz=dz):
            return min(margin(cone, s + a * ds) / scale, margin(cone, z + a * dz) * scale)

        if alpha < 1e6:
            assert abs(least(alpha)) < 1e-9
        assert least(0.999 * alpha) > 0
        assert cone.step_length(scaling, s, z, ds, dz, jnp.asarray(alpha / 3)) == pytest.approx(alpha / 3)
        # Inwards there is no boundary.
        assert cone.step_length(scaling, s, z, s, z, jnp.asarray(1e6)) == 1e6
        np.testing.assert_allclose(cone.step_length(scaling, s, z, -s, 0 * z, jnp.asarray(1e6)), 1, rtol=1e-9)
        np.testing.assert_allclose(cone.step_length(scaling, s, z, 0 * s, -2 * z, jnp.asarray(1e6)), 0.5, rtol=1e-9)


def test_step_length_of_nan_is_zero_or_nan(cone):
    s, z, _ = pair(cone, 6)
    scaling = cone.scaling(s, z, ZERO, FALSE)
    alpha = float(cone.step_length(scaling, s, z, jnp.full_like(s, jnp.nan), z, jnp.asarray(1.0)))
    assert not alpha > 0 or isinstance(cone, Nonnegative)  # the solver looks at the values, too


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_projection(cone, scale):
    """Moreau: ``v = p - d`` with p in K, d in K*, ``p'd = 0``."""
    for seed in range(4):
        v = scale * jnp.asarray(np.random.default_rng(seed).normal(size=cone.size))
        p, d = cone.project(v), cone.project_dual(-v)
        close(p - d, v, 1e-13)
        assert margin(cone, p) > -1e-14 * scale * 10 and margin(cone, d) > -1e-14 * scale * 10
        assert abs(float(p @ d)) < 1e-13 * scale**2
        close(cone.project(p), p, 1e-13)
    for point, near in ((cone.unit(np.float64), cone.unit(np.float64)), (-cone.unit(np.float64), 0.0)):
        close(cone.project(point), near + jnp.zeros(cone.size), 1e-15)
    np.testing.assert_array_equal(cone.project(jnp.zeros(cone.size)), 0)


@pytest.mark.parametrize("mu", [1.0, 1e-8, 1e8])
def test_central_pair(cone, mu):
    """``s - z = v`` and ``s = -mu grad f*(z)``."""
    v = jnp.asarray(np.random.default_rng(7).normal(size=cone.size))
    s, z = cone.central_pair(v, jnp.asarray(mu))
    close(s - z, v, 1e-13 * max(1, np.sqrt(mu)))
    assert margin(cone, s) > 0 and margin(cone, z) > 0
    np.testing.assert_allclose(s @ z, mu * float(cone.degree()), rtol=1e-7 if mu < 1 else 1e-11)
    gradient = jax.grad(lambda w: cone.barrier(s, w))(z)
    close(-mu * gradient, s, 1e-6 if mu < 1 else 1e-11)
    unit = cone.unit(np.float64)
    for part in cone.central_pair(jnp.zeros(cone.size), jnp.asarray(mu)):
        close(part, np.sqrt(mu) * unit, 1e-12)


def test_frame(cone):
    """An orthogonal basis in which `linearized` is diagonal at a complementary pair, with a + b = 1."""
    for seed in range(4):
        v = jnp.asarray(np.random.default_rng(20 + seed).normal(size=cone.size))
        s, z = cone.project(v), cone.project_dual(-v)
        frame, factor = cone.frame(s, z)
        q = dense(frame.restore, cone.size)
        close(q.T @ q, np.eye(cone.size), 1e-13)
        close(dense(frame.rotate, cone.size), q.T, 1e-13)
        np.testing.assert_allclose(frame.a + frame.b, 1, rtol=1e-13)
        assert np.all(frame.a >= 0) and np.all(frame.b >= 0) and np.all(factor > 0)
        on_z = np.asarray(jax.jacobian(lambda dz: cone.linearized(s, z, 0 * dz, dz))(v))
        on_s = np.asarray(jax.jacobian(lambda ds: cone.linearized(s, z, ds, 0 * ds))(v))
        close(q @ np.diag(factor * frame.a) @ q.T, on_z, 1e-12)
        close(q @ np.diag(factor * frame.b) @ q.T, on_s, 1e-12)
        # a is the derivative of the projection.
        slope = jax.jacobian(cone.project)(v)
        close(q @ np.diag(frame.a) @ q.T, slope, 1e-10)


def test_frame_at_zero(cone):
    """Where both are zero every row is half held."""
    frame, factor = cone.frame(jnp.zeros(cone.size), jnp.zeros(cone.size))
    np.testing.assert_allclose(frame.a, 0.5)
    np.testing.assert_allclose(frame.b, 0.5)
    assert np.all(np.isfinite(factor))
    q = dense(frame.restore, cone.size)
    close(q.T @ q, np.eye(cone.size), 1e-13)


def test_linearized_is_the_derivative_of_complementarity(cone):
    """Along a curve of complementary pairs, ``linearized`` of its tangent is zero."""
    rng = np.random.default_rng(8)
    v, dv = (jnp.asarray(rng.normal(size=cone.size)) for _ in range(2))
    s, ds = jax.jvp(cone.project, (v,), (dv,))
    z, dz = jax.jvp(lambda v: cone.project_dual(-v), (v,), (dv,))
    close(cone.linearized(s, z, ds, dz) + 1.0, jnp.ones(cone.size), 1e-10)


def test_units_of_rows(cone):
    """Factors keep the cone, whatever sizes they are made of; those that are rounded or balance a pair are powers of two."""
    s, z, rng = pair(cone, 7, 3.0, 40.0, 0.01)
    sizes = jnp.asarray(10.0 ** rng.uniform(-3, 3, cone.size) * (rng.uniform(size=cone.size) < 0.8))
    edge = cone.project(jnp.asarray(rng.normal(size=cone.size)))
    factors = cone.equilibrated(jnp.ones(cone.size), sizes, 1e-2, 1e2)
    assert np.all((factors >= 0.99e-2) & (factors <= 1.01e2))
    for found in (factors, cone.rounded(factors), cone.balanced(s, z), cone.balanced(edge, cone.project(edge) - edge)):
        assert margin(cone, found * s) > 0 and margin(cone, z / found) > 0
        assert (
            abs(margin(cone, found * edge)) <= 1e-12 * max(np.max(np.abs(found * edge)), 1.0) or margin(cone, edge) > 0
        )
        if found is not factors:
            assert np.all(np.frexp(np.asarray(found))[0] == 0.5)


def test_units_of_indices():
    """Those of row sizes are found, and those of a pair on the boundaries."""
    cone, rng = Semidefinite(4, 2), np.random.default_rng(3)
    packed = lambda matrices: svec(jnp.asarray(matrices)).reshape(-1)
    d = 10.0 ** rng.uniform(-2, 2, (2, 4))
    units = packed(d[:, :, None] * d[:, None, :]) / packed(np.ones((2, 4, 4)))
    factors = jnp.ones(cone.size)
    for _ in range(50):
        factors = cone.equilibrated(factors, factors * units, 1e-8, 1e8)
    np.testing.assert_allclose(factors * units, 1.0, rtol=1e-3)
    q = np.linalg.qr(rng.normal(size=(2, 4, 4)))[0]
    values = np.array([[2.0, 1.0, 1e-9, 1e-9], [5e-10, 1e-9, 1.0, 3.0]])
    s, z = (packed((q * v) @ np.swapaxes(q, 1, 2)) for v in values)
    found = cone.balanced(units * s, z / units) * units
    ratio = np.asarray(found * s / (z / found))[np.asarray(cone.unit(float)) > 0]
    assert np.all((ratio > 1 / 8.1) & (ratio < 8.1))


def test_absent_rows():
    """A row that is not there has ``s = z = 0`` and no part in anything."""
    present = jnp.array([True, False, True])
    cone, few = Nonnegative(present), Nonnegative(jnp.ones(2, bool))
    rng = np.random.default_rng(9)
    s, z, ds, dz = (jnp.asarray(w).at[1].set(0.0) for w in (*rng.uniform(0.5, 1, (2, 3)), *rng.normal(size=(2, 3))))
    short = [w[present] for w in (s, z, ds, dz)]
    assert int(cone.degree()) == 2
    np.testing.assert_array_equal(cone.unit(np.float64), [1, 0, 1])
    scaling, of_few = cone.scaling(s, z, ZERO, FALSE), few.scaling(*short[:2], ZERO, FALSE)
    for verb in ("product", "whiten", "recover"):
        full = getattr(scaling, verb)(ds[:, None])[:, 0]
        np.testing.assert_array_equal(full[present], getattr(of_few, verb)(short[2][:, None])[:, 0])
        assert full[1] == 0
    q = cone.combined(scaling, s, z, ds, dz, jnp.asarray(0.3))
    np.testing.assert_array_equal(q[present], few.combined(of_few, *short, jnp.asarray(0.3)))
    assert q[1] == 0
    one = jnp.asarray(1e3)
    assert cone.step_length(scaling, s, z, ds, dz, one) == few.step_length(of_few, *short, one)
    assert cone.barrier(s, z) == few.barrier(*short[:2])
    v = jnp.array([-1.0, 5.0, 2.0])
    np.testing.assert_array_equal(cone.project(v), [0, 0, 2])
    np.testing.assert_array_equal(cone.project_dual(-v), [1, 0, 0])
    for part in cone.central_pair(v, jnp.asarray(0.1)):
        assert part[1] == 0
    assert cone.margin(v)[0] == -1
    frame, factor = cone.frame(jnp.array([0.0, 0, 2]), jnp.array([1.0, 0, 0]))
    np.testing.assert_array_equal(frame.a, [0, 1, 1])
    assert np.all(np.asarray(factor) > 0)
    assert cone.linearized(s, z, ds, jnp.array([0.0, 3, 0]))[1] == 3


def test_packing():
    """The lower triangle column by column; entry (i, j) at ``j n - j (j - 1) / 2 + i - j``, off-diagonal ones times sqrt 2."""
    n = 4
    x, y = (m + m.T for m in np.random.default_rng(10).normal(size=(2, n, n)))
    v = np.asarray(svec(jnp.asarray(x)))
    for j in range(n):
        for i in range(j, n):
            assert v[j * n - j * (j - 1) // 2 + i - j] == pytest.approx(x[i, j] * (1 if i == j else np.sqrt(2)))
    np.testing.assert_allclose(smat(jnp.asarray(v)), x, rtol=1e-15)
    np.testing.assert_allclose(v, packed(x), rtol=1e-15)
    np.testing.assert_allclose(v @ np.asarray(svec(jnp.asarray(y))), np.sum(x * y), rtol=1e-13)


def test_product_of_stacks():
    """Every verb of the product is that of its stacks, one after the other; the leading stacks make a scaling of their own."""
    stacks = (Nonnegative(jnp.ones(3, bool)), SecondOrder(3, 2), Semidefinite(2, 2))
    product = ConeProduct(stacks)
    rng = np.random.default_rng(11)
    s, z = (jnp.concatenate([jnp.asarray(interior(cone, rng)) for cone in stacks]) for _ in range(2))
    ds, dz, v = (jnp.asarray(rng.normal(size=product.size)) for _ in range(3))
    scaling = product.scaling(s, z, ZERO, FALSE)
    parts = [
        cone.scaling(a, b, ZERO, FALSE) for cone, a, b in zip(stacks, product.split(s), product.split(z), strict=True)
    ]
    np.testing.assert_array_equal(
        scaling.product(v[:, None])[:, 0],
        np.concatenate([part.product(w[:, None])[:, 0] for part, w in zip(parts, product.split(v), strict=True)]),
    )
    np.testing.assert_array_equal(scaling.leading(9).whiten(v[:9, None]), scaling.whiten(v[:, None])[:9])
    assert int(product.degree()) == 3 + 2 + 4
    most = jnp.asarray(1e3)
    split = list(zip(stacks, parts, *(product.split(w) for w in (s, z, ds, dz)), strict=True))
    expected = min(float(cone.step_length(part, *vectors, most)) for cone, part, *vectors in split)
    assert product.step_length(scaling, s, z, ds, dz, most) == pytest.approx(expected)
    for whole, pieces in (
        (product.project(v), [cone.project(w) for cone, w in zip(stacks, product.split(v), strict=True)]),
        (product.linearized(s, z, ds, dz), [cone.linearized(*vectors) for cone, _, *vectors in split]),
        (
            product.combined(scaling, s, z, ds, dz, most),
            [cone.combined(part, *vectors, most) for cone, part, *vectors in split],
        ),
    ):
        np.testing.assert_array_equal(whole, np.concatenate(pieces))
