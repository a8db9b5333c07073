"""Networks as points: do networks that saw the same data find each other, once their units are in the same order?

    python experiments/train_mlp.py && python experiments/weight_space.py

Takes aligners, networks and recipe of another run. Some networks of each of several clients, whose data differ as in
disjoint.py: distances between all of them after alignment by each method, retrieval precision, clusters and a map.
Writes runs/weight_space-<home>/: config.json, results.json, maps.png.
"""

from typing import Any

import disjoint
import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import report
from dwalign.bounds import Part, Several, settings
from dwalign.deepalign import deep_align
from dwalign.evaluation import aligned_distances
from dwalign.matching import activation_matching_correlation, chain, naive, weight_matching


@settings
class Config(disjoint.Config):
    """Map a zoo of clients."""

    share: Part = 0.8
    clients: Several = 5


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    smoke: study.Changes = {**study.SMOKE, "clients": 3, "groups": 2}
    return study.read_options(Config, args, __doc__, smoke=smoke)


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    experiment = f"weight_space-{config.home}"
    options, (network, data, aligners) = study.open_home(config, config.home)
    folder, settings = study.open_folder(config, experiment)
    train = study.to_device(data.train)
    members = [
        disjoint.train_client(options, network, part, config.groups, k)
        for k, part in enumerate(disjoint.split(data, config.clients, config.share))
    ]
    networks = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(nets.train for nets in members))
    labels = np.repeat(np.arange(config.clients), config.groups)
    predict = deep_align.using(aligner=aligners[0])
    matched = [naive, weight_matching, activation_matching_correlation]
    distances = {
        str(method): aligned_distances(network, networks, method, key=jax.random.key(0), data=train)
        for method in (*matched, predict, chain(predict, study.refinement(config)))
    }
    results = {"experiment": experiment, "config": settings, "environment": report.environment()}
    results |= report.make_maps(distances, labels)
    report.write_json(folder / "results.json", results)
    report.maps_figure(results, folder / "maps.png")
    print(report.maps_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
