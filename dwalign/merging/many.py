"""Any number of networks into one: all aligned to one universe, then averaged."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from dwalign.bounds import Names, bounded
from dwalign.deepalign import as_method
from dwalign.matching import Method
from dwalign.merging.statistics import renewed
from dwalign.merging.universe import HOW, Given, in_order_of_first
from dwalign.program import CLASSIFICATION, Data, Network, Task, as_data, spec_of
from dwalign.symmetry import PermutationSpec, check_finite, interpolate, mean, permute

PyTree = Any


class Merged(NamedTuple):
    """Attributes:
    params: the merged network.
    perms: for each network its alignment to the universe, whose units are in the order of the first network; that of
      network j to network k is `compose(spec, inverse(spec, perms[k]), perms[j])`, whichever way it is reached.
    """

    params: PyTree
    perms: tuple[dict[str, jax.Array], ...]


@bounded
def merge_many(
    network: Network | PermutationSpec,
    networks: Sequence[PyTree],
    method: str | Method = "anchored_matching",
    *,
    how: str = "universe",
    weights: Sequence[float] | None = None,
    keep: Names = (),
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    key: jax.Array | None = None,
    renew: Callable[[PyTree], PyTree] | None = None,
) -> Merged:
    """Align many networks to one order of their units and average them.

    Args:
      network: what all are, or its spec, for methods that read weights alone.
      networks: parameters, a sequence of at least two.
      method: of two networks, as for `align`, "auto" too; it is asked by all ways below.
      how: "first" aligns each to the first network; "running_mean" each in turn to the mean of those before it;
        "merge_many" each to the mean of all others, again and again until none moves (MergeMany of Git Re-Basin,
        Ainsworth et al. 2023); "universe" goes on from the running mean and moves all at once to where the sum over all
        pairs of the inner products of their weights is largest (C2M3, Crisostomi et al. 2024; their start is the method
        "naive"); "refinement" goes on from there with steps down the loss of the merged network, on labelled data;
        "features" moves all at once to where the sum over all pairs of the scores of matched units is largest (Pachauri
        et al. 2013), for methods that compare features of single networks, trained aligners among them: each network is
        encoded once, and no pair is looked at.
      weights: one a network, of which shares are taken for the average; equal by default.
      keep: layers that stay those of the first network, as for `average`.
      data: training data, for methods that need them and to renew batch statistics.
      task: what the networks are for, for methods that need labels.
      key: `jax.random.key(0)` by default.
      renew: as for `average`.

    Raises:
      SpecError: a network does not fit the spec.
      ValueError: fewer than two networks, NaN or infinite weights, an unknown way, or what the method says.

    Warns:
      UserWarning: as for `average`.

    Not to be traced: loops end when nothing moves any more.

    >>> import numpy as np
    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> merge_many(spec, [{"w": np.float32(w)} for w in ([0, 3], [6, 0], [0, 9])]).params["w"].tolist()
    [0.0, 6.0]
    """
    spec, data = spec_of("merge_many", network), as_data("merge_many", data)
    chosen = as_method(network, method, data)
    key = jax.random.key(0) if key is None else key
    if how not in HOW:
        raise ValueError(f"merge_many: how must be one of {list(HOW)}, got {how!r}")
    if not isinstance(networks, list | tuple) or len(networks) < 2:
        raise ValueError(
            "merge_many: networks must be a list of the parameters of at least two networks, got "
            f"{type(networks).__name__}{f' of {len(networks)}' if isinstance(networks, list | tuple) else ''}"
        )
    for other in networks[1:]:
        chosen.check(network, networks[0], other, data=data, task=task, key=key)
    for number, params in enumerate(networks):
        check_finite("merge_many", spec, params, f"networks[{number}]")

    def pairwise(a, b, key):
        return chosen(network, a, b, key=key, data=data, task=task, checked=True).perms

    def encode(params, key):
        return chosen.encode(network, params, key=key, data=data)

    given = Given(network, networks, pairwise, encode, key, data, task)
    perms = in_order_of_first(spec, HOW[how](given))
    moved = [permute(spec, params, perm) for params, perm in zip(networks, perms, strict=True)]
    merged = mean(spec, moved, weights)
    if keep:
        merged = interpolate(spec, networks[0], merged, {"*": 1.0, **dict.fromkeys(keep, 0.0)})
    return Merged(renewed(network, merged, data, renew), tuple(perms))
