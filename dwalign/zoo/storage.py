"""Zoos on disk: trained once, cached in chunks, resumed after an interruption."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from dwalign.networks import Network, build
from dwalign.zoo.datasets import Dataset
from dwalign.zoo.train import Recipe, cross_entropy, train_networks

PyTree = Any
TYPES = {"bool", "bfloat16", "complex64"} | {f"float{bits}" for bits in (16, 32, 64)}
TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class ZooError(RuntimeError):
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


def get_zoo(
    network_config: dict[str, Any],
    dataset: Dataset,
    recipe: Recipe,
    size: ZooSize,
    *,
    folder: str | Path,
    chunk: int = 50,
    seed: int = 0,
    loss: Callable | None = None,
    views: int | None = None,
) -> Zoo:
    """Train a zoo, or read it from `folder` when the same one was trained before.

    Network k is trained from seed `seed + k`. Every finished chunk is kept, so that an interrupted call continues
    where it stopped.

    Args:
      network_config: for `dwalign.networks.build`.
      dataset: what the networks learn; its name and the inputs of `train` name the zoo.
      recipe, size, chunk, seed: how, how many, how many at once, from which seeds.
      folder: of all zoos.
      loss: `(outputs, labels) -> scalar`; mean softmax cross-entropy by default.
      views: so many consecutive networks learn the same signal; the leaves of `dataset.train` are `[signals, m, ...]`,
        first those of the training networks, and each role holds all views of its signals.

    Raises:
      ZooError: the folder cannot be written or holds damaged files, the zoo there was trained with other labels or
        another loss, or networks are not finite.
    """
    network = build(network_config)
    if views is not None:
        _check_views(views, size, dataset.train.labels)
    config = {"network": network.config, "dataset": dataset.name, "recipe": recipe._asdict(), "seed": seed}
    labels_hash = _hash(dataset.train.labels)
    if views is not None:
        config |= {"views": views, "labels": labels_hash}
    config["images"] = _hash(dataset.train.inputs)
    digest = hashlib.sha256(json.dumps([config, chunk], sort_keys=True).encode()).hexdigest()[:12]
    home = Path(folder) / f"{dataset.name}-{network.config['kind']}-{digest}"
    # beside the digest, which names caches from before these were recorded
    chosen = loss or cross_entropy
    about = {"labels": labels_hash, "loss": getattr(chosen, "__name__", type(chosen).__name__)}
    _check_same(home / "config.json", about)

    count = -(-sum(size) // chunk)
    files = [home / f"networks-{k * chunk:05d}.safetensors" for k in range(count)]
    missing = [k for k, file in enumerate(files) if not file.exists()]
    if missing:  # a complete zoo is only read, so that its folder may be read-only
        try:
            home.mkdir(parents=True, exist_ok=True)
            write_bytes(home / "config.json", json.dumps(config | about, indent=2).encode())
        except OSError as error:
            raise ZooError(f"{home} must be a folder that can be written, to cache the zoo: {error}") from error
        inputs, labels = jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.labels)
        train = train_networks(network, inputs, labels, recipe, loss, signals=views is not None)
        bar = tqdm(total=sum(size), initial=(count - len(missing)) * chunk, desc="training the zoo", unit="network")
        for k in missing:
            index = k * chunk + jnp.arange(chunk)
            signals = () if views is None else (index // views,)
            params = jax.block_until_ready(train(seed + index, *signals))
            _check_finite(files[k], params, sum(size) - k * chunk, recipe)
            save_params(files[k], params)
            bar.update(min(chunk, bar.total - bar.n))
        bar.close()
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    parts = [load_params(file, shapes) for file in files]
    for k, (file, part) in enumerate(zip(files, parts, strict=True)):
        _check_finite(file, part, sum(size) - k * chunk, recipe)
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    cuts = np.cumsum([0, *size])
    roles = [jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[cuts[i] : cuts[i + 1]]), stacked) for i in range(3)]
    train, validation, test = roles
    return Zoo(network, train, validation, test, cached=not missing)


def _check_views(views: int, size: ZooSize, labels: np.ndarray) -> None:
    if views < 2 or any(count % views for count in size):
        raise ValueError(f"zoo: each role must hold all {views} >= 2 views of its signals, got {size}")
    if len(labels) * views < sum(size):
        raise ValueError(f"zoo: {sum(size)} networks need {sum(size) // views} signals, the data hold {len(labels)}")


def _hash(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def _check_same(file: Path, about: dict[str, str]) -> None:
    """That the zoo in this folder, where there is one, was trained with these labels and this loss."""
    try:
        found = dict(json.loads(file.read_text()))
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
    finite = [np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(params)]
    broken = int((~np.all(finite, 0))[:count].sum())
    if broken:
        raise ZooError(
            f"{file}: all networks must be finite, found {broken} of {len(finite[0][:count])} that are not; lower the "
            f"learning rate of the recipe, {recipe.learning_rate}, and delete the file where it exists"
        )


def save_params(file: Path, params: PyTree) -> None:
    """Write a tree of arrays as safetensors; the file appears whole or not at all.

    An array is named by its path, `params/dense_0/kernel`, and read back bit for bit.

    Raises:
      ZooError: it could not be written, two arrays have one name, or an array is of a type that safetensors cannot give
        back: random keys, 8-bit floats, 4-bit integers, complex128, objects.
    """
    from safetensors.numpy import save

    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    flat = {name: _plain(file, name, leaf) for name, (_, leaf) in zip(_names(file, paths), paths, strict=True)}
    try:
        write_bytes(file, save(flat))
    except OSError as error:
        raise ZooError(f"{file} could not be written ({error}); free space or choose another folder") from error


def load_params(file: Path, like: PyTree) -> PyTree:
    """Read what `save_params` wrote into the structure of `like`; leading axes may be added to its shapes.

    Raises:
      ZooError: the file is damaged, or holds other arrays than `like`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        flat = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{file} must be a whole safetensors file ({error}); delete it and run again") from error
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    names = _names(file, paths)
    if set(names) != set(flat):
        raise ZooError(f"{file} must hold the arrays {sorted(names)}, found {sorted(flat)}; delete it and run again")
    for name, (_, leaf) in zip(names, paths, strict=True):
        shape = jnp.shape(leaf)
        if flat[name].shape[flat[name].ndim - len(shape) :] != shape:
            raise ZooError(f"{file}: {name} must end in shape {shape}, found {flat[name].shape}")
    return treedef.unflatten([flat[name] for name in names])


def _names(file: Path, paths) -> list[str]:
    """The names of leaves on disk, each its own."""
    names: dict[str, str] = {}
    for path, _ in paths:
        name, text = (jax.tree_util.keystr(path, **style) for style in (dict(simple=True, separator="/"), {}))
        if name in names:
            raise ZooError(
                f"{file}: each array must have a name of its own, but {names[name]} and {text} are both {name!r}"
            )
        names[name] = text
    return list(names)


def _plain(file: Path, name: str, leaf: Any) -> np.ndarray:
    """The leaf as safetensors takes it: of a type that it gives back, in the machine's byte order, rows first."""
    if jnp.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.extended):
        raise ZooError(f"{file}: {name} is a random key ({leaf.dtype}), write jax.random.key_data of it instead")
    array = np.asarray(leaf)
    if array.dtype.name not in TYPES:
        raise ZooError(
            f"{file}: {name} must be of a type that safetensors gives back ({', '.join(sorted(TYPES))}), found "
            f"{array.dtype}; convert it"
        )
    # safetensors writes the memory as it lies, under the shape of the view
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
