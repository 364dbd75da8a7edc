"""What a strategy for the barrier parameter is. `barriers` has the table of those there are."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._choose import where
from .._linalg.kkt import AbstractKKTSolver
from .direction import Solved, System
from .iterate import Iterate, View
from .observation import Observation
from .options import Choices, Numbers
from .state import BarrierMemory, Frame, Globalization, Memory, Point, State


class Updated(eqx.Module):
    """What an update of the barrier parameter comes to, before the linear system of the pass."""

    globalization: Globalization
    memory: Memory
    soft: Bool[Array, ""]  # the next step is one of soft restoration
    stuck: Bool[Array, ""]  # tiny steps end the solve
    going_back: Bool[Array, ""] | None  # the pass ends by going back to an earlier iterate; None where none is kept


class Linear(eqx.Module):
    """The linear system of a pass, solved."""

    solver: AbstractKKTSolver
    system: System
    rhs: tuple
    solved: Solved


class Aimed(eqx.Module):
    """The direction of a pass at the barrier parameter that its line search works with."""

    globalization: Globalization
    solved: Solved
    primal_rhs: Float[Array, " N"]
    view: View  # as the line search sees it
    gradient: Float[Array, " N"]  # of its objective
    target: Float[Array, "*shape"]  # what the products of slacks and multipliers aim at


class AbstractBarrier(eqx.Module):
    """A strategy. What it remembers from pass to pass is a `BarrierMemory` of its own in the globalisation state.

    Its options are read by it alone.
    """

    choices: eqx.AbstractVar[Choices]

    @abc.abstractmethod
    def first(self, point: Point, capacity: int, o: Numbers) -> tuple[Float[Array, ""], BarrierMemory | None]:
        """The barrier parameter before the first pass, and nothing remembered yet. ``capacity``: of filters."""

    @abc.abstractmethod
    def update(self, judged: State, seen: Observation, frame: Frame, searching: Bool[Array, ""], o: Numbers) -> Updated:
        """The barrier parameter of a pass with its verdict, as far as it takes no linear system to know it. Only where
        ``searching``."""

    @abc.abstractmethod
    def aim(
        self,
        judged: State,
        seen: Observation,
        frame: Frame,
        g: Globalization,
        linear: Linear,
        searching: Bool[Array, ""],
        o: Numbers,
    ) -> Aimed:
        """What is made of the direction that the linear system has, computed for the mu of ``g``."""

    def clipping_mu(self, view: View, iterate: Iterate, g: Globalization, o: Numbers) -> Float[Array, ""]:
        """The mu that bound multipliers are kept near (eq. 16)."""
        del view, iterate, o
        return g.mu

    def gone_back(self, judged: State, g: Globalization) -> State:
        """The state at the earlier iterate, of a strategy that goes back."""
        del g
        return judged


def fallen(mu: Float[Array, ""], tol: Float[Array, ""], compl_tol: Float[Array, ""], o: Numbers) -> Float[Array, ""]:
    """The next, smaller barrier parameter (Waechter and Biegler 2006, eq. 7); ``compl_tol`` is the complementarity tolerance in
    scaled units."""
    smaller = jnp.minimum(o.mu_linear_decrease_factor * mu, mu**o.mu_superlinear_decrease_power)
    floor = jnp.minimum(tol, compl_tol) / (o.barrier_tol_factor + 1)
    return jnp.maximum(smaller, jnp.maximum(o.mu_target, floor))


def complementarity_tolerance(seen: Observation, frame: Frame, o: Numbers) -> Float[Array, ""]:
    """In scaled units. The restoration problem is not scaled."""
    return o.compl_inf_tol * where(seen.view.restoring, 1.0, jnp.abs(frame.objective_scale))
