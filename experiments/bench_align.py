"""What a second `align` costs beside the function that a user would jit: every method that compiles.

    python experiments/bench_align.py      some minutes, most of them compilation

Two randomly initialised MLPs, on arrays that are on the device. Calls of both alternate, medians are compared; the
first call of `align`, certificate and compilation included, is told apart. Writes runs/bench-align/: config.json,
results.json.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro

import dwalign
from dwalign import deepalign, report
from dwalign.bounds import Count, settings
from dwalign.networks import mlp
from dwalign.program import Data

NETWORKS = {"MLP 64-32-32-32-10": (64, (32,) * 3, 10), "MLP 784-128-128-128-10": (784, (128,) * 3, 10)}
ALIGNER = deepalign.AlignerConfig("graph", channels=32, depth=2, features=32, updates=3)


@settings
class Config:
    """Time second calls."""

    out: str = "runs"
    methods: tuple[str, ...] = (
        "features",
        "activation_matching",
        "activation_matching_correlation",
        "straight_through@20",
        "sinkhorn@50",
        "refine",
        "activation_matching_correlation+refine",
        "deep_align",
    )
    examples: Count = 1000
    repeats: Count = 15


def seconds(run: Callable[[], Any]) -> float:
    """Of one call until its result is there, on the processor: what else runs on the machine does not count."""
    begin = time.process_time()
    jax.block_until_ready(run())
    return time.process_time() - begin


def measure(config: Config, network: dwalign.Network, name: str) -> dict[str, float]:
    """Of one method: the first call, later ones, and those of its jitted function."""
    a, b = (network.init(jax.random.key(seed)) for seed in range(2))
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((config.examples, *network.example.shape[1:])).astype(np.float32)
    data = Data(jnp.asarray(inputs), jnp.asarray(rng.integers(0, 10, config.examples)))
    method = dwalign.find_method(name)
    if method.needs == "aligner":
        model = deepalign.make_model(network, ALIGNER, data.inputs)
        method = method.using(aligner=deepalign.Aligner(model, deepalign.init_variables(model, a, jax.random.key(2))))
    key = jax.random.key(3)
    ours = lambda: dwalign.align(network, a, b, method, data=data, key=key).perms
    jitted = jax.jit(lambda a, b, data, key: method(network, a, b, data=data, key=key).perms)
    alone = lambda: jitted(a, b, data, key)
    first = seconds(ours)
    alone()
    pairs = [(seconds(ours), seconds(alone)) for _ in range(config.repeats)]
    again, compiled = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "first call, s": first,
        "later call, ms": 1000 * again,
        "jitted function, ms": 1000 * compiled,
        "later / jitted": again / compiled,
    }


def main(config: Config) -> dict[str, Any]:
    """Run the benchmark; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "bench-align", dataclasses.asdict(config))
    panels: dict[str, Any] = {}
    for name, shape in NETWORKS.items():
        network = mlp(*shape)
        rows: dict[str, dict[str, Any]] = {}
        for method in config.methods:
            found = measure(config, network, method)
            print(
                f"{name}, {method}: " + ", ".join(f"{label} {value:.4g}" for label, value in found.items()), flush=True
            )
            for label, value in found.items():
                rows.setdefault(label, {})[method] = report.point([[value]])
        panels[name] = rows
    results = {
        "experiment": "bench-align",
        "config": {"examples": config.examples, "repeats": config.repeats, "networks": list(NETWORKS)},
        "environment": report.environment(),
        "axis": "method",
        "settings": list(config.methods),
        "panels": panels,
        "caption": (
            f"bench-align: medians of {config.repeats} calls on {config.examples} examples, in time on the processor; "
            "the first call of align includes certificate, tracing and compilation."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
