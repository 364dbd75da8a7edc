"""cyipopt on a sparse problem, through the derivatives that pounce finds, for a comparison in the same run."""

import importlib.util
import time
from typing import Any, NamedTuple


class PeerResult(NamedTuple):
    status: int
    objective: float
    iterations: int
    seconds: tuple[float, ...]  # of each solve


def available() -> bool:
    """Whether cyipopt is installed."""
    return importlib.util.find_spec("cyipopt") is not None


class _Callbacks:
    """Compiled functions of a problem, each called for what it alone gives, as Ipopt asks for them."""

    def __init__(self, p: Any, structure: Any):
        import jax
        import jax.numpy as jnp
        import numpy as np

        from pounce._problem.compressed import sparse_hessian, sparse_jacobian

        rows = p.c or (lambda x: jnp.zeros(0, x.dtype))
        jacobian, hessian = structure

        def lagrangian(x, y, weight):
            return weight * p.f(x) + y @ rows(x)

        self._pattern = jacobian.pattern, hessian.pattern
        self._functions = {
            "objective": jax.jit(p.f),
            "gradient": jax.jit(jax.grad(p.f)),
            "constraints": jax.jit(rows),
            "jacobian": jax.jit(lambda x: sparse_jacobian(rows, x, jacobian).values),
            "hessian": jax.jit(lambda x, y, weight: sparse_hessian(lagrangian, x, hessian, y, weight).values),
        }
        self._array = np.asarray
        self.iterations = 0

    def _call(self, name, *arguments):
        return self._array(self._functions[name](*arguments))

    def objective(self, x):
        return float(self._functions["objective"](x))

    def gradient(self, x):
        return self._call("gradient", x)

    def constraints(self, x):
        return self._call("constraints", x)

    def jacobian(self, x):
        return self._call("jacobian", x)

    def jacobianstructure(self):
        return self._pattern[0].rows, self._pattern[0].columns

    def hessian(self, x, y, weight):
        return self._call("hessian", x, y, float(weight))

    def hessianstructure(self):
        return self._pattern[1].rows, self._pattern[1].columns

    def intermediate(self, mode, iteration, *rest):
        del mode, rest
        self.iterations = iteration
        return True


def solve(p: Any, structure: Any, options: dict[str, Any], repeats: int = 3) -> PeerResult:
    """Ipopt's answer for ``p`` (as the collections state it), and the seconds of each of several solves after a first one."""
    import cyipopt  # pyright: ignore[reportMissingImports]
    import numpy as np

    callbacks = _Callbacks(p, structure)
    m = 0 if p.c is None else p.cl.size
    rows = dict(cl=p.cl, cu=p.cu) if m else {}
    problem = cyipopt.Problem(n=p.x0.size, m=m, problem_obj=callbacks, lb=p.lb, ub=p.ub, **rows)
    for name, value in {"print_level": 0, "sb": "yes", **options}.items():
        problem.add_option(name, value)
    info, times = {}, []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        _, info = problem.solve(np.asarray(p.x0, float))
        times.append(time.perf_counter() - begin)
    return PeerResult(info["status"], info["obj_val"], callbacks.iterations, tuple(times[1:]))
