"""Solves whose functions are evaluated by the caller, in Python, between compiled pieces ("reverse communication").

A pass of the interior-point method is cut where it needs the functions: ``begin`` asks for derivatives, ``look`` takes them
and asks for a trial point, ``conclude`` takes the values there and asks for the next trial or the next derivatives, ``finish``
turns the last state into a solution. The pieces know nothing of the functions, so every problem of a shape shares them.
"""

from .kernel import Kernels as Kernels, kernels_for as kernels_for, sparse_kernels_for as sparse_kernels_for
from .setting import Setting as Setting, padded_size as padded_size
from .solve import Now as Now, OnRow as OnRow, solve_from_host as solve_from_host
