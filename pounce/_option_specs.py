"""What is known of each option, assembled from the table and from the fields of `Numbers` and `Choices`."""

import dataclasses
import math
import re
import typing
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

from pounce._interior.options import Choices, Numbers
from pounce._option_table import DRIVER, HONOURED, INERT


Value = str | int | float

# Values that are to come: option -> names.
LATER: dict[str, tuple[str, ...]] = {"solver_selection": ("lp-ipm", "qp-ipm", "socp", "qp-active-set")}

INT_MAX = 2**31 - 1


def shown(number: float) -> str:
    """A number as tables and messages write it: 1e-8, 3000, 0.3333333333."""
    text = f"{number:g}"
    if float(text) != number:
        text = f"{number:.10g}"
    return re.sub(r"e\+?(-?)0*", r"e\1", text)


@dataclasses.dataclass(frozen=True)
class OptionSpec:
    """One option. Fields of `Numbers` and `Choices` are `honoured`; the loop around the method acts on `driver` ones;
    `inert` ones are accepted without effect.

    - `name`, `kind`, `default`: what it is called, takes, and is where it is not set.
    - `lower`, `upper`, `lower_open`, `upper_open`: the range of a number.
    - `allowed`: the values of a choice; empty for text.
    - `effect`: which of the three it is. `group`, `note`: where the reference page has it, and what that says.
    """

    name: str
    kind: Literal["number", "integer", "string", "bool"]
    default: Value
    lower: float = -math.inf
    upper: float = math.inf
    lower_open: bool = False
    upper_open: bool = False
    allowed: tuple[str, ...] = ()
    effect: Literal["honoured", "driver", "inert"] = "inert"
    group: str = ""
    note: str = ""

    @property
    def interval(self) -> str:
        """The range in interval notation; of numbers and integers only."""
        left = "(" if self.lower_open or self.lower == -math.inf else "["
        right = ")" if self.upper_open or self.upper == math.inf else "]"
        return f"{left}{shown(self.lower)}, {shown(self.upper)}{right}"

    @property
    def domain(self) -> str:
        """What the option takes, in words."""
        if self.kind in ("number", "integer"):
            return f"{'an integer' if self.kind == 'integer' else 'a number'} in {self.interval}"
        return ", ".join(f'"{value}"' for value in self.allowed) or "text"

    def contains(self, value: float) -> bool:
        """Whether a number lies in the range (NaN never does).

        **Arguments:** `value`: the number.
        """
        above = value > self.lower if self.lower_open else value >= self.lower
        below = value < self.upper if self.upper_open else value <= self.upper
        return above and below and (self.kind != "integer" or abs(value) <= INT_MAX)


_INTERVAL = re.compile(r"(integer )?([\[(])(\S+), (\S+)([\])])")


def _parse_domain(domain: str) -> dict[str, Any]:
    """Fields of an `OptionSpec` from the table's notation."""
    if interval := _INTERVAL.fullmatch(domain):
        integer, left, lower, upper, right = interval.groups()
        return {
            "kind": "integer" if integer else "number",
            "lower": float(lower),
            "upper": float(upper),
            "lower_open": left == "(" and lower != "-inf",
            "upper_open": right == ")" and upper != "inf",
        }
    if domain == "yes/no":
        return {"kind": "bool", "allowed": ("yes", "no")}
    return {"kind": "string", "allowed": () if domain == "text" else tuple(domain.split(" | "))}


def _numbers_and_choices() -> Iterator[OptionSpec]:
    """The honoured options: names and defaults from `Numbers` and `Choices`, ranges and meaning from the table."""
    table = {name: (group, *row) for group, rows in HONOURED.items() for name, row in rows.items()}
    for field in dataclasses.fields(Numbers):
        group, domain, note = table.get(field.name, ("Method", "(-inf, inf)", ""))
        parsed = _parse_domain(domain)
        value: Any = field.default
        default = int(value) if parsed["kind"] == "integer" else float(value)
        yield OptionSpec(field.name, default=default, effect="honoured", group=group, note=note, **parsed)
    types = typing.get_type_hints(Choices)
    for field in dataclasses.fields(Choices):
        group, domain, note = table.get(field.name, ("Method", "", ""))
        annotation = types[field.name]
        default: Any = field.default
        if annotation is bool:
            parsed, default = _parse_domain("yes/no"), "yes" if default else "no"
        elif annotation is int:
            parsed = _parse_domain("integer " + (domain or "(-inf, inf)"))
        else:
            parsed = _parse_domain(" | ".join(typing.get_args(annotation)))
        yield OptionSpec(field.name, default=default, effect="honoured", group=group, note=note, **parsed)


def _all_specs() -> Iterator[OptionSpec]:
    yield from _numbers_and_choices()
    for group, rows in DRIVER.items():
        for name, (domain, default, note) in rows.items():
            yield OptionSpec(name, default=default, effect="driver", group=group, note=note, **_parse_domain(domain))
    for group, (reason, rows) in INERT.items():
        for name, (domain, default) in rows.items():
            yield OptionSpec(name, default=default, effect="inert", group=group, note=reason, **_parse_domain(domain))


OPTIONS: Mapping[str, OptionSpec] = MappingProxyType({spec.name: spec for spec in _all_specs()})
"""Every option by its canonical name, knobs of other packages' linear solvers (`ma57_pivtol`, ...) excepted."""
