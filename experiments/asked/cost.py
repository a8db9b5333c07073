"""When an aligner has paid for itself."""

import dataclasses
import time

import study

from asked.bench import Answer, Bench, Panels, train
from dwalign import report

PAID_PER_PAIR = (
    "weight_matching",
    "activation_matching_correlation",
    "activation_matching_correlation+refine",
    "sinkhorn",
    "weight_matching+sinkhorn",
)


def pay_off(bench: Bench) -> Answer:
    """Seconds for n pairs, end to end: an aligner with its zoo and its training, against optimisers without."""
    config = bench.config
    begin = time.perf_counter()
    study.make_zoo(dataclasses.replace(config, out=str(bench.folder / "fresh")), bench.nets.network.config, bench.data)
    after_zoo = time.perf_counter()
    aligners = train(bench, "aligner", seeds=1)
    once = time.perf_counter() - begin
    print(f"zoo {after_zoo - begin:.0f} s, aligner {once - (after_zoo - begin):.0f} s")
    methods = study.baselines(config, bench.nets.network, bench.train, bench.few)
    ours = study.learned(config, bench.nets.network, aligners[0], bench.train, bench.few, longest=False)
    chosen = {name: methods[name] for name in PAID_PER_PAIR} | {k: ours[k] for k in ("deep_align", "deep_align+refine")}
    measured = {
        name: run for name, (run,) in study.judge(config, bench.nets, bench.few, bench.test, chosen, []).items()
    }
    settings = [10, 100, 1000, 10_000, 100_000, 1_000_000]
    panels: Panels = {"seconds for all pairs": {}}
    for name, run in measured.items():
        start = once if name.startswith("deep_align") else 0.0
        label = f"{report.display_name(name)} (barrier {run.curve.barrier.mean():.3f}"
        if not start:
            # against the one of ours whose barrier is at most as high
            better = [
                k
                for k in ("deep_align", "deep_align+refine")
                if measured[k].curve.barrier.mean() <= run.curve.barrier.mean()
            ]
            saved = run.seconds.mean() - measured[better[0]].seconds.mean() if better else 0.0
            rival = report.display_name(better[0]) if better else "Deep-Align"
            label += f"; {rival} pays off after {once / saved:,.0f} pairs" if saved > 0 else f"; {rival} never pays off"
        seconds = {str(n): report.point([[start + n * run.seconds.mean()]]) for n in settings}
        panels["seconds for all pairs"][f"{label})"] = seconds
    return "pairs", settings, panels
