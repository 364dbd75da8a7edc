"""Inertia correction: which multiples of the identity are added to W and to the zero block, and when.

Waechter and Biegler 2006, section 3.1 (Algorithm IC), with Ipopt's detection of structurally degenerate Hessians and
Jacobians: while it is not known whether one of them is singular by structure, the first singular systems are used as a test.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .options import Numbers


UNKNOWN, REGULAR, DEGENERATE = 0, 1, 2
NO_TEST, PLAIN, WITH_DC, WITH_DW, WITH_BOTH = 0, 1, 2, 3, 4
TRIALS_BEFORE_DEGENERATE = 3


class Perturbation(eqx.Module):
    """``dw`` on the Hessian, ``dc`` on the rows, and the memory of what earlier systems needed."""

    dw: Float[Array, ""]
    dc: Float[Array, ""]
    last_dw: Float[Array, ""]
    hessian: Int[Array, ""]  # UNKNOWN, REGULAR or DEGENERATE
    jacobian: Int[Array, ""]
    trials: Int[Array, ""]
    test: Int[Array, ""]
    escalated: Bool[Array, ""]  # dw was raised for the present system

    @staticmethod
    def fresh(dtype) -> "Perturbation":
        zero, none = jnp.zeros((), dtype), jnp.array(0)
        return Perturbation(zero, zero, zero, none, none, none, none, jnp.array(False))


def _replace(p: Perturbation, **changes) -> Perturbation:
    names = list(changes)
    return eqx.tree_at(lambda q: [getattr(q, name) for name in names], p, [changes[name] for name in names])


def _concluded(p: Perturbation) -> Perturbation:
    """Draw the conclusion from the test that just succeeded."""
    unknown_h, unknown_j = p.hessian == UNKNOWN, p.jacobian == UNKNOWN
    t = p.test
    counted = ((t == WITH_DC) & unknown_j) | ((t == WITH_DW) & unknown_h) | (t == WITH_BOTH)
    trials = p.trials + counted
    enough = counted & (trials >= TRIALS_BEFORE_DEGENERATE)
    h_regular = unknown_h & ((t == PLAIN) | (t == WITH_DC))
    j_regular = unknown_j & ((t == PLAIN) | (t == WITH_DW))
    h_degenerate = enough & ((t == WITH_DW) | (t == WITH_BOTH))
    j_degenerate = enough & ((t == WITH_DC) | (t == WITH_BOTH))
    return _replace(
        p,
        hessian=where(h_degenerate, DEGENERATE, where(h_regular, REGULAR, p.hessian)),
        jacobian=where(j_degenerate, DEGENERATE, where(j_regular, REGULAR, p.jacobian)),
        trials=trials,
    )


def _raised(p: Perturbation, o: Numbers) -> tuple[Perturbation, Bool[Array, ""]]:
    """The next rung of the ladder for ``dw``; False when the ladder ends."""
    start = where(
        p.last_dw == 0,
        o.first_hessian_perturbation,
        jnp.maximum(o.min_hessian_perturbation, p.last_dw * o.perturb_dec_fact),
    )
    far = (p.last_dw == 0) | (1e5 * p.last_dw < p.dw)
    higher = p.dw * where(far, o.perturb_inc_fact_first, o.perturb_inc_fact)
    dw = where(p.dw == 0, start, higher)
    fine = dw <= o.max_hessian_perturbation
    return (
        _replace(p, dw=dw, last_dw=where(fine, p.last_dw, 0.0), escalated=p.escalated | fine),
        fine,
    )


def row_perturbation(mu: Float[Array, ""], o: Numbers) -> Float[Array, ""]:
    return o.jacobian_regularization_value * mu**o.jacobian_regularization_exponent


def begin(p: Perturbation, mu: Float[Array, ""], o: Numbers, always_dc: bool) -> Perturbation:
    """Perturbation to try first on a new system."""
    p = _concluded(p)
    unknown = (p.hessian == UNKNOWN) | (p.jacobian == UNKNOWN)
    first_test = where((p.jacobian != REGULAR) & always_dc, WITH_DC, PLAIN)
    dc = where((p.jacobian == DEGENERATE) | always_dc, row_perturbation(mu, o), 0.0)
    p = _replace(
        p,
        last_dw=where(p.dw > 0, p.dw, p.last_dw),
        test=where(unknown, first_test, NO_TEST),
        dc=dc,
        dw=jnp.zeros_like(p.dw),
        escalated=jnp.array(False),
    )
    climbed, _ = _raised(p, o)
    return _replace(select(p.hessian == DEGENERATE, climbed, p), escalated=jnp.array(False))


def for_singularity(
    p: Perturbation, mu: Float[Array, ""], o: Numbers, always_dc: bool
) -> tuple[Perturbation, Bool[Array, ""]]:
    """Next perturbation after a singular system; False when there is none left."""
    dc_value = row_perturbation(mu, o)
    testing = (p.hessian == UNKNOWN) | (p.jacobian == UNKNOWN)
    t = p.test
    first_dc = testing & (t == PLAIN) & (p.jacobian == UNKNOWN)
    known_first_dc = ~testing & ~((p.dc > 0) | p.escalated)
    no_raise = first_dc | known_first_dc
    drop_dc = testing & (t == WITH_DC) & (not always_dc)
    add_dc = no_raise | (testing & (t == WITH_DW))
    next_test = where(
        first_dc,
        WITH_DC,
        where(t == PLAIN, WITH_DW, where(t == WITH_DC, WITH_BOTH if always_dc else WITH_DW, WITH_BOTH)),
    )
    p = _replace(
        p,
        dc=where(add_dc, dc_value, where(drop_dc, 0.0, p.dc)),
        test=where(testing, next_test, t),
    )
    climbed, fine = _raised(p, o)
    return select(no_raise, p, climbed), no_raise | fine


def for_wrong_inertia(p: Perturbation, mu: Float[Array, ""], o: Numbers) -> tuple[Perturbation, Bool[Array, ""]]:
    """Next perturbation after too many negative eigenvalues; False when there is none left."""
    p = _concluded(p)
    climbed, fine = _raised(p, o)
    restart = _replace(
        climbed,
        dc=row_perturbation(mu, o),
        dw=jnp.zeros_like(p.dw),
        test=jnp.array(NO_TEST),
        hessian=where(climbed.hessian == DEGENERATE, REGULAR, climbed.hessian),
    )
    restarted, restarted_fine = _raised(restart, o)
    again = ~fine & (p.dc == 0)
    return select(again, restarted, climbed), fine | (again & restarted_fine)
