"""Inertia correction: which multiples of the identity are added to W and to the zero block, and when.

Waechter and Biegler 2006, section 3.1 (Algorithm IC), with Ipopt's detection of structurally degenerate Hessians and
Jacobians: while it is not known whether one of them is singular by structure, the first singular systems are used as a test.
"""

import dataclasses
import enum

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._choose import select, where
from .._records import entry
from .options import Numbers


TRIALS_BEFORE_DEGENERATE = 3


class Structure(enum.IntEnum):
    """What is known of the structure of a block of the matrix."""

    UNKNOWN = 0
    REGULAR = 1
    DEGENERATE = 2


class Test(enum.IntEnum):
    """How a system of unknown structure is perturbed to find out about it."""

    NO_TEST = 0
    PLAIN = 1
    WITH_DC = 2
    WITH_DW = 3
    WITH_BOTH = 4


class Perturbation(eqx.Module):
    """``dw`` on the Hessian, ``dc`` on the rows, and the memory of what earlier systems needed."""

    figures: Float[Array, " 3"]
    known: Int[Array, " 4"]
    escalated: Bool[Array, ""]  # dw was raised for the present system

    dw = entry("figures", 0)
    dc = entry("figures", 1)
    last_dw = entry("figures", 2)
    hessian = entry("known", 0)  # a `Structure`
    jacobian = entry("known", 1)
    trials = entry("known", 2)
    test = entry("known", 3)  # a `Test`

    @staticmethod
    def fresh(dtype) -> "Perturbation":
        return Perturbation(jnp.zeros(3, dtype), jnp.zeros(4, int), jnp.array(False))


class _Rung(eqx.Module):
    """A perturbation while the next one is worked out: its numbers apart."""

    dw: Float[Array, ""]
    dc: Float[Array, ""]
    last_dw: Float[Array, ""]
    hessian: Int[Array, ""]
    jacobian: Int[Array, ""]
    trials: Int[Array, ""]
    test: Int[Array, ""]

    @staticmethod
    def of(p: Perturbation) -> "_Rung":
        return _Rung(*(p.figures[k] for k in range(3)), *(p.known[k] for k in range(4)))

    def perturbation(self, escalated: Bool[Array, ""]) -> Perturbation:
        figures, known = (self.dw, self.dc, self.last_dw), (self.hessian, self.jacobian, self.trials, self.test)
        return Perturbation(jnp.stack(figures), jnp.stack(known), escalated)


def _concluded(p: _Rung) -> _Rung:
    """Draw the conclusion from the test that just succeeded."""
    unknown_h, unknown_j = p.hessian == Structure.UNKNOWN, p.jacobian == Structure.UNKNOWN
    with_dc, with_dw, both = p.test == Test.WITH_DC, p.test == Test.WITH_DW, p.test == Test.WITH_BOTH
    plain = p.test == Test.PLAIN
    counted = (with_dc & unknown_j) | (with_dw & unknown_h) | both
    trials = p.trials + counted
    enough = counted & (trials >= TRIALS_BEFORE_DEGENERATE)
    hessian = where(unknown_h & (plain | with_dc), Structure.REGULAR, p.hessian)
    jacobian = where(unknown_j & (plain | with_dw), Structure.REGULAR, p.jacobian)
    return dataclasses.replace(
        p,
        hessian=where(enough & (with_dw | both), Structure.DEGENERATE, hessian),
        jacobian=where(enough & (with_dc | both), Structure.DEGENERATE, jacobian),
        trials=trials,
    )


def _raised(dw: Float[Array, ""], last_dw: Float[Array, ""], o: Numbers) -> Float[Array, ""]:
    """The next rung of the ladder for ``dw``."""
    least = jnp.maximum(o.min_hessian_perturbation, last_dw * o.perturb_dec_fact)
    start = where(last_dw == 0, o.first_hessian_perturbation, least)
    far = (last_dw == 0) | (1e5 * last_dw < dw)
    return where(dw == 0, start, dw * where(far, o.perturb_inc_fact_first, o.perturb_inc_fact))


def row_perturbation(mu: Float[Array, ""], o: Numbers) -> Float[Array, ""]:
    return o.jacobian_regularization_value * mu**o.jacobian_regularization_exponent


def begin(given: Perturbation, mu: Float[Array, ""], o: Numbers, always_dc: bool) -> Perturbation:
    """Perturbation to try first on a new system."""
    p = _concluded(_Rung.of(given))
    unknown = (p.hessian == Structure.UNKNOWN) | (p.jacobian == Structure.UNKNOWN)
    first_test = where((p.jacobian != Structure.REGULAR) & always_dc, Test.WITH_DC, Test.PLAIN)
    dc = where((p.jacobian == Structure.DEGENERATE) | always_dc, row_perturbation(mu, o), 0.0)
    last_dw = where(p.dw > 0, p.dw, p.last_dw)
    climbing = p.hessian == Structure.DEGENERATE
    dw = where(climbing, _raised(jnp.zeros_like(p.dw), last_dw, o), 0.0)
    begun = dataclasses.replace(
        p,
        dw=dw,
        dc=dc,
        last_dw=where(climbing & ~(dw <= o.max_hessian_perturbation), 0.0, last_dw),
        test=where(unknown, first_test, Test.NO_TEST),
    )
    return begun.perturbation(jnp.array(False))


def following(
    given: Perturbation, singular: Bool[Array, ""], mu: Float[Array, ""], o: Numbers, always_dc: bool
) -> tuple[Perturbation, Bool[Array, ""]]:
    """Next perturbation after a ``singular`` system, or one with too many negative eigenvalues; False when there is none left.

    Of a singular system that is being tested, or whose rows are not perturbed yet, the rows come first. A ladder that ends is
    climbed once more from the bottom with the rows perturbed, if it ended for the inertia.
    """
    now, dc_value = _Rung.of(given), row_perturbation(mu, o)
    # After a singular system
    testing = (now.hessian == Structure.UNKNOWN) | (now.jacobian == Structure.UNKNOWN)
    plain, with_dc = now.test == Test.PLAIN, now.test == Test.WITH_DC
    first_dc = testing & plain & (now.jacobian == Structure.UNKNOWN)
    no_raise = first_dc | (~testing & ~((now.dc > 0) | given.escalated))
    drop_dc = testing & with_dc & (not always_dc)
    add_dc = no_raise | (testing & (now.test == Test.WITH_DW))
    next_test = where(
        plain, Test.WITH_DW, where(with_dc, Test.WITH_BOTH if always_dc else Test.WITH_DW, Test.WITH_BOTH)
    )
    next_test = where(first_dc, Test.WITH_DC, next_test)
    dependent = dataclasses.replace(
        now,
        dc=where(add_dc, dc_value, where(drop_dc, 0.0, now.dc)),
        test=where(testing, next_test, now.test),
    )
    p = select(singular, dependent, _concluded(now))
    no_raise = singular & no_raise
    # One rung up
    higher = _raised(p.dw, p.last_dw, o)
    fine = higher <= o.max_hessian_perturbation
    again = ~singular & ~fine & (p.dc == 0)
    # The ladder has ended for good in what is remembered, so it begins with its first rung.
    first = jnp.asarray(o.first_hessian_perturbation, p.dw.dtype)
    refined = first <= o.max_hessian_perturbation
    climbed = dataclasses.replace(
        p,
        dw=where(no_raise, p.dw, where(again, first, higher)),
        dc=where(again, dc_value, p.dc),
        last_dw=where(no_raise | fine, p.last_dw, 0.0),
        hessian=where(again & (p.hessian == Structure.DEGENERATE), Structure.REGULAR, p.hessian),
        test=where(again, Test.NO_TEST, p.test),
    )
    raised = ~no_raise & (fine | (again & refined))
    return climbed.perturbation(given.escalated | raised), no_raise | raised
