"""`JaxProblem`: one program for many solves, with derivatives at solutions that are held."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .. import _anchor, _check as check
from .._problem.sparse_nlp import Structure
from .._program import Data, Program
from .._solution import Multipliers, Solution
from ..nlp import InteriorPoint, called, count_rows, prepare, sparse_structure, warm_arrays, with_captured
from ._anchors import AnchorState, duals_of, info_of
from ._arguments import problem_of, seeds_of, solver_of, start_point, warm_options, workers_of
from ._batches import Batch, batch_of, jacobian_at, margins, solution_and_jacobian
from ._failures import failure_of, heeded, minimiser
from ._parameters import (
    check_like,
    directions,
    example_of,
    is_like,
    need_derivatives,
    one_lane,
    tangents_like,
    typed_like,
)


LARGE = 10_000  # variables and rows, from which on a dense program deserves a warning

Duals = tuple[Array, Array, Array]


class JaxProblem:
    """A parametric program ``min f(x, p)  s.t.  cl <= g(x, p) <= cu, lb <= x <= ub``, to be solved many times.

    Everything is checked, and the pattern of a sparse program found, once. Methods are JAX functions: they run under `jit`,
    `vmap`, `grad` and `jvp`, in any thread; only `warm_anchor`, whose ``info`` is for the host, wants concrete parameters.
    Pickled, a problem takes its patterns along (`f` and `g` have to be picklable).

    Solutions of a batch are those of single solves: each has a barrier parameter of its own, so that no block waits for another.
    """

    def __init__(
        self,
        *,
        f: Callable[[Float[Array, " n"], PyTree], Any],
        g: Callable[[Float[Array, " n"], PyTree], Any] | None = None,
        n: int,
        m: int = 0,
        p_example: PyTree,
        lb: Float[Array, " n"] | Any = None,
        ub: Float[Array, " n"] | Any = None,
        cl: Float[Array, " m"] | Any = None,
        cu: Float[Array, " m"] | Any = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        factor_reuse: bool = True,
        sparse: bool | Literal["auto"] = False,
        n_probes: int | None = None,
        jac_pattern: Any = None,
        hess_pattern: Any = None,
        pattern_detection: str = "jaxpr",
        on_failure: str | None = None,
        relaxation: float = 0.0,
    ):
        """**Arguments:**

        - `f`, `g`: objective ``f(x, p) -> scalar`` and rows ``g(x, p) -> (m,)``, JAX functions.
        - `n`, `m`: numbers of variables and rows.
        - `p_example`: parameters like those to come, a pytree of arrays; it fixes structure and shapes. Numbers are never rounded
          to its types: whole numbers stand for real ones, unless the functions index or choose by them.
        - `lb`, `ub`, `cl`, `cu`: bounds, arrays or scalars; ``cl`` or ``cu`` is needed with rows.
        - `options`: Ipopt options by name.
        - `factor_reuse`: whether a sparse solve keeps its last factor for derivatives. They are the same without, but take a
          factorisation. (A dense factor is never kept: it costs less than carrying it along.)
        - `sparse`, `jac_pattern`, `hess_pattern`: as in `pounce.NLP`.
        - `on_failure`: what becomes of a solve that failed, as in `pounce.jax.solve`. `relaxation`: as in `pounce.solve`.
        - `seed`, `n_probes`, `pattern_detection`: no longer needed: patterns are read from the functions, not probed.

        **Raises:** `TypeError` or `ValueError` naming the argument. A dense program beyond 10 000 variables and rows is a
        `UserWarning`.
        """
        del seed, n_probes, pattern_detection
        self._given: dict[str, Any] = dict(
            f=f, g=g, n=n, m=m, p_example=p_example, lb=lb, ub=ub, cl=cl, cu=cu, options=options,
            factor_reuse=factor_reuse, sparse=sparse, jac_pattern=jac_pattern, hess_pattern=hess_pattern,
            on_failure=on_failure, relaxation=relaxation,
        )  # fmt: skip
        self.n, self.m = n, m
        self._problem = problem_of(f, g, m, lb, ub, cl, cu, sparse, jac_pattern, hess_pattern)
        self._how: dict[str, Any] = dict(relaxation=relaxation, on_failure=failure_of(on_failure))
        self._on_failure = on_failure
        self._reuse = bool(factor_reuse)
        self._cold = solver_of(options)
        self._warm = solver_of(options, warm_options())
        start = jnp.zeros(n)
        self._example = example = example_of(p_example, self._problem, start)
        seen = with_captured(self._problem, start, example)
        if (rows := count_rows(seen, start, example)) != m:
            raise ValueError(f"`g` must return m = {m} rows, got {rows}")
        exact = self._cold.choices.hessian_approximation == "exact"
        self._structure = sparse_structure(seen, start, example, m, exact)
        if self._structure is None and n + m > LARGE:
            message = f"a dense problem with n + m = {n + m}: if its derivatives are sparse, pass `sparse=True`"
            warnings.warn(message, UserWarning, stacklevel=2)
        self._closed = False
        self._ready: dict[tuple, tuple[Program, Data]] = {}  # by solver and dtypes

    def solve(self, p: PyTree, x0: Any, *, full: bool = False) -> Float[Array, " n"] | Solution:
        """The minimiser, differentiable in the parameters.

        **Arguments:** `p`: parameters like ``p_example``. `x0`: start, ``(n,)``. `full`: return the whole `pounce.Solution`.

        **Returns:** ``x (n,)``, or a `pounce.Solution`.
        """
        return minimiser(self._single(p, x0), self._on_failure, full)

    def solve_with_warm(
        self, p: PyTree, x0: Any, warm_start: Duals | None = None, *, full: bool = False
    ) -> tuple[Float[Array, " n"] | Solution, Duals]:
        """The minimiser and its multipliers.

        **Arguments:** `p`, `x0`, `full`: as in `solve`. `warm_start`: the multipliers ``(lam, zL, zU)`` of a neighbouring
        solve.

        **Returns:** ``x (n,)``, or a `pounce.Solution`, and ``(lam (m,), zL (n,), zU (n,))``.
        """
        solution = self._single(p, x0, None if warm_start is None else seeds_of(warm_start, "warm_start"))
        return minimiser(solution, self._on_failure, full), duals_of(solution)

    def vmap_solve(self, p_batch: PyTree, x0: Any, *, full: bool = False) -> Float[Array, "B n"] | Solution:
        """The minimisers for each leading entry of the parameters, by one batched kernel.

        **Arguments:** `p_batch`: parameters with a leading axis of ``B`` lanes. `x0`: ``(n,)`` or ``(B, n)``. `full`: as in
        `solve`.

        **Returns:** ``x (B, n)``, or a `pounce.Solution` of ``B`` lanes.
        """
        return minimiser(self._batch(p_batch, x0).solved(), self._on_failure, full)

    def vmap_solve_parallel(
        self, p_batch: PyTree, x0: Any, workers: int | None = None, *, full: bool = False
    ) -> Float[Array, "B n"] | Solution:
        """`vmap_solve` under another name.

        **Arguments:** `p_batch`, `x0`, `full`: as there. `workers`: accepted and, on one device, without effect.
        """
        workers_of(workers)
        return self.vmap_solve(p_batch, x0, full=full)

    def batched_solve(self, p_batch: PyTree, x0: Any, *, full: bool = False) -> Float[Array, "B n"] | Solution:
        """`vmap_solve` under the name that a stacked program has. **Arguments:** `p_batch`, `x0`, `full`: as there."""
        return self.vmap_solve(p_batch, x0, full=full)

    def batched_solve_with_warm(
        self, p_batch: PyTree, x0: Any, warm_start: Duals | None = None, *, full: bool = False
    ) -> tuple[Float[Array, "B n"] | Solution, Duals]:
        """The minimisers and their multipliers.

        **Arguments:** `p_batch`, `x0`, `full`: as in `vmap_solve`. `warm_start`: multipliers ``(B, m), (B, n), (B, n)`` of
        neighbouring solves.

        **Returns:** ``x (B, n)``, or a `pounce.Solution`, and the multipliers in the same form.
        """
        warm = None if warm_start is None else seeds_of(warm_start, "warm_start")
        solution = self._batch(p_batch, x0, warm).solved()
        return minimiser(solution, self._on_failure, full), duals_of(solution)

    def batched_solve_with_jacobian(
        self, p_batch: PyTree, x0: Any, *, wrt_cols: Any = None, return_state: bool = False
    ) -> tuple:
        """The minimisers and their derivatives.

        **Arguments:** `p_batch`, `x0`: as in `vmap_solve`. `wrt_cols`: a slice or indices of the parameters that derivatives
        are wanted for, where ``p`` is one vector; all by default. `return_state`: return the `AnchorState` too; what is
        returned is then not differentiable any further.

        **Returns:** ``(x (B, n), (lam, zL, zU), J (B, n, k))`` with ``J[b] = dx[b] / dp[b]``, columns by the raveled
        parameters.
        """
        need_derivatives(self._example)
        basis = directions(wrt_cols, self._example)
        if return_state:
            state = self.anchor(p_batch, x0, wrt_cols=wrt_cols)
            return state.x_star, state.duals, self._jacobian(state), state
        batch = self._batch(p_batch, x0)
        solution, J = batch.over_lanes(solution_and_jacobian, batch.repeated(basis))
        return heeded(solution, self._on_failure).x, duals_of(solution), J

    def solve_with_jacobian(self, p: PyTree, x0: Any, *, wrt_cols: Any = None, return_state: bool = False) -> tuple:
        """`batched_solve_with_jacobian` for one solve.

        **Arguments:** `p`, `x0`: as in `solve`. `wrt_cols`, `return_state`: as there.

        **Returns:** ``(x (n,), (lam, zL, zU), J (n, k))``, and with ``return_state`` the state.
        """
        one = one_lane(p, self._example)
        found = self.batched_solve_with_jacobian(one, x0, wrt_cols=wrt_cols, return_state=return_state)
        x, duals, J, *state = found
        return x[0], tuple(v[0] for v in duals), J[0], *state

    def anchor(self, p_batch: PyTree, x0: Any, *, wrt_cols: Any = None) -> AnchorState:
        """Solve and hold the factors.

        **Arguments:** `p_batch`: as in `vmap_solve`; the parameters of one solve, too (``B = 1``). `x0`: ``(n,)`` or ``(B,
        n)``. `wrt_cols`: a slice or indices of the parameters that derivatives are wanted for, where ``p`` is one vector.
        """
        basis = directions(wrt_cols, self._example)
        return AnchorState(self, *self.anchored(p_batch, x0), basis)

    def anchored(self, p_batch: PyTree, x0: Any) -> tuple[Batch, _anchor.Anchor]:
        """The batch, and its solutions with their factors. **Arguments:** `p_batch`, `x0`: as in `anchor`."""
        batch = self._batch(one_lane(p_batch, self._example) if is_like(p_batch, self._example) else p_batch, x0)
        held = batch.over_lanes(_anchor.anchor)
        return batch, dataclasses.replace(held, solution=heeded(held.solution, self._on_failure))

    def warm_anchor(
        self, p: PyTree, x0: Any, *, duals: Duals | None = None, mu: float | None = None, wrt_cols: Any = None
    ) -> tuple[AnchorState, dict[str, Any]]:
        """Solve from a given point, and hold the factor.

        **Arguments:** `p`, `x0`: as in `solve`, with numbers. `duals`, `mu`: multipliers ``(lam, zL, zU)`` and barrier
        parameter to start from. `wrt_cols`: as in `anchor`.

        **Returns:** the state (``B = 1``) and ``info`` with ``status``, ``iter_count``, ``obj_val``, ``g``, ``mult_g``,
        ``mult_x_L``, ``mult_x_U``, ``mu`` and ``success``.
        """
        basis = directions(wrt_cols, self._example)
        warm = None if duals is None else tuple(jnp.asarray(v)[None] for v in seeds_of(duals, "duals"))
        extra = {} if mu is None else dict(mu_init=float(mu)) if duals is None else warm_options(mu)
        solver = solver_of(self._given["options"], extra) if extra else None
        batch = self._batch(one_lane(p, self._example), x0, warm, solver)
        held = batch.over_lanes(_anchor.anchor)
        return AnchorState(self, batch, held, basis), info_of(jax.tree.map(lambda leaf: leaf[0], held.solution))

    def batched_jvp_from_state(self, state: AnchorState, dp_batch: PyTree, *, with_duals: bool = False) -> Any:
        """``dx (B, n) = J dp`` by one solve with the held factors.

        **Arguments:** `state`: of this problem. `dp_batch`: like the batch of parameters, or ``(B, k)`` for the columns the
        state was made for. `with_duals`: return the rates ``dlam (B, m)`` of the row multipliers too.
        """
        batch, at = state.opened(self)
        if state.basis is not None and jnp.shape(dp_batch) == (batch.size, state.basis.shape[0]):
            dp_batch = jnp.asarray(dp_batch) @ state.basis.astype(batch.dtype)
        need_derivatives(self._example)
        check_like(dp_batch, self._example, (batch.size,), "dp_batch")
        dx, dlam = batch.over_lanes(_anchor.rates, at, tangents_like(dp_batch, batch.data.parameters))
        return (dx, dlam) if with_duals else dx

    def batched_vjp_from_state(self, state: AnchorState, x_bar: Float[Array, "B n"]) -> Float[Array, "B k"]:
        """``dp = J' x_bar`` by one solve with the held factors.

        **Arguments:** `state`: of this problem. `x_bar`: cotangents of the solutions, ``(B, n)``.

        **Returns:** ``(B, k)``, for the raveled parameters or the columns of the state.
        """
        batch, at = state.opened(self)
        if jnp.shape(x_bar) != (batch.size, self.n):
            raise ValueError(f"`x_bar` must have shape ({batch.size}, {self.n}), got {jnp.shape(x_bar)}")
        need_derivatives(self._example)
        pulled = batch.over_lanes(_anchor.pulled, at, jnp.asarray(x_bar, batch.dtype))
        return pulled if state.basis is None else pulled @ state.basis.T.astype(batch.dtype)

    def jvp_from_state(self, state: AnchorState, dp: PyTree, *, with_duals: bool = False) -> Any:
        """`batched_jvp_from_state` for the state of one solve.

        **Arguments:** `state`, `with_duals`: as there. `dp`: like the parameters.
        """
        self._alone(state)
        found = self.batched_jvp_from_state(
            state, jax.tree.map(lambda v: jnp.asarray(v)[None], dp), with_duals=with_duals
        )
        return jax.tree.map(lambda v: v[0], found)

    def vjp_from_state(self, state: AnchorState, x_bar: Float[Array, " n"]) -> Float[Array, " k"]:
        """`batched_vjp_from_state` for the state of one solve.

        **Arguments:** `state`: as there. `x_bar`: ``(n,)``.
        """
        self._alone(state)
        return self.batched_vjp_from_state(state, jnp.asarray(x_bar)[None])[0]

    def sensitivity(self, state: AnchorState) -> Float[Array, "n k"]:
        """``dx/dp``, ``(n, k)``, from the state of one solve.

        **Arguments:** `state`: of this problem.
        """
        self._alone(state)
        return self._jacobian(state)[0]

    def sensitivity_at(
        self, x_star: Float[Array, " n"], theta: PyTree, duals: Duals, *, wrt_cols: Any = None
    ) -> Float[Array, "n k"]:
        """``dx/dp``, ``(n, k)``, at a point that satisfies the optimality conditions: no solve is made.

        **Arguments:** `x_star`: the point, ``(n,)``. `theta`: its parameters. `duals`: its multipliers ``(lam, zL, zU)``.
        `wrt_cols`: as in `anchor`.
        """
        need_derivatives(self._example)
        basis = directions(wrt_cols, self._example)
        multipliers = Multipliers(*(jnp.asarray(v)[None] for v in seeds_of(duals, "duals")))
        batch = self._batch(one_lane(theta, self._example), x_star)
        point = start_point(x_star, self.n)[None]
        return batch.over_lanes(jacobian_at, point, multipliers, batch.repeated(basis))[0]

    def active_set_margin(self, state: AnchorState, *, active_tol: float = 1e-6) -> dict[str, Float[Array, " B"]]:
        """How far the active set is from changing, per block.

        ``min_mult`` is the smallest multiplier of a bound or inequality that is active, ``min_slack`` the smallest slack of one
        that is not, ``margin`` the smaller of both. Infinite where there is no such constraint.

        **Arguments:** `state`: of this problem. `active_tol`: active is what the solve found to be, and what is nearer to its
        bound than this times the size of the two.
        """
        batch, at = state.opened(self)
        return batch.over_lanes(margins, at, jnp.full(batch.size, active_tol, batch.dtype))

    def clear_solver_cache(self) -> None:
        """Nothing to do: factors are arrays, and go with the last reference to them."""

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def close(self) -> None:
        """No further solves: they raise `RuntimeError`. More than once does no harm."""
        self._closed = True

    def _jacobian(self, state: AnchorState) -> Float[Array, "B n k"]:
        need_derivatives(self._example)
        batch, at = state.opened(self)
        return batch.over_lanes(_anchor.jacobian, at, batch.repeated(state.basis))

    def _alone(self, state: AnchorState) -> None:
        size = state.opened(self)[0].size
        if size != 1:
            raise ValueError(f"the single-problem form needs the state of one solve, got one of B = {size}")

    def _single(self, p: PyTree, x0: Any, warm: tuple | None = None) -> Solution:
        check_like(p, self._example, ())
        program, data = self._prepared(self._solver(warm), start_point(x0, self.n), typed_like(p, self._example))
        if warm is not None:
            seeds = warm_arrays(warm, self.n, self.m, data.start.x0.dtype)
            data = dataclasses.replace(data, start=dataclasses.replace(data.start, warm=seeds))
        return called(program, data)

    def _batch(self, p_batch: PyTree, x0: Any, warm: tuple | None = None, solver: InteriorPoint | None = None) -> Batch:
        check_like(p_batch, self._example, (0,))
        prepare_lane = functools.partial(self._prepared, solver or self._solver(warm))
        return batch_of(typed_like(p_batch, self._example), prepare_lane, x0, self.n, warm)

    def _solver(self, warm: tuple | None) -> InteriorPoint:
        return self._cold if warm is None else self._warm

    def _prepared(self, solver: InteriorPoint, start: Array, p: PyTree) -> tuple[Program, Data]:
        """The program and its data; checked, and put together, the first time."""
        if self._closed:
            raise RuntimeError("this JaxProblem is closed")
        key = id(solver), start.dtype, *(leaf.dtype for leaf in jax.tree.leaves(p))
        if key in self._ready:
            program, data = self._ready[key]
            return program, dataclasses.replace(data, parameters=p, start=dataclasses.replace(data.start, x0=start))
        program, data = prepare(self._problem, solver, start, p, **self._how)
        if not self._reuse:
            program = dataclasses.replace(program, reuse=False)
        shared = dataclasses.replace(data, parameters=None, start=dataclasses.replace(data.start, x0=None))
        # What is traced says nothing about the numbers that pivots are chosen by.
        if any(solver is own for own in (self._cold, self._warm)) and check.is_concrete(data):
            self._ready[key] = program, shared
        return program, data

    def __getstate__(self) -> dict[str, Any]:
        given = dict(self._given)
        if isinstance(self._structure, Structure):
            given["sparse"] = True
            given["jac_pattern"] = _indices(self._structure.jacobian.pattern)
            if self._cold.choices.hessian_approximation == "exact":
                given["hess_pattern"] = _indices(self._structure.hessian.pattern)
        elif given["sparse"] == "auto":
            given["sparse"] = False
        for name in ("p_example", "lb", "ub", "cl", "cu"):
            given[name] = jax.tree.map(np.asarray, given[name])
        return given | dict(closed=self._closed)

    def __setstate__(self, given: dict[str, Any]) -> None:
        closed = given.pop("closed")
        self.__init__(**given)
        self._closed = closed


def _indices(pattern) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(pattern.rows), np.asarray(pattern.columns)
