"""Functions that JAX does not differentiate in every mode: those that declare a pullback, and loops of unknown length."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint

import pounce
from pounce._problem.closed import trace
from pounce._problem.crossing import first_order_moves
from pounce._problem.modes import Mode, Modes, looked_at
from pounce._problem.nlp import FunctionNLP
from pounce._problem.sparse_nlp import SparseFunctionNLP, find_structure
from pounce._problem.tied import tied
from pounce.jax import from_jax


def halved(x):
    """u with u + exp(u) = x, by bisection, whose steps have no derivative."""

    def step(_, between):
        low, high = between
        middle = 0.5 * (low + high)
        beyond = middle + jnp.exp(middle) > x
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, 55, step, (jnp.full_like(x, -30.0), jnp.full_like(x, 8.0)))
    return 0.5 * (low + high)


declared = jax.custom_vjp(halved)
declared.defvjp(lambda x: (declared(x),) * 2, lambda u, bar: (bar / (1 + jnp.exp(u)),))
coarse = jax.custom_vjp(halved)  # which JAX differentiates again through the steps
coarse.defvjp(lambda x: (halved(x),) * 2, lambda u, bar: (bar / (1 + jnp.exp(u)),))


@jax.custom_jvp
def exact(x):
    return halved(x)


@exact.defjvp
def _(primals, tangents):
    u = exact(*primals)
    return u, tangents[0] / (1 + jnp.exp(u))


def searched(x):
    """Cube roots of positive numbers by Newton's method, until they do not change."""

    def step(carry):
        old, _ = carry
        new = old - (old**3 - x) / (3 * old**2)
        return new, jnp.max(jnp.abs(new - old)) > 1e-14

    return jax.lax.while_loop(lambda carry: carry[1], step, (jnp.ones_like(x) + x, True))[0]


rooted = jax.custom_vjp(searched)
rooted.defvjp(lambda x: (searched(x),) * 2, lambda u, bar: (bar / (3 * u**2),))


def decayed(rate):
    return odeint(lambda u, t, k: -k * u, jnp.ones(2), jnp.array([0.0, 0.7]), rate, rtol=1e-11, atol=1e-11)[-1]


X, P = jnp.array([0.4, 1.3, 2.2]), 0.8
FUNCTIONS = {
    "declared": (lambda x, p: p * declared(x), lambda x, p: p * exact(x), Mode("reverse", "reverse", False)),
    "ode": (lambda x, p: decayed(p * x[:2]), lambda x, p: jnp.exp(-0.7 * p * x[:2]), Mode("reverse", "reverse", False)),
    "loop": (lambda x, p: searched(p * x), lambda x, p: (p * x) ** (1 / 3), Mode("forward", "forward", False)),
    "loop of parameters": (lambda x, p: searched(p) * x**2, lambda x, p: p ** (1 / 3) * x**2, Mode()),
    "loop that is a constant": (lambda x, p: searched(jax.lax.stop_gradient(p + x)) * x, None, Mode()),
    "coarse": (lambda x, p: p * coarse(x), lambda x, p: p * exact(x), Mode("reverse", "reverse", False)),
    "coarse loop": (lambda x, p: rooted(p * x), lambda x, p: (p * x) ** (1 / 3), Mode("reverse", "reverse", False)),
    "plain": (lambda x, p: jax.lax.fori_loop(0, 3, lambda _, u: jnp.sin(u) + p, x), None, Mode()),
    "choice": (lambda x, p: jax.lax.cond(p > 0, declared, lambda x: x, x), None, Mode("reverse", "reverse", False)),
    "inside a scan": (
        lambda x, p: jax.lax.scan(lambda u, _: (searched(u), u), x, None, length=2)[0],
        None,
        Mode("forward", "forward", False),
    ),
    "both": (lambda x, p: declared(searched(x)), None, Mode(None, None, False)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_modes_are_read_from_functions(name):
    assert looked_at(FUNCTIONS[name][0], X, P)[1] == FUNCTIONS[name][2]


def test_what_else_a_function_is_one_of():
    """A key and whole numbers among the parameters; a loop of parameters alone."""
    noisy = lambda x, p: declared(x)[p["which"]] + jax.random.normal(p["key"])
    parameters = {"key": jax.random.key(0), "which": 1}
    assert looked_at(noisy, X, parameters)[1:] == (Mode("reverse", "reverse", False), True)
    assert looked_at(FUNCTIONS["loop of parameters"][0], X, P)[2]


def program(rows, curve, sparse):
    """With these functions as rows, and squares of them in the objective."""
    objective = lambda x, p: jnp.sum((curve(x, p) - 0.3) ** 2) + x[0] * x[1]
    (_, first, a), (_, second, b) = (looked_at(function, X, P) for function in (objective, rows))
    modes = Modes(first, second, a or b)
    evaluate = trace(lambda x, p: (objective(x, p), rows(x, p)), X, P)
    if not sparse:
        return FunctionNLP(evaluate, jnp.asarray(P), modes)
    return SparseFunctionNLP(
        evaluate, jnp.asarray(P), structure=find_structure(evaluate, X, P, modes=modes), modes=modes
    )


@pytest.mark.parametrize(
    "rows, curve, sparse",
    [("coarse", "ode", False), ("coarse", "declared", True), ("loop", "coarse", False), ("declared", "loop", True)],
)
def test_derivatives_are_those_of_functions_without_such_rules(rows, curve, sparse):
    """Values, all derivatives by x, and those by p that the derivative rule takes, forwards and backwards."""
    ours, theirs = (program(FUNCTIONS[rows][k], FUNCTIONS[curve][k], sparse and k == 0) for k in (0, 1))
    y = jnp.array([0.7, -1.1, 0.4])[: ours.evaluate(X)[1].size]
    found, expected = (jax.jit(lambda w: each.derivatives(X, y, w, True))(1.5) for each in (ours, theirs))
    matrices = [each.todense() if sparse else each for each in (found.jacobian, found.hessian)]
    lower = np.tril(expected.hessian) if sparse else expected.hessian
    for got, wanted in (
        (found.objective, expected.objective), (found.rows, expected.rows), (found.gradient, expected.gradient),
        (matrices[0], expected.jacobian), (matrices[1], lower),
    ):  # fmt: skip
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-8)

    def moved(nlp):
        still = jax.tree.map(jnp.zeros_like, eqx.filter(nlp, eqx.is_inexact_array))
        moves = first_order_moves(nlp, X, y)

        def along(dp):
            rates = eqx.tree_at(lambda nlp: nlp.parameters, still, dp)
            return jnp.hstack(moves(rates, jnp.array([0.1, -0.4, 0.2]) * dp, 0.3 * dp * y))

        return jax.jit(lambda dp: (along(dp), jax.vmap(jax.vjp(along, dp)[1])(jnp.eye(4 + y.size))[0]))(jnp.ones(()))

    for one, other in zip(moved(ours), moved(theirs)):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-8)


def test_declared_pullbacks_are_differentiated_again():
    """In branches and scans, and once more; with a loop of unknown length in the forward part."""
    across = lambda u: (
        lambda x: jax.lax.scan(
            lambda c, _: (jax.lax.cond(c[0] > 0, lambda c: u(c, P), lambda c: c, c + 3.0), c), x, None, length=2
        )[0]
    )
    for name in ("coarse", "coarse loop"):
        ours, theirs = (across(FUNCTIONS[name][k]) for k in (0, 1))
        closed = jax.make_jaxpr(ours)(X)
        found = lambda x, closed=closed: jnp.sum(tied(closed.jaxpr, closed.consts, x)[0])
        expected = jax.hessian(lambda x, theirs=theirs: jnp.sum(theirs(x)))
        np.testing.assert_allclose(jax.jit(jax.jacrev(jax.grad(found)))(X), expected(X), rtol=1e-9, atol=1e-12)
        third = jax.jit(jax.jacrev(jax.jacrev(jax.grad(found))))(X)
        np.testing.assert_allclose(third, jax.jacfwd(expected)(X), rtol=1e-8, atol=1e-11)


SOLVER = pounce.InteriorPoint(tol=1e-10)


@pytest.mark.parametrize("kind", ["declared", "loop"])
def test_solutions_and_their_derivatives(kind):
    """min sum (u(x) - p)^2 + 0.05 sum (x - 2)^2 with sum u(x) >= 1, beside the same with rules for every mode; f is made of what
    g is not."""
    (curve, same, _), start = FUNCTIONS[kind], jnp.full(3, 1.5)
    smooth = lambda x, p: jnp.sum((jnp.sin(x) - p) ** 2) + 0.05 * jnp.sum((x - 2) ** 2)

    def solve(rows):
        nlp = pounce.NLP(smooth, lambda x, p: jnp.sum(rows(x, p))[None], cl=2.6)
        return lambda p: (lambda s: (s.x, s.success))(pounce.solve(nlp, SOLVER, start, p))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        slopes, solved = jax.jacrev(solve(curve), has_aux=True)(0.9)
    assert len(caught) == (kind == "loop") and all("`g` has a loop" in str(each.message) for each in caught)
    expected, _ = jax.jacfwd(solve(same), has_aux=True)(0.9)
    assert solved
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


def test_one_variable_without_rows_and_an_approximate_hessian():
    """u(x) = p at x = p + exp(p)."""
    solver = pounce.InteriorPoint(tol=1e-10, hessian_approximation="limited-memory")
    nlp = pounce.NLP(lambda x, p: jnp.sum((coarse(x) - p) ** 2))
    solve = lambda p: pounce.solve(nlp, solver, jnp.array([0.3]), p).x[0]
    value, slope = jax.value_and_grad(solve)(1.2)
    np.testing.assert_allclose([value, slope], [1.2 + np.exp(1.2), 1 + np.exp(1.2)], rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["declared", "loop"])
def test_host_doors(kind, sparse):
    rows = lambda x: FUNCTIONS[kind][0](x, 1.0)
    problem = from_jax(
        lambda x: jnp.sum((x - 4) ** 2), rows, n=3, m=3, cl=np.zeros(3), cu=np.full(3, 1.2), sparse=sparse
    )
    problem.add_option("print_level", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, info = problem.solve(np.ones(3))
    assert info["status"] == 0
    np.testing.assert_allclose(x, 1.2**3 if kind == "loop" else 4.0, atol=1e-6)


def test_minimize_integrates():
    fun = lambda x: jnp.sum((decayed(x) - jnp.array([0.6, 0.5])) ** 2)
    result = pounce.minimize(fun, [0.3, 0.3])
    assert result.success and result.nhev > 0
    np.testing.assert_allclose(result.x, -np.log([0.6, 0.5]) / 0.7, rtol=1e-6)


def test_what_cannot_be_differentiated_is_named():
    f = lambda x, p: jnp.sum((x - 2) ** 2)
    neither = FUNCTIONS["both"][0]
    with pytest.raises(TypeError, match="`g` has a derivative in neither mode"):
        pounce.solve(pounce.NLP(f, neither, cl=0.0), SOLVER, X, P)
    with pytest.raises(TypeError, match="`f` has a derivative in neither mode"):
        from_jax(lambda x: jnp.sum(neither(x, P)), n=3).solve(np.ones(3))
    once = jax.custom_vjp(searched)
    once.defvjp(lambda x: (searched(x), x), lambda x, bar: (jax.pure_callback(np.asarray, x, x) * bar,))
    with pytest.raises(TypeError, match="`f` has no second derivatives.*limited-memory"):
        pounce.solve(pounce.NLP(lambda x, p: jnp.sum(once(x))), SOLVER, X, P)
