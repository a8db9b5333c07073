"""Features of single networks, computed once for many pairs: what is found is what pairs alone find."""

import chex
import jax
import numpy as np
import pytest

from dwalign import align_many
from dwalign.assignment import hungarian
from dwalign.deepalign import Aligner, AlignerConfig, deep_align, make_model
from dwalign.many.features import Features
from dwalign.matching import Method, chain, find_method, refine, weight_matching
from dwalign.networks import mlp
from dwalign.program import Data
from dwalign.symmetry import Alignment
from tests import drawn

NET = mlp(6, (7, 5), 3)
NETWORKS = [drawn.weights(NET.params, seed) for seed in range(5)]
PAIRS = np.argwhere(~np.eye(5, dtype=bool))
ONE = mlp(6, (8,), 3)
OTHERS = [drawn.weights(ONE.params, seed) for seed in range(4)]
DATA = Data(drawn.normal(8, 6), np.arange(8) % 3)


def test_each_network_is_encoded_once_where_there_is_room():
    encoded = []

    def encode(networks):
        encoded.append(networks["w"].tolist())
        return {"f": 10 * networks["w"][:, None]}

    networks = {k: {"w": np.float32(k)} for k in range(6)}
    ask = lambda table, numbers: table.add({k: networks[k] for k in numbers}) or table.of(numbers)["f"].ravel().tolist()
    wide = Features(encode, batch=2, count=6, room=24)
    for numbers in ([3, 0, 2], [2, 3], [5, 4, 1], [0, 1, 2, 3]):
        assert ask(wide, numbers) == [10 * k for k in numbers]
    assert encoded == [[3, 0], [2, 2], [5, 4], [1, 1]]
    # two batches are kept at least: 4 and 5 take the place of those that were asked for longest ago
    encoded.clear()
    narrow = Features(encode, batch=2, count=6, room=1)
    for numbers in ([0, 1], [2, 3], [1, 2], [4, 5], [1, 2], [0, 3, 5, 4]):
        assert ask(narrow, numbers) == [10 * k for k in numbers]
    assert encoded == [[0, 1], [2, 3], [4, 5], [0, 3]]


def test_pairs_with_features_are_found_as_those_without(tmp_path, monkeypatch):
    model = make_model(NET, AlignerConfig("graph", channels=4, depth=1, features=8, updates=1), DATA.inputs)
    aligner = Aligner(model, drawn.started(model.init, NETWORKS[0], NETWORKS[1]))
    method = chain(deep_align.using(aligner=aligner), refine.using(steps=1))
    options = dict(data=DATA, batch=4, part=12)
    found = align_many(NET, NETWORKS, PAIRS, method, folder=tmp_path / "once", room=1, **options)
    monkeypatch.setattr(type(method), "reuses", False)
    alone = align_many(NET, NETWORKS, PAIRS, method, folder=tmp_path / "alone", **options)
    for k in range(len(found.parts)):
        chex.assert_trees_all_equal(found.part(k), alone.part(k))
    assert any((perm != np.arange(perm.shape[-1])).any() for perm in found.part(0)[1].values())


def bias(spec, params, *, key):
    return {"h0": params["params"]["dense_0"]["bias"][:, None]}


def by_bias(spec, a, b, *, key=None, features=None):
    one, two = features or (bias(spec, params, key=key) for params in (a, b))
    scores = {"h0": one["h0"] @ two["h0"].T}
    return Alignment(hungarian(scores), scores)


def test_features_take_the_place_of_those_of_the_networks():
    method = Method("by_bias", by_bias, "by bias", "#000000", "weights", features=bias)
    assert method.reuses and find_method("features").reuses and not chain(weight_matching, refine).reuses
    features = tuple(method.encode(ONE, params, key=jax.random.key(0)) for params in OTHERS[:2])
    chex.assert_trees_all_equal(method(ONE, *OTHERS[2:], features=features), method(ONE, *OTHERS[:2]))
    with pytest.raises(ValueError, match="weight_matching: takes no features of single networks here; pass none"):
        weight_matching(ONE, *OTHERS[:2], features=features)
