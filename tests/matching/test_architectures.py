"""Every method on every architecture: none of them knows what it matches."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.matching import (
    activation_matching,
    feature_matching,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.symmetry import identity, infer_spec, inverse, make_capture, permute, random_perms
from tests.networks.declared import CASES, randomised

# one of each way in which groups sit on arrays
SHAPES = (
    "cnn",
    "resnet_batch",
    "resnet_group",
    "densenet",
    "unet",
    "gru",
    "lstm_fused",
    "gnn",
    "vit_fused_scan",
    "transformer_rotary_grouped_fused",
)
# residual, recurrent with fused gates, layers stacked by a scan
HARD = ("resnet_batch", "lstm_fused", "vit_fused_scan")


def planted(name):
    """spec, apply, capture, a network, a relabelled copy, and what a method should find."""
    module, example, _, _ = CASES[name]
    apply = lambda params, x: module.apply(params, x)
    params, capture = randomised(module, example), make_capture(apply)
    spec = infer_spec(apply, params, example)
    hidden = random_perms(spec, jax.random.key(1))
    return spec, apply, capture, params, permute(spec, params, hidden), inverse(spec, hidden)


@pytest.mark.parametrize("name", SHAPES)
def test_features_find_what_is_planted_and_weight_matching_keeps_it(name):
    spec, _, _, a, b, expected = planted(name)

    @jax.jit
    def solve(a, b):
        start = feature_matching(spec, a, b, key=jax.random.key(2), channels=8, rounds=2)
        return start.perms, weight_matching(spec, a, b, key=jax.random.key(3), start=start, sweeps=2).perms

    found, kept = solve(a, b)
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal(kept, expected)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("method", [straight_through, sinkhorn_rebasin, refine])
def test_optimisers_keep_a_perfect_start(name, method):
    spec, apply, _, a, _, _ = planted(name)
    inputs = CASES[name].example
    batch = (inputs, apply(a, inputs))
    loss = lambda outputs, labels: jnp.mean((outputs - labels) ** 2)
    count = {refine: "steps"}.get(method, "iterations")
    start = feature_matching(spec, a, a, key=jax.random.key(2), channels=8, rounds=2)
    solve = partial(method, spec, key=jax.random.key(3), apply=apply, batch=batch, loss=loss, start=start, **{count: 2})
    chex.assert_trees_all_equal(jax.jit(solve)(a, a).perms, identity(spec))


@pytest.mark.parametrize("name", ["resnet_layer", "lstm_fused", "vit"])
def test_activations_find_what_is_planted(name):
    spec, _, capture, a, b, expected = planted(name)
    inputs = jax.random.normal(jax.random.key(4), (32, *CASES[name].example.shape[1:]))
    solve = partial(activation_matching, capture=capture, batch=(inputs, jnp.zeros(32)), correlation=True)
    found = jax.jit(lambda a, b: solve(spec, a, b).perms)(a, b)
    right = {g: float(jnp.mean(found[g] == expected[g])) for g in found}
    # units that are silent on all inputs cannot be told apart by what they answer
    assert min(right.values()) > 0.7, right
