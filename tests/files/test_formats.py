"""Every format gives back every type that it has, bit for bit, and writes what it read alike."""

import importlib.util
import json
import zipfile
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from dwalign.files import FileError, bind, open_weights, write_weights
from tests.files.kinds import NEEDS, TYPES, numbers, same

SUFFIXES = (".safetensors", ".npz", ".msgpack", ".orbax", ".h5", ".pt")
# what a format cannot hold, and says so
LACKS = {".orbax": "none"}


def needs(suffix):
    for module in NEEDS.get(suffix, ()):
        pytest.importorskip(module)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_types_come_back(suffix, tmp_path):
    needs(suffix)
    tensors = {
        name: array for dtype in TYPES for name, array in numbers(dtype).items() if LACKS.get(suffix, "-") not in name
    }
    path, again = tmp_path / f"w{suffix}", tmp_path / f"again{suffix}"
    write_weights(path, tensors)
    weights = open_weights(path)
    assert set(weights) == set(tensors)
    for name, array in tensors.items():
        lazy = weights[name]
        assert (lazy.shape, lazy.dtype, lazy.size, lazy.ndim) == (array.shape, array.dtype, array.size, array.ndim)
        assert same(lazy, array) and np.asarray(lazy).flags.writeable, name
    # asked for in another order, in wider types, and from what computes them
    wider = {name: np.asarray(weights[name], np.float64) for name in [*weights][::-1] if "float" in name}
    write_weights(again, {name: wider.get(name, weights[name]) for name in [*weights][::-1]}, like=weights)
    found = open_weights(again)
    assert list(found) == list(weights) and found.format == weights.format
    assert all(same(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("other", SUFFIXES)
def test_formats_are_converted(suffix, other, tmp_path):
    needs(suffix)
    needs(other)
    tensors = {"a/w": np.float32([[1, 2]]), "a/b": np.ones(3, ml_dtypes.bfloat16), "step": np.int64(3)}
    write_weights(tmp_path / f"w{suffix}", tensors)
    weights = open_weights(tmp_path / f"w{suffix}")
    write_weights(tmp_path / f"to{other}", weights, like=weights)
    found = open_weights(tmp_path / f"to{other}")
    assert found.format != weights.format or suffix == other
    assert set(found) == set(tensors) and all(same(found[name], tensors[name]) for name in tensors)


def test_what_orbax_lacks_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"w\.orbax could not be written by Orbax .*zero size"):
        write_weights(tmp_path / "w.orbax", {"w": np.zeros((0, 3))})
    with pytest.raises(FileError, match=r"joined by dots, found a\.b, a/b; rename one"):
        write_weights(tmp_path / "w.orbax", {"a.b": np.ones(1), "a/b": np.zeros(1)})
    assert not list(tmp_path.iterdir())


def test_safetensors_are_read_by_others_and_read_others(tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = {
        "z": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.int8([1, 2, 3]),
        'é "q"': np.array(1, np.float16),
    }
    save_file(tensors, tmp_path / "theirs.safetensors", {"format": "pt"})
    theirs = open_weights(tmp_path / "theirs.safetensors")
    assert theirs.metadata == {"format": "pt"} and not theirs.ties
    assert all(same(theirs[name], tensors[name]) for name in tensors)
    write_weights(tmp_path / "ours.safetensors", tensors, like=theirs, metadata={"merged": "yes"})
    ours = load_file(tmp_path / "ours.safetensors")
    assert all(same(ours[name], tensors[name]) for name in tensors)
    found = open_weights(tmp_path / "ours.safetensors")
    assert list(found) == list(theirs) and found.metadata == {"format": "pt", "merged": "yes"}


def test_numbers_of_a_new_safetensors_lie_at_multiples_of_their_size(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"a": np.int8([1, 2, 3]), "b": np.ones(2), "c": np.float16([1])})
    content = (tmp_path / "w.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert all(
        entry["data_offsets"][0] % np.dtype(kind).itemsize == 0
        for entry, kind in ((header["a"], "int8"), (header["b"], "f8"), (header["c"], "f2"))
    )


def shards(folder):
    from safetensors.numpy import save_file

    folder.mkdir()
    parts = {"model-00001-of-00002.safetensors": ("b", "d"), "model-00002-of-00002.safetensors": ("a", "c")}
    tensors = {name: np.full((2, 3), k, np.float32) for k, name in enumerate("abcd")}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 96, "total_parameters": 24, "made": "by hand"}}
    index["weight_map"] = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def test_a_folder_takes_along_what_is_no_weights_and_speaks_of_none(tmp_path):
    """An index of files that are not written would send its reader to what is missing, or is of another network."""
    tensors = shards(tmp_path / "model")
    kept = ["config.json", "merges.txt"]
    stale = ["model.safetensors.index.fp16.json", "other.safetensors.index.json", "pytorch_model.bin.index.json"]
    for name in (*kept, *stale, "pytorch_model-00001-of-00002.bin", "model.onnx", "model.gguf", "other.safetensors"):
        (tmp_path / "model" / name).write_text(name)
    weights = open_weights(tmp_path / "model" / "model.safetensors.index.json")
    for _ in range(2):  # the second takes the place of the first
        write_weights(tmp_path / "out", tensors, like=weights, overwrite=True)
        files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
        assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(kept + files)
        written = open_weights(tmp_path / "out")
        assert all(same(written[name], tensors[name]) for name in tensors)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"notes\.txt"):
        write_weights(tmp_path / "out", tensors, like=weights, overwrite=True)


def test_shards_stay_shards(tmp_path):
    tensors = shards(tmp_path / "model")
    for path in (tmp_path / "model", tmp_path / "model" / "model.safetensors.index.json"):
        weights = open_weights(path)
        assert sorted(weights) == list("abcd") and weights.metadata == {"format": "pt"}
        assert all(same(weights[name], tensors[name]) for name in tensors)
    doubled = {name: np.concatenate([array, array]) for name, array in tensors.items()}
    write_weights(tmp_path / "merged", doubled, like=weights)
    listing = lambda folder: sorted(file.name for file in folder.iterdir())
    assert listing(tmp_path / "merged") == listing(tmp_path / "model")
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 192, "total_parameters": 48, "made": "by hand"}
    found = open_weights(tmp_path / "merged")
    assert list(found) == list(weights) and all(same(found[name], doubled[name]) for name in doubled)
    write_weights(tmp_path / "one.safetensors", found, like=weights)
    one = open_weights(tmp_path / "one.safetensors")
    assert (tmp_path / "one.safetensors").is_file() and list(one) == list(weights)
    write_weights(tmp_path / "one", one, like=weights)
    assert listing(tmp_path / "one") == listing(tmp_path / "model")


def test_types_that_numpy_lacks_are_found_in_an_npz(tmp_path):
    halves = np.arange(4).astype(ml_dtypes.bfloat16)
    np.savez_compressed(tmp_path / "theirs.npz", w=halves, v=np.ones(1000))
    weights = open_weights(tmp_path / "theirs.npz")
    assert same(weights["w"], halves)
    write_weights(tmp_path / "ours.npz", weights, like=weights)
    with np.load(tmp_path / "ours.npz") as ours:
        assert same(ours["w"].view(ml_dtypes.bfloat16), halves)
    with zipfile.ZipFile(tmp_path / "ours.npz") as archive:
        assert archive.getinfo("v.npy").compress_size < 1000


def test_flax_reads_what_is_written_and_the_reverse(tmp_path, monkeypatch):
    import flax.serialization

    # as arrays of more than a gigabyte are
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 64)
    state = {"params": {"w": np.arange(100.0).reshape(4, 25), "b": np.float32(2)}, "step": 7, "name": "net", "no": {}}
    (tmp_path / "theirs.msgpack").write_bytes(flax.serialization.to_bytes(state))
    weights = open_weights(tmp_path / "theirs.msgpack")
    assert {name: lazy.shape for name, lazy in weights.items()} == {"params/w": (4, 25), "params/b": ()}
    assert same(weights["params/w"], state["params"]["w"])
    write_weights(tmp_path / "ours.msgpack", weights, like=weights)
    assert (tmp_path / "ours.msgpack").read_bytes() == (tmp_path / "theirs.msgpack").read_bytes()


def test_lists_of_orbax_stay_in_order(tmp_path):
    import orbax.checkpoint as ocp

    tree = {
        "layers": [{"w": np.full(2, k, np.float32)} for k in range(12)],
        "step": 3,
        "none": None,
        "pair": (np.ones(1), 2.5),
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "theirs", tree, custom_metadata={"run": 3})
    weights = open_weights(tmp_path / "theirs")
    assert all(same(weights[f"layers/{k}/w"], tree["layers"][k]["w"]) for k in range(12))
    assert same(weights["step"], np.asarray(3)) and weights.metadata == {"run": "3"}
    write_weights(tmp_path / "ours", weights, like=weights)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "ours")
        like = jax.tree.map(np.zeros_like, tree)
        targeted = checkpointer.restore(tmp_path / "ours", like)
    assert [float(layer["w"][0]) for layer in found["layers"]] == list(range(12)) and found["step"] == 3
    assert jax.tree.structure(targeted) == jax.tree.structure(tree)
    assert open_weights(tmp_path / "ours").metadata == {"run": "3"} and not list(tmp_path.glob(".*"))


def test_trees_are_bound_and_read(tmp_path):
    params = {"dense": {"kernel": np.ones((2, 3), np.float32), "bias": np.arange(3.0)}}
    write_weights(tmp_path / "w.safetensors", {"dense/kernel": params["dense"]["kernel"], "dense/bias": np.arange(3.0)})
    like = jax.eval_shape(lambda: params)
    tree = bind(open_weights(tmp_path / "w.safetensors"), like)
    assert all(map(same, jax.tree.leaves(tree), jax.tree.leaves(params)))
    assert float(jax.numpy.asarray(tree["dense"]["kernel"]).sum()) == 6


def test_keras_keeps_its_configuration(tmp_path):
    h5py = pytest.importorskip("h5py")
    half = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group.create_dataset("0", data=half).attrs["dtype"] = "bfloat16"
        group.create_dataset("1", data=np.ones((300, 3)), compression="gzip")
        file["note"] = "text"
        file["optimizer/vars/0"] = 5
        file["again"] = h5py.SoftLink("/layers/dense")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", '{"name": "dense"}')
        archive.write(tmp_path / "w.weights.h5", "model.weights.h5")
    tensors = {"layers/dense/vars/0": half + half, "layers/dense/vars/1": np.full((300, 4), 2.0)}
    for file in ("w.weights.h5", "m.keras"):
        weights = open_weights(tmp_path / file)
        assert list(weights) == list(tensors) and same(weights["layers/dense/vars/0"], half)
        write_weights(tmp_path / f"merged.{file}", tensors, like=weights)
        found = open_weights(tmp_path / f"merged.{file}")
        assert all(same(found[name], tensors[name]) for name in tensors)
    with zipfile.ZipFile(tmp_path / "merged.m.keras") as archive:
        assert archive.namelist() == ["config.json", "model.weights.h5"]
        assert archive.read("config.json") == b'{"name": "dense"}'
    with h5py.File(tmp_path / "merged.w.weights.h5") as file:
        assert file["layers/dense/vars"].attrs["name"] == "dense" and file["note"][()] == b"text"
        assert file["optimizer/vars/0"][()] == 5
        assert file["again/vars/1"].compression == "gzip"
    with pytest.raises(FileError, match=r"new\.keras needs the configuration of a \.keras file"):
        write_weights(tmp_path / "new.keras", tensors)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
class TestTorch:
    def save(self, path: Path, **options):
        import torch

        base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
        head = torch.nn.Linear(3, 2)
        state = torch.nn.Module.state_dict(head)
        state |= {"half": torch.ones(3, dtype=torch.bfloat16), "base": base, "tied": base, "turned": base.t()}
        state["none"] = torch.zeros(0, 3)
        moments = {"state": {0: {"step": torch.tensor(3.0), "average": torch.full((2,), 0.5)}}, "groups": [{"lr": 0.1}]}
        torch.save({"epoch": 3, "state_dict": state, "optimizer": moments}, path, **options)
        return {name: tensor.detach().float().numpy() for name, tensor in state.items()}

    @pytest.mark.parametrize("old", [False, True])
    def test_only_the_state_dict_is_replaced(self, tmp_path, old):
        import torch

        values = self.save(tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
        weights = open_weights(tmp_path / "w.pt")
        assert list(weights) == list(values) and weights.ties == {"tied": "base"}
        assert weights["half"].dtype == ml_dtypes.bfloat16
        doubled = {name: 2 * array for name, array in values.items() if name != "tied"}
        write_weights(tmp_path / "merged.pt", doubled, like=weights)
        found = torch.load(tmp_path / "merged.pt", weights_only=True)
        assert found["epoch"] == 3 and found["optimizer"]["groups"] == [{"lr": 0.1}]
        assert found["optimizer"]["state"][0]["average"].tolist() == [0.5, 0.5]
        state = found["state_dict"]
        assert state._metadata == torch.nn.Linear(3, 2).state_dict()._metadata
        assert all(np.array_equal(state[name].float(), 2 * values[name]) for name in values)
        assert state["half"].dtype == torch.bfloat16
        pointers = {state[name].data_ptr() for name in ("base", "tied", "turned")}
        assert len(pointers) == 1
        assert open_weights(tmp_path / "merged.pt").ties == {"tied": "base"}

    def test_tied_tensors_must_agree(self, tmp_path):
        values = self.save(tmp_path / "w.pt")
        weights = open_weights(tmp_path / "w.pt")
        with pytest.raises(
            FileError, match=r"out\.pt: (base|tied) shares memory with another tensor.*write \.safetensors"
        ):
            write_weights(tmp_path / "out.pt", values | {"tied": values["tied"] + 1}, like=weights)
        assert [file.name for file in tmp_path.iterdir()] == ["w.pt"]
        write_weights(tmp_path / "out.safetensors", values | {"tied": values["tied"] + 1}, like=weights)

    def test_other_shapes_stay_tied(self, tmp_path):
        values = self.save(tmp_path / "w.pt")
        wider = {name: np.concatenate([array, array]) for name, array in values.items()}
        write_weights(tmp_path / "out.pt", wider, like=open_weights(tmp_path / "w.pt"))
        found = open_weights(tmp_path / "out.pt")
        assert found.ties == {"tied": "base"} and all(
            same(found[name], wider[name]) for name in wider if name != "half"
        )

    def test_any_reader_of_zips_finds_the_numbers_right(self, tmp_path):
        self.save(tmp_path / "w.pt")
        weights = open_weights(tmp_path / "w.pt")
        write_weights(tmp_path / "out.pt", weights, like=weights)
        with zipfile.ZipFile(tmp_path / "out.pt") as archive:
            assert archive.testzip() is None

    def test_all_of_an_object_without_a_known_name(self, tmp_path):
        import torch

        torch.save({"actor": {"w": torch.ones(2)}, "critic": [torch.zeros(3)]}, tmp_path / "w.pth")
        assert list(open_weights(tmp_path / "w.pth")) == ["actor/w", "critic/0"]

    def test_what_a_script_saves_beside_stays_there(self, tmp_path):
        import argparse

        import torch

        options = argparse.Namespace(lr=0.1, layers=[1, 2])
        state = torch.nn.Linear(2, 2).state_dict()
        saved = {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"m": torch.ones(2)}}
        torch.save({**saved, "loss": torch.tensor(0.5), "args": options}, tmp_path / "w.pth")
        weights = open_weights(tmp_path / "w.pth")
        assert list(weights) == ["weight", "bias"]
        doubled = {name: 2 * np.asarray(array) for name, array in weights.items()}
        write_weights(tmp_path / "out.pth", doubled, like=weights)
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(tmp_path / "out.pth", weights_only=True)
        assert torch.equal(found["model_state_dict"]["bias"], 2 * state["bias"])
        assert float(found["loss"]) == 0.5 and found["args"] == options and found["epoch"] == 3

    def test_models_are_refused(self, tmp_path):
        import torch

        torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
        with pytest.raises(
            FileError, match=r"m\.pt must hold tensors .*found torch\.nn\S*Linear; save model\.state_dict"
        ):
            open_weights(tmp_path / "m.pt")
