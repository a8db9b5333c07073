"""What a group or an array is to its network: parts of one role can share what is learned for them.

All hidden layers of an MLP but the first and the last play one role, and so do their kernels, in MLPs of every width
and depth.
"""

import re
from collections.abc import Sequence

from dwalign.symmetry.spec import Block, PermutationSpec


def group_roles(spec: PermutationSpec, *, shared: bool = True) -> dict[str, str]:
    """Group to role: the arrays that carry it, by the last name of their path, and on which axis.

    With `shared=False` every group plays a role of its own.

    >>> from dwalign.networks import mlp
    >>> roles = group_roles(mlp(64, (16, 16, 16, 16), 10).spec)
    >>> roles["h1"] == roles["h2"] == group_roles(mlp(64, (8, 8, 8), 10).spec)["h1"], roles["h0"] == roles["h1"]
    (True, False)
    """
    if not shared:
        return {group: group for group in spec.sizes}
    places: dict[str, set[str]] = {group: set() for group in spec.sizes}
    for path, axes in zip(spec.paths, spec.leaves, strict=True):
        for group in axes.names() & set(spec.sizes):
            marks = {name: "." if name in spec.sizes else "_" for name in axes.names()} | {group: "self"}
            # sizes of what is fixed differ between networks of one kind
            places[group].add(f"{_last_name(path)}({re.sub('[0-9]+', '_', str(axes.renamed(marks)))})")
    return {group: " & ".join(sorted(found)) for group, found in places.items()}


def block_roles(spec: PermutationSpec, blocks: Sequence[Block], *, shared: bool = True) -> list[str]:
    """The role of each block: the last name of its path, a dot for every group, the sizes of all else.

    With `shared=False` every block plays a role of its own.

    >>> from dwalign.networks import mlp
    >>> import jax
    >>> net = mlp(64, (16, 16, 16), 10)
    >>> block_roles(net.spec, net.spec.blocks(jax.jit(net.init)(jax.random.key(0))))[1::2]
    ['kernel(64, .)', 'kernel(., .)', 'kernel(., .)', 'kernel(., 10)']
    """
    if not shared:
        return [str(k) for k in range(len(blocks))]
    dims = lambda block: (
        "." if factor in spec.sizes else str(n) for factor, n in zip(block.factors, block.array.shape, strict=True)
    )
    return [f"{_last_name(block.path)}({', '.join(dims(block))})" for block in blocks]


def _last_name(path: str) -> str:
    """The last name of a path and the numbers behind it."""
    names = re.findall(r"\w+", path)
    last = max((k for k, name in enumerate(names) if not name.isdigit()), default=0)
    return " ".join(names[last:])
