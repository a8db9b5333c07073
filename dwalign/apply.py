"""The door for pipelines: align, permute, interpolate, merge, distance.

>>> import jax
>>> from dwalign import apply, networks
>>> net = networks.mlp(8, (6, 5), 3)
>>> a = jax.jit(net.init)(jax.random.key(0))
>>> b = apply.permute(net.spec, a, apply.random_perms(net.spec, jax.random.key(1)))
>>> found = apply.align(net, a, b, "weight_matching", key=jax.random.key(2))
>>> float(apply.distance(net.spec, a, b, perms=found.perms))
0.0

All of them work under `jit` and `vmap`; `permute`, `interpolate` and `distance` can be differentiated too. What only
numbers can tell, whether all weights are finite, is left out there. `align` and `merge` take a network (or a spec, for
methods that read weights alone); a method compiles once for each network, options, shapes and types.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dwalign import symmetry
from dwalign.deepalign import as_method, choose_method, deep_align, load_aligner
from dwalign.kept import keep
from dwalign.matching import Method, chain, common_power, find_method, known_methods
from dwalign.merging import average
from dwalign.program import (
    CLASSIFICATION,
    Data,
    Network,
    Task,
    as_data,
    certify,
    count_examples,
    infer_spec,
    outputs_of,
    shapes_of,
    spec_of,
    take_examples,
)
from dwalign.symmetry import (
    Alignment,
    PermutationSpec,
    Weight,
    canonical,
    check_spec,
    compose,
    gauge,
    identity,
    inverse,
    is_traced,
    permute,
    random_perms,
)

PyTree = Any

__all__ = [
    "Alignment",
    "Data",
    "Method",
    "Network",
    "PermutationSpec",
    "Task",
    "align",
    "canonical",
    "certify",
    "chain",
    "choose_method",
    "compose",
    "deep_align",
    "distance",
    "find_method",
    "gauge",
    "identity",
    "infer_spec",
    "interpolate",
    "inverse",
    "known_methods",
    "load_aligner",
    "merge",
    "permute",
    "random_perms",
]


def align(
    network: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    method: str | Method = "anchored_matching",
    *,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    key: jax.Array | None = None,
    certified: bool = True,
    tolerance: float | None = None,
    **options: Any,
) -> Alignment:
    """Match the hidden units of `b` to those of `a`.

    Args:
      network: what both are, `dwalign.network(apply, params, inputs)` for any program; a spec serves methods that read
        weights alone.
      a, b: parameters of two networks; all values must be finite.
      method: one of `known_methods()` or its name, or "auto" for that of `choose_method`, which also says why it is
        that one. Names joined by `+` start from one another
        (`"weight_matching+refine"`), as do `chain(weight_matching.using(restarts=5), refine)`.
      data: training data, for methods that need them: `Data(inputs, labels)`.
      task: what the networks are for, for methods that need labels: `Task(loss, hits)`.
      key: random key; `jax.random.key(0)` by default.
      certified: check once for each network and shapes that permuting does not change the function.
      tolerance: relative change of the results that passes as rounding in that check; by default what the precision of
        the network asks for, see `certify`.
      options: of a single method.

    Returns:
      perms, and what else the method finds. Programs that it compiled are found again by the next call with the same
      network, method, options, shapes and types.

    Raises:
      SpecError: a or b does not fit the spec, or their shapes differ; the message names the array.
      CertificateError: the spec does not describe symmetries of the network; the message names group and array.
      ValueError: unknown method, options or data that it does not take or lacks, NaN or infinite weights (not under
        `jit` and `vmap`).
    """
    spec, data = spec_of("align", network), as_data("align", data)
    chosen = as_method(network, method, data)
    if options and chosen.first is not None:
        raise ValueError(
            f"align: options of the parts of {str(chosen)!r} are set on these, found {sorted(options)}; pass a chain "
            "such as chain(weight_matching.using(restarts=5), refine)"
        )
    chosen = chosen.using(**options)
    kinds = tuple([(one.function, *one.options) for one in chosen.parts])
    seen = _seen(network, kinds, certified, tolerance, shapes_of((a, b, data, key)))
    if seen:
        chosen.check_values(network, a, data, task)
    else:
        chosen.check(network, a, b, data=data, task=task, key=key)
    power = common_power(spec, a, b, caller="align")
    if not seen and certified and isinstance(network, Network):
        _certify(network, a, data, tolerance)
    seen.add("all that shapes and types tell")
    return chosen(network, a, b, data=data, task=task, key=key, checked=True, power=power)


def interpolate(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    weight: Weight | Mapping[str, Weight],
    *,
    perms: Mapping | None = None,
) -> PyTree:
    """`(1 - weight) a + weight P.b`; without `perms` b is taken as it is.

    The weight may be another for every layer, as for `average`.

    Computed in float32 or wider, stored in the types of a; integers that carry a group (quantised weights) are rounded
    to the nearest, masks, keys and counters are those of a. Batch statistics are averaged too, but have to be renewed:
    see `merge`.

    Raises `SpecError` if a or b does not fit the spec, or their shapes or kinds of numbers differ.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> a, b, swap = {"w": jnp.array([0.0, 4.0])}, {"w": jnp.array([8.0, 0.0])}, {"h0": jnp.array([1, 0])}
    >>> interpolate(spec, a, b, 0.25)["w"].tolist(), interpolate(spec, a, b, 0.25, perms=swap)["w"].tolist()
    ([2.0, 3.0], [0.0, 5.0])
    """
    return symmetry.interpolate(spec, a, _aligned(spec, a, b, perms), weight)


def merge(
    network: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    method: str | Method = "anchored_matching",
    *,
    weight: Weight | Mapping[str, Weight] = 0.5,
    keep: Sequence[str] = (),
    data: Data | None = None,
    renew: Callable[[PyTree], PyTree] | None = None,
    **options: Any,
) -> PyTree:
    """Align b to a and average: `interpolate` at `weight` after `align`.

    Args:
      network, a, b, method, data, options: as for `align`.
      weight, keep: of b, and the layers that stay those of a; see `average`.
      renew: params to params, done to the result: batch statistics of averaged weights are not the average of those
        of the two networks (Jordan et al. 2023, REPAIR). By default they are computed anew on the inputs of `data`
        where the network can (`Network.train`); a function that changes nothing says that the average is wanted.

    Warns:
      UserWarning: the networks have statistics of units, and neither data nor `renew` is given to renew them.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> merge(spec, {"w": jnp.array([0.0, 4.0])}, {"w": jnp.array([8.0, 0.0])})["w"].tolist()
    [0.0, 6.0]
    """
    perms = align(network, a, b, method, data=data, **options).perms
    return average(network, a, b, perms, weight=weight, keep=keep, data=data, renew=renew)


def distance(spec: PermutationSpec, a: PyTree, b: PyTree, *, perms: Mapping | None = None) -> jax.Array:
    """The Euclidean distance |a - P.b| over all weights; without `perms` b is taken as it is.

    Statistics, counters, masks and keys do not count; quantised weights count as numbers. Its gradient is 0 where the
    networks are equal. Raises `SpecError` if a or b does not fit the spec, or their shapes or kinds of numbers differ.
    """
    return symmetry.distance(spec, a, _aligned(spec, a, b, perms))


def _aligned(spec: PermutationSpec, a: PyTree, b: PyTree, perms: Mapping | None) -> PyTree:
    check_spec("dwalign", spec)
    spec.check_pair(a, b)
    return b if perms is None else permute(spec, b, perms)


def _certify(network: Network, params: PyTree, data: Data | None, tolerance: float | None) -> None:
    inputs = network.example if data is None else data[0]
    seen = _seen(network, tolerance, shapes_of((params, inputs)))
    if seen:
        return
    if count_examples(inputs) is not None:
        inputs = jax.eval_shape(_few, inputs) if is_traced(inputs) else _few(inputs)
    # a program of one number of examples has no few
    outputs_of("align", network.apply, params, inputs)
    abstract = lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) if is_traced(leaf) else leaf
    certify(network.spec, network.apply, *jax.tree.map(abstract, (params, inputs)), tolerance=tolerance)
    seen.add("a certificate")


@keep
def _seen(network: Network | PermutationSpec, *about: Any) -> set[str]:
    """What has been seen of calls like this one: empty until then."""
    return set()


def _few(inputs: PyTree) -> PyTree:
    return take_examples(inputs, slice(4))
