"""A solve's `info` as a JSON file."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_report(path: str | Path, info: dict[str, Any], full: bool) -> None:
    """Write ``info`` to ``path``; vectors only if ``full``. Raises `OSError` where the file cannot be written."""
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in info.items()}
    if not full:
        plain = {name: value for name, value in plain.items() if not isinstance(value, list)}
    Path(path).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
