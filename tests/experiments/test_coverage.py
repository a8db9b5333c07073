"""The coverage study on models of Flax, which is always there, and its judgement of specs that are wrong."""

import json

import coverage
import jax
import jax.numpy as jnp
import pytest
from covered import nnx_modules, verdict, workers
from covered.case import Case, drawn

from dwalign import report
from dwalign.program import Certificate
from dwalign.symmetry import Axes, PermutationSpec


def test_a_model_of_flax(tmp_path, capsys):
    """Of nnx, whose state holds counters and keys beside weights."""
    results = coverage.main(coverage.Config(only="nnx_modules/Linear*", recover=0, out=str(tmp_path)))
    (row,) = results["models"]
    assert row["verdict"] == "complete" and row["recovered"] is None
    assert row["groups"] == 2 and row["moving"] > 0.9 and row["error_float64"] < 1e-12
    assert json.loads((tmp_path / "coverage" / "results.json").read_text())["models"] == results["models"]
    assert report.coverage_line(results) in capsys.readouterr().out


def test_kinds_of_a_model_of_flax(tmp_path, monkeypatch):
    """In this process, which has imported what its model asks for."""
    row_of = lambda model, **options: verdict.judge_kinds(nnx_modules.MODELS[model](), **options)
    alone = lambda jobs, seconds, *, kinds, **options: [(*job, row_of(job[1], **options)) for job in jobs if kinds]
    monkeypatch.setattr(coverage, "judged", alone)
    results = coverage.main(coverage.Config(only="nnx_modules/LoRALinear*", kinds=True, out=str(tmp_path)))
    (row,) = results["models"]
    assert row["verdict"] == "complete" and row["kinds"]["linear"] == 1
    assert row["free"] > 0 and "1 linear" in report.coverage_table(results)


def test_a_model_that_takes_too_long_does_not_end_the_run():
    jobs = [("linen", "ConvLocal"), ("linen", "RNN of GRUCell")]
    rows = [row for _, _, row in workers.judged(jobs, 0.01, recover=0, kinds=False)]
    assert [row["verdict"] for row in rows] == ["failed", "failed"] and "longer than 0.01" in rows[0]["message"]


def test_a_hidden_permutation_is_found():
    key = jax.random.key(0)
    params = {"w": jax.random.normal(key, (3, 6)), "v": jax.random.normal(key, (6, 2))}
    spec = PermutationSpec({"w": Axes(None, "h0"), "v": Axes("h0", None)}, {"h0": 6})
    assert verdict.recovered(spec, params)


def test_a_wrong_spec_is_called_wrong_whatever_the_certificate_says(monkeypatch):
    """Positions of the inputs are permuted as if they were hidden units."""
    params = {"w": jax.random.normal(jax.random.key(0), (6, 3))}
    case = Case(lambda params, x: x @ params["w"], params, (jax.random.normal(jax.random.key(1), (4, 6)),))
    monkeypatch.setattr(verdict, "infer_spec", lambda *_: PermutationSpec({"w": Axes("h0", None)}, {"h0": 6}))
    monkeypatch.setattr(verdict, "certify", lambda *_, **__: Certificate(0.0))
    assert verdict.judge(case, recover=0)["verdict"] == "wrong"


def test_constants_are_drawn_and_all_else_is_kept():
    params = {
        "bias": jnp.zeros(5),
        "scale": jnp.ones(5),
        "kernel": jnp.arange(6.0).reshape(2, 3),
        "count": jnp.arange(1),
    }
    found = drawn(params)
    assert found["bias"].std() > 0 and found["scale"].std() > 0 and found["scale"].min() > 0
    assert (found["kernel"] == params["kernel"]).all() and found["count"] is params["count"]


def test_nothing_that_matches_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="--list"):
        coverage.main(coverage.Config(only="no/such", out=str(tmp_path)))
