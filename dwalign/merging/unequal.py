"""Networks of unequal widths: the narrow one with units that do nothing, in the shapes of the wide one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.deepalign import as_method
from dwalign.matching import Method
from dwalign.program import CLASSIFICATION, Data, Network, Task, count_examples, examine, spec_of, trials
from dwalign.program.trial import difference
from dwalign.symmetry import Alignment, Block, PermutationSpec, SpecError, leaf_roles, namespace, wide as widened

PyTree = Any


def embed(wide: Network | PermutationSpec, narrow: Network | PermutationSpec, params: PyTree) -> PyTree:
    """The narrow network with as many units as the wide one; those that are added read nothing and are not read.

    Args:
      wide, narrow: the two networks, of one program at different widths; or their specs where nobody need be sure that
        the function stays. Networks are checked: units that do nothing change the result where something is computed
        over all units of a group, as layer and group normalisation do, or scaled by their number, as attention is by
        that of a head.
      params: those of the narrow one, NumPy arrays or JAX's.

    Returns:
      params in the shapes of the wide one, the units of the narrow one first in every group; the same function.

    Raises:
      SpecError: the specs differ in more than sizes, or a group is wider in the narrow network.
      ValueError: the two programs do not compute the same then.

    >>> from dwalign.networks import mlp
    >>> wide, narrow = mlp(3, (5,), 2), mlp(3, (4,), 2)
    >>> embed(wide, narrow, narrow.init(jax.random.key(0)))["params"]["dense_0"]["kernel"].shape
    (3, 5)
    """
    big, small = spec_of("embed", wide), spec_of("embed", narrow)
    _check_sizes(big, small)
    small.check(params)
    if isinstance(wide, Network) and isinstance(narrow, Network):
        error, limit = _change(wide, narrow)
        if not error <= limit:
            raise ValueError(
                "embed: units of zeros must not change what the network computes, but the outputs of the wide program "
                f"differ by {error:.1e} (relative); is something computed over all units, such as a layer "
                f"normalisation, or scaled by their number? The groups are {dict(small.sizes)} and {dict(big.sizes)}"
            )
    return _padded(big, small, params)


def align_unequal(
    wide: Network | PermutationSpec,
    narrow: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    method: str | Method = "anchored_matching",
    *,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    key: jax.Array | None = None,
) -> Alignment:
    """Match the units of a narrow network to as many of a wide one: the alignment of `embed(wide, narrow, b)` to a.

    An inner product finds the nearest only where all units of a have partners: of fewer, the largest would win. So
    methods that read weights see every weight w of a as (w, -w^2 / 2) and of b as (w, 1), zeros where it has none. Of
    these the inner product is, up to a constant, -1/2 the squared distance over the weights that the narrow network
    has. Methods that read activations see the embedded network; correlations favour no unit there.

    Args:
      wide, narrow: as for `embed`.
      a, b: parameters of the wide and of the narrow network.
      method, data, task, key: as for `align`; "auto" is what `choose_method` chooses for the wide network.

    Returns:
      perms with `permute(spec, embed(wide, narrow, b), perms)` in the order of a; units beyond those of the narrow
      network go to the units of a that are left over.

    Raises:
      As `embed` and the method.

    >>> from dwalign.symmetry import Axes
    >>> spec = lambda n: PermutationSpec({"w": Axes("h")}, {"h": n})
    >>> a, b = {"w": np.float32([9, 3, 1])}, {"w": np.float32([1.1, 2.9])}
    >>> align_unequal(spec(3), spec(2), a, b).perms["h"].tolist()
    [2, 1, 0]
    """
    chosen, spec = as_method(wide, method, data), spec_of("align_unequal", wide)
    padded = embed(wide, narrow, b)
    spec.check(a, "a")
    if chosen.needs != "weights":
        return chosen(wide, a, padded, data=data, task=task, key=key)
    small = spec_of("align_unequal", narrow)
    twice = PermutationSpec(
        (spec.axes, spec.axes),
        spec.sizes,
        batch=spec.batch,
        fixed=spec.fixed,
        statistics=[f"[{k}]{path}" for k in range(2) for path in spec.statistics],
    )
    half_square = _on_weights(spec, a, lambda xp, x: -0.5 * xp.abs(x) ** 2)
    present = _padded(spec, small, _on_weights(small, b, lambda xp, x: xp.ones_like(xp.abs(x))))
    return chosen(twice, (a, half_square), (padded, present), data=data, task=task, key=key)


def _on_weights(spec: PermutationSpec, params: PyTree, function: Any) -> PyTree:
    """`function` of the weights, in at least 32 bits; all else as it is."""

    def change(role, leaf):
        if role != "weight":
            return leaf
        xp = namespace(leaf)
        array = xp.asarray(leaf)
        return function(xp, array.astype(widened(array.dtype)))

    leaves = zip(leaf_roles(spec, params), spec.treedef.flatten_up_to(params), strict=True)
    return spec.treedef.unflatten([change(*leaf) for leaf in leaves])


def _padded(big: PermutationSpec, small: PermutationSpec, params: PyTree) -> PyTree:
    leaves, roles = small.treedef.flatten_up_to(params), leaf_roles(small, params)

    def pad(role: str, block: Block):
        array = block.array
        more = [(0, big.size(f) - n if f is not None else 0) for f, n in zip(block.factors, array.shape, strict=True)]
        if not any(after for _, after in more):
            return array
        # a variance of zero has no inverse, and what is multiplied by it is zero anyway
        return namespace(array).pad(array, more, constant_values=int(role == "statistic"))

    padded = (
        axes.join(pad(role, block) for block in small.leaf_blocks(number, leaf))
        for number, (axes, role, leaf) in enumerate(zip(small.leaves, roles, leaves, strict=True))
    )
    return small.treedef.unflatten(list(padded))


def _check_sizes(big: PermutationSpec, small: PermutationSpec) -> None:
    if (big.treedef, dict(big.batch), dict(big.fixed)) != (small.treedef, dict(small.batch), dict(small.fixed)):
        raise SpecError(
            "embed: the networks must differ in the sizes of their groups alone, but their trees, their fixed factors "
            "or what their groups are batched over differ; were they made by one program?"
        )
    for path, one, two in zip(big.paths, big.leaves, small.leaves, strict=True):
        if one != two:
            raise SpecError(f"embed: the networks must differ in sizes alone, but {path} is {one} and {two}")
    if wider := {g: (n, big.sizes[g]) for g, n in small.sizes.items() if n > big.sizes[g]}:
        raise SpecError(
            f"embed: every group must be at least as wide in the wide network, found (narrow, wide) {wider}; exchange "
            "the two, or take the wider of both for each group"
        )


@functools.lru_cache(256)
def _change(wide: Network, narrow: Network) -> tuple[float, float]:
    """How far the function differs at a generic point, and what passes as rounding."""
    twice = lambda leaf: jax.ShapeDtypeStruct((4, *jnp.shape(leaf)[1:]), jnp.result_type(leaf))
    example = jax.tree.map(lambda leaf: twice(leaf) if jnp.ndim(leaf) else leaf, narrow.example)
    example = example if count_examples(narrow.example) else narrow.example
    rng = np.random.default_rng(0)
    big, small = (examine(net.apply, net.params, example) for net in (wide, narrow))
    for trial in trials(small, rng):
        params = _padded(wide.spec, narrow.spec, jax.tree.map(np.asarray, trial.params))
        results = big.run([*jax.tree.leaves(params), *trial.inputs])
        return difference(trial.reference, results), max(trial.floor, 30 * trial.rounding())
    return np.inf, 0.0
