"""Five networks that others trained and published, merged into one: SpliceAI (Jaganathan et al. 2019).

    pip install spliceai==1.3.1 --no-deps && python experiments/spliceai.py      half an hour on 2 CPU cores

The package ships five networks of one architecture from five seeds (residual dilated convolutions with batch
normalisation, Keras), whose mean answer is used. How near does one network come, whose weights are averaged after
alignment? No genome comes in a package: inputs are drawn as genes are built, exons and introns with splice sites of
consensus, on which the five agree; what is asked is agreement with their mean answer, not with biology. Sequences to
judge on are drawn apart from those to match and to renew statistics on. Not part of any test: the networks are not
ours, and not free for commercial use.
Writes runs/spliceai/: config.json, results.json.
"""

import dataclasses
import importlib.util
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro

import dwalign
from dwalign import report
from dwalign.bounds import Count, Several, settings
from dwalign.extras import load
from dwalign.matching import activation_matching_correlation, chain, naive, refine, weight_matching
from dwalign.program import Data, Network, Task

PyTree = Any
CONTEXT = 5000
METHODS = (naive, weight_matching, activation_matching_correlation)


@settings
class Config:
    """Merge the networks of SpliceAI."""

    folder: str | None = None
    """of spliceai1.h5 to spliceai5.h5; those of the installed package if not given."""
    networks: Several = 5
    genes: Count = 8
    """to match and to renew statistics on, and as many to judge on."""
    length: Count = 2500
    """positions that are judged, of each gene."""
    steps: Count = 8
    """of refinement; 0 leaves it out."""
    out: str = "runs"


def gene(rng: np.random.Generator, length: int) -> np.ndarray:
    """Exons and introns, as numbers of acgt."""
    draw = lambda n, p: rng.choice(4, n, p=p)
    code = lambda text: np.array(["acgt".index(letter) for letter in text])
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < length:
        exon = draw(int(rng.integers(90, 160)), (0.27, 0.25, 0.28, 0.2))
        donor = code(f"{rng.choice(['c', 'a'])}aggt{rng.choice(['a', 'g'], p=[0.7, 0.3])}agt")
        intron = draw(int(rng.integers(300, 700)), (0.24, 0.2, 0.22, 0.34))
        branch = code("tactaac")
        tract = rng.choice([3, 1], 18, p=[0.65, 0.35])
        acceptor = code(f"{rng.choice(list('ctag'))}{rng.choice(['c', 't'], p=[0.8, 0.2])}agg")
        parts += [exon, donor, intron, branch, draw(8, [0.25] * 4), tract, acceptor]
    return np.concatenate(parts)[:length]


def genes(count: int, length: int, seed: int) -> np.ndarray:
    """Sequences `[count, length + 2 CONTEXT, 4]`, of genes all along: statistics are taken of what is around, too."""
    rng = np.random.default_rng(seed)
    return np.stack([np.eye(4, dtype=np.float32)[gene(rng, length + 2 * CONTEXT)] for _ in range(count)])


def divergence(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean Kullback-Leibler divergence of probabilities from those of the labels, in nats."""
    safe = lambda p: jnp.log(jnp.clip(p, 1e-7, 1.0))
    return (labels * (safe(labels) - safe(outputs))).sum(-1).mean()


TASK = Task(divergence, lambda outputs, labels: (outputs.argmax(-1) == labels.argmax(-1)).all(-1))


def judge(network: Network, params: PyTree, data: Data) -> dict[str, float]:
    """Against the mean answer: divergence, and how many of its splice sites are found and how many are its own."""
    outputs = jax.jit(network.apply)(params, data.inputs)
    here, there = (np.asarray(one).argmax(-1) for one in (outputs, data.labels))
    both = ((here == there) & (there > 0)).sum()
    return {
        "divergence": round(float(divergence(outputs, data.labels)), 7),
        "found": round(float(both / max(1, (there > 0).sum())), 4),
        "right": round(float(both / max(1, (here > 0).sum())), 4),
    }


def models(config: Config) -> list[Any]:
    """The published networks."""
    folder = config.folder
    if folder is None:
        package = importlib.util.find_spec("spliceai")
        if package is None or package.origin is None:
            raise report.RunError(
                "spliceai must be installed (pip install spliceai==1.3.1 --no-deps), or --folder given"
            )
        folder = str(Path(package.origin).parent / "models")
    os.environ.setdefault("KERAS_BACKEND", "jax")
    load_model = load("keras").models.load_model
    files = [Path(folder) / f"spliceai{k + 1}.h5" for k in range(config.networks)]
    if missing := [str(file) for file in files if not file.exists()]:
        raise report.RunError(f"--folder must hold the networks of spliceai 1.3.1, {missing[0]} is missing")
    return [load_model(file, compile=False) for file in files]


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    found = models(config)
    match, test = (genes(config.genes, config.length, seed) for seed in (0, 1))
    network, _ = dwalign.from_model(found[0], match[:2])
    networks = [jax.tree.map(np.asarray, dwalign.frontends.open_model(one).params) for one in found]
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("folder", "out")}
    folder = report.open_run(Path(config.out) / "spliceai", settings)
    answer = jax.jit(lambda params, inputs: network.apply(params, inputs))
    data, held_out = (
        Data(jnp.asarray(x), jnp.mean(jnp.stack([answer(one, x) for one in networks]), 0)) for x in (match, test)
    )
    print(f"{len(network.spec.sizes)} groups; the mean answer has {int((held_out.labels.argmax(-1) > 0).sum())} sites")
    rows = [{"networks": 1, "what": "one of them", "seconds": 0.0} | judge(network, one, held_out) for one in networks]
    refined = [chain(activation_matching_correlation, refine.using(steps=config.steps))] if config.steps else []
    for count in sorted({2, config.networks}):
        for method in (*METHODS, *refined):
            begin = time.perf_counter()
            merged = dwalign.merging.merge_many(
                network, networks[:count], method, how="running_mean", data=data, task=TASK, key=jax.random.key(0)
            )
            seconds = round(time.perf_counter() - begin, 1)
            row = {"networks": count, "what": method.label, "seconds": seconds}
            rows.append(row | judge(network, merged.params, held_out))
            print(json.dumps(rows[-1]), flush=True)
    results = {
        "experiment": "spliceai",
        "config": settings,
        "environment": report.environment(),
        **series(rows),
        "rows": rows,
        "caption": f"spliceai: of the sites of the mean answer of {config.networks} networks, how many are found, and "
        "of those that are named, how many are right; the divergence from it in nats a position.",
    }
    report.write_json(folder / "results.json", results)
    return results


def series(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows as `report.series_table` shows them."""
    ways = list(dict.fromkeys(row["what"] for row in rows))
    counts = sorted({row["networks"] for row in rows})
    shown = {"found": "sites found", "right": "sites right", "divergence": "divergence"}

    def points(figure: str, count: int) -> dict[str, Any]:
        values = {way: [r[figure] for r in rows if (r["what"], r["networks"]) == (way, count)] for way in ways}
        return {way: report.point([found]) for way, found in values.items() if found}

    panels = {
        title: {f"{count} network{'s' * (count > 1)}": points(figure, count) for count in counts}
        for figure, title in shown.items()
    }
    return {"axis": "merged by", "settings": ways, "panels": panels}


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    return tyro.cli(Config, args=args, description=__doc__)


if __name__ == "__main__":
    study.run(main, read_config)
