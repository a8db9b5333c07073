"""Random arrays, weights and permutations, drawn in NumPy: JAX would compile a program for every shape."""

import math

import jax
import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def named(seed=0, **shapes):
    """An array for every name."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def weights(shapes, seed=0):
    """Parameters of which none is zero, one, or the same for two units; scales and variances are positive."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path)
        noise = rng.standard_normal(leaf.shape)
        if "scale" in name or "var" in name:
            return np.exp(0.3 * noise).astype(leaf.dtype)
        fan_in = math.prod(leaf.shape[:-1]) if "kernel" in name else 1
        return (noise / math.sqrt(fan_in)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def started(init, *inputs, seed=0):
    """`weights` for what `init(key, *inputs)` would make."""
    return weights(jax.eval_shape(init, jax.random.key(0), *inputs), seed)


def perms(spec, seed=0):
    """A random element of the group of a spec; none of its permutations is the identity, which would show nothing."""
    rng = np.random.default_rng(seed)

    def draw(group, n):
        identity = np.broadcast_to(np.arange(n, dtype=np.int32), (*spec.batch_shape(group), n))
        drawn = rng.permuted(identity, axis=-1)
        return np.where(np.all(drawn == identity, -1, keepdims=True), np.roll(identity, 1, -1), drawn)

    return {group: draw(group, n) for group, n in spec.sizes.items()}
