"""Functions of a solve under way that may turn into others."""

import dataclasses

import numpy as np

from .host import AbstractHostFunctions, Evaluations, HostDerivatives


class Replaceable(AbstractHostFunctions):
    """Other functions, for as long as they are not replaced by some of the same sizes and structure.

    `point` and `latest` are the point that derivatives were last asked at and what they were; None where these are another's.
    """

    def __init__(self, inner: AbstractHostFunctions):
        self.n, self.m, self.exact, self.structure = inner.n, inner.m, inner.exact, inner.structure
        self._before: Evaluations | None = None
        self._inner = inner
        self._forget()

    def _forget(self) -> None:
        self.point: np.ndarray | None = None
        self.latest: HostDerivatives | None = None

    @property
    def evaluations(self) -> Evaluations:  # pyright: ignore
        """Of those before too."""
        if self._before is None:
            return self._inner.evaluations
        both = zip(dataclasses.astuple(self._before), dataclasses.astuple(self._inner.evaluations))
        return Evaluations(*(before + now for before, now in both))

    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        return self._inner.values(x)

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        self.point, self.latest = x, self._inner.derivatives(x, y, weight, second_order)
        return self.latest

    def replace(self, inner: AbstractHostFunctions) -> bool:
        """From now on ``inner``, if that is of the same kind, which is what comes back."""
        kinds = [(each.n, each.m, each.exact, each.structure) for each in (self, inner)]
        if kinds[0] != kinds[1]:
            return False
        self._before, self._inner = self.evaluations, inner
        self._forget()
        return True


class BoxedFunctions(Replaceable):
    """Other functions, asked at the nearest point of the box ``lb <= x <= ub`` and never twice in a row at the same one."""

    def __init__(self, inner: AbstractHostFunctions, lb: np.ndarray, ub: np.ndarray):
        super().__init__(inner)
        self._lb, self._ub = lb, ub

    def _forget(self) -> None:
        super()._forget()
        self._values: tuple[bytes, float, np.ndarray] | None = None
        self._derivatives: tuple[tuple, HostDerivatives] | None = None

    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        x = np.clip(x, self._lb, self._ub)
        key = x.tobytes()
        if self._values is None or self._values[0] != key:
            self._values = (key, *self._inner.values(x))
        return self._values[1:]

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        x = np.clip(x, self._lb, self._ub)
        key = (x.tobytes(), *((y.tobytes(), weight) if second_order else ()))
        if self._derivatives is None or self._derivatives[0][: len(key)] != key:
            self._derivatives = (key, self._inner.derivatives(x, y, weight, second_order))
        self.point, self.latest = x, self._derivatives[1]
        return self.latest
