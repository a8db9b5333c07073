"""Weight matching and Sinkhorn re-basin beside other libraries, each in an environment of its own, on the same pairs.

    python experiments/bench_peers.py --rebasin ENV/bin/python --git-re-basin ENV/bin/python --checkout FOLDER
        --sinkhorn-rebasin ENV/bin/python

How to make the environments is said in experiments/peers; a peer whose Python is not given is left out. The pairs are
MLPs on digits, trained from seeds of their own. All run on one core, of which the processor time is counted: other work
beside them slows nobody. What prepares a call (tracing of modules, specs, compilation, copies) is timed for nobody. Two
parts of the work that nobody does without are timed alone: one assignment of each layer, and the loss and its gradient
on the images of each step. Every result is judged alike: by <a, P.b>, as a share of the largest that anyone found for
the pair, and by the loss half way on the test set. Memory is the peak of the process beyond what it held before the
call. Writes runs/bench-peers/: config.json, results.json.
"""

import contextlib
import dataclasses
import functools
import math
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from bench_weight_matching import plain_mlp
from peers.peak import bytes_of

from dwalign import permute, report, zoo
from dwalign.assignment import hungarian
from dwalign.bounds import Count, settings
from dwalign.matching import anchored_matching, match_scores, sinkhorn_rebasin, weight_matching
from dwalign.networks import mlp
from dwalign.program import CLASSIFICATION, Data, Network, count_examples, take_examples
from dwalign.symmetry import identity, take_networks

PyTree = Any
PEERS = Path(__file__).parent / "peers"
# of each step of Sinkhorn re-basin
IMAGES = 256
ASSIGNED, DESCENDED = "each layer assigned once", "loss and gradient alone"
OURS, OUR_SINKHORN = "dwalign, weight matching", "dwalign, Sinkhorn re-basin"
ANCHORED = "dwalign, anchored weight matching"


class Found(NamedTuple):
    """Attributes:
    aligned: the second network.
    seconds: that it took.
    bytes: of memory; 0 where nobody counted.
    """

    aligned: PyTree
    seconds: float
    bytes: int = 0


class Subject(NamedTuple):
    """Attributes:
    network: what all are.
    pairs: of trained ones.
    train, test: what they learned from, and what they are judged on.
    """

    network: Network
    pairs: list[tuple[PyTree, PyTree]]
    train: Data
    test: Data


@settings
class Config:
    """Time weight matching of this and other libraries."""

    rebasin: Path | None = None
    """the Python of an environment with rebasin."""
    git_re_basin: Path | None = None
    """the Python of an environment for git-re-basin."""
    checkout: Path | None = None
    """the folder of git-re-basin."""
    sinkhorn_rebasin: Path | None = None
    """the Python of an environment with sinkhorn-rebasin."""
    steps: Count = 100
    """of Sinkhorn re-basin, each on 256 examples."""
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


def make_subject(config: Config, width: int) -> Subject:
    """Pairs of trained networks of this width."""
    data = zoo.load("digits")
    network = mlp(math.prod(data.train.inputs.shape[1:]), (width,) * 3, data.classes)
    size = zoo.ZooSize(0, 0, 2 * config.pairs)
    recipe = zoo.Recipe(epochs=config.epochs)
    nets = zoo.get_zoo(network, data, recipe, size, folder=Path(config.out) / "zoos", chunk=2 * config.pairs).test
    host = jax.tree.map(np.asarray, nets)
    pairs = [(take_networks(host, 2 * k), take_networks(host, 2 * k + 1)) for k in range(config.pairs)]
    return Subject(network, pairs, data.train, data.test)


def here(subject: Subject, match: Callable, count: Callable = lambda run: (run(), 0)) -> Iterator[Found]:
    """`match(a, b)` gives the permutations; the first pair is also matched once before, untimed.

    `count` may be `bytes_of`, after which memory is asked for anew: it is not for what takes milliseconds.
    """

    def timed(a, b):
        begin = time.process_time()
        return match(a, b), time.process_time() - begin

    match(*subject.pairs[0])
    for a, b in subject.pairs:
        (perms, seconds), most = count(functools.partial(timed, a, b))
        yield Found(permute(subject.network.spec, b, perms), seconds, most)


def there(python: Path, script: str, subject: Subject, config: Config, path: Path | None = None) -> Iterator[Found]:
    """What another environment finds for the same arrays."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "pairs.npz", Path(folder) / "found.npz"
        layers, count = len(subject.pairs[0][0]["params"]), len(subject.train.labels)
        arrays = {
            f"{number}/{side}/{k}/{name}": params["params"][f"dense_{k}"][name]
            for number, pair in enumerate(subject.pairs)
            for side, params in zip("ab", pair, strict=True)
            for k in range(layers)
            for name in ("kernel", "bias")
        }
        told = dict(pairs=len(subject.pairs), layers=layers, steps=config.steps, images=IMAGES)
        examples = dict(inputs=subject.train.inputs.reshape(count, -1), labels=subject.train.labels)
        np.savez(given, **told, **examples, **arrays)
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
            for number in range(len(subject.pairs)):
                layer = lambda k, n=number: {name: kept[f"{n}/{k}/{name}"] for name in ("kernel", "bias")}
                most = int(kept[f"{number}/bytes"]) if f"{number}/bytes" in kept else 0
                aligned = {"params": {f"dense_{k}": layer(k) for k in range(layers)}}
                yield Found(aligned, float(kept[f"{number}/seconds"]), most)


def assign_once(subject: Subject) -> list[float]:
    """Seconds of one assignment of each layer, for every pair, from the scores at the identity."""
    spec = subject.network.spec

    def timed(a, b):
        scores = jax.tree.map(np.asarray, match_scores(spec, a, b, identity(spec)))
        begin = time.process_time()
        hungarian(scores)
        return time.process_time() - begin

    return [timed(a, b) for a, b in subject.pairs]


def descend_alone(subject: Subject, train: Data, steps: int) -> list[float]:
    """Seconds of the loss on the images of each step and its gradient by the weights, for the first of every pair."""
    lost = lambda params, seen: CLASSIFICATION.lost(subject.network.respond(params, seen.inputs), seen.labels)

    def step(params, key):
        seen = take_examples(train, jax.random.randint(key, (IMAGES,), 0, count_examples(train)))
        # the weights move on, so that no step can be left out
        return jax.tree.map(lambda x, g: x - 1e-6 * g, params, jax.grad(lost)(params, seen)), None

    run = jax.jit(lambda params: jax.lax.scan(step, params, jax.random.split(jax.random.key(0), steps))[0])

    def timed(params):
        begin = time.process_time()
        jax.block_until_ready(run(params))
        return time.process_time() - begin

    timed(subject.pairs[0][0])
    return [timed(a) for a, _ in subject.pairs]


def measure(config: Config, width: int) -> dict[str, dict[str, float]]:
    """What every library takes and finds at this width, by what tables call it."""
    subject = make_subject(config, width)
    network, train = subject.network, jax.tree.map(jnp.asarray, subject.train)
    rebasin = sinkhorn_rebasin.using(iterations=config.steps, images=IMAGES)
    rebased = lambda a, b: jax.block_until_ready(rebasin(network, a, b, key=jax.random.key(0), data=train).perms)
    elsewhere = lambda python, *args: list(there(python, args[0], subject, config, *args[1:])) if python else []
    found = {
        OURS: list(here(subject, lambda a, b: weight_matching(network.spec, a, b, key=None).perms)),
        ANCHORED: list(here(subject, lambda a, b: anchored_matching(network.spec, a, b, key=None).perms)),
        "plain NumPy": list(here(subject, lambda a, b: plain_mlp(a, b, np.random.default_rng(0)))),
        "rebasin": elsewhere(config.rebasin, "rebasin_matching.py"),
        "git-re-basin": elsewhere(config.git_re_basin, "git_re_basin_matching.py", (config.checkout or Path()) / "src"),
        OUR_SINKHORN: list(here(subject, rebased, bytes_of)),
        "sinkhorn-rebasin": elsewhere(config.sinkhorn_rebasin, "sinkhorn_matching.py"),
    }
    product = lambda a, b: float(sum(np.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)))
    test = subject.test
    loss = jax.jit(lambda params: CLASSIFICATION.lost(network.respond(params, test.inputs), test.labels))
    middle = lambda a, b: float(loss(jax.tree.map(lambda x, y: (x + y) / 2, a, b)))
    judged = lambda by, of: np.array([by(a, one.aligned) for (a, _), one in zip(subject.pairs, of, strict=True)])
    there_are = {name: of for name, of in found.items() if of}
    sums = {name: judged(product, of) for name, of in there_are.items()}
    best = np.max(list(sums.values()), axis=0)
    ours = lambda name: found[OUR_SINKHORN if "inkhorn" in name else OURS]
    taken = lambda of: statistics.median(one.seconds for one in of)
    beside = lambda seconds, of: {"ms a pair": 1000 * seconds, "x dwalign": seconds / taken(of)}
    rows: dict[str, dict[str, float]] = {
        name: {
            **beside(taken(of), ours(name)),
            "share of the largest sum": float(np.mean(sums[name] / best)),
            "loss half way": float(judged(middle, of).mean()),
            **({"MB": statistics.median(one.bytes for one in of) / 1e6} if "inkhorn" in name else {}),
        }
        for name, of in there_are.items()
    }
    rows[ASSIGNED] = beside(statistics.median(assign_once(subject)), found[OURS])
    rows[DESCENDED] = beside(statistics.median(descend_alone(subject, train, config.steps)), found[OUR_SINKHORN])
    return rows


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This process, and the environments that it starts, on one core where the system can pin them to it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    kept = ("widths", "pairs", "epochs", "steps")
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name in kept}
    folder = report.open_run(Path(config.out) / "bench-peers", settings)
    panels: dict[str, Any] = {}
    for width in config.widths:
        with one_core():
            measured = measure(config, width)
        for name, figures in measured.items():
            for title, value in figures.items():
                panels.setdefault(title, {}).setdefault(f"width {width}", {})[name] = report.point([[value]])
    results = {
        "experiment": "bench-peers",
        "config": settings,
        "environment": report.environment(),
        "axis": "library",
        "settings": list(measured),
        "panels": panels,
        "caption": (
            f"bench-peers: {config.pairs} pairs of MLPs on digits with three hidden layers, medians of processor time "
            f"and memory on one core, means of the rest; Sinkhorn re-basin takes {config.steps} steps on {IMAGES} "
            "images. The last two rows are parts of the work."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
