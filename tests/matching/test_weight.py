"""Weight matching recovers planted permutations, never lowers its objective, and stops where no group can improve."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hard
from dwalign.matching import anchored_matching, match_scores, search, search_in_programs, weight_matching
from dwalign.matching.weight import objective
from dwalign.networks import mlp
from dwalign.symmetry import Alignment, Axes, PermutationSpec, identity, inverse, permute
from tests import drawn

DRAWS = 4
FREE = 9  # of axes that no group moves, as `draw` makes them


def at(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def planted(spec, draw):
    """Stacked networks, copies with permuted units, and the permutations that undo it."""
    a, perms = draw(spec, *range(DRAWS)), [drawn.perms(spec, seed) for seed in range(DRAWS)]
    b = stack([permute(spec, at(a, k), one) for k, one in enumerate(perms)])
    return a, b, stack([inverse(spec, one) for one in perms])


class Matcher:
    """Weight matching of `DRAWS` pairs, traced: a program for each spec, as CPUs or as accelerators have it."""

    def __init__(self, spec, elsewhere):
        self.spec, self.keys = spec, jax.random.split(jax.random.key(7), DRAWS)

        def run(a, b, key, perms):
            with pytest.MonkeyPatch.context() as patch:
                if elsewhere:
                    patch.setattr(search_in_programs, "_searched", search_in_programs._searched_on_device)
                return weight_matching(spec, a, b, key=key, start=Alignment(perms))

        self.run = jax.jit(
            lambda *given: jax.lax.map(lambda one: run(*one), given) if elsewhere else jax.vmap(run)(*given)
        )

    def __call__(self, a, b, start=None):
        start = stack([identity(self.spec)] * DRAWS) if start is None else start
        return jax.tree.map(np.asarray, self.run(a, b, self.keys, start))


@functools.cache
def matcher(spec, elsewhere=False):
    return Matcher(spec, elsewhere)


both_programs = pytest.mark.parametrize("elsewhere", [False, True], ids=["CPU", "accelerator"])


@both_programs
@pytest.mark.parametrize("name", ["mlp", "stack", "recurrent"])
def test_recovers_planted_permutations(specs, draw, name, elsewhere):
    a, b, answer = planted(specs[name], draw)
    chex.assert_trees_all_equal(matcher(specs[name], elsewhere)(a, b).perms, answer)


@both_programs
def test_recovers_planted_units_inside_heads_that_are_known(specs, draw, elsewhere):
    spec = specs["heads"]
    a, b, answer = planted(spec, draw)
    shuffled = stack([drawn.perms(spec, seed) for seed in range(9, 9 + DRAWS)])
    found = matcher(spec, elsewhere)(a, b, {"head": answer["head"], "unit": shuffled["unit"]})
    assert np.mean(np.all(found.perms["unit"] == answer["unit"], axis=-1)) > 0.9


@both_programs
def test_never_lowers_its_objective_and_ends_where_no_group_improves(spec, draw, elsewhere):
    a, b = draw(spec, *range(DRAWS)), draw(spec, *range(DRAWS, 2 * DRAWS))
    found = matcher(spec, elsewhere)(a, b)
    value = lambda k, perms: objective(spec, at(a, k), at(b, k), perms)
    start = np.array([value(k, identity(spec)) for k in range(DRAWS)])
    history = np.concatenate([start[:, None], found.history], axis=1)
    assert np.all(np.diff(history, axis=1) >= 0)
    assert np.all(history[:, -1] > history[:, 0])
    chex.assert_trees_all_close(
        history[:, -1], np.array([value(k, at(found.perms, k)) for k in range(DRAWS)]), rtol=1e-4
    )
    again = matcher(spec, elsewhere)(a, b, found.perms)
    chex.assert_trees_all_close(again.history[:, -1], history[:, -1], rtol=1e-4)


def test_restarts_keep_the_best(draw):
    spec = mlp(6, (24, 24, 24), 3).spec
    a, b = draw(spec, 0), draw(spec, 1)
    run = lambda restarts, seed: weight_matching(spec, a, b, key=jax.random.key(seed), restarts=restarts)
    many, one = ([run(restarts, seed) for seed in range(6)] for restarts in (8, 1))
    for best, first in zip(many, one, strict=True):
        assert best.history[-1] >= first.history[-1] * (1 - 1e-5)
        chex.assert_trees_all_close(best.history[-1], objective(spec, a, b, best.perms), rtol=1e-4)
    assert np.mean([best.history[-1] for best in many]) > np.mean([first.history[-1] for first in one])


def test_eager_and_vmap_agree(spec, draw):
    a, b = draw(spec, *range(DRAWS)), draw(spec, *range(DRAWS, 2 * DRAWS))
    batched, key = at(matcher(spec)(a, b), 1), matcher(spec).keys[1]
    eager = weight_matching(spec, at(a, 1), at(b, 1), key=key)
    chex.assert_trees_all_equal(batched.perms, eager.perms)
    chex.assert_trees_all_close((batched.scores, batched.history), (eager.scores, eager.history), rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(eager.scores, match_scores(spec, at(a, 1), at(b, 1), eager.perms), atol=1e-4)


BESIDE = {
    "layers": mlp(6, (20, 20, 20), 3).spec,
    # of odd activations
    "signs": PermutationSpec(
        {
            "in": Axes(None, "x"),
            "bias": Axes("x"),
            "kernel": Axes("x", "y"),
            "gain": Axes("y^0"),
            "out": Axes("y", None),
        },
        {"x": 12, "y": 9},
        kinds={"x": "sign", "y": "sign"},
    ),
    # heads are matched with their units, after a layer
    "heads": PermutationSpec(
        {
            "in": Axes(None, "x"),
            "value": Axes("x", "head", "unit"),
            "gate": Axes(None, "head"),
            "out": Axes(("head", "unit"), None),
        },
        {"x": 12, "head": 6, "unit": 3},
        batch={"unit": ("head",)},
    ),
    # a recurrent kernel in each of some cells, which have weights of their own
    "cells": PermutationSpec(
        {"in": Axes(None, "cell", "unit"), "kernel": Axes("cell", "unit", "unit"), "gate": Axes("cell", None)},
        {"cell": 6, "unit": 8},
        batch={"unit": ("cell",)},
    ),
}


@pytest.mark.parametrize("keys", [None, jax.random.split(jax.random.key(1), 7)], ids=["no key", "a key each"])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("method", [weight_matching, anchored_matching], ids=str)
def test_pairs_side_by_side_go_the_way_that_they_go_alone(draw, monkeypatch, method, name, early, keys):
    """Some are done long before others, and restarts begin anew; no unit is assigned more often."""
    spec, assigned = BESIDE[name], []
    if early:
        monkeypatch.setattr(search, "NOTHING", 0.1)
    assign = hard._assign
    monkeypatch.setattr(hard, "_assign", lambda scores: assigned.append(scores[..., 0].size) or assign(scores))
    a, b = draw(spec, *range(7)), draw(spec, *range(7, 14))
    match = lambda a, b, key: method(spec, a, b, key=key, restarts=3)
    expected = stack([match(at(a, k), at(b, k), None if keys is None else keys[k]) for k in range(7)])
    alone = sum(assigned)
    assigned.clear()
    monkeypatch.setattr(search_in_programs, "search", None)
    monkeypatch.setattr(search_in_programs, "SEVERAL", 2)
    monkeypatch.setattr(search_in_programs, "TOGETHER", 4)
    found = jax.jit(jax.vmap(match, in_axes=(0, 0, None if keys is None else 0)))(a, b, keys)
    chex.assert_trees_all_equal(found.perms, expected.perms)
    chex.assert_trees_all_close(found.history, expected.history, rtol=1e-5)
    assert sum(assigned) == alone


def test_networks_that_are_not_batched_are_not_copied(draw):
    """One network to many, and many to many by two vmaps: operands of the host's search stay as they are."""
    spec = mlp(6, (24, 24), 3).spec
    a, b = draw(spec, 0, 1), draw(spec, 2, 3, 4)
    match = lambda a, b: weight_matching(spec, a, b, key=None).perms
    program = jax.jit(jax.vmap(jax.vmap(match, in_axes=(None, 0)), in_axes=(0, None)))
    shapes = [eqn for eqn in program.trace(a, b).jaxpr.eqns if eqn.primitive.name == "weight_matching"]
    assert {x.aval.shape[:2] for x in shapes[0].invars} == {(2, 1), (1, 3)}
    expected = stack([stack([match(at(a, i), at(b, j)) for j in range(3)]) for i in range(2)])
    chex.assert_trees_all_equal(program(a, b), expected)


def test_accelerators_match_without_the_host(draw):
    """What is lowered for them holds no call to it, and goes through all pairs of a batch side by side."""
    spec = mlp(6, (24, 24), 3).spec
    a, b, answer = planted(spec, draw)
    program = jax.jit(jax.vmap(lambda a, b: weight_matching(spec, a, b, key=None).perms)).trace(a, b)
    on_cpu, elsewhere = (program.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda"))
    assert "callback" in on_cpu and "callback" not in elsewhere
    (searched,) = [eqn for eqn in program.jaxpr.eqns if eqn.primitive.name == "weight_matching"]
    search = jax.jit(functools.partial(search_in_programs._searched_on_device, **searched.params))
    # the bias of the outputs has no say
    voting = [leaf for tree in (a, b) for leaf in jax.tree.leaves(tree) if leaf.shape != (DRAWS, FREE)]
    *perms, history = search(*voting)
    chex.assert_trees_all_equal(dict(zip(sorted(answer), perms, strict=True)), answer)
    assert history.shape == (DRAWS, 100)
    # which pairs are beside it changes nothing for a pair
    *alone, _ = search(*(leaf[2:3] for leaf in voting))
    chex.assert_trees_all_equal(alone, [perm[2:3] for perm in perms])


@both_programs
def test_there_may_be_no_pairs_and_no_units(elsewhere):
    spec, nothing = mlp(6, (5, 7), 3).spec, PermutationSpec({"w": Axes(None, None)}, {})
    with pytest.MonkeyPatch.context() as patch:
        if elsewhere:
            patch.setattr(search_in_programs, "_searched", search_in_programs._searched_on_device)
        found = jax.jit(lambda a: weight_matching(nothing, a, a, key=None))({"w": np.ones((2, 2), np.float32)})
        assert found.perms == {} and not found.history.any()
        none = jax.tree.map(lambda leaf: leaf[:0], stack([drawn.weights(mlp(6, (5, 7), 3).params)]))
        match = jax.jit(jax.vmap(lambda a, b: weight_matching(spec, a, b, key=None).perms))
        assert match(none, none)["h1"].shape == (0, 7)
        # nor weights
        masks, two = PermutationSpec({"mask": Axes("h")}, {"h": 3}), {"mask": np.ones((2, 3), bool)}
        match = jax.jit(jax.vmap(lambda a, b, key: weight_matching(masks, a, b, key=key).perms))
        assert match(two, two, jax.random.split(jax.random.key(0)))["h"].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_accelerators_keep_the_best_of_restarts(draw, impl):
    spec, key = mlp(6, (24, 24, 24), 3).spec, jax.random.key(0, impl=impl)
    a, b = draw(spec, 0), draw(spec, 1)

    def run(restarts):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search_in_programs, "_searched", search_in_programs._searched_on_device)
            return jax.jit(lambda a, b: weight_matching(spec, a, b, key=key, restarts=restarts))(a, b)

    many, one = run(8), run(1)
    assert many.history[-1] > one.history[-1]
    chex.assert_trees_all_close(many.history[-1], objective(spec, a, b, many.perms), rtol=1e-4)


def test_a_network_matches_itself(spec, draw):
    a = draw(spec, 0)
    chex.assert_trees_all_equal(weight_matching(spec, a, a, key=jax.random.key(0)).perms, identity(spec))


# one group after another, and a group in groups that is on both sides of an array; of restarts, the best is looked up
@pytest.mark.parametrize("name, restarts", [("mlp", 2), ("cells", 1)])
def test_gradients_flow_through_the_scores_and_the_aligned_weights(specs, draw, name, restarts):
    spec, key = specs[name], jax.random.key(7)

    def value(a, b, perms, scores):
        moved = permute(spec, b, perms)
        return sum(jnp.sum(jnp.sin(x * y)) for x, y in zip(*map(jax.tree.leaves, (a, moved)), strict=True)) + sum(
            jnp.sum(jnp.sin(q)) for q in scores.values()
        )

    def loss(a, b):
        found = weight_matching(spec, a, b, key=key, restarts=restarts)
        return value(a, b, found.perms, found.scores), found.perms

    def expected(a, b, perms):
        return value(a, b, perms, match_scores(spec, a, b, perms))

    def both(a, b):
        """The gradient of a vmapped loss, and that with its permutations held."""
        pull = lambda a, b: (lambda values, perms: (values.sum(), perms))(*jax.vmap(loss)(a, b))
        total, perms = jax.grad(pull, (0, 1), has_aux=True)(a, b)
        return total, jax.vmap(jax.grad(expected, (0, 1)))(a, b, perms)

    found, slope = jax.jit(both)(draw(spec, 0, 1), draw(spec, 2, 3))
    chex.assert_trees_all_close(found, slope, rtol=1e-4, atol=1e-4)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope))


def test_bad_input_is_named():
    net, *others = (mlp(6, widths, outputs) for widths, outputs in [((5, 7), 3), ((5, 8), 3), ((5, 7), 1)])
    a, wide, few = (drawn.weights(one.params) for one in (net, *others))
    with pytest.raises(ValueError, match="restarts must be a whole number of at least 1; got 0"):
        weight_matching(net.spec, a, a, key=jax.random.key(0), restarts=0)
    with pytest.raises(ValueError, match="dense_1"):
        weight_matching(net.spec, a, wide, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"\['dense_2'\]\['bias'\] is \(3,\) and .* is \(1,\)"):
        weight_matching(net.spec, a, few, key=jax.random.key(0))
