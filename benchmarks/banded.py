"""The banded family of the sparse benchmarks: tridiagonal Hessian, bidiagonal Jacobian, whatever the number of variables."""

import jax.numpy as jnp
import numpy as np

import pounce


def objective(x, p):
    """A chain of the kind of Rosenbrock's function, pulled towards ``p``."""
    return jnp.sum((x - p) ** 2) + jnp.sum((x[1:] - x[:-1] ** 2) ** 2)


def rows(x, p):
    """Products of neighbours."""
    del p
    return x[1:] * (1.0 + x[:-1])


def problem(sparse: bool) -> pounce.NLP:
    """With bounds of the variables and of the rows, some of which are active."""
    return pounce.NLP(objective, rows, lb=-2.0, ub=2.0, cl=0.5, cu=1.5, sparse=sparse)


def start(n: int) -> np.ndarray:
    return np.linspace(0.2, 1.2, n)
