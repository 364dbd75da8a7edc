"""The adaptive barrier strategy against Ipopt's printed digits, for every oracle and test of progress."""

import functools
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._interior.barrier import AbstractBarrier, Updated
from pounce._interior.barriers import BARRIERS
from pounce._interior.globalization import reset_line_search
from pounce._interior.monotone import MonotoneBarrier
from pounce._interior.options import Choices, Numbers
from pounce._interior.quality_function import averaged_norm, best_sigma
from pounce._interior.solver import InteriorPointMethod
from pounce._interior.start import Bounds
from pounce._linalg.dense import PivotedLU
from pounce._problem.nlp import FunctionNLP
from pounce._results import Status


INF = np.inf


# Every problem is a lane of one program with four variables and two rows: a weight picks its functions, fixed variables
# and rows without bounds fill it up. Zero times the other functions changes no digit.
def functions(x, weight):
    a, b, c, d = x
    objectives = [
        a * d * (a + b + c) + c,
        0.5 * a**2 + b**2 - a * b - 7 * a - 7 * b,
        (1 - a) ** 2,
        (a - 1) ** 2 + (b - 1) ** 2,
        (a - 2) ** 2 + b**2,
    ]
    rows = [
        [a * b * c * d, a * a + b * b + c * c + d * d],
        [25 - 4 * a**2 - b**2, 0.0],
        [10 * (b - a**2), 0.0],
        [a**2 + b**2, a + b],
        [(1 - a) ** 3 - b, 0.0],
    ]
    return weight @ jnp.stack(objectives), weight @ jnp.stack(
        [jnp.stack([jnp.asarray(v, x.dtype) for v in r]) for r in rows]
    )


HS071, HS012, NO_BOUNDS, INFEASIBLE, LEAVES_FREE_MODE = range(5)
X0 = np.array([[1.0, 5, 5, 1], [0, 0, 0, 0], [-1.2, 1, 0, 0], [0, 0, 0, 0], [-2, -2, 0, 0]])
LB = np.array([[1.0, 1, 1, 1], [-INF, -INF, 0, 0], [-INF, -INF, 0, 0], [-INF, -INF, 0, 0], [0, 0, 0, 0]])
UB = np.array([[5.0, 5, 5, 5], [INF, INF, 0, 0], [INF, INF, 0, 0], [INF, INF, 0, 0], [INF, INF, 0, 0]])
CL = np.array([[25, 40], [0, -INF], [0, -INF], [-INF, 3], [0, -INF]])
CU = np.array([[INF, 40], [INF, INF], [0, INF], [1, INF], [INF, INF]])


@functools.cache
def compiled(choices: tuple):
    """Solvers of one problem and of a batch."""
    method = InteriorPointMethod(PivotedLU(), Choices(**dict(choices)), history=64)

    def solve(x0, weight, bounds, packed):
        nlp, o = FunctionNLP(functions, weight), Numbers.unpack(packed)
        state = method.init(x0, bounds, None, o)
        return jax.lax.while_loop(lambda s: ~method.terminate(s), lambda s: method.step(nlp, None, s, o), state)

    return jax.jit(solve), jax.jit(jax.vmap(solve, in_axes=(0, 0, 0, None)))


def arguments(which, dtype=np.float64):
    lb, ub, cl, cu = (jnp.asarray(b[which], dtype) for b in (LB, UB, CL, CU))
    return jnp.asarray(X0[which], dtype), jnp.asarray(np.eye(5)[which], dtype), Bounds(lb, ub, cl, cu)


def key(choices: dict) -> tuple:
    return tuple(sorted({"mu_strategy": "adaptive", **choices}.items()))


def solve(which: int, numbers: Numbers = Numbers(), **choices):
    return compiled(key(choices))[0](*arguments(which), numbers.pack())


def x_of(state) -> np.ndarray:
    return np.asarray(state.iterate.primal[..., :4])


# Ipopt 3.14.19 on HS071: objective, inf_pr, inf_du, lg(mu), ||d||, lg(rg), alpha_du, alpha_pr
HS071_LOG = """
1.6109693e+1 1.12e+1 5.28e-1   0.0 0.00e+0    - 0.00e+0 0.00e+0
1.7410406e+1 7.49e-1 2.25e+1  -0.3 7.97e-1    - 3.19e-1 1.00e+0
1.8001613e+1 7.52e-3 4.96e+0  -0.3 5.60e-2  2.0 9.97e-1 1.00e+0
1.7199482e+1 4.00e-2 4.24e-1  -1.0 9.91e-1    - 9.98e-1 1.00e+0
1.6940955e+1 1.59e-1 4.58e-2  -1.4 2.88e-1    - 9.66e-1 1.00e+0
1.7003411e+1 2.16e-2 8.42e-3  -2.9 7.03e-2    - 9.68e-1 1.00e+0
1.7013974e+1 2.03e-4 8.65e-5  -4.5 6.22e-3    - 1.00e+0 1.00e+0
1.7014017e+1 2.76e-7 2.18e-7 -10.3 1.43e-4    - 9.99e-1 1.00e+0
"""
# And its restoration rows on the infeasible problem: objective, inf_pr, lg(mu), ||d||, alpha_du, alpha_pr. The first of
# them is where it enters; the proximity weight changes with mu in every row.
RESTORATION_LOG = {
    6: "4.8326931e-1 3.45e+0  1.5 4.56e-2 3.33e-1 1.00e+0",
    7: "1.5000762e-2 1.17e+0  1.3 5.81e+0 3.65e-1 5.95e-1",
    12: "9.1362945e-2 1.43e+0 -3.5 9.28e-1 1.00e+0 8.24e-1",
    13: "1.3761865e-1 1.52e+0  0.2 1.82e-1 1.00e+0 9.35e-1",
    14: "1.6707879e-1 1.58e+0 -0.8 7.54e-2 1.00e+0 1.00e+0",
    15: "1.7148338e-1 1.59e+0 -2.3 9.47e-3 1.00e+0 1.00e+0",
}


HS071_SOLUTION = [1, 4.74299964, 3.82114998, 1.37940829]


def logarithm(value: float) -> str:
    return f"{np.log10(value):.1f}" if value > 0 else "-"


def short(value: float, digits: int = 2) -> str:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent):+d}"


def printed(state, k: int) -> list[str]:
    r = jax.tree.map(lambda column: float(column[k]), state.history)
    return [
        short(r.objective, 7), short(r.primal_infeasibility), short(r.dual_infeasibility), logarithm(r.mu),
        short(r.step), logarithm(r.regularization), short(r.alpha_dual), short(r.alpha_primal),
    ]  # fmt: skip


def test_quality_function_reproduces_the_reference_log():
    state = solve(HS071)
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) == 8
    for k, line in enumerate(HS071_LOG.strip().splitlines()):
        assert printed(state, k) == line.split()
    np.testing.assert_allclose(x_of(state), HS071_SOLUTION, atol=2e-8)


def test_restoration_reproduces_the_reference_log():
    state = solve(INFEASIBLE)
    assert int(state.status) == Status.Infeasible_Problem_Detected
    for k, line in RESTORATION_LOG.items():
        row = printed(state, k)
        assert [row[i] for i in (0, 1, 3, 4, 6, 7)] == line.split()


# Iteration counts of Ipopt 3.14.19 with the same options: HS071, HS012, NO_BOUNDS, LEAVES_FREE_MODE
COUNTS = [
    ({}, [8, 6, 5, 47]),
    ({"mu_oracle": "loqo"}, [None, 8, 5, 28]),
    ({"mu_oracle": "probing"}, [None, 8, 5, 26]),
    ({"adaptive_mu_globalization": "kkt-error"}, [8, 6, 5, 27]),
    ({"adaptive_mu_globalization": "never-monotone-mode"}, [8, 6, 5, None]),
]


@pytest.mark.parametrize(
    ("choices", "counts"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (k > 1), id="-".join(case[0].values()))
        for k, case in enumerate(COUNTS)
    ],
)
def test_iteration_counts(choices, counts):
    problems, solutions = (
        [HS071, HS012, NO_BOUNDS, LEAVES_FREE_MODE],
        [HS071_SOLUTION, [2, 3, 0, 0], [1, 1, 0, 0], None],
    )
    for which, count, solution in zip(problems, counts, solutions):
        state = solve(which, **choices)
        assert int(state.status) == Status.Solve_Succeeded
        assert int(state.iteration) == (int(state.iteration) if count is None else count)
        if solution is not None:
            np.testing.assert_allclose(x_of(state), solution, atol=1e-7)
        if which == NO_BOUNDS:
            assert float(state.globalization.mu) == 1e-11


def test_monotone_is_unchanged():
    state = solve(HS071, mu_strategy="monotone")
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) == 8
    assert state.globalization.barrier is None


def test_numbers_act_without_compiling_again():
    solve(HS071)
    entry = compiled(key({}))[0]
    before = entry._cache_size()
    high = solve(HS071, Numbers(mu_min=1e-9, sigma_max=1.0, adaptive_mu_safeguard_factor=1e-8))
    assert int(high.status) == Status.Solve_Succeeded
    assert float(high.globalization.mu) >= 1e-9
    limited = solve(HS071, Numbers(mu_max=0.05))
    assert int(limited.status) == Status.Solve_Succeeded
    mu = np.asarray(limited.history.mu)[1 : int(limited.iteration) + 1]
    assert np.all(mu <= 0.05)
    assert entry._cache_size() == before


def test_lanes_agree_with_single_solves():
    one, many = compiled(key({}))
    packed, everything = Numbers().pack(), np.arange(5)
    batch = many(*arguments(everything), packed)
    for k in everything:
        alone = one(*arguments(k), packed)
        assert int(alone.status) == int(batch.status[k])
        assert int(alone.iteration) == int(batch.iteration[k])
        np.testing.assert_allclose(x_of(batch)[k], x_of(alone), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        {"quality_function_norm_type": "1-norm"},
        {"quality_function_norm_type": "2-norm"},
        {"quality_function_norm_type": "max-norm"},
        {"quality_function_centrality": "log"},
        {"quality_function_centrality": "reciprocal"},
        {"quality_function_centrality": "cubed-reciprocal"},
        {"quality_function_balancing_term": "cubic"},
        {"quality_function_max_section_steps": 0},
    ],
    ids=lambda choices: "-".join(map(str, choices.values())),
)
def test_quality_functions_solve(choices):
    state = solve(HS071, **choices)
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) <= 25


@pytest.mark.slow
def test_restoring_the_previous_iterate():
    state = solve(LEAVES_FREE_MODE, adaptive_mu_restore_previous_iterate=True)
    assert int(state.status) == Status.Solve_Succeeded
    np.testing.assert_allclose(x_of(state), [1, 0, 0, 0], atol=1e-2)


# With `mehrotra_algorithm=yes` and `least_square_init_primal=no`, on the objective of HS012 in the box [0, 8] x [0, 5]
MEHROTRA_LOG = """
-1.7520000e+1 0.00e+0 6.60e+0   0.0 0.00e+0    - 0.00e+0 0.00e+0
-3.6621629e+1 0.00e+0 1.70e+0  -0.1 1.86e+0    - 7.17e-1 1.00e+0
-7.2890829e+1 0.00e+0 1.33e-1  -3.4 4.67e+0    - 1.00e+0 9.21e-1
-7.3982817e+1 0.00e+0 1.73e-3  -4.8 2.36e-1    - 9.89e-1 9.88e-1
-7.3999829e+1 0.00e+0 1.73e-5 -11.0 3.95e-3    - 9.90e-1 9.90e-1
"""


@pytest.mark.slow
def test_mehrotra_predictor_corrector_reproduces_the_reference_log():
    numbers = Numbers(bound_push=10.0, bound_frac=0.2, bound_mult_init_val=10.0, constr_mult_init_max=0.0).pack()
    choices = {
        "mehrotra_algorithm": True,
        "mu_oracle": "probing",
        "adaptive_mu_globalization": "never-monotone-mode",
        "accept_every_trial_step": True,
    }
    x0, weight, _ = arguments(HS012)
    box = Bounds(jnp.zeros(4), jnp.asarray([8.0, 5.0, 0.0, 0.0]), jnp.full(2, -INF), jnp.full(2, INF))
    state = compiled(key(choices))[0](x0, weight, box, numbers)
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) == 6
    for k, line in enumerate(MEHROTRA_LOG.strip().splitlines()):
        assert printed(state, k) == line.split()
    np.testing.assert_allclose(x_of(state), [8, 5, 0, 0], atol=1e-6)


@pytest.mark.slow
def test_single_precision():
    numbers = Numbers(tol=1e-4, acceptable_tol=1e-3, mu_min=1e-7).pack().astype(np.float32)
    state = compiled(key({}))[0](*arguments(HS071, np.float32), numbers)
    assert state.iterate.primal.dtype == jnp.float32
    assert int(state.status) == Status.Solve_Succeeded
    np.testing.assert_allclose(x_of(state), HS071_SOLUTION, atol=1e-3)


@pytest.mark.parametrize("minimum", [1e-3, 0.03, 0.3, 0.97, 1.0, 3.0, 40.0])
def test_golden_section(minimum):
    def quality(sigma):
        return (sigma - minimum) ** 2 + 1

    search = jax.jit(lambda low, up: best_sigma(quality, low, up, jnp.array(True), Numbers(), 30))
    assert abs(float(search(1e-6, 100.0)) - minimum) <= 0.02 * max(minimum, 1)
    # Limits hold, an empty interval gives its end.
    assert 0.5 <= float(search(0.5, 0.7)) <= 0.7
    if minimum < 0.98:
        assert float(search(1e-6, 1e-7)) == 1e-6


def test_norms_do_not_see_absent_entries():
    values = jnp.asarray([3.0, -4.0, 0.0, 0.0])
    expected = {"1-norm": 3.5, "2-norm-squared": 12.5, "2-norm": np.sqrt(12.5), "max-norm": 4.0}
    for kind, value in expected.items():
        assert float(averaged_norm(values, jnp.array(2), kind)) == pytest.approx(value)
        assert float(averaged_norm(jnp.zeros(0), jnp.array(0), kind)) == 0


class Halving(AbstractBarrier):
    """A strategy of a user's: half of mu in every iteration."""

    choices: Choices

    def first(self, point, capacity, o):
        return o.mu_init, None

    def update(self, judged, seen, frame, searching, o):
        g, memory = judged.globalization, judged.memory
        mu = jnp.where(searching, jnp.maximum(0.5 * g.mu, 1e-9), g.mu)
        g = eqx.tree_at(lambda q: (q.mu, q.tau), g, (mu, jnp.maximum(o.tau_min, 1 - mu)))
        g, memory, soft = reset_line_search(g, memory, judged.row.soft, searching)
        no = jnp.zeros_like(searching)
        return Updated(globalization=g, memory=memory, soft=soft, stuck=no, going_back=None)

    def aim(self, judged, seen, frame, g, linear, searching, o):
        return MonotoneBarrier(self.choices).aim(judged, seen, frame, g, linear, searching, o)


def test_a_strategy_is_a_class_and_a_row_of_a_table(monkeypatch):
    assert tuple(BARRIERS) == typing.get_args(typing.get_type_hints(Choices)["mu_strategy"])
    monkeypatch.setitem(BARRIERS, "halving", Halving)
    state = solve(HS071, mu_strategy="halving")
    assert int(state.status) == Status.Solve_Succeeded
    np.testing.assert_allclose(x_of(state), HS071_SOLUTION, rtol=1e-6)
