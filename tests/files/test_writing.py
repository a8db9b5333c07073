"""Outputs appear whole or not at all, never over an input, and take the memory of one tensor."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from dwalign.files import FileError, LazyArray, open_weights, write_weights
from tests.files.kinds import same
from tests.files.test_formats import SUFFIXES, needs, shards

TENSORS = {"a": np.arange(6, dtype=np.float32), "b": np.ones(3, np.int8)}


def listing(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_exists_is_written_over_only_if_asked(suffix, tmp_path):
    needs(suffix)
    path = tmp_path / f"w{suffix}"
    write_weights(path, TENSORS)
    before = listing(tmp_path)
    with pytest.raises(FileError, match=r"w\.\w+ exists; choose another name"):
        write_weights(path, {"a": np.zeros(2)})
    with pytest.raises(ZeroDivisionError):
        write_weights(path, {"a": np.zeros(2), "b": LazyArray((2,), np.dtype("f4"), lambda: 1 / 0)}, overwrite=True)
    assert listing(tmp_path) == before and same(open_weights(path)["a"], TENSORS["a"])
    write_weights(path, {"c": np.zeros(2)}, overwrite=True)
    assert list(open_weights(path)) == ["c"] and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_of_two_writers_of_a_new_file_the_first_has_it(suffix, tmp_path):
    needs(suffix)
    path = tmp_path / f"w{suffix}"

    def while_another_writes():
        write_weights(path, TENSORS)
        return np.ones(2, np.float32)

    with pytest.raises(FileError, match="another has written it meanwhile"):
        write_weights(path, {"a": LazyArray((2,), np.dtype("f4"), while_another_writes)})
    assert listing(tmp_path)[0] == path.name and same(open_weights(path)["a"], TENSORS["a"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_input_is_never_written_over(suffix, tmp_path):
    needs(suffix)
    path = tmp_path / f"w{suffix}"
    write_weights(path, TENSORS)
    weights = open_weights(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    names = [path, tmp_path / "folder" / path.name, tmp_path / f"link{suffix}"]
    names[-1].symlink_to(path)
    if path.is_file():
        names.append(tmp_path / f"hard{suffix}")
        os.link(path, names[-1])
    for name in names:
        for how in ({"like": weights}, {"inputs": [path]}, {}):
            with pytest.raises(FileError, match="must not be an input, which is never written over"):
                write_weights(name, {**weights} if not how else TENSORS, overwrite=True, **how)
    assert all(same(open_weights(path)[name], TENSORS[name]) for name in TENSORS)


def test_a_shard_is_never_written_over(tmp_path):
    tensors = shards(tmp_path / "model")
    weights = open_weights(tmp_path / "model")
    for name in ("", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "more.safetensors"):
        with pytest.raises(FileError, match="must not be an input"):
            write_weights(tmp_path / "model" / name, tensors, like=weights, overwrite=True)
    with pytest.raises(FileError, match="must not be an input"):
        write_weights(tmp_path / "model", tensors, like=weights, overwrite=True)


def test_a_folder_is_replaced_if_it_holds_weights_alone(tmp_path):
    tensors = shards(tmp_path / "model")
    weights = open_weights(tmp_path / "model")
    write_weights(tmp_path / "out", tensors, like=weights)
    write_weights(tmp_path / "out", {name: 2 * array for name, array in tensors.items()}, like=weights, overwrite=True)
    assert same(open_weights(tmp_path / "out")["d"], 2 * tensors["d"])
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(FileError, match=r"out must hold nothing but weights to be written over, found config\.json"):
        write_weights(tmp_path / "out", tensors, like=weights, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "out"]
    (tmp_path / "w.npz").mkdir()
    with pytest.raises(FileError, match=r"w\.npz must be a file to be written over"):
        write_weights(tmp_path / "w.npz", tensors, overwrite=True)


@contextlib.contextmanager
def full_disk(room):
    """No file may grow beyond `room` bytes."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(suffix, tmp_path):
    needs(suffix)
    large = {name: np.random.default_rng(0).random(60_000) for name in "abc"}
    with full_disk(300_000), pytest.raises(FileError, match=r"w\.\w+ could not be written") as caught:
        write_weights(tmp_path / f"w{suffix}", large)
    assert "\n" not in str(caught.value) and not listing(tmp_path)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSPC])
def test_orbax_is_begun_where_nothing_can_be_reserved_and_not_where_there_is_no_room(code, tmp_path, monkeypatch):
    needs(".orbax")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.posix_fallocate", refuse)
    if code == errno.ENOSPC:
        with pytest.raises(FileError, match=r"w\.orbax could not be written \(No space left"):
            write_weights(tmp_path / "w.orbax", TENSORS)
    else:
        write_weights(tmp_path / "w.orbax", TENSORS)
    assert bool(listing(tmp_path)) == (code == errno.EOPNOTSUPP)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    tensors = shards(tmp_path / "model")
    weights, replace = open_weights(tmp_path / "model"), os.replace
    write_weights(tmp_path / "out", tensors, like=weights)

    def fail(old, new):
        if (new, Path(old).suffix) == (tmp_path / "out", ""):
            raise OSError("no space left")
        replace(old, new)

    monkeypatch.setattr("os.replace", fail)
    before = listing(tmp_path)
    with pytest.raises(FileError, match=r"out could not be written .*no space left"):
        write_weights(
            tmp_path / "out", {name: 2 * array for name, array in tensors.items()}, like=weights, overwrite=True
        )
    assert listing(tmp_path) == before and same(open_weights(tmp_path / "out")["d"], tensors["d"])


def test_shards_on_a_full_disk_leave_nothing(tmp_path):
    tensors = shards(tmp_path / "model")
    large = {name: np.zeros((2, 30_000), np.float32) for name in tensors}
    before = listing(tmp_path)
    with full_disk(300_000), pytest.raises(FileError, match="out could not be written"):
        write_weights(tmp_path / "out", large, like=open_weights(tmp_path / "model"))
    assert listing(tmp_path) == before


def test_a_disk_that_is_too_small_is_known_before(tmp_path):
    huge = LazyArray((2**50,), np.dtype("f4"), lambda: pytest.fail("was read"))
    with pytest.raises(FileError, match=r"w\.npz needs 4,503,599,627,370,496 bytes, but .* are free"):
        write_weights(tmp_path / "w.npz", {"w": huge})


class Counted(Mapping):
    """Computes, and counts."""

    def __init__(self):
        self.asked = []

    def __getitem__(self, name):
        self.asked.append(name)
        return 2 * TENSORS[name]

    def __iter__(self):
        return iter(TENSORS)

    def __len__(self):
        return len(TENSORS)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_tensor_is_asked_for_once(suffix, alike, tmp_path):
    needs(suffix)
    write_weights(tmp_path / f"like{suffix}", TENSORS)
    counted = Counted()
    like = open_weights(tmp_path / f"like{suffix}") if alike else None
    write_weights(tmp_path / f"w{suffix}", counted, like=like)
    assert sorted(counted.asked) == sorted(TENSORS)
    found = open_weights(tmp_path / f"w{suffix}")
    assert all(same(found[name], 2 * TENSORS[name]) for name in TENSORS)


def test_types_are_those_of_the_file_written_like(tmp_path):
    halves = {"w": np.ones(2, ml_dtypes.bfloat16), "step": np.array(3, np.int32), "f": np.ones(2, np.float16)}
    write_weights(tmp_path / "like.safetensors", halves)
    like = open_weights(tmp_path / "like.safetensors")
    merged = {"w": np.float32([1.5, np.nan]), "step": np.array(4), "f": np.array([np.inf, 2])}
    write_weights(tmp_path / "w.safetensors", merged, like=like)
    found = open_weights(tmp_path / "w.safetensors")
    assert [lazy.dtype for lazy in found.values()] == [lazy.dtype for lazy in like.values()]
    assert np.asarray(found["w"], np.float32)[0] == 1.5 and np.asarray(found["step"]) == 4
    for name, value in (("step", np.array(3.0)), ("step", np.array(2**40)), ("f", np.array([1e6, 1.0]))):
        with pytest.raises(FileError, match=rf"bad\.safetensors: {name} must fit into .* convert it"):
            write_weights(tmp_path / "bad.safetensors", merged | {name: value}, like=like)
    assert not (tmp_path / "bad.safetensors").exists()


@pytest.mark.parametrize(
    "name, tensors, said",
    [
        ("w.txt", TENSORS, r"w\.txt must end in one of \.safetensors"),
        ("w", TENSORS, "w must end in one of .* or be a folder written like one"),
        ("no/w.npz", TENSORS, r"must lie in a folder that exists; make .*no"),
        (
            "w.safetensors",
            {"a": np.ones(2), "c": np.ones(2)},
            r"like\.npz, 2 in number, found 2: missing are b; not in ",
        ),
        ("w.safetensors", {"__metadata__": np.ones(2)}, "must be named otherwise"),
        ("w.safetensors", {"a": np.ones(2, np.complex128)}, "a must be of a type that safetensors has .*complex128"),
        ("w.msgpack", {"a": np.ones(2), "a/b": np.ones(2)}, "a cannot be an array and hold a/b"),
        ("w.msgpack", {"a/b": np.ones(2), "a": np.ones(2)}, "a cannot be an array and hold others"),
        ("w.npz", {"a": np.array([None])}, "a must be of a type of numbers, found object"),
    ],
)
def test_what_cannot_be_written_is_said(name, tensors, said, tmp_path):
    like = None
    if "c" in tensors:
        write_weights(tmp_path / "like.npz", TENSORS)
        like = open_weights(tmp_path / "like.npz")
    before = listing(tmp_path)
    with pytest.raises(FileError, match=said) as caught:
        write_weights(tmp_path / name, tensors, like=like)
    assert "\n" not in str(caught.value) and listing(tmp_path) == before


def test_metadata_needs_a_place(tmp_path):
    with pytest.raises(FileError, match=r"w\.npz must be safetensors to keep metadata"):
        write_weights(tmp_path / "w.npz", TENSORS, metadata={"merged": "yes"})


MERGE = """
    import sys, tracemalloc
    from pathlib import Path
    import numpy as np
    from dwalign.files import LazyArray, open_weights, write_weights

    folder, size, count = Path(sys.argv[1]), 1_000_000, 16
    made = {f"w{k}": LazyArray((size,), np.dtype("f4"), lambda k=k: np.full(size, k, "f4")) for k in range(count)}
    for suffix in sys.argv[2:]:
        write_weights(folder / f"warm{suffix}", {"w": np.zeros(9)})
        tracemalloc.start()
        write_weights(folder / f"a{suffix}", made)
        a = open_weights(folder / f"a{suffix}")
        half = lambda name: np.asarray(a[name]) * np.float32(0.5)
        merged = {name: LazyArray(t.shape, t.dtype, lambda name=name: half(name)) for name, t in a.items()}
        write_weights(folder / f"b{suffix}", merged, like=a)
        print(suffix, tracemalloc.get_traced_memory()[1] / (4 * size))
        tracemalloc.stop()
        assert float(np.asarray(open_weights(folder / f"b{suffix}")["w8"])[5]) == 4
"""


def test_memory_is_that_of_few_tensors(tmp_path):
    # in a process of its own: tracemalloc crashes when it stops beside the threads that Orbax leaves
    # halving takes two tensors, Flax copies one of them four times to encode it
    most = {".safetensors": 2.2, ".npz": 2.2, ".msgpack": 5.5}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MERGE), tmp_path, *most],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    assert all(float(found[suffix]) < tensors for suffix, tensors in most.items()), found
