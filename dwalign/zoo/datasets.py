"""Images in: the data sets that zoos are trained on, as arrays."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dwalign import extras
from dwalign.program import Data
from dwalign.zoo.photo_patches import make_builder

TFDS_NAMES = ("mnist", "fashion_mnist", "cifar10", "stl10")
NAMES = ("digits", "photo_patches", *TFDS_NAMES)
ANGLE = 45.0


class DataError(RuntimeError):
    """A data set that is not prepared on this machine."""


class Dataset(NamedTuple):
    """A classification data set; `validation` is 10 % of the training split, which networks are not trained on.

    Inputs `[m, ...]` of pictures lie in [-1, 1]; labels are integers `[m]`. Of text (`load_topics`) both are tokens
    `[m, length]`.
    """

    name: str
    train: Data
    validation: Data
    test: Data
    classes: int


def load(name: str, *, data_dir: str | None = None) -> Dataset:
    """Load a data set.

    Args:
      name: `digits` (1,797 real 8x8 digits inside scikit-learn: nothing to download), `photo_patches` (32x32 patches of
        ten photographs, prepared on first use), or `mnist`, `fashion_mnist`, `cifar10`, `stl10` through TFDS; with the
        prefix `rotated_` each image is turned by its own angle ~ U(-45, 45) degrees.
      data_dir: where TFDS keeps prepared data; None is TFDS's own default.

    Raises:
      DataError: the data set is not prepared; the message holds the command that prepares it.
    """
    plain = str(name).removeprefix("rotated_")
    if plain == "digits":
        data = _digits()
    elif plain == "photo_patches":
        builder = make_builder(data_dir)
        data = _split(plain, *(_batch(builder.as_data_source(split=split)) for split in ("train", "test")))
    elif plain in TFDS_NAMES:
        data = _tfds(plain, data_dir)
    else:
        raise ValueError(f"data set: must be one of {NAMES}, or one of these with the prefix rotated_, got {name!r}")
    return data if plain == name else _rotated(data)


def _digits() -> Dataset:
    images, labels = extras.load("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = _standardise(images[order].reshape(-1, 8, 8, 1) / 16.0)
    labels = labels[order].astype(np.int32)
    return _split("digits", Data(images[:1300], labels[:1300]), Data(images[1300:], labels[1300:]))


def _tfds(name: str, data_dir: str | None) -> Dataset:
    tfds = extras.load("tensorflow_datasets")

    def read(split):
        try:
            return _batch(tfds.data_source(name, split=split, data_dir=data_dir, download=False))
        except Exception as error:
            where = data_dir or "TFDS's default folder"
            flag = f", data_dir={str(Path(data_dir))!r}" if data_dir else ""
            raise DataError(
                f"data set {name!r} must be prepared as array_record in {where}, but could not be read "
                f"({type(error).__name__}). Prepare it once with: pip install tensorflow-cpu && python -c "
                f"\"import tensorflow_datasets as tfds; tfds.builder({name!r}{flag}, file_format='array_record')"
                '.download_and_prepare()"'
            ) from error

    return _split(name, read("train"), read("test"))


def _batch(source) -> Data:
    rows = source.__getitems__(range(len(source)))
    images = np.stack([row["image"] for row in rows])
    return Data(_standardise(images / 255.0), np.array([row["label"] for row in rows], np.int32))


def _rotated(data: Dataset) -> Dataset:
    """Every image `[h, w, c]` turned by an angle of its own, the edge continued; labels stay."""
    from scipy.ndimage import rotate

    rng = np.random.default_rng(2)

    def turn(batch: Data) -> Data:
        angles = rng.uniform(-ANGLE, ANGLE, len(batch.labels))
        turned = [
            rotate(image, angle, reshape=False, order=1, mode="nearest")
            for image, angle in zip(batch.inputs, angles, strict=True)
        ]
        return Data(np.stack(turned), batch.labels)

    return data._replace(
        name=f"rotated_{data.name}", train=turn(data.train), validation=turn(data.validation), test=turn(data.test)
    )


def _standardise(images: np.ndarray) -> np.ndarray:
    return ((images - 0.5) * 2.0).astype(np.float32)


def _split(name: str, train: Data, test: Data) -> Dataset:
    order = np.random.default_rng(1).permutation(len(train.labels))
    cut = len(order) // 10
    pick = lambda index: Data(train.inputs[index], train.labels[index])
    return Dataset(name, pick(order[cut:]), pick(order[:cut]), test, int(train.labels.max()) + 1)
