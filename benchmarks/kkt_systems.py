"""Sparse KKT matrices ``[[H, J'], [J, -D]]`` of typical problems, with random values and barrier terms."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import scipy.sparse as sps

from .data import data_folder


@dataclasses.dataclass
class KKT:
    """``hessian`` in full; the first ``equalities`` rows of ``jacobian`` have ``diagonal = 0``."""

    hessian: sps.csr_array
    jacobian: sps.csr_array
    diagonal: np.ndarray
    equalities: int

    @property
    def matrix(self) -> sps.csc_array:
        return sps.csc_array(
            sps.block_array([[self.hessian, self.jacobian.T], [self.jacobian, -sps.diags_array(self.diagonal)]])
        )


def finished(hessian, jacobian, equalities: int, seed: int = 0) -> KKT:
    """With barrier terms from 1e-4 to 1e4 on three variables in ten, and D in the same range for inequalities."""
    rng = np.random.default_rng(seed)
    n, m = hessian.shape[0], jacobian.shape[0]
    barrier = np.where(rng.random(n) < 0.3, 10.0 ** rng.uniform(-4, 4, n), 0.0)
    diagonal = np.where(np.arange(m) < equalities, 0.0, 10.0 ** rng.uniform(-4, 4, m))
    return KKT(sps.csr_array(hessian + sps.diags_array(barrier)), sps.csr_array(jacobian), diagonal, equalities)


def network(buses: int, branches: np.ndarray, generators: np.ndarray, limited: np.ndarray, seed: int = 0) -> KKT:
    """AC optimal power flow in polar form with flow variables: ``branches [2, l]`` and ``generators`` give buses.

    Variables: angles, magnitudes, active and reactive generation, active and reactive flow of each branch end. Rows: flow
    definitions, balances, a reference angle; then angle differences and the thermal limits of ``limited`` branch ends.
    """
    rng = np.random.default_rng(seed)
    lines, ng = branches.shape[1], generators.size
    angle, magnitude, active, reactive, p, q, n = np.cumsum([0, buses, buses, ng, ng, 2 * lines, 2 * lines])
    source, target = np.concatenate([branches, branches[::-1]], axis=1)
    ends, every = np.arange(2 * lines), np.arange(buses)
    entries, m = [], 0
    for flow in (p, q):
        ones = [(flow + ends, 1.0)]
        for column in (angle + source, angle + target, magnitude + source, magnitude + target):
            ones.append((column, rng.normal(size=2 * lines) * 10.0))
        entries += [(m + ends, column, np.broadcast_to(value, 2 * lines)) for column, value in ones]
        m += 2 * lines
    for generation, flow in ((active, p), (reactive, q)):
        entries.append((m + every, magnitude + every, rng.normal(size=buses)))
        entries.append((m + generators, generation + np.arange(ng), np.ones(ng)))
        entries.append((m + source, flow + ends, -np.ones(2 * lines)))
        m += buses
    entries.append((np.array([m]), np.array([angle]), np.ones(1)))
    equalities = m = m + 1
    for end, sign in ((branches[0], 1.0), (branches[1], -1.0)):
        entries.append((m + np.arange(lines), angle + end, np.full(lines, sign)))
    m += lines
    for flow in (p, q):
        entries.append((m + np.arange(limited.size), flow + limited, rng.normal(size=limited.size)))
    m += limited.size
    rows, columns, values = (np.concatenate(v) for v in zip(*entries))
    jacobian = sps.csr_array((values, (rows, columns)), shape=(m, n))
    corner = np.stack([angle + branches[0], angle + branches[1], magnitude + branches[0], magnitude + branches[1]])
    block = rng.normal(size=(lines, 4, 4)) * 0.1
    rows, columns = np.repeat(corner.T, 4, axis=1).ravel(), np.tile(corner.T, (1, 4)).ravel()
    hessian = sps.csr_array((block.ravel(), (rows, columns)), shape=(n, n))
    return finished((hessian + hessian.T) / 2 + sps.eye_array(n), jacobian, equalities, seed)


def power_flow(name: str) -> KKT:
    """Optimal power flow of a network of the collection."""
    folder = data_folder()
    assert folder is not None
    data = np.load(folder / "opf" / f"{name}.npz")
    bus, gen, branch = data["bus"], data["gen"], data["branch"]
    number = {int(b): k for k, b in enumerate(bus[bus[:, 1] != 4, 0])}
    gen = [number[int(g[0])] for g in gen if g[7] > 0 and int(g[0]) in number]
    kept = np.array([b[10] > 0 and int(b[0]) in number and int(b[1]) in number for b in branch])
    branch = branch[kept]
    ends = np.array([[number[int(b)] for b in branch[:, k]] for k in (0, 1)])
    limited = np.flatnonzero(np.tile(branch[:, 5] != 0, 2))
    return network(len(number), ends, np.array(gen), limited)


def random_network(buses: int, seed: int = 0) -> KKT:
    """Optimal power flow on a random network: a tree, and a third as many lines again between near buses."""
    rng = np.random.default_rng(seed)
    parent = np.maximum(0, np.arange(1, buses) - 1 - rng.exponential(8.0, buses - 1).astype(int))
    extra = rng.integers(0, buses, buses // 3)
    near = np.clip(extra + (rng.normal(size=extra.size) * 12).astype(int), 0, buses - 1)
    branches = np.concatenate([np.stack([np.arange(1, buses), parent]), np.stack([extra, near])], axis=1)
    branches = branches[:, branches[0] != branches[1]]
    generators = rng.choice(buses, buses // 4, replace=False)
    return network(buses, branches, generators, np.arange(2 * branches.shape[1]), seed)


def optimal_control(stages: int = 500, states: int = 8, controls: int = 4, seed: int = 0) -> KKT:
    """Linear dynamics between dense convex stages."""
    rng = np.random.default_rng(seed)
    width = states + controls
    blocks = rng.normal(size=(stages, width, width))
    hessian = sps.block_diag([b @ b.T / width + 0.1 * np.eye(width) for b in blocks])
    own = sps.block_diag([rng.normal(size=(states, width)) for _ in range(stages)])
    following = sps.kron(sps.eye_array(stages, k=1), sps.eye_array(states, width))
    return finished(hessian, own - following, stages * states, seed)


def pde_control(side: int, seed: int = 0) -> KKT:
    """Distributed control of the Laplace equation on a square grid."""
    line = sps.diags_array([-np.ones(side - 1), 2 * np.ones(side), -np.ones(side - 1)], offsets=[-1, 0, 1])
    laplacian = sps.kronsum(line, line)
    n = side * side
    hessian = sps.block_diag([sps.eye_array(n), 1e-2 * sps.eye_array(n)])
    return finished(hessian, sps.hstack([laplacian, -sps.eye_array(n)]), n, seed)


CASES: dict[str, Callable[[], KKT]] = {
    "opf-300": lambda: random_network(300),
    "opf-1000": lambda: random_network(1000),
    "opf-3000": lambda: random_network(3000),
    "control": optimal_control,
    "pde-60": lambda: pde_control(60),
    "pde-100": lambda: pde_control(100),
}


def cases() -> dict[str, Callable[[], KKT]]:
    """All cases; those of the collection, where it is there, by their file names."""
    folder = data_folder()
    files = sorted((folder / "opf").glob("*.npz")) if folder else []
    networks = {path.stem: lambda path=pathlib.Path(path): power_flow(path.stem) for path in files}
    return CASES | networks
