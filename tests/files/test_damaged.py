"""Whatever is wrong with a file is said in one line that names it; nothing is made, nothing is allocated."""

import io
import json
import struct
import warnings
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from dwalign.files import FileError, open_weights, write_weights

SMALL = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.int8)}


def refused(path, *said, reads=False):
    """It is refused when it is opened, before any number is read, or when it is read."""
    before = {file: file.stat().st_size for file in path.parent.rglob("*") if file.is_file()}
    with pytest.raises(FileError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = open_weights(path)
        for lazy in weights.values() if reads else ():
            np.asarray(lazy)
    message = str(caught.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 700, message
    assert str(path) in message, message
    for words in said:
        assert words in message, message
    assert before == {file: file.stat().st_size for file in path.parent.rglob("*") if file.is_file()}


def header(entries, data=bytes(24), length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(2, 3), begin=0, end=24, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "empty": (b"", "an empty file"),
    "four bytes": (b"\x08\0\0\0", "claims a header of 8 bytes and has 4"),
    "cut in the header": (header({"a": entry()})[:40], "claims a header"),
    "cut in the numbers": (header({"a": entry()})[:-1], "whole safetensors file of 97 bytes, found 96"),
    "more than its tensors": (header({"a": entry()}) + b"x", "whole safetensors file of 97 bytes, found 98"),
    "a huge header": (header({"a": entry()}, length=2**60), "claims a header of 1152921504606846976 bytes"),
    "a huge shape": (header({"a": entry((2**40, 2**40))}), "a of shape (1099511627776, 1099511627776)", "24 bytes"),
    "a huge shape and place": (header({"a": entry((2**40,), 0, 2**42)}), "whole safetensors file of"),
    "a huge dimension": (header({"a": entry((0, 10**30), 0, 0)}, b""), "a must have a shape"),
    "a negative dimension": (header({"a": entry((-2, -3))}), "a must have a shape"),
    "fractions": (header({"a": entry((2.0, 3))}), "a must have a shape"),
    "one name twice": (header(b'{"a":{"dtype":"I8"},"a":{"dtype":"I8"}}'), "found a twice"),
    "overlap": (header({"a": entry(), "b": entry((2,), 16, 24)}), "b overlaps what lies before"),
    "a gap": (header({"a": entry((2,), 0, 8), "b": entry((2,), 16, 24)}), "b leaves a gap"),
    "an unknown type": (header({"a": entry(dtype="F4")}), "a must be of a type among", "found 'F4'"),
    "no type": (header({"a": {"shape": [1]}}), "could not be read (KeyError: 'dtype')"),
    "no json": (header(b"{not json}"), "could not be read (JSONDecodeError"),
    "no object": (header(b"[1, 2]"), "its header is list"),
    "no text": (header(b"{\xff\xff}"), "could not be read (UnicodeDecodeError"),
    "deep json": (header(b'{"a":' + b"[" * 100_000), "could not be read"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
    "a web page": (b"<!DOCTYPE html><html>", "a web page"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "looks like keras"),
    "a pickle": (b"\x80\x02}q\x00.", "looks like torch"),
}


@pytest.mark.parametrize("fault", SAFETENSORS)
def test_safetensors(fault, tmp_path):
    content, *said = SAFETENSORS[fault]
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors", *said)


def npy(array, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def claims(shape, descr="<f4"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


NPZ = {
    "objects": ({"w.npy": npy(np.array([{}, None]))}, "w must be numbers, found Python objects; they are never loaded"),
    "a huge shape": ({"w.npy": claims((2**40, 8))}, "w of shape (1099511627776, 8)", "cannot be 0 bytes"),
    "too few numbers": ({"w.npy": npy(np.ones(5))[:-3]}, "w of shape (5,)", "cannot be 37 bytes"),
    "a nameless type": ({"w.npy": npy(np.zeros(3, "V1"))}, "w must be numbers of a known type, found |V1"),
    "no array": ({"w.npy": b"hello"}, "could not be read (ValueError"),
    "other files": ({"w.npy": npy(np.ones(2)), "readme": b"hello"}, "a zip of other files"),
    "code": (
        {"w.npy": b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('true')".ljust(32)},
        "could not be read",
    ),
    "torch": ({"w/data.pkl": b"\x80"}, "looks like torch"),
    "keras": ({"model.weights.h5": b""}, "looks like keras"),
}


@pytest.mark.parametrize("fault", NPZ)
def test_npz(fault, tmp_path):
    members, *said = NPZ[fault]
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(tmp_path / "w.npz", *said)


def test_npz_with_one_name_twice_or_a_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", npy(np.zeros(10)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("w.npy", npy(np.zeros(10)))
    refused(tmp_path / "w.npz", "found w.npy twice")
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", npy(np.zeros(10)))
    content = (tmp_path / "w.npz").read_bytes()
    at = content.rindex(b"PK\1\2")
    (tmp_path / "w.npz").write_bytes(content[: at + 24] + struct.pack("<I", 2**31) + content[at + 28 :])
    refused(tmp_path / "w.npz", "w cannot be 2147483648 bytes, packed in")


def packed(shape, dtype, numbers):
    """A map of one array, as Flax has it."""
    from msgpack import ExtType, packb

    return packb({"a": ExtType(1, packb((shape, dtype, numbers)))})


MSGPACK = {
    "a huge map": (b"\xdf\xff\xff\xff\xff\xa1a\x01", "could not be read"),
    "a huge text": (b"\x81\xa1a\xdb\xff\xff\xff\xff", "could not be read"),
    "a huge array": (b"\x81\xa1a\xc9\x7f\xff\xff\xff\x01", "could not be read"),
    "a huge shape": (packed((2**40, 2), "float32", bytes(8)), "cannot be 8 bytes"),
    "objects": (packed((), "object", bytes(8)), "type object cannot be 8 bytes"),
    "an unknown type": (packed((), "float7", bytes(8)), "could not be read (TypeError"),
    "one name twice": (b"\x82\xa1a\x01\xa1a\x02", "found a twice"),
    "more than a map": (b"\x81\xa1a\x01\x01", "from its first byte to its last"),
    "deep maps": (b"\x81\xa1a" * 100_000, "could not be read"),
    "no map": (b"\x93\x01\x02\x03", "must be one map of arrays"),
}


@pytest.mark.parametrize("fault", MSGPACK)
def test_msgpack(fault, tmp_path):
    content, *said = MSGPACK[fault]
    (tmp_path / "w.msgpack").write_bytes(content)
    refused(tmp_path / "w.msgpack", *said)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".msgpack", ".h5", ".pt"])
def test_a_file_that_breaks_off_anywhere(suffix, tmp_path):
    from tests.files.test_formats import needs

    needs(suffix)
    path = tmp_path / f"w{suffix}"
    write_weights(path, SMALL)
    content = path.read_bytes()
    for kept in (0.01, 0.2, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(kept * len(content))])
        refused(path, reads=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".msgpack", ".h5", ".keras", ".pt", ".bin", ".orbax"])
def test_a_name_that_lies(suffix, tmp_path):
    content = {"a": ".safetensors", "b": ".npz", "c": ".msgpack"}
    for name, kind in content.items():
        write_weights(tmp_path / f"{name}{kind}", SMALL)
        if kind != suffix:
            path = (tmp_path / f"{name}{kind}").rename(tmp_path / f"lies{suffix}")
            refused(path, "rename")


def test_nothing_there_and_names_without_a_format(tmp_path):
    refused(tmp_path / "missing.safetensors", "found nothing there")
    refused(tmp_path / "missing", "found nothing there")
    (tmp_path / "w.zip").write_bytes(b"PK")
    refused(tmp_path / "w.zip", "must end in one of .safetensors")
    for suffix in (".pkl", ".eqx"):
        (tmp_path / f"w{suffix}").write_bytes(b"something")
        refused(tmp_path / f"w{suffix}", f"found {suffix}; load it with what wrote it")
    (tmp_path / "w.npz").mkdir()
    refused(tmp_path / "w.npz", "a folder of safetensors or Orbax, found neither")


def test_shards(tmp_path):
    from tests.files.test_formats import shards

    folder = tmp_path / "model"
    shards(folder)
    index, first = folder / "model.safetensors.index.json", folder / "model-00001-of-00002.safetensors"
    good = json.loads(index.read_text())
    write = lambda **change: index.write_text(json.dumps({**good, "weight_map": {**good["weight_map"], **change}}))
    write(e=first.name)
    with pytest.raises(FileError, match=r"model-00001\S* must hold the tensors that .* only one of them has e; fetch"):
        open_weights(folder)
    write(a="../model/model-00001-of-00002.safetensors")
    refused(index, "the shard of a must lie beside the index")
    index.write_text("{}")
    refused(index, "the index of a sharded safetensors file", "weight_map")
    index.write_text(json.dumps(good))
    whole = folder / "model.safetensors"
    whole.write_bytes(first.read_bytes())
    refused(folder, "must hold one index or one file, found model.safetensors.index.json, model.safetensors; name one")
    assert set(open_weights(whole)) == {"b", "d"} and set(open_weights(index)) == set("abcd")
    whole.unlink()
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(FileError, match=r"model-00001-of-00002\.safetensors is missing, .* puts b, d there"):
        open_weights(folder)
    index.unlink()
    (folder / "other.safetensors").write_bytes(b"")
    refused(folder, "must hold one index or one file, found model-00002-of-00002.safetensors, other.safetensors")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the loops that Orbax leaves
def test_orbax(tmp_path):
    write_weights(tmp_path / "run.orbax", SMALL)
    (tmp_path / "run").mkdir()
    (tmp_path / "run.orbax").rename(tmp_path / "run" / "7")
    refused(tmp_path / "run", "holds 7; name one of them")
    for file in (tmp_path / "run" / "7" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    refused(tmp_path / "run" / "7", "could not be read", reads=True)
    (tmp_path / "run" / "7" / "_METADATA").write_text("{")
    refused(tmp_path / "run" / "7", "one whole Orbax checkpoint")


def test_hdf5_claims_and_points_elsewhere(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "w.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (2**40,), "f4", chunks=(1024,))
    refused(path, "w must have its 4398046511104 bytes in this file")
    (tmp_path / "secret").write_bytes(bytes(40))
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (10,), "f4", external=[(str(tmp_path / "secret"), 0, 40)])
    refused(path, "w must have its 40 bytes in this file")
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.zeros(3, "V3"))
    refused(path, "w must be numbers of a known type, found |V3")


@pytest.mark.filterwarnings("ignore")
def test_torch_of_other_things(tmp_path):
    torch = pytest.importorskip("torch")
    for content, said in (
        (torch.ones(3), "must hold named tensors, found Tensor"),
        ({"a": 1}, "must hold named tensors, found dict"),
        ({"a": torch.sparse_coo_tensor([[0]], [1.0], (3,))}, "a must be a dense tensor"),
        ({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "a must be a dense tensor"),
        ({"a": Fraction(1)}, "found fractions.Fraction; save model.state_dict()"),
    ):
        torch.save(content, tmp_path / "w.pt")
        refused(tmp_path / "w.pt", said)


@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torch(tmp_path):
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in ("w/data.pkl", "w/code/__torch__.py"):
            archive.writestr(name, b"\x80\x02}q\x00.")
    with pytest.raises(FileError, match=r"w\.pt must hold tensors, found a program of TorchScript; save model\.state"):
        open_weights(tmp_path / "w.pt")


def test_torch_bytes_that_changed(tmp_path):
    """torch writes checksums and reads without a look at them."""
    torch = pytest.importorskip("torch")
    numbers = np.arange(64, dtype=np.float32)
    torch.save({"w": torch.from_numpy(numbers)}, tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    for part in (numbers.tobytes(), b"_rebuild_tensor_v2"):
        changed = bytearray(content)
        changed[content.index(part) + 10] ^= 1
        (tmp_path / "w.pt").write_bytes(changed)
        refused(tmp_path / "w.pt", "the bytes that were written, but some have changed", reads=True)
    # who leaves them out has none
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    torch.save({"w": torch.from_numpy(numbers)}, tmp_path / "w.pt")
    torch.serialization.set_crc32_options(before)
    assert np.array_equal(open_weights(tmp_path / "w.pt")["w"], numbers)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_a_zip_whose_names_are_no_text(suffix, tmp_path):
    from tests.files.test_formats import needs

    needs(suffix)
    path = tmp_path / f"w{suffix}"
    write_weights(path, {"é": np.ones(3, np.float32)})
    content = path.read_bytes()
    at = content.rindex(b"PK\1\2")
    # names are said to be UTF-8
    path.write_bytes(content[: at + 9] + b"\x08" + content[at + 10 : at + 46] + b"\xe0\x28" + content[at + 48 :])
    refused(path, "could not be read")


def test_a_file_that_changed_since_it_was_opened(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, SMALL)
    weights = open_weights(path)
    write_weights(path, {"a": np.ones(2)}, overwrite=True)
    with pytest.raises(FileError, match=r"w\.safetensors must stay as it is while it is used"):
        np.asarray(weights["a"])
