"""What keeps programs small for the compiler."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from benchmarks.compile_counts import equations, instructions, kernels
from benchmarks.compile_programs import program
from pounce._compile import MAPPINGS, compiler_options, forget, mappings
from pounce._linalg.gather import taken
from pounce._linalg.native import native
from pounce._once import computed_once
from pounce._qp.kernel import kernel_for


VECTOR, MATRIX = jnp.arange(6.0) ** 2, jnp.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize("array", (VECTOR, MATRIX), ids=("vector", "matrix"))
@pytest.mark.parametrize("index", ([5, 0, 0, 3], [[1, 2, 0], [4, 4, 5]], []), ids=("row", "table", "nothing"))
def test_taken_is_indexing(array, index):
    index = np.array(index, int)
    np.testing.assert_array_equal(taken(array, index), array[index])
    np.testing.assert_array_equal(
        jax.vmap(lambda a: taken(a, index))(jnp.stack([array, -array])), jnp.stack([array[index], -array[index]])
    )
    gradient = jax.grad(lambda a: jnp.sum(taken(a, index) ** 2))(array)
    np.testing.assert_array_equal(gradient, jax.grad(lambda a: jnp.sum(a[index] ** 2))(array))


def test_nothing_is_taken_from_nothing():
    assert taken(jnp.zeros(0), np.zeros((2, 0), int)).shape == (2, 0)


# Kernels, equations and HLO instructions of a solve as `python -m benchmarks.compile_time` counts them, by JAX. They only go
# down: who makes a program smaller lowers its numbers here, who makes one larger says why it has to be.
BUDGETS = {
    (0, 10): {"hs071": (544, 5432, 12229), "dense qp": (565, 3433, 7387), "mixed cones": (737, 6248, 13084)},
    (0, 12): {"hs071": (382, 5318, 12441), "dense qp": (337, 3409, 7761), "mixed cones": (576, 6217, 13349)},
}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the counts are those of the CPU compiler")
@pytest.mark.skipif(jax.__version_info__[:2] not in BUDGETS, reason="the counts depend on JAX")
@pytest.mark.parametrize("name", ("hs071", "dense qp", "mixed cones"))
def test_programs_do_not_grow(name):
    solve, arguments, _ = program(name)
    traced = jax.jit(solve, compiler_options=compiler_options()).trace(*arguments)
    hlo = traced.lower().compile().as_text()
    found = kernels(hlo), equations(traced.jaxpr.jaxpr), instructions(hlo)
    budget = BUDGETS[jax.__version_info__[:2]][name]
    assert all(np.less_equal(found, budget)), f"kernels, equations, instructions: {found}, allowed {budget}"


def chosen(once, count, x, states):
    """One of two states by a verdict of many comparisons."""
    verdict = jnp.array(False)
    for k in range(20):
        verdict = (verdict & (x > k)) | (x * x < -k)
    if once:
        verdict = computed_once(verdict, count < 0)
    return [jnp.where(verdict, a, b) for a, b in states]


def test_a_verdict_is_compiled_once():
    states = [(jnp.ones(k), jnp.zeros(k)) for k in range(30, 40)]
    arguments = jnp.array(0), jnp.array(2.0), states

    def comparisons(once):
        compiled = jax.jit(chosen, static_argnums=0).lower(once, *arguments).compile()
        return len(re.findall(r" compare\(", compiled.as_text()))

    assert comparisons(True) < 100 < comparisons(False)


def test_a_verdict_computed_once_is_the_same_in_a_batch():
    states = [(jnp.ones(3), jnp.zeros(3))]
    x, count = jnp.array([-1.0, 25.0, jnp.nan]), jnp.arange(3)
    batched = jax.vmap(chosen, in_axes=(None, 0, 0, None))
    np.testing.assert_array_equal(batched(True, count, x, states)[0], batched(False, count, x, states)[0])


def test_a_native_function_is_traced_once():
    traces = []

    def double(x):
        traces.append(1)
        return 2.0 * x

    quadruple = jax.jit(lambda x: native(double)(native(double)(x)))
    np.testing.assert_array_equal(quadruple(VECTOR), 4.0 * VECTOR)
    assert len(traces) == 1


def test_programs_are_forgotten_before_they_are_too_many(monkeypatch):
    """A process may solve any number of different problems; what is still held goes on working."""
    forget()  # what other tests have compiled
    solver = pounce.QpFactorization(P=np.eye(2), c=np.ones(2))
    held = kernel_for.cache_info().currsize
    assert held > 0 and (mappings() > 500 or not MAPPINGS.exists())
    pounce.solve_qp(P=np.eye(30), c=np.ones(30))
    assert kernel_for.cache_info().currsize == held + 1
    monkeypatch.setattr("pounce._compile.mappings", lambda: 60_000)
    monkeypatch.setattr("pounce._compile._most_mappings", lambda: 65_530)
    pounce.minimize(lambda x: x @ x, np.ones(2))
    assert kernel_for.cache_info().currsize == 0
    np.testing.assert_allclose(solver.solve(P=np.eye(2), c=np.ones(2)).x, -1.0, atol=1e-8)
    for _ in range(2):
        np.testing.assert_allclose(pounce.solve_qp(P=np.eye(30), c=np.ones(30)).x, -1.0, atol=1e-8)
        assert kernel_for.cache_info().currsize == 1
