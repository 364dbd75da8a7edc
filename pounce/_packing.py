"""A pytree of numbers as a few float64 vectors: a compiled function takes and gives a dozen arrays instead of hundreds."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float, PyTree


# XLA runs the kernels of a program one after the other, in one thread, only if no array has more than 512 bytes; else it
# hands each to a pool of threads, which takes longer than a kernel of ours.
LARGEST_GROUP = 64

Vectors = tuple[Float[Array, " k"], ...]


class Packing:
    """The structure of a pytree, and where its leaves lie in the vectors. Integers below 2**53 and booleans are exact."""

    def __init__(self, like: PyTree):
        """``like``: the pytree, or its shapes as `jax.eval_shape` gives them."""
        leaves, self._structure = jax.tree.flatten(like)
        self._leaves = [(tuple(leaf.shape), np.dtype(leaf.dtype)) for leaf in leaves]
        self._places: list[tuple[int, int, int]] = []  # vector, start, end
        self.sizes: list[int] = []
        for shape, _ in self._leaves:
            size = math.prod(shape)
            if not self.sizes or self.sizes[-1] + size > LARGEST_GROUP:
                self.sizes.append(0)
            self._places.append((len(self.sizes) - 1, self.sizes[-1], self.sizes[-1] + size))
            self.sizes[-1] += size
        self.count = len(self._leaves)

    def like(self) -> PyTree:
        """The shapes of the pytree."""
        return jax.tree.unflatten(self._structure, [jax.ShapeDtypeStruct(*leaf) for leaf in self._leaves])

    def vectors_like(self) -> Vectors:
        """The shapes of the vectors."""
        like: Any = tuple(jax.ShapeDtypeStruct((size,), np.float64) for size in self.sizes)
        return like

    def _grouped(self, leaves: list[Any], numpy: Any) -> tuple:
        groups: list[list[Any]] = [[] for _ in self.sizes]
        for leaf, (group, _, _) in zip(leaves, self._places):
            groups[group].append(numpy.ravel(leaf).astype(np.float64))
        return tuple(numpy.concatenate(group) for group in groups)

    def pack(self, tree: PyTree) -> Vectors:
        """The vectors of a traced pytree."""
        return self._grouped(jax.tree.leaves(tree), jnp)

    def pack_host(self, tree: PyTree) -> tuple[np.ndarray, ...]:
        """The vectors of a pytree of NumPy arrays."""
        return self._grouped(jax.tree.leaves(tree), np)

    def blank(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Vectors of zeros, and the leaves as views into them, to be filled in."""
        vectors = [np.zeros(size) for size in self.sizes]
        return vectors, self._views(vectors)

    def _views(self, vectors: Any) -> list[Any]:
        return [
            vectors[group][start:end].reshape(shape)
            for (group, start, end), (shape, _) in zip(self._places, self._leaves)
        ]

    def leaves(self, vectors: Any) -> list[Any]:
        """The leaves of the pytree; arrays of the vectors' kind (traced or NumPy)."""
        parts = zip(self._views(vectors), self._leaves)
        return [part != 0 if dtype == bool else part.astype(dtype) for part, (_, dtype) in parts]

    def unpack(self, vectors: Any) -> PyTree:
        """The pytree."""
        return self.join(self.leaves(vectors))

    def leaves_host(self, vectors: Any) -> list[np.ndarray]:
        """The leaves as float64 views of NumPy."""
        return self._views([np.asarray(vector) for vector in vectors])

    def join(self, leaves: list[Any]) -> PyTree:
        """The pytree of these leaves."""
        return jax.tree.unflatten(self._structure, leaves)

    def unpack_host(self, vectors: Any) -> PyTree:
        """The pytree, of NumPy arrays."""
        return self.unpack([np.asarray(vector) for vector in vectors])


class Handover:
    """What one compiled function has to hand to the next one, which is given the inputs of the first as well.

    Most of what a first function returns may be inputs passed through, things named twice, or nothing that the second
    one looks at. Only the rest is packed.
    """

    def __init__(self, first: ClosedJaxpr, leaves: int, wanted: list[bool]):
        """``first``: the first function, the first ``leaves`` of whose results are to be handed over where ``wanted``."""
        jaxpr = first.jaxpr
        inputs = {id(variable): k for k, variable in enumerate(jaxpr.invars)}
        constants = {id(variable): value for variable, value in zip(jaxpr.constvars, first.consts)}
        self._sources: list[tuple[str, Any]] = []
        self._new: list[int] = []
        known: dict[int, int] = {}
        for k, (variable, want) in enumerate(zip(jaxpr.outvars[:leaves], wanted)):
            shape, dtype = variable.aval.shape, variable.aval.dtype  # pyright: ignore[reportAttributeAccessIssue]
            if not want:
                source = ("constant", np.zeros(shape, dtype))
            elif isinstance(variable, Literal):
                source = ("constant", np.asarray(variable.val, dtype))
            elif id(variable) in constants:
                source = ("constant", constants[id(variable)])
            elif id(variable) in inputs:
                source = ("input", inputs[id(variable)])
            else:
                if id(variable) not in known:
                    known[id(variable)] = len(self._new)
                    self._new.append(k)
                source = ("new", known[id(variable)])
            self._sources.append(source)
        avals: list[Any] = [jaxpr.outvars[k].aval for k in self._new]
        self._packing = Packing([jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals])

    def vectors_like(self) -> Vectors:
        """The shapes of the vectors."""
        return self._packing.vectors_like()

    def pack(self, results: list[Any]) -> Vectors:
        """The vectors of what is new in the results of the first function."""
        return self._packing.pack([results[k] for k in self._new])

    def unpack(self, vectors: Any, inputs: list[Any]) -> list[Any]:
        """The results of the first function again, from the vectors and the function's inputs."""
        places = {"new": self._packing.leaves(vectors), "input": inputs}
        return [value if kind == "constant" else places[kind][value] for kind, value in self._sources]


def looked_at(closed: ClosedJaxpr) -> list[bool]:
    """Which of its inputs a function uses at all."""
    used = {id(atom) for equation in closed.jaxpr.eqns for atom in equation.invars}
    used |= {id(atom) for atom in closed.jaxpr.outvars}
    return [id(variable) in used for variable in closed.jaxpr.invars]
