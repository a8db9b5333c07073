"""Many pairs aligned onto disk: planted orders found, whatever the batches, the interruptions and the processes."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from dwalign import Alignment, Method, align_many, open_alignments
from dwalign.files import FileError, unsealed
from dwalign.networks import mlp
from dwalign.program import Data
from dwalign.program.inference import infer_spec
from dwalign.symmetry import SpecError, inverse, permute
from dwalign.zoo import open_networks
from tests import drawn
from tests.many.process import work

# one group is matched without search
NET = mlp(6, (8,), 3)
NETWORKS = [drawn.weights(NET.params, seed) for seed in range(4)]
COPIES = [permute(NET.spec, params, drawn.perms(NET.spec, seed)) for seed, params in enumerate(NETWORKS)]
PAIRS = np.array([[k, 4 + k] for k in range(4)] + [[0, 1], [3, 2], [5, 0]])
METHOD = "weight_matching"
DATA = Data(drawn.normal(4, 6))


def columns(found):
    """All parts, one after another."""
    parts = [found.part(k) for k in range(len(found.parts))]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def test_planted_orders_are_found_and_distances_are_those_of_the_pairs(tmp_path):
    found = align_many(NET.spec, NETWORKS + COPIES, PAIRS, METHOD, folder=tmp_path / "out", batch=2, part=3)
    assert found.parts == (3, 3, 1) and found.missing() == []
    about, perms = columns(found)
    assert np.array_equal(np.stack([about["a"], about["b"]], 1), PAIRS)
    for k in range(4):
        planted = inverse(NET.spec, drawn.perms(NET.spec, k))
        chex.assert_trees_all_equal({g: perm[k] for g, perm in perms.items()}, planted)
    assert (about["after"][:4] == 0).all() and (about["before"][:4] > 1).all()
    one = {g: perm[4] for g, perm in perms.items()}
    gaps = jax.tree.map(lambda x, y: x - y, NETWORKS[0], permute(NET.spec, NETWORKS[1], one))
    np.testing.assert_allclose(about["after"][4], np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gaps))), 1e-5)


def test_batches_and_interruptions_change_nothing(tmp_path):
    networks = NETWORKS + COPIES
    whole = columns(align_many(NET, networks, PAIRS, METHOD, folder=tmp_path / "whole", batch=4))
    folder = tmp_path / "parts"
    found = align_many(NET, networks, PAIRS, METHOD, folder=folder, batch=2, part=3)
    (folder / "pairs-00001.parquet").unlink()
    assert found.missing() == [1]
    with pytest.raises(FileError, match=r"pairs-00001\.parquet is missing.*run align_many again"):
        found.part(1)
    kept = (folder / "pairs-00000.parquet").stat().st_mtime_ns
    align_many(NET, networks, PAIRS, METHOD, folder=folder, batch=1, part=3)
    assert (folder / "pairs-00000.parquet").stat().st_mtime_ns == kept
    about, perms = columns(open_alignments(folder))
    chex.assert_trees_all_equal(perms, whole[1])
    chex.assert_trees_all_close(about, whole[0], rtol=1e-6)


def test_a_pair_is_aligned_alike_in_every_list(tmp_path):
    random_order = lambda spec, a, b, *, key: Alignment({"h0": jax.random.permutation(key, 8)})
    draws = Method("draws", random_order, "", "", "nothing")
    given = dict(network=NET.spec, networks=NETWORKS, method=draws, batch=2)
    whole = columns(align_many(pairs=[[0, 1], [1, 0], [2, 3], [0, 1]], folder=tmp_path / "whole", **given))[1]["h0"]
    part = columns(align_many(pairs=[[2, 3], [1, 0]], folder=tmp_path / "part", **given))[1]["h0"]
    assert np.array_equal(part, whole[[2, 1]]) and np.array_equal(whole[0], whole[3])
    assert len(np.unique(whole, axis=0)) == 3


def test_a_flipped_byte_is_found(tmp_path):
    found = align_many(NET, NETWORKS, PAIRS[4:6], "naive", folder=tmp_path, batch=2)
    file = tmp_path / "pairs-00000.parquet"
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(FileError, match=r"pairs-00000\.parquet must be whole Parquet"):
        found.part(0)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(pairs=PAIRS[:0]), r"pairs must be integers \[m, 2\], m >= 1"),
        (dict(pairs=[[0, 9]]), r"must be of networks 0 ... 3, found 0 ... 9"),
        (dict(pairs=iter([(0, 9)])), r"must be of networks 0 ... 3, found 0 ... 9"),
        (
            dict(networks={"params": NETWORKS[0]}),
            "networks must be a list of parameters.*found dict; of a stack take_ne",
        ),
        (dict(batch=0), "batch must be .*at least 1"),
        (dict(method="activation_matching"), "activation_matching: needs data"),
        (dict(networks=[*NETWORKS[:1], jax.tree.map(lambda x: x * np.nan, NETWORKS[1])]), r"networks\[1\]"),
        (
            dict(network=dataclasses.replace(NET, spec=infer_spec(NET.apply, NETWORKS[0], NET.example, kinds="all"))),
            "orders alone are written.*'scale'.*with_kinds",
        ),
    ],
)
def test_arguments_that_cannot_be_meant(tmp_path, change, message):
    given = dict(network=NET, networks=NETWORKS, pairs=[[0, 1]], folder=tmp_path, batch=1) | change
    with pytest.raises((ValueError, SpecError), match=message):
        align_many(**given)


def test_a_folder_belongs_to_one_call(tmp_path):
    given = dict(network=NET, networks=NETWORKS, pairs=[[0, 1]], folder=tmp_path, batch=1)
    align_many(**given)
    for change in (dict(pairs=[[1, 0]]), dict(method="naive"), dict(key=jax.random.key(7)), dict(data=DATA)):
        with pytest.raises(FileError, match=r"is of another call: .*choose another folder"):
            align_many(**given | change)
    with pytest.raises(FileError, match=r"must hold alignments, found no alignments\.json"):
        open_alignments(tmp_path / "other")


def by_processes(folder, count, devices):
    """`work` by so many processes of so many devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # those of the suite, of which the last that says how many counts
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(Path(__file__).with_name("process.py")), str(folder), address, str(count)]
    started = [subprocess.Popen([*command, str(k)], env=os.environ | {"XLA_FLAGS": flags}) for k in range(count)]
    assert [one.wait(timeout=300) for one in started] == [0] * count


def test_processes_and_devices_change_nothing(tmp_path):
    work(tmp_path / "one")
    by_processes(tmp_path / "two", 2, 4)
    one, two = (open_networks(tmp_path / home / "zoo") for home in ("one", "two"))
    # divided among devices sums go in another order
    for x, y in zip(one, two, strict=True):
        chex.assert_trees_all_close(x, y, rtol=1e-5, atol=1e-7)
    one, two = (columns(open_alignments(tmp_path / home / "pairs")) for home in ("one", "two"))
    chex.assert_trees_all_equal(one[1], two[1])
    chex.assert_trees_all_close(one[0], two[0], rtol=1e-5)
    # of two devices, and of all eight; both go on once from a checkpoint
    one, two = ((tmp_path / home / "aligner" / "metrics.jsonl").read_text().splitlines() for home in ("one", "two"))
    values = lambda lines: [unsealed(json.loads(line)) for line in lines]
    chex.assert_trees_all_close(values(one), values(two), rtol=1e-4)
