"""The main job at toy size: one call writes everything, a second one goes on with it, others take up its aligners."""

import importlib
import json

import jax
import numpy as np
import pytest
import study

from dwalign import deepalign, report
from dwalign.matching import find_method
from dwalign.program import count_examples

experiment = importlib.import_module("train_mlp")
disjoint = importlib.import_module("disjoint")

# few programs to compile, with something left for targets to compare
KEPT = {"naive", "weight_matching", "activation_matching", "deep_align"}
SMOKE = study.change(study.Options(), study.SMOKE)
SKIPPED = sorted({str(method) for method in (*study.baselines(SMOKE), *study.learned(SMOKE))} - KEPT)
TOY = f"""
    --preset smoke --widths 5 --networks.train 4 --networks.validation 2 --networks.pairs 2 --networks.chunk 8
    --recipe.epochs 1 --aligner.channels 4 --aligner.depth 0 --aligner.updates 0 --aligner.descent 0 --aligner.probes 8
    --augmentation.noise 0 --augmentation.zeroing 0 --augmentation.quantile 0 --augmentation.scaling 0
    --training.steps 2 --training.batch-size 2 --training.images 16 --training.solver scaling --validate-every 1
    --target-pairs 2 --target-steps 1 --refine-images 64 --points 3 --skip {" ".join(SKIPPED)}
""".split()


def find_targets(network, method, networks, key, *, pairs, data, task):
    """In place of that of the library, which has tests of its own: what is asked of it, and units as they are."""
    assert str(method) == "activation_matching_correlation+refine@1" and count_examples(data) == 64
    index = np.zeros(pairs, np.int32)
    return deepalign.Targets(
        index, index + 1, {g: np.tile(np.arange(n), (pairs, 1)) for g, n in network.spec.sizes.items()}
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """OUT of a run."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deepalign, "find_targets", find_targets)
        experiment.main(experiment.read_config([*TOY, "--out", str(out)]))
    return out


@pytest.fixture(scope="module")
def results(out):
    return report.read_results(out / "mlp-digits" / "results.json")


def test_what_is_written(out, results):
    folder = out / "mlp-digits"
    assert set(results["methods"]) == KEPT
    assert results["methods"]["naive"]["barrier"]["mean"] > 0
    names = {(target["method"], target["against"]) for target in results["targets"]}
    assert names == {("deep_align", "weight_matching")}, "targets that ask for what was left out are left out"
    for name in ("interpolation", "interpolation-all", "quality", "training", "scores"):
        assert (folder / f"{name}.png").stat().st_size > 5000
    rows = [json.loads(line) for line in (folder / "seed-0" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and rows[0]["distillation"] > 0, "there are targets to learn from"
    config = json.loads((folder / "config.json").read_text())
    assert config["training"]["steps"] == 2 and config["aligner"]["channels"] == 4 and "skip" not in config


def test_a_run_goes_on_where_it_ended(out, results, without_figures, monkeypatch, capsys):
    monkeypatch.setattr(deepalign, "find_targets", find_targets)
    shorter = [*TOY, "activation_matching", "weight_matching", "--out", str(out), "--resume"]
    again = experiment.main(experiment.read_config(shorter))
    assert "read from the cache" in capsys.readouterr().out
    values = lambda r: r["methods"]["deep_align"]["barrier"]["values"]
    assert values(again) == values(results) and set(again["methods"]) == {"naive", "deep_align"}
    with pytest.raises(report.RunError, match=r"\(training\.steps was 2, is 6\)"):
        experiment.main(experiment.read_config([*TOY, "--out", str(out), "--resume", "--training.steps", "6"]))


def test_another_experiment_takes_up_its_aligners(out):
    config = disjoint.read_config(["--out", str(out), "--home", "mlp-digits"])
    options, home = study.open_home(config, config.home)
    assert options.recipe.epochs == 1 and options.networks.chunk == 8 and options.networks.train == 900
    assert dict(home.network.spec.sizes) == {"h0": 5} and home.data.train.inputs.shape[1:] == (8, 8, 1)
    (aligner,) = home.aligners
    a, b = (jax.tree.map(lambda leaf, s=s: np.full(leaf.shape, s, np.float32), home.network.params) for s in (1, 2))
    assert aligner.scores(a, b)["h0"].shape == (5, 5)
    (out / "old").mkdir()
    (out / "old" / "config.json").write_text('{"epochs": 40}')
    (out / "old" / "seed-0").symlink_to(out / "mlp-digits" / "seed-0")
    with pytest.raises(report.RunError, match="must be a run of this version"):
        study.open_home(config, "old")
    with pytest.raises(report.RunError, match=r"finished run of 1 aligners, .*config\.json is missing"):
        study.open_home(config, "gone")


def test_clients_share_no_seed_and_no_class(out, monkeypatch):
    """Those of the second part, without training them."""
    seen = {}
    monkeypatch.setattr(study, "make_zoo", lambda options, network, data, seed: seen.update({seed: (options, data)}))
    options, home = study.open_home(disjoint.read_config(["--out", str(out)]), "mlp-digits")
    for k, part in enumerate(disjoint.split(home.data, 2, 1.0)):
        disjoint.train_client(options, home.network, part, 3, k)
    assert sorted(seen) == [1_000_000, 2_000_000]
    assert all(tuple(options.networks.size()) == (3, 0, 0) for options, _ in seen.values())
    classes = [set(data.train.labels.tolist()) for _, data in seen.values()]
    assert classes == [{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}]


def test_methods_have_the_names_of_earlier_results():
    """At every preset, whatever the count of Sinkhorn iterations, so that results can be compared."""
    for iterations in (1000, 200):
        options = study.Options(sinkhorn_iterations=iterations)
        assert [str(method) for method in study.baselines(options)] == [
            *("naive", "weight_matching", "weight_matching@5", "anchored_matching", "activation_matching"),
            *("activation_matching_correlation", "straight_through", "sinkhorn", "weight_matching+sinkhorn"),
            *("activation_matching_correlation+refine", "refine"),
        ]
        learned = [str(method) for method in study.learned(options)]
        assert learned[:3] == ["deep_align", "deep_align+refine@5", "deep_align+refine"]
        assert learned[3:] == [f"deep_align+sinkhorn@{iterations // 10}", "deep_align+sinkhorn"]
        assert study.rebasin(options).options == {"iterations": iterations}
    assert [str(method) for method in study.learned(options, longest=False)] == learned[:-1]
    for name in (*study.SHOWN, *study.PAPER_TABLE):
        assert str(find_method(name)) == name


def test_presets_and_overrides():
    assert experiment.read_config([]).widths == (32, 32, 32)
    assert experiment.read_config(["--dataset", "mnist"]).widths == (128, 128, 128)
    paper = experiment.read_config(["--preset", "paper", "--training.steps", "7"])
    assert paper.networks.train > 5000 and paper.training.steps == 7 and paper.aligner.descent == 5


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--networks.pairs 6 --chunk 4", "give --chunk 2"),
        ("--networks.validation 1", r"networks\.validation must be at least 2"),
        ("--aligner.descent 5 --unrolled 6", r"unrolled must be from 0 to aligner\.descent, found 6 and 5"),
        ("--aligner.encoder magic", r"aligner\.encoder must be one of .*probe.*, found 'magic'"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(flags, message):
    with pytest.raises(report.RunError, match=message):
        experiment.read_config(flags.split())


def test_what_the_data_cannot_do_is_refused_at_once(tmp_path):
    for flags, message in (
        (("--recipe.batch-size", "5000"), "must not exceed the 1170 training examples"),
        (("--skip", "magic"), "skip must name some of"),
    ):
        with pytest.raises(report.RunError, match=message):
            experiment.main(experiment.read_config([*TOY, "--out", str(tmp_path), *flags]))
