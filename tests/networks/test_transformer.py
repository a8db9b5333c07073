"""Transformers: what depends on what, tied embeddings, and the scan as the loop."""

import chex
import jax
import numpy as np
import pytest

from dwalign.networks import BlockOptions, Transformer, transformer
from tests import drawn

OPTIONS = BlockOptions(2, 2, 8, causal=True)
X = np.random.default_rng(0).integers(0, 7, (2, 5), np.int32)
MODEL = Transformer(7, 5, 8, 2, OPTIONS)
PARAMS, APPLY = drawn.started(MODEL.init, X), jax.jit(MODEL.apply)


def test_logits_depend_on_the_past_only():
    changed = X.copy()
    changed[:, 3] = (X[:, 3] + 1) % 7
    out, moved = (np.asarray(APPLY(PARAMS, x)) for x in (X, changed))
    assert out.shape == (2, 5, 7)
    chex.assert_trees_all_close(out[:, :3], moved[:, :3], atol=1e-5)
    assert np.all(np.abs(out[:, 3:] - moved[:, 3:]).max((0, 2)) > 1e-3)


@pytest.mark.parametrize("gated", [False, True])
def test_the_scan_computes_what_the_loop_does(gated):
    options = OPTIONS._replace(gated=gated)
    loop, scan = (Transformer(7, 5, 8, 3, options, scan=scan) for scan in (False, True))
    params = drawn.started(loop.init, X)["params"]
    blocks = {name: params[name] for name in (f"block_{k}" for k in range(3))}
    rest = {name: params[name] for name in params.keys() - blocks.keys()}
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks.values())
    both = jax.jit(lambda one, other: (loop.apply(one, X), scan.apply(other, X)))
    chex.assert_trees_all_close(*both({"params": params}, {"params": rest | {"blocks": stacked}}), atol=1e-5)


def test_each_layer_of_a_scan_starts_with_weights_of_its_own():
    scan = Transformer(7, 5, 8, 3, OPTIONS, scan=True)
    # this generator compiles in a tenth of the default one's time
    params = jax.jit(scan.init)(jax.random.key(1, impl="unsafe_rbg"), X)["params"]
    kernel = np.asarray(params["blocks"]["up"]["kernel"])
    assert not np.allclose(kernel[0], kernel[1])


def test_a_tied_embedding_is_the_last_layer():
    tied, free = (Transformer(7, 5, 8, 1, OPTIONS, tied) for tied in (True, False))
    params = drawn.started(tied.init, X)["params"]
    head = {"kernel": params["embedding"]["embedding"].T, "bias": np.zeros(7, np.float32)}
    both = jax.jit(lambda one, other: (tied.apply(one, X), free.apply(other, X)))
    chex.assert_trees_all_close(*both({"params": params}, {"params": {**params, "head": head}}), atol=1e-5)


def test_shorter_sequences():
    chex.assert_trees_all_close(np.asarray(APPLY(PARAMS, X))[:, :3], APPLY(PARAMS, X[:, :3]), atol=1e-5)


def test_errors():
    for options in ({"dim": 10}, {"kv_heads": 3}, {"dim": 12, "rotary": True}):
        with pytest.raises(ValueError, match="transformer: heads must divide dim"):
            transformer(**options)
