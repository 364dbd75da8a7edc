"""A lane is an island: batches with feasible, infeasible, unbounded and NaN lanes and row types that differ by lane."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce


LANES = 12
N, M = 3, 2


def objective(x, p):
    return 0.5 * jnp.sum(p["curvature"] * x**2) + jnp.dot(p["linear"], x) + 0.05 * jnp.sum(jnp.cos(x))


def constraints(x, p):
    return jnp.stack([jnp.sum(x * x), jnp.dot(p["normal"], x)])


def random_batch(seed):
    """Parameters and bounds of one batch. Lane kinds: feasible, infeasible, unbounded, NaN."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["feasible", "infeasible", "unbounded", "nan"], size=LANES, p=[0.55, 0.2, 0.15, 0.1])
    kind[:4] = ["feasible", "infeasible", "unbounded", "nan"]
    p = {
        "curvature": rng.uniform(0.5, 3, (LANES, N)),
        "linear": rng.normal(size=(LANES, N)),
        "normal": rng.normal(size=(LANES, N)),
    }
    lb, ub = np.full((LANES, N), -np.inf), np.full((LANES, N), np.inf)
    cl, cu = np.full((LANES, M), -np.inf), np.full((LANES, M), np.inf)
    for i in range(LANES):
        some = rng.random(N)
        lb[i, some < 0.4], ub[i, some > 0.7] = -1.0, 1.5
        if some[0] > 0.9:
            lb[i, 0] = ub[i, 0] = 0.3
        row = rng.integers(4)
        cu[i, 0] = rng.uniform(2, 5)
        if row == 1:
            cl[i, 1] = cu[i, 1] = rng.uniform(-0.2, 0.2)
        elif row == 2:
            cu[i, 1] = rng.uniform(0, 0.5)
        elif row == 3:
            cl[i, 1], cu[i, 1] = -0.1, 0.4
        if kind[i] == "infeasible":
            cu[i, 0] = -1.0
        elif kind[i] == "unbounded":
            cu[i], cl[i], lb[i], ub[i] = np.inf, -np.inf, -np.inf, np.inf
            p["curvature"][i] = -1.0
        elif kind[i] == "nan":
            p["linear"][i, 0] = np.nan
    as_arrays = functools.partial(jax.tree.map, jnp.asarray)
    return kind, as_arrays(p), tuple(map(jnp.asarray, (lb, ub, cl, cu)))


SOLVER = pounce.InteriorPoint(max_iter=300)


def solve(p, bounds):
    lb, ub, cl, cu = bounds
    problem = pounce.NLP(objective, constraints, lb=lb, ub=ub, cl=cl, cu=cu)
    return pounce.solve(problem, SOLVER, jnp.full(N, 0.1), p)


single = jax.jit(solve)
batched = jax.jit(jax.vmap(solve))


def lane(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.parametrize("seed", range(50))
def test_batch_equals_singles(seed):
    kind, p, bounds = random_batch(seed)
    together = batched(p, bounds)
    for i in range(LANES):
        alone = single(lane(p, i), lane(bounds, i))
        assert int(together.status[i]) == int(alone.status), kind[i]
        if kind[i] == "nan":
            assert int(alone.status) == pounce.Status.Invalid_Number_Detected
            continue
        assert abs(int(together.stats.iterations[i]) - int(alone.stats.iterations)) <= 1
        if bool(alone.success):
            np.testing.assert_allclose(together.x[i], alone.x, atol=1e-8)
            for a, b in zip(jax.tree.leaves(together.multipliers), jax.tree.leaves(alone.multipliers)):
                np.testing.assert_allclose(a[i], b, atol=1e-8 * max(1.0, float(jnp.max(jnp.abs(b)))))
        assert kind[i] != "feasible" or int(alone.status) in (0, 1, 2)


@pytest.mark.parametrize("seed", range(10))
def test_bad_lane_changes_no_other_bit(seed):
    kind, p, bounds = random_batch(seed)
    before = batched(p, bounds)
    bad = np.flatnonzero(kind != "feasible")
    rng = np.random.default_rng(1000 + seed)
    other = {name: np.array(value) for name, value in p.items()}
    for i in bad:
        for name in other:
            other[name][i] = rng.normal(size=N) * 10 if rng.random() < 0.5 else np.nan
    after = batched(jax.tree.map(jnp.asarray, other), bounds)
    good = np.flatnonzero(kind == "feasible")
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        np.testing.assert_array_equal(np.asarray(a)[good], np.asarray(b)[good])


def test_infeasible_lanes_are_recognised():
    """All but a few: some run to the iteration limit with exploding multipliers, as Ipopt can; none succeeds."""
    statuses = []
    for seed in range(20):
        kind, p, bounds = random_batch(seed)
        statuses += np.asarray(batched(p, bounds).status)[kind == "infeasible"].tolist()
    assert not {0, 1} & set(statuses)
    assert np.mean(np.array(statuses) == pounce.Status.Infeasible_Problem_Detected) >= 0.95


def test_success_only_at_feasible_finite_points():
    for seed in range(10):
        _, p, bounds = random_batch(seed)
        s = batched(p, bounds)
        ok = np.asarray(s.success)
        assert np.all(np.isfinite(np.asarray(s.x)[ok]))
        c, (cl, cu) = np.asarray(jax.vmap(constraints)(s.x, p)), map(np.asarray, bounds[2:])
        worst = np.max(np.maximum(np.maximum(cl - c, c - cu), 0), axis=1)
        assert np.all(worst[ok] <= 1e-7)
