"""Programs whose Jacobian and Hessian are sparse, with derivatives compressed by colours."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._linalg.sparse import Pattern
from .by_mode import sparse_derivatives_by_mode
from .closed import trace
from .coloring import Coloring, color_columns, color_jacobian, color_rows, color_symmetric
from .compressed import entries, seeds, sparse_jacobian
from .derivatives import Derivatives
from .modes import FORWARD, Modes
from .nlp import AbstractFunctionNLP
from .sparsity import MOST_ENTRIES, PatternTooLargeError, hessian_pattern, jacobian_pattern


class Structure(NamedTuple):
    """Colourings of the Jacobian of the rows, and of the lower triangle of the Hessian with the whole diagonal."""

    jacobian: Coloring
    hessian: Coloring

    @classmethod
    def of(cls, jacobian: Pattern, hessian: Pattern, modes: Modes = Modes()) -> "Structure":
        """From patterns; that of the Hessian may be of a triangle or of all of it."""
        n = hessian.shape[0]
        both = hessian | hessian.transpose | Pattern(np.arange(n), np.arange(n), (n, n))
        if modes.rows.plain:
            return cls(color_jacobian(jacobian), color_symmetric(both.lower))
        coloured = color_columns(jacobian) if modes.rows.first == FORWARD else color_rows(jacobian)
        return cls(coloured, color_symmetric(both.lower))

    @property
    def few_colors(self) -> bool:
        """Whether sparse derivatives promise to be cheaper than dense ones."""
        return self.jacobian.count + self.hessian.count < self.hessian.pattern.shape[0] / 4


LEAST_SPARSE = 400  # unknowns of a KKT matrix below which dense algebra is faster whatever the pattern
FULL = 0.05  # the share of its entries from which on it is faster whatever the size


def is_sparse(jacobian: Pattern, hessian: Pattern) -> bool:
    """Whether sparse linear algebra promises to be cheaper than dense one; the Hessian by both triangles."""
    return 2 * jacobian.nnz + hessian.nnz < FULL * sum(jacobian.shape) ** 2


def as_pattern(given: Any, shape: tuple[int, int], name: str) -> Pattern:
    """A pattern as users state one: ``(rows, columns)`` or a matrix."""
    if not isinstance(given, Pattern):
        if isinstance(given, (tuple, list)) and len(given) == 2:
            try:
                given = Pattern(given[0], given[1], shape)
            except ValueError as error:
                raise ValueError(f"`{name}`: {error}") from None
        else:
            given = Pattern.of(given)
    if given.shape != shape:
        raise ValueError(f"`{name}` must be the pattern of a matrix of shape {shape}, got {given.shape}")
    return given


def find_structure(
    evaluate: Callable,
    x: Any,
    *arguments: Any,
    jacobian: Pattern | None = None,
    hessian: Pattern | None = None,
    modes: Modes = Modes(),
) -> Structure:
    """The structure of ``evaluate(x, *arguments) -> (f, c)``, whatever the numbers; patterns that are known are not sought."""
    return Structure.of(*_patterns(trace(evaluate, x, *arguments), x, arguments, jacobian, hessian), modes)


def find_structure_if_sparse(
    evaluate: Callable,
    x: Any,
    *arguments: Any,
    jacobian: Pattern | None = None,
    hessian: Pattern | None = None,
    modes: Modes = Modes(),
) -> Structure | None:
    """As `find_structure`; None where dense derivatives and algebra promise to be cheaper, found out as early as may be."""
    evaluate = trace(evaluate, x, *arguments)
    m = jax.eval_shape(evaluate, x, *arguments)[1].shape[0]
    # With room for entries that a Hessian lists several times, and for problems that are small anyway.
    most = min(MOST_ENTRIES, max(500_000, int(2 * FULL * (x.shape[0] + m) ** 2)))
    try:
        patterns = _patterns(evaluate, x, arguments, jacobian, hessian, most=most)
    except PatternTooLargeError:
        return None
    if not is_sparse(*patterns):
        return None  # colouring a matrix that is nearly full takes long
    structure = Structure.of(*patterns, modes)
    return structure if structure.few_colors else None


def _patterns(
    evaluate: Callable, x: Any, arguments: tuple, jacobian: Pattern | None, hessian: Pattern | None, **limit: int
) -> tuple[Pattern, Pattern]:
    """Of the Jacobian of the rows and of the Hessian of the Lagrangian."""
    m = jax.eval_shape(evaluate, x, *arguments)[1].shape[0]
    if jacobian is None:
        jacobian = jacobian_pattern(lambda x, *rest: evaluate(x, *rest)[1], x, *arguments, **limit)
    if hessian is not None:
        return jacobian, hessian | hessian.transpose

    def lagrangian(x, weights, *rest):
        f, c = evaluate(x, *rest)
        return weights[0] * f + weights[1:] @ c

    weights = jax.ShapeDtypeStruct((m + 1,), x.dtype)
    return jacobian, hessian_pattern(lagrangian, x, weights, *arguments, **limit)


class SparseFunctionNLP(AbstractFunctionNLP):
    """With sparse derivatives. The structure is one for these modes."""

    functions: Callable[[Float[Array, " n"], PyTree], tuple[Float[Array, ""], Float[Array, " m"]]]
    parameters: PyTree
    structure: Structure = eqx.field(static=True)
    modes: Modes = eqx.field(static=True, default=Modes())

    def derivatives(self, x, y, weight, second_order):
        if not self.modes.plain:
            jacobian, hessian = self.structure
            chosen = hessian if second_order else None
            return sparse_derivatives_by_mode(self.parts(), self.modes, jacobian, chosen, x, y, weight)
        if not second_order:
            return sparse_first_derivatives(self.evaluate, self.structure.jacobian, x)
        return sparse_derivatives(self.evaluate, self.structure, x, y, weight)


def sparse_first_derivatives(evaluate: Callable, jacobian: Coloring, x: Float[Array, " n"]) -> Derivatives:
    """Values, gradient and Jacobian at a point: the gradient pulled back alone, the Jacobian by its colours."""
    (f, c), pullback = jax.vjp(evaluate, x)
    gradient = pullback((jnp.ones_like(f), jnp.zeros_like(c)))[0]
    if jacobian.by == "rows" and jacobian.count:
        matrix = entries(
            jax.vmap(lambda seed: pullback((jnp.zeros_like(f), seed))[0])(seeds(jacobian, c.dtype)), jacobian
        )
    else:
        matrix = sparse_jacobian(lambda x: evaluate(x)[1], x, jacobian)
    return Derivatives(f, c, gradient, matrix, None)


def sparse_derivatives(
    evaluate: Callable, structure: Structure, x: Float[Array, " n"], y: Float[Array, " m"], weight: Float[Array, ""]
) -> Derivatives:
    """All derivatives at a point by one batched sweep over the colours.

    ``x -> (f, c, grad f, grad(weight f + y'c))`` is pushed forward along the sum of the unit vectors of each colour. A Jacobian
    coloured by rows is pulled back instead.
    """
    jacobian, hessian = structure

    def values_and_gradients(x):
        (f, c), pullback = jax.vjp(evaluate, x)
        one, nothing = jnp.ones_like(f), jnp.zeros_like(c)
        return f, c, pullback((one, nothing))[0], pullback((weight.astype(f.dtype), y.astype(c.dtype)))[0]

    by_columns = jacobian.by == "columns"
    directions = seeds(hessian, x.dtype)
    if by_columns:
        directions = jnp.concatenate([directions, seeds(jacobian, x.dtype)])

    def push(seed):
        values, (_, rows, _, gradient) = jax.jvp(values_and_gradients, (x,), (seed,))
        return values, rows, gradient

    (f, c, gradient, _), rows, products = jax.vmap(push, out_axes=(None, 0, 0))(directions)
    if by_columns:
        matrix = entries(rows[hessian.count :], jacobian)
    else:
        matrix = sparse_jacobian(lambda x: evaluate(x)[1], x, jacobian)
    return Derivatives(f, c, gradient, matrix, entries(products[: hessian.count], hessian))
