"""The native door: a problem object, a solver object, and one `solve`."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from . import _check as check
from ._adjoint.rule import OnFailure
from ._called import called
from ._interior.options import Choices, Numbers, settled
from ._interior.solver import InteriorPointMethod
from ._interior.start import Bounds, Seeds, WarmStart
from ._linalg.choice import dense_solver, sparse_solver
from ._linalg.woodbury import Woodbury
from ._problem.captured import captured
from ._problem.modes import Modes, check_modes, looked_at, warn_of_cost
from ._problem.sparse_nlp import (
    LEAST_SPARSE,
    Structure,
    as_pattern,
    find_structure,
    find_structure_if_sparse,
)
from ._problem.typical import pivot_hints
from ._program import Approximated, Data, Program, together
from ._solution import Multipliers, Solution
from ._solve import Start
from ._weak import held, weak_cache, weakly
from .options import split_options


__all__ = ["NLP", "InteriorPoint", "solve"]


class NLP(eqx.Module):
    """A nonlinear program ``min f(x, p)  s.t.  cl <= g(x, p) <= cu,  lb <= x <= ub``.

    Bounds are data: they may be traced, batched and differentiated, and changing them never recompiles. A bound of magnitude
    1e19 or more is absent; ``cl[i] == cu[i]`` makes row i an equality; ``lb[i] == ub[i]`` fixes a variable.
    """

    f: Callable
    g: Callable | None
    lb: Any
    ub: Any
    cl: Any
    cu: Any
    sparse: bool | Literal["auto"]
    jac_pattern: Any
    hess_pattern: Any

    def __init__(
        self,
        f: Callable[[Float[Array, " n"], PyTree], Any],
        g: Callable[[Float[Array, " n"], PyTree], Any] | None = None,
        *,
        lb: Float[Array, " n"] | Any = None,
        ub: Float[Array, " n"] | Any = None,
        cl: Float[Array, " m"] | Any = None,
        cu: Float[Array, " m"] | Any = None,
        sparse: bool | Literal["auto"] = False,
        jac_pattern: Any = None,
        hess_pattern: Any = None,
    ):
        """**Arguments:**

        - `f`: objective ``f(x, p) -> scalar``, a JAX function.
        - `g`: constraint rows ``g(x, p) -> (m,)``, or nothing.
        - `lb`, `ub`: bounds of the variables, shape ``(n,)`` or a scalar; none by default.
        - `cl`, `cu`: bounds of the rows, shape ``(m,)`` or a scalar; at least one is needed with `g`.
        - `sparse`: whether derivatives and linear algebra are those of sparse matrices. Where their entries are is read from the
          functions; ``"auto"`` decides by what is found there.
        - `jac_pattern`, `hess_pattern`: where, if you know better: ``(rows, columns)`` or a SciPy sparse matrix for the Jacobian
          of ``g`` and for the Hessian of the Lagrangian (a triangle is enough).

        **Raises:** `TypeError` for a function that is not callable and `ValueError` for row bounds without rows.
        """
        check.function(f, "f")
        check.function(g, "g", optional=True)
        if g is not None and cl is None and cu is None:
            raise ValueError("`cl` and `cu` are both missing: rows `g` need a lower or an upper bound")
        if g is None and not all(value is None or np.size(value) == 0 for value in (cl, cu)):
            raise ValueError("`cl` and `cu` bound the rows of `g`, but there is no `g`")
        self.f, self.g, self.lb, self.ub = f, g, lb, ub
        self.cl, self.cu = (None, None) if g is None else (cl, cu)
        if sparse not in (False, True, "auto"):
            raise ValueError(f"`sparse` must be True, False or 'auto', got {sparse!r}")
        self.sparse = sparse
        self.jac_pattern, self.hess_pattern = jac_pattern, hess_pattern


def with_captured(problem: NLP, x: Array, p: PyTree) -> NLP:
    """The same program of arrays like these, with what its functions close over and somebody is transforming as leaves."""
    f, g = captured(problem.f, x, p), captured(problem.g, x, p)
    if f is problem.f and g is problem.g:
        return problem
    bounds = dict(lb=problem.lb, ub=problem.ub, cl=problem.cl, cu=problem.cu)
    patterns: dict[str, Any] = dict(jac_pattern=problem.jac_pattern, hess_pattern=problem.hess_pattern)
    return NLP(f, g, sparse=problem.sparse, **bounds, **patterns)


class InteriorPoint(eqx.Module):
    """The interior-point solver with its options, every one under Ipopt's name.

    The numbers that change between solves (`tol`, `max_iter`, `mu_init` and their kin) are traced: solvers that differ only in
    them share one compiled program.
    """

    numbers: Numbers
    choices: Choices
    linear_solver: str = eqx.field(static=True)
    history: int = eqx.field(static=True)

    def __init__(self, *, history: int = 0, **options: Any):
        """**Arguments:**

        - `history`: how many rows of the iteration table to return in `Solution.history` (0: none).
        - `options`: Ipopt options by name, as in ``InteriorPoint(tol=1e-9, mu_strategy="adaptive")``.

        **Raises:** `pounce.OptionError` for an unknown name or a bad value, naming the nearest valid ones.
        """
        chosen = split_options(options)
        self.numbers, self.choices, self.linear_solver = chosen.numbers, chosen.choices, chosen.linear_solver
        if not isinstance(history, int) or history < 0:
            raise ValueError(f"`history` must be a number of rows, got {history!r}")
        self.history = history


def solve(
    problem: NLP,
    solver: InteriorPoint,
    x0: Float[Array, " n"] | Any,
    p: PyTree = None,
    *,
    warm_start: Multipliers | tuple | None = None,
    scaling: tuple | None = None,
    relaxation: float = 0.0,
    on_failure: OnFailure = "zero",
) -> Solution:
    """Solve a nonlinear program: a JAX function of ``p``, the bounds and ``x0``.

    Works under `jit`, `vmap`, `grad`, `jvp`, `jacfwd`, `jacrev`, `hessian`, `lax.scan`; no host callback in its jaxpr. A solve
    that fails is a status, never an exception; under `vmap` no lane touches another.

    **Arguments:**

    - `problem`, `solver`: what to solve and how.
    - `x0`: starting point, shape ``(n,)``; its dtype is the dtype of the solve.
    - `p`: parameters handed to ``f`` and ``g``, any pytree of arrays.
    - `warm_start`: multipliers to start from (a `Multipliers` or ``(rows, lower, upper)``), used with the option
      ``warm_start_init_point="yes"``.
    - `scaling`: ``(objective, rows)`` factors for ``nlp_scaling_method="user-scaling"``.
    - `relaxation`: 0 differentiates the active set; a positive value differentiates the central path at that barrier
      parameter.
    - `on_failure`: derivative of a lane that was not solved: ``"zero"``, ``"nan"``, ``"raise"`` or ``"warn"``.

    **Returns:** a `Solution`. Derivatives flow through ``x``, ``objective``, ``constraints`` and ``multipliers`` with respect
    to ``p`` and the bounds; those with respect to ``x0`` and ``warm_start`` are zero.

    **Raises:** `TypeError` or `ValueError` naming the argument, before anything is compiled.
    """
    program, data = prepare(
        problem, solver, x0, p, warm_start=warm_start, scaling=scaling, relaxation=relaxation, on_failure=on_failure
    )
    return called(program, data)


def prepare(
    problem: NLP,
    solver: InteriorPoint,
    x0: Float[Array, " n"] | Any,
    p: PyTree = None,
    *,
    warm_start: Multipliers | tuple | None = None,
    scaling: tuple | None = None,
    relaxation: float = 0.0,
    on_failure: OnFailure = "zero",
) -> tuple[Program, Data]:
    """Everything `solve` checks, as a static program and its data."""
    if not isinstance(problem, NLP):
        raise TypeError(f"`problem` must be a pounce.NLP, got {type(problem).__name__}")
    if not isinstance(solver, InteriorPoint):
        raise TypeError(f"`solver` must be a pounce.InteriorPoint, got {type(solver).__name__}")
    if on_failure not in ("zero", "nan", "raise", "warn"):
        raise ValueError(f"`on_failure` must be 'zero', 'nan', 'raise' or 'warn', got {on_failure!r}")
    if not isinstance(relaxation, (int, float)) or not 0 <= relaxation < float("inf"):
        raise ValueError(f"`relaxation` must be a finite number >= 0, got {relaxation!r}")
    x0 = check.start_point(x0)
    n, dtype = x0.shape[0], x0.dtype
    parameters = parameter_arrays(p)
    given, problem = (problem.f, problem.g), with_captured(problem, x0, parameters)
    m, modes = looked_into(problem, x0, parameters)
    lb, ub = check.bound_pair(problem.lb, problem.ub, ("lb", "ub"), n, dtype)
    cl, cu = check.bound_pair(problem.cl, problem.cu, ("cl", "cu"), m, dtype)
    first_numbers, choices = settled(solver.numbers, solver.choices)
    warm = warm_arrays(warm_start, n, m, dtype)
    if not solver.choices.warm_start_init_point:
        warm = Seeds.nothing(n, m, dtype)
    if scaling is not None:
        scaling = (jnp.asarray(scaling[0], dtype), check.vector(scaling[1], "scaling[1]", length=m, dtype=dtype))
    dynamic, static = eqx.partition((problem.f, problem.g), eqx.is_array)
    leaves, structure = jax.tree.flatten(static)
    functions = tuple(map(weakly, leaves)), structure
    numbers, constants = numbers_for(first_numbers, dtype)
    exact = choices.hessian_approximation == "exact"
    for mode, name, function in zip(modes.both, ("f", "g"), given):
        check_modes(mode, name, exact)
        warn_of_cost(mode, name, function)
    sparsity, approximated = sparse_structure(problem, x0, parameters, m, exact), None
    if sparsity is None:
        linear_solver = dense_solver(solver.linear_solver, n, m)
    else:
        patterns = sparsity.hessian.pattern, sparsity.jacobian.pattern
        key = *functions, sparsity, x0.shape, x0.dtype, *_signature((dynamic, parameters))

        def rows(x, dynamic, p):
            f, g = eqx.combine(dynamic, static)
            return together(f, g, dtype)(x, p)[1]

        hints = pivot_hints(key, rows, sparsity.jacobian, x0, (lb, ub, cl, cu), dynamic, parameters)
        linear_solver = sparse_solver(solver.linear_solver, *patterns, hints)
        if not exact:
            linear_solver, stated = Woodbury(linear_solver), problem.hess_pattern
            curvature = None if stated is None else as_pattern(stated, patterns[0].shape, "hess_pattern")
            approximated = Approximated(curvature, hints)
            functions = (
                tuple(leaves),
                structure,
            )  # asked again when derivatives are taken, which may be after all is over
    tables, linear_solver = eqx.partition(linear_solver, lambda leaf: isinstance(leaf, (np.ndarray, jax.Array)))
    rows_of = None if sparsity is None else sparsity.jacobian.pattern
    method = InteriorPointMethod(linear_solver, choices, constants, history=solver.history, sparse=rows_of)
    program = Program(method, functions, sparsity, float(relaxation), on_failure, approximated, modes=modes)
    return program, Data(dynamic, parameters, Start(x0, Bounds(lb, ub, cl, cu), warm, scaling, numbers), tables)


def sparse_structure(problem: NLP, x0: Array, parameters: PyTree, m: int, exact: bool = True) -> Structure | None:
    """Where the derivatives of a sparse problem have entries; None for a dense one. Hessians that are not ``exact`` are
    diagonal here."""
    n = x0.shape[0]
    auto = problem.sparse == "auto"
    if not problem.sparse or (auto and n + m < LEAST_SPARSE):
        return None
    given = [
        None if value is None else as_pattern(value, shape, name)
        for value, shape, name in (
            (problem.jac_pattern, (m, n), "jac_pattern"),
            (problem.hess_pattern if exact else ([], []), (n, n), "hess_pattern"),
        )
    ]
    modes = looked_into(problem, x0, parameters)[1]
    # Floats inside of callables are data, and may be others the next time.
    arrays, static = eqx.partition((problem.f, problem.g), lambda leaf: eqx.is_inexact_array(leaf) or _is_traced(leaf))
    functions, tree = jax.tree.flatten(static)
    key = tuple(map(weakly, functions)), tree, (auto, *given, modes), x0.shape, x0.dtype
    shapes = *_signature(arrays), *_signature(parameters)
    try:
        return _found_structure(*key, *shapes)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _found_structure.make(*key, *shapes)


def _is_traced(leaf: Any) -> bool:
    return not check.is_concrete(leaf)


@weak_cache(maxsize=256, owners=lambda functions, *key: functions)
def _found_structure(functions, tree, how, shape, dtype, structure, arrays, p_structure, p_leaves) -> Structure | None:
    static, (auto, jacobian, hessian, modes) = jax.tree.unflatten(tree, map(held, functions)), how

    def evaluate(x, arrays, p):
        f, g = eqx.combine(arrays, static)
        return together(f, g, dtype)(x, p)

    like, abstract = _like(structure, arrays), _like(p_structure, p_leaves)
    find = find_structure_if_sparse if auto else find_structure
    return find(
        evaluate, jax.ShapeDtypeStruct(shape, dtype), like, abstract, jacobian=jacobian, hessian=hessian, modes=modes
    )


def parameter_arrays(p: PyTree) -> PyTree:
    """The parameters as a pytree of arrays."""
    try:
        return jax.tree.map(lambda leaf: leaf if isinstance(leaf, np.ndarray) else check.strong(jnp.asarray(leaf)), p)
    except (TypeError, ValueError) as error:
        raise TypeError("`p` must be a pytree of arrays or numbers") from error


def count_rows(problem: NLP, x0: Array, parameters: PyTree) -> int:
    """Number of rows; raises if a function returns the wrong thing."""
    return looked_into(problem, x0, parameters)[0]


def looked_into(problem: NLP, x0: Array, parameters: PyTree) -> tuple[int, Modes]:
    """Number of rows, and the modes of differentiation; raises if a function returns the wrong thing."""
    try:
        return _checked_functions(weakly(problem.f), weakly(problem.g), x0.shape, x0.dtype, *_signature(parameters))
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    return _traced_functions(problem.f, problem.g, x0, parameters)


def _signature(parameters: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(parameters)
    return structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


def _like(structure: Any, leaves: tuple) -> PyTree:
    return jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])


@weak_cache(maxsize=4096, owners=lambda f, g, *key: (f, g))
def _checked_functions(f, g, shape, dtype, structure, leaves) -> tuple[int, Modes]:
    return _traced_functions(held(f), held(g), jax.ShapeDtypeStruct(shape, dtype), _like(structure, leaves))


def _traced_functions(f, g, x, parameters) -> tuple[int, Modes]:
    value, of_objective, crossing = looked_at(f, x, parameters)
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and getattr(leaves[0], "shape", None) == (1,):
        raise ValueError("`f` must return a scalar, got shape (1,); index or sum it")
    check.output_shape(value, "f", (), None)
    if g is None:
        return 0, Modes(of_objective, crossing=crossing)
    value, of_rows, crossing_too = looked_at(g, x, parameters)
    shape = check.output_shape(value, "g", None, None)
    if len(shape) != 1:
        raise ValueError(f"`g` must return a one-dimensional array of rows, got shape {shape}")
    return shape[0], Modes(of_objective, of_rows, crossing or crossing_too)


def warm_arrays(warm_start: Multipliers | tuple | None, n: int, m: int, dtype) -> Seeds:
    if warm_start is None:
        return Seeds.nothing(n, m, dtype)
    if isinstance(warm_start, Multipliers):
        warm_start = (warm_start.constraints, warm_start.lower, warm_start.upper)
    if not isinstance(warm_start, (tuple, list)) or len(warm_start) != 3:
        raise ValueError("`warm_start` must be a pounce.Multipliers or a triple (rows, lower, upper)")
    sizes = (("rows", m), ("lower", n), ("upper", n))
    parts = [
        check.vector(part, f"warm_start ({name})", length=size, dtype=dtype)
        for part, (name, size) in zip(warm_start, sizes)
    ]
    return WarmStart(*parts).seeds()


def numbers_for(numbers: Numbers, dtype) -> tuple[np.ndarray, tuple[float, ...]]:
    """The traced and the constant numbers; in float32 tolerances are raised to what the dtype can reach."""
    if dtype == np.float64:
        return _split(numbers)
    eps = float(jnp.finfo(dtype).eps)
    reachable = 100 * eps
    if numbers.tol < reachable:
        _warn_single_precision(reachable)
    floors = {
        "tol": reachable,
        "acceptable_tol": 10 * reachable,
        "bound_relax_factor": 10 * eps,
        "tiny_step_tol": 10 * eps,
        "slack_move": eps**0.75,
        "residual_ratio_max": eps,
        "residual_ratio_singular": eps**0.5,
        "jacobian_regularization_value": eps**0.5,
    }
    changed = {name: max(getattr(numbers, name), floor) for name, floor in floors.items()}
    names = list(changed)
    return _split(eqx.tree_at(lambda o: [getattr(o, name) for name in names], numbers, [changed[k] for k in names]))


@functools.lru_cache(maxsize=256)
def _split(numbers: Numbers) -> tuple[np.ndarray, tuple[float, ...]]:
    return numbers.split()


@functools.cache
def _warn_single_precision(reachable: float) -> None:
    warnings.warn(
        f"pounce: solving in float32, where a tolerance below {reachable:.0e} cannot be reached; for full accuracy call "
        'jax.config.update("jax_enable_x64", True) before creating arrays',
        stacklevel=4,
    )
