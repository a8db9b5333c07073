"""When an aligner has paid for itself."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import study

from asked.bench import Answer, Bench, Panels, predict, train
from dwalign import report
from dwalign.evaluation import Measured
from dwalign.matching import activation_matching_correlation, chain, weight_matching

OURS = ("deep_align", "deep_align+refine")


def paid_off(once: float, measured: Mapping[str, Measured], ours: str) -> dict[str, dict[str, Any]]:
    """Pairs that take a method as long as `once` and the same pairs take ours.

    Only for methods that are slower a pair and merge no better.
    """
    run = measured[ours]
    return {
        report.display_name(name): report.point([[once / (other.seconds.mean() - run.seconds.mean())]])
        for name, other in measured.items()
        if name not in OURS
        and other.curve.barrier.mean() >= run.curve.barrier.mean()
        and other.seconds.mean() > run.seconds.mean()
    }


def pay_off(bench: Bench) -> Answer:
    """After how many pairs have a zoo and the training of an aligner paid off, against methods that merge no better?"""
    config = bench.config
    begin = time.perf_counter()
    study.make_zoo(dataclasses.replace(config, out=str(bench.folder / "fresh")), bench.nets.network, bench.data)
    after_zoo = time.perf_counter()
    aligners = train(bench, "aligner", {"seeds": 1})
    once = time.perf_counter() - begin
    print(f"zoo {after_zoo - begin:.0f} s, aligner {once - (after_zoo - begin):.0f} s")
    refined, rebasin = study.refinement(config), study.rebasin(config)
    predicted = predict(aligners)[0]
    paid_per_pair = [
        weight_matching,
        activation_matching_correlation,
        chain(activation_matching_correlation, refined),
        rebasin,
        chain(weight_matching, rebasin),
    ]
    methods = [*paid_per_pair, predicted, chain(predicted, refined)]
    test = study.to_device(bench.data.test)
    measured = {name: run for name, (run,) in study.judge(config, bench.nets, methods, [], test, bench.train).items()}
    found = {report.display_name(name): run for name, run in measured.items()}
    panels: Panels = {
        "barrier": {"barrier": {name: report.point([run.curve.barrier]) for name, run in found.items()}},
        "seconds a pair": {"seconds a pair": {name: report.point([run.seconds]) for name, run in found.items()}},
        "pairs after which an aligner has paid off": {
            report.display_name(name): paid_off(once, measured, name) for name in OURS
        },
    }
    return "method", list(found), panels
