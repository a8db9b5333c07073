"""Weights on disk come back bit for bit, or are refused by name; files appear whole or not at all."""

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dwalign.files import FileError, load_params, save_params
from dwalign.networks import mlp


def test_damaged_file_is_named(tmp_path):
    params = mlp(4, (3,), 2).init(jax.random.key(0))
    file = tmp_path / "networks.safetensors"
    save_params(file, params)
    chex.assert_trees_all_equal(load_params(file, params), params)
    with pytest.raises(FileError, match="must end in shape"):
        load_params(file, mlp(4, (5,), 2).init(jax.random.key(0)))
    with pytest.raises(FileError, match="must hold the arrays"):
        load_params(file, {"w": jnp.ones(3)})
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(FileError, match=r"networks\.safetensors must be a whole"):
        load_params(file, params)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_names_of_files_may_be_text(name, tmp_path):
    save_params(str(tmp_path / name), {"w": np.ones(3)})
    assert load_params(str(tmp_path / name), {"w": np.ones(3)})["w"].tolist() == [1, 1, 1]


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(FileError, match=r"networks\.safetensors could not be written.*no space"):
        save_params(tmp_path / "networks.safetensors", {"w": jnp.ones(3)})
    assert list(tmp_path.iterdir()) == []


def test_arrays_come_back_as_they_were_whatever_memory_holds_them(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    views = {
        "t": whole.T,
        "f": np.asfortranarray(whole),
        "step": whole[:, ::2],
        "back": whole[::-1],
        "one": whole[0, 0, 0],
    }
    types = {
        name: whole.astype(getattr(ml_dtypes, name, name))
        for name in (">f4", "int8", "bool", "float16", "complex64", "bfloat16", "float8_e5m2")
    }
    params = {"views": views, "types": types, "jax": jnp.arange(3), "none": np.zeros((0, 2))}
    save_params(tmp_path / "w.safetensors", params)
    found = load_params(tmp_path / "w.safetensors", params)
    chex.assert_trees_all_equal(found, params)
    assert all(x.dtype.name == y.dtype.name for x, y in zip(*map(jax.tree.leaves, (found, params)), strict=True))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"a/b": np.ones(1), "a": {"b": np.zeros(1)}}, r"\['a'\]\['b'\] and \['a/b'\] are both 'a/b'"),
        ({"a": [np.ones(1)], "a/0": np.ones(1)}, r"\['a'\]\[0\] and \['a/0'\] are both 'a/0'"),
        ({"rngs": jax.random.key(0)}, r"rngs is a random key .*jax\.random\.key_data"),
        ({"w": jnp.ones(2, jnp.int4)}, "w must be of a type .*found int4; convert it"),
        ({"w": {"x": np.ones(2, np.complex128)}}, "w/x must be of a type .*found complex128"),
        ({"w": np.array([None])}, "w must be of a type .*found object"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, params, message):
    with pytest.raises(FileError, match=message):
        save_params(tmp_path / "w.safetensors", params)
    assert not list(tmp_path.iterdir())
