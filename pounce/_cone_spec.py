"""Cones as users write them, and the order in which the solver wants their rows."""

import numbers
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._cone.layout import Layout
from ._linalg import matrix
from ._linalg.matrix import Matrix
from ._linalg.sparse import Pattern, SparseMatrix


KINDS = {
    "nonneg": ("nonneg", "nn", "+", "nonnegative"),
    "soc": ("soc", "q", "secondorder"),
    "rsoc": ("rsoc", "qr", "rotatedsecondorder"),
    "exp": ("exp", "exponential", "e"),
    "pow": ("pow", "power", "p"),
    "psd": ("psd", "sdp", "s"),
}
ALIASES = {alias: kind for kind, aliases in KINDS.items() for alias in aliases}


class Rows(NamedTuple):
    """The cones of a program: in the solver's order, with the permutation that brings user rows there.

    `pairs` are the rows (after the permutation) of the first two entries of rotated second-order cones: those are
    turned by 45 degrees, which makes them second-order cones.
    """

    layout: Layout
    order: tuple[int, ...] | None  # None where the rows are in order already
    pairs: tuple[int, ...] = ()

    @property
    def inequalities(self) -> np.ndarray:
        """The user's rows of the orthant."""
        count = self.layout.nonnegative
        return np.arange(count) if self.order is None else np.array(self.order)[:count]

    def arrange(self, rows: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
        """User rows in the solver's order."""
        if self.order is not None:
            rows = rows[np.array(self.order)]
        return self._turned(rows)

    def arrange_matrix(self, rows: Matrix) -> Matrix:
        """`arrange` for a matrix, which may be sparse."""
        if not isinstance(rows, SparseMatrix):
            return self.arrange(rows)
        if self.order is not None:
            rows = matrix.rows_taken(rows, np.array(self.order))
        if not self.pairs:
            return rows
        # Both rows of a pair get the entries of either, and are turned like a vector.
        first = np.array(self.pairs)
        partner = np.arange(rows.shape[0])
        partner[first], partner[first + 1] = first + 1, first
        pattern = rows.pattern
        whole = pattern | Pattern(partner[pattern.rows], pattern.columns, rows.shape)
        values = jnp.zeros(whole.nnz, rows.dtype).at[whole.positions(pattern.rows, pattern.columns)].set(rows.values)
        other = values[whole.positions(partner[whole.rows], whole.columns)]
        sign = np.ones(rows.shape[0])
        sign[first + 1] = -1.0
        half = jnp.sqrt(jnp.asarray(0.5, rows.dtype))
        turned = half * (jnp.asarray(sign, rows.dtype)[whole.rows] * values + other)
        return SparseMatrix(jnp.where(partner[whole.rows] == whole.rows, values, turned), whole)

    def restore(self, rows: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
        """Rows of the solver in the user's order."""
        rows = self._turned(rows)
        if self.order is not None:
            rows = rows[np.argsort(np.array(self.order))]
        return rows

    def _turned(self, rows):
        if not self.pairs:
            return rows
        first = np.array(self.pairs)
        half = jnp.sqrt(jnp.asarray(0.5, rows.dtype))
        a, b = rows[first], rows[first + 1]
        return rows.at[first].set(half * (a + b)).at[first + 1].set(half * (a - b))


def orthant(m: int) -> Rows:
    """``m`` inequalities."""
    return Rows(Layout(nonnegative=m), None)


def parse(cones: Any, m: int) -> Rows:
    """``cones`` of `pounce.solve_socp` for ``m`` rows; `ValueError` naming ``cones[i]`` where one is wrong."""
    if isinstance(cones, (str, bytes)) or not hasattr(cones, "__iter__"):
        raise ValueError(f"`cones` must be a sequence of (kind, size) pairs, got {cones!r:.60}")
    blocks: dict[tuple, list[np.ndarray]] = {}
    start = 0
    for i, spec in enumerate(cones):
        kind, size, key = _one(spec, f"cones[{i}]")
        if size:
            blocks.setdefault((kind, *key), []).append(np.arange(start, start + size))
        start += size
    if start != m:
        raise ValueError(f"`cones` cover {start} rows, but `G` has {m} rows")
    return _grouped(blocks, m)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _one(spec: Any, name: str) -> tuple[str, int, tuple]:
    """Kind, rows, and what tells stacks of this kind apart."""
    if _is_real(spec):
        spec = ("soc", spec)
    if isinstance(spec, (str, bytes)) or not hasattr(spec, "__len__") or len(spec) != 2:
        raise ValueError(f"`{name}` must be a pair (kind, size) or a dimension, got {spec!r:.60}")
    word, value = spec
    kind = ALIASES.get(word.lower()) if isinstance(word, str) else None
    if kind is None:
        raise ValueError(f"`{name}` has the unknown kind {word!r}; known are {', '.join(sorted(KINDS))}")
    if kind == "exp":
        return kind, 3, ()
    if kind == "pow":
        if not _is_real(value) or not 0.0 < float(value) < 1.0:
            raise ValueError(f"`{name}`: the exponent of a power cone must lie in (0, 1), got {value!r}")
        return kind, 3, (float(value),)
    least = {"nonneg": 0, "soc": 1, "rsoc": 2, "psd": 1}[kind]
    what = "order" if kind == "psd" else "dimension"
    if not _is_real(value) or not float(value).is_integer() or value < least:
        raise ValueError(f"`{name}`: the {what} of a {kind} cone must be an integer of at least {least}, got {value!r}")
    value = int(value)
    if kind == "psd":
        return kind, value * (value + 1) // 2, (value,)
    return kind, value, () if kind == "nonneg" else (value,)


def _grouped(blocks: dict[tuple, list[np.ndarray]], m: int) -> Rows:
    """Equal cones together: the orthant, second-order cones by dimension (rotated ones after plain ones), matrices, the rest."""
    order: list[np.ndarray] = []
    pairs: list[int] = []
    nonnegative = blocks.pop(("nonneg",), [])
    order.extend(nonnegative)
    second_order = []
    for dimension in sorted({key[1] for key in blocks if key[0] in ("soc", "rsoc")}):
        plain, rotated = (blocks.get((kind, dimension), []) for kind in ("soc", "rsoc"))
        order.extend(plain)
        for block in rotated:
            pairs.append(sum(map(len, order)))
            order.append(block)
        second_order.append((dimension, len(plain) + len(rotated)))
    semidefinite = []
    for n in sorted(key[1] for key in blocks if key[0] == "psd"):
        order.extend(blocks["psd", n])
        semidefinite.append((n, len(blocks["psd", n])))
    exponential = blocks.get(("exp",), [])
    order.extend(exponential)
    power = []
    for key in sorted(key for key in blocks if key[0] == "pow"):
        order.extend(blocks[key])
        power.extend([key[1]] * len(blocks[key]))
    layout = Layout(
        nonnegative=sum(map(len, nonnegative)),
        second_order=tuple(second_order),
        semidefinite=tuple(semidefinite),
        exponential=len(exponential),
        power=tuple(power),
    )
    permutation = np.concatenate([np.zeros(0, int), *order])
    in_order = bool(np.all(permutation == np.arange(m)))
    return Rows(layout, None if in_order else tuple(map(int, permutation)), tuple(pairs))
