"""Compiled programs of host doors, kept on disk: what one process has compiled, the next ones load."""

from .executable import Counts as Counts, Executable as Executable, Policy as Policy, counts as counts, known as known
from .fingerprint import registered as registered
from .store import Store as Store, choose as choose, current as current, default_folder as default_folder
