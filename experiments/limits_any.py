"""How much of a barrier orders of units can take away: the aligner that ships, and optimisers with time and labels.

    python experiments/limits_any.py                   after train_any.py, whose pairs and other methods it takes
    python experiments/limits_any.py --preset smoke    a check in minutes
    python experiments/limits_any.py --unseen "GRU, MNIST"

What the optimisers leave where they have many times the steps of the aligner is what an aim for it can be put beside.
Writes runs/any-limits/: config.json, results.json, figure.png.
"""

import dataclasses
from typing import Any

import numpy as np
import study
import train_any
from fine_tune_any import measured_before, write_along
from train_any import UNSEEN, Setting, on_pairs, open_setting

from dwalign import report
from dwalign.bounds import Amount, Count, settings
from dwalign.deepalign import deep_align, load_aligner
from dwalign.evaluation import Measured
from dwalign.matching import activation_matching_correlation, chain, refine, sinkhorn_rebasin
from dwalign.program import take_examples

SHIPPED = "any on inputs"
LEAST = "the best of all, pair by pair"


@settings
class Config(train_any.Config):
    """Let optimisers with labels go on from the aligner that ships, for long."""

    steps: Count = 400
    """of refinement, on as many images each as the aligner takes."""
    sinkhorn_iterations: Amount = 1000
    sinkhorn_images: Count = 64
    """of labelled ones, in each of these."""


SMOKE: study.Changes = {**train_any.SMOKE, "steps": 2, "sinkhorn_iterations": 2, "sinkhorn_images": 4}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, smoke=SMOKE)


def judge(config: Config, setting: Setting) -> dict[str, Measured]:
    """The aligner that ships and the optimisers, on the pairs of `train_any.judge`."""
    network, data = open_setting(config, setting)
    few = take_examples(study.to_device(data.train), slice(config.refine_images))
    aligner = load_aligner("any", network=network, inputs=few.inputs)
    sees = dataclasses.replace(deep_align.using(aligner=aligner), name=SHIPPED)
    refined = refine.using(steps=config.steps, images=config.aligner.images)
    optimised = sinkhorn_rebasin.using(iterations=config.sinkhorn_iterations, images=config.sinkhorn_images)
    methods = [sees, chain(activation_matching_correlation, refined), chain(sees, refined), chain(sees, optimised)]
    return on_pairs(config, network, data, study.make_test_zoo(config, network, data).test, methods)


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "any-limits")
    about = {
        "experiment": "any-limits",
        "question": "How much of the barrier can orders of units take away?",
        "config": settings,
        "caption": f"any-limits: means and 95 % intervals over {config.networks.pairs} held-out pairs. Of "
        f"{config.refine_images} images with labels refinement sees {config.aligner.images} a step, Sinkhorn "
        f"re-basin {config.sinkhorn_images}. The last method takes for each pair what leaves least on test images.",
    }
    before = measured_before(config, settings)
    # measured again here: it need not be the same program
    del before[SHIPPED]

    def barriers(name):
        found = judge(config, UNSEEN[name]).items()
        shown = {report.display_name(method): np.ravel(one.curve.barrier) for method, one in found}
        shown |= {LEAST: np.min([*shown.values()], 0)}
        return {method: report.point([values]) for method, values in shown.items()}

    return write_along(config, folder, about, before, barriers)


if __name__ == "__main__":
    study.run(main, read_config)
