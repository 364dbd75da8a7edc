"""Newton steps on the exact optimality conditions from a solution of the interior-point method.

An interior point ends where complementarity is small, which leaves the variables of a nearly degenerate constraint wrong
by the square root of that. The conditions ``s = project(s - z)`` are piecewise smooth and have no such root: from there one
or two steps of a semismooth Newton method (Qi and Sun 1993) end at rounding errors, wherever the solution is regular.

Which piece the solution is on is guessed by the projection of ``s - z``, a comparison that depends on units. So where its step
does not lead to a solution, the next one is the affine-scaling step at the interior point. In the relation ``ds / s + dz / z =
-1`` slacks lose all of themselves where they are held, and multipliers where not (El-Bakry, Tapia and Zhang 1994): a comparison
of shares, which is free of units.
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg import matrix
from .._linalg.kkt import AbstractKKTSolver
from .._once import computed_once, only_where
from .balance import Balance, balance
from .judgement import Held, Level, judgement, probe_of
from .linearization import InScaledUnits, LinearizedFactor, LinearizedSolver, Pair, Rows, complementary_pair, relation
from .program import ConicProgram
from .system import Vector


MAX_STEPS = 5
ROUNDING = 100.0  # times the precision, where steps end
WEAK = 1e-6  # the share of an interior slack and its multiplier, left by both at a kink
SOLVED = 0.7  # the power of the precision that a solution may be short of it
PROMISING = 0.4  # the power of the precision below which a step has led to where the next ones end, if cones curve


class Exact(eqx.Module):
    """A point whose slacks and multipliers are exactly complementary, and whether it solves the program to rounding."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    pair: Pair
    defect: Float[Array, ""]
    solved: Bool[Array, ""]


def left_over(program: ConicProgram, x, y, pair: Pair) -> tuple[Vector, Float[Array, ""]]:
    """What is left of stationarity and of the rows, signs turned; and its size beside the terms that cancel in it."""
    h = program.right_side()
    rows, image, curvature = program.rows(x), program.A @ x, program.curvature(x)
    pull = matrix.transposed_times(program.A, y) + program.rows_transposed(pair.z)
    left = Vector(-(curvature + program.c + pull), program.b - image, h - rows - pair.s)

    def share(part, *terms):
        largest = jnp.max(jnp.abs(jnp.concatenate(terms)), initial=0.0)
        return jnp.max(jnp.abs(part), initial=0.0) / jnp.where(largest > 0, largest, 1.0)

    shares = (
        share(left.x, program.c, curvature, y, pair.z),
        share(left.y, program.b, x),
        share(left.z, h, x, pair.s),
    )
    return left, jnp.max(jnp.stack(shares))


def _difference(program: ConicProgram, rows: Rows, s, z, affine: Bool[Array, ""]) -> Float[Array, " size"]:
    """That of the complementary pair next to what a step has led to."""
    frame = rows.frame
    a, b = frame.a, frame.b
    s, z = (frame.rotate(v[:, None])[:, 0] for v in (s, z))
    # What a step leaves of a held slack or of a free multiplier is rounding, whatever the size of the other. After an affine
    # step the one that has kept the larger share of itself is the one that stays.
    free = jnp.where(affine, b * s > a * z, a == 1.0)
    if program.cones.polyhedral:
        v = jnp.where(free, s, -z)
    else:
        held = jnp.where(affine, ~free, b == 1.0)
        v = jnp.where(affine & ((s > z) == free), s - z, jnp.where(free, s, jnp.where(held, -z, s - z)))
    return frame.restore(v[:, None])[:, 0]


def _undecided(program: ConicProgram, pair: Pair, interior: Pair) -> Pair:
    """The pair with both numbers zero in the inequalities that are weakly active: these are half held."""
    masks = []
    for cone, *parts in zip(
        program.cones.cones, *map(program.cones.split, (pair.s, pair.z, interior.s, interior.z)), strict=True
    ):
        s, z, of_s, of_z = parts
        weak = (s < WEAK * of_s) & (z < WEAK * of_z) if cone.blocks is None else jnp.zeros(s.shape, bool)
        masks.append(weak)
    if not masks:
        return pair
    weak = jnp.concatenate(masks)
    return Pair(jnp.where(weak, 0.0, pair.s), jnp.where(weak, 0.0, pair.z))


class Here(NamedTuple):
    """Where a polish has come to."""

    x: Float[Array, " n"]
    y: Float[Array, " p"]
    pair: Pair
    left: Vector  # of the conditions there


class Trip(NamedTuple):
    """What the loop of a polish carries."""

    here: Here
    best: Exact
    origin: Pair  # the complementary one next to the interior point
    affine: Bool[Array, ""]  # the next step is the affine-scaling one
    tried: Bool[Array, ""]  # that has been made
    judgement: tuple[Any, Int[Array, ""]]  # what the matrix of derivatives has told, and the `Level` to be asked
    going: Bool[Array, ""]
    count: Int[Array, ""]


def polish(
    program: ConicProgram,
    point: Vector,
    s: Float[Array, " size"],
    solver: AbstractKKTSolver,
    wanted: Bool[Array, ""],
    prepared: PyTree,
    nothing: Held | None,
) -> tuple[Exact, Held | None]:
    """The first point that solves the program to rounding, or the best one on the way. ``s``: the slacks of the interior
    point.

    Given ``nothing`` to begin with, the system of derivatives there is factorised and judged too. It is a trip through the same
    loop, since its factorisation is what takes long to compile. So is the first projection of all, which follows no step.
    """
    linearized = LinearizedSolver(solver)
    eps = jnp.finfo(point.x.dtype).eps
    units = Balance.none(s)
    if not program.cones.polyhedral:
        units = balance(program, s, point.z)
        program, point, s = units.program(program), units.point(point), units.rows * s
    interior = Pair(s, point.z)
    probe, never = probe_of(point), jnp.array(False)

    def chosen(which, a, b):
        return jax.tree.map(lambda a, b: jnp.where(which, a, b), a, b)

    def step(carry: Trip, value):
        """What a step leads to: a point, the difference of its pair, what was judged and the next level of that."""
        judging, singular, affine = carry.judgement[1] > Level.SETTLED, None, carry.affine
        # The first pair of all is where the first step is linearised; what that has to make up for is left by the interior.
        near = chosen(affine | (carry.count == 0), carry.origin, carry.here.pair)
        if value[1] is not None:
            near = chosen(judging, carry.best.pair, near)
        at = chosen(affine, interior, near)
        if value[1] is not None:
            at, singular = (
                chosen(judging, _undecided(program, near, interior), at),
                carry.judgement[1] == Level.SINGULAR,
            )
        if not program.cones.symmetric:
            at = dataclasses.replace(at, near=near)
        at = computed_once(at, carry.count < -1)
        rows = linearized.factorize(program, at, prepared, singular)
        left, now = carry.here.left, carry.here.pair
        # To where slacks and multipliers are complementary to first order.
        share = jnp.where(affine, 0.5, 0.0)
        target = relation(rows, share * interior.s - (now.s + left.z), share * interior.z - now.z)
        right = Vector(left.x, left.y, target)
        if value[1] is not None:
            right = chosen(judging, probe, right)
        found = linearized.solve(LinearizedFactor(InScaledUnits(program), rows, False), right)
        x, y, z = carry.here.x + found.solution.x, carry.here.y + found.solution.y, now.z + found.solution.z
        difference = _difference(program, rows, program.right_side() - program.rows(x), z, affine)
        judged, level = value[1], carry.judgement[1]
        if judged is not None:
            confirmed = None if program.cones.polyhedral else carry.best.defect <= eps**SOLVED
            judged, level = judgement(rows, found, probe, level, judged, confirmed)
        return (x, y, difference), judged, level

    def body(carry: Trip) -> Trip:
        first, judging, affine = carry.count < 0, carry.judgement[1] > Level.SETTLED, carry.affine
        value = (carry.here.x, carry.here.y, interior.s - interior.z), carry.judgement[0], carry.judgement[1]
        (x, y, difference), judged, level = only_where(~first, lambda value: step(carry, value), value)
        pair = complementary_pair(program.cones, difference)
        now = chosen(first, interior, pair)
        left, new = left_over(program, x, y, now)
        solved = ~first & ~affine & (new <= ROUNDING * eps)
        current = Exact(x=x, y=y, pair=pair, defect=jnp.where(first, jnp.inf, new), solved=solved)
        best = chosen(first | (~judging & (new < carry.best.defect)), current, carry.best)
        going = ~solved & (carry.count + 1 < MAX_STEPS) & ~judging
        if judged is not None:
            level = jnp.where(judging, level, jnp.where(going, Level.SETTLED, Level.REGULAR))
        tried = carry.tried | affine
        promising = never if program.cones.polyhedral else new < eps**PROMISING
        origin = chosen(first, pair, carry.origin)
        return Trip(
            here=Here(x, y, now, left),
            best=best,
            origin=origin,
            affine=~first & ~tried & ~promising & going,
            tried=tried,
            judgement=(judged, level),
            going=going | (level > Level.SETTLED),
            count=carry.count + 1,
        )

    judged = None if nothing is None else (nothing.rows, nothing.report)
    none = jnp.zeros((), int)
    best = Exact(x=point.x, y=point.y, pair=interior, defect=jnp.full_like(units.cost, jnp.inf), solved=never)
    start = Trip(
        here=Here(point.x, point.y, interior, probe),
        best=best,
        origin=interior,
        affine=never,
        tried=never,
        judgement=(judged, none),
        going=wanted,
        count=none - 1,
    )
    last = lax.while_loop(lambda carry: carry.going, body, start)
    best, judged = last.best, last.judgement[0]
    pair = Pair(best.pair.s / units.rows, units.rows * best.pair.z / units.cost)
    exact = dataclasses.replace(best, solved=best.defect <= eps**SOLVED, y=best.y / units.cost, pair=pair)
    return exact, None if judged is None else Held(units, None, _undecided(program, best.pair, interior), *judged)
