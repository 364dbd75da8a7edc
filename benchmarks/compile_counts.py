"""What a compiled program consists of, counted from its jaxpr and from its optimised HLO. No clock takes part."""

import re
from collections.abc import Iterator
from typing import Any

import jax


# What becomes no function of its own in machine code: addresses, copies, control flow, and calls into libraries.
NO_KERNEL = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call copy copy-start copy-done custom-call "
    "after-all partition-id replica-id infeed outfeed opt-barrier".split()
)
ASSIGNMENT = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
OPCODE = re.compile(r"(?:^|[\s)}\]])([a-z][\w\-]*)\(")
CONTROL = re.compile(r"\b(?:condition|body|true_computation|false_computation|to_apply)=%?([\w.\-]+)")
INSIDE = re.compile(r"\bcalls=%?([\w.\-]+)")
BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
ONE_KERNEL = 'xla_cpu_small_call="true"'  # a call of a small loop, which is compiled as a whole
SHARED = jax.__version_info__ >= (0, 11)  # fusions that read alike become one function
LIBRARY = "kind=kCustom"  # a fusion that a library runs


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
            body = equation.params.get("jaxpr", equation.params.get("body_jaxpr")).jaxpr
            most = max(most, sum(o.aval.shape == i.aval.shape for o, i in zip(equation.outvars, body.outvars)))
        most = max([most, *map(carried, subjaxprs(equation))])
    return most


def instructions(hlo: str) -> int:
    """Lines of optimised HLO that assign."""
    return sum(ASSIGNMENT.match(line) is not None for line in hlo.splitlines())


def kernels(hlo: str) -> int:
    """Functions of machine code that optimised HLO becomes on a CPU: its fusions, and operations that nothing fused.

    Exact on JAX 0.10 but for products of matrices that are left to a library; a few too low (3 in 100) where fusions are shared.
    """
    computations, entry = parsed(hlo)
    waiting, seen, count, known = [entry], {entry}, 0, set()
    while waiting:
        for opcode, text in computations[waiting.pop()]:
            whole = opcode == "call" and ONE_KERNEL in text
            own = whole or (opcode not in NO_KERNEL and LIBRARY not in text)
            if own and SHARED and opcode == "fusion":
                key = anonymous(computations, text)
                own = key not in known
                known.add(key)
            count += own
            if opcode in ("while", "conditional", "call") and not whole:
                within = CONTROL.findall(text)
                for branches in BRANCHES.findall(text):
                    within += [name.strip().lstrip("%") for name in branches.split(",")]
                waiting += [name for name in within if name not in seen]
                seen.update(within)
    return count


def anonymous(computations: dict[str, list[tuple[str, str]]], fusion: str) -> str:
    """What a fusion does, its names replaced by numbers."""
    texts = [re.sub(r", metadata=\{.*", "", text) for _, text in computations[INSIDE.findall(fusion)[0]]]
    numbers: dict[str, str] = {}
    return re.sub(r"%[\w.\-#]+", lambda name: numbers.setdefault(name[0], str(len(numbers))), "\n".join(texts))


def parsed(hlo: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """The opcode and the text of each instruction of each computation, and which computation a program enters."""
    computations, name, entry = {}, "", ""
    for line in hlo.splitlines():
        header, assignment = HEADER.match(line), ASSIGNMENT.match(line)
        if header:
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
        elif assignment:
            opcode = OPCODE.search(assignment[2])
            computations[name].append((opcode[1] if opcode else "", assignment[2]))
    return computations, entry
