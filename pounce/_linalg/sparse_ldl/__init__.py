"""Sparse ``L D L'`` of KKT matrices with static pivots, in pure `lax`.

`analyze` turns patterns into tables on the host, once; `SparseLDL` factorises and solves with them under `jit` and `vmap`.
"""

from .analysis import analyze as analyze, rematch as rematch
from .columns import ColumnSymbolic as ColumnSymbolic
from .solver import LDLFactor as LDLFactor, SparseLDL as SparseLDL
from .symbolic import Symbolic as Symbolic
