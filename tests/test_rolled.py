"""Programs of many equal pieces: rolled ones compute what the unrolled do, in a few operations, with the same patterns."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive, jaxpr_as_fun

import pounce
from pounce._problem import closed
from pounce._problem.rolling import LEAST_OPERATIONS, rolled
from pounce._problem.sparsity import hessian_pattern, jacobian_pattern
from pounce._problem.tracing import operations, same_trace, trace


TERMS, N = 40, 42
DATA = np.random.default_rng(3).normal(size=(TERMS, 3))
INDICES = np.random.default_rng(4).integers(0, N, size=(TERMS, 3))
X = np.random.default_rng(5).normal(size=N)
P = {"a": np.random.default_rng(6).normal(size=TERMS), "b": np.float64(0.7)}
BLOCK = jnp.asarray(np.random.default_rng(7).normal(size=(3, 3)))


@jax.jit
def called(a, b):
    return jnp.where(a > 0, a * b, jnp.exp(-a)) + DATA[0, 0] * b


@jax.custom_jvp
def declared(a):
    return a * a * a


declared.defjvp(lambda primals, tangents: (declared(*primals), 3 * primals[0] ** 2 * tangents[0]))
declared_once = jax.jit(declared)


def recursion(carry, number):
    return (carry[0] * carry[1] + number, carry[1]), None


BODIES = {
    "scalars": lambda i, x, p: (x[i] - 2 * x[i + 1]) ** 2 * jnp.exp(-x[i + 2]) + jnp.sin(x[i]) / (2 + x[i + 1] ** 2),
    "scattered": lambda i, x, p: jnp.tanh(x[INDICES[i, 0]] * x[INDICES[i, 1]]) ** 2 + x[INDICES[i, 2]] ** 3 - x[-1 - i],
    "numbers": lambda i, x, p: DATA[i, 0] * (x[i] - DATA[i, 1]) ** 2 + jnp.cos(DATA[i, 2] * x[i + 1] + float(i)) * x[0],
    "parameters": lambda i, x, p: p["a"][i] * (x[i] - p["b"]) ** 2 + jnp.sqrt(1 + (p["b"] * x[0]) ** 2 + x[i] * x[i]),
    "vectors": lambda i, x, p: (
        jnp.sum((BLOCK @ x[i : i + 3]) ** 2) + (x[i : i + 3] * DATA[i])[1] * x[i + 1] + x[i] ** 4
    ),
    "closed over": lambda i, x, p: jnp.dot(jnp.asarray(DATA[i]), x[i : i + 3]) ** 2 + jnp.dot(x[:3], x[i : i + 3]),
    "two axes": lambda i, x, p: (x[:40].reshape(4, 10)[i % 4, i % 7] - x[i]) ** 2 * x.reshape(6, 7)[i % 6, 1] ** 3,
    "rows": lambda i, x, p: (
        (x.reshape(6, 7)[i % 6][i % 7 : i % 7 + 1][0] - x[i]) ** 2 * x[None, :, None][0, i, 0] ** 3 + x[2]
    ),
    "calls": lambda i, x, p: called(x[i], x[i + 1] - p["a"][i]) ** 2 + called(x[i] * x[i + 2], p["b"]) * 3,
    "rules": lambda i, x, p: declared_once(x[i] - p["a"][i]) + jax.nn.softplus(x[i + 1] * x[i]) * jnp.maximum(x[i], 0),
    "loops": lambda i, x, p: lax.scan(recursion, (x[i + 1], x[i]), DATA[i])[0][0] + x[i] ** 2 * p["b"] ** 3,
    "whole numbers": lambda i, x, p: jnp.where(jnp.floor(x[i]) % 2 == 0, x[i] ** 2, x[i + 1]) * (3 * i % 5 + 1) + x[0],
    "two kinds": lambda i, x, p: jnp.sin(x[i] * x[i + 1]) + x[i] ** 2 / 3 if i % 2 else jnp.exp(x[i] - x[i + 2]) * x[0],
    "uneven": lambda i, x, p: sum((x[i + k % 3] - k) ** 2 * x[k] for k in range(1, 2 + i % 3)) + p["b"] * x[i],
}


def summed(ts):
    total = 0.0
    for k, t in enumerate(ts):
        total = total - t if k % 5 == 4 else total + t
    return total, jnp.zeros(0)


def written(ts):
    out, first = jnp.ones((TERMS, 2)), jnp.zeros(TERMS)
    for k, t in enumerate(ts):
        out = out.at[(7 * k) % 31, k % 2].set(t)
        first = first.at[k].set(t * t)
    for k, t in enumerate(ts):
        first = first.at[(k * k) % TERMS].add(t)
    return out[0, 0], jnp.concatenate([out.ravel(), first])


ENDS = {
    "sum": summed,
    "rows": lambda ts: (ts[0], jnp.stack(ts)),
    "array": lambda ts: (sum(ts), jnp.concatenate([jnp.array(ts), jnp.array([ts[0] * ts[1]]), jnp.zeros(3)])),
    "blocks": lambda ts: (
        sum(sum(ts[k : k + 9]) ** 2 for k in range(0, TERMS, 4)),
        jnp.array([a - b for a, b in zip(ts, ts[3:])]),
    ),
    "written": written,
}  # fmt: skip
CASES = [(body, "sum") for body in BODIES] + [(body, end) for body in ("scalars", "two kinds") for end in [*ENDS][1:]]


def function_of(body, end):
    return lambda x, p: ENDS[end]([BODIES[body](i, x, p) for i in range(TERMS)])


def short(jaxpr):
    """The rolled program as a function, and its number of operations."""
    new = rolled(jaxpr)
    assert all(a is b for a, b in zip(jaxpr.consts, new.consts))
    return jaxpr_as_fun(new), len(new.jaxpr.eqns)


def derivatives(function):
    """Values, the gradient of a weighting of all, and how that moves."""

    def weighted(x, p):
        f, rows = function(x, *jax.tree.leaves(p))
        return f + jnp.sum(jnp.cos(jnp.arange(rows.size)) * rows)

    def all_of(x, p):
        gradient = jax.grad(weighted, (0, 1))
        return function(x, *jax.tree.leaves(p)), jax.jvp(gradient, (x, p), (jnp.cos(x), jax.tree.map(jnp.ones_like, p)))

    return all_of


@pytest.mark.parametrize(("body", "end"), CASES)
def test_the_rolled_program_is_the_same_function(body, end):
    """Values, first and second derivatives, by variables and parameters, and the patterns of these."""
    program = jax.make_jaxpr(function_of(body, end))(X, P)
    unrolled = jaxpr_as_fun(program)
    new, count = short(program)
    assert count <= {"two kinds": 90, "uneven": 90}.get(body, 60)
    ours, theirs = jax.jit(derivatives(new))(X, P), derivatives(unrolled)(X, P)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), ours, theirs)
    leaves = jax.tree.leaves(P)
    for pattern, f in (
        (jacobian_pattern, lambda g: lambda x, *p: g(x, *p)[1]),
        (hessian_pattern, lambda g: lambda x, *p: g(x, *p)[0] + jnp.sum(g(x, *p)[1])),
    ):
        assert pattern(f(new), X, *leaves) == pattern(f(unrolled), X, *leaves)


def test_a_batch_of_rolled_programs():
    program = jax.make_jaxpr(function_of("vectors", "rows"))(X, P)
    new, _ = short(program)
    xs = X + np.arange(3.0)[:, None]
    each = lambda function: lambda x: function(x, *jax.tree.leaves(P))[1]
    np.testing.assert_allclose(jax.vmap(each(new))(xs), [each(jaxpr_as_fun(program))(x) for x in xs], rtol=1e-12)


def test_operations_grow_with_the_kinds_of_pieces_alone():
    kinds = [BODIES[name] for name in ("scalars", "numbers", "parameters", "scattered", "vectors")]

    def count(many, terms):
        p = P | {"a": np.ones(terms)}
        f = lambda x, p: sum(kinds[i % many](i % TERMS, x, p) for i in range(terms))
        return short(jax.make_jaxpr(f)(X, p))[1]

    one, two, all_of_them = count(1, 80), count(2, 80), count(5, 80)
    assert abs(count(5, 400) - all_of_them) <= 10
    assert one < two < all_of_them < 110


def test_small_programs_stay_as_they_are():
    few = jax.make_jaxpr(lambda x: sum(x[i] * x[i + 1] ** 2 for i in range(20)))(X)
    assert len(few.eqns) < LEAST_OPERATIONS and rolled(few) is few


def test_different_pieces_stay_as_they_are():
    """A recursion has no equal pieces that do not wait for each other."""

    def chain(x):
        value = x[0]
        for i in range(200):
            value = jnp.sin(value) * 1.5 - value
        return value

    program = jax.make_jaxpr(chain)(X)
    assert rolled(program) is program


def test_effects_are_not_moved():
    def speaks(x):
        for i in range(TERMS):
            jax.debug.print("{}", x[i] ** 2 + jnp.sin(x[i]) * jnp.cos(x[i + 1]) ** 2)
        return summed([BODIES["scalars"](i, x, P) for i in range(TERMS)])[0]

    program = jax.make_jaxpr(speaks)(X)
    assert rolled(program) is program


def test_random_numbers_stay_as_they_are():
    def noisy(x):
        keys = jax.random.split(jax.random.key(0), TERMS)
        return sum(jax.random.normal(keys[i]) * x[i] ** 2 + jnp.sin(x[i]) * jnp.cos(x[i + 1]) for i in range(TERMS))

    program = jax.make_jaxpr(noisy)(X)
    np.testing.assert_allclose(short(program)[0](X)[0], noisy(jnp.asarray(X)), rtol=1e-12)


def test_branches_not_taken_stay_untouched():
    """What is not evaluated where it is undefined must not spoil a gradient."""
    root = lambda a: lax.cond(a > 0, jnp.sqrt, lambda a: a * a, a)
    f = lambda x: summed([root(x[i] - 1) * (x[i + 1] + 2) ** 2 + jnp.sin(x[i]) for i in range(TERMS)])[0]
    program = jax.make_jaxpr(f)(X)
    x = jnp.asarray(X).at[:20].set(1.0)
    ours = jax.grad(lambda x: short(program)[0](x)[0])(x)
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, jax.grad(lambda x: jaxpr_as_fun(program)(x)[0])(x), rtol=1e-12)


def test_operations_that_know_no_batches_stay_single():
    alone = Primitive("alone_for_ever")
    alone.def_abstract_eval(lambda a: a)
    alone.def_impl(lambda a: a * 2)
    f = lambda x: summed(
        [alone.bind(x[i]) * jnp.sin(x[i] ** 2 + x[i + 1] ** 3) + x[i] / (1 + x[0] ** 2) for i in range(TERMS)]
    )[0]
    program = jax.make_jaxpr(f)(X)
    new, count = short(program)
    assert count < len(program.eqns) / 2
    np.testing.assert_allclose(new(jnp.asarray(X))[0], jaxpr_as_fun(program)(jnp.asarray(X))[0], rtol=1e-12)


def test_large_arrays_are_not_stacked():
    big = np.ones((80, 80))
    f = lambda x: sum(
        jnp.sum(jnp.sin((big + i) * x[i]) * jnp.cos(x[i + 1])) * x[0] ** 2 / (1 + x[i] ** 2) for i in range(TERMS)
    )
    program = jax.make_jaxpr(f)(X)
    new = rolled(program)
    largest = max(v.aval.size for equation in new.jaxpr.eqns for v in equation.outvars)
    assert largest == big.size


def test_arrays_that_are_being_transformed():
    """Closed over, they are constants of the trace whose derivatives are asked for; numbers of the program are none of these."""

    def value(weights, x):
        f = lambda x, p: summed([weights[i] * BODIES["numbers"](i, x, p) ** 3.5 + weights[0] for i in range(TERMS)])[0]
        function = closed.trace(f, x, P)
        assert len(function.jaxpr.eqns) < 60 and len(function.consts) == 1 and function.fixed == (False,)
        return function(x, P)

    def plain(weights, x):
        return sum(
            (weights[i] * BODIES["numbers"](i, x, P) ** 3.5 + weights[0]) * (-1) ** (i % 5 == 4) for i in range(TERMS)
        )

    weights, x = jnp.linspace(1.0, 2.0, TERMS), jnp.full(N, 9.0)
    x = x * np.sign(np.mean([BODIES["numbers"](i, x, P) for i in range(TERMS)]))
    ours = jax.jit(jax.vmap(jax.grad(value, (0, 1)), (0, None)))(jnp.stack([weights, 2 * weights]), x)
    theirs = jax.grad(plain, (0, 1))(2 * weights, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-10), ours, theirs)


def test_host_traces_are_rolled_and_compared():
    make = lambda scale: lambda x: summed([scale * BODIES["numbers"](i, x, P) for i in range(TERMS)])[0]
    first, again, other = trace(make(1.0), N), trace(make(1.0), N), trace(make(1.1), N)
    assert operations(first.jaxpr) < 60
    assert same_trace(first, again) and not same_trace(first, other)


def test_nothing_is_kept():
    function = function_of("scalars", "sum")
    closed.trace(function, X, P)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_a_solve_of_many_terms():
    """By both doors, and its derivative: the value moves with a parameter as the function does where it is."""
    n, terms = 42, 41
    a = np.linspace(-1, 1, n)

    def loop(x, p):
        total = 0.5 * (x[terms] + 1) ** 2
        for i in range(terms):
            total = total + (x[i] - a[i]) ** 2 + p * (x[i] - x[i + 1]) ** 4 + 0.1 * jnp.exp(x[i] * x[i + 1])
        return total

    def vectors(x, p):
        d = x[:-1] - x[1:]
        return 0.5 * (x[-1] + 1) ** 2 + jnp.sum((x[:-1] - a[:-1]) ** 2 + p * d**4 + 0.1 * jnp.exp(x[:-1] * x[1:]))

    start, p = jnp.full(n, 0.1), jnp.array(0.5)
    problem = pounce.NLP(loop, lb=-2.0, ub=2.0, sparse=True)

    def solved(p):
        solution = pounce.solve(problem, pounce.InteriorPoint(), start, p)
        return solution.objective, solution.x

    (value, x), rate = jax.value_and_grad(solved, has_aux=True)(p)
    np.testing.assert_allclose(value, vectors(x, p), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(vectors)(x, p), 0, atol=1e-7)
    np.testing.assert_allclose(rate, np.sum((x[:-1] - x[1:]) ** 4), rtol=1e-6)
    found = pounce.minimize(lambda x: loop(x, 0.5), np.asarray(start), bounds=[(-2, 2)] * n)
    assert found.success
    np.testing.assert_allclose(found.x, x, atol=1e-6)
