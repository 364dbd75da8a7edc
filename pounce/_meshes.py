"""Arrays whose place on a mesh of devices is a part of their types."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def place_of(arguments: Any, lanes: Any = None) -> NamedSharding | None:
    """Where the results of a solve of these arrays go if they, or what happens around it, are on an explicit mesh; else None.

    That is on all devices, but for the first axis where it is the one of ``lanes``, an array. Raises `ValueError` inside of a
    `jax.shard_map` that wants to know of every array of a solve whether it differs between devices.
    """
    types = [jax.typeof(leaf) for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array)]
    if any(getattr(getattr(each, "manual_axis_type", each), "varying", None) for each in types):
        raise ValueError(
            "pounce: inside of `jax.shard_map`, call that with `check_vma=False` (the loops of a solve need it)"
        )
    meshes = [jax.sharding.get_abstract_mesh(), *(each.sharding.mesh for each in types)]
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        return None
    spec = () if lanes is None else jax.typeof(lanes).sharding.spec[:1]
    return NamedSharding(mesh, PartitionSpec(*spec))


def placed(function: Callable, place: NamedSharding | None) -> Callable:
    """A function that may be called with arrays on the mesh of ``place``, where its results go.

    On an explicit mesh every operation has to say where its result goes. What happens inside of a solve is nobody's business, so
    it runs as on a mesh whose axes the compiler divides.
    """
    return function if place is None else jax.sharding.auto_axes(function, out_sharding=place)


def first_lane(leaf: Any) -> Any:
    """The first entry of an array along its first axis, whichever device it is on."""
    place = place_of(leaf)
    return leaf[0] if place is None else jax.jit(placed(lambda leaf: leaf[0], place))(leaf)
