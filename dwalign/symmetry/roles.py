"""What a group or an array is to its network: parts of one role can share what is learned for them.

All hidden layers of an MLP but the first and the last play one role, and so do their kernels, in MLPs of every width
and depth, whatever the arrays are called and in whatever order their dimensions are stored.
"""

import re
from collections.abc import Iterator, Sequence

from dwalign.symmetry.spec import Block, PermutationSpec


def as_read(spec: PermutationSpec, blocks: Sequence[Block], *, shared: bool = True) -> list[Block]:
    """All blocks of some leaves with their axes in the order in which layers read them (`PermutationSpec.reading`).

    With `shared=False` as they are.

    >>> import numpy as np
    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h", None)}, {"h": 2}, reading={"['w']": (1, 0)})
    >>> [(block.factors, block.array.shape) for block in as_read(spec, spec.blocks({"w": np.ones((2, 3))}))]
    [((None, 'h'), (3, 2))]
    """
    if not shared:
        return list(blocks)
    orders = {number: iter(_orders(spec, number)) for number in {block.leaf for block in blocks}}
    return [_turned(block, next(orders[block.leaf])) for block in blocks]


def group_roles(spec: PermutationSpec, *, shared: bool = True) -> dict[str, str]:
    """Group to role: the arrays that carry it, and on which axis as they are read.

    The last name of an array's path is told only where another array of the group carries it in the same way, as a bias
    beside a scale. With `shared=False` every group plays a role of its own.

    >>> from dwalign.networks import mlp
    >>> roles = group_roles(mlp(64, (16, 16, 16, 16), 10).spec)
    >>> roles["h1"], roles["h1"] == roles["h2"] == group_roles(mlp(64, (8, 8, 8), 10).spec)["h1"]
    ('(., self) & (self) & (self, .)', True)
    """
    if not shared:
        return {group: group for group in spec.sizes}
    found: dict[str, set[str]] = {group: set() for group in spec.sizes}
    names = _names(spec)
    for leaf, group, place in _places(spec):
        found[group].add(names[leaf] + place)
    return {group: " & ".join(sorted(places)) for group, places in found.items()}


def block_roles(spec: PermutationSpec, blocks: Sequence[Block], *, shared: bool = True) -> list[str]:
    """The role of each block `as_read`: a dot for every group, the sizes of all else; a name where a group tells it.

    With `shared=False` every block plays a role of its own.

    >>> from dwalign.networks import mlp
    >>> import jax
    >>> net = mlp(64, (16, 16, 16), 10)
    >>> block_roles(net.spec, net.spec.blocks(jax.jit(net.init)(jax.random.key(0))))[1::2]
    ['(64, .)', '(., .)', '(., .)', '(., 10)']
    """
    if not shared:
        return [str(k) for k in range(len(blocks))]
    names = _names(spec)
    dims = lambda block: (
        "." if factor in spec.sizes else str(n) for factor, n in zip(block.factors, block.array.shape, strict=True)
    )
    return [f"{names[block.leaf]}({', '.join(dims(block))})" for block in blocks]


def _orders(spec: PermutationSpec, leaf: int) -> list[tuple[int, ...]]:
    """For each block of a leaf the order in which its axes are read; positions of units come before them."""
    read, axes = spec.reading.get(spec.paths[leaf]), spec.leaves[leaf]

    def order(factors, dims):
        # flat pictures go by positions first or by channels first
        key = lambda k: (read.index(dims[k]) if read else dims[k], factors[k] in spec.sizes)
        return tuple(sorted(range(len(dims)), key=key))

    return [order(*block) for block in zip(axes.blocks(), axes.dimensions(), strict=True)]


def _turned(block: Block, order: tuple[int, ...]) -> Block:
    # the two parts of complex numbers are one more axis
    order = (*order, *range(len(order), block.array.ndim))
    turned = lambda parts: tuple(parts[k] for k in order) if parts else parts
    return block._replace(
        factors=turned(block.factors), array=block.array.transpose(order), powers=turned(block.powers)
    )


def _places(spec: PermutationSpec) -> Iterator[tuple[int, str, str]]:
    """The number of a leaf, a group that it carries, and where, as it is read."""
    for leaf, axes in enumerate(spec.leaves):
        for factors, order in zip(axes.blocks(), _orders(spec, leaf), strict=True):
            for group in dict.fromkeys(f for f in factors if f in spec.sizes):
                # sizes of what is fixed differ between networks of one kind
                mark = lambda f, group=group: "self" if f == group else "." if f in spec.sizes else "_"
                yield leaf, group, f"({', '.join(mark(factors[k]) for k in order)})"


def _names(spec: PermutationSpec) -> list[str]:
    """Of each leaf the last name of its path where a group is carried likewise by one of another name, else nothing."""
    last = [_last_name(path) for path in spec.paths]
    alike: dict[tuple[str, str], set[str]] = {}
    for leaf, group, place in _places(spec):
        alike.setdefault((group, place), set()).add(last[leaf])
    told = {leaf for leaf, group, place in _places(spec) if len(alike[group, place]) > 1}
    return [name if leaf in told else "" for leaf, name in enumerate(last)]


def _last_name(path: str) -> str:
    """The last name of a path and the numbers behind it."""
    names = re.findall(r"\w+", path)
    last = max((k for k, name in enumerate(names) if not name.isdigit()), default=0)
    return " ".join(names[last:])
