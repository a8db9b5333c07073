"""Folded normalisation: the same function of the same tree, in which a residual stream may be rotated."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from dwalign import fold_norms, networks
from dwalign.symmetry import SpecError, permute, random_perms
from tests import drawn
from tests.nights import long

BLOCKS = dict(dim=12, depth=2, heads=3, width=7)
VIT = dict(shape=(4, 6, 2), patch=2, outputs=3, **BLOCKS)
TEXT = dict(vocabulary=11, length=5, **BLOCKS)
NETWORKS = {
    "vit": lambda: networks.vit(**VIT),
    "vit_rms": lambda: networks.vit(norm="rms", **VIT),
    "vit_scan": lambda: networks.vit(scan=True, **VIT),
    "transformer": lambda: networks.transformer(**TEXT),
    "transformer_rms_scan": lambda: networks.transformer(norm="rms", gated=True, scan=True, **TEXT),
    "transformer_fused_gated": lambda: networks.transformer(fused=True, gated=True, **TEXT),
    "vgg": lambda: networks.vgg((8, 8, 2), ((3,), (4,)), (5,), 3, norm="batch"),
    "resnet": lambda: networks.resnet((6, 6, 2), 4, (1, 1), 3),
}


def inputs(network, m=3, seed=1):
    shape, rng = (m, *network.example.shape[1:]), np.random.default_rng(seed)
    drawn = rng.standard_normal(shape) if network.example.dtype == jnp.float32 else rng.integers(0, 11, shape)
    return drawn.astype(network.example.dtype)


def same_function(network, params, folded, after, x):
    expected = jax.jit(network.apply)(params, x)
    close(jax.jit(network.apply)(after, x), expected)
    close(jax.jit(folded.apply)(after, x), expected)
    return expected


def close(found, expected, limit=1e-5):
    assert np.abs(found - expected).max() <= limit * np.abs(expected).max()


def named(params):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def rotated(spec, group, params, seed=5):
    """Every axis of the group turned by one rotation."""
    n = spec.sizes[group]
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0].astype(np.float32)

    def change(axes, leaf):
        for k in range(leaf.ndim):
            leaf = np.moveaxis(np.tensordot(leaf, turn, (k, 0)), -1, k) if axes.text(k) == group else leaf
        return leaf

    changed = [change(axes, np.asarray(leaf)) for axes, leaf in zip(spec.leaves, jax.tree.leaves(params), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), changed)


# other examples have what these two have
LONG = ("vit_rms", "transformer")


@pytest.fixture(scope="module", params=[*(name for name in NETWORKS if name not in LONG), *long(*LONG)])
def case(request):
    network = NETWORKS[request.param]()
    params = drawn.weights(network.params, 3)
    return network, params, *fold_norms(network, params)


def test_the_function_stays_in_both_programs(case):
    network, params, folded, after = case
    x = inputs(network)
    expected = same_function(network, params, folded, after, x)
    # the first program is far from the second on what was not folded
    assert np.abs(jax.jit(folded.apply)(params, x) - expected).max() > 0.01 * np.abs(expected).max()


def test_what_was_folded_is_a_constant(case):
    network, params, folded, after = case
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert folded.notes == () and folded.spec.sizes == network.spec.sizes
    batch = "batch_stats" in params
    spec = dict(zip(folded.spec.paths, folded.spec.leaves, strict=True))
    for path, leaf in named(after).items():
        if "norm" in path:
            last = path.split("'")[-2]
            # convolutions without a bias get the shift
            expected = {"scale": 1, "mean": 0, "var": 1 - 1e-5, "bias": None if batch else 0}[last]
            assert expected is None or np.allclose(leaf, expected, atol=1e-9)
            assert (spec[path].names() & set(folded.spec.sizes) == set()) == (expected is not None)
    assert (folded.train is None) and (network.train is not None) == batch


def test_it_goes_with_permutations_and_is_done_once(case):
    network, params, folded, after = case
    perms = drawn.perms(network.spec, 2)
    both = fold_norms(network, permute(network.spec, params, perms))[1], permute(network.spec, after, perms)
    once, again = fold_norms(network, after)[1], fold_norms(folded, after)[1]
    for one, other in (both, (once, after), (again, after)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), one, other)


def test_the_stream_can_be_rotated(case):
    network, params, folded, after = case
    if "batch_stats" in params:
        pytest.skip("a ReLU reads the stream")
    axes = folded.spec.axes["params"]["head"]["kernel"]
    apply, x = jax.jit(folded.apply), inputs(network)
    close(apply(rotated(folded.spec, axes.text(0), after), x), apply(after, x))
    # unfolded it cannot
    moved = jax.jit(network.apply)(rotated(network.spec, axes.text(0), params), x)
    assert np.abs(moved - jax.jit(network.apply)(params, x)).max() > 0.01


def test_nothing_of_a_norm_is_left_but_the_division():
    folded, after = fold_norms(net := networks.vit(**VIT), drawn.weights(net.params, 3))
    text = str(jax.make_jaxpr(folded.apply)(after, inputs(net)))
    # the mean over patches, two of each norm and two of each softmax
    assert text.count("reduce_sum") == 1 + 5 + 2 and "sub" not in text.split("exp")[-1]


def test_gains_and_variances_of_zero():
    net = networks.vgg((4, 4, 2), ((3,),), (5,), 3, norm="batch")
    params = drawn.weights(net.params, 3)
    params["batch_stats"]["norm_0_0"]["var"][:2] = 0
    params["params"]["norm_0_0"]["scale"][1:] = 0
    same_function(net, params, *fold_norms(net, params), inputs(net))
    net = networks.vit(**VIT | {"depth": 1})
    params = drawn.weights(net.params, 3)
    params["params"]["norm"]["scale"][:3] = 0
    folded, after = fold_norms(net, params)
    same_function(net, params, folded, after, inputs(net))
    assert (after["params"]["norm"]["scale"] == 1).all()


def layer_norm(x, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def made(one, x=(3, 5), **shapes):
    """A network of a function of one example, folded, and the arrays that this changed."""
    params, x, apply = drawn.named(**shapes), drawn.normal(*x, seed=9), jax.vmap(one, (None, 0))
    net = dwalign.network(apply, params, x)
    folded, after = fold_norms(net, params)
    same_function(net, params, folded, after, x)
    changed = {name for name in params if not np.allclose(after[name], params[name], atol=1e-6)}
    return folded, after, changed


def test_a_reader_without_a_bias_leaves_a_shift():
    def apply(p, x):
        h = layer_norm(x @ p["embed"]) * p["gain"] + p["shift"]
        return jnp.tanh(h @ p["up"] + p["bias"]) @ p["down"] + h @ p["out"]

    shapes = dict(embed=(5, 6), gain=(6,), shift=(6,), up=(6, 7), bias=(7,), down=(7, 2), out=(6, 2))
    folded, _, changed = made(apply, **shapes)
    # the sum of two products has no bias: what was centred still is
    assert changed == {"embed"} and "no bias" in str(folded.notes)
    folded, after, changed = made(lambda p, x: apply(p | {"shift": 0 * p["shift"]}, x), **shapes)
    params = drawn.named(0, **shapes) | {"shift": np.zeros(6, np.float32)}
    folded, after = fold_norms(dwalign.network(jax.vmap(apply, (None, 0)), params, drawn.normal(3, 5)), params)
    assert (after["gain"] == 1).all() and folded.notes == ()


def test_one_norm_for_several_matrices_and_one_matrix_for_several_norms():
    def shared(p, x):
        one, two = (layer_norm(x @ p[name]) * p["gain"] + p["shift"] for name in ("embed", "other"))
        return jnp.tanh(one @ p["up"] + p["bias"]) + jnp.tanh(two @ p["down"] + p["last"])

    shapes = dict(embed=(5, 6), other=(5, 6), gain=(6,), shift=(6,), up=(6, 7), bias=(7,), down=(6, 7), last=(7,))
    folded, _, changed = made(shared, **shapes)
    assert changed == set(shapes) and folded.notes == ()

    def tied(p, x):
        one, two = (layer_norm(x @ p[name]) * p[gain] for name, gain in (("embed", "gain"), ("other", "second")))
        return jnp.tanh(one @ p["up"]) + jnp.tanh(two @ p["up"])

    folded, _, changed = made(tied, embed=(5, 6), other=(5, 6), gain=(6,), second=(6,), up=(6, 7))
    assert changed == {"embed", "other"}
    assert [note.split(" ")[0] for note in folded.notes] == ["['gain']", "['second']"]


def test_a_layer_scale_goes_into_the_matrix_before_it():
    def apply(p, x):
        stream = x @ p["embed"]
        h = layer_norm(stream) * (1 + p["gain"]) + p["shift"]
        stream = stream + p["scale"] * (jnp.tanh(h @ p["up"] + p["bias"]) @ p["down"] + p["last"])
        return layer_norm(stream) @ p["head"]

    shapes = dict(embed=(5, 6), gain=(6,), shift=(6,), up=(6, 7), bias=(7,), down=(7, 6), last=(6,), scale=(6,))
    folded, after, changed = made(apply, **shapes, head=(6, 2))
    assert changed == {*shapes, "head"} and folded.notes == ()
    assert (after["scale"] == 1).all() and (after["gain"] == 0).all()


def test_a_scale_between_a_matrix_and_the_bias_that_takes_a_shift():
    def apply(p, x):
        h = layer_norm(x @ p["embed"]) + p["shift"]
        return jnp.tanh(2 * p["scale"] * (h @ p["up"]) + p["bias"]) * p["scale"][0]

    folded, _, changed = made(apply, embed=(5, 6), shift=(6,), up=(6, 7), scale=(7,), bias=(7,))
    assert changed == {"embed", "shift", "up", "bias"} and "['scale'] stays" in folded.notes[0]


def test_a_norm_written_as_one_product_and_one_sum():
    def apply(p, x):
        h = jnp.tanh(x @ p["embed"])
        inverse = jax.lax.rsqrt(h.var(keepdims=True) + 1e-5) * p["gain"]
        return jnp.tanh((h * inverse + (p["shift"] - h.mean(keepdims=True) * inverse)) @ p["up"] + p["bias"])

    folded, _, changed = made(apply, embed=(5, 6), gain=(6,), shift=(6,), up=(6, 7), bias=(7,))
    assert changed == {"gain", "shift", "up", "bias"} and folded.notes == ()


def test_centring_written_as_one_product_and_one_sum():
    """As in Keras: x / deviation - mean / deviation."""
    shapes = dict(embed=(5, 6), gain=(6,), shift=(6,), up=(6, 7), bias=(7,))

    def apply(p, x, times=-1.0, inverse=None):
        h = x @ p["embed"]
        deviation = jax.lax.rsqrt(h.var(keepdims=True) + 1e-3)
        mean = times * h.mean(keepdims=True) * (deviation if inverse is None else inverse(h)) * p["gain"]
        return jnp.tanh((h * (deviation * p["gain"]) + (mean + p["shift"])) @ p["up"] + p["bias"])

    folded, after, changed = made(apply, **shapes)
    assert changed == {*shapes} and folded.notes == ()
    assert str(jax.make_jaxpr(folded.apply)(after, drawn.normal(3, 5))).count("reduce_sum") == 1
    # the mean is added, or some of it, or it is divided by something else
    for options in (dict(times=1.0), dict(times=-0.5), dict(inverse=lambda h: jax.lax.rsqrt(h.var() + 2e-3))):
        assert made(functools.partial(apply, **options), **shapes)[2] == {*shapes} - {"embed"}


def test_a_shift_goes_through_what_takes_a_bias_with_either_sign():
    """GELU computes x erfc(-x): of its sign the bias knows nothing, but of a sign of its own it does."""
    shapes = dict(embed=(5, 6), shift=(6,), up=(6, 7), bias=(7,))
    normed = lambda p, x: (layer_norm(x @ p["embed"]) + p["shift"]) @ p["up"]
    gelu = functools.partial(jax.nn.gelu, approximate=False)
    folded, _, changed = made(lambda p, x: gelu(normed(p, x) + p["bias"]), **shapes)
    assert changed == {*shapes} and folded.notes == ()
    less = lambda p, x: jnp.tanh(normed(p, x) + p["bias"]) + jnp.tanh(p["bias"] - normed(p, x))
    assert made(less, **shapes)[2] == set()


def test_what_is_added_to_a_norm_keeps_its_mean():
    """Readers of the sum see it, so that they cannot be centred, and without them a rotation would bring means back."""
    shapes = dict(embed=(5, 6), other=(5, 4), more=(4, 6), up=(6, 7))
    normed = lambda p, x: layer_norm(x @ p["embed"])
    added = lambda p, x: jnp.tanh((normed(p, x) + jnp.tanh(x @ p["other"]) @ p["more"]) @ p["up"])
    folded, _, changed = made(added, **shapes)
    assert changed == set() and "['more'] is added" in folded.notes[0]
    folded, _, changed = made(lambda p, x: jnp.tanh((normed(p, x) + p["shift"]) @ p["up"]), **shapes, shift=(6,))
    assert changed == set() and "['shift'] is added" in folded.notes[0]
    # where what is added is centred itself all of it is
    both = lambda p, x: jnp.tanh((normed(p, x) + layer_norm(jnp.tanh(x @ p["other"]) @ p["more"])) @ p["up"])
    assert made(both, **shapes)[2] == {"embed", "more", "up"}


def test_a_bias_between_two_matrices_is_no_norm():
    apply = lambda p, x: jnp.tanh((x @ p["up"] + p["bias"][None]).mean(0) @ p["down"] + p["last"])
    assert made(apply, x=(3, 4, 5), up=(5, 6), bias=(6,), down=(6, 2), last=(2,))[2] == set()


def test_an_array_in_two_parts_stays():
    def apply(p, x):
        h = layer_norm(x @ p["embed"])
        return jnp.tanh((h * p["gain"] + p["gain"]) @ p["up"] + p["bias"])

    shapes = dict(embed=(5, 6), gain=(6,), up=(6, 7), bias=(7,))
    folded, _, changed = made(apply, **shapes)
    assert changed == {"embed"} and "two ways" in folded.notes[0]
    folded, _, changed = made(lambda p, x: apply(p, x) * (1 + p["gain"][0]), **shapes)
    assert changed == {"embed"} and folded.notes

    def twice(p, x):
        one, two = (layer_norm(x @ p[name]) * (p["gain"] + added) for name, added in (("embed", 0), ("other", 1)))
        return jnp.tanh(one @ p["up"]) + jnp.tanh(two @ p["down"])

    assert made(twice, embed=(5, 6), other=(5, 6), gain=(6,), up=(6, 7), down=(6, 7))[2] == {"embed", "other"}


def test_shifts_do_not_go_through_padding_but_gains_do():
    def apply(p, x, shift=True):
        h = layer_norm(x @ p["embed"]) * p["gain"][None] + (p["shift"][None] if shift else 0)
        order = ("NWC", "WIO", "NWC")
        convolved = jax.lax.conv_general_dilated(h[None], p["kernel"], (1,), "SAME", dimension_numbers=order)[0]
        return jnp.tanh(convolved + p["bias"][None])

    shapes = dict(embed=(5, 6), gain=(6,), shift=(6,), kernel=(3, 6, 4), bias=(4,))
    assert made(apply, x=(3, 8, 5), **shapes)[2] == {"embed"}
    assert made(lambda p, x: apply(p, x, False), x=(3, 8, 5), **shapes)[2] == {"embed", "gain", "kernel"}


def test_grouped_convolutions():
    def apply(p, x):
        options = dict(dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=2)
        h = layer_norm(x @ p["embed"]) * p["gain"][None] + p["shift"][None]
        h = jax.lax.conv_general_dilated(h[None], p["kernel"], (1,), "VALID", **options)[0] + p["bias"][None]
        return jnp.tanh(p["scale"][None] * h - p["mean"][None])

    shapes = dict(embed=(5, 6), gain=(6,), shift=(6,), kernel=(2, 3, 4), bias=(4,), scale=(4,), mean=(4,))
    folded, after, changed = made(apply, x=(3, 8, 5), **shapes)
    assert changed == {*shapes} and not after["mean"].any() and folded.notes == ()


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_means_over_positions_stay(norm):
    """A writer that is centred along channels loses more than these take away."""

    def apply(p, x):
        h = x @ p["embed"] + p["bias"][None]
        centred = h - h.mean((0, 1) if norm == "group" else 0, keepdims=True)
        return jnp.tanh(centred @ p["up"]).sum(0)

    assert made(apply, x=(3, 8, 5), embed=(5, 6), bias=(6,), up=(6, 4))[2] == set()


def test_means_over_what_was_made_of_different_things_stay():
    """Each group of a convolution reads channels of its own: nothing is added to all units at once."""

    def grouped(p, x):
        options = dict(dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=3)
        h = jax.lax.conv_general_dilated((x @ p["embed"])[None], p["kernel"], (1,), "SAME", **options)[0]
        return layer_norm(h) @ p["up"]

    folded, _, changed = made(grouped, x=(3, 8, 5), embed=(5, 3), kernel=(3, 1, 6), up=(6, 4))
    assert changed == set() and "['kernel'] writes" in folded.notes[0]

    def diagonal(p, x):
        h = (x @ p["embed"]).reshape(-1)[:: 6 + 1]
        return layer_norm(h) @ p["up"]

    assert made(diagonal, x=(3, 6, 5), embed=(5, 6), up=(6, 4))[2] == set()


class PostNorm(nn.Module):
    """A block as in BERT, with embeddings that are normalised first."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 6, name="tokens")(tokens) + self.param("positions", nn.initializers.normal(), (1, 5, 6))
        x = nn.LayerNorm(name="first")(x)
        for k in range(2):
            x = nn.LayerNorm(name=f"norm_{k}")(
                x + nn.Dense(6, name=f"down_{k}")(nn.gelu(nn.Dense(7, name=f"up_{k}")(x)))
            )
        return nn.Dense(3, name="head")(x)


def test_of_post_norm_the_last_norm_and_the_embeddings_are_folded():
    tokens = np.random.default_rng(0).integers(0, 11, (3, 5))
    model = PostNorm()
    params = drawn.started(model.init, tokens)
    net = dwalign.network(model.apply, params, tokens)
    folded, after = fold_norms(net, params)
    same_function(net, params, folded, after, tokens)
    changed = {name for name, leaf in named(after).items() if not np.allclose(leaf, named(params)[name], atol=1e-6)}
    expected = [
        "tokens']['embedding",
        "positions",
        "norm_1']['scale",
        "norm_1']['bias",
        "head']['kernel",
        "head']['bias",
    ]
    assert changed == {f"['params']['{name}']" for name in expected}
    stays = [note.split("'")[3] for note in folded.notes if note.startswith("[")]
    assert stays == ["first", "norm_0"] and sum("mean" in note for note in folded.notes) == 1
    assert sum("residual stream" in note for note in folded.notes) == 2
    # gains stand in the way of a rotation, means in the way of signs but where only the first norm reads
    spec = dwalign.infer_spec(folded.apply, after, tokens, kinds="all")
    names = dict(zip(spec.paths, map(str, spec.written), strict=True))
    signed = {path.split("'")[3] for path, text in names.items() if "h0" in text and "h0^0" not in text}
    assert spec.kinds["h0"] == "sign" and signed == {"tokens", "positions", "first"}
    assert "no orthogonal: mul unit by unit" in spec.bounds["h0"]
    flipped = permute(spec, after, random_perms(spec, np.random.default_rng(0)))
    close(jax.jit(net.apply)(flipped, tokens), jax.jit(net.apply)(params, tokens))


def test_of_post_norm_without_means_signs_are_free_between_norms():
    rms = lambda x: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)

    def apply(p, x):
        h = rms(p["table"][x]) * p["first"]
        for k in "01":
            h = rms(h + jax.nn.gelu(h @ p[f"up{k}"]) @ p[f"down{k}"]) * p[f"gain{k}"]
        return h @ p["head"]

    gains = dict(first=(1, 1, 6), gain0=(1, 1, 6), gain1=(1, 1, 6))
    params = drawn.named(table=(9, 6), up0=(6, 7), down0=(7, 6), up1=(6, 7), down1=(7, 6), head=(6, 3), **gains)
    folded, after = fold_norms(dwalign.network(apply, params, TOKENS, kinds="all"), params)
    assert [note.split(" ")[0] for note in folded.notes] == ["['first']", "['gain0']"]
    assert folded.spec.kinds["h0"] == "sign" and folded.spec.directions["h0"] == (0, 3)
    assert "no orthogonal: mul unit by unit" in folded.spec.bounds["h0"]
    flipped = permute(folded.spec, after, random_perms(folded.spec, np.random.default_rng(0)))
    close(jax.jit(folded.apply)(flipped, TOKENS), jax.jit(apply)(params, TOKENS))


def test_a_tied_embedding_keeps_what_it_reads_and_writes():
    net = networks.transformer(tied=True, **TEXT)
    params = drawn.weights(net.params, 3)
    folded, after = fold_norms(net, params)
    same_function(net, params, folded, after, inputs(net))
    assert "['norm']['scale'] stays" in folded.notes[0] and "['embedding']['embedding'] is used" in folded.notes[1]
    same = [name for name, leaf in named(after).items() if np.array_equal(leaf, named(params)[name])]
    # the writers of a stream whose mean stays are left alone
    assert {"['params']['norm']['scale']", "['params']['embedding']['embedding']"} < set(same)
    assert all((after["params"][f"block_{k}"]["norm_mlp"]["scale"] == 1).all() for k in range(2))


@pytest.mark.parametrize("options", [dict(), dict(norm="rms", rotary=True), dict(scan=True)], ids=str)
def test_a_tied_embedding_is_set_apart(options):
    """As in GPT-2: the last norm goes into the copy that reads, and its shift into a bias that was not there."""
    net = networks.transformer(tied=True, **TEXT | {"depth": 1}, **options)
    net = dwalign.network(net.apply, net.params, np.zeros((2, 5), int), kinds="all")
    params = drawn.weights(net.params, 3)
    folded, after = fold_norms(net, params, untie=True)
    close(jax.jit(folded.apply)(after, inputs(net)), jax.jit(net.apply)(params, inputs(net)))
    assert folded.notes == () and jax.tree.structure(after["params"]) == jax.tree.structure(params)
    ((path, own),) = after["untied"].items()
    assert path == "['params']['embedding']['embedding']" and own["bias"].any() == (options.get("norm") != "rms")
    assert not np.allclose(own["matrix"], after["params"]["params"]["embedding"]["embedding"])
    # the stream, which two arrays carry now, takes any rotation
    assert "orthogonal" in folded.spec.kinds.values()
    moved = permute(folded.spec, after, random_perms(folded.spec, np.random.default_rng(4)))
    close(jax.jit(folded.apply)(moved, inputs(net)), jax.jit(net.apply)(params, inputs(net)), 1e-4)
    again, _ = fold_norms(net, drawn.weights(net.params, 4), untie=True)
    assert again == folded and hash(again) == hash(folded)


TOKENS = np.array([[0, 3, 8], [1, 7, 2]])


def test_what_need_not_or_cannot_be_set_apart_stays():
    weights = drawn.named(table=(9, 6), gain=(1, 1, 6), out=(6, 2))

    def kept(apply):
        used = {name: leaf for name, leaf in weights.items() if name in apply.__code__.co_consts}
        net = dwalign.network(apply, used, TOKENS)
        (one, a), (two, b) = fold_norms(net, used), fold_norms(net, used, untie=True)
        assert one == two and one.notes == two.notes
        jax.tree.map(np.testing.assert_array_equal, a, b)
        return one.notes

    # no table
    assert kept(lambda p, x: layer_norm(jax.nn.one_hot(x, 9) @ p["table"]) * p["gain"] @ p["table"].T)
    # no matrix, which a copy would not help
    assert not kept(lambda p, x: layer_norm(p["table"][x]) * p["gain"] @ p["out"])
    # nothing to fold
    assert not kept(lambda p, x: jnp.tanh(p["table"][x]) @ p["table"].T)
    # a gain that goes elsewhere
    assert kept(lambda p, x: jnp.tanh(jnp.exp(p["table"][x]) * p["gain"]) @ p["table"].T)


def test_a_table_in_several_products_gets_no_bias():
    """Gains go into a copy that all of them read alike; where a shift would go there is no one place."""
    params = drawn.named(table=(9, 6), gain=(1, 1, 6), shift=(1, 1, 6), up=(6, 5), down=(5, 6))

    def apply(p, x, shift):
        h = layer_norm(p["table"][x]) * p["gain"] + shift * p["shift"]
        return jnp.tanh(jnp.einsum("vd,bld->vbl", p["table"], h)).sum(0) + jnp.tanh(h @ p["table"].T).sum(-1)

    for shift, stays in ((0, False), (1, True)):
        net = dwalign.network(functools.partial(apply, shift=shift), params, TOKENS)
        folded, after = fold_norms(net, params, untie=True)
        close(jax.jit(folded.apply)(after, TOKENS), jax.jit(net.apply)(params, TOKENS))
        assert ("['gain'] stays" in str(folded.notes)) == stays


def test_types_stay_and_other_shapes_are_taken():
    net = networks.vit(norm="rms", **VIT | {"depth": 1})
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), drawn.weights(net.params, 3))
    params["params"]["head"]["bias"] = np.asarray(params["params"]["head"]["bias"])
    net = dwalign.network(net.apply, params, jnp.zeros((1, 4, 6, 2), jnp.bfloat16))
    folded, after = fold_norms(net, params)
    kinds = lambda tree: jax.tree.map(lambda x: (isinstance(x, np.ndarray), x.dtype), tree)
    assert kinds(after) == kinds(params)
    x = inputs(net, 8).astype(jnp.bfloat16)
    close(*(np.asarray(jax.jit(f)(p, x), np.float32) for f, p in ((folded.apply, after), (net.apply, params))), 0.1)
    # one example, and one network in a batch of networks
    stacked = jax.tree.map(lambda x: jnp.asarray(x)[None], after)
    found = jax.jit(jax.vmap(folded.apply, (0, None)))(stacked, x[:1])[0]
    close(np.asarray(found, np.float32), np.asarray(jax.jit(net.apply)(params, x[:1]), np.float32), 0.1)


def test_networks_folded_alike_are_equal_and_are_networks():
    net = networks.transformer(norm="rms", **TEXT)
    (one, a), (two, _) = (fold_norms(net, drawn.weights(net.params, seed)) for seed in (1, 2))
    assert one == two and hash(one) == hash(two) and one != net
    outputs, units = jax.jit(one.capture)(a, inputs(net))
    close(outputs, jax.jit(one.apply)(a, inputs(net)))
    assert {*units.post} == {*one.spec.sizes}
    assert dwalign.certify(one.spec, one.apply, a, inputs(net)).error < 1e-9


def test_several_inputs_and_counters():
    def apply(p, x, mask):
        h = layer_norm(x @ p["embed"]) * p["gain"][None]
        return jnp.tanh(h @ p["up"]) * mask[:, None] + 0 * p["count"]

    params = drawn.named(embed=(5, 6), gain=(6,), up=(6, 7)) | {"count": np.int32(3)}
    x, mask = drawn.normal(3, 5), np.array([1.0, 0.0, 1.0], np.float32)
    net = dwalign.network(apply, params, x, mask)
    folded, after = fold_norms(net, params)
    close(jax.jit(folded.apply)(after, (x, mask)), jax.jit(apply)(params, x, mask))
    assert after["count"] is params["count"] and (after["gain"] == 1).all()


def test_what_is_no_network_is_refused():
    net = networks.vit(**VIT)
    with pytest.raises(SpecError, match="fold_norms: needs the network"):
        fold_norms(net.spec, {})
    with pytest.raises(SpecError):
        fold_norms(net, drawn.weights(networks.vit(norm="rms", **VIT).params))


def test_an_encoder_of_torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchax")

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = torch.nn.Conv2d(2, 12, 2, 2)
            self.token = torch.nn.Parameter(torch.randn(1, 1, 12))
            layer = torch.nn.TransformerEncoderLayer(12, 3, 7, 0.0, batch_first=True, norm_first=True)
            self.blocks = torch.nn.TransformerEncoder(layer, 1, torch.nn.LayerNorm(12), enable_nested_tensor=False)
            self.head = torch.nn.Linear(12, 3)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
            return self.head(self.blocks(x)[:, 0])

    torch.manual_seed(0)
    model, x = Encoder().eval(), drawn.normal(3, 2, 4, 6)
    net, _ = dwalign.from_model(model, torch.tensor(x))
    params = jax.tree.map(lambda leaf: drawn.normal(*leaf.shape, seed=leaf.size) / 4, net.params)
    folded, after = fold_norms(net, params)
    expected = np.asarray(jax.jit(net.apply)(params, x))
    close(jax.jit(folded.apply)(after, x), expected)
    dwalign.into_model(model, after)
    close(model(torch.tensor(x)).detach().numpy(), expected)
    assert folded.notes == () and folded.spec.sizes == net.spec.sizes
    stream = folded.spec.axes["head.weight"].text(1)
    close(jax.jit(folded.apply)(rotated(folded.spec, stream, after), x), expected)


def test_the_folded_program_is_the_same_where_constants_are_computed_at_once():
    network = networks.vit((8, 8, 1), 4, dim=8, depth=1, heads=2, width=6)
    folded, params = fold_norms(network, drawn.weights(network.params))
    with jax.ensure_compile_time_eval():
        there = jax.make_jaxpr(folded.apply)(params, folded.example)
    count = lambda program: sum(eqn.primitive.name == "reduce_sum" for eqn in program.eqns)
    assert count(there) == count(jax.make_jaxpr(dataclasses.replace(folded).apply)(params, jnp.zeros((2, 8, 8, 1))))


def test_what_is_rotated_and_averaged_runs_in_the_program_that_it_came_from():
    """It subtracts means, which a rotation of all units of the stream would bring back."""
    network = dwalign.network(*_vit_with_norms(0), kinds="all")
    folded, a = fold_norms(network, _vit_with_norms(0)[1])
    _, b = fold_norms(network, _vit_with_norms(1)[1])
    assert "orthogonal" in folded.spec.kinds.values()
    perms = dwalign.align(folded, a, b).perms
    images = jax.random.normal(jax.random.key(5), (3, 8, 8, 1))
    moved = dwalign.permute(folded.spec, b, perms)
    middle = dwalign.interpolate(folded.spec, a, moved, 0.5)
    for params in (moved, middle):
        np.testing.assert_allclose(
            jax.jit(network.apply)(params, images), jax.jit(folded.apply)(params, images), atol=1e-5
        )
    np.testing.assert_allclose(jax.jit(network.apply)(moved, images), jax.jit(network.apply)(b, images), atol=1e-4)


def _vit_with_norms(seed):
    network = networks.vit((8, 8, 1), 4, dim=8, depth=2, heads=2, width=6)
    return network.apply, drawn.weights(network.params, seed), jnp.zeros((2, 8, 8, 1))
