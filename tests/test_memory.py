"""Where the memory of a device is full the option to try is named, whichever function ran into it."""

import dataclasses

import jax
import numpy as np
import pytest

from dwalign import Data, apply, evaluation, matching, networks
from dwalign.memory import enough_memory
from tests import drawn

NET = networks.mlp(4, (5,), 3)
A, B = (drawn.weights(NET.params, seed) for seed in (0, 1))
DATA = Data(drawn.normal(8, 4), np.arange(8) % 3)


def full(*_):
    raise MemoryError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123456789 bytes.")


def on_a_full_device(params, x):
    """What JAX raises when a program that it has compiled runs out of memory, raised by a stub inside of it."""
    return NET.apply(params, x + jax.pure_callback(full, jax.ShapeDtypeStruct((), "f4"), vmap_method="sequential"))


FULL = dataclasses.replace(NET, apply=on_a_full_device)
CALLS = {
    "activation_matching: .* try chunk=500": lambda: matching.activation_matching(FULL, A, B, data=DATA),
    "activation_matching: .* try chunk=8": lambda: matching.activation_matching(FULL, A, B, data=DATA, chunk=16),
    "refine: .* try examples=256": lambda: matching.refine(FULL, A, B, data=DATA),
    "straight_through: .* try images=128": lambda: matching.straight_through(FULL, A, B, data=DATA),
    "assess: .* try chunk=1024": lambda: evaluation.assess(FULL, A, DATA),
    "curve: .* try chunk=2": lambda: evaluation.curve(FULL, A, B, DATA, chunk=5),
    "curve: .* try less data, a smaller network": lambda: evaluation.curve(FULL, A, B, DATA, chunk=1),
    "matching_correlation: .* try chunk=500": lambda: apply.align(
        FULL, A, B, "activation_matching_correlation", data=DATA, certified=False
    ),
}


@pytest.mark.parametrize("said", CALLS)
def test_the_option_to_try_is_named(said):
    with pytest.raises(MemoryError, match=said) as caught:
        jax.block_until_ready(CALLS[said]())
    assert "the memory of the device is full, 123,456,789 bytes more were needed" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_else_is_raised_as_it_is():
    with pytest.raises(RuntimeError, match="INTERNAL"), enough_memory("f", {"chunk": 2}):
        raise RuntimeError("INTERNAL")
