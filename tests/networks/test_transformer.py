"""Transformers: what depends on what, tied embeddings, and the scan as the loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.networks import BlockOptions, Transformer, transformer

OPTIONS = BlockOptions(2, 2, 8, causal=True)
X = jax.random.randint(jax.random.key(0), (2, 5), 0, 7)


def test_logits_depend_on_the_past_only():
    model = Transformer(7, 5, 8, 2, OPTIONS)
    params = jax.jit(model.init)(jax.random.key(1), X)
    out, moved = model.apply(params, X), model.apply(params, X.at[:, 3].set((X[:, 3] + 1) % 7))
    assert out.shape == (2, 5, 7)
    chex.assert_trees_all_close(out[:, :3], moved[:, :3], atol=1e-5)
    assert jnp.all(jnp.abs(out[:, 3:] - moved[:, 3:]).max((0, 2)) > 1e-3)


@pytest.mark.parametrize("gated", [False, True])
def test_the_scan_computes_what_the_loop_does(gated):
    options = OPTIONS._replace(gated=gated)
    loop, scan = (Transformer(7, 5, 8, 3, options, scan=scan) for scan in (False, True))
    params = jax.jit(loop.init)(jax.random.key(1), X)["params"]
    blocks = [params.pop(f"block_{k}") for k in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    out = loop.apply({"params": {**params, **{f"block_{k}": block for k, block in enumerate(blocks)}}}, X)
    chex.assert_trees_all_close(scan.apply({"params": {**params, "blocks": stacked}}, X), out, atol=1e-5)
    # each layer of a scan starts with weights of its own
    kernel = scan.init(jax.random.key(1), X)["params"]["blocks"]["up"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])


def test_a_tied_embedding_is_the_last_layer():
    tied, free = (Transformer(7, 5, 8, 1, OPTIONS, tied) for tied in (True, False))
    params = jax.jit(tied.init)(jax.random.key(1), X)["params"]
    head = {"kernel": params["embedding"]["embedding"].T, "bias": jnp.zeros(7)}
    out = free.apply({"params": {**params, "head": head}}, X)
    chex.assert_trees_all_close(tied.apply({"params": params}, X), out, atol=1e-5)


def test_shorter_sequences():
    net = transformer(7, 5, 8, 1, 2, width=8)
    params = jax.jit(net.init)(jax.random.key(0))
    chex.assert_trees_all_close(net.apply(params, X)[:, :3], net.apply(params, X[:, :3]), atol=1e-5)


def test_errors():
    for options in ({"dim": 10}, {"kv_heads": 3}, {"dim": 12, "rotary": True}):
        with pytest.raises(ValueError, match="transformer: heads must divide dim"):
            transformer(**options)
