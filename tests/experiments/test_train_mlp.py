"""The main job at toy size: one call writes everything, a second one reuses the zoo, bad settings are refused."""

import importlib.util
import json
from pathlib import Path

import pytest

from dwalign import report

FILE = Path(__file__).parents[2] / "experiments" / "train_mlp.py"
TOY = """
    --preset smoke --widths 6 6 --train-networks 6 --validation-networks 2 --test-pairs 2 --zoo-chunk 4 --epochs 2
    --channels 8 --features 8 --depth 1 --steps 4 --validate-every 2 --target-pairs 2 --target-steps 1
    --refine-images 64 --sinkhorn-iterations 10 --chunk 2 --batch-size 2
""".split()


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("train_mlp", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_main_job(experiment, tmp_path, capsys):
    config = experiment.read_config([*TOY, "--out", str(tmp_path)])
    experiment.main(config)
    folder = tmp_path / "mlp-digits"
    results = report.read_results(folder / "results.json")
    assert {"naive", "weight_matching", "sinkhorn", "deep_align", "deep_align+refine"} <= set(results["methods"])
    assert results["methods"]["naive"]["barrier"]["mean"] > 0
    for name in ("interpolation", "interpolation-all", "quality", "training", "scores"):
        assert (folder / f"{name}.png").stat().st_size > 5000
    assert len((folder / "seed-0" / "metrics.jsonl").read_text().splitlines()) == 2
    assert "Deep-Align" in capsys.readouterr().out

    # few programs to compile, with something left for targets to compare
    kept = {"naive", "weight_matching", "deep_align"}
    skipped = sorted(set(results["methods"]) - kept)
    experiment.main(experiment.read_config([*TOY, "--out", str(tmp_path), "--resume", "--skip", *skipped]))
    assert "read from the cache" in capsys.readouterr().out
    again = report.read_results(folder / "results.json")
    values = lambda r: r["methods"]["deep_align"]["barrier"]["values"]
    assert values(again) == values(results)
    assert set(results["methods"]) - set(again["methods"]) == set(skipped)
    assert 0 < len(again["targets"]) < len(results["targets"])

    with pytest.raises(report.RunError, match="skip must name some of"):
        experiment.main(experiment.read_config([*TOY, "--out", str(tmp_path), "--resume", "--skip", "magic"]))
    with pytest.raises(report.RunError, match="steps was 4, is 6"):
        experiment.main(experiment.read_config([*TOY, "--out", str(tmp_path), "--resume", "--steps", "6"]))


def test_presets_and_overrides(experiment):
    assert experiment.read_config([]).widths == (32, 32, 32)
    assert experiment.read_config(["--dataset", "mnist"]).widths == (128, 128, 128)
    paper = experiment.read_config(["--preset", "paper", "--steps", "7"])
    assert paper.train_networks > 5000 and paper.steps == 7
    assert json.dumps(experiment.read_config(["--encoder", "probe"]).encoder) == '"probe"'


def test_foreign_encoder(experiment):
    with pytest.raises(SystemExit):
        experiment.read_config(["--encoder", "magic"])


def test_what_would_fail_after_hours_is_refused_at_once(experiment, tmp_path):
    for flags, message in (
        ("--test-pairs 6 --chunk 4", "give --chunk 2"),
        ("--validate-every 0", "validate_every at least 1"),
        ("--validation-networks 1", "validation_networks at least 2"),
        ("--points 4", "points must be odd and at least 3, found 4"),
        ("--descent 5 --unrolled 6", "unrolled must be from 0 to descent, found 6 and 5"),
    ):
        with pytest.raises(report.RunError, match=message):
            experiment.read_config(flags.split())
    config = experiment.read_config([*TOY, "--out", str(tmp_path), "--zoo-batch-size", "5000"])
    with pytest.raises(experiment.zoo.ZooError, match="must not exceed the 1170 training examples"):
        experiment.main(config)
