"""The loop driver: one compiled program from a start to a solution."""

import jax
from jaxtyping import Array, Float

from ._interior.finish import finish
from ._interior.options import Numbers
from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, WarmStart
from ._problem.nlp import AbstractNLP
from ._solution import Solution


def solve_nlp(
    method: InteriorPointMethod,
    nlp: AbstractNLP,
    x0: Float[Array, " n"],
    bounds: Bounds,
    warm: WarmStart | None,
    user_scaling: tuple | None,
    packed_numbers: Float[Array, " k"],
) -> Solution:
    """Run the method to its end with ``lax.while_loop``. Traceable; not differentiable by itself."""
    numbers = Numbers.unpack(packed_numbers.astype(x0.dtype))
    first = method.init(nlp, x0, bounds, user_scaling, numbers)
    last = jax.lax.while_loop(
        lambda state: ~method.terminate(state),
        lambda state: method.step(nlp, bounds, warm, state, numbers),
        first,
    )
    return finish(last, bounds, numbers, method.choices)
