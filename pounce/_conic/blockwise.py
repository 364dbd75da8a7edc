"""Maps that act on the rows of each cone by themselves, applied to a matrix that may be sparse.

Of a sparse matrix, the rows of a cone that are mixed with each other all get the pattern of their union.
"""

import jax.numpy as jnp
import numpy as np

from .._cone.product import ProductFrame, ProductScaling
from .._linalg import matrix
from .._linalg.matrix import Matrix
from .._linalg.sparse import Pattern, SparseMatrix


def through_blocks(verb: str, maps: ProductScaling | ProductFrame, rows: Matrix) -> Matrix:
    """``maps.whiten(rows)`` or ``maps.rotate(rows)``, by name."""
    if not isinstance(rows, SparseMatrix):
        return getattr(maps, verb)(rows)
    if all(cone.blocks is None for cone in maps.cones):
        return matrix.row_scaled(rows, getattr(maps, verb)(jnp.ones((rows.shape[0], 1), rows.dtype))[:, 0])
    result, start = matrix.zero_rows(rows, rows.shape[1], rows.dtype), 0
    for part, cone in zip(maps.parts, maps.cones, strict=True):
        own = matrix.rows_taken(rows, np.arange(start, start + cone.size))
        start += cone.size
        apply = getattr(part, verb)
        if cone.blocks is None:
            own = matrix.row_scaled(own, apply(jnp.ones((cone.size, 1), rows.dtype))[:, 0])
        else:
            own = _mixed(apply, cone.blocks, own)
        result = matrix.stacked(result, own)
    return result


def _mixed(apply, blocks: tuple[int, ...], rows: SparseMatrix) -> SparseMatrix:
    """The columns that a block has lie side by side, in a matrix as wide as the widest block needs."""
    pattern, n = rows.pattern, rows.shape[1]
    sizes = np.array(blocks)
    block = np.repeat(np.arange(sizes.size), sizes)
    keys = np.unique(block[pattern.rows].astype(np.int64) * n + pattern.columns)
    owner, column = np.divmod(keys, n)
    slot = np.arange(keys.size) - np.searchsorted(owner, owner)
    at = np.searchsorted(keys, block[pattern.rows].astype(np.int64) * n + pattern.columns)
    width = int(slot.max(initial=-1)) + 1
    packed = jnp.zeros((rows.shape[0], width), rows.dtype).at[pattern.rows, slot[at]].set(rows.values)
    packed = apply(packed)
    first = np.cumsum(sizes) - sizes
    inside = np.arange(sizes[owner].sum()) - np.repeat(np.cumsum(sizes[owner]) - sizes[owner], sizes[owner])
    row = np.repeat(first[owner], sizes[owner]) + inside
    order = np.lexsort((np.repeat(column, sizes[owner]), row))
    row, column, slot = (np.asarray(v)[order] for v in (row, *(np.repeat(v, sizes[owner]) for v in (column, slot))))
    return SparseMatrix(packed[row, slot], Pattern(row, column, rows.shape))
