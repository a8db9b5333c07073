"""Networks in shards of records: read one by one, written by turns, damaged ones named."""

import pickle

import chex
import jax
import numpy as np
import pytest

from dwalign import extras, zoo
from dwalign.files import FileError
from dwalign.networks import mlp
from dwalign.program import Data
from tests import drawn

NET = mlp(6, (4, 3), 3)
DATA = Data(drawn.normal(32, 6), np.arange(32) % 3)
RECIPE = zoo.Recipe(epochs=1, batch_size=16)
SHARDS = [
    jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn.weights(NET.params, k) for k in some))
    for some in ((0, 1, 2), (3, 4))
]


def saved(folder, **options):
    return zoo.save_networks(folder, SHARDS.__getitem__, 5, shard=3, **options)


def test_each_network_is_read_alone_as_it_was(tmp_path):
    networks = saved(tmp_path)
    assert len(networks) == 5 and networks.shards == (3, 2)
    for k in (4, 0, 2, -1):
        chex.assert_trees_all_equal(networks[k], drawn.weights(NET.params, k % 5))
    again = pickle.loads(pickle.dumps(zoo.open_networks(tmp_path, NET.params)))
    chex.assert_trees_all_equal(again[3], networks[3])
    with pytest.raises(IndexError):
        networks[5]


def test_types_and_structures_are_kept(tmp_path):
    stacked = [{"w": np.arange(6, dtype=np.float16).reshape(2, 3), "n": np.array([1, 2], np.int32)}]
    zoo.save_networks(tmp_path, lambda k: stacked, 2)
    found = zoo.open_networks(tmp_path, jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], stacked)))[1]
    chex.assert_trees_all_equal(found, [{"w": np.float16([3, 4, 5]), "n": np.int32(2)}])
    chex.assert_trees_all_equal_dtypes(found, [{"w": np.float16([3]), "n": np.int32(2)}])


def test_a_folder_is_a_source_of_grain(tmp_path):
    grain = extras.load("grain")
    bias = lambda params: float(params["params"]["dense_0"]["bias"][0])
    read = [bias(params) for params in grain.MapDataset.source(saved(tmp_path)).shuffle(seed=0)]
    assert sorted(read) == sorted(bias(drawn.weights(NET.params, k)) for k in range(5))


def test_turns_write_the_files_of_one_process(tmp_path):
    whole = zoo.make_networks(NET, DATA, RECIPE, 5, folder=tmp_path / "whole", shard=3, batch=2)
    calls = []

    def make(shard):
        calls.append(shard)
        return SHARDS[shard]

    zoo.save_networks(tmp_path / "turns", make, 5, shard=3, turn=(1, 2))
    zoo.save_networks(tmp_path / "turns", make, 5, shard=3, turn=(0, 2))
    zoo.save_networks(tmp_path / "turns", make, 5, shard=3)
    assert calls == [1, 0]
    saved(tmp_path / "one")
    for name in ("networks.json", "networks-00000.array_record", "networks-00001.array_record"):
        assert (tmp_path / "turns" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    # seeds, not shards or batches, say what a network becomes
    other = zoo.make_networks(NET, DATA, RECIPE, 2, folder=tmp_path / "other", batch=2, seed=3)
    chex.assert_trees_all_close(whole[4], other[1], rtol=1e-5, atol=1e-7)
    with pytest.raises(FileError, match=r"is of another call: recipe must be .*choose another folder"):
        zoo.make_networks(NET, DATA, zoo.Recipe(epochs=2, batch_size=16), 5, folder=tmp_path / "whole", shard=3)


@pytest.mark.parametrize("name", ["networks-00000.array_record", "networks.json"])
def test_a_flipped_byte_is_found(tmp_path, name):
    saved(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    number = SHARDS[0]["params"]["dense_0"]["kernel"][0].tobytes()[:8]
    content[content.index(b"3" if name.endswith("json") else number)] ^= 4
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(FileError, match=name):
        [zoo.open_networks(tmp_path)[k] for k in range(3)]


def test_what_does_not_fit_is_named(tmp_path):
    saved(tmp_path)
    with pytest.raises(FileError, match=r"must have \S+ as .* found .*another architecture"):
        zoo.open_networks(tmp_path, mlp(6, (4, 4), 3).params)
    with pytest.raises(FileError, match=r"must hold networks, found no networks\.json"):
        zoo.open_networks(tmp_path / "other")
    with pytest.raises(ValueError, match="the shard must hold 4 networks"):
        zoo.save_networks(tmp_path / "short", SHARDS.__getitem__, 4)
    with pytest.raises(ValueError, match="is a random key"):
        zoo.save_networks(tmp_path / "keys", lambda k: {"key": jax.random.split(jax.random.key(0), 2)}, 2)
    with pytest.raises(FileError, match="shards must be"):
        zoo.save_networks(tmp_path, SHARDS.__getitem__, 5, shard=4)
    (tmp_path / "networks-00001.array_record").unlink()
    with pytest.raises(FileError, match=r"networks-00001\.array_record"):
        zoo.open_networks(tmp_path)[4]
