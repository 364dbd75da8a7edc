"""What the systems of a pass have told of a solution so far (`certification` makes and reads it)."""

import enum
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import where
from .._linalg.kkt import KKTVector
from .._records import entry


ARRAYS = "stage", "systems", "active", "x", "rows", "units"
FLAGS = "indicated", "dependent", "regular", "inertia_correct", "curved"
FIGURES = "margin", "reach", "slope", "slope_of_rows", "curvature", "terms", "change"


def _entry(name: str) -> Any:
    array, k = ("flags", FLAGS.index(name)) if name in FLAGS else ("figures", FIGURES.index(name))
    return entry(array, k)


class Stage(enum.IntEnum):
    """Which system is wanted next."""

    IDLE = 0
    AFFINE = 1
    CONFIRMING = 2
    PROBING = 3
    DONE = 4


class Examination(eqx.Module):
    """All passes carry it, and nearly none has a use for it: so it is few arrays."""

    stage: Int[Array, ""]
    systems: Int[Array, ""]
    active: Bool[Array, "2 N"]  # bounds of the primal vector, lower then upper
    x: Float[Array, " n"]  # after the Newton step for the equations of the set, and the multipliers of its rows
    rows: Float[Array, " m"]
    units: KKTVector  # of the last system
    flags: Bool[Array, " 5"]
    figures: Float[Array, " 7"]

    indicated = _entry("indicated")  # the set is no longer the first guess
    dependent = _entry("dependent")  # something active had to give way
    regular = _entry("regular")
    inertia_correct = _entry("inertia_correct")
    curved = _entry("curved")  # there are directions that the active set leaves free
    margin = _entry("margin")  # zero where no set was confirmed
    reach = _entry("reach")  # how far to go along the last solution to measure curvature
    slope = _entry("slope")  # of f and y'c along it
    slope_of_rows = _entry("slope_of_rows")
    curvature = _entry("curvature")  # of the Lagrangian along it
    terms = _entry("terms")  # what it would be if entries of the Hessian off the diagonal did not cancel any of it
    change = _entry("change")  # the length of the Newton step, relative

    @classmethod
    def of(cls, **known: Any) -> "Examination":
        """From what is known by name."""
        flags, figures = (jnp.stack([known[name] for name in names]) for names in (FLAGS, FIGURES))
        return cls(**{name: known[name] for name in ARRAYS}, flags=flags, figures=figures)

    def asdict(self) -> dict[str, Any]:
        """What is known by name."""
        return {name: getattr(self, name) for name in (*ARRAYS, *FLAGS, *FIGURES)}

    @property
    def asking(self) -> Bool[Array, ""]:
        """A system is wanted."""
        return (self.stage > Stage.IDLE) & (self.stage < Stage.DONE)

    @property
    def later(self) -> Bool[Array, ""]:
        """It is one of an active set."""
        return (self.stage > Stage.AFFINE) & (self.stage < Stage.DONE)


def nothing_known(
    wanted: Bool[Array, ""], again: Bool[Array, ""], x: Float[Array, " n"], rows: Float[Array, " m"], size: int
) -> Examination:
    """Before the first system of a pass, if there is to be one. ``again``: the set is that of a pass before, which was
    indicated."""
    flags = again & (jnp.arange(len(FLAGS)) == FLAGS.index("indicated"))
    return Examination(
        stage=where(wanted, Stage.CONFIRMING, Stage.IDLE),
        systems=jnp.array(0),
        active=jnp.zeros((2, size), bool),
        x=x,
        rows=rows,
        units=(jnp.ones_like(x), jnp.ones_like(rows)),
        flags=flags,
        figures=jnp.zeros(len(FIGURES), x.dtype),
    )
