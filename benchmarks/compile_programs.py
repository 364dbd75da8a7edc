"""The programs whose compilation is measured: ``program(name)`` is a JAX function and its arguments."""

from collections.abc import Callable


LANES = 1024
NAMES = (
    "hs071",
    "hs071 gradient",
    "hs071 vmap",
    "dense nlp",
    "dense nlp gradient",
    "dense qp",
    "dense qp gradient",
    "sparse lp",
    "sparse lp gradient",
    "mixed cones",
    "mixed cones gradient",
)


def program(name: str) -> tuple[Callable, tuple, int]:
    """A function whose compilation is measured, its arguments, and how many solves a call of it is.

    A gradient is that of the squared length of x with respect to the last argument.
    """
    import jax
    import jax.numpy as jnp

    gradient, lanes = name.endswith(" gradient"), name.endswith(" vmap")
    solve, arguments = FAMILIES[name.removesuffix(" gradient").removesuffix(" vmap")]()
    if lanes:
        arguments = tuple(jnp.tile(a, (LANES, *[1] * jnp.ndim(a))) for a in arguments)
        arguments = (*arguments[:-1], arguments[-1] * jnp.linspace(0.95, 1.05, LANES))
        return jax.vmap(solve), arguments, LANES
    if gradient:
        cost = lambda *given: jnp.sum(solve(*given).x ** 2)
        return jax.grad(cost, argnums=len(arguments) - 1), arguments, 1
    return solve, arguments, 1


def hs071():
    import jax.numpy as jnp

    import pounce

    nlp = pounce.NLP(
        lambda x, p: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        lambda x, p: jnp.stack([jnp.prod(x), x @ x - p]),
        lb=1.0,
        ub=5.0,
        cl=jnp.array([25.0, 0.0]),
        cu=jnp.array([jnp.inf, 0.0]),
    )
    solve = lambda x0, p: pounce.solve(nlp, pounce.InteriorPoint(), x0, p)
    return solve, (jnp.array([1.0, 5.0, 5.0, 1.0]), jnp.array(40.0))


def dense_nlp(n: int = 50):
    """n variables in a box, n/2 rows, every second an equality."""
    import jax.numpy as jnp

    import pounce

    m = n // 2

    def f(x, p):
        return jnp.sum((x - p) ** 2) + 0.1 * jnp.sum(jnp.sin(x[1:] * x[:-1]))

    def g(x, p):
        return x[:m] ** 2 + x[n - m :] - 0.5

    cl = jnp.where(jnp.arange(m) % 2 == 0, 0.0, -jnp.inf)
    nlp = pounce.NLP(f, g, lb=-2.0, ub=2.0, cl=cl, cu=jnp.zeros(m))
    solve = lambda x0, p: pounce.solve(nlp, pounce.InteriorPoint(), x0, p)
    return solve, (jnp.full(n, 0.3), jnp.full(n, 0.2))


def dense_qp(n: int = 12):
    """n variables in a box, n/4 equalities, n/2 inequalities."""
    import jax.numpy as jnp
    import numpy as np

    import pounce

    draw = np.random.default_rng(0)
    root, A, G, c = (draw.normal(size=shape) for shape in ((n, n), (n // 4, n), (n // 2, n), n))
    P, h = jnp.asarray(root @ root.T), jnp.ones(n // 2)
    A, G, b = jnp.asarray(A), jnp.asarray(G), jnp.zeros(n // 4)
    solve = lambda P, A, G, c: pounce.solve_conic(P, c, A, b, G, h, lb=-1.0, ub=1.0)
    return solve, (P, A, G, jnp.asarray(c))


def sparse_lp(sources: int = 6, sinks: int = 8):
    """Transport at least cost: sources * sinks variables >= 0, one sparse row a source and a sink."""
    import jax.numpy as jnp
    import numpy as np
    import scipy.sparse as sp

    import pounce

    G = sp.csr_array(sp.kron(sp.eye_array(sources), np.ones((1, sinks))))
    A = sp.csr_array(sp.kron(np.ones((1, sources)), sp.eye_array(sinks)))
    c = jnp.asarray(np.random.default_rng(0).uniform(1.0, 2.0, sources * sinks))
    supply, demand = jnp.full(sources, 2.0 * sinks / sources), jnp.ones(sinks)
    return lambda c: pounce.solve_conic(None, c, A, demand, G, supply, lb=0.0), (c,)


def mixed_cones():
    """Six variables: an exponential and a second-order cone, one equality, P of rank 2."""
    import jax.numpy as jnp
    import numpy as np

    import pounce

    draw = np.random.default_rng(0)
    root, A, G, c = (jnp.asarray(draw.normal(size=shape)) for shape in ((6, 2), (1, 6), (6, 6), 6))
    inside = jnp.array([-1.0, 1.0, 2.0, 2.0, 0.5, 0.5])  # of both cones, in the order of rows
    b, h = jnp.zeros(1), inside
    cones = [("exp", 3), ("soc", 3)]
    P = root @ root.T + 0.1 * jnp.eye(6)
    return lambda A, G, c: pounce.solve_conic(P, c, A, b, G, h, cones=cones), (A, G, c)


FAMILIES = {
    "hs071": hs071,
    "dense nlp": dense_nlp,
    "dense qp": dense_qp,
    "sparse lp": sparse_lp,
    "mixed cones": mixed_cones,
}
