"""Networks and examples are taken by every index that NumPy knows, of arrays of NumPy and of JAX alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import take_examples
from dwalign.symmetry import take_networks

ROWS = np.arange(12).reshape(4, 3)
INDICES = {
    "a list": [0, 2],
    "none": [],
    "a range": range(1, 3),
    "NumPy": np.array([3, 3]),
    "JAX": jnp.array([3, -1]),
    "a mask": [True, False, True, False],
    "a slice": slice(1, 3),
    "an integer": -1,
}


@pytest.mark.parametrize("take", [take_networks, take_examples])
@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("name", INDICES)
def test_every_index(take, xp, name):
    index = INDICES[name]
    taken = take({"w": xp.asarray(ROWS)}, index)["w"]
    np.testing.assert_array_equal(taken, ROWS[np.arange(4)[index]])
    assert isinstance(taken, np.ndarray) == (xp is np)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("index", [4, [0, 4]])
def test_what_is_not_there(xp, index):
    with pytest.raises(IndexError, match=r"index 4 is out of bounds .* size 4"):
        take_networks({"w": xp.asarray(ROWS)}, index)


def test_traced():
    taken = jax.jit(lambda index: take_networks({"w": ROWS}, index)["w"])(jnp.array([2, 0]))
    np.testing.assert_array_equal(taken, ROWS[[2, 0]])


@pytest.mark.parametrize("index", [1, [0, 2], slice(1, 3)])
def test_arrays_on_different_devices_stay_there(index):
    stacked = {name: jax.device_put(ROWS, at) for name, at in zip("ab", jax.devices(), strict=False)}
    taken = take_networks(stacked, index)
    for name, at in zip("ab", jax.devices(), strict=False):
        np.testing.assert_array_equal(taken[name], ROWS[index])
        assert taken[name].devices() == {at}
