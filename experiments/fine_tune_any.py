"""What twenty networks of a setting make of the aligner that ships: fine-tuned, and trained from nothing on the same.

    python experiments/fine_tune_any.py                   after train_any.py, whose pairs and other methods it takes
    python experiments/fine_tune_any.py --again           keeps its barriers, beside what train_any.py found last
    python experiments/fine_tune_any.py --preset smoke    a check in minutes
    python experiments/fine_tune_any.py --unseen "GRU, rotated digits" mixer

Sixteen networks are learned from and four choose; pairs that are judged are those of train_any.py, which nothing here
sees before. Writes runs/any-fine-tuned/: config.json, an aligner of each kind a setting, results.json, figure.png.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import study
import train_any
from train_any import BASELINES, UNSEEN, Setting, on_pairs, open_setting

from dwalign import deepalign, report, zoo
from dwalign.bounds import Amount, Count, settings
from dwalign.deepalign import deep_align
from dwalign.evaluation import Measured, fine_tune, mean_barrier
from dwalign.program import take_examples
from dwalign.symmetry import take_networks

BESIDE = (*map(report.display_name, map(str, BASELINES)), "any on inputs")
TUNED = ("fine-tuned", "from nothing")


@settings
class Config(train_any.Config):
    """Fine-tune the aligner that ships on few networks of a setting, and judge it beside what it is without."""

    few: study.Networks = study.Networks(train=16, validation=4, pairs=0, chunk=20)
    """of a setting, to learn from and to choose by."""
    tries: Amount = 24
    """of the search that fine-tuning is."""
    nothing: deepalign.AlignerConfig = deepalign.AlignerConfig()
    """what is trained from nothing."""
    training: deepalign.Optimisation = deepalign.Optimisation(steps=100, batch_size=8)
    """likewise."""
    validate_every: Count = 25


SMOKE: study.Changes = {
    **train_any.SMOKE,
    "few.train": 4,
    "few.validation": 2,
    "few.chunk": 6,
    "nothing.probes": 8,
    "training.steps": 2,
    "training.batch_size": 2,
    "validate_every": 1,
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, smoke=SMOKE)


def judge(config: Config, setting: Setting, folder: Path) -> dict[str, Measured]:
    """Both aligners, made on the few networks of the setting, on the pairs of `train_any.judge`."""
    network, data = open_setting(config, setting)
    nets = study.make_zoo(study.change(config, {"networks": config.few}), network, data)
    train, validation = study.to_device((data.train, data.validation))
    few = take_examples(train, slice(config.refine_images))

    tuned = fine_tune(
        network,
        nets.train,
        nets.validation,
        few,
        held_out=validation,
        folder=folder / "fine-tuned",
        tries=config.tries,
        resume=config.resume,
    )
    model = deepalign.make_model(network, config.nothing, few.inputs)
    one, other = (take_networks(nets.validation, index) for index in zoo.held_out_pairs(config.few.validation))
    chosen = mean_barrier(network, one, other, validation, renew=few.inputs)
    nothing = deepalign.train_aligner(
        model,
        deepalign.make_step(model, network, nets.train, train, optimisation=config.training),
        deepalign.init_state(model, config.training, take_networks(nets.train, 0), 0),
        steps=config.training.steps,
        validate=lambda aligner: chosen(deep_align.using(aligner=aligner)),
        validate_every=config.validate_every,
        folder=folder / "nothing",
        info=deepalign.describe(network, config.nothing, few.inputs),
        resume=config.resume,
    )
    made = zip(TUNED, (tuned.aligner, nothing.aligner), strict=True)
    methods = [dataclasses.replace(deep_align.using(aligner=one), name=name) for name, one in made]
    return on_pairs(config, network, data, study.make_test_zoo(config, network, data).test, methods)


def measured_before(config: Config, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The barriers in OUT/any: of what needs no training, and of what ships as it is, on the same pairs."""
    before = report.read_json(Path(config.out) / "any" / "results.json")
    same = ("recipe", "networks", "points", "refine_images")
    if other := [name for name in same if before["config"][name] != settings[name]]:
        raise report.RunError(f"{config.out}/any must be a run with the same {other[0]}, found another; run it again")
    if missing := sorted(set(config.unseen) - set(before["settings"])):
        raise report.RunError(f"{config.out}/any must hold {missing}, found {before['settings']}; run it on these")
    return {name: before["panels"]["barrier"][name] for name in BESIDE}


def kept_barriers(config: Config) -> dict[str, dict[str, Any]]:
    """What aligners that learned from the settings left, by the run in OUT/any-fine-tuned."""
    before = report.read_json(Path(config.out) / "any-fine-tuned" / "results.json")
    if missing := sorted(set(config.unseen) - set(before["settings"])):
        raise report.RunError(
            f"{config.out}/any-fine-tuned must hold {missing} to keep what they left, found {before['settings']}; run "
            "it on these without again, or name others by unseen"
        )
    return {method: before["panels"]["barrier"][method] for method in TUNED}


def write_along(
    config: train_any.Config,
    folder: Path,
    about: dict[str, Any],
    series: dict[str, dict[str, Any]],
    judge: Callable[[str], Mapping[str, Any]],
) -> dict[str, Any]:
    """What results.json holds, written setting by setting, and its figure.

    Args:
      about: of the experiment; it says what the rest means.
      series: by method what was measured before, which `judge` adds to: from a setting to `report.point` by method.
    """
    done: list[str] = []
    for name in config.unseen:
        for method, point in judge(name).items():
            series.setdefault(method, {})[name] = point
        done.append(name)
        results = about | {
            "environment": report.environment(),
            "axis": "networks",
            "settings": done,
            "panels": {"barrier": {method: {name: points[name] for name in done} for method, points in series.items()}},
            "logarithmic": True,
        }
        report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "figure.png")
    print(report.series_table(results))
    return results


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    kept = kept_barriers(config) if config.again else {}
    folder, settings = study.open_folder(config, "any-fine-tuned")
    about = {
        "experiment": "any-fine-tuned",
        "question": "What do twenty networks of a setting make of the aligner that ships?",
        "config": settings,
        "caption": f"any-fine-tuned: means and 95 % intervals over {config.networks.pairs} held-out pairs. Of "
        f"{config.few.train + config.few.validation} networks {config.few.validation} choose: fine-tuned is the "
        f"best of {config.tries} tries, on inputs of the data; from nothing is the default aligner, trained for "
        f"{config.training.steps} steps.",
    }

    def barriers(name):
        if config.again:
            return {method: points[name] for method, points in kept.items()}
        found = judge(config, UNSEEN[name], folder / name)
        return {method: report.point([np.ravel(one.curve.barrier)]) for method, one in found.items()}

    return write_along(config, folder, about, measured_before(config, settings), barriers)


if __name__ == "__main__":
    study.run(main, read_config)
