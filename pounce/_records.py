"""Short names for what lies deeper in a record.

Records have few fields, so that each can be read at a glance. What belongs together is a record in the record or, if it is small
numbers, one array; under such names it can still be asked for, and replaced by `equinox.tree_at`, where it was.
"""

from typing import Any


def entry(array: str, k: int) -> Any:
    """A property: the ``k``-th entry of an array of the record."""
    return property(lambda self: getattr(self, array)[k])


def within(record: str, name: str) -> Any:
    """A property: a field of a record in the record."""
    return property(lambda self: getattr(getattr(self, record), name))
