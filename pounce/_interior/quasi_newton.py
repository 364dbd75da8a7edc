"""Limited-memory quasi-Newton Hessians (Byrd, Nocedal and Schnabel 1994; Nocedal and Wright 2006, section 7.2).

The compact forms are written out as a dense matrix, which is all the linear solvers take. When to skip a pair or to start
over follows Ipopt's `LimMemQuasiNewtonUpdater`. Pairs are columns, the newest last; absent pairs are zero columns.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float

from .._linalg.matrix import Matrix, plus_diagonal
from .._linalg.sparse import SparseMatrix
from .._problem.nlp import Derivatives
from .iterate import Iterate, View, maximum_norm, select
from .options import Choices, Numbers
from .state import Globalization, Pairs, QuasiNewton


SMALLEST_STEP = 100.0  # times machine precision: shorter steps form no pair
SMALLEST_RATIO = 1e-12  # of the eigenvalues of the SR1 middle matrix


def fresh(n: int, m: int, o: Numbers, choices: Choices) -> QuasiNewton | None:
    """Memory without any pair; None with exact Hessians."""
    if choices.hessian_approximation == "exact":
        return None
    k, dtype = choices.limited_memory_max_history, o.limited_memory_init_val.dtype
    no, columns, x = jnp.array(False), jnp.zeros((n, k), dtype), jnp.zeros(n, dtype)
    pairs = Pairs(columns, columns, jnp.zeros(k, bool), jnp.zeros((n, n), dtype))
    backup = pairs if choices.limited_memory_update_type == "sr1" else None
    return cleared(QuasiNewton(pairs, backup, jnp.array(0), no, x, x, jnp.zeros((m, n), dtype)), o)


def cleared(memory: QuasiNewton, o: Numbers) -> QuasiNewton:
    """The memory with nothing in it: the next point it sees is its first."""
    blank = jax.tree.map(jnp.zeros_like, memory)
    start = o.limited_memory_init_val * jnp.eye(memory.previous_x.size, dtype=memory.previous_x.dtype)
    blank = eqx.tree_at(lambda q: q.pairs.matrix, blank, start)
    return blank if blank.backup is None else eqx.tree_at(lambda q: q.backup.matrix, blank, start)


def hessian(memory: QuasiNewton | None, d: Derivatives, view: View) -> Matrix:
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
    ``regularization`` is the ``dw`` of the step that led here. After too many skipped pairs the memory starts over.
    """
    memory = g.quasi_newton
    if memory is None:
        return g
    over = ~memory.ready | (memory.skipped >= o.limited_memory_max_skipping)
    x, free = iterate.primal[: view.n], view.active[: view.n]
    step = jnp.where(free, x - memory.previous_x, 0.0)
    objective = jnp.where(view.restoring, 0.0, d.gradient - memory.previous_gradient)
    assert not isinstance(d.jacobian, SparseMatrix)
    change = jnp.where(free, objective + iterate.rows @ (d.jacobian - memory.previous_jacobian), 0.0)
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
    if choices.limited_memory_update_type == "bfgs":
        matrix, sound = bfgs_matrix(steps, full, present, sigma)
        sound = sound & _curved(step, newest)
    else:
        # With scalar1 the middle matrix of a lone pair would be zero.
        lone = jnp.sum(present) == 1
        matrix, sound = sr1_matrix(steps, full, present, jnp.where(lone, o.limited_memory_init_val, sigma))
    taken = sound & (maximum_norm(step) >= SMALLEST_STEP * jnp.finfo(step.dtype).eps) & jnp.all(jnp.isfinite(matrix))
    pairs = select(taken, Pairs(steps, changes, present, matrix), old)
    skipped = jnp.where(taken & clean, 0, memory.skipped + 1)
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
    """``sigma I + V V' - U U'`` (Byrd, Nocedal and Schnabel 1994, theorem 2.3), and whether it is positive definite.

    ``V = Y D^(-1/2)``, ``U = (sigma S + V R') J^(-T)`` with ``R = L D^(-1/2)`` and ``J J' = sigma S'S + R R'``.
    """
    products = steps.T @ changes
    curvature = jnp.diag(products)
    root = jnp.sqrt(jnp.where(present & (curvature > 0), curvature, 1.0))
    v, r = changes / root, jnp.tril(products, -1) / root
    middle = sigma * (steps.T @ steps) + r @ r.T + jnp.diag(jnp.where(present, 0.0, 1.0).astype(root.dtype))
    factor = jnp.linalg.cholesky(middle)
    sound = jnp.all(~present | (curvature > 0)) & jnp.all(jnp.isfinite(factor))
    u = solve_triangular(factor, (sigma * steps + v @ r.T).T, lower=True)
    return sigma * jnp.eye(v.shape[0], dtype=v.dtype) + _symmetric(v @ v.T - u.T @ u), sound


def sr1_matrix(
    steps: Float[Array, "n k"], changes: Float[Array, "n k"], present: Bool[Array, " k"], sigma: Float[Array, ""]
) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """``sigma I + W Z^-1 W'`` with ``W = Y - sigma S``, ``Z = D + L + L' - sigma S'S`` (theorem 5.1), and its soundness."""
    products = steps.T @ changes
    lower = jnp.tril(products, -1)
    middle = jnp.diag(jnp.diag(products)) + lower + lower.T - sigma * (steps.T @ steps)
    # Absent pairs get an eigenvalue in the midst of the others.
    midst = jnp.sqrt(jnp.sum(middle * middle) / jnp.maximum(jnp.sum(present), 1))
    middle = middle + jnp.diag(jnp.where(present, 0.0, jnp.where(midst > 0, midst, 1.0)))
    values, vectors = jnp.linalg.eigh(middle)
    size = jnp.abs(values)
    sound = jnp.min(size) > SMALLEST_RATIO * jnp.max(size)
    w = (changes - sigma * steps) @ vectors
    inverse = jnp.where(sound, 1.0 / jnp.where(sound, values, 1.0), 0.0)
    return sigma * jnp.eye(w.shape[0], dtype=w.dtype) + _symmetric((w * inverse) @ w.T), sound


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
