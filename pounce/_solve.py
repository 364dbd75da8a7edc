"""The compiled driver: a whole solve as one JAX function."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._interior.finish import finish
from ._interior.options import Numbers
from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, Seeds
from ._interior.state import Phase, State
from ._lanes import in_each_lane
from ._linalg.kkt import KKTOperator, KKTVector
from ._problem.nlp import AbstractNLP
from ._solution import Solution


class Start(eqx.Module):
    """Everything a solve takes but the program itself."""

    x0: Float[Array, " n"]
    bounds: Bounds
    warm: Seeds
    scaling: tuple | None  # user's (objective, rows) factors
    traced_numbers: Float[Array | np.ndarray, " k"]

    def numbers(self, method: InteriorPointMethod) -> Numbers:
        """All numbers of the solve, in its dtype."""
        return Numbers.join(jnp.asarray(self.traced_numbers).astype(self.x0.dtype), method.constants)


class ActiveFactor(eqx.Module):
    """The factor of the last pass of a solve: of the KKT matrix of the active set at the solution, in ``units`` of the scaled
    problem, where ``usable``."""

    factor: Any
    usable: Bool[Array, ""]
    moving: Bool[Array, " n"]  # the variables that no bound holds
    held: Bool[Array, " m"]  # the rows in the active set
    objective_scale: Float[Array, ""]
    row_scale: Float[Array, " m"]
    units: KKTVector


def solve_nlp(method: InteriorPointMethod, nlp: AbstractNLP, start: Start) -> Solution:
    """Run the method to its end with ``lax.while_loop``. Traceable; not differentiable by itself."""
    numbers = start.numbers(method)
    first = method.init(start.x0, start.bounds, start.scaling, numbers)
    last = _repeated(method, lambda state: method.step(nlp, start.warm, state, numbers), first, (nlp, start))
    return finish(last, start.bounds, method.choices)


def _repeated(
    method: InteriorPointMethod, step: Callable, first: Any, along: Any, state: Callable = lambda carry: carry
) -> Any:
    """``step``, which depends on ``along``, from ``first`` until the ``state`` in what it returns has ended.

    Whether it has is carried along: lanes of a batch are chosen by it, array by array, in as many kernels, and each would find it
    out by itself.
    """
    first = in_each_lane(first, along)
    start = first, ~method.terminate(state(first))

    def body(carry):
        new = step(carry[0])
        return new, ~method.terminate(state(new))

    return jax.lax.while_loop(lambda carry: carry[1], body, start)[0]


def solve_and_keep(method: InteriorPointMethod, nlp: AbstractNLP, start: Start) -> tuple[Solution, tuple[ActiveFactor]]:
    """As `solve_nlp`, with the factor of the last pass, for whoever differentiates the solution."""
    numbers = start.numbers(method)

    def step(carry: tuple[State, ActiveFactor]) -> tuple[State, ActiveFactor]:
        state, found = method.step_and_pass(nlp, start.warm, carry[0], numbers)
        solved, frame, finding = found.solved, found.frame, state.finding
        assert finding is not None
        usable = finding.settled & finding.regular & finding.inertia_correct & (frame.objective_scale > 0)
        usable &= found.judged.phase != Phase.REPORTING
        held, n = jnp.any(finding.active, axis=0), frame.free.size
        moving, rows = frame.free & ~held[:n], frame.equality | held[n:]
        scales, units = (frame.objective_scale, frame.row_scale), solved.examined.units
        return state, ActiveFactor(solved.factor, usable, moving, rows, *scales, units)

    first = method.init(start.x0, start.bounds, start.scaling, numbers)
    blank = _blank(method, nlp, first)
    last, kept = _repeated(method, step, (first, blank), (nlp, start), lambda carry: carry[0])
    return finish(last, start.bounds, method.choices), (kept,)


def _blank(method: InteriorPointMethod, nlp: AbstractNLP, state: State) -> ActiveFactor:
    frame = state.frame

    def factorized():
        d = nlp.derivatives(*method.asked(state), second_order=True)
        assert d.hessian is not None
        return method.linear_solver.init(KKTOperator(d.hessian, d.jacobian, frame.row_scale), {})

    factor = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(factorized))
    no = jnp.array(False)
    scales, units = (frame.objective_scale, frame.row_scale), (state.iterate.primal[: frame.free.size], state.rows)
    return ActiveFactor(factor, no, frame.free & no, frame.equality & no, *scales, units)
