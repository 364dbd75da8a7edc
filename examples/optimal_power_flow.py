"""AC optimal power flow: the cheapest generation that serves the loads of a network, for one load and for many at once.

    python examples/optimal_power_flow.py                     # the network of 30 buses beside this file
    python examples/optimal_power_flow.py case118.m --scenarios 256

Reads MATPOWER case files (Zimmerman, Murillo-Sanchez and Thomas, "MATPOWER", 2011). The model is the polar one: voltages, what
generators inject, and the flows at both ends of each branch as variables of their own, which keeps every row short. Nobody
writes a sparsity structure: `sparse=True` reads it from the functions.
"""

import argparse
import os


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pathlib
import re
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pounce


class Network(NamedTuple):
    """Buses, generators and branches in service, per unit of ``base`` MVA; angles in radians."""

    base: float
    load: np.ndarray  # [2, buses]: active and reactive
    shunt: np.ndarray  # complex, by bus
    reference: np.ndarray  # buses whose angle is zero
    voltage: np.ndarray  # [2, buses]: least and largest magnitude
    bus: np.ndarray  # of each generator
    active: np.ndarray  # [2, generators]
    reactive: np.ndarray
    cost: np.ndarray  # [generators, 3], of MW: quadratic, linear, constant
    ends: np.ndarray  # [2, branches]: the buses at its ends
    admittance: np.ndarray  # [4, branches], complex: own and mutual at the first end, own and mutual at the second
    rating: np.ndarray  # largest apparent flow, infinite if there is none
    angle: np.ndarray  # [2, branches]: least and largest difference


def read_case(path: str | pathlib.Path) -> Network:
    """The network of a MATPOWER case file."""
    text = re.sub(r"%.*", "", pathlib.Path(path).read_text())
    base = float(re.search(r"mpc\.baseMVA\s*=\s*([^;]+);", text).group(1))

    def table(name):
        body = re.search(rf"mpc\.{name}\s*=\s*\[(.*?)\]", text, re.S).group(1)
        rows = [
            [float(word) for word in re.split(r"[\s,]+", line.strip())]
            for line in re.split(r"[;\n]", body)
            if line.strip()
        ]
        width = max(map(len, rows))
        return np.array([row + [0.0] * (width - len(row)) for row in rows])

    return network(base, *(table(name) for name in ("bus", "gen", "branch", "gencost")))


def network(base: float, bus, gen, branch, gencost) -> Network:
    """A network from the tables of MATPOWER's format (version 2, polynomial costs)."""
    bus = bus[bus[:, 1] != 4]
    place = {int(number): k for k, number in enumerate(bus[:, 0])}
    on = np.array([status > 0 and int(number) in place for number, status in gen[:, [0, 7]]])
    gen, gencost = gen[on], gencost[: len(on)][on]
    if np.any(gencost[:, 0] != 2) or np.any(gencost[:, 3] > 3):
        raise ValueError("costs must be polynomials of degree two at most")
    branch = branch[[bool(row[10]) and int(row[0]) in place and int(row[1]) in place for row in branch]]
    cost = np.zeros((len(gen), 3))
    for row, given in zip(cost, gencost):
        count = int(given[3])
        row[3 - count :] = given[4 : 4 + count]
    series = 1.0 / (branch[:, 2] + 1j * branch[:, 3])
    tap = np.where(branch[:, 8] == 0, 1.0, branch[:, 8]) * np.exp(1j * np.deg2rad(branch[:, 9]))
    own = series + 0.5j * branch[:, 4]
    bounds = np.deg2rad(branch[:, 11:13].T)
    unbounded = np.all(branch[:, 11:13] == 0, axis=1)
    full = 2 * np.pi * np.array([[-1.0], [1.0]])
    return Network(
        base=base,
        load=bus[:, 2:4].T / base,
        shunt=(bus[:, 4] + 1j * bus[:, 5]) / base,
        reference=np.flatnonzero(bus[:, 1] == 3),
        voltage=bus[:, [12, 11]].T,
        bus=np.array([place[int(number)] for number in gen[:, 0]]),
        active=gen[:, [9, 8]].T / base,
        reactive=gen[:, [4, 3]].T / base,
        cost=cost,
        ends=np.array([[place[int(number)] for number in column] for column in branch[:, :2].T]),
        admittance=np.stack([own / np.abs(tap) ** 2, -series / np.conj(tap), own, -series / tap]),
        rating=np.where(branch[:, 5] == 0, np.inf, branch[:, 5] / base),
        angle=np.where(unbounded, full, np.clip(bounds, full[:1], full[1:])),
    )


def optimal_power_flow(net: Network) -> tuple[pounce.NLP, np.ndarray]:
    """The program, with the loads ``[2, buses]`` as its parameter, and a starting point."""
    buses, generators, branches = net.voltage.shape[1], len(net.bus), net.ends.shape[1]
    sizes = np.cumsum([buses, buses, generators, generators, 2 * branches])
    first, second = net.ends
    rated = np.flatnonzero(np.isfinite(net.rating))

    def parts(x):
        angle, magnitude, active, reactive, p, q = jnp.split(x, sizes)
        return angle, magnitude, active, reactive, p.reshape(2, -1), q.reshape(2, -1)

    def cost(x, _):
        power = net.base * parts(x)[2]
        return jnp.sum((net.cost[:, 0] * power + net.cost[:, 1]) * power + net.cost[:, 2])

    def flows(angle, magnitude):
        """Apparent flows into each branch at its two ends, by Ohm's law."""
        for (here, there), own, mutual in (
            ((first, second), net.admittance[0], net.admittance[1]),
            ((second, first), net.admittance[2], net.admittance[3]),
        ):
            square = magnitude[here] ** 2
            product = magnitude[here] * magnitude[there]
            cosine, sine = jnp.cos(angle[here] - angle[there]), jnp.sin(angle[here] - angle[there])
            yield (
                own.real * square + product * (mutual.real * cosine + mutual.imag * sine),
                -own.imag * square + product * (mutual.real * sine - mutual.imag * cosine),
            )

    def rows(x, loads):
        angle, magnitude, active, reactive, p, q = parts(x)
        ohm = [
            flow - law for end, laws in enumerate(flows(angle, magnitude)) for flow, law in zip((p[end], q[end]), laws)
        ]
        balances = []
        for generated, flow, load, shunt in (
            (active, p, loads[0], net.shunt.real),
            (reactive, q, loads[1], -net.shunt.imag),
        ):
            leaving = load + shunt * magnitude**2
            balance = jnp.zeros(buses).at[net.bus].add(generated).at[first].add(-flow[0]).at[second].add(-flow[1])
            balances.append(balance - leaving)
        apparent = (p**2 + q**2)[:, rated]
        return jnp.concatenate([angle[net.reference], *ohm, *balances, angle[first] - angle[second], apparent.ravel()])

    limit = np.tile(net.rating, 4)
    square = np.tile(net.rating[rated] ** 2, 2)
    zeros = np.zeros(len(net.reference) + 4 * branches + 2 * buses)
    free = np.full(buses, np.inf)
    lower = np.concatenate([-free, net.voltage[0], net.active[0], net.reactive[0], -limit])
    upper = np.concatenate([free, net.voltage[1], net.active[1], net.reactive[1], limit])
    problem = pounce.NLP(
        cost,
        rows,
        lb=lower,
        ub=upper,
        cl=np.concatenate([zeros, net.angle[0], np.full(square.size, -np.inf)]),
        cu=np.concatenate([zeros, net.angle[1], square]),
        sparse=True,
    )
    flat = np.concatenate([np.zeros(buses), np.ones(buses), np.zeros(2 * generators + 4 * branches)])
    return problem, np.clip(flat, lower, upper)


def main() -> None:
    """Solve for the loads as they are, price them by a gradient, and solve for many loads in one call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default=str(pathlib.Path(__file__).with_name("case30.m")))
    parser.add_argument("--scenarios", type=int, default=64)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    net = read_case(arguments.case)
    problem, x0 = optimal_power_flow(net)
    solver = pounce.InteriorPoint()

    def timed(function, *inputs):
        begin = time.perf_counter()
        result = jax.block_until_ready(function(*inputs))
        return result, time.perf_counter() - begin

    solve = jax.jit(lambda loads: pounce.solve(problem, solver, x0, loads))
    loads = jnp.asarray(net.load)
    print(
        f"compiling three programs for {len(x0)} variables: up to a minute each on a slow core",
        file=sys.stderr,
        flush=True,
    )
    _, first = timed(solve, loads)
    solution, again = timed(solve, loads)
    size = f"{len(x0)} variables, {solution.constraints.size} rows"
    print(f"{size}: {solution.stats.iterations} iterations, cost {solution.objective:.2f} per hour", flush=True)
    print(f"first call {first:.1f} s, with compilation; then {1e3 * again:.1f} ms")

    prices = jax.jit(jax.grad(lambda loads: solve(loads).objective))(loads)[0] / net.base
    dearest = int(jnp.argmax(prices))
    print(
        f"one more MW costs {jnp.min(prices):.2f} to {jnp.max(prices):.2f} per MWh; the dearest bus is number {dearest}"
    )

    factors = np.random.default_rng(0).uniform(0.8, 1.0, (arguments.scenarios, 1, net.load.shape[1]))
    many = jax.jit(jax.vmap(solve))
    timed(many, factors * net.load)
    solutions, seconds = timed(many, factors * net.load)
    solved = int(jnp.sum(solutions.status == 0))
    print(
        f"{solved} of {arguments.scenarios} scenarios solved at once, {1e3 * seconds / arguments.scenarios:.2f} ms each"
    )


if __name__ == "__main__":
    main()
