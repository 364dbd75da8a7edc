"""A quadratic program as a layer: a batch of dense QPs, forward and forward + backward, beside the peers that are installed.

    python -m benchmarks.qp_layer [--n 10 50 100] [--batch 128] [--rounds 7] [--methods pounce qpth] [--tol 1e-10]

``min 1/2 x'Px + c'x  s.t.  Ax = b, Gx <= h`` with as many inequalities as variables and a quarter as many equalities,
strictly feasible and strictly convex, in float64. Backward: the gradient of ``sum(x)`` with respect to all the data. Two
cases: every instance has matrices of its own, or all share P, G, A.

All are asked for 1e-8. Torch's get one thread or all of them, whichever is faster; JAX's one CPU device or one for each core,
between which `jax.shard_map` divides the lanes (``--devices``). Before anything is timed, x and the
gradients are compared with those of an active-set solution computed here in NumPy. Each round measures everything once;
medians are printed, the first call (tracing, compiling, set-up) apart.

XLA's thread pool is made of eight threads at least (``NPROC``): on two, independent batched LAPACK calls of one program wait for
each other for ever (jaxlib 0.10.2), and qpax with n = 50 is such a program. ``--nproc 0`` leaves the pool as it is.
"""

import argparse
import json
import os
import sys
import time
import warnings


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np


NAMES = ("P", "c", "G", "h", "A", "b")
SHARED = ("P", "G", "A")
TOLERANCE = 1e-8
AGREE = 1e-5


# -- data and its solution ----------------------------------------------------------------------------------------------


def make(n: int, batch: int, shared: bool, seed: int = 0) -> dict:
    """Random data by name; the matrices without a batch axis if they are shared."""
    random = np.random.RandomState(seed)
    m, p = n, n // 4
    copies = (1,) if shared else (batch,)
    L = random.standard_normal((*copies, n, n))
    data = dict(
        P=L @ L.transpose(0, 2, 1) / n + 0.1 * np.eye(n),
        G=random.standard_normal((*copies, m, n)),
        A=random.standard_normal((*copies, p, n)),
    )
    x = random.standard_normal((batch, n))
    data["c"] = 3 * random.standard_normal((batch, n))
    data["h"] = (data["G"] @ x[..., None])[..., 0] + random.uniform(0.1, 1.0, (batch, m))
    data["b"] = (data["A"] @ x[..., None])[..., 0]
    return {name: data[name][0] if shared and name in SHARED else data[name] for name in NAMES}


def solution(data: dict, guess: np.ndarray) -> tuple[np.ndarray, dict]:
    """x, and the gradients of ``sum(x)``, from the rows that are active at a guess; verified, so independent of it."""
    batch, n = guess.shape
    xs, gradients = np.empty((batch, n)), {name: [] for name in NAMES}
    for k in range(batch):
        P, c, G, h, A, b = (data[name] if data[name].ndim < _rank(name) else data[name][k] for name in NAMES)
        active = h - G @ guess[k] < 1e-5 * (1 + np.abs(h))
        for _ in range(100):  # one row at a time joins or leaves, the worst first
            rows = np.vstack([A, G[active]])
            K = np.block([[P, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
            point = np.linalg.solve(K, np.concatenate([-c, b, h[active]]))
            x, z = point[:n], np.zeros(h.size)
            z[active] = point[n + b.size :]
            wrong = np.where(active, -z, G @ x - h)
            if wrong.max() <= 1e-10:
                break
            active[np.argmax(wrong)] ^= True
        else:
            raise AssertionError("no active set found from this guess")
        adjoint = np.linalg.solve(K, np.concatenate([np.ones(n), np.zeros(len(rows))]))
        u, v, w, y = adjoint[:n], adjoint[n : n + b.size], np.zeros(h.size), point[n : n + b.size]
        w[active] = adjoint[n + b.size :]
        xs[k] = x
        for name, value in dict(
            P=-(np.outer(u, x) + np.outer(x, u)) / 2,
            c=-u,
            G=-np.outer(z, u) - np.outer(w, x),
            h=w,
            A=-np.outer(y, u) - np.outer(v, x),
            b=v,
        ).items():
            gradients[name].append(value)
    stacked = {name: np.stack(values) for name, values in gradients.items()}
    return xs, {name: v.sum(0) if data[name].ndim < _rank(name) else v for name, v in stacked.items()}


def _rank(name: str) -> int:
    return 3 if name in SHARED else 2


# -- the methods: each gives forward() and backward(), to be called again and again ------------------------------------


def _jax_method(solve_batch, data: dict):
    """From a function of the six arrays to x, the compiled forward and forward + backward."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    def on(devices: int):
        function, arrays = solve_batch, [jnp.asarray(data[name]) for name in NAMES]
        if devices > 1:
            mesh = jax.make_mesh((devices,), ("lanes",))
            specs = tuple(PartitionSpec() if axis is None else PartitionSpec("lanes") for axis in _lanes(data))
            function = jax.shard_map(
                solve_batch, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("lanes"), check_vma=False
            )
            arrays = [jax.device_put(v, NamedSharding(mesh, spec)) for v, spec in zip(arrays, specs)]

        def cost(*values):
            x = function(*values)
            return jnp.sum(x), x

        compiled = (
            jax.jit(function),
            jax.jit(jax.value_and_grad(cost, argnums=tuple(range(len(NAMES))), has_aux=True)),
        )
        return [lambda f=f: jax.block_until_ready(f(*arrays)) for f in compiled]

    chosen = [on(1)]

    def choose():
        everywhere = on(jax.local_device_count())
        fastest = min(everywhere, chosen[0], key=lambda calls: _quickest(calls[0]))
        chosen[0] = fastest

    return lambda: chosen[0][0](), lambda: chosen[0][1]()[1], choose


def _lanes(data: dict) -> tuple:
    return tuple(None if data[name].ndim < _rank(name) else 0 for name in NAMES)


OURS: dict = {}  # tol, if asked for


def pounce_vmap(data: dict):
    import jax

    from pounce.jax import solve_qp

    def one(P, c, G, h, A, b):
        return solve_qp(P=P, c=c, G=G, h=h, A=A, b=b, **OURS)

    return _jax_method(jax.vmap(one, in_axes=_lanes(data)), data)


def pounce_batch(data: dict):
    """`pounce.jax.solve_qp_batch`, which shares the matrices."""
    if data["P"].ndim == 3:
        return None
    from pounce.jax import solve_qp_batch

    return _jax_method(lambda P, c, G, h, A, b: solve_qp_batch(P=P, c=c, G=G, h=h, A=A, b=b, **OURS), data)


def qpax(data: dict):
    import jax
    import qpax as peer  # pyright: ignore[reportMissingImports]

    def one(P, c, G, h, A, b):
        return peer.solve_qp_primal(P, c, A, b, G, h, solver_tol=TOLERANCE)

    return _jax_method(jax.vmap(one, in_axes=_lanes(data)), data)


def _quickest(call) -> float:
    """The shortest of four calls, after one that does not count."""
    call()
    taken = []
    for _ in range(4):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def _torch_method(solve_batch, data: dict, spread: bool = True):
    """The same of a Torch function; ``spread``: give it the shared matrices once per instance."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_default_dtype(torch.float64)  # some peers make their gradients in the default type
    batch = data["c"].shape[0]
    leaves = [torch.tensor(data[name]) for name in NAMES]
    threads = [torch.get_num_threads()]

    def values(tensors):
        if not spread:
            return tensors
        return [t if t.dim() == _rank(name) else t.expand(batch, *t.shape) for name, t in zip(NAMES, tensors)]

    def forward():
        torch.set_num_threads(threads[0])
        with torch.no_grad():
            return solve_batch(*values(leaves)).numpy()

    def both():
        torch.set_num_threads(threads[0])
        inputs = [leaf.detach().requires_grad_() for leaf in leaves]
        solve_batch(*values(inputs)).sum().backward()
        return [t.grad.numpy() for t in inputs]

    def choose():  # two threads can be ten times slower than one where the cores are busy
        fastest = {}
        for count in {1, threads[0]}:
            threads[0] = count
            fastest[count] = _quickest(forward)
        threads[0] = min(fastest, key=lambda count: fastest[count])

    return forward, both, choose


def qpth(data: dict):
    from qpth.qp import QPFunction  # pyright: ignore[reportMissingImports]

    layer = QPFunction(verbose=-1, eps=TOLERANCE, maxIter=50)
    return _torch_method(layer, data)


def proxsuite(data: dict):
    import torch  # pyright: ignore[reportMissingImports]
    from proxsuite.torch.qplayer import QPFunction  # pyright: ignore[reportMissingImports]

    layer = QPFunction(eps=TOLERANCE)
    below = torch.full(data["h"].shape, -1e20, dtype=torch.float64)
    return _torch_method(lambda P, c, G, h, A, b: layer(P, c, A, b, G, below, h)[0], data)


def cvxpylayers(data: dict):
    """P enters by a factor, as its documentation advises: parameters have to enter affinely."""
    n = data["c"].shape[1]
    import cvxpy  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from cvxpylayers.torch import CvxpyLayer  # pyright: ignore[reportMissingImports]

    m, p = data["h"].shape[1], data["b"].shape[1]
    x, root = cvxpy.Variable(n), cvxpy.Parameter((n, n))
    c, G, h = cvxpy.Parameter(n), cvxpy.Parameter((m, n)), cvxpy.Parameter(m)
    A, b = cvxpy.Parameter((p, n)), cvxpy.Parameter(p)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(root @ x) / 2 + c @ x), [G @ x <= h, A @ x == b])
    layer = CvxpyLayer(problem, parameters=[root, c, G, h, A, b], variables=[x])
    # The objective becomes a second-order cone, where an interior-point method at 1e-8 finds x to 1e-3 only.
    settings = dict(solve_method="SCS", eps=TOLERANCE, max_iters=100_000)

    def solve(P, *rest):
        return layer(torch.linalg.cholesky(P).mT, *rest, solver_args=settings)[0]

    return _torch_method(solve, data, spread=False)


METHODS = {
    "pounce": pounce_vmap,
    "pounce batch": pounce_batch,
    "qpth": qpth,
    "qpax": qpax,
    "proxsuite": proxsuite,
    "cvxpylayers": cvxpylayers,
}
MOST = {"cvxpylayers": 50}  # largest n, where a round would take minutes


# -- measuring ----------------------------------------------------------------------------------------------------------


def prepare(names, data: dict) -> tuple[dict, dict]:
    """The methods that can be built here, each called once: callables by name, and the seconds of the first calls."""
    ready, first = {}, {}
    for name in names:
        try:
            made = METHODS[name](data)
        except (ImportError, AttributeError) as error:
            print(f"  {name:14s} not {'built' if name.startswith('pounce') else 'installed'} ({error})")
            continue
        if made is None:
            continue
        try:
            seconds = []
            for call in made[:2]:
                begin = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - begin)
            for settle in made[2:]:
                settle()
        except Exception as error:
            print(f"  {name:14s} fails: {type(error).__name__}: {str(error)[:160]}")
            continue
        ready[name], first[name] = made[:2], seconds
    return ready, first


def compare(ready: dict, data: dict) -> dict:
    """Errors by method: of x, of the gradient with respect to c, and the worst of the others with its name."""
    answers = {name: np.asarray(forward()) for name, (forward, _) in ready.items()}
    x, gradients = solution(data, next(iter(answers.values())))
    errors = {}
    for name, (_, both) in ready.items():
        found = dict(zip(NAMES, (np.asarray(g) for g in both())))
        found["P"] = (found["P"] + np.swapaxes(found["P"], -1, -2)) / 2
        relative = {
            key: float(np.max(np.abs(found[key] - gradients[key])) / np.max(np.abs(gradients[key]))) for key in NAMES
        }
        worst = max(relative, key=lambda key: relative[key])
        errors[name] = (float(np.max(np.abs(answers[name] - x))), relative["c"], worst, relative[worst])
    return errors


def measure(ready: dict, rounds: int) -> dict:
    """Median seconds of forward and of forward + backward by method."""
    times = {name: ([], []) for name in ready}
    for _ in range(rounds):
        for name, calls in ready.items():
            for call, taken in zip(calls, times[name]):
                begin = time.perf_counter()
                call()
                taken.append(time.perf_counter() - begin)
    return {name: tuple(float(np.median(taken)) for taken in both) for name, both in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="*", default=[10, 50, 100])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--case", nargs="*", default=["per-instance", "shared"], choices=["per-instance", "shared"])
    parser.add_argument("--json", metavar="PATH", help="write all figures there")
    parser.add_argument("--tol", type=float, help="pounce's tolerance; default: its own")
    parser.add_argument("--devices", type=int, default=os.cpu_count() or 1, help="CPU devices of JAX")
    parser.add_argument("--nproc", type=int, default=max(8, os.cpu_count() or 1))
    arguments = parser.parse_args()
    if arguments.nproc:
        os.environ["NPROC"] = str(arguments.nproc)  # read when JAX starts its CPU client
    if arguments.tol:
        OURS["tol"] = arguments.tol
    warnings.filterwarnings("ignore")
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    except ImportError:
        pass
    rows, disagree = [], []
    for case in arguments.case:
        for n in arguments.n:
            data = make(n, arguments.batch, case == "shared")
            print(f"\n{case} matrices, n = {n}, {n} inequalities, {n // 4} equalities, batch {arguments.batch}")
            names = [name for name in arguments.methods if n <= MOST.get(name, n)]
            ready, first = prepare(names, data)
            if not ready:
                continue
            errors = compare(ready, data)
            medians = measure(ready, arguments.rounds)
            ours = medians.get("pounce")
            print(
                f"  {'':14s} {'first call s':>15s} {'forward ms':>11s} {'+ backward':>11s} {'peer / ours':>15s} "
                f"{'x error':>9s} {'c-grad':>9s} {'worst gradient':>15s}"
            )
            for name, (forward, both) in medians.items():
                x_error, c_error, worst, worst_error = errors[name]
                ratio = f"{forward / ours[0]:7.2f} {both / ours[1]:7.2f}" if ours else f"{'-':>7s} {'-':>7s}"
                note = "" if x_error <= AGREE else "  <-- x is wrong"
                print(
                    f"  {name:14s} {first[name][0]:7.2f} {first[name][1]:7.2f} {1e3 * forward:11.2f} {1e3 * both:11.2f} {ratio} "
                    f"{x_error:9.1e} {c_error:9.1e} {worst_error:9.1e} by {worst:2s}{note}",
                    flush=True,
                )
                if x_error > AGREE:
                    disagree.append((case, n, name))
                rows.append(
                    dict(
                        case=case,
                        n=n,
                        batch=arguments.batch,
                        method=name,
                        first_forward_seconds=first[name][0],
                        first_backward_seconds=first[name][1],
                        forward_seconds=forward,
                        backward_seconds=both,
                        x_error=x_error,
                        c_gradient_error=c_error,
                        worst_gradient=worst,
                        worst_gradient_error=worst_error,
                    )
                )
    if arguments.json:
        with open(arguments.json, "w") as stream:
            json.dump(rows, stream, indent=1)
    ours_wrong = [entry for entry in disagree if entry[2].startswith("pounce")]
    return 1 if ours_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
