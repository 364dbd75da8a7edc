"""Programs and points on the host: tuples of float64 arrays of NumPy."""

from typing import Any, NamedTuple

import numpy as np


class Program(NamedTuple):
    """``min 1/2 x'Px + c'x  s.t.  Ax = b,  h - Gx in K,  lb <= x <= ub``; an array that is not there is None."""

    P: Any
    c: Any
    A: Any
    b: Any
    G: Any
    h: Any
    lb: Any
    ub: Any

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of variables, of equality rows and of cone rows."""
        return self.c.shape[0], 0 if self.b is None else self.b.shape[0], 0 if self.h is None else self.h.shape[0]


class Point(NamedTuple):
    """A primal and dual point, or a certificate, in user units."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    z_lb: np.ndarray
    z_ub: np.ndarray
