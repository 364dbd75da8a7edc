"""Exponential and power cones: barriers, scaling, projection, central path. Oracles are identities, jax.grad, and differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._cone.exponential import Exponential
from pounce._cone.power import Power

from .optimized import OPTIMIZED


COUNT = 300
EPS = np.finfo(np.float64).eps
ALPHAS = tuple(float(a) for a in np.random.default_rng(0).uniform(0.03, 0.97, COUNT - 3)) + (0.5, 1 / 3, 0.9)
A = np.asarray(ALPHAS)


class Compiled:
    """A cone whose methods are compiled, each once."""

    def __init__(self, cone):
        self.cone = cone

    def __getattr__(self, name):
        value = getattr(self.cone, name)
        if not callable(value):
            return value
        compiled = eqx.filter_jit(value, compiler_options=OPTIMIZED)

        def method(*arguments):
            traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
            return (value if traced else compiled)(*arguments)

        setattr(self, name, method)
        return method


CONES = {"exponential": Compiled(Exponential(COUNT)), "power": Compiled(Power(ALPHAS))}


@pytest.fixture(params=CONES)
def cone(request):
    return CONES[request.param]


def interior(cone, rng, depth=(-1, 1), scale=1.0):
    """Points of K, ``(count, 3)``. ``depth`` (powers of ten): distance from the boundary next to the entries."""
    y, z = 10.0 ** rng.uniform(-scale, scale, (2, COUNT))
    depth = 10.0 ** rng.uniform(*depth, COUNT)
    if isinstance(cone.cone, Exponential):
        return np.stack([y * (np.log(z / y) - depth), y, z], axis=1), depth
    x = y**A * z ** (1 - A) / (1 + depth) * rng.choice([-1.0, 1.0], COUNT)
    x[:5] = 0.0
    return np.stack([x, y, z], axis=1), depth


def pairs(cone, rng, away=0.3, mu=1.0):
    """A pair of interior points for each cone, away from the central path by about that much in the local norm."""
    s, _ = interior(cone, rng)
    z = -mu * cone.primal_gradient(s)
    lower, inverse, _ = cone._dual_factors(z)
    u, v = rng.normal(size=(2, COUNT, 3))
    u, v = (away * w / np.linalg.norm(w, axis=1)[:, None] for w in (u, v))
    z = z + np.einsum("cji,cj->ci", inverse, u)
    s = s + mu * np.einsum("cij,cj->ci", lower, v)
    assert np.all(cone.contains(s) > 0) and np.all(cone.dual_contains(z) > 0)
    return jnp.asarray(s.reshape(-1)), jnp.asarray(z.reshape(-1))


def spread_points(rng, scale):
    return rng.normal(size=(COUNT, 3)) * 10.0 ** rng.uniform(-scale, scale, (COUNT, 3))


def stack(v):
    return np.asarray(v).reshape(-1, 3)


def relative(error, reference):
    return np.max(np.abs(error)) / np.max(np.abs(reference))


# Barriers


def test_derivatives_of_the_dual_barrier(cone):
    rng = np.random.default_rng(1)
    z = -cone.primal_gradient(interior(cone, rng)[0])
    u, v = rng.normal(size=(2, COUNT, 3)) * np.abs(z)

    def total(z):
        return jnp.sum(cone.dual_barrier(z))

    gradient = jax.jit(jax.grad(total))
    assert relative(cone.dual_gradient(z) - gradient(z), gradient(z)) < 1e-12

    @jax.jit
    def along(z, u):
        return jax.jvp(jax.grad(total), (z,), (u,))[1]

    product = np.einsum("cij,cj->ci", cone.dual_hessian(z), u)
    assert relative(product - along(z, u), product) < 1e-12
    third = cone.dual_third(z, u, v)
    assert relative(third - jax.jit(lambda z: jax.jvp(lambda z: along(z, u), (z,), (v,))[1])(z), third) < 1e-12
    h = 1e-5
    assert relative(third - (along(z + h * v, u) - along(z - h * v, u)) / (2 * h), third) < 1e-5


def test_third_derivative_in_closed_form(cone):
    """The formula for ``f* = -log psi - c'log z``."""
    rng = np.random.default_rng(2)
    z = np.asarray(-cone.primal_gradient(interior(cone, rng)[0]))
    u, v = rng.normal(size=(2, COUNT, 3)) * np.abs(z)
    zero = np.zeros(COUNT)
    z0, z1, z2 = z.T
    if isinstance(cone.cone, Exponential):
        c = np.array([[1.0, 0.0, 1.0]])
        l = np.log(-z2 / z0)
        psi = z1 - z0 - z0 * l
        p = np.stack([-l, 1 + zero, -z0 / z2])
        hessian = np.array([[1 / z0, zero, -1 / z2], [zero, zero, zero], [-1 / z2, zero, z0 / z2**2]])
        third = np.stack([
            -u[:, 0] * v[:, 0] / z0**2 + u[:, 2] * v[:, 2] / z2**2,
            zero,
            (u[:, 2] * v[:, 0] + u[:, 0] * v[:, 2]) / z2**2 - 2 * z0 * u[:, 2] * v[:, 2] / z2**3,
        ])  # fmt: skip
    else:
        c = np.stack([zero, 1 - A, A], axis=1)
        a, b = 2 * A, 2 * (1 - A)
        phi = (z1 / A) ** a * (z2 / (1 - A)) ** b
        psi = phi - z0**2
        p = np.stack([-2 * z0, a * phi / z1, b * phi / z2])
        mixed = a * b * phi / (z1 * z2)
        hessian = np.array([
            [zero - 2, zero, zero],
            [zero, a * (a - 1) * phi / z1**2, mixed],
            [zero, mixed, b * (b - 1) * phi / z2**2],
        ])  # fmt: skip
        p1, p2, q1, q2 = u[:, 1] / z1, u[:, 2] / z2, v[:, 1] / z1, v[:, 2] / z2
        cross = p1 * q2 + p2 * q1
        third = phi * np.stack([
            zero,
            (a * (a - 1) * (a - 2) * p1 * q1 + a * (a - 1) * b * cross + a * b * (b - 1) * p2 * q2) / z1,
            (a * (a - 1) * b * p1 * q1 + a * b * (b - 1) * cross + b * (b - 1) * (b - 2) * p2 * q2) / z2,
        ])  # fmt: skip
    pu, pv = np.einsum("ic,ci->c", p, u), np.einsum("ic,ci->c", p, v)
    hu, hv = np.einsum("ijc,cj->ic", hessian, u), np.einsum("ijc,cj->ic", hessian, v)
    expected = -third / psi + (hv * pu + hu * pv + p * np.einsum("ic,ci->c", hv, u)) / psi**2 - 2 * p * pu * pv / psi**3
    expected = expected.T - 2 * c * u * v / np.where(c > 0, z, 1.0) ** 3
    assert relative(cone.dual_third(z, u, v) - expected, expected) < 1e-12


def test_factor_of_the_hessian_near_the_boundary(cone):
    rng = np.random.default_rng(3)
    s, depth = interior(cone, rng, depth=(-9, 1), scale=4)
    z = -cone.primal_gradient(s)
    lower, inverse, white = cone._dual_factors(z)
    assert np.allclose(np.sum(white**2, axis=1), 3, rtol=1e-13)  # z'Hz
    # With condition numbers up to 1e18 only what is relative to the depth is known.
    allowed = 100 * EPS / np.minimum(depth, 1)
    identity = np.einsum("cij,cjk->cik", inverse, lower)
    assert np.all(np.max(np.abs(identity - np.eye(3)), axis=(1, 2)) < allowed)
    # H z = -grad f*(z)
    along = np.einsum("cij,cj->ci", inverse, cone.dual_gradient(z))
    assert np.all(np.max(np.abs(along + white), axis=1) < 10 * allowed)
    assert np.all(np.isnan(np.asarray(cone.dual_factor(-z)[0])[:, 0, 0]))


def test_primal_gradient_is_conjugate(cone):
    rng = np.random.default_rng(4)
    for depth_range in ((-10, -3), (-3, 0), (0, 2)):
        s, depth = interior(cone, rng, depth=depth_range, scale=6)
        g = np.asarray(cone.primal_gradient(s))
        size = np.max(np.abs(s), axis=1)
        ill = 1 + (np.max(np.abs(s / s[:, 1:2]), axis=1) if isinstance(cone.cone, Exponential) else 0)
        allowed = 50 * EPS * ill / np.minimum(depth, 1)
        assert np.all(np.abs(np.sum(s * g, axis=1) + 3) < allowed)
        assert np.all(np.max(np.abs(cone.dual_gradient(-g) + s), axis=1) / size < 3 * allowed)
        assert np.all(np.abs(cone.primal_barrier(s) + cone.dual_barrier(-g) + 3) < allowed)
    s, _ = interior(cone, rng)
    numeric = jax.jit(jax.grad(lambda s: jnp.sum(cone.primal_barrier(s))))(s)
    assert relative(cone.primal_gradient(s) - numeric, numeric) < 1e-11


def test_logarithmic_homogeneity(cone):
    rng = np.random.default_rng(5)
    s, _ = interior(cone, rng)
    z = -cone.primal_gradient(s)
    t = 10.0 ** rng.uniform(-6, 6, COUNT)
    for f, g, v in ((cone.primal_barrier, cone.primal_gradient, s), (cone.dual_barrier, cone.dual_gradient, z)):
        assert np.allclose(f(t[:, None] * v), f(v) - 3 * np.log(t), atol=1e-10)
        assert np.allclose(np.sum(g(v) * v, axis=1), -3, rtol=1e-12)


def test_unit_is_the_fixed_point(cone):
    e = cone.unit(jnp.float64).reshape(-1, 3)
    assert np.allclose(cone.dual_gradient(e), -e, rtol=0, atol=1e-14)
    assert np.allclose(cone.primal_gradient(e), -e, rtol=0, atol=1e-14)
    assert cone.degree() == cone.size == 3 * COUNT and cone.blocks == (3,) * COUNT and not cone.symmetric
    # On the path both scalings are the identity times mu.
    for dual in (False, True):
        scaling = cone.scaling(2 * e.reshape(-1), e.reshape(-1), jnp.asarray(2.0), jnp.asarray(dual))
        hessian = scaling.product(jnp.tile(jnp.eye(3), (COUNT, 1))).reshape(COUNT, 3, 3)
        assert np.allclose(hessian, 2 * cone.dual_hessian(e), rtol=1e-12)


def test_barrier_outside(cone):
    s, z = pairs(cone, np.random.default_rng(6))
    inside = cone.barrier(s, z)
    expected = jnp.sum(cone.primal_barrier(stack(s)) + cone.dual_barrier(stack(z)))
    assert np.allclose(inside, expected)
    for v in (s.at[4].set(-1.0), s.at[0].set(1e3), s.at[1].set(jnp.nan)):
        assert not cone.barrier(v, z) < jnp.inf
    assert not cone.barrier(s, -z) < jnp.inf


# Scaling


def textbook_scaling(cone, s, z):
    """``H = s s' / s'z + ds ds' / ds'dz + t k k'`` by the plain formulas."""
    st, zt = (np.asarray(g) for g in (cone.dual_gradient(z), cone.primal_gradient(s)))
    hessian = np.asarray(cone.dual_hessian(z))
    inner, shadow = np.sum(s * z, 1), np.sum(st * zt, 1) / 3
    mu = inner / 3
    ds, dz = s + mu[:, None] * st, z + mu[:, None] * zt
    product = np.einsum("cij,cj->ci", hessian, zt)
    v = shadow[:, None] * st - product
    outer = lambda u: u[:, :, None] * u[:, None, :]  # noqa: E731
    defect = np.sum(zt * product, 1) - 3 * shadow**2
    rest = hessian - outer(st) / 3 - outer(v) / defect[:, None, None]
    k = np.cross(z, zt)
    k /= np.linalg.norm(k, axis=1)[:, None]
    t = mu * np.linalg.norm(rest, axis=(1, 2))
    gap = np.sum(ds * dz, 1)
    return outer(s) / inner[:, None, None] + outer(ds) / gap[:, None, None] + t[:, None, None] * outer(k), st, zt


def test_primal_dual_scaling(cone):
    rng = np.random.default_rng(7)
    s, z = pairs(cone, rng)
    scaling = cone.scaling(s, z, jnp.asarray(17.0), jnp.asarray(False))
    expected, st, zt = textbook_scaling(cone, stack(s), stack(z))
    blocks = np.stack([scaling.product(jnp.tile(jnp.eye(3)[:, i : i + 1], (COUNT, 1))) for i in range(3)])
    blocks = blocks.reshape(3, COUNT, 3).transpose(1, 2, 0)
    assert np.all(np.abs(blocks - expected) < 1e-9 * np.max(np.abs(expected), axis=(1, 2), keepdims=True))
    for left, right in ((z, s), (jnp.asarray(zt), st)):
        assert relative(scaling.product(left.reshape(-1, 1)).reshape(-1) - right.reshape(-1), right) < 1e-11


@pytest.mark.parametrize("dual", [False, True])
def test_scaling_is_consistent(cone, dual):
    rng = np.random.default_rng(8)
    s, z = pairs(cone, rng, mu=1e-3)
    scaling = cone.scaling(s, z, jnp.asarray(1e-3), jnp.asarray(dual))
    u, v = jnp.asarray(rng.normal(size=(2, cone.size, 4)))
    white_u, white_v = scaling.whiten(u), scaling.whiten(v)
    assert np.allclose(scaling.product(scaling.recover(white_v)), v, rtol=1e-7, atol=1e-7)
    inverse = scaling.recover(white_v)
    assert np.allclose(white_u.T @ white_v, u.T @ inverse, rtol=1e-9, atol=1e-6 * np.max(np.abs(white_u.T @ white_v)))
    if dual:
        expected = 1e-3 * np.einsum("cij,cjk->cik", cone.dual_hessian(stack(z)), u.reshape(COUNT, 3, 4))
        assert relative(scaling.product(u).reshape(COUNT, 3, 4) - expected, expected) < 1e-12


def test_scaling_at_the_end_of_a_solve(cone):
    """Points at 1e-10 from the boundary: the secant holds up to what rounding the points does."""
    rng = np.random.default_rng(9)
    mu = 1e-10
    v = rng.normal(size=(COUNT, 3))
    s, z = cone.central_pair(jnp.asarray(v / np.abs(v).max(1)[:, None]).reshape(-1), mu)
    lower, inverse, _ = cone._dual_factors(stack(z))
    u, w = (0.3 * r / np.linalg.norm(r, axis=1)[:, None] for r in rng.normal(size=(2, COUNT, 3)))
    z = z + np.einsum("cji,cj->ci", inverse, u).reshape(-1)
    s = s + mu * np.einsum("cij,cj->ci", lower, w).reshape(-1)
    for dual in (False, True):
        scaling = cone.scaling(s, z, jnp.asarray(mu), jnp.asarray(dual))
        product = np.einsum("cij,cjk->cik", scaling.inverse, scaling.factor)
        assert np.max(np.abs(product - np.eye(3))) < 1e-5
        if not dual:
            error = scaling.whiten(scaling.product(z[:, None]) - s[:, None])
            assert np.max(np.abs(error)) < 1e-5 * np.sqrt(mu)


def test_scaling_shows_breakdown(cone):
    s, z = pairs(cone, np.random.default_rng(10))
    scaling = cone.scaling(s, -z, jnp.asarray(1.0), jnp.asarray(False))
    assert not np.any(np.isfinite(scaling.product(jnp.ones((cone.size, 1)))))


def test_combined(cone):
    rng = np.random.default_rng(11)
    s, z = pairs(cone, rng)
    ds, dz = 0.1 * rng.normal(size=(2, cone.size)) * np.abs([s, z])
    scaling = cone.scaling(s, z, jnp.asarray(1.0), jnp.asarray(False))
    q = cone.combined(scaling, s, z, ds, dz, jnp.asarray(0.2))
    u = np.linalg.solve(cone.dual_hessian(stack(z)), stack(ds)[:, :, None])[:, :, 0]
    h = 1e-5
    forward, backward = (np.einsum("cij,cj->ci", cone.dual_hessian(stack(z + t * dz)), u) for t in (h, -h))
    expected = stack(s) + 0.2 * cone.dual_gradient(stack(z)) - 0.5 * (forward - backward) / (2 * h)
    assert relative(stack(q) - expected, expected) < 1e-7
    # A step that is not finite costs its own cone the correction, nothing more.
    q = stack(cone.combined(scaling, s, z, jnp.asarray(ds).at[0].set(jnp.nan), dz, jnp.asarray(0.2)))
    assert np.allclose(q[0], stack(s)[0] + 0.2 * cone.dual_gradient(stack(z))[0])
    assert relative(q[1:] - expected[1:], expected) < 1e-7


def test_combined_sign():
    """On the ray ``f* = -3 log z``, whose corrector is Mehrotra's: ``+ ds dz / z``."""
    for cone in (Exponential(1), Power((0.3,))):
        e = cone.unit(jnp.float64)
        scaling = cone.scaling(e, e, jnp.asarray(1.0), jnp.asarray(False))
        q = cone.combined(scaling, e, e, 0.5 * e, 0.25 * e, jnp.asarray(0.0))
        assert np.allclose(q, (1 + 0.5 * 0.25) * e, atol=1e-13)


def test_step_length(cone):
    rng = np.random.default_rng(12)
    s, z = pairs(cone, rng)
    length = cone.step_length
    most = 1 - np.sqrt(EPS)

    def reference(ds, dz, start):
        for k in range(42):
            alpha = min(start, most) * 0.8**k
            if np.all(cone.contains(stack(s + alpha * ds)) > 0) and np.all(
                cone.dual_contains(stack(z + alpha * dz)) > 0
            ):
                return alpha if alpha >= 1e-4 else 0.0
        return 0.0

    for size in (0.0, 0.03, 0.3, 3.0, 100.0, 1e6):
        ds, dz = size * rng.normal(size=(2, cone.size)) * np.abs([s, z]).min()
        for start in (1.0, 0.37):
            assert np.allclose(length(None, s, z, ds, dz, jnp.asarray(start)), reference(ds, dz, start), rtol=1e-14)
    assert length(None, s, z, jnp.full_like(s, jnp.nan), dz, jnp.asarray(1.0)) == 0.0
    assert length(None, s, -z, ds, dz, jnp.asarray(1.0)) == 0.0


# Projection


@pytest.mark.parametrize("scale", [0, 1, 3, 6])
def test_projection_splits(cone, scale):
    rng = np.random.default_rng(13)
    project, unit = cone.project, stack(cone.unit(jnp.float64))
    for seed in range(8):
        v = spread_points(rng, scale)
        if seed == 0:  # edges and faces
            v[:70] *= rng.integers(0, 2, (70, 3))
            v[70:100, 1:] = -np.abs(v[70:100, 1:])
        size = np.maximum(np.max(np.abs(v), axis=1, keepdims=True), 1e-100)
        p = stack(project(v.reshape(-1)))
        d = v - p
        assert np.max(np.abs(np.sum(p * d, axis=1, keepdims=True)) / size**2) < 10 * EPS
        assert np.all(cone.contains(p + 10 * EPS * size * unit) >= 0)
        assert np.all(cone.dual_contains(-d + 10 * EPS * size * unit) >= 0)
        dual = stack(cone.project_dual(-v.reshape(-1)))
        assert np.allclose(dual, -d, atol=0, rtol=0) or np.max(np.abs(dual + d) / size) < 4 * EPS


def test_projection_special_cases():
    cases = {
        (-1.0, 0.0, 2.0): (-1.0, 0.0, 2.0),  # on the face
        (-1.0, -2.0, 3.0): (-1.0, 0.0, 3.0),
        (-1.0, -2.0, -3.0): (-1.0, 0.0, 0.0),
        (0.0, -1.0, -1.0): (0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0): (0.0, 1.0, 1.0),  # on the boundary
        (1.0, -2.0, -1.0): (0.0, 0.0, 0.0),  # in the polar cone
        (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    }
    v, expected = jnp.array(list(cases)), np.array(list(cases.values()))
    cone = Exponential(len(cases))
    assert np.allclose(stack(cone.project(v.reshape(-1))), expected, atol=1e-15)
    derivative = cone.projection_derivative(v.reshape(-1))
    assert np.allclose(derivative[1], np.diag([1, 0, 1])) and np.allclose(derivative[2], np.diag([1, 0, 0]))
    assert np.allclose(derivative[5], 0)

    cases = {
        (0.0, 1.0, -1.0): (0.0, 1.0, 0.0),
        (0.0, -1.0, 2.0): (0.0, 0.0, 2.0),
        (0.0, -1.0, -2.0): (0.0, 0.0, 0.0),
        (0.0, 1.0, 2.0): (0.0, 1.0, 2.0),
        (0.0, 2.0, 0.0): (0.0, 2.0, 0.0),
        (1.0, -2.0, -2.0): (0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    }
    v, expected = jnp.array(list(cases)), np.array(list(cases.values()))
    for a, first in ((0.3, 0.0), (0.5, 1 / 3), (0.7, 1.0)):
        cone = Power((a,) * len(cases))
        assert np.allclose(stack(cone.project(v.reshape(-1))), expected, atol=1e-15)
        derivative = cone.projection_derivative(v.reshape(-1))
        # In the plane of symmetry, where x moves the point of K by theta x: theta = y / (y + 2 |z|) if a is one half.
        assert np.allclose(derivative[0], np.diag([first, 1, 0]), atol=1e-14)
        assert np.allclose(derivative[3], np.eye(3)) and np.allclose(derivative[5], 0)


def test_projection_derivative_reference():
    s = jnp.array([-0.79138921, 1.15855074, 0.58513327])
    z = jnp.array([-0.06072298, -0.10220200, 0.12023021])
    expected = [
        [0.844836457, -0.224926092, 0.235490858],
        [-0.224926092, 0.632278264, 0.423869599],
        [0.235490858, 0.423869599, 0.479247675],
    ]
    assert np.allclose(Exponential(1).projection_derivative(s - z)[0], expected, atol=2e-8)


@pytest.mark.parametrize("scale", [0, 1])
def test_projection_derivatives(cone, scale):
    rng = np.random.default_rng(14)
    v = spread_points(rng, scale)
    size = np.max(np.abs(v), axis=1, keepdims=True)
    direction, ds, dz = rng.normal(size=(3, COUNT, 3))
    direction = (size * direction).reshape(-1)
    ds, dz, v = ds.reshape(-1), dz.reshape(-1), jnp.asarray(v.reshape(-1))
    derivative = np.asarray(cone.projection_derivative(v))
    assert np.allclose(derivative, derivative.transpose(0, 2, 1))
    eigenvalues = np.linalg.eigvalsh(derivative)
    assert np.all(eigenvalues > -1e-14) and np.all(eigenvalues < 1 + 1e-14)

    zero = jnp.zeros_like(v)
    functions = [cone.project, jax.jit(lambda v: cone.linearized(v, zero, ds, dz))]
    functions.append(jax.jit(lambda v: jax.jvp(functions[1], (v,), (direction,))[1]))
    h = 1e-6
    for order, f in enumerate(functions):
        exact = stack(jax.jit(lambda v, f=f: jax.jvp(f, (v,), (direction,))[1])(v))
        numeric = stack((f(v + h * direction) - f(v - h * direction)) / (2 * h))
        assert np.all(np.isfinite(exact))
        error = np.max(np.abs(exact - numeric) / (1 + np.abs(exact) + (size if order == 0 else 0)), axis=1)
        # Third derivatives are steep next to the boundary.
        assert np.quantile(error, 0.97) < (1e-8, 1e-6, 1e-4)[order]
    along = np.einsum("cij,cj->ci", derivative, stack(direction))
    assert np.allclose(stack(jax.jvp(functions[0], (v,), (direction,))[1]), along, rtol=1e-12)


def test_linearized_and_frame(cone):
    rng = np.random.default_rng(15)
    v = spread_points(rng, 1).reshape(-1)
    s = cone.project(v)
    z = s - v
    ds, dz, cotangent = rng.normal(size=(3, cone.size))
    f = lambda ds, dz: cone.linearized(s, z, ds, dz)  # noqa: E731
    # Zero along the solution: ds = D dv, dz = (D - I) dv.
    dv = rng.normal(size=cone.size)
    moved = np.einsum("cij,cj->ci", cone.projection_derivative(v), stack(dv)).reshape(-1)
    assert np.max(np.abs(f(moved, moved - dv))) < 1e-13
    left, right = jax.linear_transpose(f, ds, dz)(jnp.asarray(cotangent))
    assert np.allclose(left @ ds + right @ dz, cotangent @ f(ds, dz))
    frame, factor = cone.frame(s, z)
    both = jnp.stack([ds, dz, f(ds, dz)], axis=1)
    assert np.allclose(frame.restore(frame.rotate(both)), both, atol=1e-13)
    rotated = frame.rotate(both)
    assert np.allclose(rotated[:, 2], factor * (frame.a * rotated[:, 1] + frame.b * rotated[:, 0]), atol=1e-13)
    assert np.all((frame.a >= 0) & (frame.a <= 1)) and np.allclose(frame.a + frame.b, 1)


# Central path


@pytest.mark.parametrize("mu", [1e-8, 1e-4, 1.0, 1e2])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_central_pair(cone, mu, size):
    rng = np.random.default_rng(16)
    v = size * rng.normal(size=(COUNT, 3)) * 10.0 ** rng.uniform(-1, 1, (COUNT, 3))
    v[:10] *= rng.integers(0, 2, (10, 3))
    v[10:30, 1:] = -np.abs(v[10:30, 1:])
    s, z = (stack(part) for part in cone.central_pair(jnp.asarray(v.reshape(-1)), jnp.asarray(mu)))
    scale = np.max(np.abs(v), axis=1) + np.sqrt(mu)
    assert np.max(np.max(np.abs(s - z - v), axis=1) / scale) < 10 * EPS
    # Rounding s and z moves them by this much next to their distance from the boundary, which no algorithm can undo.
    allowed = 50 * EPS * scale**2 / mu
    clear = allowed < 0.1
    assert np.all(cone.contains(s)[clear] > 0) and np.all(cone.dual_contains(z)[clear] > 0)
    assert np.all(np.abs(np.sum(s * z, axis=1) / (3 * mu) - 1) < allowed)
    residual = np.einsum("cij,cj->ci", cone._dual_factors(z)[1], s / mu + cone.dual_gradient(z))
    assert np.all((np.linalg.norm(residual, axis=1) < allowed)[clear])


# Transformations


def test_single_precision(cone):
    rng = np.random.default_rng(17)
    eps = np.finfo(np.float32).eps
    v64 = np.float32(spread_points(rng, 1)).reshape(-1)
    v = jnp.asarray(v64)
    size = np.max(np.abs(stack(v)), axis=1, keepdims=True)
    assert v.dtype == cone.project(v).dtype == jnp.float32
    v64 = v64.astype(np.float64)
    assert np.max(np.abs(stack(cone.project(v)) - stack(cone.project(v64))) / size) < 10 * eps
    derivative = cone.projection_derivative(v)
    assert np.quantile(np.abs(derivative - cone.projection_derivative(v64)), 0.99) < 10 * eps
    tangent = jax.jvp(lambda v: cone.linearized(v, 0 * v, v, v), (v,), (v,))[1]
    assert tangent.dtype == jnp.float32 and np.all(np.isfinite(tangent))

    s64, z64 = pairs(cone, rng)
    s, z = s64.astype(jnp.float32), z64.astype(jnp.float32)
    one, false = jnp.ones((), jnp.float32), jnp.asarray(False)
    scaling, reference = cone.scaling(s, z, one, false), cone.scaling(s64, z64, one.astype(jnp.float64), false)
    q, q64 = (cone.combined(*args, 0.1 * args[1], 0.1 * args[2], 0.1 * one.astype(args[1].dtype)) for args in ((scaling, s, z), (reference, s64, z64)))  # fmt: skip # noqa: E501
    assert q.dtype == jnp.float32 and relative(q - q64, q64) < 1e-3
    secant = np.abs(scaling.whiten(scaling.product(z[:, None]) - s[:, None]))
    assert np.quantile(secant, 0.9) < 1e-4 and np.max(secant) < 0.1  # the worst are 1e-4 from the boundary
    assert cone.step_length(scaling, s, z, -s, z, one).dtype == cone.barrier(s, z).dtype == jnp.float32
    s, z = cone.central_pair(v, one)
    assert s.dtype == jnp.float32 and relative(s + cone.dual_gradient(stack(z)).reshape(-1), s) < 1e-3


def test_lanes_do_not_touch(cone):
    """A lane of NaN leaves its neighbours as they are when alone, values and derivatives."""
    rng = np.random.default_rng(18)
    s, z = pairs(cone, rng)
    v = jnp.asarray(spread_points(rng, 2).reshape(-1))
    ds, dz = jnp.asarray(rng.normal(size=(2, cone.size)))

    def everything(s, z, v):
        scaling = cone.scaling(s, z, jnp.asarray(0.1), jnp.asarray(False))
        tangent = jax.jvp(lambda v: cone.linearized(v, 0 * v, ds, dz), (v,), (ds,))[1]
        gradient = jax.grad(lambda v: jnp.sum(cone.project(v) * ds))(v)
        return (
            scaling.product(ds[:, None]),
            cone.combined(scaling, s, z, ds, dz, jnp.asarray(0.1)),
            cone.step_length(scaling, s, z, ds, dz, jnp.asarray(1.0)),
            cone.barrier(s, z),
            cone.central_pair(v, jnp.asarray(0.1)),
            tangent,
            gradient,
        )

    alone = jax.jit(everything)(s, z, v)
    lanes = jax.jit(jax.vmap(everything))(*(jnp.stack([w, jnp.full_like(w, jnp.nan), w]) for w in (s, z, v)))
    for expected, found in zip(jax.tree.leaves(alone), jax.tree.leaves(lanes), strict=True):
        assert np.all(np.isfinite(expected))
        scale = np.max(np.abs(expected))
        assert np.allclose(found[0], expected, rtol=1e-9, atol=1e-12 * scale)
        assert np.allclose(found[2], expected, rtol=1e-9, atol=1e-12 * scale)
