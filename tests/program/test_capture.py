"""Units observed without hooks: what the next layer reads, moved by permutations as the group says."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from dwalign.networks.convolution import halve
from dwalign.program import infer_spec, make_capture
from dwalign.symmetry import SpecError, inverse, permute, permute_batch, random_perms

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (3, 8, 8, 2))
SERIES = jax.random.normal(KEY, (3, 4, 5))


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(6, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(3)(nn.relu(nn.Dense(7)(x.reshape(x.shape[0], -1))))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.MultiHeadDotProductAttention(2, qkv_features=6)(nn.LayerNorm()(x))
        return nn.Dense(3)(x.mean(1))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.RNN(nn.GRUCell(6))(x)[:, -1])


MODELS = {"cnn": (Convolutions(), IMAGES), "attention": (Attention(), SERIES), "gru": (Recurrent(), SERIES)}


def make(name):
    model, x = MODELS[name]
    params = jax.jit(model.init)(KEY, x)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    apply = lambda p, x: model.apply(p, x)
    return infer_spec(apply, params, x), apply, make_capture(apply), params, x


@pytest.mark.parametrize("name", MODELS)
def test_units_move_with_their_permutation_and_outputs_are_those_of_the_network(name):
    spec, apply, capture, params, x = make(name)
    perms = random_perms(spec, jax.random.key(2))
    read = lambda outputs: jnp.sum(jnp.sin(outputs))
    run = jax.jit(lambda p: capture(p, x, read))
    (out, units), (moved_out, moved) = run(params), run(permute(spec, params, perms))
    chex.assert_trees_all_close(out, apply(params, x), atol=1e-5)
    chex.assert_trees_all_close(moved_out, out, atol=1e-4)
    for before, after in zip(units, moved, strict=True):
        for g, n in spec.sizes.items():
            chex.assert_axis_dimension(before[g], 0, 3)
            chex.assert_axis_dimension(before[g], -1, n)
            rows = len(spec.batch_shape(g)) + 1
            front = lambda z, rows=rows: jnp.moveaxis(z, range(-rows, 0), range(rows))
            # units of a batched group move with their own permutation first, then with what they are batched over
            index = jnp.argsort(inverse(spec, perms)[g], -1)
            outer = {h: p for h, p in perms.items() if h in spec.batch.get(g, ())}
            own = perms[g].reshape(*perms[g].shape, *(1,) * (before[g].ndim - rows))
            expected = permute_batch(spec, g, jnp.take_along_axis(front(before[g]), own, rows - 1), outer)
            chex.assert_trees_all_close(front(after[g]), expected, atol=1e-4)
            assert index.shape == perms[g].shape and float(jnp.std(before[g])) > 0


def test_convolutional_units_answer_at_every_position():
    _, _, capture, params, x = make("cnn")
    _, units = capture(params, x)
    assert units.pre["h0"].shape == (3, 64, 6) and units.post["h0"].shape == (3, 16, 6)
    assert float(units.pre["h0"].min()) < 0 <= float(units.post["h0"].min())


def test_pre_activations_lie_before_pooling_however_it_is_written():
    def apply(params, images, pool):
        return pool(nn.relu(nn.Conv(6, (3, 3)).apply(params["conv"], images))).reshape(3, -1) @ params["dense"]

    params = {"conv": nn.Conv(6, (3, 3)).init(KEY, IMAGES), "dense": jax.random.normal(KEY, (96, 4))}
    windows, maxima = (
        make_capture(lambda p, x, pool=pool: apply(p, x, pool))(params, IMAGES, jnp.sum)[1]
        for pool in (lambda x: nn.max_pool(x, (2, 2), (2, 2)), halve)
    )
    chex.assert_trees_all_close(windows, maxima, atol=1e-5)
    assert maxima.pre["h0"].shape == (3, 64, 6)


def test_recurrent_units_answer_at_every_step():
    _, _, capture, params, x = make("gru")
    assert capture(params, x)[1].post["h0"].shape[1] >= SERIES.shape[1]


@pytest.mark.parametrize("name", MODELS)
def test_examples_do_not_depend_on_one_another(name):
    _, _, capture, params, x = make(name)
    whole = capture(params, x, jnp.sum)
    one = capture(params, x[:1], jnp.sum)
    chex.assert_trees_all_close(one, jax.tree.map(lambda leaf: leaf[:1], whole), atol=1e-5)


def test_sensitivity_is_what_finite_differences_say():
    apply = lambda p, x: jnp.tanh(x @ p["up"] + p["bias"][None]) @ p["down"]
    params = {
        "up": jnp.ones((2, 3)) * 0.3,
        "bias": jnp.array([0.1, 0.2, 0.3]),
        "down": jnp.array([[1.0], [2.0], [3.0]]),
    }
    x = jax.random.normal(KEY, (4, 2))
    _, units = make_capture(apply)(params, x, jnp.sum)
    total = jax.grad(lambda b: jnp.sum(apply({**params, "bias": b}, x)))(params["bias"])
    chex.assert_trees_all_close(units.sensitivity["h0"].sum((0, 1)), total, atol=1e-5)


def test_vmapped_over_networks():
    _, _, capture, params, x = make("cnn")
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    both = jax.vmap(capture, in_axes=(0, None))(stacked, x)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[0], both), capture(params, x), atol=1e-4)


def test_units_that_no_example_reaches():
    apply = lambda p, x: x * jnp.sum(p["up"] @ p["down"])
    params = {"up": jnp.ones((2, 3)), "down": jnp.ones((3, 2))}
    with pytest.raises(SpecError, match="no value that depends on the examples carries group"):
        make_capture(apply)(params, jnp.ones((4, 2)))
