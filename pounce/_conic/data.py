"""A convex program as the user states it, and its form for the solver."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._cone.layout import Layout
from .._cone.nonnegative import Nonnegative
from .._cone.product import ConeProduct
from .program import ConicProgram


NO_BOUND = 1e20


class ConicData(eqx.Module):
    """``min 1/2 x'Px + c'x  s.t.  Ax = b,  h - Gx in K,  lb <= x <= ub``; what is None is not there.

    ``P`` is symmetric and rows of ``G`` are in the order of the cones of the solver. A bound or a right-hand side of an
    inequality of magnitude 1e20 or more is absent. All of it is data: traced, batched and differentiated.
    """

    P: Float[Array, "n n"] | None
    c: Float[Array, " n"]
    A: Float[Array, "p n"] | None
    b: Float[Array, " p"] | None
    G: Float[Array, "m n"] | None
    h: Float[Array, " m"] | None
    lb: Float[Array, " n"] | None
    ub: Float[Array, " n"] | None


class Presolved(eqx.Module):
    """The program for the solver, and what takes its solution back."""

    program: ConicProgram
    fixed: Bool[Array, " n"] | None
    value: Float[Array, " n"] | None


def presolve(data: ConicData, layout: Layout) -> Presolved:
    """Masks for bounds and rows that are absent; variables with equal bounds are moved to the right-hand sides."""
    c = data.c
    n, dtype = c.shape[0], c.dtype
    A = jnp.zeros((0, n), dtype) if data.A is None else data.A
    b = jnp.zeros((0,), dtype) if data.b is None else data.b
    G = jnp.zeros((0, n), dtype) if data.G is None else data.G
    h = jnp.zeros((0,), dtype) if data.h is None else data.h
    P, constant = data.P, jnp.zeros((), dtype)
    # Only a row of the orthant can be absent.
    counted = h[: layout.nonnegative] < NO_BOUND
    cones = layout.cones(counted)
    present = jnp.concatenate([counted, jnp.ones(h.shape[0] - layout.nonnegative, bool)])
    G, h = jnp.where(present[:, None], G, 0.0), jnp.where(present, jnp.maximum(h, -NO_BOUND), 0.0)
    has_lower = None if data.lb is None else data.lb > -NO_BOUND
    has_upper = None if data.ub is None else data.ub < NO_BOUND
    lower = None if has_lower is None else jnp.where(has_lower, jnp.minimum(data.lb, NO_BOUND), 0.0)
    upper = None if has_upper is None else jnp.where(has_upper, jnp.maximum(data.ub, -NO_BOUND), 0.0)
    fixed = value = None
    if has_lower is not None and has_upper is not None:
        fixed = has_lower & has_upper & (lower == upper)
        # Half of each bound, so that a derivative is shared between them.
        value = jnp.where(fixed, 0.5 * (lower + upper), 0.0)
        has_lower, has_upper = has_lower & ~fixed, has_upper & ~fixed
        constant = c @ value
        b, h = b - A @ value, h - jnp.where(present, G @ value, 0.0)
        c = jnp.where(fixed, 0.0, c)
        if P is not None:
            moved = P @ value
            constant = constant + 0.5 * (value @ moved)
            c = c + jnp.where(fixed, 0.0, moved)
            P = jnp.where(fixed[:, None] | fixed, 0.0, P) + jnp.diag(fixed.astype(dtype))
        A, G = jnp.where(fixed, 0.0, A), jnp.where(fixed, 0.0, G)
        lower, upper = jnp.where(fixed, 0.0, lower), jnp.where(fixed, 0.0, upper)
    masks = [mask for mask in (has_lower, has_upper) if mask is not None]
    boxes = (Nonnegative(jnp.concatenate(masks)),) if masks else ()
    program = ConicProgram(
        P=P,
        c=c,
        A=A,
        b=b,
        G=G,
        h=h,
        lower=lower,
        upper=upper,
        lower_mask=None if has_lower is None else has_lower.astype(dtype),
        upper_mask=None if has_upper is None else has_upper.astype(dtype),
        constant=constant,
        cones=ConeProduct((*cones, *boxes)),
    )
    return Presolved(program, fixed, value)
