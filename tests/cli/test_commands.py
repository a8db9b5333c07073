"""Every command on a small network of linen whose weights lie in .npz files."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import yaml

import dwalign
from dwalign.cli import COMMANDS, main
from dwalign.cli.distances import distances
from dwalign.cli.options import Matched
from dwalign.cli.plan import plan
from dwalign.cli.subject import choose_method, open_subject
from tests import drawn

SOURCE = """
import flax.linen as nn
import numpy as np

def make():
    return nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(3)]), np.zeros((2, 4), np.float32)
"""
NET = ["--network", "net.py:make"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six trained networks, of which the second is the first in another order."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "net.py").write_text(SOURCE)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 4)).astype(np.float32)
    labels = (inputs @ rng.normal(size=(4, 3))).argmax(-1)
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    model = nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(3)])
    net, _ = dwalign.from_model(model, inputs[:2], key=jax.random.key(0))
    recipe = dwalign.zoo.Recipe(epochs=20, batch_size=30, learning_rate=0.02)
    trained = dwalign.zoo.train_networks(net, dwalign.Data(inputs, labels), recipe)(np.arange(6))
    networks = [jax.tree.map(np.asarray, dwalign.symmetry.take_networks(trained, k)) for k in range(6)]
    networks[1] = dwalign.permute(net.spec, networks[0], dwalign.random_perms(net.spec, np.random.default_rng(1)))
    for k, params in enumerate(networks):
        dwalign.files.write_weights(folder / f"{k}.npz", dwalign.files.unbind(params))
    # while the network is there commands find what was compiled for it
    yield folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run a command in the folder; what it printed as JSON."""
    monkeypatch.chdir(folder)

    def run(*args, status=0):
        assert main([*map(str, args), *NET, "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return run


def read(file):
    return {name: np.asarray(array) for name, array in dwalign.files.open_weights(file).items()}


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_help_loads_nothing_heavy():
    code = "import contextlib, sys\nfrom dwalign.cli import COMMANDS, main\nfor name in COMMANDS:\n"
    code += "    with contextlib.suppress(SystemExit):\n        main([name, '--help'])\n"
    code += "print(sorted({'jax', 'flax', 'scipy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("usage: ") == len(COMMANDS) and done.stdout.splitlines()[-1] == "[]"


def test_spec(run, folder):
    found = run("spec", "-o", "spec.json")
    assert found["groups"] == {"h0": [6]} and found["error"] <= found["tolerance"]
    assert dwalign.PermutationSpec.from_json((folder / "spec.json").read_text()).sizes == {"h0": 6}
    assert run("spec", "--kinds", "all")["kinds"] == {"h0": "scale"}


def test_align_restores_the_order(run, folder):
    found = run("align", "0.npz", "1.npz", "-o", "aligned.npz")
    assert found["distance"]["after"] == 0 < found["distance"]["before"]
    first, aligned = read(folder / "0.npz"), read(folder / "aligned.npz")
    assert all(np.array_equal(first[name], aligned[name]) for name in first)


def test_merge_of_two_and_again_from_the_recipe(run, folder, capsys):
    found = run("merge", "0.npz", "2.npz", "--data", "data.npz", "-o", "two.npz")
    judged = found["judged"]
    assert set(judged) == {"0.npz", "2.npz", "average without matching", "merged"}
    assert judged["merged"]["loss"] < judged["average without matching"]["loss"]
    assert "two.npz" in (folder / "two.md").read_text()
    assert found["seen"] and "data.npz, which it was matched on" in (folder / "two.md").read_text()
    seen = run("merge", "0.npz", "2.npz", "--data", "data.npz", "--method", "weight_matching", "-o", "unseen.npz")[
        "seen"
    ]
    assert not seen and "matched on" not in (folder / "unseen.md").read_text().split("Judged")[1]
    assert yaml.safe_load((folder / "two.recipe.yaml").read_text())["command"] == "merge"
    assert main(["rerun", "two.recipe.yaml", "-o", "again.npz", "--dry-run"]) == 0
    assert not (folder / "again.npz").exists()
    assert main(["rerun", "two.recipe.yaml", "-o", "again.npz"]) == 0
    one, two = read(folder / "two.npz"), read(folder / "again.npz")
    assert all(np.array_equal(one[name], two[name]) for name in one)
    # what was left to the program then is said now
    assert yaml.safe_load((folder / "again.recipe.yaml").read_text())["options"]["method"] == found["method"] != "auto"


def test_a_recipe_is_done_again_by_the_method_that_ran(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done: list = []
    monkeypatch.setattr(importlib.import_module("dwalign.cli.align"), "main", done.append)
    options = {"files": ["0.npz", "1.npz"], "output": "later.npz", "network": NET[1], "method": "auto"}
    for method in ("weight_matching", "deep_align"):
        recipe = dwalign.files.sealed({"command": "align", "options": options, "found": {"method": method}})
        (folder / "later.recipe.yaml").write_text(yaml.safe_dump(recipe))
        assert main(["rerun", "later.recipe.yaml"]) == 0
    assert [(one.method, one.aligner and str(one.aligner)) for one in done] == [
        ("weight_matching", None),
        ("deep_align", "any"),
    ]


def test_merge_of_three_with_a_layer_kept(run, folder):
    run("merge", "0.npz", "1.npz", "2.npz", "--weights", 2, 1, 1, "--keep", "*layers_2*", "-o", "three.npz")
    first, merged = read(folder / "0.npz"), read(folder / "three.npz")
    kept = {name for name in first if np.array_equal(first[name], merged[name])}
    assert kept == {name for name in first if "layers_2" in name}


def test_a_folder_of_shards_keeps_its_shards_and_what_lies_beside_them(run, folder):
    from safetensors.numpy import save_file

    for k in (0, 2):
        arrays, shards = read(folder / f"{k}.npz"), folder / f"model-{k}"
        shards.mkdir()
        index = {name: f"model-0000{n % 2 + 1}-of-00002.safetensors" for n, name in enumerate(sorted(arrays))}
        for file in set(index.values()):
            save_file({name: arrays[name] for name in arrays if index[name] == file}, shards / file)
        total = sum(array.nbytes for array in arrays.values())
        (shards / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": total}, "weight_map": index})
        )
        (shards / "config.json").write_text('{"kind": "mine"}')
    run("merge", "model-0", "model-2", "--data", "data.npz", "-o", "model")
    assert {file.name for file in (folder / "model").iterdir()} == {
        file.name for file in (folder / "model-0").iterdir()
    }
    assert (folder / "model" / "config.json").read_text() == '{"kind": "mine"}'
    run("merge", "0.npz", "2.npz", "--data", "data.npz", "-o", "whole.npz")
    one, two = read(folder / "model"), read(folder / "whole.npz")
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_folder_of_one_file_stays_a_folder(run, folder):
    """As Hugging Face keeps a small model."""
    for k in (0, 2):
        (folder / f"small-{k}").mkdir()
        dwalign.files.write_weights(folder / f"small-{k}" / "model.safetensors", read(folder / f"{k}.npz"))
        (folder / f"small-{k}" / "config.json").write_text("{}")
    found = run("merge", "small-0", "small-2", "--data", "data.npz", "-o", "small")
    assert sorted(file.name for file in (folder / "small").iterdir()) == ["config.json", "model.safetensors"]
    assert {"small-0", "small-2"} < set(found["judged"])
    run("merge", "0.npz", "2.npz", "--data", "data.npz", "-o", "same.npz")
    one, two = read(folder / "small"), read(folder / "same.npz")
    assert all(np.array_equal(one[name], two[name]) for name in one)
    # what lies in folders, and the data, are files that a recipe was made from as well
    recipe = yaml.safe_load((folder / "small.recipe.yaml").read_text())
    files = {"small-0/model.safetensors", "small-2/model.safetensors", "data.npz"}
    assert set(recipe["read"]) == files
    (folder / "small-2" / "model.safetensors").write_bytes(b"")
    assert main(["rerun", "small.recipe.yaml", "-o", "small-again"]) == 2


def test_statistics_that_were_not_renewed_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    norm = "nn.BatchNorm(use_running_average=True), nn.relu"
    (tmp_path / "normed.py").write_text(SOURCE.replace("nn.relu", norm))
    model, inputs = dwalign.frontends.find_model("normed.py:make")
    net, _ = dwalign.from_model(model, *inputs, key=jax.random.key(0))
    for k in range(2):
        dwalign.files.write_weights(tmp_path / f"{k}.npz", dwalign.files.unbind(drawn.weights(net.params, k)))
    np.savez(tmp_path / "data.npz", inputs=drawn.normal(8, 4))
    ask = ["merge", "0.npz", "1.npz", "--network", "normed.py:make", "--method", "weight_matching"]
    for more, stale in (([], True), (["--data", "data.npz"], False)):
        assert main([*ask, *more, "-o", "out.npz", "--overwrite"]) == 0
        said = capsys.readouterr()
        assert ("stale: " in said.out) == ("Stale: " in (tmp_path / "out.md").read_text()) == stale
        # a warning would speak of arguments that a command line has not
        assert "renew=" not in said.err


def test_what_was_not_checked_is_said(run, folder):
    assert run("merge", "0.npz", "2.npz", "--certify", "no", "-o", "unchecked.npz")["certified"] is False
    assert "Unchecked: " in (folder / "unchecked.md").read_text()
    assert run("merge", "0.npz", "2.npz", "-o", "checked.npz")["certified"] is True
    assert "Unchecked: " not in (folder / "checked.md").read_text()


def test_dry_run_does_nothing(run, folder):
    found = run("merge", "0.npz", "2.npz", "--dry-run", "-o", "nothing.npz")
    assert found["method"] == "deep_align" and found["moving"] > 0.8 and not (folder / "nothing.npz").exists()


def test_a_plan_counts_the_steps_of_descent_and_what_is_compiled(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("dwalign.cli.plan._speed", lambda: 1e6)
    subject = open_subject(Matched(network="net.py:make", data=folder / "data.npz"), [folder / "0.npz"])
    made = lambda method: plan(subject, method)
    few, many = (made(dwalign.refine.using(steps=steps))["seconds"] for steps in (20, 200))
    assert 8 < many / few < 10
    # a thousand iterations, each on 90 examples
    assert made(dwalign.sinkhorn_rebasin)["seconds"] > 4 * many
    aligner = dwalign.find_method("deep_align").using(aligner=dwalign.load_aligner("any", network=subject.network))
    assert made(aligner)["seconds"] > 10 * made(dwalign.activation_matching)["seconds"]
    assert made(aligner)["compilation"] > made(dwalign.activation_matching)["compilation"]
    assert plan(subject, dwalign.weight_matching, certified=False)["compilation"] == 0


def test_the_aligner_that_is_given_is_taken(run, folder):
    merge = ("merge", "0.npz", "2.npz", "--dry-run", "-o", "nothing.npz")
    assert run(*merge, "--data", "data.npz")["method"] == "activation_matching_correlation+refine"
    assert run(*merge, "--data", "data.npz", "--aligner", "any")["method"] == "deep_align+refine"
    inputs = np.load(folder / "data.npz")["inputs"]
    np.savez(folder / "inputs.npz", inputs=inputs)
    asked = Matched(network="net.py:make", data=folder / "inputs.npz", aligner=Path("any"))
    method = choose_method(asked, open_subject(asked, [folder / "0.npz", folder / "2.npz"]))
    assert str(method) == "deep_align" and np.array_equal(method.options["aligner"].model.inputs, inputs[: 2**8])


def test_compare_and_evaluate(run):
    pairs = run("compare", "0.npz", "1.npz", "2.npz", "--data", "data.npz", "--method", "weight_matching")["pairs"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("0.npz", "1.npz"), ("0.npz", "2.npz"), ("1.npz", "2.npz")]
    assert pairs[0]["aligned"] == 0 and pairs[0]["aligned barrier"] < 1e-5 and pairs[0]["forecast"] < 0.02
    assert all(pair["at least"] <= pair["forecast"] <= pair["at most"] for pair in pairs)
    assert pairs[0]["chance"] > 0.9 > pairs[1]["chance"] > 0, "0 and 1 are one network, 2 is another"
    judged = run("evaluate", "0.npz", "1.npz", "--data", "data.npz")
    assert judged["0.npz"]["loss"] == pytest.approx(judged["1.npz"]["loss"], rel=1e-5)
    assert judged["0.npz"]["accuracy"] > 0.8


def test_what_is_told_is_that_of_the_numbers_in_the_file(folder, run):
    """Of few bits: the mean of two of them has more."""
    for k in (0, 2):
        coarse = {name: array.astype(jax.numpy.float8_e5m2) for name, array in read(folder / f"{k}.npz").items()}
        dwalign.files.write_weights(folder / f"coarse-{k}.safetensors", coarse)
    pair, common = ["coarse-0.safetensors", "coarse-2.safetensors"], ["--method", "weight_matching"]
    told = run("merge", *pair, *common, "--data", "data.npz", "-o", "coarse.safetensors")["judged"]["merged"]
    assert told == run("evaluate", "coarse.safetensors", "--data", "data.npz")["coarse.safetensors"]
    told = run("align", *pair, *common, "--kinds", "all", "-o", "moved.safetensors")["distance"]["after"]
    model, inputs = dwalign.frontends.find_model(NET[1])
    net, params = dwalign.from_model(model, *inputs, key=jax.random.key(0))
    a, b, moved = (
        dwalign.files.bind(dwalign.files.open_weights(file), params) for file in (*pair, "moved.safetensors")
    )
    spec = dwalign.network(net.apply, params, *inputs, kinds="all").spec
    assert told == distances(spec, *(jax.tree.map(np.float32, one) for one in (a, b, moved))).after


def test_values_are_not_called_right_or_wrong(folder, run, capsys):
    arrays = np.load(folder / "data.npz")
    np.savez(folder / "values.npz", inputs=arrays["inputs"], labels=np.float32(np.eye(3)[arrays["labels"]]))
    common = ["--data", "values.npz", "--method", "weight_matching", "--report", "values.html"]
    found = run("merge", "0.npz", "2.npz", *common, "-o", "merged-values.npz")
    assert found["columns"] == ["squared error", "met to 0.1"]
    assert "| network | squared error | met to 0.1 |" in (folder / "merged-values.md").read_text()
    page = (folder / "values.html").read_text()
    assert "% of all examples to 0.1; its ends" in page and "accuracy" not in page
    assert main(["evaluate", "0.npz", *NET, "--data", "values.npz"]) == 0
    out, err = capsys.readouterr()
    assert "squared error  met to 0.1" in out and "values.npz: labels are real numbers" in err


def test_the_same_units_are_as_far_apart_after_alignment_in_all_kinds(folder, run):
    """Aligned, the second network has the factors of the first, which are others."""
    params = read(folder / "0.npz")
    larger = {"params/layers_0/kernel": 9.0, "params/layers_0/bias": 9.0, "params/layers_2/kernel": 1 / 9}
    dwalign.files.write_weights(
        folder / "scaled.npz", {name: array * np.float32(larger.get(name, 1)) for name, array in params.items()}
    )
    for method in ("naive", "weight_matching"):
        common = ["--kinds", "all", "--method", method]
        (pair,) = run("compare", "scaled.npz", "2.npz", *common)["pairs"]
        told = run("align", "scaled.npz", "2.npz", *common, "-o", f"scaled-{method}.npz")["distance"]
        assert told == {"before": pair["distance"], "after": pair["aligned"]}
        (plain,) = run("compare", "0.npz", "2.npz", *common)["pairs"]
        assert pair["distance"] == pytest.approx(plain["distance"], rel=1e-4)
        assert pair["aligned"] <= pair["distance"] * (1 + 1e-4)


def test_train_and_align_with_it(run, folder):
    small = [
        "--start",
        "none",
        "--aligner.encoder",
        "graph",
        "--aligner.channels",
        4,
        "--aligner.depth",
        1,
        "--aligner.features",
        8,
    ]
    small += ["--aligner.updates", 1, "--training.steps", 4, "--training.batch-size", 2, "--validate-every", 2]
    files = [f"{k}.npz" for k in range(6)]
    found = run("train", *files, "--data", "data.npz", "-o", "aligner", *small)
    assert found["step"] in (2, 4) and (folder / "aligner" / "checkpoints" / "best").is_dir()
    learned = run("align", "0.npz", "1.npz", "--method", "deep_align", "--aligner", "aligner", "-o", "learned.npz")
    assert learned["distance"]["after"] == 0, "equivariant, so that copies are found, trained or not"


def test_train_from_the_network_and_data_alone(run, folder):
    few = ["--networks", 4, "--pairs", 2, "--tries", 1, "--recipe.epochs", 2, "--report", "page.html"]
    found = run("train", "--data", "data.npz", "-o", "own", *few)
    assert found["roles"] == {"train": 2, "validation": 2, "test": 4} and len(found["validation"]) == 2
    results = dwalign.report.read_results(folder / "own" / "results.json")
    assert {name: one["barrier"]["mean"] for name, one in results["methods"].items()} == found["barrier"]
    assert {"weight_matching", "activation_matching", "activation_matching_correlation"} < set(found["barrier"])
    assert "Deep-Align" in (folder / "page.html").read_text() and "2 pairs" in (folder / "own.md").read_text()
    model, inputs = dwalign.frontends.find_model("net.py:make")
    net, _ = dwalign.from_model(model, *inputs, key=jax.random.key(0))
    kept = dwalign.load_aligner(folder / "own" / "checkpoints" / "best", network=net).variables["params"]["inputs"]
    assert np.array_equal(kept, np.load(folder / "data.npz")["inputs"]), "it is applied to weights alone"


RESIDUAL = """
import flax.linen as nn
import numpy as np

class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.Dense(8)(nn.relu(nn.Dense(12)(nn.LayerNorm()(x))))
        return nn.Dense(3)(nn.LayerNorm()(x))

def make():
    return Residual(), np.zeros((2, 4), np.float32)
"""


def test_merge_in_all_kinds_runs_in_the_model_it_came_from(tmp_path, monkeypatch, capsys):
    """The second network is the first with its stream rotated and its units scaled and moved."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "residual.py").write_text(RESIDUAL)
    model, inputs = dwalign.frontends.find_model("residual.py:make")
    net, params = dwalign.from_model(model, *inputs, key=jax.random.key(0))
    params = drawn.weights(params)
    net = dwalign.network(net.apply, params, *inputs, kinds="all")
    folded, same = dwalign.fold_norms(net, params)
    assert sorted(folded.spec.kinds.values()) == ["orthogonal", "scale"]
    element = dwalign.random_perms(folded.spec, np.random.default_rng(0))
    (stream,) = (g for g, kind in folded.spec.kinds.items() if kind == "orthogonal")
    # the model subtracts the mean of the stream: what it does not change must stay where it is
    ones = np.full((8, 1), 8**-0.5)
    rest = np.linalg.svd(ones)[0][:, 1:]
    element[stream] = ones @ ones.T + rest @ element[stream][:7, :7] @ rest.T
    element[stream] = np.linalg.svd(element[stream])[0] @ np.linalg.svd(element[stream])[2]
    for name, one in (("a", params), ("b", dwalign.permute(folded.spec, same, element))):
        dwalign.files.write_weights(tmp_path / f"{name}.npz", dwalign.files.unbind(one))
    assert main(["merge", "a.npz", "b.npz", "-o", "c.npz", "--network", "residual.py:make", "--kinds", "all"]) == 0
    capsys.readouterr()
    merged = dwalign.files.bind(dwalign.files.open_weights(tmp_path / "c.npz"), params)
    x = drawn.normal(5, 4)
    np.testing.assert_allclose(net.apply(jax.tree.map(np.asarray, merged), x), net.apply(params, x), atol=1e-4)
    assert main(["merge", *["a.npz"] * 3, "-o", "d.npz", "--network", "residual.py:make", "--kinds", "all"]) == 2
    assert "--kinds all is for two networks" in capsys.readouterr().err
