"""A compiled solve of a nonlinear program, called from wherever its solution is asked for."""

import equinox as eqx
import jax

from . import _check as check
from ._adjoint import nonlinear
from ._adjoint.eager import eager_solve, pushed, run_by_itself
from ._adjoint.nonlinear import Held
from ._anchor import Anchor, held_at, moves_at
from ._compile import compiler_options, program_cache
from ._meshes import place_of
from ._program import Data, Program, compiled, owners
from ._solution import Solution


def called(program: Program, data: Data) -> Solution:
    """The solution, from wherever that is asked for."""
    place, alone = place_of(data), check.runs_now()
    if not alone or check.is_concrete(data) or place is not None:
        return compiled(program, alone and check.is_concrete(data), place)(data)
    hold, tangent = derivative(program)
    return eager_solve(compiled(program, True, None), None, hold, tangent, nonlinear.outputs, (data,))


@program_cache(maxsize=512, owners=owners)
def derivative(program: Program) -> tuple:
    """The compiled derivative of a static program in two parts, for `eager_solve`.

    The first factorises at the solution: to keep the last factor of the solve would be another program of the solve.
    """

    def hold(data: tuple[Data], solution: Solution, kept: tuple) -> tuple[Solution, Held]:
        del kept
        anchor = held_at(program, *data, solution, None)
        return anchor.solution, anchor.held

    def tangent(moving: tuple[Data], fixed: tuple[Data], solution: Solution, held: Held, rates: tuple[Data]) -> tuple:
        inputs, moves = pushed(lambda data: program.inputs(*data), moving, fixed, rates)
        return moves_at(program, *eqx.combine(moving, fixed), inputs, moves, Anchor(solution, held))

    return run_by_itself(hold, compiler_options()), jax.jit(tangent)
