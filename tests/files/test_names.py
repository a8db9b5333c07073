"""Leaves are found by their names, under the spellings that frameworks give them."""

import jax
import numpy as np
import pytest

from dwalign.files import FileError, LazyArray, Weights, bind, names, open_weights, places, unbind, write_weights

TREE = {"layer": [{"weight": np.ones((2, 3)), "bias": np.ones(2)}, {"weight": np.zeros((4, 2)), "bias": np.zeros(4)}]}


def weights(tmp_path, spelled):
    path = tmp_path / "w.npz"
    write_weights(path, {spelled(name): leaf for name, leaf in unbind(TREE).items()}, overwrite=True)
    return open_weights(path)


def test_names_are_paths_in_the_order_of_leaves():
    assert names(TREE) == ["layer/0/bias", "layer/0/weight", "layer/1/bias", "layer/1/weight"]
    assert names({"b.weight": 1, "a.weight": 2}) == ["a.weight", "b.weight"]
    assert list(unbind(TREE)) == names(TREE) and unbind(TREE)["layer/1/bias"] is TREE["layer"][1]["bias"]
    with pytest.raises(FileError, match=r"\['a'\]\['b'\] and \['a/b'\] are both 'a/b'"):
        names({"a/b": 1, "a": {"b": 2}})


SPELLINGS = {
    "as it is": lambda name: name,
    "dots": lambda name: name.replace("/", "."),
    "module": lambda name: "module." + name.replace("/", "."),
    "model": lambda name: f"model/{name}",
    "of linen": lambda name: f"params/{name}",
    "variables": lambda name: f"{name}/value",
    "compiled, parallel": lambda name: "_orig_mod.module." + name.replace("/", "."),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_are_bridged_both_ways(spelling, tmp_path):
    found = weights(tmp_path, SPELLINGS[spelling])
    for tree in (
        TREE,
        jax.eval_shape(lambda: TREE),
        {"model": TREE},
        {"params": TREE},
        {f"module.{n}": x for n, x in unbind(TREE).items()},
    ):
        bound = bind(found, tree)
        assert jax.tree.structure(bound) == jax.tree.structure(tree)
        for lazy, leaf in zip(jax.tree.leaves(bound), jax.tree.leaves(TREE), strict=True):
            assert isinstance(lazy, LazyArray) and np.array_equal(np.asarray(lazy), leaf)
        # what was bound goes back under the names of the file
        write_weights(tmp_path / "again.npz", unbind(bound), like=found, overwrite=True)
        assert list(open_weights(tmp_path / "again.npz")) == list(found)


def test_a_prefix_that_some_lack_is_part_of_the_names(tmp_path):
    found = weights(tmp_path, lambda name: f"model.{name}" if "0" in name else name)
    with pytest.raises(
        FileError, match=r"missing are layer/0/bias, layer/0/weight; not in the network are model\.layer"
    ):
        bind(found, TREE)


def test_names_that_would_be_one_are_kept_apart(tmp_path):
    write_weights(tmp_path / "w.npz", {"a.b": np.ones(1), "a/b": np.zeros(1)})
    found = open_weights(tmp_path / "w.npz")
    assert float(np.asarray(bind(found, {"a.b": np.ones(1), "a": {"b": np.ones(1)}})["a.b"])[0]) == 1
    with pytest.raises(FileError, match=r"found 2: missing are a/c; not in the network are a/b"):
        bind(found, {"a.b": np.ones(1), "a/c": np.ones(1)})


@pytest.mark.parametrize(
    "tree, said",
    [
        (
            {"layer": TREE["layer"][:1]},
            r"not in the network are layer/1/bias, layer/1/weight; choose the file of this model",
        ),
        (TREE | {str(k): np.ones(1) for k in range(5)}, r"found 4: missing are 0, 1, 2 and 2 more; choose"),
        (
            jax.tree.map(lambda leaf: leaf[..., :1], TREE),
            r"layer/0/bias must have shape \(1,\), found \(2,\), .*, layer/1/bias must .* and 1 more; choose",
        ),
    ],
)
def test_the_first_three_are_named(tmp_path, tree, said):
    with pytest.raises(FileError, match=said) as caught:
        bind(weights(tmp_path, lambda name: name), tree)
    assert "\n" not in str(caught.value) and "w.npz" in str(caught.value)


def test_of_tied_tensors_one_name_is_enough(tmp_path):
    arrays = {name: LazyArray((1,), np.dtype("f4"), lambda: np.ones(1, "f4"), name) for name in ("a", "b", "c")}
    tied = Weights(tmp_path / "w.pt", "torch", arrays, ties={"b": "a"})
    one = np.ones(1)
    for tree in ({"a": one, "c": one}, {"b": one, "c": one}, {"a": one, "b": one, "c": one}):
        bound = bind(tied, tree)
        assert [lazy.name for lazy in jax.tree.leaves(bound)] == sorted(tree)
        write_weights(tmp_path / "w.npz", unbind(bound), like=tied, overwrite=True)
        assert list(open_weights(tmp_path / "w.npz")) == ["a", "b", "c"]
    with pytest.raises(FileError, match="not in the network are a, b; choose"):
        bind(tied, {"c": one})


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("there", [["embed", "up"], ["head", "up"], ["head", "embed", "tail", "up"]])
def test_what_a_model_ties_is_found_under_each_of_its_names(there, prefix, tmp_path):
    ties = {"head": "embed", "tail": "embed"}
    write_weights(tmp_path / "w.npz", {prefix + name: np.full(2, name == "up") for name in there})
    found = open_weights(tmp_path / "w.npz")
    bound = bind(found, {"embed": np.ones(2), "up": np.ones(2)}, ties=ties)
    assert not np.asarray(bound["embed"]).any() and np.asarray(bound["up"]).all()
    assert places(found, bound, ties=ties) == {prefix + name: ties.get(name, name) for name in there}
    with pytest.raises(FileError, match=r"missing are up; not in the network are .*other"):
        bind(Weights(found.path, "npz", {prefix + "other": found[prefix + "up"]}), {"up": np.ones(2)}, ties=ties)


def test_copies_of_what_is_tied_are_equal(tmp_path):
    arrays = {"head": np.ones(2), "embed": np.zeros(2)}
    write_weights(tmp_path / "w.npz", arrays)
    with pytest.raises(FileError, match=r"w\.npz: head and embed must be equal, for the network ties them"):
        bind(open_weights(tmp_path / "w.npz"), {"embed": np.ones(2)}, ties={"head": "embed"})


def test_numpy_and_jax_take_what_is_lazy(tmp_path):
    lazy = LazyArray((2, 3), np.dtype("f4"), lambda: np.ones((2, 3), "f4"), "w")
    assert (lazy.ndim, lazy.size, lazy.nbytes, np.shape(lazy)) == (2, 6, 24, (2, 3))
    assert np.asarray(lazy, np.float64).dtype == np.float64 and float(np.sum(lazy)) == 6
    assert np.asarray(lazy) is not np.asarray(lazy)
    assert jax.numpy.asarray(lazy).shape == (2, 3)
    assert jax.tree.leaves({"w": lazy}) == [lazy]
    with pytest.raises(ValueError, match="w is not in memory"):
        np.array(lazy, copy=False)
