"""Zoos on disk: trained once, cached in chunks, resumed after an interruption."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Amount, Count, Several, bounded
from dwalign.extras import progress
from dwalign.files import FileError, load_params, save_params, sealed, unsealed, write_bytes, writing
from dwalign.program import CLASSIFICATION, Network, Task
from dwalign.zoo.datasets import Dataset
from dwalign.zoo.recipe import Recipe
from dwalign.zoo.train import train_networks

PyTree = Any


class ZooError(FileError):
    """A cached zoo that cannot be read or written."""


class Zoo(NamedTuple):
    """Independently trained networks of one architecture, stacked along a leading axis, in disjoint roles.

    The aligner learns on `train`, is selected on `validation` and is judged on `test`.
    """

    network: Network
    train: PyTree
    validation: PyTree
    test: PyTree
    cached: bool


class ZooSize(NamedTuple):
    """How many networks play each role."""

    train: int
    validation: int
    test: int


@bounded
def get_zoo(
    network: Network,
    dataset: Dataset,
    recipe: Recipe,
    size: ZooSize,
    *,
    folder: str | Path,
    chunk: Count = 50,
    seed: Amount = 0,
    task: Task = CLASSIFICATION,
    views: Several | None = None,
) -> Zoo:
    """Train a zoo, or read it from `folder` when the same one was trained before.

    Network k is trained from seed `seed + k`. Every finished chunk is kept, so that an interrupted call continues
    where it stopped.

    Args:
      network: what is trained; any network that can be initialised (`Network.init`).
      dataset: what the networks learn; its name and `train` name the zoo.
      recipe, size, chunk, seed: how, how many, how many at once, from which seeds.
      folder: of all zoos.
      task: what they are trained for.
      views: so many consecutive networks learn the same signal; the leaves of `dataset.train` are `[signals, m, ...]`,
        first those of the training networks, and each role holds all views of its signals.

    Raises:
      ZooError: the folder cannot be written or holds damaged files, the zoo there was trained with other labels or
        another loss, or networks are not finite.
      ValueError: the network cannot be initialised, or a batch is larger than the data.
    """
    if not all(isinstance(count, int) and count >= 0 for count in size) or not sum(size):
        raise ValueError(f"get_zoo: size must be whole numbers with at least one network, found {tuple(size)}")
    if views is not None:
        _check_views(views, size, dataset.train.labels)
    config = {
        "network": describe_network(network),
        "dataset": dataset.name,
        # what is left out names no cache, so that those from before it could be given are found
        "recipe": {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None},
        "seed": seed,
    }
    labels_hash = hash_of(dataset.train.labels)
    if views is not None:
        config |= {"views": views, "labels": labels_hash}
    config["images"] = hash_of(dataset.train.inputs)
    digest = hashlib.sha256(json.dumps([config, chunk], sort_keys=True).encode()).hexdigest()[:12]
    kind = network.config.get("kind", "network")
    home = Path(folder) / f"{dataset.name}-{kind}-{digest}"
    # beside the digest, which names caches from before these were recorded
    about = {"labels": labels_hash, "loss": getattr(task.loss, "__name__", type(task.loss).__name__)}
    _check_same(home / "config.json", json.loads(json.dumps(config | about)))

    count = -(-sum(size) // chunk)
    files = [home / f"networks-{k * chunk:05d}.safetensors" for k in range(count)]
    _check_names(home, chunk)
    missing = [k for k, file in enumerate(files) if not file.exists()]
    train = train_networks(network, jax.device_put(dataset.train), recipe, task, signals=views is not None)
    if missing:  # a complete zoo is only read, so that its folder may be read-only
        try:
            with writing(home):
                home.mkdir(parents=True, exist_ok=True)
            write_bytes(home / "config.json", json.dumps(sealed(config | about), indent=2).encode())
        except FileError as error:
            raise ZooError(f"{home} must be a folder that can be written, to cache the zoo: {error}") from error
        bar = progress(total=sum(size), initial=(count - len(missing)) * chunk, desc="training the zoo", unit="network")
        for k in missing:
            index = k * chunk + jnp.arange(chunk)
            signals = () if views is None else (index // views,)
            params = jax.block_until_ready(train(seed + index, *signals))
            _check_finite(files[k], params, sum(size) - k * chunk, recipe)
            save_params(files[k], _storable(params))
            bar.update(min(chunk, bar.total - bar.n))
        bar.close()
    like = jax.eval_shape(_storable, network.params)
    parts = [_read_chunk(file, like, chunk) for file in files]
    for k, (file, part) in enumerate(zip(files, parts, strict=True)):
        _check_finite(file, part, sum(size) - k * chunk, recipe)
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    cuts = np.cumsum([0, *size])
    roles = [jax.tree.map(lambda leaf, i=i: leaf[cuts[i] : cuts[i + 1]], stacked) for i in range(3)]
    keys = jax.tree.map(_is_key, network.params)
    train_part, validation, test = (
        jax.tree.map(lambda key, leaf: jax.random.wrap_key_data(leaf) if key else jax.device_put(leaf), keys, role)
        for role in roles
    )
    return Zoo(network, train_part, validation, test, cached=not missing)


def describe_network(network: Network) -> Mapping[str, Any]:
    """What tells the network from others: its config, or else its program."""
    if network.config:
        return dict(network.config)
    text = str(jax.make_jaxpr(network.train or network.apply)(network.params, network.example))
    # functions inside an equation are shown with their place in memory
    program = re.sub(r"0x[0-9a-f]+", "", text)
    return {"program": hashlib.sha256(program.encode()).hexdigest()[:16]}


def _read_chunk(file: Path, like: PyTree, chunk: int) -> PyTree:
    """The networks of one file, which are `chunk`: one more or less would move all that follow to other roles."""
    again = "delete it, and the same call trains its networks again"
    try:
        params = load_params(file, like)
    except FileError as error:
        raise ZooError(f"{error}; {again}") from error
    found = {
        len(leaf) if leaf.ndim > np.ndim(one) else 0
        for leaf, one in zip(*map(jax.tree.leaves, (params, like)), strict=True)
    }
    if found - {chunk}:
        raise ZooError(f"{file} must hold {chunk} networks, found {sorted(found)}; {again}")
    return params


def _check_names(home: Path, chunk: int) -> None:
    """That every file of networks is one that this zoo, or a larger one, writes."""
    for file in home.glob("networks-*.safetensors"):
        first = file.name.removeprefix("networks-").removesuffix(".safetensors")
        if not first.isdigit() or int(first) % chunk or f"{int(first):05d}" != first:
            raise ZooError(f"{file} must begin at a multiple of {chunk} networks, as all of this zoo do; move it away")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(params: PyTree) -> PyTree:
    """Random keys as the integers that they are made of."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, params)


def _check_views(views: int, size: ZooSize, labels: np.ndarray) -> None:
    if views < 2 or any(count % views for count in size):
        raise ValueError(f"zoo: each role must hold all {views} >= 2 views of its signals, got {size}")
    if len(labels) * views < sum(size):
        raise ValueError(f"zoo: {sum(size)} networks need {sum(size) // views} signals, the data hold {len(labels)}")


def hash_of(tree: PyTree) -> str:
    """Of the numbers of a tree, in the order of its leaves."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def _check_same(file: Path, about: dict[str, str]) -> None:
    """That the zoo in this folder, where there is one, was trained with these labels and this loss."""
    try:
        found = dict(unsealed(json.loads(file.read_text())))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, TypeError) as error:
        raise ZooError(
            f"{file} must be a readable description of the zoo ({error}); delete it and run again"
        ) from error
    for name, value in about.items():
        if found.get(name, value) != value:
            raise ZooError(
                f"{file}: the cached zoo must have been trained with {name} {value}, found {found[name]}; choose "
                "another folder, or another name for the data set"
            )


def _check_finite(file: Path, params: PyTree, count: int, recipe: Recipe) -> None:
    """That the first `count` networks are finite; the last chunk holds more than the zoo takes."""
    inexact = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = [np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(1) for leaf in inexact]
    broken = int((~np.all(finite, 0))[:count].sum())
    if broken:
        raise ZooError(
            f"{file}: all networks must be finite, found {broken} of {len(finite[0][:count])} that are not; lower the "
            f"learning rate of the recipe, {recipe.learning_rate}, and delete the file where it exists"
        )
