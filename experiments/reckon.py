"""What very many very large networks would take, reckoned from what small ones took here.

    python experiments/reckon.py
    python experiments/reckon.py --networks 10000 --devices 16

Weight matching of decoders that nobody here can hold: its products and sums are counted off the spec, and the share of
a processor's peak that matching reaches is the one that `bench.py` measured (results/bench-width.json). Devices, their
peak and the storage are assumptions, which the flags set. A simulation runs the queue of parts over the devices: all
read from one storage, each reads ahead by two pairs, is slower or faster than the mean, and breaks down at times, which
costs the part it was at. Writes runs/reckon/: config.json, results.json.
"""

import dataclasses
import heapq
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import study
import tyro

from dwalign import report
from dwalign.bounds import Count, Positive, Share, settings
from dwalign.networks import mlp, transformer
from dwalign.program import Network

ROOT = Path(__file__).parent.parent


@settings
class Config:
    """Reckon."""

    networks: Count = 1_000_000
    dim: Count = 2048
    depth: Count = 16
    heads: Count = 16
    width: Count = 8192
    vocabulary: Count = 32_000
    bytes_a_number: Count = 2
    """of a checkpoint; bfloat16 has 2."""
    sweeps: Count = 4
    """over all groups, until nothing moves."""
    features: Count = 64
    """numbers a unit, where networks are compared by features."""
    devices: Count = 256
    peak: Positive = 2.5e14
    """products and sums a second of one device, in the precision of matching."""
    storage: Positive = 1e11
    """bytes a second that all devices together read."""
    pairs_a_part: Count = 100
    spread: Share = 0.1
    """of the speed of devices, standard deviation over the mean."""
    hours_between_failures: Positive = 5000.0
    """of one device."""
    measured: str = str(ROOT / "results" / "bench-width.json")
    out: str = "runs"


def matching_products(network: Network, sweeps: int) -> float:
    """Multiplications and additions of weight matching: of each array, for each of its groups, all pairs of units.

    Units inside of a batched group are compared for all pairs of what they are batched over. Assignments are left out;
    they are in the share of the peak that was measured.
    """
    spec, total = network.spec, 0.0
    for axes, leaf in zip(spec.leaves, jax.tree.leaves(network.params), strict=True):
        for group in axes.names() & set(spec.sizes):
            units = spec.sizes[group] * math.prod(spec.batch_shape(group))
            total += 2.0 * units * math.prod(leaf.shape)
    return sweeps * total


def measured_share(file: Path, sweeps: int) -> tuple[float, int]:
    """The share of the peak that matching reached at the largest width that was measured, and that width."""
    found = json.loads(file.read_text())
    speeds = {int(size): one["pairs a second"] for size, one in found["measured"]["weight_matching"].items()}
    width = max(speeds)
    asked = found["config"]
    network = mlp(asked["inputs"], (width,) * asked["depth"], 10)
    return matching_products(network, sweeps) * speeds[width] / found["peak"], width


def simulate(config: Config, pairs: int, compute: float, read: float, seed: int = 0) -> float:
    """Seconds until all pairs are done; a device that breaks down loses the part that it was at.

    Args:
      pairs: of which a device takes `pairs_a_part` at a time.
      compute: seconds of a pair on a device.
      read: bytes of a pair; storage serves whoever asks first.
    """
    rng = np.random.default_rng(seed)
    slow = np.maximum(rng.normal(1.0, config.spread, config.devices), 0.2)
    # several parts are one step where there are too many to follow one by one
    size = max(config.pairs_a_part, math.ceil(pairs / 200_000))
    left, storage_free, end = math.ceil(pairs / size), 0.0, 0.0
    ready = [(0.0, device) for device in range(config.devices)]
    heapq.heapify(ready)
    failure = config.hours_between_failures * 3600
    while left and ready:
        now, device = heapq.heappop(ready)
        left -= 1
        storage_free = max(storage_free, now) + size * read / config.storage
        # reading ahead hides whichever is shorter, but for the first pair
        work = size * compute * slow[device]
        done = max(storage_free, now + work) + min(work, size * read / config.storage) / size
        # after ten minutes the device, or another one, does the part again that it was at
        done += rng.poisson((done - now) / failure) * (600.0 + 0.5 * config.pairs_a_part * compute)
        end = max(end, done)
        heapq.heappush(ready, (done, device))
    return float(end)


def main(config: Config) -> dict[str, Any]:
    """Run the reckoning; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "reckon", dataclasses.asdict(config) | {"measured": "bench-width"})
    network = transformer(
        vocabulary=config.vocabulary, length=2048, dim=config.dim, depth=config.depth, heads=config.heads,
        width=config.width, tied=True,
    )  # fmt: skip
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.params))
    checkpoint = numbers * config.bytes_a_number
    share, width = measured_share(Path(config.measured), config.sweeps)
    products = matching_products(network, config.sweeps)
    units = sum(n * math.prod(network.spec.batch_shape(g)) for g, n in network.spec.sizes.items())
    compute = products / (share * config.peak)
    # each is read once, and compared with what is held; of features all pairs of units of all pairs of networks
    all_pairs = config.networks * (config.networks - 1) // 2
    of_features = sum(
        2.0 * config.features * n**2 * math.prod(network.spec.batch_shape(g)) for g, n in network.spec.sizes.items()
    )
    ways = {
        "each to one, or to the running mean": (config.networks, compute, checkpoint),
        "each read and encoded once, nothing compared": (config.networks, 2.0 * numbers / config.peak, checkpoint),
        "all pairs, by weights": (all_pairs, compute, 2 * checkpoint),
        "all pairs, by features": (all_pairs, of_features / config.peak, 0.0),
    }
    rows: dict[str, dict[str, Any]] = {}
    for way, (pairs, seconds, read) in ways.items():
        hours = simulate(config, pairs, seconds, read) / 3600
        ideal = max(pairs * seconds / config.devices, pairs * read / config.storage) / 3600
        found = {
            "bytes read, TB": pairs * read / 1e12,
            "device hours": pairs * seconds / 3600,
            "hours": hours,
            "hours / ideal": hours / ideal,
        }
        print(f"{way}: {found}", flush=True)
        for title, value in found.items():
            rows.setdefault(title, {})[way] = report.point([[value]])
    results = {
        "experiment": "reckon",
        "config": {**dataclasses.asdict(config), "measured": "bench-width", "out": None},
        "environment": report.environment(),
        "axis": "what is done",
        "settings": list(ways),
        "panels": {title: {title: of} for title, of in rows.items()},
        "caption": (
            f"reckon: {config.networks:,} decoders of {numbers / 1e9:.2f} billion numbers and {units:,} units on "
            f"{config.devices} devices. Reckoned, not measured: matching takes {products / 1e12:.0f} trillion products "
            f"and sums a pair in {config.sweeps} sweeps, at {share:.0%} of the peak as MLPs of width {width} do here, "
            f"on devices of {config.peak / 1e12:.0f} trillion a second, which read {config.storage / 1e9:.0f} GB a "
            "second together. Simulated with slow devices and failures."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
