"""How to search for the aligner of any network: what a search should see, and how it should weigh what it finds there.

    python experiments/search_any.py                  half an hour on one CPU core, programs kept
    python experiments/search_any.py --preset smoke   a check in minutes

Searches such as that of `train_any.py` align equally many pairs. They see the same networks all along, or fresh ones in
every round; all settings, or few in turn, or more often those in which more is left, or the easy ones first. They lower
the mean logarithm of the barriers, as `train_any.py` does, or their mean, or their mean relative to the start, or the
highest. What the start leaves in each setting is known to all. What each holds half way and in the end, without any
choice, is judged on networks of the settings for validation. Writes runs/search-any/: config.json, results.json.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import study
import train_any
from train_any import SMALL, TRAINED, VALIDATION, Barrier, PyTree

from dwalign import deepalign, report
from dwalign.bounds import Count, Several, settings
from dwalign.program import take_examples


@settings
class Config(train_any.Config):
    """Compare kinds of searches."""

    mixture: tuple[str, ...] = (
        "MLP 4 x 64",
        "GELU MLP 3 x 40, rotated digits",
        "wide GRU",
        "LSTM, rotated digits",
    )
    networks: study.Networks = study.Networks(train=8, validation=16, pairs=20, chunk=20)
    """of a setting in a round, and to judge."""
    searches: Count = 5
    """of each kind, each from a seed and with networks of its own."""
    steps: Several = 60
    """of those that see every setting."""
    every: Several = 6
    """steps a round, where rounds differ."""
    few: Count = 2
    """settings in a round of those that do not see all."""
    parts: Count = 20
    """of networks of each setting; where a search asks for more, it begins again."""


SMOKE: study.Changes = {**train_any.SMOKE, "networks.validation": 4, "searches": 2, "steps": 4, "every": 2, "few": 1}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, smoke=SMOKE)


class Kind(NamedTuple):
    """A kind of searches.

    Attributes:
      settings: those that a round sees, by their numbers, from its own number and what is left in all of them.
      every: steps a round.
      fresh: whether a setting has other networks whenever it is seen.
      weigh: what is lowered, from what the start left in the settings of a round and what a try leaves.
    """

    settings: Callable[[int, np.ndarray, np.random.Generator], Sequence[int] | np.ndarray]
    every: int
    fresh: bool = False
    weigh: Callable[[np.ndarray, np.ndarray], float] = lambda start, left: train_any.mean_logarithm(left)


def kinds(config: Config) -> dict[str, Kind]:
    """Those that are compared, by name."""
    whole = len(config.mixture)
    few = min(config.few, whole)
    all_of_them = lambda number, left, random: range(whole)
    in_turn = lambda number, left, random: np.arange(number * few, (number + 1) * few) % whole
    chances = lambda left: (left + SMALL) / (left + SMALL).sum()
    by_what_is_left = lambda number, left, random: random.choice(whole, few, replace=False, p=chances(left))
    # half of the work is done once rounds of half of the steps have taken as many settings as there are
    easy_first = lambda number, left, random: np.argsort(left)[: few if number * few < whole else whole]
    relative = lambda start, left: ((left + SMALL) / (start + SMALL)).mean()
    same = Kind(all_of_them, config.steps)
    return {
        "as train_any.py": same,
        "lowers the mean": same._replace(weigh=lambda start, left: left.mean()),
        "lowers the mean relative to the start": same._replace(weigh=relative),
        "lowers the highest": same._replace(weigh=lambda start, left: left.max()),
        "easy settings first": Kind(easy_first, config.steps // 2),
        "few settings in turn": Kind(in_turn, config.every),
        "few settings, by what is left": Kind(by_what_is_left, config.every),
        "fresh networks": Kind(all_of_them, config.every, fresh=True),
        "fresh networks, few settings in turn": Kind(in_turn, config.every, fresh=True),
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "search-any")
    network, data = train_any.open_setting(config, TRAINED[config.mixture[0]])
    model = deepalign.make_model(network, config.aligner, take_examples(data.train.inputs, slice(config.refine_images)))
    start = deepalign.init_state(model, config.training, network.init(jax.random.key(0)), 0).variables
    validation = [train_any.held_out(config, VALIDATION[name]) for name in config.validation]
    # all kinds see the same networks, which are trained once
    streams = [functools.cache(train_any.stream(config, TRAINED[name])) for name in config.mixture]

    shares = {"half way": 0.5, "in the end": 1}
    found: dict[str, dict[str, list[np.ndarray]]] = {when: collections.defaultdict(list) for when in shares}
    found["in the end"]["start"].append(train_any.measure(validation, start))
    work = config.steps * len(config.mixture)
    for seed in range(config.searches):
        parts = [functools.partial(part_of, config, seed, stream) for stream in streams]
        for name, kind in kinds(config).items():
            steps, done = search(kind, parts, start, seed, step=config.step), 0
            for when, share in shares.items():
                while done < share * work:
                    aligned, variables = next(steps)
                    done += aligned
                found[when][name].append(train_any.measure(validation, variables))
            write(folder, settings, config, found)
    return write(folder, settings, config, found)


def part_of(config: Config, seed: int, stream: Callable[[int], Barrier], number: int) -> Barrier:
    """Searches begin at networks of their own; where those that are trained end they begin again."""
    return stream((number + seed * config.parts // config.searches) % config.parts)


def search(
    kind: Kind, parts: Sequence[Callable[[int], Barrier]], start: PyTree, seed: int, *, step: float
) -> Iterator[tuple[int, PyTree]]:
    """Of each step, without end: the settings that were aligned for it, and the variables that are kept."""
    random, seen = np.random.default_rng(seed), np.zeros(len(parts), int)
    at_first = train_any.measure([part(0) for part in parts], start)
    left, variables = at_first.copy(), start
    for number in itertools.count():
        # kinds of a single round compare the same tries
        state = deepalign.begin_search(variables, int(random.integers(2**31)))
        which = np.asarray(kind.settings(number, left, random))
        weigh = functools.partial(kind.weigh, at_first[which])
        lowered, found = recorded([parts[k](int(seen[k]) * kind.fresh) for k in which], weigh)
        take = deepalign.make_search(lowered, step=step)
        for _ in range(kind.every):
            state, _ = take(state)
            yield len(which), state.variables
        variables = state.variables
        left[which] = min(found, key=weigh)
        seen[which] += 1


def recorded(
    barriers: Sequence[Barrier], weigh: Callable[[np.ndarray], float]
) -> tuple[Callable[[PyTree, int], float], list[np.ndarray]]:
    """What a round lowers, and what every one of its tries will have left in each setting."""
    found: list[np.ndarray] = []

    def lowered(variables, _):
        found.append(train_any.measure(barriers, variables))
        return weigh(found[-1])

    return lowered, found


def write(folder, settings, config: Config, found: dict[str, dict[str, list[np.ndarray]]]) -> dict[str, Any]:
    """What is known so far, as a file and as a table."""
    ends = {kind: np.array(values) for kind, values in found["in the end"].items()}
    barriers = {
        name: {kind: report.point(values[:, k : k + 1]) for kind, values in ends.items()}
        for k, name in enumerate(config.validation)
    }
    logarithms = {
        when: {kind: report.point(train_any.mean_logarithm(np.array(values))[:, None]) for kind, values in one.items()}
        for when, one in found.items()
    }
    results = {
        "experiment": "search-any",
        "question": "What should a search for an aligner see, and how should it weigh what it finds?",
        "config": settings,
        "environment": report.environment(),
        "axis": "search",
        "settings": [*ends],
        "panels": {"barrier": barriers, "mean logarithm": logarithms},
        "caption": f"search-any: means and 95 % intervals over {config.searches} searches, each of which aligns "
        f"{config.steps * len(config.mixture) * (config.networks.train // 2)} pairs of {len(config.mixture)} settings, "
        f"on {config.networks.validation // 2} pairs of each setting. Barriers are those in the end. A search sees all "
        "settings and the same networks, and lowers the mean logarithm, where nothing else is said.",
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results), flush=True)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
