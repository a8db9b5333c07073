"""Every method sees the same pairs, and what it says is what is judged."""

import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.evaluation import benchmark
from dwalign.matching import chain, method, naive, weight_matching
from dwalign.networks import mlp
from dwalign.program import Data, Task, network
from dwalign.symmetry import Alignment, permute, random_perms
from tests import drawn

NET = mlp(5, (6, 4), 3)
ONES = [drawn.weights(NET.params, seed) for seed in range(4)]
MOVED = [permute(NET.spec, params, drawn.perms(NET.spec, seed)) for seed, params in enumerate(ONES)]
A, B = (jax.tree.map(lambda *leaves: np.stack(leaves), *trees) for trees in (ONES, MOVED))
INPUTS = drawn.normal(20, 5, seed=1)
# what the first network answers, so that its pair has something to lose
TEST = Data(INPUTS, np.argmax(NET.apply(ONES[0], INPUTS), -1))


def run(methods, chunk=2):
    return benchmark(NET, methods, A, B, TEST, key=jax.random.key(2), chunk=chunk, points=5)


@method("random", "#000000", needs="nothing")
def random(spec, a, b, *, key):
    return Alignment(random_perms(spec, key))


def test_benchmark():
    seen = []

    @method("spy", "#000000", needs="weights")
    def spy(spec, a, b, *, key):
        seen.append(key)
        return weight_matching(spec, a, b, key=key, restarts=20)

    found = run(["naive", spy])
    assert list(found) == ["naive", "spy"] and len(seen) == 1
    for measured in found.values():
        chex.assert_shape(list(measured.curve), (4, 5))
        assert measured.seconds.shape == (2,) and (measured.seconds > 0).all()
        chex.assert_shape(measured.alignments.perms["h0"], (4, 6))
    assert np.max(found["naive"].curve.barrier) > 1e-3
    chex.assert_trees_all_close(found["spy"].curve.barrier, jnp.zeros(4), atol=1e-5)


def test_chunks_change_nothing():
    """Nor may they change the key of a pair."""
    one, all_at_once = (run([random], chunk)["random"] for chunk in (1, 4))
    chex.assert_trees_all_equal(one.alignments.perms, all_at_once.alignments.perms)
    chex.assert_trees_all_close(one.curve, all_at_once.curve, rtol=1e-5)
    assert len({tuple(perm.tolist()) for perm in one.alignments.perms["h0"]}) > 1


def test_chains_share_what_they_begin_with():
    """And find what they find when they are called."""
    traced = []

    @method("drawn anew", "#000000", needs="weights")
    def drawn_anew(spec, a, b, *, key):
        traced.append(key)
        return Alignment(random_perms(spec, key))

    @method("turned", "#000000", needs="weights")
    def turned(spec, a, b, *, key, start=None, by=1):
        return Alignment({g: jnp.roll(perm, by) for g, perm in start.perms.items()})

    @method("drawn after", "#000000", needs="weights")
    def drawn_after(spec, a, b, *, key, start=None):
        other = random_perms(spec, key)
        return Alignment({g: perm[other[g]] for g, perm in start.perms.items()})

    chains = [chain(drawn_anew, turned), chain(drawn_anew, turned.using(by=2), drawn_after)]
    found = run([drawn_anew, *chains])
    assert len(traced) == 1
    for k, key in enumerate(jax.random.split(jax.random.key(2), 4)):
        a, b = (jax.tree.map(lambda leaf, k=k: leaf[k], tree) for tree in (A, B))
        for one in chains:
            perms = jax.tree.map(lambda leaf, k=k: leaf[k], found[str(one)].alignments.perms)
            chex.assert_trees_all_equal(perms, one(NET, a, b, key=key).perms)


@pytest.mark.parametrize(("warm_up", "calls"), [(1e9, 3), (0.0, 2)])
def test_only_a_quick_call_is_repeated_to_warm_up(monkeypatch, warm_up, calls):
    """The module is looked up by name: in its package the function hides it."""
    monkeypatch.setattr(importlib.import_module("dwalign.evaluation.benchmark"), "WARM_UP", warm_up)
    seen = []

    @method("counted", "#000000", needs="nothing")
    def counted(spec, a, b, *, key):
        jax.debug.callback(lambda _: seen.append(1), jax.random.key_data(key))
        return naive(spec, a, b, key=key)

    assert run([counted])["counted"].seconds.shape == (2,)
    jax.effects_barrier()
    assert len(seen) == 2 * calls


def test_chunk_must_divide():
    with pytest.raises(ValueError, match="divide the number of pairs, got 3 and 4"):
        run([], chunk=3)


def test_each_pair_on_its_own_data():
    """Method and curve see the data of their pair: the same as one benchmark a pair."""
    inputs, labels = drawn.normal(4, 20, 5, seed=3), (np.arange(80) % 3).reshape(4, 20)
    task = Task(lambda outputs, labels: ((outputs[:, 0] - labels) ** 2).mean(), lambda outputs, labels: labels == 1)
    options = dict(key=jax.random.key(2), points=5, task=task)

    @method("asks for data", "#000000", needs="inputs")
    def asks(network, a, b, *, key, data):
        return Alignment(naive(network, a, b).perms, None, data.inputs.sum())

    found = benchmark(NET, [asks], A, B, Data(inputs, labels), chunk=2, per_pair=True, **options)["asks"]
    chex.assert_trees_all_close(found.alignments.history, inputs.sum((1, 2)), rtol=1e-5)
    for k in (0, 3):
        pair = jax.tree.map(lambda leaf, k=k: leaf[k : k + 1], (A, B))
        alone = benchmark(NET, [naive], *pair, Data(inputs[k], labels[k]), chunk=1, **options)["naive"]
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, k=k: leaf[k], found.curve.loss), alone.curve.loss[0])
        chex.assert_trees_all_close(alone.curve.accuracy[0], jnp.full(5, (labels[k] == 1).mean()), rtol=1e-6)
    with pytest.raises(ValueError, match="each of the 4 pairs, found 3"):
        benchmark(NET, [], A, B, Data(inputs[:3], labels[:3]), chunk=2, per_pair=True, **options)


def test_networks_that_hold_random_keys_are_judged():
    a = {"w": drawn.normal(4, 5, 3), "key": jax.random.split(jax.random.key(0), 4)}
    net = network(lambda params, x: x @ params["w"], jax.tree.map(lambda leaf: leaf[0], a), INPUTS)
    data = Data(INPUTS, np.arange(len(INPUTS)) % 3)
    found = benchmark(net, [naive], a, a, data, key=jax.random.key(2), chunk=2, points=3)
    assert found["naive"].seconds.shape == (2,)
