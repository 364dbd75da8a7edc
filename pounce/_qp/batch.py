"""Many convex programs at once: those of one form are lanes of one compiled solve."""

import time
from typing import Any

import jax
import numpy as np

from .._conic.data import ConicData
from .._conic_solve import WarmPoint
from .arguments import Limits
from .drive import Task
from .result import QpResult, result_of
from .solve import asked_of, inequalities, program_of, solve_one


MOST_NUMBERS = 20_000_000  # in the matrices of all lanes together


def solve_many(programs: list[ConicData], warms: list[WarmPoint | None], limits: Limits) -> list[QpResult]:
    """The results for quadratic programs, in order. The time limit is that of all of them together."""
    groups: dict[Any, list[int]] = {}
    for k, pair in enumerate(zip(programs, warms)):
        leaves, structure = jax.tree.flatten(pair)
        groups.setdefault((structure, tuple(leaf.shape for leaf in leaves)), []).append(k)
    results: dict[int, QpResult] = {}
    countdown = Countdown(limits)
    for members in groups.values():
        for part in parts(members, programs[members[0]]):
            if len(part) == 1:
                k = part[0]
                results[k] = solve_one(programs[k], inequalities(programs[k]), warms[k], countdown.left())
                continue
            lanes = [(programs[k], warms[k]) for k in padded(part)]
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
            batched = jax.tree.map(lambda _: True, stacked)
            datas = [programs[k] for k in part]
            results.update(zip(part, _solve_lanes(datas, stacked, batched, limits, countdown.left())))
    return [results[k] for k in range(len(programs))]


def solve_terms(data: ConicData, terms: np.ndarray, limits: Limits) -> list[QpResult]:
    """The results for one quadratic program with each of the linear terms, ``(k, n)``."""
    results: list[QpResult] = []
    countdown = Countdown(limits)
    for part in parts(list(range(terms.shape[0])), data):
        datas = [_with_term(data, terms[k]) for k in part]
        if len(part) == 1:
            results.append(solve_one(datas[0], inequalities(data), None, countdown.left()))
            continue
        stacked = _with_term(data, terms[np.array(padded(part))])
        batched = _with_term(jax.tree.map(lambda _: False, data), True)
        results.extend(_solve_lanes(datas, (stacked, None), (batched, None), limits, countdown.left()))
    return results


def _with_term(data: ConicData, term: Any) -> ConicData:
    return ConicData(data.P, term, data.A, data.b, data.G, data.h, data.lb, data.ub)


def _solve_lanes(datas: list[ConicData], stacked: tuple, batched: tuple, limits: Limits, left: Limits) -> list[QpResult]:
    """The results for ``datas``, which are the first lanes of what is stacked."""
    rows = inequalities(datas[0])
    solution, late = Task(program_of(datas[0], rows), *stacked, batched).solve(left)
    lanes = (jax.tree.map(lambda leaf: leaf[lane], solution) for lane in range(len(datas)))
    return [result_of(asked_of(data, rows, limits), lane, late) for data, lane in zip(datas, lanes)]


def parts(members: list[int], data: ConicData) -> list[list[int]]:
    """Members in groups that fit into memory."""
    n = data.c.shape[0]
    numbers = n * (n + sum(0 if v is None else v.shape[0] for v in (data.b, data.h)) + 10)
    most = 1 << max(MOST_NUMBERS // numbers, 1).bit_length() - 1
    return [members[k : k + most] for k in range(0, len(members), most)]


def padded(members: list[int]) -> list[int]:
    """As many members as a power of two, the last one repeated, so that few sizes of batches are ever compiled."""
    size = 1 << (len(members) - 1).bit_length()
    return members + members[-1:] * (size - len(members))


class Countdown:
    """Limits whose time runs from now on."""

    def __init__(self, limits: Limits):
        self._limits, self._start = limits, time.perf_counter()

    def left(self) -> Limits:
        """The limits with what is left of the time."""
        if self._limits.time_limit is None:
            return self._limits
        spent = time.perf_counter() - self._start
        return self._limits._replace(time_limit=max(self._limits.time_limit - spent, 0.0))
