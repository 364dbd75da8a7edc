"""What pivots of sparse problems are chosen by, and what becomes of poor ones."""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce._linalg.hints import FirstSeen, PivotHints
from pounce._linalg.row_reductions import RowReductions
from pounce._linalg.sparse import Pattern
from pounce._linalg.sparse_ldl.matching import match
from pounce._problem.coloring import color_jacobian
from pounce._problem.typical import magnitudes, pivot_hints, typical_jacobian


EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("lengths", [[], [0, 0], [1, 0, 3], [8, 1], [9, 0, 70], [700, 2, 0, 9]])
def test_reductions_by_rows(lengths):
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(len(lengths)), lengths))
    terms = np.random.default_rng(1).standard_normal(rows.size)
    wanted = np.bincount(rows, weights=terms, minlength=len(lengths))
    reductions = RowReductions(rows, len(lengths))
    np.testing.assert_allclose(reductions.sums(jnp.asarray(terms)), wanted, rtol=1e-12, atol=1e-12)
    largest = np.zeros(len(lengths))
    np.maximum.at(largest, rows, np.abs(terms))
    np.testing.assert_array_equal(reductions.largest(jnp.asarray(np.abs(terms))), largest)


def test_equalities_choose_first_and_fixed_columns_are_left_alone():
    pattern = Pattern([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], (3, 3))
    values = np.array([1.0, 1e-3, 5.0, 1e-6, 1.0])
    assert list(match(pattern, values, None, None)) == [1, 0, 2]  # the sum of logarithms is least
    only = np.array([True, False, False])
    assert list(match(pattern, values, None, only)) == [0, 1, 2]
    assert list(match(pattern, values, None, only, fixed=np.array([True, False, True]))) == [1, -1, -1]


def test_entries_that_vanish_at_the_start_do_not_vanish_nearby():
    coloring = color_jacobian(Pattern.full(2, 2))
    rows = lambda x, p: jnp.stack([x[0] * x[1], p * x[0] ** 2 + 3.0 * x[1]])
    found = typical_jacobian(rows, coloring, np.zeros(2), np.full(2, -np.inf), np.full(2, np.inf), np.float64(2.0))
    assert found is not None and np.all(found > 1e-4) and found[3] == 3.0
    inside = typical_jacobian(lambda x: jnp.log(x), coloring, np.zeros(2), np.zeros(2), np.ones(2))
    assert inside is not None and np.all(np.isfinite(inside))


def test_magnitudes_are_positive_and_finite():
    pattern = Pattern([0, 0, 0, 1], [0, 1, 2, 0], (2, 3))
    assert np.array_equal(magnitudes(np.array([-2.0, np.nan, 0.0, np.inf]), pattern), [2.0, 2.0, 2e-8, 1.0])


def test_hints_of_the_first_numbers_hold_for_all():
    coloring = color_jacobian(Pattern([0], [0], (1, 1)))
    one, bounds = np.ones(1), (np.zeros(1), np.full(1, 5.0), np.ones(1), np.ones(1))
    rows = lambda x, p: p * x

    def found(p):
        return pivot_hints(("a program",), rows, coloring, one, bounds, p)

    hints: list[PivotHints] = []
    jax.make_jaxpr(lambda p: hints.append(found(p)))(2.0)  # nothing is known of a tracer, so nothing is kept
    first, second = found(np.float64(2.0)), found(np.float64(7.0))
    assert hints[0] != first and first is second
    assert first.entries is not None and list(first.entries) == [2.0]
    assert first.equality is not None and list(first.equality) == [True]
    jax.make_jaxpr(lambda p: hints.append(found(p)))(2.0)
    assert hints[1] is first


def test_network():
    """AC optimal power flow on MATPOWER's case30: cost as by Ipopt, in as many iterations; prices against differences."""
    spec = importlib.util.spec_from_file_location("optimal_power_flow", EXAMPLES / "optimal_power_flow.py")
    assert spec is not None and spec.loader is not None
    opf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(opf)
    net = opf.read_case(EXAMPLES / "case30.m")
    problem, x0 = opf.optimal_power_flow(net)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def cost(loads):
        solution = pounce.solve(problem, pounce.InteriorPoint(), x0, loads)
        return solution.objective, (solution.status, solution.stats.iterations)

    loads = jnp.asarray(net.load)
    (value, (status, iterations)), prices = cost(loads)
    assert status == 0 and iterations == 18
    np.testing.assert_allclose(value, 576.8923, rtol=1e-6)
    step = 1e-4 * jnp.zeros_like(loads).at[0, 7].set(1.0)
    difference = (cost(loads + step)[0][0] - cost(loads - step)[0][0]) / 2e-4
    np.testing.assert_allclose(prices[0, 7], difference, rtol=1e-4)


def test_the_first_of_a_program_serves_for_all():
    """Unless it is not worth keeping; and of many programs, the latest."""
    held, made = FirstSeen(2), []

    def get(key, value, **more):
        def make():
            made.append(value)
            return value

        return held.get(key, make, **more)

    assert [get("a", 0, keep=False), get("a", 1), get("a", 2), get("b", 3), get("a", 4)] == [0, 1, 1, 3, 1]
    assert [get("c", 5), get("a", 6), get("b", 7)] == [5, 1, 7]
    assert made == [0, 1, 3, 5, 7]
