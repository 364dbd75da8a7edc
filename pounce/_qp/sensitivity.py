"""How the solution of a quadratic program moves with its data, from the equations of the active set."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .active import EPS, ActiveSystem, Distances, Shares, Working
from .arguments import host_array, host_data, limits
from .data import Point
from .polish import polished
from .result import QpResult
from .solve import asked_of, inequalities, solve_one


ILL_CONDITIONED = 1e14
STALLED = 1e-8  # relative residual of a step that refinement did not get rid of


class ActiveSet(NamedTuple):
    """What is active.

    - `inequalities`: indices of rows of ``G``.
    - `bounds`: indices of variables at a bound.
    """

    inequalities: tuple[int, ...]
    bounds: tuple[int, ...]


class ReducedHessian(NamedTuple):
    """The curvature that is left in the directions that keep all that is active.

    - `n_dof`: how many such directions there are.
    - `basis`: an orthonormal basis ``Z`` of them, ``(n, n_dof)``.
    - `matrix`: ``Z'PZ``, ``(n_dof, n_dof)``.
    - `eigenvalues`: of it, ascending; `eigenvectors`: columns, the largest component of each positive.
    - `is_positive_definite`: whether all of them are positive.
    """

    n_dof: int
    matrix: np.ndarray
    eigenvalues: np.ndarray  # ascending
    eigenvectors: np.ndarray  # columns; the largest component of each is positive
    is_positive_definite: bool
    basis: np.ndarray


class QpSensitivity:
    """A quadratic program, solved, and the derivatives of its solution.

    An inequality or bound is active if its multiplier is more than the share `active_tol` of what it is added to in some
    row of stationarity; one that holds with equality and a smaller multiplier is weakly active and counts as inactive
    in the equations (derivatives are one-sided there). In what units the program is makes no difference. Fixed
    variables are active.

    - `x`, `obj`, `result`: the solution.
    - `kkt_dim`: the size of the system, ``n + equality rows + active inequalities and bounds``.
    - `kkt_cond_estimate`: condition number of that system after equilibration, in the 1-norm.
    - `ill_conditioned`: whether that exceeds 1e14, or the last step was not solved accurately.
    - `last_step_residual`: relative residual of the last `parametric_step`; NaN before the first.
    - `active_indices`, `weakly_active_indices`: `ActiveSet`.
    """

    def __init__(
        self,
        P: Float[np.ndarray, "n n"] | Any = None,
        c: Float[np.ndarray, " n"] | Any = None,
        A: Float[np.ndarray, "p n"] | Any = None,
        b: Float[np.ndarray, " p"] | Any = None,
        G: Float[np.ndarray, "m n"] | Any = None,
        h: Float[np.ndarray, " m"] | Any = None,
        lb: Float[np.ndarray, " n"] | Any = None,
        ub: Float[np.ndarray, " n"] | Any = None,
        *,
        tol: float | None = None,
        max_iter: int | None = None,
        active_tol: float = 1e-7,
        check_psd: bool | None = None,
    ):
        """**Arguments:**

        - `P`, `c`, `A`, `b`, `G`, `h`, `lb`, `ub`, `tol`, `max_iter`, `check_psd`: as in `pounce.solve_qp`.
        - `active_tol`: the share of its row of stationarity from which a multiplier makes its constraint active.

        **Raises:** `ValueError` if the program is not solved to optimality or the system of its active set is
        singular, which means that the solution is not unique or that active constraints depend on each other.
        """
        good = isinstance(active_tol, (int, float, np.number)) and not isinstance(active_tol, bool)
        if not good or not 0.0 < float(active_tol) < float("inf"):
            raise ValueError(f"`active_tol` must be a positive number, got {active_tol!r}")
        allowed = limits(tol, max_iter)
        data = host_data(dict(P=P, c=c, A=A, b=b, G=G, h=h, lb=lb, ub=ub), check_psd)
        rows = inequalities(data)
        result = polished(asked_of(data, rows, allowed), solve_one(data, rows, None, allowed))
        if not result.success:
            raise ValueError(f"there is no optimal solution to differentiate: the status is {result.status!r}")
        working, weak_rows, weak_bounds = _active(data, result, float(active_tol))
        system = ActiveSystem(data, working)
        self.kkt_cond_estimate: float = system.factorize(regularization=0.0)
        if not self.kkt_cond_estimate < 1.0 / EPS:
            raise ValueError(
                "the system of the active set is singular: the solution is not unique, or active constraints depend on each other"
            )
        self.result: QpResult = result
        self.x, self.obj = result.x, result.obj
        self.kkt_dim: int = system.matrix.shape[0]
        self.last_step_residual = float("nan")
        bounds = np.sort(np.concatenate([working.lower, working.upper, working.fixed]))
        self.active_indices = ActiveSet(_indices(working.rows), _indices(bounds))
        self.weakly_active_indices = ActiveSet(_indices(weak_rows), _indices(weak_bounds))
        self._data, self._system = data, system

    @property
    def ill_conditioned(self) -> bool:
        """Whether derivatives are to be mistrusted."""
        return self.kkt_cond_estimate > ILL_CONDITIONED or self.last_step_residual > STALLED

    def parametric_step(self, pin_constraint_indices: Sequence[int], deltas: Any) -> np.ndarray:
        """The first-order change of ``x``, ``(n,)``, where entries of ``b`` change. Exact while the active set stays the same.

        **Arguments:** `pin_constraint_indices`: of the entries. `deltas`: by how much each of them changes.

        **Raises:** `ValueError` for an index outside of ``b`` or other
        lengths.
        """
        n, p = self._system.n, self._system.equalities
        indices = np.asarray(pin_constraint_indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise ValueError(
                f"`pin_constraint_indices` must be a sequence of integers, got {pin_constraint_indices!r:.60}"
            )
        outside = [int(i) for i in indices if not 0 <= i < p]
        if outside:
            raise ValueError(f"`pin_constraint_indices` contains {outside[0]}, but `b` has {p} entries")
        changes = host_array(deltas, "deltas")
        if changes.shape != indices.shape:
            raise ValueError(
                f"`deltas` must have length {indices.size}, one entry for each index, got shape {changes.shape}"
            )
        right = np.zeros(self.kkt_dim)
        np.add.at(right, n + indices.astype(int), changes)
        step, self.last_step_residual = self._system.solve(right)
        return step[:n]

    def reduced_hessian(self, rank_tol: float = 1e-9) -> ReducedHessian:
        """The curvature that is left on the manifold of the active constraints; in dense matrices, of a sparse program too.

        **Arguments:** `rank_tol`: singular values of the active constraints below this share of the largest count as
        zero.
        """
        if not isinstance(rank_tol, (int, float)) or not 0.0 < rank_tol < 1.0:
            raise ValueError(f"`rank_tol` must be a number in (0, 1), got {rank_tol!r}")
        jacobian, n = self._system.jacobian, self._system.n
        basis = np.eye(n)
        if jacobian.shape[0]:
            _, sizes, directions = np.linalg.svd(jacobian.toarray() if self._system.sparse else jacobian)
            basis = directions[int(np.sum(sizes > rank_tol * sizes[0])) :].T
        curvature = np.zeros((n, n)) if self._data.P is None else self._data.P
        matrix = basis.T @ (curvature @ basis)
        matrix = 0.5 * (matrix + matrix.T)
        eigenvalues, eigenvectors = np.linalg.eigh(matrix)
        count = eigenvalues.size
        if count:
            largest = np.argmax(np.abs(eigenvectors), axis=0)
            eigenvectors = eigenvectors * np.where(eigenvectors[largest, np.arange(count)] < 0, -1.0, 1.0)
        positive = count == 0 or bool(eigenvalues[0] > rank_tol * max(eigenvalues[-1], 0.0) and eigenvalues[0] > 0)
        return ReducedHessian(count, matrix, eigenvalues, eigenvectors, positive, basis)


def _indices(array: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, array))


def _active(data, result: QpResult, tol: float) -> tuple[Working, np.ndarray, np.ndarray]:
    """What is active, and the inequalities and bounds that are weakly so."""
    point = Point(result.x, result.y, result.z, result.z_lb, result.z_ub)
    d = Distances.of(data, point.x)
    shares = Shares.of(data, point, d)
    strong, weak = [], []
    for slack, z, sign in zip(shares.slacks, shares.multipliers, (point.z, point.z_lb, point.z_ub), strict=True):
        active = (sign > 0) & (z > tol) & (z >= slack)
        strong.append(np.flatnonzero(active))
        weak.append(np.flatnonzero(~active & (slack <= tol)))
    working = Working._make([*strong, np.flatnonzero(d.fixed)])
    return working, weak[0], np.union1d(weak[1], weak[2])
