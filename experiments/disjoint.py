"""Disjoint data: clients that each saw mostly their own classes, merged without further training (Figure 5).

    python experiments/train_mlp.py && python experiments/disjoint.py
    python experiments/disjoint.py --home cnn-photo_patches

Takes aligners, networks and recipe of another run. First pairs of two clients: loss and accuracy along the path against
both endpoints. Then all of many clients, aligned to the first and averaged.
Writes runs/disjoint-<home>/: config.json, results.json, figures; clients.json and clients.png, the averages.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import report, zoo
from dwalign.bounds import Count, Part, Several, settings
from dwalign.deepalign import deep_align
from dwalign.matching import (
    activation_matching,
    activation_matching_correlation,
    chain,
    naive,
    weight_matching,
)
from dwalign.merging import reset_statistics
from dwalign.program import CLASSIFICATION, Data, Network
from dwalign.symmetry import interpolate, permute, take_networks


@settings
class Config(study.Options):
    """Merge networks of clients with different data."""

    home: str = "mlp-digits"
    """the run in OUT whose aligners, networks and recipe are taken."""
    share: Part = 0.95
    """of the examples of a class that its home client gets; the others divide the rest."""
    clients: Several = 8
    """of the second part."""
    groups: Count = 5
    """sets of so many clients."""


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    smoke: study.Changes = {**study.SMOKE, "clients": 3, "groups": 1}
    return study.read_options(Config, args, __doc__, smoke=smoke)


def split(data: zoo.Dataset, clients: int, share: float) -> list[zoo.Dataset]:
    """Training data of each client: class c has its home at client `c * clients // classes`."""
    random = np.random.default_rng(0)
    labels = data.train.labels
    home = labels.astype(np.int64) * clients // data.classes
    away = (home + random.integers(1, clients, len(labels))) % clients
    owner = np.where(random.uniform(size=len(labels)) < share, home, away)
    part = lambda k: Data(data.train.inputs[owner == k], labels[owner == k])
    return [data._replace(name=f"{data.name}_{k + 1}_of_{clients}", train=part(k)) for k in range(clients)]


def train_client(options: study.Options, network: Network, data: zoo.Dataset, count: int, client: int) -> zoo.Zoo:
    """A zoo of `count` networks of one client; clients do not share their initialisation."""
    only = study.change(options, {"networks.train": count, "networks.validation": 0, "networks.pairs": 0})
    return study.make_zoo(only, network, data, seed=1_000_000 * (client + 1))


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    experiment = f"disjoint-{config.home}"
    options, (network, data, aligners) = study.open_home(config, config.home)
    folder, settings = study.open_folder(config, experiment)
    train, test = study.to_device((data.train, data.test))
    passes = [deep_align.using(aligner=aligner) for aligner in aligners]

    # ---- two clients ---------------------------------------------------------------------------------------------
    halves = split(data, 2, config.share)
    nets = [train_client(options, network, part, config.networks.pairs, k) for k, part in enumerate(halves)]
    pairs = jax.tree.map(lambda a, b: jnp.stack([a, b], 1).reshape(-1, *a.shape[1:]), nets[0].train, nets[1].train)
    both = nets[0]._replace(test=pairs)
    learned = [study.learned(config, predict, longest=predict is passes[0]) for predict in passes]
    measured = study.judge(config, both, study.baselines(config), learned, test, train)
    results = study.write_report(folder, experiment, settings, sum(map(study.networks_in, nets)), measured, aligners)

    # ---- many clients --------------------------------------------------------------------------------------------
    parts = split(data, config.clients, config.share)
    members = [train_client(options, network, part, config.groups, k).train for k, part in enumerate(parts)]
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *members)

    def merge(method, members, key, train):
        first, rest = take_networks(members, 0), take_networks(members, slice(1, None))

        def align(item):
            b, key = item
            return permute(network.spec, b, method(network, first, b, key=key, data=train).perms)

        moved = jax.lax.map(align, (rest, jax.random.split(key, config.clients - 1)))
        # the mean of the first k + 1 networks lies between that of the first k and the next
        step = lambda mean, item: (interpolate(network.spec, mean, *item), None)
        return jax.lax.scan(step, first, (moved, 1 / jnp.arange(2.0, config.clients + 1)))[0]

    def quality(params):
        params = reset_statistics(network, params, train.inputs[: config.refine_images])
        outputs = network.apply(params, test.inputs)
        right = CLASSIFICATION.hits(outputs, test.labels).mean(dtype=jnp.float32)
        return jnp.stack([CLASSIFICATION.loss(outputs, test.labels), right])

    @functools.partial(jax.jit, static_argnums=0)
    def merged(method, many, keys, train):
        return jax.lax.map(lambda item: quality(merge(method, *item, train)), (many, keys))

    keys = jax.random.split(jax.random.key(3), config.groups)
    alone = jax.jit(lambda many: jax.lax.map(lambda members: jax.lax.map(quality, members).mean(0), many))
    refined, predict = study.refinement(config), passes[0]
    matched = [naive, weight_matching, activation_matching, activation_matching_correlation, refined]
    methods = [*matched, predict, chain(predict, refined)]
    table = {"one client alone": alone(many)} | {one.label: merged(one, many, keys, train) for one in methods}
    names = list(table)
    points = [[report.point([values[:, k]]) for values in table.values()] for k in range(2)]
    clients = {
        "experiment": f"{experiment}-clients",
        "config": settings,
        "environment": report.environment(),
        "axis": f"{config.clients} networks, averaged after",
        "settings": names,
        "panels": {
            title: {title: dict(zip(names, column, strict=True))}
            for title, column in zip(("test loss", "test accuracy"), points, strict=True)
        },
    }
    report.write_json(folder / "clients.json", clients)
    report.series_figure(clients, folder / "clients.png")
    print(report.series_table(clients))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
