"""Linear programs of Netlib, feasible and infeasible, judged independently and beside Clarabel.

    python -m benchmarks.lp                       # all with at most 1500 variables plus rows
    python -m benchmarks.lp --names galenet klein1

An infeasible one is correct if its status says so and the multipliers prove it to 1e-6. cplex2 is infeasible by 1e-9 of the
multipliers that prove it: it is listed apart, and a point that is feasible to 1e-6 is as good. Options as in `benchmarks.qp`.
"""

import sys

from .qp import run


def main() -> int:
    return run(("lp", "lp_infeasible"), __doc__, many=True)


if __name__ == "__main__":
    sys.exit(main())
