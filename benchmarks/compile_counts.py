"""What a compiled program consists of, counted from its jaxpr and from its optimised HLO. No clock takes part."""

import re
from collections.abc import Iterator
from typing import Any


# What becomes no function of its own in machine code: addresses, control flow, and calls into libraries.
NO_KERNEL = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call copy custom-call after-all "
    "copy-start copy-done partition-id replica-id infeed outfeed opt-barrier optimization-barrier".split()
)
ASSIGNMENT = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
OPCODE = re.compile(r"(?:^|[\s)}\]])([a-z][\w\-]*)\(")
INSIDE = re.compile(r"\bcalls=%?([\w.\-]+)")  # of a fusion: compiled as one
APPLIED = re.compile(r"\bto_apply=%?([\w.\-]+)")


def subjaxprs(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(each, "jaxpr") and hasattr(each.jaxpr, "eqns"):
                yield each.jaxpr
            elif hasattr(each, "eqns"):
                yield each


def equations(jaxpr: Any) -> int:
    """Equations of a jaxpr and of all it contains."""
    return sum(1 + sum(map(equations, subjaxprs(equation))) for equation in jaxpr.eqns)


def carried(jaxpr: Any) -> int:
    """Arrays that the loop with the most of them carries from a pass to the next."""
    most = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("while", "scan"):
            consts = equation.params.get("num_consts")
            most = max(most, len(equation.outvars) if consts is None else equation.params["num_carry"])
        most = max([most, *map(carried, subjaxprs(equation))])
    return most


def instructions(hlo: str) -> int:
    """Lines of optimised HLO that assign."""
    return sum(ASSIGNMENT.match(line) is not None for line in hlo.splitlines())


def kernels(hlo: str) -> int:
    """Functions of machine code that optimised HLO becomes on a CPU: its fusions, and operations that nothing fused."""
    found, name, inner = {}, "", set()
    for line in hlo.splitlines():
        header, assignment = HEADER.match(line), ASSIGNMENT.match(line)
        if header:
            name = header[1]
        elif assignment:
            text = assignment[2]
            opcode = OPCODE.search(text)
            found.setdefault(name, []).append(opcode[1] if opcode else "")
            inner.update(INSIDE.findall(text))
            if opcode and opcode[1] != "call":
                inner.update(APPLIED.findall(text))
    return sum(opcode not in NO_KERNEL for name, own in found.items() if name not in inner for opcode in own)
