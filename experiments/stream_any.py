"""What a search for the aligner of any network should see: the same networks all along, or fresh ones in every round.

    python experiments/stream_any.py                  about half an hour on one CPU core
    python experiments/stream_any.py --preset smoke   a check in minutes

The searches of `train_any.py` align equally many pairs: of the same networks of every setting, of fresh ones of every
setting in each round, or of fresh ones of a few settings in turn. What each holds half way and in the end, without any
choice, is judged on networks of the settings for validation. Writes runs/stream-any/: config.json, results.json.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import study
import train_any
from train_any import TRAINED, VALIDATION, Barrier

from dwalign import deepalign, report
from dwalign.bounds import Count, Several, settings
from dwalign.program import take_examples


@settings
class Config(train_any.Config):
    """Compare what searches see."""

    mixture: tuple[str, ...] = (
        "MLP 4 x 64",
        "GELU MLP 3 x 40, rotated digits",
        "wide GRU",
        "LSTM, rotated digits",
    )
    networks: study.Networks = study.Networks(train=8, validation=16, pairs=20, chunk=20)
    """of a setting in a round, and to judge."""
    searches: Count = 3
    """of each kind, each from a seed and with networks of its own."""
    steps: Several = 60
    """of those that see every setting."""
    every: Several = 6
    """steps a round."""
    few: Count = 2
    """settings in a round of those that see some in turn."""
    parts: Count = 12
    """of networks of each setting; where a search asks for more, it begins again."""


SMOKE: study.Changes = {**train_any.SMOKE, "networks.validation": 4, "searches": 2, "steps": 4, "every": 2, "few": 1}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, smoke=SMOKE)


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "stream-any")
    network, data = train_any.open_setting(config, TRAINED[config.mixture[0]])
    model = deepalign.make_model(network, config.aligner, take_examples(data.train.inputs, slice(config.refine_images)))
    start = deepalign.init_state(model, config.training, network.init(jax.random.key(0)), 0).variables
    validation = {name: train_any.held_out(config, VALIDATION[name]) for name in config.validation}
    streams = [functools.cache(train_any.stream(config, TRAINED[name])) for name in config.mixture]

    whole = len(config.mixture)
    # settings a round, steps, steps a round: equally many pairs in all
    kinds = {
        "the same networks": (whole, config.steps, config.steps),
        "fresh networks": (whole, config.steps, config.every),
        "fresh networks, few settings": (config.few, config.steps * whole // config.few, config.every),
    }
    judged = lambda variables: [barrier(variables) for barrier in validation.values()]
    found: dict[str, list[list[float]]] = {"start": [judged(start)]}
    for seed in range(config.searches):
        for kind, (few, steps, every) in kinds.items():
            search = deepalign.make_search(
                train_any.mixture([functools.partial(part_of, config, seed, part) for part in streams], few),
                step=config.step,
                every=every,
            )
            state = deepalign.begin_search(start, seed)
            for step in range(1, steps + 1):
                state, _ = search(state)
                if step in (steps // 2, steps):
                    when = kind if step == steps else f"{kind}, half way"
                    found.setdefault(when, []).append(judged(state.variables))
        write(folder, settings, config, found)
    return write(folder, settings, config, found)


def part_of(config: Config, seed: int, stream: Callable[[int], Barrier], number: int) -> Barrier:
    """Searches begin at networks of their own; where those that are trained end they begin again."""
    return stream((number + seed * config.parts // config.searches) % config.parts)


def write(folder, settings, config: Config, found: dict[str, list[list[float]]]) -> dict[str, Any]:
    """What is known so far, as a file and as a table."""
    names = [*config.validation, "mean logarithm"]
    rows = {kind: np.array(values) for kind, values in found.items()}
    rows = {kind: np.column_stack([values, np.log(values + 0.01).mean(1)]) for kind, values in rows.items()}
    series = {
        kind: {name: report.point(values[:, k : k + 1]) for k, name in enumerate(names)}
        for kind, values in rows.items()
    }
    results = {
        "experiment": "stream-any",
        "question": "What should a search for an aligner see?",
        "config": settings,
        "environment": report.environment(),
        "axis": "networks",
        "settings": names,
        "panels": {"barrier": series},
        "caption": f"stream-any: means and 95 % intervals over {config.searches} searches, each of which aligns "
        f"{config.steps * len(config.mixture) * (config.networks.train // 2)} pairs of {len(config.mixture)} settings, "
        f"on {config.networks.validation // 2} pairs of each setting.",
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results), flush=True)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
