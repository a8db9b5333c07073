"""Tables: every method in one order under one name, every number from the results."""

import re

import pytest

from dwalign.report import display_name, in_order, markdown_table, text_table


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown(results):
    table, caption, targets = markdown_table(results).split("\n\n")
    header, rule, *body = table.splitlines()
    assert cells(header) == ["method", "barrier", "AUC", "midpoint accuracy", "seconds a pair"]
    assert set(rule) <= set("|- ") and len(cells(rule)) == 5
    assert [cells(row)[0] for row in body] == [
        "naive",
        "weight matching",
        "activation matching",
        "Sinkhorn re-basin",
        "Deep-Align",
        "Deep-Align + refinement",
    ]
    barrier = results["methods"]["deep_align"]["barrier"]
    low, high = barrier["ci95"]
    assert cells(body[4])[1] == f"{barrier['mean']:.3f} [{low:.3f}, {high:.3f}]"
    assert cells(body[4])[4] == "0.010 [0.0090, 0.011]"
    assert caption.startswith("mlp-made-up: means and 95 % intervals over 4 held-out pairs and 3 aligner seeds")
    assert "iterations" not in caption
    shorter = markdown_table(results | {"config": {"sinkhorn_iterations": 20}}).split("\n\n")[1]
    assert shorter.endswith("Sinkhorn re-basin takes 20 iterations here, not 1000.")
    assert [cells(row)[-1] for row in targets.splitlines()[2:]] == ["met", "MISSED"]
    assert [cells(row)[1] for row in targets.splitlines()[2:]] == ["0.8 x", "0.4 x"]


def test_text_says_the_same(results):
    numbers = lambda text: re.findall(r"\d+\.\d+", text)
    assert sorted(numbers(text_table(results))) == sorted(numbers(markdown_table(results)))
    _, table, targets = text_table(results).split("\n\n")
    lines = table.splitlines()
    assert lines[0].index("barrier") == lines[2].index(f"{results['methods']['naive']['barrier']['mean']:.3f}")
    assert "MISSED" in targets


def test_one_value_has_no_interval(results):
    results["methods"]["naive"]["seconds_per_pair"] = {"mean": 12.3, "ci95": [12.3, 12.3], "values": [[12.3]]}
    assert cells(markdown_table(results).splitlines()[2])[-1] == "12"


def test_without_targets(results):
    del results["targets"]
    assert "MISSED" not in text_table(results) and "target" not in markdown_table(results)


def test_a_ratio_to_zero(results):
    results["targets"][0]["ratio"] = None
    assert "| 0.8 x | - | met |" in markdown_table(results)


@pytest.mark.parametrize("ratio, shown", [(0.01079, "0.0108 x"), (0.2, "0.200 x"), (33.74, "33.74 x")])
def test_a_ratio_can_be_told_from_its_limit(results, ratio, shown):
    results["targets"][0]["ratio"] = ratio
    assert f"| 0.8 x | {shown} | met |" in markdown_table(results)


def test_names():
    assert display_name("weight_matching@5+sinkhorn@100") == (
        "weight matching (best of 5) + Sinkhorn re-basin (100 iterations)"
    )
    assert display_name("something_new") == "something_new"


def test_order():
    ordered = [
        "naive",
        "weight_matching",
        "weight_matching@5",
        "activation_matching_correlation",
        "sinkhorn@100",
        "sinkhorn",
        "something_new",
        "weight_matching+sinkhorn",
        "deep_align",
        "deep_align+refine@5",
        "deep_align+refine@20",
        "deep_align+refine",
    ]
    assert in_order(reversed(ordered)) == ordered
