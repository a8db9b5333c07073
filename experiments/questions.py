"""Questions that the paper leaves open, one at a time, on MLPs for digits.

    python experiments/questions.py --question zoo_size         how many training networks?
    python experiments/questions.py --question losses           which of the three losses for which task?
    python experiments/questions.py --question augmentation     which augmentations, how strong?
    python experiments/questions.py --question transfer         wider and longer-trained networks, without retraining
    python experiments/questions.py --question sizes            one aligner for networks of many widths and depths
    python experiments/questions.py --question encoders         dws, graph, probe for the same time
    python experiments/questions.py --question refinement       train on refined pairs, or through refinement
    python experiments/questions.py --question descent          what do unrolled steps add, and what training?
    python experiments/questions.py --question pay_off          after how many pairs has an aligner paid for itself?
    python experiments/questions.py --question equivariance     the same capacity without it

Each takes 5 to 15 minutes on 2 CPU cores and writes runs/questions-<question>/: config.json, results.json, figure.png.
Aligners are the graph encoder's unless said otherwise, with fewer steps than in train_mlp.py.
"""

from collections.abc import Callable
from typing import Any

import study
from asked.bench import Answer, Bench, Config, make_network
from asked.cost import pay_off
from asked.reach import sizes, transfer, zoo_size
from asked.symmetry import equivariance
from asked.training import augmentation, descent, encoders, losses, refinement

from dwalign import report, zoo

QUESTIONS: dict[str, Callable[[Bench], Answer]] = {
    one.__name__: one
    for one in (zoo_size, losses, augmentation, transfer, sizes, encoders, refinement, descent, pay_off, equivariance)
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    smoke: study.Changes = {**study.SMOKE, "zoo_sizes": (10, 20), "minutes": 0.05}
    return study.read_options(Config, args, __doc__, smoke=smoke)


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    experiment = f"questions-{config.question}"
    folder, settings = study.open_folder(config, experiment)
    data = zoo.load("digits")
    most = {"networks.train": max(config.zoo_sizes)} if config.question == "zoo_size" else {}
    nets = study.make_zoo(study.change(config, most), make_network(config.widths), data)
    axis, found, panels = QUESTIONS[config.question](Bench(config, folder, data, nets))
    results = {
        "experiment": experiment,
        "question": QUESTIONS[config.question].__doc__,
        "config": settings,
        "environment": report.environment(),
        "axis": axis,
        "settings": found,
        "panels": panels,
        "logarithmic": config.question == "pay_off",
        "caption": f"{experiment}: means and 95 % intervals over {config.networks.pairs} held-out pairs of networks "
        f"and {config.seeds} aligner {'seed' if config.seeds == 1 else 'seeds'}.",
    }
    report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "figure.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
