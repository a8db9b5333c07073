"""The part of a network that has certain roles: what training learns, what it computes from data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.symmetry.spec import PermutationSpec
from dwalign.symmetry.weights import Role, leaf_roles

PyTree = Any


def part_of(
    spec: PermutationSpec, params: PyTree, *roles: Role
) -> tuple[list[jax.Array], Callable[[list[jax.Array]], PyTree]]:
    """The real and complex arrays of these roles, and the function that puts others in their places.

    What training learns are those of "weight" and "fixed": quantised weights have no slope.

    >>> from dwalign.symmetry import Axes, PermutationSpec
    >>> spec = PermutationSpec({"w": Axes("h"), "step": Axes()}, {"h": 2})
    >>> arrays, put = part_of(spec, {"w": jnp.ones(2), "step": 7}, "weight", "fixed")
    >>> put([2 * array for array in arrays])["w"].tolist()
    [2.0, 2.0]
    """
    leaves = spec.treedef.flatten_up_to(params)
    places = [
        k
        for k, (role, leaf) in enumerate(zip(leaf_roles(spec, params), leaves, strict=True))
        if role in roles and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]

    def put(arrays):
        return spec.treedef.unflatten((dict(enumerate(leaves)) | dict(zip(places, arrays, strict=True))).values())

    return [jnp.asarray(leaves[k]) for k in places], put
