"""A narrow network in the shapes of a wide one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.merging import align_unequal, embed
from dwalign.networks import cnn, densenet, mlp, resnet, vgg
from dwalign.program import Data, network
from dwalign.symmetry import SpecError, identity
from tests import drawn


def scaled(params, x):
    return jnp.tanh(x @ params["up"]) @ params["down"] / params["up"].shape[1] ** 0.5


PAIRS = {
    "mlp": [mlp(64, widths, 10) for widths in ((32, 32, 32), (20, 24, 16))],
    "cnn": [cnn((8, 8, 1), channels, widths, 10) for channels, widths in (((8, 16), (32,)), ((6, 10), (20,)))],
}
IMAGES = dict(shape=(8, 8, 1), outputs=3)
KEPT = {
    "batch normalisation": [vgg(stages=((n,),), norm="batch", **IMAGES) for n in (6, 4)],
    "concatenations": [densenet(**IMAGES, stem=n, growth=n, layers=(1,)) for n in (4, 3)],
}
CHANGED = {
    "layer normalisation": [resnet(**IMAGES, width=n, blocks=(1,), norm="layer") for n in (6, 4)],
    "a scale by the number of units": [
        network(scaled, {"up": np.ones((3, n)), "down": np.ones((n, 2))}, np.ones((1, 3))) for n in (6, 4)
    ],
}


def part(spec, small, params, rng):
    """A network of some units of another, in random order, and which they are."""
    chosen = {g: rng.permutation(n)[: small.sizes[g]] for g, n in spec.sizes.items()}

    def take(block):
        array = block.array
        for axis, factor in enumerate(block.factors):
            array = array.take(chosen[factor], axis) if factor in chosen else array
        return block._replace(array=array)

    return small.assemble([take(block) for block in spec.blocks(params)]), chosen


def found(perms, chosen):
    return all(np.array_equal(np.asarray(perms[g])[index], np.arange(len(index))) for g, index in chosen.items())


@pytest.mark.parametrize("name", PAIRS)
def test_a_hidden_part_of_a_network_is_found(name):
    wide, narrow = PAIRS[name]
    rng, hits = np.random.default_rng(0), 0
    for seed in range(100):
        a = drawn.weights(wide.params, seed)
        b, chosen = part(wide.spec, narrow.spec, a, rng)
        perms = align_unequal(wide.spec, narrow.spec, a, b).perms
        hits += found(perms, chosen)
    assert hits == 100


def test_by_activations_too():
    wide, narrow = PAIRS["mlp"]
    a = drawn.weights(wide.params)
    b, chosen = part(wide.spec, narrow.spec, a, np.random.default_rng(0))
    by_activations = align_unequal(
        wide, narrow, a, b, "activation_matching_correlation", data=Data(drawn.normal(200, 64))
    )
    # layers behind see other activations where units are missing
    np.testing.assert_array_equal(np.asarray(by_activations.perms["h0"])[chosen["h0"]], np.arange(20))


@pytest.mark.parametrize("name", KEPT)
def test_the_function_is_kept(name):
    wide, narrow = KEPT[name]
    params = drawn.weights(narrow.params)
    padded = embed(wide, narrow, params)
    assert jax.tree.map(np.shape, padded) == jax.tree.map(lambda leaf: leaf.shape, wide.params)
    inputs = jax.tree.map(lambda leaf: np.repeat(leaf, 3, 0), narrow.example)
    expected = jax.jit(narrow.apply)(params, inputs)
    np.testing.assert_allclose(jax.jit(wide.apply)(padded, inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CHANGED)
def test_a_function_that_would_change_is_refused(name):
    wide, narrow = CHANGED[name]
    with pytest.raises(ValueError, match="units of zeros must not change what the network computes"):
        embed(wide, narrow, drawn.weights(narrow.params))


def test_a_network_in_its_own_shapes_is_itself():
    net = PAIRS["mlp"][0]
    params = drawn.weights(net.params)
    same = jax.tree.map(lambda x, y: x is y or np.array_equal(x, y), embed(net, net, params), params)
    assert all(jax.tree.leaves(same)) and identity(net.spec).keys() == net.spec.sizes.keys()


def test_networks_that_do_not_fit():
    wide, narrow = PAIRS["mlp"]
    with pytest.raises(SpecError, match=r"at least as wide.*'h0': \(32, 20\).*exchange"):
        embed(narrow, wide, drawn.weights(wide.params))
    with pytest.raises(SpecError, match="their trees"):
        embed(wide, PAIRS["cnn"][1], drawn.weights(PAIRS["cnn"][1].params))
