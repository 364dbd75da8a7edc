"""Many convex programs at once: those of one form are lanes of one compiled solve."""

import time
from typing import Any

import jax
import numpy as np
import scipy.sparse

from .arguments import Limits
from .data import Inputs, Point, Program
from .drive import Task
from .result import QpResult, result_of
from .size_class import Fit
from .solve import asked_of, inequalities, solve_one


MOST_NUMBERS = 20_000_000  # in the matrices of all lanes together


def solve_many(programs: list[Program], warms: list[Point | None], limits: Limits) -> list[QpResult]:
    """The results for quadratic programs, in order. The time limit is that of all of them together."""
    fits = [Fit(data, inequalities(data), lanes=True) for data in programs]
    inputs = [fit.inputs(data, warm) for fit, data, warm in zip(fits, programs, warms, strict=True)]
    groups: dict[Any, list[int]] = {}
    for k, given in enumerate(inputs):
        leaves, structure = jax.tree.flatten(given)
        groups.setdefault((structure, tuple(leaf.shape for leaf in leaves)), []).append(k)
    results: dict[int, QpResult] = {}
    countdown = Countdown(limits)
    for members in groups.values():
        for part in parts(members, programs[members[0]]):
            if len(part) == 1:
                k = part[0]
                results[k] = solve_one(programs[k], inequalities(programs[k]), warms[k], countdown.left())
                continue
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(inputs[k] for k in padded(part)))
            batched = jax.tree.map(lambda _: True, stacked)
            lanes = [(fits[k], programs[k]) for k in part]
            results.update(zip(part, _solve_lanes(lanes, stacked, batched, limits, countdown.left())))
    return [results[k] for k in range(len(programs))]


def solve_terms(data: Program, terms: np.ndarray, limits: Limits) -> list[QpResult]:
    """The results for one quadratic program with each of the linear terms, ``(k, n)``."""
    results: list[QpResult] = []
    countdown = Countdown(limits)
    fit = Fit(data, inequalities(data), lanes=True)
    for part in parts(list(range(terms.shape[0])), data):
        lanes = [(fit, data._replace(c=terms[k])) for k in part]
        if len(part) == 1:
            results.append(solve_one(lanes[0][1], inequalities(data), None, countdown.left()))
            continue
        stacked = fit.inputs(data._replace(c=terms[np.array(padded(part))]), None)
        batched = jax.tree.map(lambda _: False, stacked)
        batched = batched._replace(data=batched.data._replace(c=True))
        results.extend(_solve_lanes(lanes, stacked, batched, limits, countdown.left()))
    return results


def _solve_lanes(
    lanes: list[tuple[Fit, Program]], stacked: Inputs, batched: Inputs, limits: Limits, left: Limits
) -> list[QpResult]:
    """The results for programs which are the first lanes of what is stacked."""
    solution, late = Task(lanes[0][0].program, stacked, lanes[0][0].tables, batched).solve(left)
    results = []
    for k, (fit, data) in enumerate(lanes):
        lane = fit.solution(jax.tree.map(lambda leaf, k=k: leaf[k], solution))
        results.append(result_of(asked_of(data, inequalities(data), limits), lane, late))
    return results


def parts(members: list[int], data: Program) -> list[list[int]]:
    """Members in groups that fit into memory."""
    n = data.sizes[0]
    stored = [given.nnz for given in (data.P, data.A, data.G) if scipy.sparse.issparse(given)]
    numbers = 100 * sum(stored) if stored else n * (sum(data.sizes) + 10)
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
