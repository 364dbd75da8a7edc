"""Whether derivatives of solutions are right whatever the units.

    python -m benchmarks.units [--family nlp lp qp soc exp psd] [--seed 0] [--decades 6] [--list-wrong]

300 random programs with known answers, their cost, rows and variables in units between 1e-6 and 1e6 (`units_nonlinear`,
`units_convex`), solved at the default tolerance. Derivatives of x and of all multipliers with respect to all linear data (and
P) are compared with those of the well-scaled program, in its units, to 1e-5 of the largest entry. Beside them 60 degenerate
programs, which have no derivative: kinks (a row, bound or cone that is active with no multiplier), rows or cones given
twice, flat directions (in linear programs: ties), more active constraints than variables.

A program is ``right``; right but ``flagged`` (the solution says that it is not differentiable); ``wrong`` and flagged;
``silent``: wrong, and called differentiable; or ``unsolved`` by its own status. ``x off``: how many of the silent ones have an x
that is itself off by more than 1e-5. ``modes``: how many derivatives in forward and in reverse mode differ by more than 1e-5.
Degenerate ones (``d.``) have to be flagged, else they are silent, unless the solver ends ``elsewhere``, at another local
solution that is regular, with the derivative there; no entry of their derivative, in good units, may exceed
1e8; ``largest`` is the largest.

In the family ``nlp any`` units are drawn without regard to what the absolute tolerances of the method resolve: there wrong
answers are to be expected, and only silence counts. ``--decades 0`` is a check of the truth: all are right there.
"""

import argparse
import os
import sys
import time
import warnings


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from . import units_convex, units_nonlinear
from .units_program import Program, columns, flat


AGREE = 1e-5
FAR = 1e-2  # from the known solution of a nonlinear program: it may be another one, where the derivative is another
BOUND = 1e8  # of the derivative of a degenerate program, in good units
COUNTS = {
    "nlp": (60, 12),
    "nlp any": (40, 8),
    "lp": (40, 8),
    "qp": (40, 8),
    "soc": (40, 8),
    "exp": (40, 8),
    "psd": (40, 8),
}
OUTCOMES = ("right", "flagged", "wrong", "silent", "x off", "unsolved")
DEGENERATE = ("flagged", "silent", "elsewhere", "unsolved", "unbounded")


def module(family: str):
    """Where the programs of a family come from."""
    return units_nonlinear if family.startswith("nlp") else units_convex


def kinds(family: str) -> list[str]:
    """The kind of each program of a family: regular ones first."""
    regular, degenerate = COUNTS[family]
    found = module(family).KINDS
    found = found[family] if isinstance(found, dict) else found
    return [""] * regular + [found[k % len(found)] for k in range(degenerate)]


def program(seed: int, family: str, index: int, decades: float = 6.0) -> Program:
    """One program, by itself."""
    random = np.random.RandomState([seed, list(COUNTS).index(family), index])
    return module(family).make(random, family, kinds(family)[index], decades)


def answers(family: str, programs: list[Program]) -> list[tuple]:
    """For each: answer, derivative in reverse and in forward mode, all in good units; is it solved, and called differentiable.

    Both derivatives come from one linearisation, as `jax.jacrev` and `jax.jacfwd` have it, so that one solve is compiled.
    """
    import jax
    import jax.flatten_util
    import jax.numpy as jnp

    from pounce._compile import compiler_options

    solve = module(family).solver(family)

    def both(data, fixed):
        def flattened(data):
            found, solved, differentiable = solve(data, fixed)
            return jnp.concatenate([jnp.ravel(value) for value in found.values()]), (solved, differentiable)

        vector, linear, said = jax.linearize(flattened, data, has_aux=True)
        start, unravel = jax.flatten_util.ravel_pytree(data)
        forward = jax.vmap(lambda rate: linear(unravel(rate)), out_axes=1)(jnp.eye(start.size))
        transposed = jax.linear_transpose(linear, data)
        reverse = jax.vmap(lambda weight: jax.flatten_util.ravel_pytree(transposed(weight)[0])[0])(jnp.eye(vector.size))
        return vector, reverse, forward, *said

    run = jax.jit(jax.vmap(both), compiler_options=compiler_options())
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[(p.in_units(), p.fixed) for p in programs])
    results = []
    for k, (vector, *jacobians, solved, differentiable) in enumerate(zip(*map(np.asarray, run(*stacked)))):
        p = programs[k]
        outer = flat({name: p.answer_units[name] * np.ones_like(value) for name, value in p.answer.items()})
        inner = {name: p.data_units[name] * np.ones_like(value) for name, value in p.data.items()}
        # Leaves of a dictionary come in the order of its sorted names.
        at, ordered = columns({name: inner[name] for name in sorted(inner)}), []
        for jacobian in jacobians:
            ordered.append(
                np.concatenate([jacobian[:, at[name]] for name in inner], axis=1) * flat(inner) / outer[:, None]
            )
        results.append((vector / outer, *ordered, bool(solved), bool(differentiable)))
    return results


def difference(program: Program, found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Of the derivatives of x and of the multipliers: the largest error relative to the largest entry."""
    n = program.answer["x"].size
    whole = np.abs(truth).max()
    return tuple(
        float(np.nan_to_num(np.abs(found[part] - truth[part]).max() / (np.abs(truth[part]).max() or whole), nan=np.inf))
        for part in (slice(0, n), slice(n, None))
    )


def judged(p: Program, found: tuple, elsewhere=lambda p, vector: None) -> tuple[str, tuple[float, float], float]:
    """The outcome of a regular program, the errors of its derivative, and that of x."""
    vector, jacobian, _, solved, differentiable = found
    assert p.truth is not None
    errors = difference(p, jacobian, p.truth)
    n = p.answer["x"].size
    off = float(np.nan_to_num(np.abs(vector[:n] - p.answer["x"]).max(), nan=np.inf))
    other = elsewhere(p, vector) if solved and off > FAR else None
    if other is not None:
        errors, off = difference(other, jacobian, other.truth), float(np.abs(vector[:n] - other.answer["x"]).max())
    if not solved:
        return "unsolved", errors, off
    if max(errors) <= AGREE:
        return ("right" if differentiable else "flagged"), errors, off
    return ("silent" if differentiable else "wrong"), errors, off


def regular_elsewhere(p: Program, found: tuple, elsewhere) -> bool:
    """Whether a solver has found another local solution of a degenerate program, a regular one, and the derivative there."""
    other = elsewhere(p, found[0])
    return other is not None and max(difference(other, found[1], other.truth)) <= AGREE


def measure(family: str, seed: int, decades: float) -> tuple[dict, dict, list[str]]:
    """Counts of the regular and of the degenerate programs of a family, and what is to be said of silent ones."""
    programs = [program(seed, family, k, decades) for k in range(len(kinds(family)))]
    found = answers(family, programs)
    regular, degenerate = dict.fromkeys((*OUTCOMES, "modes"), 0), dict.fromkeys((*DEGENERATE, "largest"), 0)
    lines, largest = [], 0.0
    others = [units_nonlinear.elsewhere] if family.startswith("nlp") else []
    for k, (p, result) in enumerate(zip(programs, found)):
        if p.kind:
            entries = np.concatenate([np.ravel(jacobian) for jacobian in result[1:3]])
            most = float(np.nan_to_num(np.abs(entries), nan=np.inf).max())
            largest = max(largest, most)
            outcome = "unsolved" if not result[3] else "silent" if result[4] else "flagged"
            if outcome == "silent" and others and regular_elsewhere(p, result, *others):
                outcome = "elsewhere"
            degenerate[outcome] += 1
            degenerate["unbounded"] += most > BOUND
            if outcome == "silent" or most > BOUND:
                said = "called differentiable" if outcome == "silent" else outcome
                lines.append(f"{family} {k} ({p.kind}): {said}, entries up to {most:.0e}; {p.stated}")
            continue
        outcome, errors, off = judged(p, result, *others)
        regular["modes"] += result[3] and max(difference(p, result[2], result[1])) > AGREE
        regular[outcome] += 1
        if outcome == "silent":
            regular["x off"] += off > AGREE
        if outcome != "right" and (outcome == "silent" or family != "nlp any"):
            said = f"dx off by {errors[0]:.0e}, dmultipliers by {errors[1]:.0e}, x by {off:.0e}"
            lines.append(f"{family} {k}: {outcome}: {said}; {p.stated}")
    degenerate["largest"] = largest
    return regular, degenerate, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="*", default=list(COUNTS), choices=list(COUNTS), metavar="FAMILY")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decades", type=float, default=6.0, help="units between 10^-decades and 10^decades")
    parser.add_argument("--list-wrong", action="store_true", help="the silent and the flagged ones")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    import jax
    import jax.flatten_util

    jax.config.update("jax_enable_x64", True)
    titles = ["programs", *OUTCOMES, "modes", "degenerate", *(f"d. {name}" for name in DEGENERATE), "largest"]
    print(f"seed {arguments.seed}, units 1e-{arguments.decades:g} to 1e{arguments.decades:g}\n")
    print("| family | " + " | ".join(titles) + " |\n" + "|---" * (len(titles) + 1) + "|")
    total, flagged, notes = np.zeros(len(titles)), [0, 0], []
    begin = time.perf_counter()
    for family in arguments.family:
        regular, degenerate, lines = measure(family, arguments.seed, arguments.decades)
        row = [COUNTS[family][0], *regular.values(), COUNTS[family][1], *degenerate.values()]
        print(
            f"| {family} | " + " | ".join(f"{v:.0e}" if k == len(row) - 1 else str(v) for k, v in enumerate(row)) + " |"
        )
        sys.stdout.flush()
        total[:-1] += row[:-1]
        total[-1] = max(total[-1], row[-1])
        if family != "nlp any":
            flagged = [flagged[0] + regular["flagged"] + regular["wrong"], flagged[1] + COUNTS[family][0]]
        notes += lines
    print("| all | " + " | ".join(f"{v:.0f}" for v in total[:-1]) + f" | {total[-1]:.0e} |")
    counts = dict(zip(titles, total))
    share = 100 * flagged[0] / max(flagged[1], 1)
    print(f"\nsilently wrong: {counts['silent']:.0f} of {counts['programs']:.0f}")
    print(f"flagged, nlp any apart: {flagged[0]} of {flagged[1]}, {share:.1f} %")
    print(
        f"degenerate: {counts['d. silent']:.0f} of {counts['degenerate']:.0f} silent, {counts['d. unbounded']:.0f} unbounded"
    )
    print(f"{time.perf_counter() - begin:.0f} s")
    if arguments.list_wrong:
        print("\n".join(["", *notes]))
    return 1 if counts["silent"] + counts["d. silent"] + counts["d. unbounded"] else 0


if __name__ == "__main__":
    sys.exit(main())
