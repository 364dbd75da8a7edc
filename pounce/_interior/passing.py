"""What a pass knows between its two halves."""

import equinox as eqx
from jaxtyping import Array, Bool

from .direction import Solved
from .observation import Observation
from .state import Frame, State
from .trial_records import Search


class Events(eqx.Module):
    """What kind of pass it is."""

    running: Bool[Array, ""]  # the iterate's verdict is none yet
    shown: Bool[Array, ""]  # the iteration table shows the iterate now; it will not be judged again
    relapse: Bool[Array, ""]  # the soft restoration step before is taken back
    least_squares: Bool[Array, ""]  # the linear system is that of the row multipliers
    squared: Bool[Array, ""]  # of a feasible square problem
    certifying: Bool[Array, ""] | None  # the iterate is a solution, and the pass has found out about it
    stuck: Bool[Array, ""]  # tiny steps end the solve
    going_back: Bool[Array, ""] | None  # to an earlier iterate


class Pass(eqx.Module):
    """What a pass knows once it has looked at its iterate: all that its search and its conclusion need."""

    judged: State
    seen: Observation
    frame: Frame
    search: Search
    solved: Solved
    is_acceptable: Bool[Array, ""]
    events: Events
