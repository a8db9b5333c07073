"""Partners of a planted matching are as alike as can be; relabelled networks only relabel what is said of units."""

import json
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from dwalign import Data, SpecError
from dwalign.evaluation import clues, confidence, predict_chance
from dwalign.files import unsealed
from dwalign.matching import weight_matching
from dwalign.networks import mlp, transformer
from dwalign.symmetry import Axes, Monomial, PermutationSpec, compose, identity, inverse, permute, permute_batch
from tests import drawn

NET = mlp(6, (5, 4), 3)
ATTENTION = transformer(length=3, dim=4, depth=1, heads=2, width=5, vocabulary=7)
A, B = drawn.weights(NET.params, 0), drawn.weights(NET.params, 1)
X = drawn.normal(30, 6)
RESULTS = Path(__file__).parents[2] / "results" / "how_sure.json"
SHIPPED = Path(confidence.__wrapped__.__code__.co_filename).with_suffix(".json")
NUMBERS = unsealed(json.loads(SHIPPED.read_text()))


@pytest.mark.parametrize("net", [NET, ATTENTION], ids=["mlp", "attention"])
def test_partners_of_a_planted_matching_are_alike(net):
    params = drawn.weights(net.params)
    hidden = drawn.perms(net.spec)
    assert any(net.spec.batch_shape(group) for group in net.spec.sizes) == (net is ATTENTION)
    found = confidence(net.spec, params, permute(net.spec, params, hidden), inverse(net.spec, hidden))
    for group, similarity in found.similarity.items():
        np.testing.assert_allclose(similarity, 1, atol=1e-5)
        assert np.shape(similarity) == (*net.spec.batch_shape(group), net.spec.sizes[group])
        assert (np.asarray(found.margin[group]) > 0.05).all(), group


@pytest.mark.parametrize("net", [NET, ATTENTION], ids=["mlp", "attention"])
def test_relabelling_relabels(net):
    """Of b it changes nothing, of a the order."""
    spec, a, b = net.spec, *(drawn.weights(net.params, seed) for seed in (0, 1))
    perms, g = drawn.perms(spec, 1), drawn.perms(spec, 2)
    plain = confidence(spec, a, b, perms)
    other = confidence(spec, a, permute(spec, b, g), compose(spec, perms, inverse(spec, g)))
    chex.assert_trees_all_close(other, plain, atol=1e-5)
    other = confidence(spec, permute(spec, a, g), b, compose(spec, g, perms))
    move = lambda group, values: permute_batch(spec, group, np.take_along_axis(np.asarray(values), g[group], -1), g)
    expected = type(plain)(*({group: move(group, values) for group, values in part.items()} for part in plain))
    chex.assert_trees_all_close(other, expected, atol=1e-5)


def test_cosines_are_those_of_all_weights_that_a_unit_touches():
    found = confidence(NET.spec, A, B, identity(NET.spec))
    layers = [[tree["params"][f"dense_{k}"] for k in range(3)] for tree in (A, B)]
    touched = lambda net: np.concatenate([net[0]["kernel"].T, net[0]["bias"][:, None], net[1]["kernel"]], 1)
    x, y = ((v := touched(net)) / np.linalg.norm(v, axis=1, keepdims=True) for net in layers)
    cosines = x @ y.T
    np.testing.assert_allclose(found.similarity["h0"], np.diag(cosines), atol=1e-5)
    for i in range(5):
        best = max(cosines[i, j] for j in range(5) if j != i)
        assert found.margin["h0"][i] == pytest.approx(cosines[i, i] - best, abs=1e-5)


def test_with_data_units_that_respond_alike_are_alike():
    found = confidence(NET, A, B, identity(NET.spec), data=Data(X))
    hidden = [
        np.maximum(X @ net["params"]["dense_0"]["kernel"] + net["params"]["dense_0"]["bias"], 0) for net in (A, B)
    ]
    expected = np.corrcoef(hidden[0].T, hidden[1].T)[:5, 5:]
    np.testing.assert_allclose(found.similarity["h0"], np.diag(expected), atol=1e-4)
    with pytest.raises(SpecError, match="needs the network"):
        confidence(NET.spec, A, B, identity(NET.spec), data=Data(X))


def test_a_unit_that_several_directions_flip_is_one():
    spec = PermutationSpec({"up": Axes(None, "h^1:0"), "down": Axes("h^0:1", None)}, {"h": 4}, kinds={"h": "sign"})
    a, signs = drawn.named(up=(3, 4), down=(4, 2)), np.where(drawn.normal(4, 2) < 0, -1.0, 1.0)
    hidden = {"h": Monomial(np.array([2, 0, 3, 1]), sign=signs)}
    found = confidence(spec, a, permute(spec, a, hidden), inverse(spec, hidden))
    np.testing.assert_allclose(found.similarity["h"], np.ones(4), atol=1e-5)


def test_what_nothing_is_known_of_is_unclear():
    """A group without votes, a unit without weights; and one unit has no other to be mistaken for."""
    spec = PermutationSpec({"w": Axes(None, "h0"), "one": Axes("h1"), "mask": Axes("h2")}, {"h0": 3, "h1": 1, "h2": 2})
    a = {"w": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), "one": np.ones(1), "mask": np.array([True, False])}
    found = confidence(spec, a, a, identity(spec))
    np.testing.assert_allclose(found.similarity["h0"], [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(found.margin["h0"], [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(found.margin["h1"], [2], atol=1e-5)
    assert not found.similarity["h2"].any() and not found.margin["h2"].any()


def test_a_wrong_partner_has_a_negative_margin():
    wrong = {group: np.roll(perm, 1, -1) for group, perm in identity(NET.spec).items()}
    assert all((np.asarray(margin) < 0).all() for margin in confidence(NET.spec, A, A, wrong).margin.values())


def test_compiled_it_is_the_same():
    perms = identity(NET.spec)
    chex.assert_trees_all_close(
        jax.jit(lambda a, b: confidence(NET.spec, a, b, perms))(A, B), confidence(NET.spec, A, B, perms), atol=1e-5
    )


def test_copies_are_sure_and_strangers_are_not():
    net = mlp(64, (64, 64), 10)
    a, b = (drawn.weights(net.params, seed) for seed in (0, 1))
    hidden = drawn.perms(net.spec)
    mean = lambda other: {
        group: np.mean(chance)
        for group, chance in confidence(net.spec, a, other, weight_matching(net.spec, a, other).perms).chance.items()
    }
    assert min(mean(permute(net.spec, a, hidden)).values()) > 0.999
    assert max(mean(b).values()) < 0.3


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_the_more_alike_the_surer(of):
    """And the less sure where another than the partner becomes more alike."""
    alike = np.random.default_rng(0).uniform(-0.2, 0.8, (3, 8, 8))
    before = predict_chance(clues(alike), NUMBERS[of])
    assert before.shape == (3, 8) and ((before > 0) & (before < 1)).all()
    clearer, vaguer = (
        predict_chance(clues(alike + 0.1 * (np.eye(8)[2, :, None] * place)), NUMBERS[of]) for place in np.eye(8)[[2, 5]]
    )
    assert (clearer[:, 2] > before[:, 2]).all() and (vaguer[:, 2] < before[:, 2]).all()


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_what_nothing_is_known_of_is_drawn(of):
    nothing = np.zeros((2, 7, 7), np.float32)
    np.testing.assert_allclose(predict_chance(clues(nothing), NUMBERS[of]), 1 / 7, rtol=1e-6)
    assert (predict_chance(clues(nothing[:, :1, :1]), NUMBERS[of]) == 1).all(), "one unit has no other"


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_units_that_nothing_is_known_of_leave_the_others_as_they_are(of):
    """Constant units beside others: as candidates they count, as company they do not."""
    alike = np.random.default_rng(0).uniform(0, 0.8, (6, 6))
    more = np.zeros((9, 9))
    more[:6, :6] = alike
    odds = [chance / (1 - chance) for chance in (predict_chance(clues(one), NUMBERS[of]) for one in (alike, more))]
    np.testing.assert_allclose(odds[1][:6] * 8, odds[0] * 5, rtol=1e-6)


def test_the_numbers_are_those_of_the_experiment():
    assert json.loads(RESULTS.read_text())["numbers"] == NUMBERS
