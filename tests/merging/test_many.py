"""Many networks aligned to one universe and averaged."""

import dataclasses
import itertools

import chex
import jax
import numpy as np
import pytest

from dwalign.deepalign import choose_method
from dwalign.merging import merge_many, universe
from dwalign.merging.frank_wolfe import climb
from dwalign.networks import mlp, vgg
from dwalign.program import CLASSIFICATION, Data
from dwalign.program.inference import infer_spec
from dwalign.symmetry import (
    Axes,
    PermutationSpec,
    SpecError,
    compose,
    identity,
    inner_product,
    inverse,
    permute,
    weight_blocks,
)
from tests import drawn

NET = mlp(12, (8, 7), 5)
SCALED = dataclasses.replace(NET, spec=infer_spec(NET.apply, NET.params, NET.example, kinds="all"))
# one group is matched without search
SHALLOW = mlp(12, (8,), 5)
DATA = Data(drawn.normal(64, 12), np.arange(64) % 5)
# a recurrent layer, and heads of which each has units of its own
SPECS = {
    "groups twice on an array": PermutationSpec(
        {"in": Axes(9, "h"), "again": Axes("h", "h"), "out": Axes("h", 4)}, {"h": 8}
    ),
    "groups inside of groups": PermutationSpec(
        {"in": Axes(9, "head", "unit"), "out": Axes("head", "unit", 4)},
        {"head": 3, "unit": 4},
        batch={"unit": ("head",)},
    ),
    "layers": NET.spec,
}


def copies(spec, one, count):
    """Relabelled copies of one network."""
    return [one, *(permute(spec, one, drawn.perms(spec, seed)) for seed in range(1, count))]


def agreement(spec, networks, perms):
    moved = [weight_blocks(spec, permute(spec, *one)) for one in zip(networks, perms, strict=True)]
    return sum(float(inner_product(*two)) for two in itertools.combinations(moved, 2))


@pytest.mark.parametrize("how", [how for how in universe.HOW if how != "refinement"])
def test_copies_merge_to_the_network(how):
    networks = copies(SHALLOW.spec, drawn.weights(SHALLOW.params), 4)
    for method in ("features" if how == "features" else "weight_matching", "activation_matching_correlation"):
        merged = merge_many(SHALLOW, networks, method, how=how, data=DATA)
        chex.assert_trees_all_close(merged.params, networks[0], atol=1e-6)
        for params, perms in zip(networks, merged.perms, strict=True):
            chex.assert_trees_all_equal(permute(SHALLOW.spec, params, perms), networks[0])


def test_the_method_may_be_left_to_what_is_there():
    network = dataclasses.replace(SHALLOW, apply=lambda params, x: SHALLOW.apply(params, x)[:, None])  # no logits
    networks = copies(network.spec, drawn.weights(network.params), 3)
    for program, data in ((network.spec, None), (network, None), (network, Data(DATA.inputs))):
        found, wanted = (
            merge_many(program, networks, method, how="first", data=data).perms
            for method in ("auto", choose_method(program, data).method)
        )
        chex.assert_trees_all_equal(found, wanted)


@pytest.mark.parametrize("name", SPECS)
def test_frank_wolfe_finds_copies(name):
    spec = SPECS[name]
    shape = lambda axes: tuple(spec.size(dim[0][0]) for dim in axes.dims)
    one = drawn.weights(NET.params) if name == "layers" else drawn.named(**{k: shape(x) for k, x in spec.axes.items()})
    networks = copies(spec, one, 3)
    found = climb(spec, networks, [identity(spec) for _ in networks])
    planted = [identity(spec), *(inverse(spec, drawn.perms(spec, seed)) for seed in (1, 2))]
    begun, reached, best = (agreement(spec, networks, perms) for perms in ([identity(spec)] * 3, found, planted))
    assert begun < 0.5 * best and reached > 0.99 * best


@pytest.mark.parametrize("name", SPECS)
def test_features_of_groups_inside_of_groups(name):
    """Copies are found from encodings alone; exact, since features of a copy are those of the network."""
    spec = SPECS[name]
    shape = lambda axes: tuple(spec.size(dim[0][0]) for dim in axes.dims)
    one = drawn.weights(NET.params) if name == "layers" else drawn.named(**{k: shape(x) for k, x in spec.axes.items()})
    networks = copies(spec, one, 4)
    for params, perms in zip(networks, merge_many(spec, networks, "features", how="features").perms, strict=True):
        chex.assert_trees_all_equal(permute(spec, params, perms), one)


def test_frank_wolfe_raises_the_sum_over_all_pairs():
    networks = [drawn.weights(NET.params, seed) for seed in range(5)]
    begun, reached = (merge_many(NET, networks, how=how).perms for how in ("running_mean", "universe"))
    assert agreement(NET.spec, networks, reached) > 1.01 * agreement(NET.spec, networks, begun)


def test_merge_many_never_lowers_the_sum_over_all_pairs():
    networks = [drawn.weights(NET.params, seed) for seed in range(5)]
    perms = merge_many(NET, networks, how="merge_many").perms
    value = agreement(NET.spec, networks, perms)
    for seed in range(5):
        other = [{**perm, "h0": drawn.perms(NET.spec, 5 * seed + k)["h0"]} for k, perm in enumerate(perms)]
        assert agreement(NET.spec, networks, other) < value
    again = merge_many(NET, [permute(NET.spec, *one) for one in zip(networks, perms, strict=True)], how="merge_many")
    assert all(np.array_equal(perm[g], unmoved) for perm in again.perms for g, unmoved in identity(NET.spec).items())


def test_every_way_round_is_the_identity():
    networks, spec = [drawn.weights(NET.params, seed) for seed in range(3)], NET.spec
    perms = merge_many(NET, networks, how="merge_many").perms
    to = lambda k, j: compose(spec, inverse(spec, perms[k]), perms[j])
    chex.assert_trees_all_equal(compose(spec, to(0, 2), compose(spec, to(2, 1), to(1, 0))), identity(spec))


def test_weights_are_shares():
    networks = [drawn.weights(NET.params, seed) for seed in range(3)]
    merged = merge_many(NET, networks, "naive", how="first", weights=[2, 0, 2])
    chex.assert_trees_all_close(merged.params, jax.tree.map(lambda x, y: (x + y) / 2, *networks[::2]), atol=1e-6)


def test_statistics_are_renewed_or_warned_of():
    net = vgg((4, 4, 1), ((3,),), (), 2, "batch")
    networks = [drawn.weights(net.params, seed) for seed in range(2)]
    with pytest.warns(UserWarning, match="must be renewed"):
        merge_many(net, networks)
    merge_many(net, networks, data=Data(drawn.normal(6, 4, 4, 1)))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(how="features"), "method: 'anchored_matching' does not compare .*those that do are.*'deep_align'"),
        (
            dict(how="universe", network=SCALED, networks=[drawn.weights(NET.params)] * 2),
            "knows orders alone.*'scale'.*how='first'",
        ),
        (dict(how="median"), "how must be one of .*'universe'.*got 'median'"),
        (dict(networks=drawn.weights(NET.params)), "must be a list of the parameters of at least two.*got dict"),
        (dict(networks=[drawn.weights(NET.params)]), "got list of 1"),
        (dict(method="activation_matching"), "activation_matching: needs data"),
        (dict(how="refinement"), r"merge_many: needs data, Data\(inputs, labels\)"),
        (dict(how="refinement", network=NET.spec), "merge_many: needs the network, not only its spec"),
        (dict(networks=[drawn.weights(n.params) for n in (NET, mlp(12, (8, 6), 5))]), r"b.*dimension 0 must be h1 = 7"),
    ],
)
def test_arguments_that_cannot_be_meant(change, message):
    given = dict(network=NET, networks=[drawn.weights(NET.params)] * 2) | change
    with pytest.raises((ValueError, SpecError), match=message):
        merge_many(**given)


def test_refinement_lowers_the_loss_of_the_mean():
    """Networks that answer as one of them does."""
    networks = [drawn.weights(SHALLOW.params, seed) for seed in range(3)]
    data = Data(DATA.inputs, np.argmax(SHALLOW.apply(networks[0], DATA.inputs), -1))
    losses = {}
    for how in ("universe", "refinement"):
        merged = merge_many(SHALLOW, networks, "naive", how=how, data=data)
        losses[how] = CLASSIFICATION.loss(SHALLOW.apply(merged.params, data.inputs), data.labels)
        assert all(np.array_equal(np.sort(perm["h0"]), np.arange(8)) for perm in merged.perms)
    assert losses["refinement"] < losses["universe"] - 0.02
