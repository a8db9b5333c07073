"""Networks and examples are taken by every index that NumPy knows, of arrays of NumPy and of JAX alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import take_examples
from dwalign.symmetry import (
    Axes,
    PermutationSpec,
    permute_block,
    random_perms,
    stacked_block,
    stacked_spec,
    take_networks,
)

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


def test_stacked_networks_are_permuted_each_by_itself():
    """Whatever their arrays are made of, and whatever names are taken."""
    axes = {
        "joined": Axes.parse("0: 2, cell*unit | network, cell*unit"),
        "heads": Axes(("cell", "unit"), "network^-1"),
        "gate": Axes("cell", None),
    }
    spec = PermutationSpec(
        axes, {"cell": 3, "unit": 4, "network": 5}, batch={"unit": ("cell",)}, kinds={"network": "scale"}
    )
    rng = np.random.default_rng(0)
    draw = lambda: {
        "joined": rng.normal(size=(7, 12)),
        "heads": rng.normal(size=(12, 5)),
        "gate": rng.normal(size=(3, 6)),
    }
    networks, elements = [draw() for _ in range(2)], [random_perms(spec, rng) for _ in range(2)]
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    together = stacked_spec(spec)
    for ones, one in zip(
        zip(*map(spec.blocks, networks), strict=True), together.blocks(stack(networks[:1])), strict=True
    ):
        stacked = stacked_block(spec, ones[0]._replace(array=np.stack([block.array for block in ones])))
        assert (stacked.factors, stacked.powers) == (one.factors, one.powers)
        moved = permute_block(together, stacked, stack(elements)).array
        alone = [permute_block(spec, *one).array for one in zip(ones, elements, strict=True)]
        np.testing.assert_allclose(moved, np.stack(alone), rtol=1e-6)
