"""What a convex solve returns: a pytree of arrays, the same under ``jit`` and ``vmap``."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._linalg import matrix
from .._once import computed_once
from .._results import ConicStatus
from .._shown import record
from .._solution import Quality
from .data import ConicData, Presolved
from .equilibration import Scaling
from .state import State
from .system import Vector


class ConicResiduals(eqx.Module):
    """Largest entries of what is left of the optimality conditions, in user units, and the duality gap.

    ``radius``: where there is a certificate, how far its proof reaches in spite of rounding. No feasible ``x`` has ``|x|_1``
    below it if `Primal_Infeasible`; no ``(w, y, z, z_lb, z_ub)`` with ``P w + c + A'y + G'z - z_lb + z_ub = 0`` and the right
    signs has its 1-norm below it if `Dual_Infeasible`. Infinite where nothing is left, and where there is no certificate.
    """

    primal_infeasibility: Float[Array, ""]
    dual_infeasibility: Float[Array, ""]
    complementarity: Float[Array, ""]
    radius: Float[Array, ""]

    __repr__ = record


class ConicSolution(eqx.Module):
    """A solution of a convex program, or a certificate that it has none; one per lane.

    - `x`: the minimiser, ``(n,)``, and `objective` the minimum.
    - `y`: multipliers of the equality rows, ``(p,)``. `z`, `s`: multipliers and slacks of the cone rows, ``(m,)``.
    - `z_lb`, `z_ub`: multipliers of the bounds, ``(n,)``.
    - `status`: a `pounce.ConicStatus`. `iterations`: of the interior-point method.
    - `residuals`: what is left of the optimality conditions: ``primal_infeasibility``, ``dual_infeasibility``,
      ``complementarity``, and the ``radius`` of a certificate.
    - `quality`: whether the solution can be differentiated, a `pounce.Quality`.

    ``P x + c + A'y + G'z - z_lb + z_ub = 0`` with ``s = h - G x`` in the cone, ``z`` in its dual, ``z_lb, z_ub >= 0``.
    Where the status is `Primal_Infeasible`, ``(y, z, z_lb, z_ub)`` is a Farkas certificate: ``A'y + G'z - z_lb + z_ub = 0`` and
    ``b'y + h'z - lb'z_lb + ub'z_ub = -1``. Where it is `Dual_Infeasible`, ``x`` is a recession ray: ``Px = 0``, ``Ax = 0``,
    ``-Gx`` in the cone, ``x`` within the signs of the bounds and ``c'x = -1``.

    ``quality`` says whether the solution can be differentiated (`pounce.Quality`): false without a solution, and where the end of
    the interior-point iterations was not confirmed by a Newton step on the conditions of its active set.
    """

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    z: Float[Array, " m"]
    s: Float[Array, " m"]
    z_lb: Float[Array, " n"]
    z_ub: Float[Array, " n"]
    objective: Float[Array, ""]
    status: Int[Array, ""]
    iterations: Int[Array, ""]
    residuals: ConicResiduals
    quality: Quality | None = None  # None in solves that nobody differentiates

    def __repr__(self) -> str:
        return record(self, ConicStatus)

    @property
    def success(self) -> Bool[Array, ""]:
        """Solved to the requested tolerance."""
        return self.status == ConicStatus.Optimal


def assemble(data: ConicData, presolved: Presolved, v: Vector) -> tuple:
    """``(x, y, z, s, z_lb, z_ub, objective)`` of the user's program from a solution of the presolved one."""
    program = presolved.program
    rows, lower, upper = program.split(v.z)
    zeros = jnp.zeros_like(v.x)
    z_lb = zeros if lower is None else lower
    z_ub = zeros if upper is None else upper
    x, fixed = v.x, presolved.fixed
    if fixed is not None:
        x = x + fixed.value
        # The multiplier of a fixed variable is what stationarity leaves to it.
        gradient = data.c
        for given, multipliers in ((data.A, v.y), (data.G, rows)):
            if given is not None:
                gradient = gradient + matrix.transposed_times(given, multipliers)
        if data.P is not None:
            gradient = gradient + matrix.symmetric_times(data.P, x)
        z_lb = jnp.where(fixed.mask, jnp.maximum(gradient, 0.0), z_lb)
        z_ub = jnp.where(fixed.mask, jnp.maximum(-gradient, 0.0), z_ub)
    objective = data.c @ x
    if data.P is not None:
        objective = objective + 0.5 * (x @ matrix.symmetric_times(data.P, x))
    return x, v.y, rows, program.h - program.G @ v.x, z_lb, z_ub, objective


def finish(data: ConicData, presolved: Presolved, scaling: Scaling, state: State) -> ConicSolution:
    """The last iterate in the user's units, or the certificate it is."""
    program, v, m = presolved.program, state.iterate, state.measures
    tau = v.tau
    status = jnp.where(state.status == ConicStatus.Running, ConicStatus.Iteration_Limit, state.status)
    farkas, ray = status == ConicStatus.Primal_Infeasible, status == ConicStatus.Dual_Infeasible
    x, y, z = scaling.variables * v.x, scaling.equalities * v.y / scaling.cost, scaling.rows * v.z / scaling.cost
    # A certificate has no scale of its own: its value is made -1. Beside a ray there is no dual solution, and vice versa.
    over_x = jnp.where(ray, -(program.c @ x), jnp.where(farkas, jnp.inf, tau))
    over_z = jnp.where(farkas, -(program.b @ y + program.right_side() @ z), jnp.where(ray, jnp.inf, tau))
    homogeneous = farkas | ray
    point = Vector(x / over_x, y / over_z, z / over_z)
    point, over_x, farkas, ray, homogeneous = computed_once(
        (point, over_x, farkas, ray, homogeneous), state.iterations < 0
    )
    columns = matrix.transposed_times(program.A, point.y) + program.rows_transposed(point.z)
    rows = [program.curvature(point.x), program.A @ point.x, program.rows(point.x) + v.s / scaling.rows / over_x]
    left = jnp.where(
        farkas, jnp.max(jnp.abs(columns), initial=0.0), jnp.max(jnp.abs(jnp.concatenate(rows)), initial=0.0)
    )
    radius = jnp.where(homogeneous, 1.0 / left, jnp.inf)
    # The parts of a certificate satisfy the equations with c = 0, P = 0 and right-hand sides zero.
    fixed = presolved.fixed
    removed = data.P, data.c, program.h, None if fixed is None else fixed.value
    P, c, h, value = jax.tree.map(lambda leaf: jnp.where(homogeneous, jnp.zeros_like(leaf), leaf), removed)
    if fixed is not None:
        fixed = dataclasses.replace(fixed, value=value)
    presolved = Presolved(eqx.tree_at(lambda p: p.h, program, h), fixed)
    x, y, z, s, z_lb, z_ub, objective = assemble(dataclasses.replace(data, P=P, c=c), presolved, point)
    s = jnp.where(farkas, 0.0, s)
    objective = jnp.where(farkas, jnp.inf, jnp.where(ray, -jnp.inf, objective))
    residuals = ConicResiduals(m.primal_infeasibility, m.dual_infeasibility, m.gap, radius)
    return ConicSolution(
        x=x,
        y=y,
        z=z,
        s=s,
        z_lb=z_lb,
        z_ub=z_ub,
        objective=objective,
        status=status,
        iterations=state.iterations,
        residuals=residuals,
    )
