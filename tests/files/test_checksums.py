"""Flipped bits, files that are cut and disks that are full: each is named, and nothing half written is left."""

import dataclasses
import errno
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from dwalign.cli.recipe import read_recipe, write_recipe
from dwalign.files import FileError, load_params, open_weights, save_params, write_bytes, write_weights
from dwalign.files.atomic import whole
from dwalign.report import ResultsError, RunError, open_run, read_json, write_json
from dwalign.symmetry import Axes, PermutationSpec, SpecError
from tests.drawn import normal
from tests.files.test_formats import needs
from tests.fuzz.damage import _keras, alike, arrays

PARAMS = {"b": normal(3), "w": normal(4, 3)}


def test_every_flipped_byte_of_the_numbers_is_named(tmp_path):
    file = tmp_path / "w.safetensors"
    save_params(file, PARAMS)
    data = file.read_bytes()
    for place in range(len(data) - 4 * 15, len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(FileError, match=r"w\.safetensors: [bw] must be as it was written"):
            load_params(file, PARAMS)


def test_every_flipped_byte_of_the_header_is_found_or_changes_nothing(tmp_path):
    file = tmp_path / "w.safetensors"
    save_params(file, PARAMS)
    data = file.read_bytes()
    quiet = 0
    for place in range(len(data) - 4 * 15):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            found = load_params(file, PARAMS)
        except FileError:
            continue
        quiet += 1
        assert all(np.array_equal(found[name], PARAMS[name]) for name in PARAMS)
    # names of checksums, which are taken for what other programs say
    assert quiet <= 2 * len("crc32")


CONFIG = {"preset": "smoke", "seeds": [1, 2], "rate": 0.001, "name": None}
SPEC = PermutationSpec({"w": Axes.parse("h0, _"), "b": Axes("h0")}, {"h0": 3})
DOCUMENTS = {
    "config.json": (
        lambda file: open_run(file.parent, CONFIG),
        lambda file: open_run(file.parent, CONFIG, resume=True),
    ),
    "results.json": (lambda file: write_json(file, {**CONFIG, "seeds": {"": [0.5]}}), read_json),
    "a.recipe.yaml": (
        lambda file: write_recipe("align", Asked(file.with_name("a.npz"), 0.5), [], {"matched": 0.5}),
        read_recipe,
    ),
    "spec.json": (
        lambda file: file.write_text(SPEC.to_json()),
        lambda file: PermutationSpec.from_json(file.read_bytes().decode("utf-8", "replace")),
    ),
    "w.h5": (lambda file: write_weights(file, PARAMS), arrays),
    "w.npz": (lambda file: write_weights(file, PARAMS), arrays),
    "w.keras": (_keras, arrays),
}


@dataclasses.dataclass
class Asked:
    output: Path
    rate: float


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_flipped_bit_is_found_or_changes_nothing(name, tmp_path):
    write, read = DOCUMENTS[name]
    file = tmp_path / name
    needs(file.suffix)
    write(file)
    whole, data = read(file), file.read_bytes()
    found = 0
    step = max(1, len(data) // 150)
    for place in range(len(data) % step, len(data), step):
        file.write_bytes(data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :])
        try:
            there = read(file)
        except (FileError, ResultsError, RunError, SpecError):
            found += 1
            continue
        if isinstance(there, dict):
            # the name of the checksum may be another; of HDF5 only the model tells that an array is missing
            both = whole.keys() & there.keys() if name == "w.h5" else whole.keys()
            assert all(alike(whole[key], there[key]) for key in both)
        else:
            assert there == whole
    assert found > 20


def test_files_of_others_have_no_checksums_and_ours_are_read_by_others(tmp_path):
    safetensors.numpy.save_file(PARAMS, tmp_path / "theirs.safetensors")
    write_weights(tmp_path / "ours.safetensors", PARAMS, like=open_weights(tmp_path / "theirs.safetensors"))
    found = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    assert all(np.array_equal(found[name], PARAMS[name]) for name in PARAMS)
    # numbers that another program has changed are not held against the checksums of ours
    with safetensors.safe_open(tmp_path / "ours.safetensors", "numpy") as ours:
        changed = {name: 2 * array for name, array in found.items()}
        safetensors.numpy.save_file(changed, tmp_path / "theirs.safetensors", ours.metadata())
    assert np.array_equal(load_params(tmp_path / "theirs.safetensors", PARAMS)["w"], 2 * PARAMS["w"])


@pytest.mark.parametrize(
    "number, remedy",
    [
        (errno.ENOSPC, "free space"),
        (errno.EROFS, "allow writing there"),
        (errno.EACCES, "allow writing there"),
        (errno.ENOENT, "make the folder again"),
    ],
)
def test_what_the_system_refuses_is_said_in_one_line(number, remedy, tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text("before")

    def refuse(*_):
        raise OSError(number, "the system's words")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", refuse)
        with pytest.raises(FileError, match=rf"results\.json could not be written \(the system's words\); {remedy}"):
            write_bytes(tmp_path / "results.json", b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "before"


def test_a_folder_that_vanishes(tmp_path):
    with pytest.raises(FileError, match=r"gone/card\.md could not be written.*make the folder again"):
        write_bytes(tmp_path / "gone" / "card.md", b"")


def test_what_the_dead_leave_is_swept_up_and_the_living_are_left_alone(tmp_path):
    dead = tmp_path / ".a.json.dead.tmp"
    dead.mkdir()
    (dead / "a.json").write_text("half")
    with whole(tmp_path / "a.json") as living:
        living.write_text("first")
        assert not dead.exists()
        write_bytes(tmp_path / "a.json", b"second")
        assert living.read_text() == "first" and (tmp_path / "a.json").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "first"


def test_a_folder_that_had_stepped_aside_for_one_that_was_killed_comes_back(tmp_path):
    aside = tmp_path / ".shards.dead.tmp" / "shards.old"
    aside.mkdir(parents=True)
    (aside / "kept").write_text("")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "shards"):
        raise ZeroDivisionError
    assert [file.name for file in (tmp_path / "shards").iterdir()] == ["kept"] and len(list(tmp_path.iterdir())) == 1
