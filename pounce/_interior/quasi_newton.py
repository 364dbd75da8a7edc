"""Limited-memory quasi-Newton Hessians (Byrd, Nocedal and Schnabel 1994; Nocedal and Wright 2006, section 7.2).

The compact forms are written out as a dense matrix for dense linear solvers; beside a sparse Jacobian they stay what they are,
a multiple of the identity and a few columns. When to skip a pair or to start over follows Ipopt's `LimMemQuasiNewtonUpdater`.
Pairs are columns, the newest last; absent pairs are zero columns.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float

from .._choose import select, where
from .._linalg.low_rank import LowRankMatrix
from .._linalg.matrix import Hessian, all_finite, plus_diagonal, transposed_times
from .._linalg.sparse import Pattern, SparseMatrix
from .._problem.nlp import Derivatives
from .iterate import Iterate, View, maximum_norm
from .options import Choices, Numbers
from .state import Globalization, Pairs, QuasiNewton


SMALLEST_STEP = 100.0  # times machine precision: shorter steps form no pair
SMALLEST_RATIO = 1e-12  # of the eigenvalues of the SR1 middle matrix


def fresh(n: int, m: int, o: Numbers, choices: Choices, sparse: Pattern | None) -> QuasiNewton | None:
    """Memory without any pair; None with exact Hessians. ``sparse``: where the entries of a sparse Jacobian are."""
    if choices.hessian_approximation == "exact":
        return None
    k, dtype = choices.limited_memory_max_history, o.limited_memory_init_val.dtype
    no, columns, x = jnp.array(False), jnp.zeros((n, k), dtype), jnp.zeros(n, dtype)
    if sparse is None:
        matrix, jacobian = jnp.zeros((n, n), dtype), jnp.zeros((m, n), dtype)
    else:
        count = k if choices.limited_memory_update_type == "sr1" else 2 * k
        matrix = LowRankMatrix(x, jnp.zeros((n, count), dtype), jnp.zeros(count, dtype))
        jacobian = SparseMatrix(jnp.zeros(sparse.nnz, dtype), sparse)
    pairs = Pairs(columns, columns, jnp.zeros(k, bool), matrix)
    backup = pairs if choices.limited_memory_update_type == "sr1" else None
    return cleared(
        QuasiNewton(
            pairs=pairs,
            backup=backup,
            skipped=jnp.array(0),
            ready=no,
            previous_x=x,
            previous_gradient=x,
            previous_jacobian=jacobian,
        ),
        o,
    )


def cleared(memory: QuasiNewton, o: Numbers) -> QuasiNewton:
    """The memory with nothing in it: the next point it sees is its first."""
    blank = jax.tree.map(jnp.zeros_like, memory)
    start = plus_diagonal(blank.pairs.matrix, jnp.broadcast_to(o.limited_memory_init_val, memory.previous_x.shape))
    blank = eqx.tree_at(lambda q: q.pairs.matrix, blank, start)
    return blank if blank.backup is None else eqx.tree_at(lambda q: q.backup.matrix, blank, start)


def hessian(memory: QuasiNewton | None, d: Derivatives, view: View) -> Hessian:
    """Hessian of the phase's Lagrangian. The pairs of a restoration run have seen the proximity term already."""
    if memory is not None:
        return memory.pairs.matrix
    assert d.hessian is not None
    return plus_diagonal(d.hessian, view.proximity)


def updated(
    g: Globalization,
    view: View,
    iterate: Iterate,
    d: Derivatives,
    regularization: Float[Array, ""],
    enabled: Bool[Array, ""],
    o: Numbers,
    choices: Choices,
) -> Globalization:
    """The globalisation state whose memory has seen the present point; nothing happens where ``enabled`` is false.

    A pair is ``s = x - x_old`` and the change of ``grad_x L(., y)`` at the present ``y``, without bound multipliers. In the
    restoration phase ``L`` is the constraint part alone; ``eta D_R s`` is added anew at every update, since eta changes.
    ``regularization`` is the ``dw`` of the step that led here. After too many skipped pairs the memory starts over, and after
    a search that did not move.
    """
    memory = g.quasi_newton
    if memory is None:
        return g
    x, free = iterate.primal[: view.n], view.active[: view.n]
    step = where(free, x - memory.previous_x, 0.0)
    stale = (memory.skipped >= o.limited_memory_max_skipping) | (maximum_norm(step) == 0)
    over = ~memory.ready | stale
    objective = where(view.restoring, 0.0, d.gradient - memory.previous_gradient)
    difference = jax.tree.map(jnp.subtract, d.jacobian, memory.previous_jacobian)
    change = where(free, objective + transposed_times(difference, iterate.rows), 0.0)
    # As Ipopt has it; the Hessian of the proximity term would be eta D_R^2.
    proximity = view.proximity * jnp.maximum(1.0, jnp.abs(view.reference))
    old, backup, newest = memory.pairs, memory.backup, change + proximity * step
    clean = jnp.array(True)
    if backup is not None:
        # A step that needed regularisation discredits the pair before it.
        clean = regularization <= 0
        backup = old = select(clean, old, backup)
    steps, changes, present = _appended(old.steps, step), _appended(old.changes, change), _appended(old.present, True)
    full = changes + proximity[:, None] * steps
    sigma = _initial(step, newest, o, choices)
    sparse = isinstance(old.matrix, LowRankMatrix)
    if choices.limited_memory_update_type == "bfgs":
        matrix, sound = (bfgs_columns if sparse else bfgs_matrix)(steps, full, present, sigma)
        sound = sound & _curved(step, newest)
    else:
        # With scalar1 the middle matrix of a lone pair would be zero.
        sigma = where(jnp.sum(present) == 1, o.limited_memory_init_val, sigma)
        matrix, sound = (sr1_columns if sparse else sr1_matrix)(steps, full, present, sigma)
    taken = sound & (maximum_norm(step) >= SMALLEST_STEP * jnp.finfo(step.dtype).eps) & all_finite(matrix)
    pairs = select(taken, Pairs(steps, changes, present, matrix), old)
    skipped = where(taken & clean, 0, memory.skipped + 1)
    following = eqx.tree_at(lambda q: (q.pairs, q.skipped), memory, (pairs, skipped))
    if backup is not None:
        following = eqx.tree_at(lambda q: q.backup, following, backup)
    following = select(over, cleared(memory, o), following)
    here = (jnp.ones_like(memory.ready), x, d.gradient, d.jacobian)
    following = eqx.tree_at(
        lambda q: (q.ready, q.previous_x, q.previous_gradient, q.previous_jacobian), following, here
    )
    return eqx.tree_at(lambda q: q.quasi_newton, g, select(enabled, following, memory))


def bfgs_matrix(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """``sigma I + V V' - U U'``, and whether it is positive definite."""
    v, u, sound = _bfgs(steps, changes, present, sigma)
    return sigma * jnp.eye(v.shape[0], dtype=v.dtype) + _symmetric(v @ v.T - u.T @ u), sound


def bfgs_columns(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[LowRankMatrix, Bool[Array, ""]]:
    """As `bfgs_matrix`, not written out."""
    v, u, sound = _bfgs(steps, changes, present, sigma)
    signs = where(present, 1.0, 0.0).astype(v.dtype)
    diagonal = jnp.full(v.shape[0], sigma)
    return LowRankMatrix(diagonal, jnp.concatenate([v, u.T], axis=1), jnp.concatenate([signs, -signs])), sound


def _bfgs(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[Float[Array, "n k"], Float[Array, "k n"], Bool[Array, ""]]:
    """V, U' and whether the matrix is positive definite (Byrd, Nocedal and Schnabel 1994, theorem 2.3).

    ``V = Y D^(-1/2)``, ``U = (sigma S + V R') J^(-T)`` with ``R = L D^(-1/2)`` and ``J J' = sigma S'S + R R'``.
    """
    products = steps.T @ changes
    curvature = jnp.diag(products)
    root = jnp.sqrt(where(present & (curvature > 0), curvature, 1.0))
    v, r = changes / root, jnp.tril(products, -1) / root
    middle = sigma * (steps.T @ steps) + r @ r.T + jnp.diag(where(present, 0.0, 1.0).astype(root.dtype))
    factor = jnp.linalg.cholesky(middle)
    sound = jnp.all(~present | (curvature > 0)) & jnp.all(jnp.isfinite(factor))
    u = solve_triangular(factor, (sigma * steps + v @ r.T).T, lower=True)
    return v, u, sound


def sr1_matrix(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """``sigma I + W Z^-1 W'``, and its soundness."""
    w, inverse, sound = _sr1(steps, changes, present, sigma)
    return sigma * jnp.eye(w.shape[0], dtype=w.dtype) + _symmetric((w * inverse) @ w.T), sound


def sr1_columns(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[LowRankMatrix, Bool[Array, ""]]:
    """As `sr1_matrix`, not written out."""
    w, inverse, sound = _sr1(steps, changes, present, sigma)
    columns = w * jnp.sqrt(jnp.abs(inverse))
    # Absent pairs are mixed into no eigenvector but their own.
    signs = where(jnp.any(columns != 0, axis=0), jnp.sign(inverse), 0.0)
    return LowRankMatrix(jnp.full(w.shape[0], sigma), columns, signs), sound


def _sr1(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[Float[Array, "n k"], Float[Array, " k"], Bool[Array, ""]]:
    """The columns ``W Q`` and the inverse eigenvalues of ``Z = Q diag Q'``; and whether these are sound.

    ``W = Y - sigma S``, ``Z = D + L + L' - sigma S'S`` (Byrd, Nocedal and Schnabel 1994, theorem 5.1).
    """
    products = steps.T @ changes
    lower = jnp.tril(products, -1)
    middle = jnp.diag(jnp.diag(products)) + lower + lower.T - sigma * (steps.T @ steps)
    # Absent pairs get an eigenvalue in the midst of the others.
    midst = jnp.sqrt(jnp.sum(middle * middle) / jnp.maximum(jnp.sum(present), 1))
    middle = middle + jnp.diag(where(present, 0.0, where(midst > 0, midst, 1.0)))
    values, vectors = jnp.linalg.eigh(middle)
    size = jnp.abs(values)
    sound = jnp.min(size) > SMALLEST_RATIO * jnp.max(size)
    w = (changes - sigma * steps) @ vectors
    inverse = where(sound, 1.0 / where(sound, values, 1.0), 0.0)
    return w, inverse, sound


def _initial(step: Float[Array, " n"], change: Float[Array, " n"], o: Numbers, choices: Choices) -> Float[Array, ""]:
    """Scale of the first matrix from the newest pair."""
    if choices.limited_memory_initialization == "constant":
        return o.limited_memory_init_val
    tiny = jnp.finfo(step.dtype).tiny
    product = jnp.abs(step @ change)
    first = product / jnp.maximum(step @ step, tiny)
    second = change @ change / jnp.maximum(product, tiny)
    sigma = {
        "scalar1": first,
        "scalar2": second,
        "scalar3": 0.5 * (first + second),
        "scalar4": jnp.sqrt(first * second),
    }[choices.limited_memory_initialization]
    return jnp.clip(sigma, o.limited_memory_init_val_min, o.limited_memory_init_val_max)


def _curved(step: Float[Array, " n"], change: Float[Array, " n"]) -> Bool[Array, ""]:
    sizes = jnp.sqrt(jnp.sum(step * step)) * jnp.sqrt(jnp.sum(change * change))
    return step @ change > jnp.sqrt(jnp.finfo(step.dtype).eps) * sizes


def _appended(columns, newest):
    """The oldest column makes room."""
    newest = jnp.broadcast_to(jnp.asarray(newest, columns.dtype), columns.shape[:-1])
    return jnp.concatenate([columns[..., 1:], newest[..., None]], axis=-1)


def _symmetric(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return 0.5 * (a + a.T)
