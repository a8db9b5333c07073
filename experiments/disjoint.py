"""Disjoint data: clients that each saw mostly their own classes, merged without further training (Figure 5).

    python experiments/train_mlp.py && python experiments/disjoint.py
    python experiments/disjoint.py --home cnn-photo_patches

Takes aligners, networks and recipe of another run. First pairs of two clients: loss and accuracy along the path against
both endpoints. Then all of many clients, aligned to the first and averaged.
Writes runs/disjoint-<home>/: config.json, results.json (the averages under `clients`), figures.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import report, zoo
from dwalign.symmetry import permute


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Merge networks of clients with different data."""

    home: str = "mlp-digits"
    """the run in OUT whose aligners, networks and recipe are taken."""
    share: float = 0.95
    """of the examples of a class that its home client gets; the others divide the rest."""
    clients: int = 8
    """of the second part."""
    groups: int = 5
    """sets of so many clients."""


MERGED = ("naive", "weight_matching", *study.MATCHING, "refine", "deep_align", "deep_align+refine")


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    smoke: dict[str, Any] = study.SMOKE | dict(clients=3, groups=1)
    return study.read_options(Config, args, lambda first: smoke if first.preset == "smoke" else {}, __doc__)


def split(data: zoo.Dataset, clients: int, share: float) -> list[zoo.Dataset]:
    """Training data of each client: class c has its home at client `c * clients // classes`."""
    random = np.random.default_rng(0)
    labels = data.train.labels
    home = labels.astype(np.int64) * clients // data.classes
    away = (home + random.integers(1, clients, len(labels))) % clients
    owner = np.where(random.uniform(size=len(labels)) < share, home, away)
    part = lambda k: zoo.Batch(data.train.inputs[owner == k], labels[owner == k])
    return [data._replace(name=f"{data.name}_{k + 1}_of_{clients}", train=part(k)) for k in range(clients)]


def train_client(options: study.Options, network: dict[str, Any], data: zoo.Dataset, count: int, client: int):
    """A zoo of `count` networks of one client; clients do not share their initialisation."""
    only = dataclasses.replace(options, train_networks=count, validation_networks=0, test_pairs=0)
    return study.make_zoo(only, network, data, seed=1_000_000 * (client + 1))


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    experiment = f"disjoint-{config.home}"
    options, (shape, data, aligners) = study.open_home(config, config.home)
    folder, settings = study.open_folder(config, experiment)
    train, test = study.to_device(data.train), study.to_device(data.test)
    few = (train[0][: config.refine_images], train[1][: config.refine_images])

    # ---- two clients ---------------------------------------------------------------------------------------------
    halves = split(data, 2, config.share)
    nets = [train_client(options, shape, part, config.test_pairs, k) for k, part in enumerate(halves)]
    network = nets[0].network
    pairs = jax.tree.map(lambda a, b: jnp.stack([a, b], 1).reshape(-1, *a.shape[1:]), nets[0].train, nets[1].train)
    both = nets[0]._replace(test=pairs)
    fixed = study.baselines(config, network, train, few)
    learned = [
        study.learned(config, network, aligner, train, few, longest=aligner is aligners[0]) for aligner in aligners
    ]
    measured = study.judge(config, both, few, test, fixed, learned)
    results = study.write_report(folder, experiment, settings, sum(map(study.networks_in, nets)), measured, aligners)

    # ---- many clients --------------------------------------------------------------------------------------------
    parts = split(data, config.clients, config.share)
    many = [train_client(options, shape, part, config.groups, k).train for k, part in enumerate(parts)]

    def merge(method, members, key):
        keys = jax.random.split(key, config.clients)
        moved = [
            permute(network.spec, b, method(members[0], b, key=k).perms)
            for b, k in zip(members[1:], keys[1:], strict=True)
        ]
        return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), members[0], *moved)

    def quality(params):
        outputs = network.apply(study.renewal(network, few)(params), test[0])
        return jnp.stack([zoo.cross_entropy(outputs, test[1]), zoo.accuracy(outputs, test[1])])

    keys = jax.random.split(jax.random.key(3), config.groups)
    alone = np.stack([np.asarray(jax.jit(lambda p: jax.lax.map(quality, p))(member)) for member in many])
    table = {"alone": alone.mean(0)}
    for name in MERGED:
        method = (fixed | learned[0])[name]
        one = jax.jit(lambda item, method=method: quality(merge(method, item[0], item[1])))
        table[name] = np.stack([np.asarray(one((zoo.take(many, k), keys[k]))) for k in range(config.groups)])
    results["clients"] = {
        name: {"loss": [float(v) for v in values[:, 0]], "accuracy": [float(v) for v in values[:, 1]]}
        for name, values in table.items()
    }
    report.write_results(folder / "results.json", results)
    print(f"\n{config.clients} clients, averaged: test loss and accuracy (means of {config.groups} sets)")
    for name, values in table.items():
        print(f"  {report.display_name(name):45s} {values[:, 0].mean():.3f}  {values[:, 1].mean():.1%}")
    return results


if __name__ == "__main__":
    study.run(main, read_config)
