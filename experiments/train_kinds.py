"""What do signs add to an aligner? Networks of tanh layers, where every hidden unit may be flipped.

    python experiments/train_kinds.py                  about twelve minutes on one CPU core
    python experiments/train_kinds.py --preset smoke   a check in about a minute

One zoo of MLPs on digits and one aligner for each way to see them: by the order of units alone, by that after
`fix_signs` has brought signs to one form, and with signs (`infer_spec(..., kinds="all")`). All of them train alike, and
take the same held-out pairs as weight matching does.
Writes runs/kinds-aligners/: config.json, results.json, aligners.png and a folder for each aligner.
"""

from typing import Any

import jax
import study
from kinds import ALL, FIXED, ORDER
from paired.cases import Tanh, of_digits
from paired.pairs import with_all_kinds

from dwalign import deepalign, report, zoo
from dwalign.bounds import Count, settings
from dwalign.deepalign import deep_align
from dwalign.matching import chain, gauged, matched, naive, weight_matching
from dwalign.networks import fix_signs
from dwalign.program import take_examples
from dwalign.symmetry import take_networks

FOLDERS = {ORDER: "order", FIXED: "fixed", ALL: "kinds"}


@settings
class Config(study.Options):
    """Train and judge aligners for networks with signs."""

    widths: tuple[Count, ...] = (32, 32, 32)
    networks: study.Networks = study.Networks(train=300, validation=20, pairs=40, chunk=100)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="graph", channels=32, descent=5)
    training: deepalign.Optimisation = deepalign.Optimisation(steps=600, batch_size=8)
    losses: deepalign.LossWeights = deepalign.LossWeights(alignment=0.0)
    """see train_mlp.py."""


SMOKE: study.Changes = {**study.SMOKE, "aligner.descent": 1, "target_pairs": 0}


def ways(nets: zoo.Zoo, inputs: jax.Array) -> dict[str, zoo.Zoo]:
    """The zoo as it is, with signs of one form, and in its gauge with what that leaves open."""
    full = with_all_kinds(nets.network, take_networks(nets.test, 0), inputs)
    same = jax.jit(jax.vmap(fix_signs))
    changed = lambda network, change: nets._replace(
        network=network, train=change(nets.train), validation=change(nets.validation), test=change(nets.test)
    )
    return {
        ORDER: nets,
        FIXED: changed(nets.network, same),
        ALL: changed(matched(full), lambda networks: jax.device_put(gauged(full, networks)[1])),
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "kinds-aligners")
    data = zoo.load("digits")
    train, validation, test = study.to_device((data.train, data.validation, data.test))
    few = take_examples(train, slice(config.refine_images))
    nets = study.make_zoo(config, of_digits(Tanh(config.widths)), data)

    refined = study.refinement(config)
    panels: dict[str, dict[str, dict[str, Any]]] = {"barrier": {}, "midpoint accuracy": {}}
    for way, here in ways(nets, train.inputs[:2]).items():
        aligners = study.train_aligners(config, here, train, few, validation, folder / FOLDERS[way])
        passes = [deep_align.using(aligner=trained.aligner) for trained in aligners]
        fixed = [naive, weight_matching, chain(weight_matching, refined)]
        learned = [[predict, chain(predict, refined)] for predict in passes]
        measured = study.judge(config, here, fixed, learned, test, train)
        for method in [*fixed, *learned[0]]:
            curves = [one.curve for one in measured[str(method)]]
            for panel, values in {
                "barrier": [one.barrier for one in curves],
                "midpoint accuracy": [one.midpoint_accuracy for one in curves],
            }.items():
                panels[panel].setdefault(way, {})[method.label] = report.point(values)
        print(f"{way}: judged", flush=True)

    results = {
        "experiment": "kinds-aligners",
        "question": "What do signs add to an aligner?",
        "config": settings,
        "environment": report.environment(),
        "axis": "method",
        "settings": list(panels["barrier"][ORDER]),
        "panels": panels,
        "caption": f"kinds-aligners: MLPs of tanh layers on digits, {config.networks.train} of them for training; "
        f"means and 95 % intervals over {config.networks.pairs} held-out pairs, full test set.",
    }
    report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "aligners.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: study.read_options(Config, args, __doc__, smoke=SMOKE))
