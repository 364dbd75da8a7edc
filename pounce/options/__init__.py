"""The registry of option names: what may be set, within which range, and what it does.

:func:`check_option` validates one option; :func:`split_options` turns a mapping of them into what a solve takes. Names
are Ipopt's (SciPy's are translated). ``python -m pounce.options`` prints the reference page.
"""

import dataclasses
import difflib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

from pounce._interior.options import NUMBER_NAMES, Choices, Numbers
from pounce._option_specs import LATER, OPTIONS, OptionSpec, Value
from pounce._option_table import FOREIGN_PREFIXES


__all__ = [
    "OPTIONS",
    "OptionError",
    "OptionSpec",
    "SolverOptions",
    "check_option",
    "split_options",
]

LINEAR_SOLVERS = ("auto", "condensed", "null-space", "lu", "sparse-ldl", "stages")
SCIPY_NAMES = {
    "maxiter": "max_iter",
    "gtol": "tol",
    "ftol": "tol",
    "xtol": "tol",
    "disp": "print_level",
    "iprint": "print_level",
    "maxcor": "limited_memory_max_history",
}
_RESTO = "resto."


class OptionError(ValueError, RuntimeError):
    """An option name that does not exist, or a value that its option does not take."""


@dataclasses.dataclass(frozen=True)
class SolverOptions:
    """Validated options, sorted by who acts on them.

    - `numbers`, `choices`: the options of the method, linked defaults applied.
    - `linear_solver`: one of `"auto"`, `"condensed"`, `"null-space"`, `"lu"`; for sparse problems `"auto"`,
      `"sparse-ldl"`, `"stages"`.
    - `driver`: every option of the loop around the method, set or not; yes/no as `bool`.
    - `resto`: numbers that hold in the restoration phase only, as far as set.
    - `given`: what the user set, under canonical names and as :func:`check_option` returns it.
    """

    numbers: Numbers
    choices: Choices
    linear_solver: str
    driver: dict[str, Any]
    resto: dict[str, float]
    given: dict[str, Value]


def _is_foreign(name: str) -> bool:
    return name.startswith(FOREIGN_PREFIXES)


def _plain(value: Any) -> Any:
    """NumPy and JAX scalars as Python ones, bytes as text."""
    if isinstance(value, (np.generic, np.ndarray, Array)) and np.ndim(value) == 0:
        value = value.item()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _unknown(name: str) -> OptionError:
    close = difflib.get_close_matches(name.lower().removeprefix(_RESTO), OPTIONS, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`python -m pounce.options` lists the names"
    return OptionError(f'Unknown option "{name}"; {hint}')


def _wrong_type(spec: OptionSpec, value: object) -> OptionError:
    kinds = {bool: "a yes/no", int: "an integer", float: "a numeric", str: "a string"}
    verdict = f"is not {kinds[type(value)]} option: it takes" if type(value) in kinds else "takes"
    return OptionError(f'Option "{spec.name}" {verdict} {spec.domain}, but {value!r} was given')


def _check_text(spec: OptionSpec, value: object) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if not isinstance(value, str):
        raise _wrong_type(spec, value)
    if not spec.allowed:
        return value
    if value.lower() in LATER.get(spec.name, ()):
        raise OptionError(f'{spec.name}="{value}" is not available yet; use {" or ".join(spec.allowed)}')
    if value.lower() not in spec.allowed:
        raise OptionError(f'Invalid value "{value}" of option "{spec.name}"; allowed are {spec.domain}')
    return value.lower()


def _check_number(spec: OptionSpec, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(spec, value)
    if spec.kind == "integer" and isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        raise _wrong_type(spec, value)
    if not spec.contains(value):
        limits = f"{spec.interval} of 32-bit integers" if spec.kind == "integer" else spec.interval
        raise OptionError(f'Value {value!r} of option "{spec.name}" is out of range: it must lie in {limits}')
    try:
        return int(value) if spec.kind == "integer" else float(value)
    except OverflowError as error:
        raise OptionError(f'Value of option "{spec.name}" is out of range of double precision') from error


def _check_foreign(name: str, value: object) -> Value:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (str, int, float)) or value != value:
        raise OptionError(f'Invalid value "{value}" of option "{name}"; it takes a number or text')
    return value


def _canonical(name: str | bytes) -> tuple[str, str]:
    """Lower-case name, and the canonical name it stands for."""
    if not isinstance(name, (str, bytes)):
        raise OptionError(f"The name of an option is text, but {name!r} was given")
    lower = str(_plain(name)).lower()
    if lower.startswith(_RESTO):
        stem = SCIPY_NAMES.get(lower.removeprefix(_RESTO), lower.removeprefix(_RESTO))
        return lower, _RESTO + stem
    return lower, SCIPY_NAMES.get(lower, lower)


def check_option(name: str | bytes, value: object) -> tuple[str, Value]:
    """Validates one option and translates it to its canonical form.

    **Arguments:**

    - `name`: an Ipopt name, one of SciPy's (`maxiter`, `ftol`, `gtol`, `xtol`, `disp`, `iprint`, `maxcor`), or
        `resto.<name>` for a number that is to hold in the restoration phase only. Case does not matter.
    - `value`: text, a number or a bool, NumPy and JAX scalars included. Whole numbers may be floats and the reverse.

    **Returns:**

    The canonical name, and the value as `float`, `int` or `str` (yes/no options: `"yes"` or `"no"`).

    **Raises:**

    `OptionError` (a `ValueError` and a `RuntimeError`) that says what would have been right. Setting an option
    without effect is not an error, and not warned about before `split_options`.
    """
    lower, canonical = _canonical(name)
    plain = _plain(value)
    if _is_foreign(canonical):
        return canonical, _check_foreign(canonical, plain)
    spec = OPTIONS.get(canonical.removeprefix(_RESTO))
    if spec is None:
        raise _unknown(str(_plain(name)))
    if canonical.startswith(_RESTO) and spec.name not in NUMBER_NAMES:
        raise OptionError(
            f'Invalid option "{canonical}": only numbers of the method can differ in the restoration phase'
        )
    if lower == "disp" and isinstance(plain, bool):
        plain = 5 if plain else 0
    if lower == "iprint" and isinstance(plain, int):
        plain = min(max(plain, 0), 12)
    return canonical, (_check_number if spec.kind in ("number", "integer") else _check_text)(spec, plain)


def checked(options: Mapping[Any, Any] | None) -> dict[str, Value]:
    """Options by canonical name, `None` dropped. Ipopt's name outranks an alias; of several aliases the last counts."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"`options` must be a mapping from names to values, not {type(options).__name__}")
    named, aliased = {}, {}
    for name, value in options.items():
        if value is not None:
            canonical, checked = check_option(name, value)
            lower, _ = _canonical(name)
            (named if lower == canonical else aliased)[canonical] = checked
    return aliased | named


QUASI_NEWTON_DEFAULTS: dict[str, Value] = {"mu_strategy": "adaptive", "recalc_y": "yes"}
MEHROTRA_DEFAULTS: dict[str, Value] = {
    "mu_strategy": "adaptive",
    "mu_oracle": "probing",
    "adaptive_mu_globalization": "never-monotone-mode",
    "accept_every_trial_step": "yes",
    "bound_push": 10.0,
    "bound_frac": 0.2,
    "bound_mult_init_val": 10.0,
    "constr_mult_init_max": 0.0,
}
FOLLOWERS = {
    "bound_push": ("slack_bound_push", "warm_start_bound_push", "warm_start_slack_bound_push"),
    "bound_frac": ("slack_bound_frac", "warm_start_bound_frac", "warm_start_slack_bound_frac"),
}


def _with_linked_defaults(values: dict[str, Value]) -> dict[str, Value]:
    """Adds what Ipopt changes along with the options that are set; what is set itself stays."""
    linked: dict[str, Value] = {}
    if values.get("hessian_approximation") == "limited-memory":
        linked |= QUASI_NEWTON_DEFAULTS
    if values.get("mehrotra_algorithm") == "yes":
        linked |= MEHROTRA_DEFAULTS
    linked |= values
    for leader, followers in FOLLOWERS.items():
        if leader in linked:
            linked = dict.fromkeys(followers, linked[leader]) | linked
    return linked


def _warn_about(values: Mapping[str, Value], stacklevel: int) -> None:
    idle = [name for name, value in values.items() if _is_foreign(name) or _has_no_effect(name, value)]
    if idle:
        warnings.warn(
            f"Accepted, but without effect here: {', '.join(idle)}. `python -m pounce.options` says why.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    solver = values.get("linear_solver", "auto")
    if solver not in LINEAR_SOLVERS:
        warnings.warn(
            f'linear_solver="{solver}" names another package; the built-in choice "auto" is used instead '
            f"(also built in: {', '.join(LINEAR_SOLVERS[1:])}).",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _has_no_effect(name: str, value: Value) -> bool:
    spec = OPTIONS.get(name)
    return spec is not None and spec.effect == "inert" and value != spec.default


def _python_value(name: str, value: Value) -> Any:
    return value == "yes" if OPTIONS[name].kind == "bool" else value


def split_options(
    options: Mapping[Any, Any] | None,
    defaults: Mapping[Any, Any] | None = None,
    *,
    stacklevel: int = 2,
) -> SolverOptions:
    """Validates options, applies Ipopt's linked defaults and sorts the result by who acts on it.

    **Arguments:**

    - `options`: what the user set; entries that are `None` are dropped.
    - `defaults`: what the caller sets unless the user does, `{"print_level": 0}` for instance.
    - `stacklevel`: as in `warnings.warn`, counted from here: 2 blames the caller, 3 the caller's caller.

    **Returns:**

    A `SolverOptions`.

    **Raises:**

    `TypeError` if `options` is no mapping, `OptionError` as `check_option` does. Options without effect that
    differ from their defaults are named in one `UserWarning`.
    """
    given = checked(options)
    chosen = checked(defaults) | given
    _warn_about(chosen, stacklevel)
    values = _with_linked_defaults(chosen)
    numbers = {name: float(values[name]) for name in NUMBER_NAMES if name in values}
    choices = {
        field.name: _python_value(field.name, values[field.name])
        for field in dataclasses.fields(Choices)
        if field.name in values
    }
    driver = {
        name: _python_value(name, values.get(name, spec.default))
        for name, spec in OPTIONS.items()
        if spec.effect == "driver"
    }
    solver = driver.pop("linear_solver")
    return SolverOptions(
        numbers=Numbers(**numbers),
        choices=Choices(**choices),
        linear_solver=solver if solver in LINEAR_SOLVERS else "auto",
        driver=driver,
        resto={name.removeprefix(_RESTO): float(v) for name, v in values.items() if name.startswith(_RESTO)},
        given=given,
    )
