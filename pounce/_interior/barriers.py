"""The strategies for the barrier parameter that there are, by their names as Ipopt's option."""

from .adaptive import AdaptiveBarrier
from .barrier import AbstractBarrier
from .monotone import MonotoneBarrier
from .options import Choices


BARRIERS: dict[str, type[AbstractBarrier]] = {
    "monotone": MonotoneBarrier,
    "adaptive": AdaptiveBarrier,
}


def barrier_of(choices: Choices) -> AbstractBarrier:
    """The strategy that was chosen."""
    return BARRIERS[choices.mu_strategy](choices)
