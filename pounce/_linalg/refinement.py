"""Iterative refinement: the one loop there is, and the rules by which it ends."""

import abc
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._choose import select


Known = TypeVar("Known")


class Refined(eqx.Module, Generic[Known]):
    """A solution, and what the rule knows of it."""

    solution: PyTree
    known: Known


class AbstractRule(eqx.Module, Generic[Known]):
    """Which corrections are taken, and when the last one was made. What it has to remember is a pytree of its own."""

    @abc.abstractmethod
    def begin(self, rhs: PyTree) -> tuple[PyTree, Known]:
        """What judging needs of the right-hand side, and what is known before the first correction."""

    def asked(self, known: Known, residual: PyTree) -> PyTree:
        """What the next correction is for: all that is left, by default."""
        del known
        return residual

    @abc.abstractmethod
    def judge(
        self, known: Known, sizes: PyTree, solution: PyTree, residual: PyTree
    ) -> tuple[Bool[Array, ""] | Literal[True], Bool[Array, ""], Known]:
        """Whether a corrected solution is taken (`True`: always), whether there is to be another one, and what is known then."""


class _Carry(eqx.Module):
    solution: PyTree
    residual: PyTree
    known: Any
    going: Bool[Array, ""]


def refined_solve(
    apply: Callable[[PyTree], PyTree],
    solve: Callable[[PyTree], PyTree],
    rhs: PyTree,
    rule: AbstractRule[Known],
    *,
    enabled: Array | bool = True,
    start: PyTree | None = None,
) -> Refined[Known]:
    """Solve ``apply(v) = rhs`` with the approximate inverse ``solve``, refined as the ``rule`` says.

    Nothing runs where ``enabled`` is false: the answer is then ``start``, or zero.
    """

    sizes, known = rule.begin(rhs)

    def left(solution):
        return jax.tree.map(jnp.subtract, rhs, apply(solution))

    def body(c: _Carry) -> _Carry:
        solution = jax.tree.map(jnp.add, c.solution, solve(rule.asked(c.known, c.residual)))
        residual = left(solution)
        taken, going, known = rule.judge(c.known, sizes, solution, residual)
        if taken is not True:
            solution, residual = select(taken, (solution, residual), (c.solution, c.residual))
        return _Carry(solution, residual, known, going)

    if start is None:
        first = jax.tree.map(jnp.zeros_like, rhs), rhs
    else:
        first = start, left(start)
    begin = _Carry(*first, known, jnp.asarray(enabled))
    last = lax.while_loop(lambda c: c.going, body, begin)
    return Refined(last.solution, last.known)


def max_abs(vector: PyTree) -> Float[Array, ""]:
    """The largest magnitude of a vector in several arrays."""
    leaves = jax.tree.leaves(vector)
    if len(leaves) == 1:
        return jnp.max(jnp.abs(leaves[0]), initial=0.0)
    return jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]).max()


class Progress(eqx.Module):
    """The ratio of `Falling`, infinite before anything is solved, and how many corrections there were."""

    ratio: Float[Array, ""]
    steps: Int[Array, ""]


class Falling(AbstractRule[Progress]):
    """Refine while the residual falls, as Ipopt measures it: ``|residual| / (min(|v|, 1e6 |rhs|) + |rhs|)`` in the max norm
    (`PDFullSpaceSolver`).

    At least ``min_steps`` corrections are made after the first solve, and at most ``max_steps``; they go on while the ratio
    exceeds ``ratio_max`` and still falls to ``improvement`` of what it was. One that makes it larger is not taken, and the last.
    """

    min_steps: Array | float = 1.0
    max_steps: Array | float = 10.0
    ratio_max: Array | float = 1e-10
    improvement: Array | float = 0.999999999

    def begin(self, rhs: PyTree) -> tuple[Float[Array, ""], Progress]:
        size = max_abs(rhs)
        return size, Progress(jnp.full_like(size, jnp.inf), jnp.array(0))

    def judge(self, known: Progress, sizes: Float[Array, ""], solution: PyTree, residual: PyTree):
        size = sizes
        ratio = max_abs(residual) / (jnp.minimum(max_abs(solution), 1e6 * size) + size)
        ratio = jnp.where(size == 0, 0.0, ratio)
        # NaN counts as worse; a first solution is as good as there is.
        taken = (ratio <= known.ratio) | (known.steps == 0)
        steps = known.steps + 1
        wanted = (steps <= self.min_steps) | ((ratio > self.ratio_max) & (ratio <= self.improvement * known.ratio))
        going = taken & wanted & (steps <= self.max_steps)
        return taken, going, Progress(jnp.where(taken, ratio, known.ratio), steps)


class Counted(AbstractRule[Int[Array, ""]]):
    """Solve this many times, whatever comes of it."""

    solves: int = eqx.field(static=True)

    def begin(self, rhs: PyTree) -> tuple[None, Int[Array, ""]]:
        del rhs
        return None, jnp.array(0)

    def judge(self, known: Int[Array, ""], sizes: None, solution: PyTree, residual: PyTree):
        del sizes, solution, residual
        return True, known + 1 < self.solves, known + 1
