"""The laws of Deep-Align on every architecture, for parameters drawn at random: nothing in it knows what it aligns."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import Aligner, DeepAlign, deep_align
from dwalign.encoders import GraphEncoder, ProbeEncoder
from dwalign.program import infer_spec, make_capture
from dwalign.symmetry import compose, inverse, permute, random_perms
from tests.networks.declared import CASES, randomised


def make_encoder(kind, spec, apply, example):
    if kind == "graph":
        return GraphEncoder(spec, features=16, channels=8, rounds=1)
    inputs = jnp.concatenate([example] * 3)
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        inputs = inputs + jax.random.normal(jax.random.key(8), inputs.shape)
    return ProbeEncoder(spec, capture=make_capture(apply), inputs=inputs, features=8, rounds=0)


@pytest.mark.parametrize("kind", ["graph", "probe"])
@pytest.mark.parametrize("name", CASES)
def test_equivariance_swap_and_exactness(name, kind):
    module, example, _, _ = CASES[name]
    apply = lambda params, x: module.apply(params, x)
    a, b = (randomised(module, example, seed) for seed in range(2))
    spec = infer_spec(apply, a, example)
    model = DeepAlign(spec, make_encoder(kind, spec, apply, example), updates=1)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * random.normal(size=leaf.shape), leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0), a, b),
    )
    # exactness holds where updates count for an alignment, as they do at the start and after training
    steps = {name: jnp.full((1,), 0.5) for name in variables["params"] if name.startswith("updates_")}
    variables["params"] |= steps
    g, h, hidden = (random_perms(spec, jax.random.key(k)) for k in range(3))
    pairs = [(a, b), (permute(spec, a, g), permute(spec, b, h)), (b, a), (a, permute(spec, a, hidden))]
    firsts, seconds = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *side) for side in zip(*pairs, strict=True))
    solve = lambda a, b: deep_align(spec, a, b, aligner=Aligner(model, variables))
    found = jax.jit(jax.vmap(solve))(firsts, seconds)
    perms = [jax.tree.map(lambda leaf, k=k: leaf[k], found.perms) for k in range(4)]
    chex.assert_trees_all_equal(perms[1], compose(spec, g, compose(spec, perms[0], inverse(spec, h))))
    chex.assert_trees_all_equal(perms[2], inverse(spec, perms[0]))
    chex.assert_trees_all_equal(perms[3], inverse(spec, hidden))
    for group in set(spec.sizes) - set(spec.batch):
        q, moved, swapped = found.scores[group][:3]
        np.testing.assert_allclose(moved, q[g[group]][:, h[group]], atol=5e-3)
        np.testing.assert_allclose(swapped, q.T, atol=5e-3)
