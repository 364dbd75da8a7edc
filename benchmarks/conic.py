"""Conic programs: CBLIB (exponential, power, second-order cones) and SDPLIB, judged independently and beside Clarabel.

    python -m benchmarks.conic                    # all with at most 1500 variables plus rows
    python -m benchmarks.conic --large            # the others too
    python -m benchmarks.conic --names HMCR-n20-m800
    python -m benchmarks.conic --solver scs

The references of the hinf programs have two to four digits: they are listed apart, and 3 % is close enough. Infeasible
programs are correct if a certificate, checked with the cones, proves it. Options as in `benchmarks.qp`.
"""

import sys

from .qp import run


def main() -> int:
    return run(("conic", "sdp"), __doc__, many=True)


if __name__ == "__main__":
    sys.exit(main())
