"""REPAIR: merged units respond as strongly as those of the networks they were made of.

Averaging makes pre-activations of units that are not quite the same smaller and smaller from layer to layer (variance
collapse). Their means and standard deviations are set to the averages of those in the networks by an affine map of
every unit, folded into the arrays that write it. The outputs are units of one more layer here, which no group names.

Source: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair" (ICLR 2023).
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, bounded
from dwalign.files import read_leaf
from dwalign.kept import keep
from dwalign.merging.statistics import reset_statistics
from dwalign.program import (
    Data,
    Network,
    check_data,
    check_inputs,
    check_network,
    compiled,
    count_examples,
    examine,
    loops,
    take_examples,
    trials,
)
from dwalign.symmetry import Axes, Block, PermutationSpec

PyTree = Any
# of the largest in its group; a unit that varies less is constant, and no factor makes it vary
CONSTANT = 1e-5
OUTPUTS = "the outputs"


class Handle(NamedTuple):
    """How the pre-activations of a group are moved.

    Attributes:
      group: its name.
      scales: the leaves that, multiplied by a number for every unit, multiply its pre-activation.
      shift: the leaf that adds to it; None where there is none.
    """

    group: str
    scales: tuple[int, ...]
    shift: int | None


@bounded
def repair(
    network: Network,
    merged: PyTree,
    networks: Sequence[PyTree],
    data: Data,
    *,
    weights: Sequence[float] | None = None,
    shift: bool = True,
    outputs: bool = True,
    chunk: Count = 500,
) -> PyTree:
    """Give the hidden units of a merged network the means and standard deviations that they had before.

    Args:
      network: what all are. One with batch statistics is repaired by `reset_statistics`.
      merged: parameters.
      networks: those that were averaged, aligned: `[a, permute(spec, b, perms)]`.
      data: inputs `[m, ...]` on which statistics are taken; some hundred do.
      weights: the share of each of the networks; equal by default.
      shift: False only multiplies, which sets the standard deviations (RESCALE).
      outputs: False leaves the last layer as it is, as in the paper.
      chunk: inputs of one batch; a last smaller one is left out.

    Returns:
      merged with other weights and biases. Layers are set in the order of the program, each behind those already set.
      How a group is moved is found by trial: its arrays are multiplied, and must multiply what `Network.capture` sees
      of it before the non-linearity; so for layers that end in a bias or in the scale and bias of a normalisation.

    Raises:
      ValueError: no group can be moved, or data that are none.

    Warns:
      UserWarning: some groups cannot be moved, such as those of a recurrent layer, or not be shifted.

    >>> from dwalign.networks import mlp
    >>> from dwalign.symmetry import mean
    >>> net, data = mlp(4, (8,), 2), Data(np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32))
    >>> init = jax.jit(net.init)
    >>> networks = [init(jax.random.key(seed)) for seed in range(3)]
    >>> spread = lambda params: float(net.capture(params, data.inputs)[1].pre["h0"].std())
    >>> merged = mean(net.spec, networks)
    >>> spread(merged) < 0.7 * spread(networks[0]) < spread(repair(net, merged, networks, data))
    True
    """
    check_network("repair", network)
    inputs = check_inputs("repair", network.apply, merged, check_data("repair", data).inputs)
    if not isinstance(networks, list | tuple) or not networks:
        raise ValueError(
            "repair: networks must be a list of those that were averaged, at least one, found "
            f"{type(networks).__name__} of {len(networks)}"
        )
    if weights is not None and len(weights) != len(networks):
        raise ValueError(
            f"repair: weights must be a weight for every network, found {len(weights)} for {len(networks)} networks"
        )
    if network.train is not None:
        return reset_statistics(network, merged, inputs, chunk=chunk)
    spec, handles = find_handles(network)
    _tell(network.spec, handles, shift)
    chunk = min(chunk, count_examples(inputs) or 1)
    seen = [_moments(network, chunk, params, inputs) for params in networks]
    shares = np.full(len(networks), 1.0) if weights is None else np.asarray(weights, float)
    wanted = jax.tree.map(lambda *values: sum(w * x for w, x in zip(shares / shares.sum(), values, strict=True)), *seen)
    params = merged
    for group, scales, bias in handles:
        if group == OUTPUTS and not outputs:
            continue
        (mean, spread), (target, wide) = (of[group] for of in (_moments(network, chunk, params, inputs), wanted))
        scale = jnp.where(spread > CONSTANT * spread.max(), wide / jnp.maximum(spread, 1e-30), 1.0)
        params = _change(spec, params, group, scales, lambda array, by: array * by, scale)
        if shift and bias is not None:
            params = _change(spec, params, group, (bias,), lambda a, by: a + by, target - scale * mean)
    return params


@keep
def find_handles(network: Network) -> tuple[PermutationSpec, tuple[Handle, ...]]:
    """The groups that can be moved, in the order of the program; tried at a generic point in double precision.

    The spec is that of the network, but for a group of the outputs.
    """
    few = jax.tree.map(lambda leaf: _several(leaf) if jnp.ndim(leaf) else leaf, network.example)
    spec = _with_outputs(network, few)
    groups = sorted(spec.sizes)

    def seen(params, inputs):
        found = _pre_activations(network, params, inputs)
        return [found[group] for group in groups]

    trial = next(trials(examine(seen, network.params, few), np.random.default_rng(0)), None)
    if trial is None:
        return spec, ()
    look = lambda params: dict(zip(groups, trial.run(params), strict=True))
    before = dict(zip(groups, trial.reference, strict=True))
    leaves = [number for number, carries in enumerate(spec.carriers) if carries]
    moved = {number: look(_leaf_changed(spec, trial.params, number, lambda x: 1.5 * x)) for number in leaves}
    reach = {g: [k for k in leaves if not np.allclose(moved[k][g], before[g], 1e-9, 1e-12)] for g in groups}

    def try_out(group: str) -> Handle | None:
        on = lambda number: [factors for factors in spec.leaves[number].blocks() if group in factors]
        writers = [k for k in reach[group] if on(k) and all(factors.count(group) == 1 for factors in on(k))]
        own = {group, *spec.batch.get(group, ())}
        vectors = [k for k in writers if all(own.issuperset(factors) for factors in on(k))]
        by = np.random.default_rng(1).uniform(0.5, 2.0, (*spec.batch_shape(group), spec.sizes[group]))

        def obeys(ones: Sequence[int], act: Callable) -> bool:
            found = look(_change(spec, trial.params, group, ones, act, by))[group]
            return bool(ones) and np.allclose(found, act(before[group], by), 1e-6, 1e-6 * np.abs(found).max())

        scales = next((tuple(ks) for ks in (vectors, writers) if obeys(ks, lambda x, y: x * y)), None)
        shift = next((k for k in vectors if obeys([k], lambda x, y: x + y)), None)
        return None if scales is None else Handle(group, scales, shift)

    found = [try_out(group) for group in sorted(groups, key=lambda g: len(reach[g]))]
    return spec, tuple(handle for handle in found if handle)


def _several(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((4, *jnp.shape(leaf)[1:]), jnp.result_type(leaf))


def _with_outputs(network: Network, few: PyTree) -> PermutationSpec:
    """The spec with a group of the outputs on all arrays that end in as many fixed positions."""
    spec, outputs = network.spec, jax.eval_shape(network.apply, network.params, few)
    if not hasattr(outputs, "shape") or len(outputs.shape) < 2:
        return spec
    size = outputs.shape[-1]

    def named(axes: Axes, leaf: Any) -> Axes:
        if axes.pieces or not axes.dims or axes.text(len(axes.dims) - 1) != "_" or leaf.shape[-1] != size:
            return axes
        return Axes.parse(", ".join([*map(axes.text, range(len(axes.dims) - 1)), OUTPUTS]))

    axes = jax.tree.map(named, spec.axes, network.params)
    if axes == spec.axes:
        return spec
    sizes = {**spec.sizes, OUTPUTS: size}
    return PermutationSpec(axes, sizes, batch=spec.batch, fixed=spec.fixed, statistics=spec.statistics)


def _pre_activations(network: Network, params: PyTree, inputs: PyTree) -> dict[str, jax.Array]:
    """`[m, positions, *batch, n]` for every group, and for the outputs where they are one array."""
    outputs, units = network.capture(params, inputs)
    if not hasattr(outputs, "shape") or outputs.ndim < 2:
        return units.pre
    return {**units.pre, OUTPUTS: outputs.reshape(len(outputs), -1, outputs.shape[-1])}


def _tell(spec: PermutationSpec, handles: Sequence[Handle], shift: bool) -> None:
    whole = [handle.group for handle in handles if not shift or handle.shift is not None]
    if not any(handle.group in spec.sizes for handle in handles):
        raise ValueError(
            "repair: no group has arrays that scale its pre-activations, found "
            f"{list(spec.sizes)}; were the units normalised there is nothing to repair"
        )
    if left := [group for group in spec.sizes if group not in whole]:
        warnings.warn(
            f"repair: the pre-activations of groups {left} cannot be scaled{' and shifted' if shift else ''} by arrays "
            "of their own (a normalisation, a recurrence or a missing bias) and are not, or only scaled",
            stacklevel=3,
        )


@compiled(2)
def _moments(network: Network, chunk: int, params: PyTree, inputs: PyTree) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Mean and standard deviation of the pre-activations of every unit, `[*batch, n]`."""
    count: Any = count_examples(inputs)
    batches = jnp.arange(count // chunk * chunk).reshape(-1, chunk)

    def of(index):
        pre = _pre_activations(network, params, take_examples(inputs, index))
        return {g: (x.mean((0, 1)), x.var((0, 1))) for g, x in pre.items()}

    found = loops.map(of, batches)
    return {g: (mean.mean(0), jnp.sqrt(var.mean(0) + mean.var(0))) for g, (mean, var) in found.items()}


def _change(spec: PermutationSpec, params: PyTree, group: str, ones: Sequence[int], act: Callable, by: Any) -> PyTree:
    """`act(array, by)` on these leaves, `by` along the units of a group."""

    def one(block: Block):
        if group not in block.factors:
            return block.array
        places = [block.factors.index(name) for name in (*spec.batch.get(group, ()), group)]
        shape = [n if k in places else 1 for k, n in enumerate(block.array.shape)]
        return act(block.array, by.transpose(np.argsort(places)).reshape(shape)).astype(block.array.dtype)

    leaves = list(spec.treedef.flatten_up_to(params))
    for number in ones:
        leaves[number] = spec.leaves[number].join(
            one(block) for block in spec.leaf_blocks(number, read_leaf(leaves[number]))
        )
    return spec.treedef.unflatten(leaves)


def _leaf_changed(spec: PermutationSpec, params: PyTree, number: int, function: Callable) -> PyTree:
    leaves = list(spec.treedef.flatten_up_to(params))
    leaves[number] = function(leaves[number])
    return spec.treedef.unflatten(leaves)
