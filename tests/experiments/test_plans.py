"""What a dry run foretells is set beside what the command takes, which may have been measured before."""

import plans
import pytest


@pytest.fixture
def commands(monkeypatch):
    """Every run takes 4 seconds of matching, of which 6 and 2 are foretold."""
    given = []

    def command(folder, method, *more, limit):
        given.append((method, *more))
        return {"seconds": 6.0, "compilation": 2.0}, "  matching by anything: 4.0 s\n"

    monkeypatch.setattr(plans, "command", command)
    return given


def test_seconds_may_be_those_of_an_earlier_run(commands, tmp_path):
    few = {"networks": ("mlp",), "methods": ("weight_matching",), "examples": 4, "out": str(tmp_path)}
    panels = plans.main(plans.Config(**few))["panels"]
    ratio = lambda panels: panels["foretold / seconds"]["weight_matching"]["mlp"]["mean"]
    assert ratio(panels) == 2 and commands == [("weight_matching",), ("weight_matching", "--dry-run")]
    commands.clear()
    again = plans.main(plans.Config(**few, measured=tmp_path / "plans" / "results.json"))["panels"]
    assert (
        again["seconds"] == panels["seconds"] and ratio(again) == 2 and commands == [("weight_matching", "--dry-run")]
    )
