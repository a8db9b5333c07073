"""An oracle finds all of a planted permutation, no alignment finds what chance gives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.evaluation import planted_recovery
from dwalign.matching import method, naive
from dwalign.networks import mlp
from dwalign.symmetry import Alignment, Axes, PermutationSpec, inverse
from tests import drawn

NET = mlp(6, (5, 4), 3)
PARAMS = drawn.weights(NET.params)
KEYS = jax.random.split(jax.random.key(1), 200)


def shares(spec, method, params, keys, **options):
    draw = lambda key: planted_recovery(spec, method, params, key=key, **options)
    return jax.tree.map(jnp.mean, jax.jit(jax.vmap(draw))(keys))


@method("by bias", "#000000", needs="weights")
def by_bias(spec, a, b, *, key):
    """Knows the answer for networks whose biases are all different."""
    perms = {}
    for k, group in enumerate(NET.spec.sizes):
        x, y = (tree["params"][f"dense_{k}"]["bias"] for tree in (a, b))
        perms[group] = jnp.argmin(jnp.abs(x[:, None] - y[None, :]), axis=1)
    return Alignment(perms)


def with_biases(params):
    return jax.tree.map(lambda leaf: np.arange(leaf.size, dtype=np.float32) if leaf.ndim == 1 else leaf, params)


def test_oracle():
    found = shares(NET.spec, by_bias, with_biases(PARAMS), KEYS)
    chex.assert_trees_all_close(found, jax.tree.map(jnp.ones_like, found))


def test_naive_is_chance():
    """A random permutation of n fixes one unit on average, and is the identity in one of n! cases."""
    found = shares(NET.spec, naive, PARAMS, KEYS)
    assert found.units["h0"] == pytest.approx(1 / 5, abs=0.06)
    assert found.units["h1"] == pytest.approx(1 / 4, abs=0.06)
    assert found.groups["h1"] < 0.15 and found.draw < 0.05


def test_the_inverse_is_not_the_answer():
    """Convention: what must be found takes the copy back, it is not what made it."""

    @method("backwards", "#000000", needs="weights")
    def backwards(spec, a, b, *, key):
        return Alignment(inverse(spec, by_bias(spec, a, b, key=key).perms))

    found = shares(NET.spec, backwards, with_biases(PARAMS), KEYS)
    assert found.draw < 0.5


def test_noise_makes_it_harder():
    params = with_biases(PARAMS)
    level = lambda noise: shares(NET.spec, by_bias, params, KEYS, noise=noise).units["h0"]
    clean, noisy, lost = jax.vmap(level)(jnp.array([0.0, 0.2, 50.0]))
    assert clean == 1 and lost < 0.5 < noisy < 1


def test_one_wrong_group_spoils_the_draw_only():
    @method("half", "#000000", needs="weights")
    def half(spec, a, b, *, key):
        perms = by_bias(spec, a, b, key=key).perms
        return Alignment({**perms, "h1": jnp.roll(perms["h1"], 1)})

    found = shares(NET.spec, half, with_biases(PARAMS), KEYS[:10])
    assert (found.groups["h0"], found.groups["h1"], found.draw) == (1, 0, 0)
    assert found.units["h1"] == 0


def test_batched_groups():
    spec = PermutationSpec({"w": Axes("heads", "d", None)}, {"heads": 3, "d": 4}, batch={"d": ("heads",)})
    params = drawn.named(w=(3, 4, 2))
    found = planted_recovery(spec, naive, params, key=jax.random.key(0))
    chex.assert_shape([found.units["d"], found.groups["d"], found.draw], ())
