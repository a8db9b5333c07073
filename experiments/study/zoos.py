"""Zoos of a study and the data that they are trained on."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dwalign import report, zoo
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import count_networks
from study.options import Options, change

PyTree = Any


def make_zoo(
    options: Options,
    network: Network,
    data: zoo.Dataset,
    task: Task = CLASSIFICATION,
    *,
    views: int | None = None,
    seed: int = 0,
) -> zoo.Zoo:
    """The zoo of these options, trained or read from the cache; `task`, `views` and `seed` as for `zoo.get_zoo`."""
    size = options.networks.size(views)
    if (count := data.train.labels.shape[0 if views is None else 1]) < options.recipe.batch_size:
        raise report.RunError(
            f"options: recipe.batch_size must not exceed the {count} training examples of {data.name}, found "
            f"{options.recipe.batch_size}"
        )
    nets = zoo.get_zoo(
        network,
        data,
        options.recipe,
        size,
        folder=Path(options.out) / "zoos",
        chunk=options.networks.chunk,
        seed=seed,
        task=task,
        views=views,
    )
    print(f"zoo: {sum(size)} networks {'read from the cache' if nets.cached else 'trained'}")
    return nets


def make_test_zoo(options: Options, network: Network, data: zoo.Dataset) -> zoo.Zoo:
    """Networks for judging alone, from seeds that no aligner's training networks have, on whatever data."""
    only_test = change(options, {"networks.train": 0, "networks.validation": 0})
    return make_zoo(only_test, network, data, seed=500_000_000)


def networks_in(nets: zoo.Zoo) -> int:
    """The number of networks in all roles."""
    return sum(count_networks(part) for part in (nets.train, nets.validation, nets.test))


def shrink(data: zoo.Dataset, side: int) -> zoo.Dataset:
    """Pictures of `[m, h, w, c]` averaged down by the largest whole factor that leaves at least `side` pixels."""
    factor = max(1, min(data.train.inputs.shape[1:3]) // side)
    if factor == 1:
        return data

    def one(part):
        m, h, w, c = part.inputs.shape
        h, w = h // factor, w // factor
        blocks = part.inputs[:, : h * factor, : w * factor].reshape(m, h, factor, w, factor, c)
        return Data(blocks.mean((2, 4)), part.labels)

    return data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))


def to_device(tree: PyTree) -> PyTree:
    """Arrays of JAX in place of those of NumPy."""
    return jax.tree.map(jnp.asarray, tree)
