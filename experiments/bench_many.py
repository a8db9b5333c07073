"""`align_many` where networks are in many pairs beside where each is in one: what encoding a network once is worth.

    python experiments/bench_many.py      some minutes

The same number of pairs is drawn from few networks, all of which are compared, and from twice as many networks as there
are pairs. Writing of Parquet is included, compilation is not: a few batches are aligned before. Networks are randomly
initialised. Writes runs/bench-many/: config.json, results.json.
"""

import dataclasses
import itertools
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import study
import tyro
from bench_align import ALIGNER, NETWORKS

from dwalign import Network, align_many, deepalign, find_method, report
from dwalign.bounds import Count, Several, settings
from dwalign.networks import mlp
from dwalign.program import Data
from dwalign.symmetry import take_networks

DESCENT = "deep_align, 3 steps of descent"


@settings
class Config:
    """Time many pairs."""

    networks: Several = 33
    """of which all pairs are aligned."""
    examples: Count = 256
    """inputs that methods look at."""
    batch: Count = 16
    repeats: Count = 3
    methods: tuple[str, ...] = ("weight_matching", "activation_matching_correlation", "features", "deep_align", DESCENT)
    out: str = "runs"


def chosen(name: str, network: Network, inputs: Any) -> Any:
    """The method of this name; aligners are not trained, which changes no time."""
    if not name.startswith("deep_align"):
        return find_method(name)
    model = deepalign.make_model(network, dataclasses.replace(ALIGNER, descent=3 * (name == DESCENT)), inputs)
    variables = deepalign.init_variables(model, network.init(jax.random.key(0)), jax.random.key(2))
    return find_method("deep_align").using(aligner=deepalign.Aligner(model, variables))


def title(name: str) -> str:
    """What tables call it."""
    method, comma, rest = name.partition(",")
    return report.display_name(method) + comma + rest


def measure(config: Config, network: Network, name: str) -> dict[str, float]:
    """Pairs a second of one method, median of some runs."""
    every = np.array(list(itertools.combinations(range(config.networks), 2)))
    apart = np.arange(2 * len(every)).reshape(-1, 2)
    drawn = jax.device_get(jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 2 * len(every))))
    networks = [take_networks(drawn, k) for k in range(2 * len(every))]
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((config.examples, *network.example.shape[1:])).astype(np.float32)
    data = Data(inputs, rng.integers(0, 10, config.examples))
    method = chosen(name, network, data.inputs)

    def seconds(pairs):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            align_many(network, networks, pairs, method, folder=folder, data=data, batch=config.batch)
            return time.perf_counter() - begin

    found: dict[str, list[float]] = {"in all pairs": [], "in one pair": []}
    for pairs in (every[: config.batch], apart[: config.batch]):
        seconds(pairs)
    for _ in range(config.repeats):
        for label, pairs in zip(found, (every, apart), strict=True):
            found[label].append(seconds(pairs))
    rates = {label: len(every) / statistics.median(times) for label, times in found.items()}
    return rates | {"ratio": rates["in all pairs"] / rates["in one pair"]}


def main(config: Config) -> dict[str, Any]:
    """Run the benchmark; returns what results.json holds."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "out"}
    folder = report.open_run(Path(config.out) / "bench-many", settings)
    panels: dict[str, Any] = {}
    for name, shape in NETWORKS.items():
        rows: dict[str, dict[str, Any]] = {}
        for method in config.methods:
            for label, value in measure(config, mlp(*shape), method).items():
                rows.setdefault(label, {})[title(method)] = report.point([[value]])
        panels[name] = rows
    results = {
        "experiment": "bench-many",
        "config": settings,
        "environment": report.environment(),
        "axis": "method",
        "settings": [title(method) for method in config.methods],
        "panels": panels,
        "caption": (
            f"bench-many: pairs a second, medians of {config.repeats} runs of {math.comb(config.networks, 2)} pairs, "
            f"{config.batch} at once, Parquet included: all pairs of {config.networks} networks, and pairs whose "
            "networks are in no other."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
