"""Augmentations of a network that keep its function nearly unchanged, for pairs with a known alignment."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Share, Strength, settings
from dwalign.symmetry import PermutationSpec, leaf_roles, numbers, perturb, store, wide

PyTree = Any


@settings
class Augmentation:
    """How strongly a network is perturbed; 0 switches a kind off.

    Arrays of positive values alone, such as running variances, stay positive: they take noise in their logarithm, and
    no zeros.
    """

    noise: Strength = 0.2
    """standard deviation of Gaussian noise, in units of each array's standard deviation."""
    zeroing: Share = 0.02
    """probability with which each weight is set to zero."""
    quantile: Share = 0.02
    """the share of smallest-magnitude weights of each array that is set to zero."""
    scaling: Strength = 0.1
    """standard deviation of the logarithm of a positive factor for each unit, applied to its incoming weights and
    undone in its outgoing ones. This leaves ReLU networks unchanged; it takes the last axis of an array for its
    outputs, as Flax layers have it, and is for networks without normalisation layers."""


def augment(spec: PermutationSpec, params: PyTree, key: jax.Array, augmentation: Augmentation) -> PyTree:
    """A perturbed copy of one network, its units in the same order (Navon et al. 2024, section 5)."""
    scale_key, noise_key, zero_key = jax.random.split(key, 3)
    if augmentation.scaling:
        params = _scale_units(spec, params, scale_key, augmentation.scaling)
    noisy = perturb(spec, params, noise_key, augmentation.noise, spread=jnp.std) if augmentation.noise else params
    roles, leaves, changed = leaf_roles(spec, params), *map(spec.treedef.flatten_up_to, (params, noisy))
    # drawn at once for all arrays: compiling a draw for each takes longer than the rest of a training step
    ends = np.cumsum([jnp.size(leaf) for leaf in leaves])
    zeroed = jax.random.bernoulli(zero_key, augmentation.zeroing, (ends[-1],)) if augmentation.zeroing else None

    sizes = {
        k: jnp.abs(leaf.astype(wide(leaf.dtype)))
        for k, (role, leaf) in enumerate(zip(roles, leaves, strict=True))
        if role != "carried"
    }
    limits = _quantiles(sizes, augmentation.quantile) if augmentation.quantile else {}

    def sparse(k, leaf, noisy, end):
        if k not in sizes:
            return leaf
        zero = sizes[k] < limits.get(k, 0.0)
        if zeroed is not None:
            zero |= zeroed[end - leaf.size : end].reshape(leaf.shape)
        positive = jnp.min(numbers(leaf)) > 0
        return jnp.where(zero & ~positive, jnp.zeros_like(leaf), noisy)

    parts = zip(range(len(leaves)), leaves, changed, ends.tolist(), strict=True)
    return spec.treedef.unflatten([sparse(*part) for part in parts])


def _quantiles(arrays: dict[int, jax.Array], share: float, sample: int = 4096) -> dict[int, jax.Array]:
    """The value below which this share of each array lies, interpolated as `jnp.quantile` does."""
    # a regular sample suffices: sorting every weight of a large network at each step would dominate training
    samples = {k: array.reshape(-1)[:: max(1, array.size // sample)] for k, array in arrays.items() if array.size}
    longest = max(map(len, samples.values()), default=0)
    # sorted at once for all arrays: compiling a sort for each takes longer than the rest of the augmentation
    padded = [jnp.pad(one, (0, longest - len(one)), constant_values=jnp.inf) for one in samples.values()]
    limits = {}
    for (k, one), values in zip(samples.items(), jnp.sort(jnp.stack(padded)) if padded else (), strict=True):
        place = share * (len(one) - 1)
        low, high = values[math.floor(place)], values[math.ceil(place)]
        limits[k] = low + (place - math.floor(place)) * (high - low)
    return limits


def _scale_units(spec, params, key, strength):
    keys = jax.random.split(key, len(spec.sizes))
    factors = {
        g: jnp.exp(strength * jax.random.normal(k, (*spec.batch_shape(g), n)))
        for k, (g, n) in zip(keys, spec.sizes.items(), strict=True)
    }
    roles, blocks = leaf_roles(spec, params), []
    for block in spec.blocks(params):
        if roles[block.leaf] != "weight":
            blocks.append(block)
            continue
        array = numbers(block.array)
        for axis, group in enumerate(block.factors):
            if group in factors:
                factor = factors[group] if axis == len(block.factors) - 1 else 1.0 / factors[group]
                axes = [*(block.factors.index(h) for h in spec.batch.get(group, ())), axis]
                shape = [array.shape[k] if k in axes else 1 for k in range(array.ndim)]
                order = sorted(range(len(axes)), key=axes.__getitem__)
                array = array * factor.transpose(order).reshape(shape).astype(array.dtype)
        blocks.append(block._replace(array=store(array, block.array)))
    return spec.assemble(blocks)
