"""Programs with many equal pieces, such as a loop in Python leaves behind: rolled into pieces that do all of them at once."""

from .program import LEAST_OPERATIONS as LEAST_OPERATIONS, rolled as rolled
