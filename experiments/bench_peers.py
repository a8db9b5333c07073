"""Weight matching beside that of other libraries, each in an environment of its own, on the same pairs of networks.

    python experiments/bench_peers.py --rebasin ENV/bin/python --git-re-basin ENV/bin/python --checkout FOLDER

How to make the environments is said in experiments/peers; a peer whose Python is not given is left out. The pairs are
MLPs on digits, trained from seeds of their own. All run on one core; what prepares a call (tracing of modules, specs,
compilation, copies) is timed for nobody. Every result is judged by the same sum: <a, P.b>, as a share of the largest
that anyone found for the pair. Writes runs/bench-peers/: config.json, results.json.
"""

import dataclasses
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import study
import tyro
from bench_weight_matching import plain_mlp

from dwalign import permute, report, zoo
from dwalign.bounds import Count, settings
from dwalign.matching import weight_matching
from dwalign.networks import mlp
from dwalign.program import Network
from dwalign.symmetry import take_networks

PyTree = Any
PEERS = Path(__file__).parent / "peers"
# aligned second networks, and the seconds that it took
Found = tuple[PyTree, float]


@settings
class Config:
    """Time weight matching of this and other libraries."""

    rebasin: Path | None = None
    """the Python of an environment with rebasin."""
    git_re_basin: Path | None = None
    """the Python of an environment for git-re-basin."""
    checkout: Path | None = None
    """the folder of git-re-basin."""
    widths: tuple[Count, ...] = (32, 128, 512)
    """of three hidden layers."""
    pairs: Count = 5
    epochs: Count = 20
    """that networks are trained for."""
    out: str = "runs"


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    config = tyro.cli(Config, args=args, description=__doc__)
    if config.git_re_basin and not (config.checkout and (config.checkout / "src" / "weight_matching.py").is_file()):
        raise report.RunError(
            f"options: checkout must be a folder of git-re-basin with src/weight_matching.py in it, found "
            f"{config.checkout}; clone it, or leave out --git-re-basin"
        )
    return config


def make_pairs(config: Config, width: int) -> tuple[Network, list[tuple[PyTree, PyTree]]]:
    """A network of this width and pairs of trained ones."""
    data = zoo.load("digits")
    network = mlp(math.prod(data.train.inputs.shape[1:]), (width,) * 3, data.classes)
    size = zoo.ZooSize(0, 0, 2 * config.pairs)
    recipe = zoo.Recipe(epochs=config.epochs)
    nets = zoo.get_zoo(network, data, recipe, size, folder=Path(config.out) / "zoos", chunk=2 * config.pairs).test
    host = jax.tree.map(np.asarray, nets)
    return network, [(take_networks(host, 2 * k), take_networks(host, 2 * k + 1)) for k in range(config.pairs)]


def here(network: Network, pairs: list[tuple[PyTree, PyTree]], match: Callable) -> Iterator[Found]:
    """`match(a, b)` gives the permutations; the first pair is also matched once before, untimed."""
    match(*pairs[0])
    for a, b in pairs:
        begin = time.perf_counter()
        perms = match(a, b)
        seconds = time.perf_counter() - begin
        yield permute(network.spec, b, perms), seconds


def there(python: Path, script: str, pairs: list[tuple[PyTree, PyTree]], path: Path | None = None) -> Iterator[Found]:
    """What another environment finds for the same arrays."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "pairs.npz", Path(folder) / "found.npz"
        layers = len(pairs[0][0]["params"])
        arrays = {
            f"{number}/{side}/{k}/{name}": params["params"][f"dense_{k}"][name]
            for number, pair in enumerate(pairs)
            for side, params in zip("ab", pair, strict=True)
            for k in range(layers)
            for name in ("kernel", "bias")
        }
        np.savez(given, pairs=len(pairs), layers=layers, **arrays)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        run = subprocess.run([python, PEERS / script, given, found], env=environment, capture_output=True, text=True)
        if run.returncode:
            *_, last = run.stderr.strip().splitlines() or ["nothing"]
            raise report.RunError(
                f"options: {python} must be able to run experiments/peers/{script}, which said: {last}"
            )
        with np.load(found) as kept:
            for number in range(len(pairs)):
                layer = lambda k, n=number: {name: kept[f"{n}/{k}/{name}"] for name in ("kernel", "bias")}
                yield {"params": {f"dense_{k}": layer(k) for k in range(layers)}}, float(kept[f"{number}/seconds"])


def measure(config: Config, width: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds, and the share of the largest sum, of every library on every pair of this width."""
    network, pairs = make_pairs(config, width)
    found = {
        "dwalign": list(here(network, pairs, lambda a, b: weight_matching(network.spec, a, b, key=None).perms)),
        "plain NumPy": list(here(network, pairs, lambda a, b: plain_mlp(a, b, np.random.default_rng(0)))),
    }
    if config.rebasin:
        found["rebasin"] = list(there(config.rebasin, "rebasin_matching.py", pairs))
    if config.git_re_basin and config.checkout:
        found["git-re-basin"] = list(
            there(config.git_re_basin, "git_re_basin_matching.py", pairs, config.checkout / "src")
        )
    product = lambda a, b: float(sum(np.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)))
    sums = {name: [product(a, b) for (a, _), (b, _) in zip(pairs, of, strict=True)] for name, of in found.items()}
    best = np.max(list(sums.values()), axis=0)
    return {
        name: {"milliseconds": [1000 * seconds for _, seconds in of], "share": (sums[name] / best).tolist()}
        for name, of in found.items()
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {
        key: value
        for key, value in dataclasses.asdict(config).items()
        if key not in ("out", "rebasin", "git_re_basin", "checkout")
    }
    folder = report.open_run(Path(config.out) / "bench-peers", settings)
    if hasattr(os, "sched_setaffinity"):  # environments that are started take it over
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = {f"width {width}": measure(config, width) for width in config.widths}
    listed = list(next(iter(found.values())))
    ours = {size: np.median(of["dwalign"]["milliseconds"]) for size, of in found.items()}
    panel = lambda value: {
        size: {name: report.point([[value(size, one)]]) for name, one in of.items()} for size, of in found.items()
    }
    results = {
        "experiment": "bench-peers",
        "config": settings,
        "environment": report.environment(),
        "axis": "library",
        "settings": listed,
        "panels": {
            "ms a pair": panel(lambda size, one: float(np.median(one["milliseconds"]))),
            "x dwalign": panel(lambda size, one: float(np.median(one["milliseconds"]) / ours[size])),
            "share of the largest sum": panel(lambda size, one: float(np.mean(one["share"]))),
        },
        "caption": (
            f"bench-peers: medians over {config.pairs} pairs of MLPs on digits with three hidden layers, one core; the "
            "sum is <a, P.b> of all weights, the largest is that of the best library on the pair."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
