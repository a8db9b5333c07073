"""Anchored weight matching finds copies, starts above the identity, and is the same inside of programs."""

import chex
import jax
import numpy as np
import pytest

from dwalign.matching import anchored_matching, naive, search_in_programs, weight_matching
from dwalign.matching.scores import read_pair
from dwalign.matching.steps import anchored
from dwalign.matching.weight import objective
from dwalign.networks import mlp
from dwalign.symmetry import Axes, PermutationSpec, identity, inverse, permute
from tests import drawn

# what is fixed reaches every group
REACHED = ("mlp", "stack", "recurrent", "heads")


def planted(spec, draw):
    a, moved = draw(spec, 0), drawn.perms(spec, 1)
    return a, permute(spec, a, moved), inverse(spec, moved)


@pytest.mark.parametrize("name", REACHED)
def test_finds_copies_before_any_sweep(specs, draw, name):
    a, b, answer = planted(specs[name], draw)
    found = anchored_matching(specs[name], a, b, key=None, sweeps=1)
    chex.assert_trees_all_equal(found.perms, answer)
    np.testing.assert_allclose(found.history, objective(specs[name], a, a, identity(specs[name])), rtol=1e-5)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["CPU", "accelerator"])
@pytest.mark.parametrize("method", [anchored_matching, weight_matching], ids=str)
def test_programs_begin_likewise(draw, monkeypatch, method, elsewhere):
    """One sweep is enough for copies; from the identity, in this order of the layers, it is not."""
    spec = mlp(6, (24, 24, 24), 3).spec
    a, b, answer = planted(spec, draw)
    if elsewhere:
        monkeypatch.setattr(search_in_programs, "_searched", search_in_programs._searched_on_device)
    found = jax.jit(lambda a, b: method(spec, a, b, key=None, sweeps=1).perms)(a, b)
    right = all(np.array_equal(found[g], answer[g]) for g in answer)
    assert right == (method is anchored_matching)


def test_beside_itself_a_group_is_not_known_at_the_start(draw):
    spec = PermutationSpec({"in": Axes(None, "h"), "kernel": Axes("h", "h")}, {"h": 20})
    a, b, answer = planted(spec, lambda spec, seed: draw(spec, seed) | {"kernel": 30 * draw(spec, seed)["kernel"]})
    chex.assert_trees_all_equal(anchored(spec, read_pair(spec, a, b, xp=np), {}), answer)


def test_ends_higher_than_from_the_identity(draw):
    spec = mlp(6, (24, 24, 24), 3).spec
    pairs = [(draw(spec, 2 * k), draw(spec, 2 * k + 1)) for k in range(6)]
    end = lambda method: [method(spec, a, b, key=None).history[-1] for a, b in pairs]
    assert np.mean(end(anchored_matching)) > 1.02 * np.mean(end(weight_matching))


def test_starts_where_it_is_told_nowhere():
    spec, a = mlp(6, (5,), 3).spec, drawn.weights(mlp(6, (5,), 3).params)
    with pytest.raises(ValueError, match="anchored_matching cannot start from another method"):
        anchored_matching.after(naive)
    with pytest.raises(ValueError, match="start"):
        anchored_matching(spec, a, a, key=None, start=naive(spec, a, a))


def test_where_nothing_is_fixed_it_searches_all_the_same(draw):
    spec = PermutationSpec({"w": Axes("x", "y"), "v": Axes("y", "x")}, {"x": 8, "y": 7})
    a, b = draw(spec, 0), draw(spec, 1)
    found = anchored_matching(spec, a, b, key=None)
    assert found.history[-1] > objective(spec, a, b, identity(spec))
