"""Graph networks: nodes see their neighbours, layer by layer, and may be renumbered."""

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import GNN, gnn

ADJACENCY = (jnp.eye(6, k=1) + jnp.eye(6, k=-1))[None]
FEATURES = jax.random.normal(jax.random.key(0), (1, 6, 3))


def inputs(adjacency=ADJACENCY, features=FEATURES):
    return jnp.concatenate([adjacency, features], axis=-1)


def test_outputs_see_as_far_as_there_are_layers():
    model = GNN((4, 5), 2)
    params = jax.jit(model.init)(jax.random.key(1), inputs())
    out = model.apply(params, inputs())
    moved = model.apply(params, inputs(features=FEATURES.at[:, 0].add(3.0)))
    changed = jnp.abs(out - moved).max((0, 2)) > 1e-5
    assert changed[:3].any() and not changed[3:].any()


def test_renumbered_nodes_give_renumbered_outputs():
    model = GNN((4, 5), 2)
    params = jax.jit(model.init)(jax.random.key(1), inputs())
    order = jnp.array([3, 1, 4, 0, 5, 2])
    moved = model.apply(params, inputs(ADJACENCY[:, order][:, :, order], FEATURES[:, order]))
    chex.assert_trees_all_close(moved, model.apply(params, inputs())[:, order], atol=1e-5)


def test_nodes_without_neighbours_and_other_sizes():
    net = gnn(6, 3, (4,), 2)
    params = jax.jit(net.init)(jax.random.key(0))
    alone = net.apply(params, inputs(jnp.zeros((1, 6, 6))))
    assert jnp.isfinite(alone).all()
    larger = jnp.concatenate([jnp.zeros((1, 9, 9)), jnp.ones((1, 9, 3))], axis=-1)
    assert net.apply(params, larger).shape == (1, 9, 2)


def test_errors():
    with pytest.raises(ValueError, match="at least one layer"):
        gnn(widths=())
