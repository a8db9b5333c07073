"""Units observed without hooks: what the next layer reads, moved by permutations as the group says."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.networks.convolution import halve
from dwalign.program import infer_spec, make_capture, network
from dwalign.symmetry import permute, permute_batch, random_perms
from tests import drawn

IMAGES = drawn.normal(3, 8, 8, 2)
SERIES = drawn.normal(3, 4, 5)


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


def read(outputs):
    return jnp.sum(jnp.sin(outputs))


@functools.cache
def make(name):
    model, x = MODELS[name]
    params = drawn.started(model.init, x)
    apply = lambda p, x: model.apply(p, x)
    return infer_spec(apply, params, x), apply, make_capture(apply), params, x


@functools.cache
def compiled(name):
    capture = make(name)[2]
    return jax.jit(lambda params, x: capture(params, x, read))


def observed(name, params, x):
    """Outputs and units as NumPy arrays."""
    return jax.tree.map(np.asarray, compiled(name)(params, x))


@pytest.mark.parametrize("name", MODELS)
def test_units_move_with_their_permutation_and_outputs_are_those_of_the_network(name):
    spec, apply, _, params, x = make(name)
    perms = drawn.perms(spec)
    (out, units), (moved_out, moved) = (observed(name, p, x) for p in (params, permute(spec, params, perms)))
    chex.assert_trees_all_close(out, jax.jit(apply)(params, x), atol=1e-5)
    chex.assert_trees_all_close(moved_out, out, atol=1e-4)
    for before, after in zip(units[:3], moved[:3], strict=True):
        assert before.keys() == after.keys() == spec.sizes.keys()
        for g, n in spec.sizes.items():
            chex.assert_axis_dimension(before[g], 0, 3)
            chex.assert_axis_dimension(before[g], -1, n)
            rows = len(spec.batch_shape(g)) + 1
            front = lambda z, rows=rows: np.moveaxis(z, range(-rows, 0), range(rows))
            # units of a batched group move with their own permutation first, then with what they are batched over
            outer = {h: p for h, p in perms.items() if h in spec.batch.get(g, ())}
            own = perms[g].reshape(*perms[g].shape, *(1,) * (before[g].ndim - rows))
            expected = permute_batch(spec, g, np.take_along_axis(front(before[g]), own, rows - 1), outer)
            chex.assert_trees_all_close(front(after[g]), expected, atol=1e-4)
            assert np.std(before[g]) > 0


def test_convolutional_units_answer_at_every_position():
    *_, params, x = make("cnn")
    _, units = observed("cnn", params, x)
    assert units.pre["h0"].shape == (3, 64, 6) and units.post["h0"].shape == (3, 16, 6)
    assert units.pre["h0"].min() < 0 <= units.post["h0"].min()


def test_pre_activations_lie_before_pooling_however_it_is_written():
    def apply(params, images, pool):
        return pool(nn.relu(nn.Conv(6, (3, 3)).apply(params["conv"], images))).reshape(3, -1) @ params["dense"]

    params = {"conv": drawn.started(nn.Conv(6, (3, 3)).init, IMAGES), "dense": drawn.normal(96, 4)}
    windows, maxima = (
        jax.jit(make_capture(lambda p, x, pool=pool: apply(p, x, pool)), static_argnums=2)(params, IMAGES, jnp.sum)[1]
        for pool in (lambda x: nn.max_pool(x, (2, 2), (2, 2)), halve)
    )
    chex.assert_trees_all_close(windows, maxima, atol=1e-5)
    assert maxima.pre["h0"].shape == (3, 64, 6)


def test_recurrent_units_answer_at_every_step():
    *_, params, x = make("gru")
    assert observed("gru", params, x)[1].post["h0"].shape[1] >= SERIES.shape[1]


@pytest.mark.parametrize("name", MODELS)
def test_examples_do_not_depend_on_one_another(name):
    *_, params, x = make(name)
    whole, one = observed(name, params, x), observed(name, params, x[:1])
    for part in whole[1]:
        assert part.keys() == make(name)[0].sizes.keys()
    chex.assert_trees_all_close(one, jax.tree.map(lambda leaf: leaf[:1], whole), atol=1e-5)


def test_sensitivity_is_what_finite_differences_say():
    apply = lambda p, x: jnp.tanh(x @ p["up"] + p["bias"][None]) @ p["down"]
    params = {
        "up": np.full((2, 3), 0.3, np.float32),
        "bias": np.float32([0.1, 0.2, 0.3]),
        "down": np.float32([[1.0], [2.0], [3.0]]),
    }
    x = drawn.normal(4, 2)
    _, units = jax.jit(lambda p, x: make_capture(apply)(p, x, jnp.sum))(params, x)
    total = lambda bias: (np.tanh(x @ params["up"] + bias) @ params["down"].astype(float)).sum()
    steps = 1e-4 * np.eye(3)
    slopes = [(total(params["bias"] + step) - total(params["bias"] - step)) / 2e-4 for step in steps]
    chex.assert_trees_all_close(np.asarray(units.sensitivity["h0"]).sum((0, 1)), np.float32(slopes), atol=1e-4)


def test_heads_answer_alike_in_every_basis():
    """The mean over units that may be mixed depends on their basis."""

    def apply(p, x):
        inside = jnp.einsum("mi,ihu->mhu", x, p["in"])
        sizes = jnp.sum(inside**2, -1, keepdims=True)
        return jnp.einsum("mhu,huo->mo", inside * jax.nn.sigmoid(sizes) + jnp.tanh(sizes) * inside, p["out"])

    params, x = drawn.named(**{"in": (5, 3, 4), "out": (3, 4, 2)}), drawn.normal(6, 5)
    net = network(apply, params, x, kinds="all")
    (heads, inner) = net.spec.sizes
    assert net.spec.kinds == {heads: "permutation", inner: "orthogonal"} and net.spec.batch[inner] == (heads,)
    element = random_perms(net.spec, np.random.default_rng(0))
    capture = jax.jit(lambda p: net.capture(p, x, read)[1][:3])
    before, after = capture(params), capture(permute(net.spec, params, element))
    for kind, moved in zip(before, after, strict=True):
        assert kind[heads].shape[-1] == 3 and np.ptp(kind[heads]) > 0
        np.testing.assert_allclose(kind[heads][..., element[heads]], moved[heads], rtol=1e-3, atol=1e-4)
    # where their order alone is free the mean says something, too
    means = jax.eval_shape(lambda p: make_capture(apply)(p, x)[1].post, params)
    assert means[heads].shape[1] == 2 * before[1][heads].shape[1]


def test_vmapped_over_networks():
    _, _, capture, params, x = make("cnn")
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), params)
    outputs, units = jax.jit(jax.vmap(capture, in_axes=(0, None)))(stacked, x)
    assert units.sensitivity is None
    first = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (outputs, units[:2]))
    alone = observed("cnn", params, x)
    chex.assert_trees_all_close(first, (alone[0], alone[1][:2]), atol=1e-4)


def test_a_call_outside_of_a_program_observes_the_same():
    apply = lambda p, x: jnp.tanh(x @ p["up"]) @ p["down"]
    params, x = drawn.named(up=(5, 4), down=(4, 2)), drawn.normal(3, 5)
    capture = make_capture(apply)
    chex.assert_trees_all_close(capture(params, x, read), jax.jit(lambda p: capture(p, x, read))(params), atol=1e-6)


def units_of(apply, params, x, group="h0"):
    _, units = make_capture(apply)(params, x)
    return np.asarray(units.post[group])


def test_tokens_that_attend_to_one_another_answer_with_what_they_hold():
    def apply(p, x):
        tokens = p["tokens"][None] + (x @ p["up"])[:, None]
        weights = jax.nn.softmax(jnp.einsum("bid,bjd->bij", tokens, tokens))
        return jnp.einsum("bij,bjd->bid", weights, tokens).sum(1) @ p["down"]

    params, x = drawn.named(tokens=(6, 4), up=(5, 4), down=(4, 2)), drawn.normal(3, 5)
    spec = infer_spec(apply, params, x)
    (group,) = spec.axes["tokens"].names() - spec.axes["up"].names()
    units = units_of(apply, params, x, group)
    assert units.shape[0] == 3 and units.shape[2] == 6
    held = params["tokens"] + (x @ params["up"])[:, None]
    np.testing.assert_allclose(units[:, 0], held.mean(-1), atol=1e-5)


def test_groups_are_called_as_in_the_network_for_any_number_of_examples():
    # what is multiplied first depends on how many there are
    apply = lambda p, x: jnp.tanh(jnp.einsum("bij,ipr,rjq->bpq", x, p["one"], p["two"])).reshape(len(x), -1) @ p["down"]
    params = drawn.named(one=(3, 4, 5), two=(5, 2, 3), down=(12, 2))
    net = network(apply, params, drawn.normal(64, 3, 2))
    for count in (2, 64):
        units = net.capture(params, drawn.normal(count, 3, 2))[1].post
        assert {group: answers.shape[-1] for group, answers in units.items()} == dict(net.spec.sizes)


def test_units_that_no_example_reaches_are_the_same_for_each():
    filters = lambda p: jnp.sin(jnp.arange(5.0)[:, None] * p["frequency"][None]) @ p["mix"]
    params, x = drawn.named(frequency=(6,), mix=(6, 3)), drawn.normal(4, 5)
    units = units_of(lambda p, x: x @ filters(p), params, x)
    np.testing.assert_allclose(units, [np.sin(np.arange(5)[:, None] * params["frequency"])] * 4, rtol=1e-5)
    # what the program computes nothing of but products with other weights is seen in these
    low_rank = drawn.named(up=(5, 6), down=(6, 3))
    units = units_of(lambda p, x: x @ (p["up"] @ p["down"]), low_rank, x)
    np.testing.assert_allclose(units[0], np.concatenate([low_rank["up"], low_rank["down"].T]))


def test_of_a_loop_without_a_count_the_last_turn_is_seen():
    def settle(p, x):
        turn = lambda now: (now[0] + 1, now[1] + jnp.tanh(now[1] @ p["up"]) @ p["down"])
        return jax.lax.while_loop(lambda now: now[0] < 3, turn, (0, x))[1]

    params, x = drawn.named(up=(5, 6), down=(6, 5)), drawn.normal(4, 5)
    before = x
    for _ in range(2):
        before = before + np.tanh(before @ params["up"]) @ params["down"]
    np.testing.assert_allclose(units_of(settle, params, x)[:, 0], np.tanh(before @ params["up"]), atol=1e-5)


def test_complex_units_answer_with_both_parts():
    params, x = drawn.named(real=(5, 6), imaginary=(5, 6), down=(6, 2)), drawn.normal(4, 5)
    apply = lambda p, x: (jax.lax.complex(x @ p["real"], x @ p["imaginary"]) @ p["down"]).imag
    units = units_of(apply, params, x)
    np.testing.assert_allclose(units, np.stack([x @ params["real"], x @ params["imaginary"]], 1), atol=1e-5)


def test_units_of_experts_that_rows_do_not_name_are_seen_in_their_weights():
    sizes = np.int32([3, 1])
    apply = lambda p, x: jax.lax.ragged_dot(jnp.tanh(jax.lax.ragged_dot(x, p["up"], sizes)), p["down"], sizes)
    params = drawn.named(up=(2, 5, 6), down=(2, 6, 3))
    units = units_of(apply, params, drawn.normal(4, 5))
    np.testing.assert_allclose(units[0], params["down"].transpose(2, 0, 1))
