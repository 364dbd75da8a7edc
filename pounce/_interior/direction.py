"""The search direction: the primal-dual Newton system, its elimination, and the inertia-correction ladder.

Waechter and Biegler 2006, eqs. 9-13. Slacks and elastic variables enter one row each with coefficient +-1, so they are
eliminated into the row diagonal and the linear solver only ever sees ``[[H, J'], [J, -D]]``. Refinement runs on the system
before that elimination.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .._linalg.kkt import AbstractKKTSolver, Inertia, KKTOperator, KKTVector
from .._linalg.matrix import (
    Hessian,
    Matrix,
    masked,
    plus_diagonal,
    scaled,
    symmetric_scaled,
    symmetric_times,
    times,
    transposed_times,
)
from .._linalg.refinement import Counted, Falling, refined_solve
from .._once import only_where
from .._records import within
from . import perturbation as ladder
from .iterate import AUXILIARY_SIGNS, View
from .options import Numbers
from .perturbation import Perturbation


class Unknowns(eqx.Module):
    """What a system is solved for: the primal unknowns with their barrier terms, and the rows that are there; and the units of
    variables and row multipliers in which it is solved. Only variables without a barrier term may have others than one."""

    primal: Bool[Array, " N"]
    rows: Bool[Array, " m"]
    sigma: Float[Array, " N"]
    units: KKTVector

    def out_of_units(self, solution: tuple) -> tuple:
        """A solution as it is in the units of the problem."""
        (primal, rows), (x, y) = solution, self.units
        return jnp.concatenate([x * primal[: x.size], primal[x.size :]]), y * rows


class System(eqx.Module):
    """The symmetric Newton system in ``(x, s, n, p | y)``, before elimination and perturbation."""

    n: int = eqx.field(static=True)
    hessian: Hessian  # zero rows and columns at fixed variables
    jacobian: Matrix
    sigma: Float[Array, " N"]
    active: Bool[Array, " N"]
    present: Bool[Array, " m"]

    def restricted(self, to: Unknowns) -> "System":
        """The same for fewer unknowns and rows, with other barrier terms, in other units."""
        free, (x, y) = to.primal[: self.n], to.units
        hessian = masked(symmetric_scaled(self.hessian, x), free, free)
        jacobian = masked(scaled(self.jacobian, y, x), to.rows, free)
        return System(n=self.n, hessian=hessian, jacobian=jacobian, sigma=to.sigma, active=to.primal, present=to.rows)

    def _auxiliary_inverse(self, dw: Float[Array, ""]) -> Float[Array, "3 m"]:
        active = self.active[self.n :]
        pivot = where(active, self.sigma[self.n :] + dw, 1.0)
        return where(active, 1.0 / pivot, 0.0).reshape(3, -1)

    def operator(self, dw: Float[Array, ""], dc: Float[Array, ""]) -> KKTOperator:
        """The condensed operator in ``(x | y)``; fixed variables and absent rows get a unit diagonal."""
        free = self.active[: self.n]
        hessian: Any = plus_diagonal(self.hessian, where(free, self.sigma[: self.n] + dw, 1.0))
        diagonal = where(self.present, jnp.sum(self._auxiliary_inverse(dw), axis=0) + dc, 1.0)
        return KKTOperator(hessian, self.jacobian, diagonal)

    def apply(self, dw: Float[Array, ""], dc: Float[Array, ""], vector):
        primal, y = vector
        free = self.active[: self.n]
        x, u = primal[: self.n], primal[self.n :].reshape(3, -1)
        top = symmetric_times(self.hessian, x) + where(free, self.sigma[: self.n] + dw, 1.0) * x
        top = top + transposed_times(self.jacobian, y)
        signs = AUXILIARY_SIGNS.astype(y.dtype)
        active = self.active[self.n :].reshape(3, -1)
        middle = (self.sigma[self.n :].reshape(3, -1) + dw) * u + where(active, signs * y, 0.0)
        bottom = times(self.jacobian, x) + jnp.sum(signs * u, axis=0) - where(self.present, dc, 1.0) * y
        return jnp.concatenate([top, where(active, middle, u).ravel()]), bottom

    def curvature(self, dw: Float[Array, ""], primal: Float[Array, " N"]) -> Float[Array, ""]:
        """``d' (W + Sigma + dw I) d`` of a direction that vanishes on inactive entries."""
        x = primal[: self.n]
        return x @ symmetric_times(self.hessian, x) + jnp.sum((self.sigma + dw) * primal**2)

    def solve(self, solver: AbstractKKTSolver, factor, dw: Float[Array, ""], vector):
        """Through the condensed factor; right-hand sides must vanish on inactive entries."""
        primal, r_y = vector
        signs = AUXILIARY_SIGNS.astype(r_y.dtype)
        inverse = self._auxiliary_inverse(dw)
        r_u = primal[self.n :].reshape(3, -1)
        reduced = r_y - jnp.sum(signs * inverse * r_u, axis=0)
        (x, y), _, _ = solver.compute(factor, (primal[: self.n], reduced), {})
        return jnp.concatenate([x, (inverse * (r_u - signs * y)).ravel()]), y


def newton_system(view: View, hessian: Hessian, jacobian: Matrix, sigma: Float[Array, " N"]) -> System:
    free = view.active[: view.n]
    jacobian = masked(jacobian, view.present, free)
    return System(
        n=view.n,
        hessian=masked(hessian, free, free),
        jacobian=jacobian,
        sigma=sigma,
        active=view.active,
        present=view.present,
    )


def least_squares_system(view: View, hessian: Hessian, jacobian: Matrix) -> System:
    """``[[I, A'], [A, 0]]``: its multipliers minimise the dual infeasibility (Waechter and Biegler 2006, section 3.6)."""
    ones = jnp.ones(view.active.shape, jacobian.dtype)
    nothing = jax.tree.map(jnp.zeros_like, hessian)
    jacobian = masked(jacobian, view.present, view.active[: view.n])
    return System(n=view.n, hessian=nothing, jacobian=jacobian, sigma=ones, active=view.active, present=view.present)


class Trust(eqx.Module):
    """Whether a solution is one, and what was seen of its matrix."""

    success: Bool[Array, ""]
    inertia: Inertia
    ratio: Float[Array, ""]  # of the residual to the right-hand side and the solution


class Solved(eqx.Module):
    """A solved Newton system and the factor that solved it."""

    primal: Float[Array, " N"]
    rows: Float[Array, " m"]
    factor: eqx.Module
    perturbation: Perturbation
    factorizations: Int[Array, ""]
    trust: Trust
    examined: Any  # what `solve_system` was given as `examined`, as it was left

    success = within("trust", "success")
    ratio = within("trust", "ratio")


class _Rung(eqx.Module):
    perturbation: Perturbation
    factor: eqx.Module
    solution: tuple
    running: Bool[Array, ""]
    pretended: Bool[Array, ""]
    count: Int[Array, ""]
    trust: Trust
    examined: Any


def solve_system(
    solver: AbstractKKTSolver,
    system: System,
    rhs: tuple,
    perturbation: Perturbation,
    mu: Float[Array, ""],
    once: Bool[Array, ""],
    enabled: Bool[Array, ""],
    numbers: Numbers,
    always_dc: bool,
    examined: Any = None,
    examiner: Callable | None = None,
) -> Solved:
    """Factorise with growing perturbations until the inertia is right and refinement succeeds.

    Where ``once``, the system is tried a single time, unperturbed. ``rhs`` is the right-hand side (already negated residuals).
    Where ``examined`` is ``asking``, the system is another: ``examiner().system(examined)`` returns its unknowns and
    right-hand side in its units, and ``examiner()(examined, unknowns, solution, inertia, ratio, solved)`` what is known after it.
    Where ``later``, it is tried once, too.
    Where the inertia is doubtful, refinement has to succeed and the direction to have positive curvature (the test of Chiang
    and Zavala, "An inertia-free filter line-search algorithm", 2016).
    """
    whole, fresh = system, Perturbation.fresh(mu.dtype)
    tried_once = once if examiner is None else once | examined.later
    started = select(tried_once, fresh, ladder.begin(perturbation, mu, numbers, always_dc))
    some_rows = jnp.any(system.present)

    def rung(c: _Rung) -> _Rung:
        p, system, wanted, unknowns, at = c.perturbation, whole, rhs, None, examiner
        if at is not None:
            # Until something is asked, units are one.
            given = Unknowns(whole.active, whole.present, whole.sigma, c.examined.units), rhs
            unknowns, wanted = only_where(c.examined.asking, lambda _: at().system(c.examined), given)
            system = whole.restricted(unknowns)
        factor = solver.init(system.operator(p.dw, p.dc), {})
        inertia = solver.inertia(factor)
        dependent = inertia.singular & (p.dc == 0) & some_rows
        if examiner is not None:
            # Dependent rows are to be found out about: their multipliers in a solution grow along the dependence.
            dependent = dependent & ~c.examined.later
        sound = inertia.correct & ~dependent
        if inertia.doubtful is not None:
            dependent = dependent & ~inertia.doubtful
            sound = sound | inertia.doubtful
        refined = refined_solve(
            lambda v: system.apply(p.dw, p.dc, v),
            lambda v: system.solve(solver, factor, p.dw, v),
            wanted,
            Falling(
                numbers.min_refinement_steps,
                numbers.max_refinement_steps,
                numbers.residual_ratio_max,
                numbers.residual_improvement_factor,
            ),
            enabled=sound,
        )
        ratio = refined.known.ratio
        stalled = sound & ~(ratio < numbers.residual_ratio_singular)
        unusable = stalled & ~jnp.isfinite(ratio)
        accepted = sound & (~stalled | (c.pretended & ~unusable))
        if inertia.doubtful is not None:
            curvature = system.curvature(p.dw, refined.solution[0])
            accepted = where(inertia.doubtful, sound & ~stalled & (curvature > 0), accepted)
        singular = (dependent | stalled) & some_rows
        following, more = only_where(
            ~accepted, lambda known: ladder.following(known[0], singular, mu, numbers, always_dc), (p, accepted)
        )
        go_on = ~accepted & more & ~once & (c.count < 100)
        examined, solution = c.examined, refined.solution
        if at is not None and unknowns is not None:
            due = examined.asking & (examined.later | ~go_on)
            solution = unknowns.out_of_units(solution)
            answer = unknowns, solution, inertia, ratio, accepted
            examined = only_where(due, lambda known: at()(known, *answer), examined)
            following = select(due, fresh, following)
            go_on = where(due, examined.asking, go_on)
        return _Rung(
            perturbation=following,
            factor=factor,
            solution=solution,
            running=go_on,
            pretended=c.pretended | stalled,
            count=c.count + 1,
            trust=Trust(accepted, inertia, ratio),
            examined=examined,
        )

    shapes = jax.eval_shape(lambda: solver.init(system.operator(mu, mu), {}))
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    no = jnp.array(False)
    inertia = jax.tree.map(lambda _: no, jax.eval_shape(solver.inertia, shapes))
    nothing = jax.tree.map(jnp.zeros_like, rhs)
    start = _Rung(
        perturbation=started,
        factor=blank,
        solution=nothing,
        running=enabled,
        pretended=no,
        count=jnp.array(0),
        trust=Trust(no, inertia, mu),
        examined=examined,
    )
    last = lax.while_loop(lambda c: c.running, rung, start)
    primal, rows = last.solution
    kept = select(once | ~enabled, perturbation, last.perturbation)
    return Solved(
        primal=primal,
        rows=rows,
        factor=last.factor,
        perturbation=kept,
        factorizations=last.count,
        trust=last.trust,
        examined=last.examined,
    )


class Correction(eqx.Module):
    """The Newton system of a pass, to be solved again with other row residuals."""

    linear_solver: AbstractKKTSolver
    system: System
    factor: eqx.Module
    perturbation: Perturbation
    primal_rhs: Float[Array, " N"]

    def __call__(self, rows: Float[Array, " m"]) -> tuple[Float[Array, " N"], Float[Array, " m"]]:
        """The direction for the residuals ``rows``, with one refinement and no test."""
        wanted, dw, dc = (self.primal_rhs, -rows), self.perturbation.dw, self.perturbation.dc
        refined = refined_solve(
            lambda v: self.system.apply(dw, dc, v),
            lambda v: self.system.solve(self.linear_solver, self.factor, dw, v),
            wanted,
            Counted(2),
        )
        return refined.solution
