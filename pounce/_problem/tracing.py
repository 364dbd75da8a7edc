"""Python functions of one vector as JAX programs, where JAX can trace them: exact derivatives nobody had to write.

A function is traced anew every time it is handed in, which takes a millisecond, so that whatever it closes over is up to date.
Compiled programs are shared between functions that trace to the same operations, whatever arrays they close over.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sps
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from .._compile import compiler_options, program_cache
from .._linalg.sparse import Pattern, SparseMatrix
from .._waiting import speaking
from .by_mode import Parts, dense_derivatives_by_mode, sparse_derivatives_by_mode
from .host import AbstractHostFunctions, Evaluations, HostDerivatives
from .modes import REVERSE, Modes, check_modes, looked_at, warn_of_cost
from .operations import Operations, key_of
from .own_rules import inner_jaxprs, rules_in
from .rolling import rolled
from .sparse_host import in_pattern
from .sparse_nlp import Structure, sparse_derivatives, sparse_first_derivatives
from .terms import Counts, Term
from .tied import tied


# Compile times grow faster than the number of operations (a Python loop makes some for every turn): about ten seconds for
# Hessians of the first many, for gradients of the second many.
MOST_FOR_HESSIANS = 6000
MOST_FOR_GRADIENTS = 15000
# Up to so many operations, derivatives along all directions at once; beyond, one after the other, which compiles faster.
_MOST_AT_ONCE = 100


def trace(function: Callable[[Any], Any], n: int) -> ClosedJaxpr:
    """The operations from ``x`` of shape ``(n,)`` to a float64 vector, many equal pieces `rolled` into one. Raises what tracing
    raises."""

    def flat(x):
        value = jnp.asarray(function(x))
        if value.size != max(value.shape, default=1) or jnp.iscomplexobj(value):
            raise TypeError("neither a scalar nor a vector of real numbers")
        return value.reshape(-1).astype(jnp.float64)

    with jax.enable_x64(True):
        closed = rolled(jax.make_jaxpr(flat)(jax.ShapeDtypeStruct((n,), np.float64)))
    # Arrays of NumPy may be written to afterwards.
    return ClosedJaxpr(closed.jaxpr, [np.array(c) if isinstance(c, np.ndarray) else c for c in closed.consts])


def same_trace(first: ClosedJaxpr, second: ClosedJaxpr) -> bool:
    """Whether two traces are the same operations on the same numbers; False where that cannot be told."""
    try:
        if key_of(first.jaxpr) != key_of(second.jaxpr):
            return False
    except TypeError:
        return False
    pairs = list(zip(first.consts, second.consts))
    return all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in pairs)


def trace_product(matrix: Any) -> ClosedJaxpr:
    """The operations of ``matrix @ x``, dense or sparse."""
    with jax.enable_x64(True):
        if sps.issparse(matrix):
            pattern = Pattern.of(matrix)
            values = jnp.asarray(in_pattern(matrix, pattern, "matrix").data)
            return jax.make_jaxpr(SparseMatrix(values, pattern).__matmul__)(
                jax.ShapeDtypeStruct(matrix.shape[1:], np.float64)
            )
        return jax.make_jaxpr(lambda x: jnp.asarray(matrix) @ x)(jax.ShapeDtypeStruct(matrix.shape[1:], np.float64))


def trace_below_zero(closed: ClosedJaxpr, n: int) -> ClosedJaxpr:
    """The operations of a traced function, its values behind a zero: rows of a program without objective."""
    return trace(lambda x: jnp.concatenate([jnp.zeros(1), jaxpr_as_fun(closed)(x)[0]]), n)


def operations(jaxpr: Jaxpr) -> int:
    """How many, the bodies of loops and branches counted once."""
    return sum(1 + sum(map(operations, inner_jaxprs(equation))) for equation in jaxpr.eqns)


class _Compiled:
    """What is asked of traced functions, one after the other as one: compiled when first asked.

    All take the arrays that the functions close over, and ``x``.
    """

    def __init__(self, jaxprs: Sequence[Jaxpr]):
        self._jaxprs = jaxprs
        self.operations = sum(map(operations, jaxprs))
        compiled = functools.partial(jax.jit, compiler_options=compiler_options())
        pieces = self._values, self._first, self._second
        self.values, self.first, self.second = (speaking(compiled(each)) for each in pieces)
        self.sparse = compiled(self._sparse, static_argnums=0)
        self.sparse_first = compiled(self._sparse_first, static_argnums=0)

    def _values(self, constants, x):
        parts = [jaxpr_as_fun(ClosedJaxpr(j, list(each)))(x)[0] for j, each in zip(self._jaxprs, constants)]
        return jnp.concatenate(parts)

    def _parts(self, constants, evaluated: Callable = tied) -> Parts:
        """The first value and the others, neither of which evaluates the other where they are functions of their own."""

        def values(x, those):
            pairs = list(zip(self._jaxprs, constants))[those]
            return jnp.concatenate([*(evaluated(j, each, x)[0] for j, each in pairs), jnp.zeros(0)])

        if _shape(self._jaxprs[0].outvars[0]).shape[0] > 1:
            return lambda x: values(x, slice(None))[0], lambda x: values(x, slice(None))[1:]
        return lambda x: values(x, slice(0, 1))[0], lambda x: values(x, slice(1, None))

    @functools.cached_property
    def modes(self) -> Modes:
        """In which the first value and the others are differentiated."""
        if not any(rules_in(jaxpr, [True]) for jaxpr in self._jaxprs):
            return Modes()
        constants = [tuple(_shape(variable) for variable in jaxpr.constvars) for jaxpr in self._jaxprs]
        x = _shape(self._jaxprs[0].invars[0])
        with jax.enable_x64(True):
            as_it_is = lambda jaxpr, own, x: jaxpr_as_fun(ClosedJaxpr(jaxpr, list(own)))(x)
            found = [looked_at(lambda x, c, k=k: self._parts(c, as_it_is)[k](x), x, constants)[1] for k in (0, 1)]
        return Modes(found[0], found[1])

    def _along(self, push, n):
        units = jnp.eye(n)
        return jax.vmap(push)(units) if self.operations <= _MOST_AT_ONCE else jax.lax.map(push, units)

    def _by_mode(self, constants, x, weights, second_order):
        d = dense_derivatives_by_mode(self._parts(constants), self.modes, x, weights[1:], weights[0], second_order)
        matrices: Any = (d.jacobian,) if d.hessian is None else (d.jacobian, d.hessian)
        return jnp.concatenate([d.objective[None], d.rows, d.gradient, *(matrix.ravel() for matrix in matrices)])

    def _first(self, constants, x):
        if not self.modes.plain:
            return self._by_mode(constants, x, jnp.ones(1), False)
        function = functools.partial(self._values, constants)
        value, pullback = jax.vjp(function, x)
        if value.size <= x.size:
            jacobian = self._along(lambda unit: pullback(unit)[0], value.size)
        else:
            jacobian = self._along(lambda unit: jax.jvp(function, (x,), (unit,))[1], x.size).T
        return jnp.concatenate([value, jacobian.ravel()])

    def _second(self, constants, x, weights):
        if not self.modes.plain:
            return self._by_mode(constants, x, weights, True)
        function = functools.partial(self._values, constants)

        def weighted_gradient(x):
            value, pullback = jax.vjp(function, x)
            return value, pullback(weights)[0]

        # Gradient, Jacobian and Hessian come out of one sweep.
        columns, hessian = self._along(lambda unit: jax.jvp(weighted_gradient, (x,), (unit,))[1], x.size)
        return jnp.concatenate([function(x), columns.T.ravel(), hessian.ravel()])

    def _objective_and_rows(self, constants, x):
        values = self._values(constants, x)
        return values[0], values[1:]

    def _sparse_first(self, structure, constants, x):
        if self.modes.plain:
            d = sparse_first_derivatives(functools.partial(self._objective_and_rows, constants), structure.jacobian, x)
        else:
            nothing = jnp.zeros(0)
            d = sparse_derivatives_by_mode(
                self._parts(constants), self.modes, structure.jacobian, None, x, nothing, jnp.ones(())
            )
        jacobian: Any = d.jacobian
        return jnp.concatenate([d.objective[None], d.rows, d.gradient, jacobian.values])

    def _sparse(self, structure, constants, x, y, weight):
        if self.modes.plain:
            d = sparse_derivatives(functools.partial(self._objective_and_rows, constants), structure, x, y, weight)
        else:
            jacobian, hessian = structure
            d = sparse_derivatives_by_mode(self._parts(constants), self.modes, jacobian, hessian, x, y, weight)
        matrices: Any = d.jacobian, d.hessian
        return jnp.concatenate([d.objective[None], d.rows, d.gradient, *(matrix.values for matrix in matrices)])

    @functools.cached_property
    def differentiable(self) -> bool:
        """Whether JAX has derivatives of every operation that can be pulled back (of a loop of unknown length it has not)."""
        if not self.modes.plain:
            return all(mode.first == REVERSE for mode in self.modes.both)
        constants = [tuple(_shape(variable) for variable in jaxpr.constvars) for jaxpr in self._jaxprs]
        x = _shape(self._jaxprs[0].invars[0])
        weights = jax.ShapeDtypeStruct((sum(_shape(jaxpr.outvars[0]).shape[0] for jaxpr in self._jaxprs),), np.float64)
        try:
            with jax.enable_x64(True):
                if self.operations <= MOST_FOR_HESSIANS:
                    jax.eval_shape(self._second, constants, x, weights)
                else:
                    jax.eval_shape(self._first, constants, x)
        except Exception:
            return False
        return True


def _shape(variable) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)


@program_cache(maxsize=256)
def _shared(source: Operations) -> _Compiled:
    return _Compiled(source.jaxprs)


class TracedProgram:
    """Traced functions, one after the other, to be asked at NumPy points: ``(n,)`` to ``(size,)``."""

    def __init__(self, parts: Sequence[ClosedJaxpr], n: int):
        self.n, self.size = n, sum(part.out_avals[0].shape[0] for part in parts)
        self.counts = Counts()
        with jax.enable_x64(True):
            self._constants = [tuple(map(jnp.asarray, part.consts)) for part in parts]
        jaxprs = [part.jaxpr for part in parts]
        try:
            self._compiled = _shared(Operations(jaxprs))
        except TypeError:
            self._compiled = _Compiled(jaxprs)
        self.modes = self._compiled.modes
        of_all = all(mode.second is not None for mode in self.modes.both)
        self.has_hessian = of_all and self._compiled.operations <= MOST_FOR_HESSIANS
        self.differentiable = self._compiled.differentiable

    def check(self, names: Sequence[str], exact: bool) -> None:
        """Raises `TypeError` naming a function whose derivatives are in no mode to be had; warns once of such as cost more."""
        for mode, name in zip(self.modes.both, names):
            check_modes(mode, name, exact)
            warn_of_cost(mode, name, self._compiled)

    def values(self, x: np.ndarray) -> np.ndarray:
        """``(size,)``"""
        self.counts.values += 1
        with jax.enable_x64(True):
            return np.asarray(self._compiled.values(self._constants, x))

    def first(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and the ``(size, n)`` Jacobian."""
        self.counts.first += 1
        with jax.enable_x64(True):
            flat = np.asarray(self._compiled.first(self._constants, x))
        return flat[: self.size], flat[self.size :].reshape(self.size, self.n)

    def second(self, x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, the Jacobian, and the ``(n, n)`` Hessian of ``weights @ values``."""
        self.counts.first += 1
        self.counts.second += 1
        with jax.enable_x64(True):
            flat = np.asarray(self._compiled.second(self._constants, x, weights))
        value, jacobian, hessian = np.split(flat, np.cumsum([self.size, self.size * self.n]))
        hessian = hessian.reshape(self.n, self.n)
        return value, jacobian.reshape(self.size, self.n), 0.5 * (hessian + hessian.T)

    def objective_and_rows(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The first value and the others; to be traced."""
        return self._compiled._objective_and_rows(self._constants, x)

    def sparse_derivatives(self, structure: Structure) -> Callable[..., jax.Array]:
        """From a point, row multipliers and the weight of the first value: values, gradient, and the entries of the Jacobian and
        of the lower triangle of the Hessian, one after the other."""
        return speaking(functools.partial(self._compiled.sparse, structure, self._constants))

    def sparse_first_derivatives(self, structure: Structure) -> Callable[..., jax.Array]:
        """From a point: values, gradient and the entries of the Jacobian, one after the other."""
        return speaking(functools.partial(self._compiled.sparse_first, structure, self._constants))

    def term(self) -> Term:
        """This function as one term of a program."""
        hessian = (lambda x, weights: self.second(x, weights)[2]) if self.has_hessian else None
        return Term(self.size, self.values, lambda x: self.first(x)[1], hessian, lambda: self.counts)


class TracedFunctions(AbstractHostFunctions):
    """A program that is traced as a whole: its objective, then its rows.

    With `exact` off, second derivatives are never compiled.
    """

    def __init__(self, program: TracedProgram, exact: bool):
        self.n, self.m, self.exact = program.n, program.size - 1, exact
        self._program = program
        self.evaluations = Evaluations()

    def values(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        values = self._program.values(x)
        self.evaluations.objective += 1
        self.evaluations.constraints += self.m > 0
        return float(values[0]), values[1:]

    def derivatives(self, x: np.ndarray, y: np.ndarray, weight: float, second_order: bool) -> HostDerivatives:
        hessian, count = None, self.evaluations
        if self.exact:  # one program for both kinds of question, because compiling takes longer than running
            values, jacobian, hessian = self._program.second(x, np.concatenate([[weight], y]))
            count.hessian += 1
        else:
            values, jacobian = self._program.first(x)
        count.gradient += 1
        count.jacobian += self.m > 0
        return HostDerivatives(float(values[0]), values[1:], jacobian[0], jacobian[1:], hessian)
