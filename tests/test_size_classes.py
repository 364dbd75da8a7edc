"""Host doors compile for size classes: what is rounded up solves as if it were not."""

import numpy as np
import pytest

from pounce import QpFactorization, solve_qp, solve_qp_batch, solve_socp
from pounce._qp.data import Program
from pounce._qp.kernel import kernel_for
from pounce._qp.size_class import CALLS, MOST_WASTE, SizeClass, class_of, unpadded
from pounce._qp.solve import inequalities


def program(seed, n=9, p=2, m=7, bounded=True):
    """A strictly convex program with a feasible point inside."""
    random = np.random.default_rng(seed)
    root, x = random.normal(size=(n, n)), random.normal(size=n)
    data = dict(P=root @ root.T + np.eye(n), c=random.normal(size=n))
    if p:
        A = random.normal(size=(p, n))
        data |= dict(A=A, b=A @ x)
    if m:
        G = random.normal(size=(m, n))
        data |= dict(G=G, h=G @ x + random.uniform(0.0, 1.0, m))
    if bounded:
        data |= dict(lb=x - random.uniform(0.0, 2.0, n), ub=np.where(np.arange(n) % 3 == 0, np.inf, x + 1.0))
    return data


def assert_equal(first, second, atol=1e-9):
    assert (first.status, first.iters) == (second.status, second.iters)
    for name in ("x", "y", "z", "s", "z_lb", "z_ub"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=atol, rtol=atol, err_msg=name)
    if np.isfinite(second.obj):
        assert first.obj == pytest.approx(second.obj, rel=atol, abs=atol)


SHAPES = [(9, 2, 7, True), (9, 2, 7, False), (3, 0, 0, True), (14, 8, 32, False), (2, 1, 0, False), (16, 0, 30, False)]


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_padding_changes_nothing(shape):
    data = program(1, *shape)
    padded = solve_qp(**data)
    with unpadded():
        assert_equal(padded, solve_qp(**data))


def test_sizes_share_programs():
    for k, shape in enumerate(SHAPES):
        assert solve_qp(**program(k, *shape)).success
    made = kernel_for.cache_info().misses
    random = np.random.default_rng(0)
    for seed in range(20):
        n, m = int(random.integers(1, 17)), int(random.integers(0, 33))
        p = int(random.integers(0, min(n, 9)))
        data = program(seed, n, p, m, bool(seed % 2))
        result = solve_qp(**data)
        assert result.success and result.kkt_error < 1e-9
        assert [v.shape[0] for v in (result.x, result.y, result.z, result.s, result.z_lb)] == [n, p, m, m, n]
    assert kernel_for.cache_info().misses == made


def test_certificates_of_padded_programs():
    infeasible = program(2) | dict(G=np.vstack([np.eye(9)[:1], -np.eye(9)[:1]]), h=np.array([-1.0, -1.0]))
    unbounded = dict(c=-np.ones(3), G=np.eye(3)[:2], h=np.ones(2))
    for data, status in ((infeasible, "primal_infeasible"), (unbounded, "dual_infeasible")):
        result = solve_qp(**data)
        assert result.status == status and result.residuals["radius"] > 1e6
        with unpadded():
            assert_equal(result, solve_qp(**data))


def test_warm_starts_and_iterates():
    data = program(3)
    cold = solve_qp(**data, collect_iterates=True)
    moved = data | dict(c=data["c"] + 1e-3)
    warm = solve_qp(**moved, warm_start=cold)
    assert warm.iters < cold.iters == len(cold.iterates) - 1
    with unpadded():
        assert_equal(warm, solve_qp(**moved, warm_start=cold))


def test_cones_in_any_order():
    data = program(4, bounded=False)
    G, h = data["G"], data["h"]
    split = [("nonneg", 3), ("nonneg", 4)]
    assert_equal(solve_socp(**data, cones=split), solve_qp(**data), atol=0)
    curved = data | dict(G=np.vstack([G[:4], np.eye(9)[:3], G[4:]]), h=np.concatenate([h[:4], [9.0, 0, 0], h[4:]]))
    result = solve_socp(**curved, cones=[("nonneg", 4), ("soc", 3), ("nonneg", 3)])
    assert result.success and np.all(result.s[[0, 1, 2, 3, 7, 8, 9]] >= -1e-9)


def test_batches_of_several_sizes():
    problems = [program(k, *shape) for k, shape in enumerate([(9, 2, 7, True), (10, 2, 8, True), (9, 2, 7, True)] * 2)]
    before = kernel_for.cache_info().misses
    results = solve_qp_batch(problems)
    assert kernel_for.cache_info().misses - before <= 2  # sizes 9 and 10 are of one class
    for data, result in zip(problems, results):
        assert_equal(result, solve_qp(**data))


def test_a_factorization_is_of_a_class():
    made = QpFactorization(**program(5))
    before = kernel_for.cache_info().misses
    for seed in (5, 6):
        data = program(5) | dict(c=program(seed)["c"])
        assert_equal(made.solve(**data), solve_qp(**data), atol=0)
    QpFactorization(**program(7, 10, 3, 8))
    assert kernel_for.cache_info().misses == before


def test_classes_hold_what_they_are_for():
    random = np.random.default_rng(0)
    for _ in range(300):
        n, p, m = (int(10 ** random.uniform(0, 3.3)) for _ in range(3))
        bound = np.zeros(n) if random.uniform() < 0.5 else None
        data = Program(None, np.zeros(n), None, np.zeros(p), None, np.zeros(m), bound, None)
        own = SizeClass(n, p, m, bound is not None, False)
        for lanes in (False, True):
            size = class_of(data, inequalities(data), lanes)
            assert size is not None and all(a <= b for a, b in zip(own, size))
            assert size.operations <= MOST_WASTE * (own.operations + CALLS)
            if lanes or n > 320:
                assert size == own.rounded(2 if lanes else 8)
