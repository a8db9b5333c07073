"""Devices divide pairs among them; the conftest makes two of one processor."""

import chex
import jax
import numpy as np
from jax.custom_batching import sequential_vmap

from dwalign.processes import apart, over_devices
from tests import drawn


def test_no_device_has_the_pairs_of_another():
    one = sequential_vmap(lambda scale, matrix: scale * matrix @ matrix)
    scale, matrices = np.float32(3), drawn.normal(4, 5, 5)
    over = over_devices()
    assert over.num_devices == 2
    placed = jax.device_put(matrices, over)
    program = jax.jit(apart(one, 1, over)).lower(scale, placed).compile()
    left_to_xla = jax.jit(jax.vmap(one, (None, 0))).lower(scale, placed).compile()
    assert "all-gather" in left_to_xla.as_text() and "all-gather" not in program.as_text()
    found = program(scale, placed)
    assert found.sharding.is_equivalent_to(over, 3)
    chex.assert_trees_all_close(np.asarray(found), scale * matrices @ matrices, rtol=1e-5)
