"""Functions that misbehave (`misbehaving_functions`) through `minimize` and `Problem`, beside SciPy's SLSQP and cyipopt.

    python -m benchmarks.misbehaving                # all, beside cyipopt if it is installed
    python -m benchmarks.misbehaving --only noise   # those of one kind, or with a word in their name

Of every solve: how it ended, how often the function was called (differences included), and the honest function where it
ended. A solver that calls it 20 000 times is stopped. The exit code is 1 if pounce calls a success what is none, ends worse
than where it began (by more than the noise), or calls more than ten times as often as a peer that ends as low as it does.
"""

import argparse
import os
import warnings

import numpy as np

from .misbehaving_functions import FUNCTIONS, Misbehaving


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
MOST = 20_000
ALIKE = 1e-3  # of the way from the start to the best that anybody finds


class TooManyCalls(Exception):
    pass


class Ended:
    """How a solve ended: success, words, calls, the point."""

    def __init__(self, case: Misbehaving, solve):
        inner, self.calls, self.best = case.make(), 0, case.start

        def function(x):
            self.calls += 1
            if self.calls > MOST:
                raise TooManyCalls
            return inner(np.asarray(x))

        try:
            self.success, self.words, self.x = solve(case, function)
        except TooManyCalls:
            self.success, self.words, self.x = False, "no end", case.start
        except Exception as error:  # of a peer, whose ends are not ours to judge
            self.success, self.words, self.x = False, type(error).__name__, case.start
        with np.errstate(all="ignore"):
            self.value, self.violation = float(case.honest(self.x)), case.violation(self.x)

    @property
    def merit(self) -> float:
        """The value, infinite where it is none or a row is violated."""
        return self.value if np.isfinite(self.value) and self.violation <= 1e-6 else np.inf

    def __str__(self) -> str:
        value = f"{self.value:.6g}" if self.violation <= 1e-6 else f"{self.value:.3g} off by {self.violation:.0e}"
        return f"{'yes' if self.success else 'no ':3s} {self.calls:6d} {value:>18s}  {self.words[:34]:34s}"


def constraints(case: Misbehaving) -> list[dict]:
    if case.rows is None:
        return []
    row = {"type": "ineq", "fun": case.rows}
    return [row if case.rows_jac is None else row | {"jac": case.rows_jac}]


def by_minimize(case: Misbehaving, function):
    import pounce

    r = pounce.minimize(
        function,
        case.start,
        jac=case.jac,
        bounds=case.bounds,
        constraints=constraints(case),
        options={"print_level": 0},
    )
    return r.success, r.message, r.x


def by_problem(case: Misbehaving, function):
    """With forward differences of its own where there is no gradient, as people write them."""
    import pounce

    def differences(f, x):
        h, here = 1.5e-8 * np.maximum(1.0, np.abs(x)), np.asarray(f(x))
        return np.stack([(np.asarray(f(x + step)) - here) / h[i] for i, step in enumerate(np.diag(h))], axis=-1)

    n, m = case.start.size, 0 if case.rows is None else 1
    gradient = case.jac if callable(case.jac) else lambda x: differences(function, x)
    callbacks = {"objective": function, "gradient": gradient}
    if m:
        row = case.rows_jac or (lambda x: differences(case.rows, x))
        callbacks |= {"constraints": case.rows, "jacobian": lambda x: np.ravel(row(x))}
    low, high = zip(*(case.bounds or [(-np.inf, np.inf)] * n))
    problem = pounce.Problem(
        n,
        m,
        type("Callbacks", (), {k: staticmethod(v) for k, v in callbacks.items()})(),
        low,
        high,
        [0.0] * m,
        [np.inf] * m,
    )
    problem.add_option("print_level", 0)
    x, info = problem.solve(case.start)
    return info["status"] in (0, 1), info["status_msg"], x


def by_slsqp(case: Misbehaving, function):
    from scipy.optimize import minimize

    r = minimize(
        function, case.start, jac=case.jac, bounds=case.bounds, constraints=constraints(case), method="SLSQP",
        options={"maxiter": 3000},
    )  # fmt: skip
    return r.success, r.message, r.x


def by_ipopt(case: Misbehaving, function):
    import cyipopt  # pyright: ignore[reportMissingImports]

    jac = case.jac if callable(case.jac) else None  # it has forward differences only
    r = cyipopt.minimize_ipopt(
        function, case.start, jac=jac, bounds=case.bounds, constraints=constraints(case) or (),
        options={"disp": 0, "maxiter": 3000, "sb": "yes"},
    )  # fmt: skip
    return r.success, str(r.message), np.asarray(r.x)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a kind, or a word of a name")
    parser.add_argument("--doors", default="minimize,Problem")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    doors = {"minimize": by_minimize, "Problem": by_problem}
    doors = {name: doors[name] for name in arguments.doors.split(",")}
    peers = {"SLSQP": by_slsqp}
    try:
        import cyipopt  # noqa: F401  # pyright: ignore[reportMissingImports]

        peers["cyipopt"] = by_ipopt
    except ImportError:
        print("(cyipopt is not installed)")
    faults, totals = [], {}
    for case in (c for c in FUNCTIONS if arguments.only in c.kind or arguments.only in c.name):
        with np.errstate(all="ignore"):
            first = float(case.honest(case.start))
            ends = {name: Ended(case, solve) for name, solve in (doors | peers).items()}
        least = min([first, *(e.merit for e in ends.values())])
        room = max(ALIKE * abs(first - least), case.noise, 1e-12)
        print(f"{case.kind}: {case.name} (from {first:.6g})")
        for name, end in ends.items():
            words = []
            if name in doors:
                if end.value > first + case.noise and end.violation >= case.violation(case.start):
                    words.append("WORSE than its start")
                if end.success and end.violation > 1e-6:
                    words.append("a success that is none")
                equals = [ends[peer].calls for peer in peers if ends[peer].merit <= end.merit + room]
                if equals and end.calls > 10 * max(1, min(equals)):
                    words.append(f"{end.calls / max(1, min(equals)):.0f} x the calls of a peer")
                faults += [f"{name}, {case.kind}: {case.name}: {word}" for word in words]
            totals.setdefault(name, []).append((end.success, end.calls, end.merit <= least + room))
            print(f"    {name:9s} {end} {' '.join(words)}", flush=True)
    print(f"\n{'':10s} successes   near the best   calls: median, largest")
    for name, ends in totals.items():
        calls, good = [c for _, c, _ in ends], sum(g for _, _, g in ends)
        print(f"{name:10s} {sum(s for s, _, _ in ends):9d} {good:15d} {np.median(calls):16.0f} {max(calls):8d}")
    print("\n".join(["", *faults]) if faults else "\nno fault")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
