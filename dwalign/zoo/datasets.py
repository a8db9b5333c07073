"""Images in: the data sets that zoos are trained on, as arrays."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

TFDS_NAMES = ("mnist", "fashion_mnist", "cifar10")


class DataError(RuntimeError):
    """A data set that is not prepared on this machine."""


class Batch(NamedTuple):
    """Inputs `[m, ...]` in [0, 1], centred, and integer labels `[m]`."""

    inputs: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A classification data set; `validation` is 10 % of the training split, which networks are not trained on."""

    name: str
    train: Batch
    validation: Batch
    test: Batch
    classes: int


def load(name: str, *, data_dir: str | None = None) -> Dataset:
    """Load a data set.

    Args:
      name: `digits` (1,797 real 8x8 digits inside scikit-learn: nothing to download), or `mnist`, `fashion_mnist` or
        `cifar10` through TFDS.
      data_dir: where TFDS keeps prepared data; None is TFDS's own default.

    Raises:
      DataError: the data set is not prepared; the message holds the command that prepares it.
    """
    if name == "digits":
        return _digits()
    if name in TFDS_NAMES:
        return _tfds(name, data_dir)
    raise ValueError(f"data set: must be one of {('digits', *TFDS_NAMES)}, got {name!r}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = _standardise(images[order] / 16.0)
    labels = labels[order].astype(np.int32)
    return _split("digits", Batch(images[:1300], labels[:1300]), Batch(images[1300:], labels[1300:]))


def _tfds(name: str, data_dir: str | None) -> Dataset:
    import tensorflow_datasets as tfds

    def read(split):
        try:
            source = tfds.data_source(name, split=split, data_dir=data_dir, download=False)
            rows = source.__getitems__(range(len(source)))
        except Exception as error:
            where = data_dir or "TFDS's default folder"
            flag = f", data_dir={str(Path(data_dir))!r}" if data_dir else ""
            raise DataError(
                f"data set {name!r} must be prepared as array_record in {where}, but could not be read "
                f"({type(error).__name__}). Prepare it once with: pip install tensorflow-cpu && python -c "
                f"\"import tensorflow_datasets as tfds; tfds.builder({name!r}{flag}, file_format='array_record')"
                '.download_and_prepare()"'
            ) from error
        images = np.stack([row["image"] for row in rows])
        labels = np.array([row["label"] for row in rows], np.int32)
        return Batch(_standardise(images / 255.0), labels)

    return _split(name, read("train"), read("test"))


def _standardise(images: np.ndarray) -> np.ndarray:
    return ((images - 0.5) * 2.0).astype(np.float32)


def _split(name: str, train: Batch, test: Batch) -> Dataset:
    order = np.random.default_rng(1).permutation(len(train.labels))
    cut = len(order) // 10
    pick = lambda index: Batch(train.inputs[index], train.labels[index])
    return Dataset(name, pick(order[cut:]), pick(order[:cut]), test, int(train.labels.max()) + 1)
