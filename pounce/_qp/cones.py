"""Cones measured in NumPy from their definitions, to judge what the solver claims: no code is shared with it."""

import functools
from collections.abc import Iterator

import numpy as np

from .._cone_spec import Rows


SLOPES = np.sinh(np.linspace(-6.0, 6.0, 241))  # where the boundary of a three-dimensional cone is first looked at
REFINEMENTS = 6


class HostCones:
    """The cones of a program's rows. Rows are given in the user's order."""

    def __init__(self, rows: Rows, size: int):
        layout = rows.layout
        self._order = None if rows.order is None else np.array(rows.order)
        self._pairs = np.array(rows.pairs, int)
        self.orthant = (np.arange(size) if self._order is None else self._order)[: layout.nonnegative]
        #: kind, parameter, rows of a cone, number of cones
        self._stacks: list[tuple] = [("nonneg", None, 1, layout.nonnegative)]
        self._stacks += [("soc", None, d, count) for d, count in layout.second_order]
        self._stacks += [("psd", n, n * (n + 1) // 2, count) for n, count in layout.semidefinite]
        self._stacks += [("exp", None, 3, layout.exponential), ("pow", np.array(layout.power), 3, len(layout.power))]
        self._stacks = [stack for stack in self._stacks if stack[3]]

    @property
    def curved(self) -> bool:
        """Whether there is more than an orthant."""
        return self.orthant.size < self.labels.size

    def _blocks(self, v: np.ndarray) -> Iterator[tuple]:
        """Kind, parameter and the blocks, one a row, of each stack of equal cones."""
        if self._order is not None:
            v = v[self._order]
        if self._pairs.size:
            a, b = v[self._pairs], v[self._pairs + 1]
            v = v.copy()
            v[self._pairs], v[self._pairs + 1] = (a + b) / np.sqrt(2), (a - b) / np.sqrt(2)
        start = 0
        for kind, parameter, size, count in self._stacks:
            yield kind, parameter, v[start : start + size * count].reshape(count, size)
            start += size * count

    def block_sizes(self, v: np.ndarray) -> np.ndarray:
        """The largest magnitude in the block of each row."""
        return np.maximum.reduceat(np.abs(v)[self._sorted], self._starts)[self.labels] if v.size else np.abs(v)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The number of the block that each row belongs to."""
        sizes = [size for _, _, size, count in self._stacks for _ in range(count)]
        labels = np.repeat(np.arange(len(sizes)), sizes)
        if self._order is None:
            return labels
        result = np.empty_like(labels)
        result[self._order] = labels
        return result

    @functools.cached_property
    def _sorted(self) -> np.ndarray:
        return np.argsort(self.labels, kind="stable")

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.searchsorted(self.labels[self._sorted], np.arange(self.labels.max() + 1))

    def distance(self, v: np.ndarray, dual: bool = False) -> float:
        """How far the worst block is outside of its cone (of the dual cone); NaN where there are NaN.

        For exponential and power cones by their supporting planes, which is a little less than the distance deep
        outside.
        """
        if not np.all(np.isfinite(v)):
            return float("nan")
        return max((_distance(kind, value, blocks, dual) for kind, value, blocks in self._blocks(v)), default=0.0)

    def products(self, s: np.ndarray, z: np.ndarray) -> float:
        """The largest inner product of two blocks, in magnitude; of two entries in the orthant."""
        pairs = zip(self._blocks(s), self._blocks(z))
        return max((_largest(np.sum(a * b, axis=1)) for (_, _, a), (_, _, b) in pairs), default=0.0)


@functools.lru_cache(maxsize=256)
def host_cones(rows: Rows, size: int) -> HostCones:
    """The cones of ``size`` rows."""
    return HostCones(rows, size)


def _largest(v: np.ndarray) -> float:
    return float(np.abs(v).max()) if v.size else 0.0


def _distance(kind: str, parameter, v: np.ndarray, dual: bool) -> float:
    if kind == "nonneg":
        return max(float(-v.min()), 0.0)
    if kind == "soc":
        t, r = v[:, 0], np.sqrt(np.sum(v[:, 1:] ** 2, axis=1))
        outside = np.where(r <= -t, np.hypot(t, r), (r - t) / np.sqrt(2))
        return max(float(np.max(outside)), 0.0)
    if kind == "psd":
        return float(np.max(np.sqrt(np.sum(np.minimum(np.linalg.eigvalsh(smat(v, parameter)), 0.0) ** 2, axis=1))))
    rays = functools.partial(_exponential_rays if kind == "exp" else _power_rays, dual=not dual)
    if kind == "exp":
        # Two of the edges of the other cone span a flat face of it.
        x, y, z = v.T
        flat = np.hypot(np.maximum(x if dual else -y, 0.0), np.maximum(-z, 0.0))
        return max(_outside(v, rays), float(flat.max()))
    v = np.column_stack([-np.abs(v[:, 0]), v[:, 1:]])
    return max(_outside(v, functools.partial(rays, exponent=parameter[:, None])), float(np.max(-v[:, 1:])), 0.0)


def smat(v: np.ndarray, n: int) -> np.ndarray:
    """Symmetric matrices whose lower triangles ``v`` holds column by column, off-diagonals times the square root of 2.

    The upper triangles are left zero.
    """
    column, row = np.triu_indices(n)
    matrices = np.zeros((v.shape[0], n, n))
    matrices[:, row, column] = v * np.where(row == column, 1.0, np.sqrt(0.5))
    return matrices


def _outside(v: np.ndarray, rays) -> float:
    """The largest ``-ray'v`` over unit vectors along ``rays``, those of the dual of the cone that ``v`` should lie in."""

    def depth(t):
        directions = rays(t)
        return -np.einsum("kti,ki->kt", directions, v) / np.sqrt(np.sum(directions**2, axis=2))

    t = np.broadcast_to(SLOPES, (v.shape[0], SLOPES.size))
    for _ in range(REFINEMENTS):
        depths = depth(t)
        best = np.argmax(depths, axis=1)[:, None]
        low = np.take_along_axis(t, np.maximum(best - 1, 0), axis=1)
        high = np.take_along_axis(t, np.minimum(best + 1, t.shape[1] - 1), axis=1)
        t = low + (high - low) * np.linspace(0.0, 1.0, 17)
    return max(float(np.max(depths)), 0.0)


def _exponential_rays(t: np.ndarray, dual: bool) -> np.ndarray:
    """Boundary rays of the exponential cone, or of its dual, at slopes ``t``; those of one touch those of the other."""
    one, power = np.ones_like(t), np.exp(np.minimum(t, 0.0))
    rest = np.exp(-np.maximum(t, 0.0))  # every ray divided by its largest entry, about
    if dual:
        return np.stack([-power, (t - 1.0) * power, rest], axis=2)
    return np.stack([t * rest, one * rest, power], axis=2)


def _power_rays(t: np.ndarray, dual: bool, exponent: np.ndarray) -> np.ndarray:
    """Boundary rays of the half of a power cone where the first entry is positive, or of its dual."""
    y, z = np.exp(t * (1.0 - exponent)), np.exp(-t * exponent)
    if dual:
        y, z = exponent * y, (1.0 - exponent) * z
    return np.stack([np.ones_like(y), y, z], axis=2)
