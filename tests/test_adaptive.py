"""The adaptive barrier strategy against Ipopt's printed digits, for every oracle and test of progress."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pounce._interior.options import Choices, Numbers
from pounce._interior.quality_function import averaged_norm, best_sigma
from pounce._interior.solver import InteriorPointMethod
from pounce._interior.start import Bounds
from pounce._linalg.dense import PivotedLU
from pounce._problem.nlp import FunctionNLP
from pounce._results import Status


INF = np.inf


class Problem(eqx.Module):
    """``min f(x)  s.t.  cl <= c(x) <= cu,  lb <= x <= ub``, and where to start."""

    functions: object = eqx.field(static=True)
    x0: jax.Array
    bounds: Bounds


def problem(objective, rows, x0, lb, ub, cl, cu) -> Problem:
    x0 = jnp.asarray(x0, float)
    wide = [jnp.broadcast_to(jnp.asarray(b, float), x0.shape) for b in (lb, ub)]
    bounds = Bounds(*wide, jnp.asarray(cl, float), jnp.asarray(cu, float))
    return Problem(lambda x, _: (objective(x), jnp.stack(rows(x))), x0, bounds)


HS071 = problem(
    lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
    lambda x: [jnp.prod(x), jnp.sum(x * x)],
    [1, 5, 5, 1], 1, 5, [25, 40], [INF, 40],
)  # fmt: skip
HS012 = problem(
    lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
    lambda x: [25 - 4 * x[0] ** 2 - x[1] ** 2],
    [0, 0], -INF, INF, [0], [INF],
)  # fmt: skip
NO_BOUNDS = problem(lambda x: (1 - x[0]) ** 2, lambda x: [10 * (x[1] - x[0] ** 2)], [-1.2, 1], -INF, INF, [0], [0])
INFEASIBLE = problem(
    lambda x: (x[0] - 1) ** 2 + (x[1] - 1) ** 2,
    lambda x: [x[0] ** 2 + x[1] ** 2, x[0] + x[1]],
    [0, 0], -INF, INF, [-INF, 3], [1, INF],
)  # fmt: skip
# Leaves and enters free mode.
DEGENERATE = problem(
    lambda x: (x[0] - 2) ** 2 + x[1] ** 2, lambda x: [(1 - x[0]) ** 3 - x[1]], [-2, -2], 0, INF, [0], [INF]
)


@functools.cache
def compiled(functions, choices: tuple):
    method = InteriorPointMethod(PivotedLU(), Choices(**dict(choices)), history=64)
    nlp = FunctionNLP(functions, None)

    def solve(x0, bounds, packed):
        o = Numbers.unpack(packed)
        state = method.init(nlp, x0, bounds, None, o)
        return jax.lax.while_loop(lambda s: ~method.terminate(s), lambda s: method.step(nlp, bounds, None, s, o), state)

    return jax.jit(solve), jax.jit(jax.vmap(solve, in_axes=(0, None, None)))


def solve(p: Problem, numbers: Numbers = Numbers(), **choices):
    choices = tuple(sorted({"mu_strategy": "adaptive", **choices}.items()))
    return compiled(p.functions, choices)[0](p.x0, p.bounds, numbers.pack())


def x_of(p: Problem, state) -> np.ndarray:
    return np.asarray(state.iterate.primal[..., : p.x0.shape[0]])


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


def logarithm(value: float) -> str:
    return f"{np.log10(value):.1f}" if value > 0 else "-"


def short(value: float, digits: int = 2) -> str:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent):+d}"


def printed(state, k: int) -> list[str]:
    r = jax.tree.map(lambda column: float(column[k]), state.history)
    return [
        short(r.objective, 7), short(r.primal_infeasibility), short(r.dual_infeasibility), logarithm(r.mu), short(r.step),
        logarithm(r.regularization), short(r.alpha_dual), short(r.alpha_primal),
    ]  # fmt: skip


def test_quality_function_reproduces_the_reference_log():
    state = solve(HS071)
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) == 8
    for k, line in enumerate(HS071_LOG.strip().splitlines()):
        assert printed(state, k) == line.split()
    np.testing.assert_allclose(x_of(HS071, state), [1, 4.74299964, 3.82114998, 1.37940829], atol=2e-8)


def test_restoration_reproduces_the_reference_log():
    state = solve(INFEASIBLE)
    assert int(state.status) == Status.Infeasible_Problem_Detected
    for k, line in RESTORATION_LOG.items():
        row = printed(state, k)
        assert [row[i] for i in (0, 1, 3, 4, 6, 7)] == line.split()


# Iteration counts of Ipopt 3.14.19 with the same options
@pytest.mark.parametrize(
    ("p", "choices", "iterations"),
    [
        (HS012, {}, 6),
        (HS012, {"mu_oracle": "loqo"}, 8),
        (HS012, {"mu_oracle": "probing"}, 8),
        (HS071, {"adaptive_mu_globalization": "kkt-error"}, 8),
        (HS071, {"adaptive_mu_globalization": "never-monotone-mode"}, 8),
        (NO_BOUNDS, {}, 5),
        (DEGENERATE, {}, 47),
        (DEGENERATE, {"mu_oracle": "loqo"}, 28),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_iteration_counts(p, choices, iterations):
    state = solve(p, **choices)
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) == iterations
    if p is HS012:
        np.testing.assert_allclose(x_of(p, state), [2, 3], atol=1e-7)
    if p is NO_BOUNDS:
        assert float(state.globalization.mu) == 1e-11


def test_monotone_is_unchanged():
    state = solve(HS071, mu_strategy="monotone")
    assert int(state.status) == Status.Solve_Succeeded
    assert int(state.iteration) == 8
    assert state.globalization.adaptive is None


def test_numbers_act_without_compiling_again():
    solve(HS071)
    entry = compiled(HS071.functions, (("mu_strategy", "adaptive"),))[0]
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
    starts = jnp.asarray([[1.0, 5, 5, 1], [2.0, 3, 4, 2], [5.0, 1, 1, 5]])
    one, many = compiled(HS071.functions, (("mu_strategy", "adaptive"),))
    packed = Numbers().pack()
    batch = many(starts, HS071.bounds, packed)
    for k, start in enumerate(starts):
        alone = one(start, HS071.bounds, packed)
        assert int(alone.status) == int(batch.status[k]) == Status.Solve_Succeeded
        assert int(alone.iteration) == int(batch.iteration[k])
        np.testing.assert_allclose(x_of(HS071, batch)[k], x_of(HS071, alone), rtol=1e-9)


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
    assert int(state.iteration) <= 15


@pytest.mark.slow
def test_restoring_the_previous_iterate():
    state = solve(DEGENERATE, adaptive_mu_restore_previous_iterate=True)
    assert int(state.status) == Status.Solve_Succeeded
    np.testing.assert_allclose(x_of(DEGENERATE, state), [1, 0], atol=1e-2)


@pytest.mark.slow
def test_mehrotra_predictor_corrector_saves_iterations():
    hessian = jnp.asarray([[4.0, 1, 0], [1, 3, 0.5], [0, 0.5, 2]])
    p = problem(
        lambda x: 0.5 * x @ hessian @ x - x @ jnp.asarray([8.0, 1, 3]),
        lambda x: [jnp.sum(x), x[0] - x[1]],
        [1, 1, 1], 0, 2, [2.5, -1], [2.5, 0.7],
    )  # fmt: skip
    numbers = Numbers(bound_push=10.0, bound_frac=0.2, bound_mult_init_val=10.0, constr_mult_init_max=0.0)
    choices = {
        "mu_oracle": "probing",
        "adaptive_mu_globalization": "never-monotone-mode",
        "accept_every_trial_step": True,
        "alpha_for_y": "bound-mult",
    }
    plain = solve(p, numbers, **choices)
    corrected = solve(p, numbers, mehrotra_algorithm=True, **choices)
    assert int(plain.status) == int(corrected.status) == Status.Solve_Succeeded
    assert int(corrected.iteration) < int(plain.iteration)
    np.testing.assert_allclose(x_of(p, corrected), x_of(p, plain), atol=1e-7)


@pytest.mark.slow
def test_single_precision():
    p = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), HS071)
    numbers = Numbers(tol=1e-4, acceptable_tol=1e-3, mu_min=1e-7)
    entry = compiled(HS071.functions, (("mu_strategy", "adaptive"),))[0]
    state = entry(p.x0, p.bounds, numbers.pack().astype(np.float32))
    assert state.iterate.primal.dtype == jnp.float32
    assert int(state.status) == Status.Solve_Succeeded
    np.testing.assert_allclose(x_of(HS071, state), [1, 4.743, 3.8211, 1.3794], atol=1e-3)


@pytest.mark.parametrize("minimum", [1e-3, 0.03, 0.3, 0.97, 1.0, 3.0, 40.0])
def test_golden_section(minimum):
    def quality(sigma):
        return (sigma - minimum) ** 2 + 1

    search = jax.jit(lambda low, up: best_sigma(quality, low, up, jnp.array(True), Numbers(), 30))
    assert abs(float(search(1e-6, 100.0)) - minimum) <= 0.02 * max(minimum, 1)
    # Limits hold, an empty interval gives its end.
    assert 0.5 <= float(search(0.5, 0.7)) <= 0.7
    assert float(search(1e-6, 1e-7)) == 1e-6 or minimum > 1


def test_norms_do_not_see_absent_entries():
    values = jnp.asarray([3.0, -4.0, 0.0, 0.0])
    expected = {"1-norm": 3.5, "2-norm-squared": 12.5, "2-norm": np.sqrt(12.5), "max-norm": 4.0}
    for kind, value in expected.items():
        assert float(averaged_norm(values, jnp.array(2), kind)) == pytest.approx(value)
        assert float(averaged_norm(jnp.zeros(0), jnp.array(0), kind)) == 0
