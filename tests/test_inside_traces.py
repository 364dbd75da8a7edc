"""Solves inside of other people's transformations: closures, constants, debugging switches, meshes, and what caches hold."""

import functools
import gc
import warnings
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import pounce
from pounce._check import at_top_level, tracing
from pounce._problem.captured import Captured, captured, closes_over_tracers
from pounce._program import compiled
from pounce._weak import Weakly, weakly
from pounce.jax import (
    JaxProblem,
    from_jax,
    solve,
    solve_qp,
    solve_socp,
    solve_with_warm,
    vmap_solve,
    vmap_solve_parallel,
)
from pounce.jax._failures import heeded


SOLVER = pounce.InteriorPoint()
X0 = jnp.zeros(2)
SUM = lambda x, p: jnp.sum(x)[None]
QP = dict(P=jnp.eye(2), G=jnp.ones((1, 2)), h=jnp.array([5.0]), lb=0.0)


def squares(x, a, k):
    return jnp.sum((x - a * k) ** 2)


def by_closure(a, weight=1.0, k=2):
    """min w (x_i - a k)^2 with x_0 + x_1 = a: a / 2 each."""
    rows, weight = dict(cl=0.0, cu=0.0, lb=-9.0, ub=9.0), jnp.asarray(weight)
    problem = pounce.NLP(lambda x, p: weight * squares(x, a, k), lambda x, p: (jnp.sum(x) - a)[None], **rows)
    return pounce.solve(problem, SOLVER, X0).x[0]


def compilations(call):
    """How many programs a call compiles."""
    seen = []
    listener = lambda event, seconds, **_: seen.append(event) if event.endswith("backend_compile_duration") else None
    jax.monitoring.register_event_duration_secs_listener(listener)
    call()
    return len(seen)


def test_closures_are_differentiated_and_share_a_program():
    gradient = jax.grad(by_closure)
    np.testing.assert_allclose(gradient(2.0), 0.5, atol=1e-7)
    assert compilations(lambda: np.testing.assert_allclose(gradient(3.0, 1.5), 0.5, atol=1e-7)) == 0
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(by_closure)))(
        jnp.arange(3.0), jnp.ones(3), jnp.arange(1, 4)
    )
    np.testing.assert_allclose(values, [0.0, 0.5, 1.0], atol=1e-7)
    np.testing.assert_allclose(gradients, 0.5, atol=1e-7)
    step = lambda a, _: (by_closure(a + 1.0), None)
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda a: jax.lax.scan(step, a, None, length=2)[0]))(1.0), 0.25, atol=1e-7
    )


class Plain:
    def __init__(self, a):
        self.a = a

    def f(self, x, p):
        return squares(x, self.a, 1.0)

    def __call__(self, x, p):
        return self.f(x, p)


class Module(eqx.Module):
    a: jax.Array

    def f(self, x, p):
        return squares(x, self.a, 1.0)


def default(a):
    def f(x, p, *, a=a):
        return squares(x, a, 1.0)

    return f


def nested(a):
    inner = {"those": [Plain(a)]}
    return lambda x, p: (lambda x: inner["those"][0].f(x, p))(x)


MADE = {
    "closure": lambda a: lambda x, p: squares(x, a, 1.0),
    "partial": lambda a: functools.partial(lambda a, x, p: squares(x, a, 1.0), a),
    "keyword": lambda a: functools.partial(lambda x, p, a: squares(x, a, 1.0), a=a),
    "method": lambda a: Plain(a).f,
    "callable": Plain,
    "default": default,
    "nested": nested,
    "jitted": lambda a: jax.jit(lambda x, p: squares(x, a, 1.0)),
    "module inside": lambda a: (lambda module: lambda x, p: module.f(x, p))(Module(a)),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_closed_over_is_found(name):
    """Also where it is of another type, and beside whole numbers that are known and functions that close over nothing."""
    x = jnp.array([1.0, 2.0])

    def cost(a):
        f = captured(MADE[name](a), x, ())
        assert isinstance(f, Captured) and tracing()
        assert f.program == captured(MADE[name](a + 1.0), x, ()).program
        return f(x, ())

    for a in (jnp.array(0.5), jnp.array(0.5, jnp.float32)):
        np.testing.assert_allclose(jax.grad(cost)(a), -4.0)
        np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(cost)))(a[None]), -4.0)
    known = MADE[name](np.array(0.5))
    assert captured(known, x, ()) is known
    jax.make_jaxpr(lambda a: a if captured(known, x, ()) is known else 0)(1.0)


def test_modules_are_pytrees_and_whole_numbers_are_known():
    index = np.array([1, 0])

    def cost(a):
        assert not closes_over_tracers(Module(a).f)
        f = captured(lambda x, p: squares(x[index], a, p), X0, 1.0)
        assert len(f.arrays) == 1 and f.known.count(None) == 1 and len(f.known) > 1
        return f(X0, 1.0)

    np.testing.assert_allclose(jax.grad(cost)(0.5), 2.0)


def test_functions_of_other_doors():
    """One program each: a partial and a method, an objective that is a module, and a problem made inside of the trace."""

    def all_of_them(a):
        g = functools.partial(lambda a, x, p: (jnp.sum(x) - a)[None], a)
        rows = dict(g=g, m=1, cl=0.0, cu=0.0, n=2)
        one = solve((), f=Plain(2.0 * a).f, x0=X0, **rows)[0]
        p = jnp.array([1.0, 2.0])
        two = vmap_solve(p, f=lambda x, p: squares(x, a, p), x0=X0, **rows)[:, 0]
        three = JaxProblem(f=Module(a).f, p_example=(), **rows).solve((), X0)[0]
        return jnp.stack([one, *two, three])

    np.testing.assert_allclose(jax.jit(jax.jacfwd(all_of_them))(2.0), 0.5, atol=1e-7)


def test_nothing_old_is_used():
    """The same function object, its closure known before, traced twice, and known again."""
    holder = {"a": jnp.array(1.0)}
    problem = pounce.NLP(lambda x, p: squares(x, holder["a"], p), SUM, cl=-9.0, cu=9.0)

    def at(a):
        holder["a"] = a
        return pounce.solve(problem, SOLVER, X0, 1.0).x[0]

    np.testing.assert_allclose(at(jnp.array(1.0)), 1.0, atol=1e-7)
    traced = jax.jit(at)
    for a in (2.0, 3.0):
        np.testing.assert_allclose(traced(a), a, atol=1e-7)
        np.testing.assert_allclose(jax.grad(at)(a), 1.0, atol=1e-7)
    np.testing.assert_allclose(at(jnp.array(1.0)), 1.0, atol=1e-7)


def test_constants_are_solved_anywhere():
    problem = pounce.NLP(lambda x, p: squares(x, p, 1.0), SUM, cl=-9.0, cu=9.0)
    one = lambda: pounce.solve(problem, SOLVER, X0, jnp.array([1.0, 0.3])).x
    layer = lambda: solve_qp(c=jnp.array([-1.0, -0.3]), **QP)
    assert at_top_level(one())
    host = from_jax(lambda x: squares(x, 1.0, 1.0), n=2)
    host.add_option("print_level", 0)
    np.testing.assert_allclose(jax.jit(lambda a: a * host.solve(np.zeros(2))[0])(2.0), 2.0, atol=1e-7)
    for each in (one, layer):
        expected = each()
        np.testing.assert_allclose(jax.jit(lambda a: a * each())(2.0), 2.0 * expected, atol=1e-7)
        total = jax.lax.scan(lambda s, _: (s + each(), None), X0, None, length=3)[0]
        np.testing.assert_allclose(total, 3.0 * expected, atol=1e-7)
        assert (
            compilations(lambda: jax.grad(lambda a: a * each()[0])(2.0)) <= 8
        )  # of single operations: no second solve


def test_caches_let_go():
    """A closure that nobody holds takes its program, and the arrays in it, with it."""
    before = compiled.cache_info().currsize

    def once(k):
        data = jnp.full(1000, k)
        f = lambda x, p: jnp.sum((x - jnp.mean(data)) ** 2)
        np.testing.assert_allclose(pounce.solve(pounce.NLP(f), SOLVER, X0).x, k, atol=1e-7)
        return weakref.ref(f), weakref.ref(data)

    for k in (1.0, 2.0):
        references = once(k)
        gc.collect()
        assert [each() for each in references] == [None, None]
    assert compiled.cache_info().currsize <= before + 1  # what is gone is swept out when next something is asked for


def test_weak_keys():
    model = Plain(1.0)
    assert weakly(model.f) == weakly(model.f) and hash(weakly(model.f)) == hash(weakly(model.f))
    assert weakly(None) is None and weakly(jnp.float64) is jnp.float64
    key, other = weakly(lambda: 0), weakly(lambda: 0)
    assert isinstance(key, Weakly) and key == key and key != other
    with pytest.raises(ReferenceError, match="gone"):
        key()


def test_leaks_and_nans():
    layer = lambda c: solve_qp(c=c, **QP)[0]
    c = jnp.array([-1.0, 0.5])
    with jax.checking_leaks():
        np.testing.assert_allclose(jax.jit(jax.grad(by_closure))(2.0), 0.5, atol=1e-7)
        np.testing.assert_allclose(jax.grad(layer)(c), [-1.0, 0.0], atol=1e-7)
    with jax.debug_nans(True):
        np.testing.assert_allclose(jax.grad(by_closure)(2.0), 0.5, atol=1e-7)
        np.testing.assert_allclose(jax.grad(layer)(c), [-1.0, 0.0], atol=1e-7)


def test_explicit_meshes_and_mapped_devices():
    problem = pounce.NLP(lambda x, p: squares(x, p, 1.0), SUM, cl=-9.0, cu=9.0)
    both = jax.value_and_grad(lambda p: pounce.solve(problem, SOLVER, X0, p).x[1])
    layer = lambda c: solve_qp(c=c * jnp.ones(2), **QP)[0]
    mesh, spec = jax.make_mesh((1,), ("lanes",)), PartitionSpec("lanes")
    assert "Explicit" in str(mesh.axis_types)
    lanes = jax.device_put(jnp.linspace(-1.0, -0.5, 3), NamedSharding(mesh, spec))
    np.testing.assert_allclose(jax.jit(jax.vmap(both))(lanes), (lanes, jnp.ones(3)), atol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(layer)))(lanes), -1.0, atol=1e-7)
    assert vmap_solve(lanes, f=problem.f, x0=X0, n=2).sharding.spec[0] == "lanes"
    np.testing.assert_allclose(jax.pmap(both)(np.array([-1.0])), ([-1.0], [1.0]), atol=1e-7)
    how = dict(mesh=mesh, in_specs=spec, out_specs=spec)
    mapped = jax.jit(jax.shard_map(jax.vmap(both), check_vma=False, **how))
    np.testing.assert_allclose(mapped(lanes), (lanes, jnp.ones(3)), atol=1e-7)
    with pytest.raises(ValueError, match="check_vma"):
        jax.jit(jax.shard_map(jax.vmap(both), **how))(lanes)
    with pytest.raises(ValueError, match="`p`"):
        jax.jit(jax.vmap(by_closure))(lanes)


def test_rows_that_are_absent():
    """With numbers as when traced; only an inequality can be, and a host's arguments are finite."""
    given = dict(P=np.eye(2), c=np.array([-1.0, -2.0]), G=np.array([[1.0, 1.0], [1.0, 0.0]]))
    solved = jax.jit(lambda h: solve_qp(h=h, **given))
    for h in ([np.inf, 0.5], [1.0, np.inf]):
        np.testing.assert_allclose(solve_qp(h=np.array(h), **given), solved(jnp.array(h)), atol=1e-9)
    cones = dict(cones=[("soc", 1), ("nonneg", 1)])
    np.testing.assert_allclose(solve_socp(h=np.array([1.0, np.inf]), **given, **cones), [0.0, 1.0], atol=1e-6)
    for call in (lambda h: solve_socp(h=h, **given, **cones), lambda h: pounce.solve_qp(h=h, **given)):
        with pytest.raises(ValueError, match=r"h\[0\]"):
            call(np.array([np.inf, 0.5]))
    with pytest.raises(ValueError, match=r"h\[1\]"):
        solve_qp(h=np.array([1.0, -np.inf]), **given)


def test_nearly_solved_is_returned():
    """As when it is traced; an error only where errors are asked for."""
    whole = solve_qp(c=jnp.array([-1.0, 0.5]), full=True, **QP)
    nearly = eqx.tree_at(lambda s: s.status, whole, jnp.asarray(int(pounce.ConicStatus.Optimal_Inaccurate)))
    with pytest.warns(RuntimeWarning, match="inaccurate"):
        assert heeded(nearly, None, unless_told="raise") is nearly
    with pytest.raises(RuntimeError, match="inaccurate"):
        heeded(nearly, "raise", unless_told="raise")


def test_float32_layers():
    """Ten at default settings: x and its derivative to what the tolerance promises."""
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        key = jnp.asarray(np.random.default_rng(0).uniform(0.2, 1.0, (10, 3)), jnp.float32)
        layer = lambda c: solve_qp(P=jnp.eye(3), c=-c, A=jnp.ones((1, 3)), b=jnp.ones(1), lb=0.0, full=True)
        found, rates = jax.jit(jax.vmap(lambda c: (layer(c), jax.jacfwd(lambda c: layer(c).x)(c))))(key)
    assert found.x.dtype == jnp.float32 and bool(jnp.all(found.success))
    exact, exact_rates = jax.vmap(lambda c: (layer(c).x, jax.jacfwd(lambda c: layer(c).x)(c)))(key.astype(float))
    np.testing.assert_allclose(found.x, exact, atol=2e-3)
    sure = np.asarray(found.quality.differentiable)
    assert sure.sum() >= 8
    np.testing.assert_allclose(rates[sure], exact_rates[sure], atol=2e-3)


def quotient(x, p):
    return jnp.sum((x - p) ** 2) + 0.1 * jnp.sum(jnp.cosh(x * p[::-1]))


BOXED: dict = dict(f=quotient, g=SUM, x0=X0, n=2, m=1, cl=-jnp.inf, cu=1.0, lb=-5.0, ub=jnp.array([0.9, 5.0]))
LAYER: dict = dict(P=jnp.diag(jnp.array([1.0, 2.0, 3.0])), G=jnp.ones((2, 3)), h=jnp.array([0.6, 9.0]), lb=-4.0)
DOORS = {
    "nonlinear": lambda p: solve(p, full=True, **BOXED),
    "convex": lambda p: pounce.solve_conic(c=-jnp.append(p * p, 1.0), **LAYER),
}
WARM = {
    "nonlinear": lambda p, s: solve_with_warm(p, full=True, warm_start=multipliers(s), **BOXED)[0],
    "convex": lambda p, s: pounce.solve_conic(c=-jnp.append(p * p, 1.0), warm_start=s, **LAYER),
}


def iterations(solution):
    return int(solution.stats.iterations if isinstance(solution, pounce.Solution) else solution.iterations)


def multipliers(solution):
    return solution.multipliers.constraints, solution.multipliers.lower, solution.multipliers.upper


def large_programs(call):
    """What a call compiles that has a solve or a derivative in it."""
    seen = []
    listener = lambda event, seconds, fun_name="", **_: (
        seen.append(fun_name) if event.endswith("backend_compile_duration") else None
    )
    jax.monitoring.register_event_duration_secs_listener(listener)
    call()
    names = ("__call__", "kept", "hold", "tangent", "moves")
    return [name for each in seen for name in names if name in each]


@pytest.mark.parametrize("kind", DOORS)
def test_eager_doors_share_programs(kind):
    """Derivatives add their own programs to that of the solve, and equal those of one program."""
    door, p = DOORS[kind], jnp.array([0.7, 0.8])
    x = lambda p: door(p).x
    total = lambda p: jnp.sum(x(p) ** 3)
    many = jnp.stack([p, 0.9 * p, 1.1 * p])
    assert len(large_programs(lambda: x(p))) == 1
    found, cold, near = [], door(p), 1.01 * p
    assert not large_programs(lambda: found.append(WARM[kind](near, cold)))
    warm = found.pop()
    for derivative in (jax.jacfwd(x), jax.jacrev(x), jax.grad(total), jax.hessian(total)):
        assert not {"__call__", "kept"} & set(large_programs(lambda: found.append(derivative(p))))
    forward, reverse, gradient, hessian = found
    together = jax.jit(lambda p, near, cold: (jax.jacfwd(x)(p), door(p), WARM[kind](near, cold)))
    rates, *solutions = together(p, near, cold)
    np.testing.assert_allclose(forward, rates, rtol=1e-6, atol=1e-8)
    for apart, one in zip((cold, warm), solutions, strict=True):
        assert iterations(apart) == iterations(one)
        np.testing.assert_allclose(apart.x, one.x, rtol=1e-12)
    assert iterations(warm) < iterations(cold)
    np.testing.assert_allclose(reverse, forward, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(gradient, 3 * x(p) ** 2 @ forward, rtol=1e-8)
    step = 1e-5 * jnp.eye(2)
    apart = [(jax.grad(total)(p + h) - jax.grad(total)(p - h)) / 2e-5 for h in step]
    np.testing.assert_allclose(hessian, jnp.stack(apart), rtol=1e-4, atol=1e-5)
    if kind == "convex":
        assert not large_programs(lambda: solve_qp(c=-jnp.append(p * p, 1.0), **LAYER))
    assert len(large_programs(lambda: jax.vmap(x)(many))) == 1
    together, apart = jax.grad(lambda many: jnp.sum(jax.vmap(total)(many))), jax.vmap(jax.grad(total))
    np.testing.assert_allclose(together(many), apart(many), rtol=1e-8)
    np.testing.assert_allclose(apart(many)[0], gradient, rtol=1e-6)
    for function in (total, jax.grad(total)):  # what is left of a derivative may be a part of any program
        value, pull = jax.vjp(function, p)
        cotangent = jnp.ones_like(value)
        np.testing.assert_allclose(jax.jit(pull)(cotangent)[0], pull(cotangent)[0], rtol=1e-8)


def test_batches_are_one_program():
    many = jnp.array([[0.7, 0.8], [0.1, 0.5], [1.5, 0.2]])
    x = jax.vmap(lambda p: solve(p, **BOXED))(many)
    problem = JaxProblem(p_example=many[0], **{k: v for k, v in BOXED.items() if k != "x0"})
    for batch in (
        lambda: vmap_solve(many, **BOXED),
        lambda: vmap_solve_parallel(many, **BOXED),
        lambda: problem.vmap_solve(many, X0),
        lambda: problem.batched_solve(many, X0),
    ):
        found = []
        assert not large_programs(lambda: found.append(batch()))
        np.testing.assert_array_equal(found[0], x)
