"""Every method sees the same pairs, and what it says is what is judged."""

import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.evaluation import benchmark
from dwalign.matching import naive, weight_matching
from dwalign.networks import mlp
from dwalign.symmetry import Alignment, permute, random_perms

NET = mlp(5, (6, 4), 3)
KEYS = jax.random.split(jax.random.key(0), 4)
A = jax.vmap(NET.init)(KEYS)
B = jax.vmap(lambda params, key: permute(NET.spec, params, random_perms(NET.spec, key)))(A, KEYS)
TEST = jax.random.normal(jax.random.key(1), (20, 5)), jnp.arange(20) % 3


def run(methods, chunk=2):
    return benchmark(NET.spec, NET.apply, methods, A, B, TEST, key=jax.random.key(2), chunk=chunk, points=5)


def test_benchmark():
    seen = []

    def spy(a, b, *, key):
        seen.append(jax.random.key_data(key))
        return weight_matching(NET.spec, a, b, key=key, restarts=5)

    found = run({"naive": lambda a, b, *, key: naive(NET.spec, a, b, key=key), "weight_matching": spy})
    assert list(found) == ["naive", "weight_matching"] and len(seen) == 1
    for measured in found.values():
        chex.assert_shape(list(measured.curve), (4, 5))
        assert measured.seconds.shape == (2,) and (measured.seconds > 0).all()
        chex.assert_shape(measured.alignments.perms["h0"], (4, 6))
    assert np.all(np.asarray(found["naive"].curve.barrier) >= 0) and np.max(found["naive"].curve.barrier) > 1e-3
    chex.assert_trees_all_close(found["weight_matching"].curve.barrier, jnp.zeros(4), atol=1e-5)


def test_chunks_change_nothing():
    """Nor may they change the key of a pair."""
    methods = {"random": lambda a, b, *, key: Alignment(random_perms(NET.spec, key))}
    one, all_at_once = (run(methods, chunk)["random"] for chunk in (1, 4))
    chex.assert_trees_all_equal(one.alignments.perms, all_at_once.alignments.perms)
    chex.assert_trees_all_close(one.curve, all_at_once.curve, rtol=1e-5)
    assert len({tuple(perm.tolist()) for perm in one.alignments.perms["h0"]}) > 1


@pytest.mark.parametrize(("warm_up", "calls"), [(1e9, 3), (0.0, 2)])
def test_only_a_quick_call_is_repeated_to_warm_up(monkeypatch, warm_up, calls):
    """The module is looked up by name: in its package the function hides it."""
    monkeypatch.setattr(importlib.import_module("dwalign.evaluation.benchmark"), "WARM_UP", warm_up)
    seen = []

    def method(a, b, *, key):
        jax.debug.callback(lambda _: seen.append(1), jax.random.key_data(key))
        return naive(NET.spec, a, b, key=key)

    assert run({"counted": method})["counted"].seconds.shape == (2,)
    jax.effects_barrier()
    assert len(seen) == 2 * calls


def test_chunk_must_divide():
    with pytest.raises(ValueError, match="divide the number of pairs, got 3 and 4"):
        run({}, chunk=3)


def test_each_pair_on_its_own_data():
    """Method and curve see the data of their pair: the same as one benchmark a pair."""
    inputs = jax.random.normal(jax.random.key(3), (4, 20, 5))
    labels = (jnp.arange(80) % 3).reshape(4, 20)
    loss = lambda outputs, labels: ((outputs[:, 0] - labels) ** 2).mean()
    seen = {"spy": lambda a, b, *, key, data: Alignment(naive(NET.spec, a, b).perms, None, data[0].sum())}
    options = dict(key=jax.random.key(2), points=5, loss=loss, hits=lambda outputs, labels: labels == 1)
    found = benchmark(NET.spec, NET.apply, seen, A, B, (inputs, labels), chunk=2, per_pair=True, **options)["spy"]
    chex.assert_trees_all_close(found.alignments.history, inputs.sum((1, 2)), rtol=1e-5)
    for k in range(4):
        pair = jax.tree.map(lambda leaf, k=k: leaf[k : k + 1], (A, B))
        plain = {"naive": lambda a, b, *, key: naive(NET.spec, a, b)}
        alone = benchmark(NET.spec, NET.apply, plain, *pair, (inputs[k], labels[k]), chunk=1, **options)["naive"]
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, k=k: leaf[k], found.curve.loss), alone.curve.loss[0])
        chex.assert_trees_all_close(alone.curve.accuracy[0], jnp.full(5, (labels[k] == 1).mean()), rtol=1e-6)
    with pytest.raises(ValueError, match="each of the 4 pairs, found 3"):
        benchmark(NET.spec, NET.apply, {}, A, B, (inputs[:3], labels[:3]), chunk=2, per_pair=True, **options)
