"""What networks are trained for, their data, and zoos of them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign import zoo
from dwalign.evaluation import correct
from study.options import Options

Data = tuple[jax.Array, jax.Array]


class Task(NamedTuple):
    """What the networks of a study were trained for.

    Attributes:
      loss: `(outputs, labels) -> scalar`, a mean over examples.
      hits: `(outputs, labels) -> [m]`, the examples that count as right.
      views: consecutive networks that share a data set of their own; None where all networks share one.
      augmentation: what leaves them nearly unchanged.
    """

    loss: Callable = zoo.cross_entropy
    hits: Callable = correct
    views: int | None = None
    augmentation: zoo.Augmentation = zoo.Augmentation()


CLASSIFICATION = Task()


def zoo_size(options: Options, task: Task = CLASSIFICATION) -> zoo.ZooSize:
    """How many networks play each role; the test networks make `test_pairs` disjoint pairs (of views)."""
    pairs = 1 if task.views is None else task.views // 2
    test = -(-options.test_pairs // pairs) * (task.views or 2)
    return zoo.ZooSize(options.train_networks, options.validation_networks, test)


def make_zoo(
    options: Options, network: Mapping[str, Any], data: Any, task: Task = CLASSIFICATION, *, seed: int = 0
) -> zoo.Zoo:
    """The zoo of these options, trained or read from the cache."""
    recipe = zoo.Recipe(options.epochs, options.zoo_batch_size, options.zoo_learning_rate)
    sizes = zoo_size(options, task)
    if (count := data.train.labels.shape[0 if task.views is None else 1]) < options.zoo_batch_size:
        raise zoo.ZooError(
            f"zoo_batch_size must not exceed the {count} training examples of {data.name}, found "
            f"{options.zoo_batch_size}"
        )
    nets = zoo.get_zoo(
        dict(network),
        data,
        recipe,
        sizes,
        folder=Path(options.out) / "zoos",
        chunk=options.zoo_chunk,
        seed=seed,
        loss=task.loss,
        views=task.views,
    )
    print(f"zoo: {sum(sizes)} networks {'read from the cache' if nets.cached else 'trained'}")
    return nets


def make_test_zoo(options: Options, network: Mapping[str, Any], data: Any) -> zoo.Zoo:
    """Networks for judging alone, from seeds that no aligner's training networks have, on whatever data."""
    only_test = dataclasses.replace(options, train_networks=0, validation_networks=0)
    return make_zoo(only_test, network, data, seed=500_000_000)


def networks_in(nets: zoo.Zoo) -> int:
    """The number of networks in all roles."""
    return sum(zoo.size(part) for part in (nets.train, nets.validation, nets.test))


def shrink(data: zoo.Dataset, side: int) -> zoo.Dataset:
    """Pictures of `[m, h, w, c]` averaged down by the largest whole factor that leaves at least `side` pixels."""
    factor = max(1, min(data.train.inputs.shape[1:3]) // side)
    if factor == 1:
        return data

    def one(batch):
        m, h, w, c = batch.inputs.shape
        h, w = h // factor, w // factor
        blocks = batch.inputs[:, : h * factor, : w * factor].reshape(m, h, factor, w, factor, c)
        return zoo.Batch(blocks.mean((2, 4)), batch.labels)

    return data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))


def to_device(batch: Any) -> Data:
    """A batch of a data set as arrays of JAX."""
    return jnp.asarray(batch.inputs), jnp.asarray(batch.labels)
