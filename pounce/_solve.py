"""The compiled driver: a whole solve as one JAX function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._interior.finish import finish
from ._interior.options import Numbers
from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, WarmStart
from ._problem.nlp import AbstractNLP
from ._solution import Solution


class Start(eqx.Module):
    """Everything a solve takes but the program itself."""

    x0: Float[Array, " n"]
    bounds: Bounds
    warm: WarmStart | None
    scaling: tuple | None  # user's (objective, rows) factors
    traced_numbers: Float[Array | np.ndarray, " k"]

    def numbers(self, method: InteriorPointMethod) -> Numbers:
        """All numbers of the solve, in its dtype."""
        return Numbers.join(jnp.asarray(self.traced_numbers).astype(self.x0.dtype), method.constants)


def solve_nlp(method: InteriorPointMethod, nlp: AbstractNLP, start: Start) -> Solution:
    """Run the method to its end with ``lax.while_loop``. Traceable; not differentiable by itself."""
    numbers = start.numbers(method)
    last = jax.lax.while_loop(
        lambda state: ~method.terminate(state),
        lambda state: method.step(nlp, start.warm, state, numbers),
        method.init(start.x0, start.bounds, start.scaling, numbers),
    )
    return finish(last, start.bounds, numbers, method.choices)
