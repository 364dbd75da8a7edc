"""What results look like when they are printed."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pounce
from pounce._conic.solution import ConicResiduals
from pounce._scipy.result import MinimizeResult
from pounce._solution import ActiveSet


def solution(lanes: tuple[int, ...] = (), status: int | list[int] = 0, n: int = 4) -> pounce.Solution:
    """A solution that nobody computed, of as many lanes."""

    def full(value, *shape):
        return jnp.broadcast_to(jnp.asarray(value), (*lanes, *shape))

    x, rows = full(np.linspace(0.25, 3.5, n), n), full([25.0, 0.0], 2)
    no = full(False)
    return pounce.Solution(
        x=x,
        objective=full(17.0140173),
        constraints=rows,
        multipliers=pounce.Multipliers(rows, x, x),
        status=full(0) + jnp.asarray(status),
        residuals=pounce.Residuals(full(1e-9), full(1e-10), full(0.0), full(jnp.nan)),
        stats=pounce.Statistics(*(full(k) for k in (8, 9, 10, 0, 0))),
        quality=pounce.Quality(full(1.0), full(1e-16), no, ~no, no),
        active=ActiveSet(x > 9, x > 9, rows > 99, rows > 99, x, rows),
        mu=full(2e-9),
        history=None,
    )


def conic() -> pounce.ConicSolution:
    x, number = jnp.arange(3.0), jnp.array(1.5)
    return pounce.ConicSolution(x, x, x, x, x, x, number, jnp.array(2), jnp.array(7), ConicResiduals(*[number] * 4))


@pytest.mark.parametrize("n", [4, 300])
def test_a_solution_shows_its_numbers(n):
    text = repr(solution(n=n))
    first, *rest = text.splitlines()
    assert first == "Solution: Solve_Succeeded in 8 iterations" and len(rest) < 24
    assert "17.014" in text and "0.25" in text and "3.5" in text and all(len(line) < 130 for line in rest)
    assert (f"({n} entries)" in text) is (n > 8)
    assert "kkt_error=1e-09" in repr(solution(n=n).residuals) and "iterations=8" in repr(solution(n=n).stats)


def test_a_batch_says_how_many_lanes_ended_how():
    text = repr(solution((5,), [0, 0, 2, 0, -1]))
    assert text.startswith(
        "Solution of 5 lanes: 3 Solve_Succeeded, 1 Infeasible_Problem_Detected, 1 Maximum_Iterations_Exceeded in 8 iter"
    )
    assert len(text.splitlines()) < 25 and "[5,4]" in text
    assert "200 lanes: 200 Solve_Succeeded" in repr(solution((2, 100)))


def test_a_convex_solution_shows_its_numbers():
    text = repr(conic())
    assert text.startswith("ConicSolution: Primal_Infeasible in 7 iterations") and "[0, 1, 2]" in text
    assert len(text.splitlines()) < 25


@pytest.mark.parametrize("make", [solution, conic])
def test_where_there_are_no_numbers_shapes_are_shown(make):
    seen = []
    made = make()
    jax.jit(lambda s: seen.append(repr(s)))(made)
    jax.vmap(lambda s: seen.append(repr(s)))(jax.tree.map(lambda leaf: leaf[None], made))
    seen += [repr(jax.eval_shape(lambda: made)), repr(jax.tree.map(jnp.shape, made)), repr(jax.tree.map(id, made))]
    donated = jax.tree.map(jnp.copy, made)
    donated.x.delete()
    seen.append(repr(donated))
    for text in seen:
        assert len(text.splitlines()) < 25 and text.startswith(type(made).__name__)
    assert "x=float" in seen[0]


def test_a_status_without_a_name_is_a_number():
    assert repr(solution(status=77)).startswith("Solution: 77 in")


def test_the_info_of_an_optimize_result_is_printed_by_name():
    info = {"x": np.zeros(300), "status": 0, "obj_val": 1.0, "mult_g": np.zeros(300)} | {
        f"key{k}": k for k in range(30)
    }
    result = MinimizeResult(x=np.zeros(300), fun=1.0, status=0, info=info)
    text = repr(result)
    assert len(text.splitlines()) < 20 and "34 entries: obj_val, mult_g, key0" in text
    again = pickle.loads(pickle.dumps(result))
    assert type(again) is MinimizeResult and again.info["mult_g"].shape == (300,)
    assert "info" not in repr(MinimizeResult(x=1)) and "info: no" in repr(MinimizeResult(info="no"))
