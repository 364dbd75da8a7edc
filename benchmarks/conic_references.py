"""Optimal values of the random feasible programs of ``tests/conic_programs.py``, and what Clarabel makes of all of them.

    python -m benchmarks.conic_references            # write tests/data/conic_references.npz
    python -m benchmarks.conic_references --check    # only compare with the file

A value is the middle of Clarabel's primal and dual objectives at the tightest tolerance it reaches, and has to agree with
SCS. The file also holds checksums of the data, and Clarabel's iterations at its own tolerances (0 where it is not right).
"""

import argparse
import os
import sys
import types
from collections import Counter


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from tests.conic_programs import CONES, KINDS, REFERENCES, checksum, programs, references

from .convex_check import cone_distance, farkas_residual, ray_residual, residuals
from .convex_peers import clarabel, scs


EXPECTED = {
    "feasible": "optimal",
    "infeasible": "primal_infeasible",
    "unbounded": "dual_infeasible",
    "degenerate": "optimal",
}
ACCURACY = 1e-9  # of the optimal values, relative to max(1, |value|)
PEERS_AGREE = 1e-6


def best_value(data: dict) -> tuple[float, float, float]:
    """An optimal value, a bound on its relative error, and the difference between the two solvers."""
    ours = min(value_of(data, clarabel(data, tolerance)) for tolerance in (1e-9, 1e-10, 1e-11, 1e-12, 1e-13))
    other = value_of(data, scs(data, 1e-9))
    if ours[0] > ACCURACY:
        other = value_of(data, scs(data, 1e-12))
    error, value = min(ours, other)
    return value, error, abs(ours[1] - other[1]) / max(1.0, abs(value))


def value_of(data: dict, answer) -> tuple[float, float]:
    """The middle of an answer's primal and dual objectives, after its error: the gap and the priced violations."""
    x, y, z = answer.x, answer.y, answer.z
    P, c, A, b, G, h = (data[name] for name in ("P", "c", "A", "b", "G", "h"))
    primal, dual = x @ P @ x / 2 + c @ x, -x @ P @ x / 2 - b @ y - h @ z
    stationarity = np.max(np.abs(P @ x + c + A.T @ y + G.T @ z), initial=0)
    feasibility = max(np.max(np.abs(A @ x - b), initial=0), cone_distance(data["cones"], h - G @ x))
    outside = cone_distance(data["cones"], z, dual=True)
    error = abs(primal - dual) + stationarity * np.abs(x).sum() + feasibility * (np.abs(y).sum() + np.abs(z).sum())
    error += outside * np.abs(h - G @ x).sum()
    return float(error / max(1.0, abs(primal))), float((primal + dual) / 2)


def known_is_right(stack, k: int) -> bool:
    """What the construction claims, checked by the judge."""
    data = stack.data(k)
    claim = types.SimpleNamespace(x=stack.x[k], y=stack.y[k], z=stack.z[k])
    if stack.kind == "infeasible":
        return farkas_residual(data, claim) < 1e-12
    if stack.kind == "unbounded":
        return ray_residual(data, claim) < 1e-12
    return stack.kind != "degenerate" or residuals(data, claim).passes(1e-12)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--cones", nargs="*", default=CONES)
    arguments = parser.parse_args()
    arrays, failed = {}, []
    for cone in arguments.cones:
        for kind in KINDS:
            values, errors, differences, iterations, statuses = [], [], [], [], Counter()
            for stack in programs(cone, kind):
                for k in range(len(stack)):
                    data, name = stack.data(k), f"{cone} {kind} {stack.first + k}"
                    if not known_is_right(stack, k):
                        failed.append(f"{name}: the construction is wrong")
                    answer = clarabel(data)
                    right = answer.status == EXPECTED[kind]
                    statuses[answer.status] += 1
                    value, error, difference = stack.value[k], 0.0, 0.0
                    if kind == "feasible":
                        value, error, difference = best_value(data)
                        if not error <= ACCURACY or not difference <= PEERS_AGREE:
                            failed.append(f"{name}: {value} +- {error:.1e}, SCS differs by {difference:.1e}")
                        right = right and abs(residuals(data, answer).objective - value) <= 1e-5 * max(1.0, abs(value))
                    elif kind == "degenerate" and right:
                        difference = abs(residuals(data, answer).objective - value) / max(1.0, abs(value))
                        right = difference <= 1e-5
                    values.append(value), errors.append(error), differences.append(difference)
                    iterations.append(answer.iterations if right else 0)
            arrays[f"{cone}_{kind}_checksum"] = checksum(cone, kind)
            arrays[f"{cone}_{kind}_iterations"] = np.array(iterations, np.uint8)
            if kind == "feasible":
                arrays[cone] = np.array(values)
            took = [count for count in iterations if count]
            print(
                f"{cone:7s} {kind:11s} Clarabel {len(took)} of {len(iterations)} right, iterations median "
                f"{np.median(took):4.1f} most {max(took):3d}; {dict(statuses)}; error of the reference {max(errors):.1e}, "
                f"difference {max(differences):.1e}",
                flush=True,
            )
    print("\n".join(failed))
    if arguments.check:
        for cone in arguments.cones:
            largest = np.max(np.abs(arrays[cone] - references(cone, "feasible")) / np.maximum(1, np.abs(arrays[cone])))
            print(f"{cone}: differs from the file by {largest:.1e}")
    elif set(arguments.cones) == set(CONES) and not failed:
        np.savez_compressed(REFERENCES, **arrays)
        print(f"wrote {REFERENCES} ({REFERENCES.stat().st_size / 1000:.0f} kB)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
