"""Graph networks: nodes see their neighbours, layer by layer, and may be renumbered."""

import chex
import jax
import numpy as np
import pytest

from dwalign.networks import GNN, gnn
from tests import drawn

ADJACENCY = np.float32(np.eye(6, k=1) + np.eye(6, k=-1))[None]
FEATURES = drawn.normal(1, 6, 3)


def inputs(adjacency=ADJACENCY, features=FEATURES):
    return np.concatenate([adjacency, features], axis=-1)


MODEL = GNN((4, 5), 2)
APPLY = jax.jit(MODEL.apply)
PARAMS = drawn.started(MODEL.init, inputs())


def apply(x):
    return np.asarray(APPLY(PARAMS, x))


def test_outputs_see_as_far_as_there_are_layers():
    further = np.float32([3, 0, 0, 0, 0, 0])[:, None]
    changed = np.abs(apply(inputs()) - apply(inputs(features=FEATURES + further))).max((0, 2)) > 1e-5
    assert changed[:3].any() and not changed[3:].any()


def test_renumbered_nodes_give_renumbered_outputs():
    order = np.array([3, 1, 4, 0, 5, 2])
    moved = apply(inputs(ADJACENCY[:, order][:, :, order], FEATURES[:, order]))
    chex.assert_trees_all_close(moved, apply(inputs())[:, order], atol=1e-5)


def test_nodes_without_neighbours_and_other_sizes():
    net = gnn(6, 3, (4,), 2)
    params = drawn.started(net.init)
    assert np.isfinite(jax.jit(net.apply)(params, inputs(0 * ADJACENCY))).all()
    assert jax.eval_shape(net.apply, params, np.zeros((1, 9, 9 + 3), np.float32)).shape == (1, 9, 2)


def test_errors():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        gnn(widths=())
