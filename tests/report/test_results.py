"""results.json: what goes in comes out, whole or not at all; anything else is refused with its place."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from dwalign.report import (
    ResultsError,
    Target,
    environment,
    make_results,
    read_results,
    results as module,
    validate,
    write_results,
)


def test_round_trip(results, tmp_path):
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_values_are_pairs_by_seeds(results, measured):
    learned, baseline = (results["methods"][name]["barrier"] for name in ("deep_align", "sinkhorn"))
    assert np.shape(learned["values"]) == (3, 4) and np.shape(baseline["values"]) == (1, 4)
    expected = [run.curve.barrier for run in measured["deep_align"]]
    np.testing.assert_allclose(learned["values"], expected, rtol=1e-5)
    assert learned["mean"] == pytest.approx(np.mean(expected))
    assert learned["ci95"][0] < learned["mean"] < learned["ci95"][1]
    assert results["methods"]["sinkhorn"]["seconds_per_pair"]["mean"] == pytest.approx(0.01)


def test_curve_is_the_mean_with_its_interval(results, measured):
    curve = results["methods"]["deep_align"]["curve"]
    loss = np.stack([run.curve.loss for run in measured["deep_align"]])
    np.testing.assert_allclose(curve["loss"], loss.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(curve["lambdas"], [0, 0.25, 0.5, 0.75, 1])
    low, high = curve["loss_ci95"]
    assert low[2] < curve["loss"][2] < high[2] and low[0] == pytest.approx(high[0])


def test_lists_of_numbers_take_one_line(results, tmp_path):
    write_results(tmp_path / "results.json", results)
    text = (tmp_path / "results.json").read_text()
    assert '"widths": [32, 32]' in text and text.endswith("}\n")
    assert len(text.splitlines()) < 60 * len(results["methods"])


def test_environment():
    found = environment()
    assert 1 <= found["cores"] <= os.cpu_count() and "jax" in found["packages"] and found["python"].count(".") == 2
    text = json.dumps(found)
    assert socket.gethostname() not in text and str(Path.home()) not in text and "/" not in text


def test_targets(results):
    met, missed = results["targets"]
    assert {"text", "ratio", "limit", "value", "met"} <= set(met)
    means = {name: method["barrier"]["mean"] for name, method in results["methods"].items()}
    assert met["against"] == "activation_matching", "the better of the others"
    assert met["value"] == means["deep_align"] and met["limit"] == 0.8 * means["activation_matching"]
    assert met["ratio"] == pytest.approx(means["deep_align"] / means["activation_matching"]) and met["met"] is True
    assert missed["met"] is False and missed["ratio"] > 0.4
    assert met["text"] == "barrier of Deep-Align: at most 0.8 x activation matching"


def test_targets_need_their_methods(measured):
    with pytest.raises(ValueError, match=r"\['gone'\] must be among the measured methods"):
        make_results("e", {}, {}, measured, [Target("deep_align", "barrier", 1.0, ["gone"])])
    with pytest.raises(ValueError, match="metric must be one of"):
        make_results("e", {}, {}, measured, [Target("deep_align", "midpoint_accuracy", 1.0, ["naive"])])


def test_infinite_losses_name_the_method(measured):
    run = measured["sinkhorn"][0]
    broken = run._replace(curve=run.curve._replace(loss=run.curve.loss * np.nan))
    with pytest.raises(ValueError, match=r"results of sinkhorn.*finite"):
        make_results("e", {}, {}, {**measured, "sinkhorn": [broken]})


def test_truncated(results, tmp_path):
    file = tmp_path / "results.json"
    write_results(file, results)
    text = file.read_text()
    for end in (0, 1, len(text) // 2, len(text) - 3):
        file.write_text(text[:end])
        with pytest.raises(ResultsError, match=r"results\.json must be whole JSON.*line \d+.*run its experiment again"):
            read_results(file)


def test_foreign(tmp_path):
    file = tmp_path / "results.json"
    file.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ResultsError, match="bytes that are not text"):
        read_results(file)
    file.write_text("[1, 2]")
    with pytest.raises(ResultsError, match=r"must be an object.*found list of length 2"):
        read_results(file)
    file.write_text('{"loss": 1}')
    with pytest.raises(ResultsError, match=r"'methods'\] are missing; found \['loss'\]"):
        read_results(file)
    with pytest.raises(ResultsError, match=r"gone\.json must be a results file"):
        read_results(tmp_path / "gone.json")


def set_in(tree, path, value):
    *parents, last = path
    for key in parents:
        tree = tree[key]
    if value is None:
        del tree[last]
    else:
        tree[last] = value


BROKEN = [
    (("zoo",), None, r"\['zoo'\] are missing"),
    (("experiment",), 3, "experiment must be a name, found int"),
    (("environment", "cores"), None, r"environment must hold .*\['cores'\] are missing"),
    (("methods",), [], "methods must be an object"),
    (("methods", "naive", "auc"), None, r"methods/naive must hold .*\['auc'\] are missing"),
    (("methods", "naive", "auc", "mean"), "0.1", "methods/naive/auc/mean must be a finite number, found '0.1'"),
    (("methods", "naive", "auc", "mean"), float("nan"), "methods/naive/auc/mean must be a finite number, found nan"),
    (("methods", "naive", "auc", "ci95"), [1.0], "methods/naive/auc/ci95 must be two finite numbers"),
    (("methods", "naive", "auc", "values"), [1.0, 2.0], "methods/naive/auc/values must be lists"),
    (("methods", "naive", "curve", "loss"), [1.0], "methods/naive/curve: all lines must have one value a point"),
    (("methods", "naive", "curve", "loss_ci95"), [[1.0]], "methods/naive/curve/loss_ci95 must be two lists"),
    (("targets", 0, "against"), None, r"targets/0 must hold .*\['against'\] are missing"),
    (("targets", 0, "factor"), "half", "targets/0: factor and ratio must be numbers"),
]


@pytest.mark.parametrize("path, value, message", BROKEN, ids=lambda x: str(x)[:40])
def test_schema(results, tmp_path, path, value, message):
    validate(results, "here")
    set_in(results, path, value)
    with pytest.raises(ResultsError, match=f"^here.*{message}"):
        validate(results, "here")
    with pytest.raises(ResultsError):
        write_results(tmp_path / "results.json", results)
    assert not list(tmp_path.iterdir())


def test_bands_are_optional(results):
    del results["methods"]["naive"]["curve"]["loss_ci95"]
    validate(results, "here")


@pytest.mark.parametrize("there_before", [True, False])
def test_a_failed_write_leaves_nothing_behind(results, tmp_path, monkeypatch, there_before):
    file = tmp_path / "results.json"
    if there_before:
        file.write_text("the old one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", full)
    with pytest.raises(ResultsError, match=r"results\.json must be a file that can be written.*No space left"):
        write_results(file, results)
    assert [f.name for f in tmp_path.iterdir()] == ["results.json"] * there_before
    assert not there_before or file.read_text() == "the old one"


def test_a_folder_without_permission(results, tmp_path, monkeypatch):
    """The tests may run as root, who may write anywhere."""

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ResultsError, match=r"results\.json must be a file that can be written.*Permission denied"):
        write_results(tmp_path / "results.json", results)
    assert not list(tmp_path.iterdir())


def test_no_folder(results, tmp_path):
    with pytest.raises(ResultsError, match="can be written"):
        write_results(tmp_path / "gone" / "results.json", results)


def test_config_that_json_cannot_hold(results, tmp_path):
    with pytest.raises(ResultsError, match="finite"):
        write_results(tmp_path / "results.json", results | {"config": {"rate": float("inf")}})
    assert not list(tmp_path.iterdir())
