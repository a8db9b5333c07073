"""Attention: against a plain formula, causality, grouped queries, rotary embeddings."""

import functools

import chex
import jax
import numpy as np
import pytest
import scipy.special

from dwalign.networks import Attention
from dwalign.networks.attention import rotate
from tests import drawn

X = drawn.normal(2, 5, 12)


def run(x=X, params=None, **options):
    model = Attention(**{"heads": 3, "kv_heads": 3, "units": 4, **options})
    params = drawn.started(model.init, x) if params is None else params
    return np.asarray(jitted(model)(params, x)), params


@functools.cache
def jitted(model):
    return jax.jit(model.apply)


def test_one_head_after_the_other():
    out, params = run()
    p = params["params"]
    expected = np.zeros_like(X)
    for h in range(3):
        q, k, v = (X @ p[name]["kernel"][:, h] + p[name]["bias"][h] for name in ("query", "key", "value"))
        weights = scipy.special.softmax(q @ k.swapaxes(1, 2) / 2, axis=-1)
        expected += weights @ v @ p["out"]["kernel"][h]
    chex.assert_trees_all_close(out, expected + p["out"]["bias"], atol=1e-5)


def test_grouped_queries_are_attention_with_repeated_keys_and_values():
    out, params = run(heads=6, kv_heads=2)
    p = params["params"]
    repeated = {n: jax.tree.map(lambda leaf: np.repeat(leaf, 3, axis=-2), p[n]) for n in ("key", "value")}
    same, _ = run(heads=6, kv_heads=6, params={"params": {**p, **repeated}})
    chex.assert_trees_all_close(out, same, atol=1e-5)


@pytest.mark.parametrize("rotary", [False, True])
def test_fused_kernels_are_the_separate_ones_side_by_side(rotary):
    out, params = run(heads=6, kv_heads=2, rotary=rotary)
    p = params["params"]
    fused = {
        "kernel": np.concatenate([p[n]["kernel"].reshape(12, -1) for n in ("query", "key", "value")], -1),
        "bias": np.concatenate([p[n]["bias"].reshape(-1) for n in ("query", "key", "value")], -1),
    }
    same, _ = run(heads=6, kv_heads=2, rotary=rotary, fused=True, params={"params": {"qkv": fused, "out": p["out"]}})
    chex.assert_trees_all_close(out, same, atol=1e-5)


def test_causal_attention_does_not_look_ahead():
    changed = X + np.float32(np.arange(5) >= 3)[:, None]
    for causal in (True, False):
        out, params = run(causal=causal)
        moved, _ = run(changed, causal=causal, params=params)
        assert np.allclose(out[:, :3], moved[:, :3], atol=1e-5) == causal
        assert not np.allclose(out[:, 3:], moved[:, 3:], atol=1e-5)


def test_rotations_keep_lengths_and_see_distances_only():
    q, k = drawn.normal(2, 1, 1, 1, 8)
    turn = jax.jit(rotate)
    over_time = [np.asarray(turn(np.broadcast_to(x, (1, 6, 1, 8))))[0, :, 0] for x in (q, k)]
    chex.assert_trees_all_close(np.linalg.norm(over_time[0], axis=-1), np.full(6, np.linalg.norm(q)), rtol=1e-5)
    products = over_time[0] @ over_time[1].T
    chex.assert_trees_all_close(products[1:, 1:], products[:-1, :-1], atol=1e-4)
    assert np.abs(products[0] - products[0, 0]).max() > 0.1
    chex.assert_trees_all_close(over_time[0][0], q[0, 0, 0])


def test_without_positions_attention_commutes_with_permutations_of_time():
    order = np.array([3, 1, 4, 0, 2])
    for rotary in (False, True):
        out, params = run(rotary=rotary)
        moved, _ = run(X[:, order], rotary=rotary, params=params)
        assert np.allclose(moved, out[:, order], atol=1e-5) != rotary
