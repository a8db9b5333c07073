"""A real ten-class set of CIFAR's shape that needs no download: 32x32 patches of ten colour photographs.

The photographs are inside the wheels of scikit-image and scikit-learn. Each is divided into tiles; every fifth tile is
for testing, so that no pixel is seen in both splits. The set is written and read as a TFDS dataset, without TensorFlow.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.extras import load

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "china.jpg",
    "flower.jpg",
)
SIDE, TILE = 32, 64
COUNTS = {"train": 500, "test": 100}


def make_builder(data_dir: str | None) -> Any:
    """The TFDS builder, prepared on first use; TFDS writes into a temporary folder and renames it when it is whole."""
    builder = _builder_class()(data_dir=data_dir, file_format="array_record")
    if not builder.data_path.exists():
        builder.download_and_prepare()
    return builder


@functools.cache
def _builder_class() -> type:
    tfds: Any = load("tensorflow_datasets")

    class PhotoPatches(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description="32x32 patches of ten colour photographs, train and test from disjoint tiles.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                        "label": tfds.features.ClassLabel(names=[Path(name).stem for name in PHOTOGRAPHS]),
                    }
                ),
            )

        def _split_generators(self, manager):
            return {split: self._generate_examples(split) for split in COUNTS}

        def _generate_examples(self, split):
            yield from patches(split)

    return PhotoPatches


def patches(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and example (a PIL image and a label) of every patch of a split."""
    Image = load("PIL.Image")

    for label, name in enumerate(PHOTOGRAPHS):
        photograph = _read(name)
        rng = np.random.default_rng([label, list(COUNTS).index(split)])
        tiles = [
            (top, left)
            for number, (top, left) in enumerate(np.ndindex(photograph.shape[0] // TILE, photograph.shape[1] // TILE))
            if (number % 5 == 0) == (split == "test")
        ]
        for number in range(COUNTS[split]):
            top, left = (TILE * place for place in tiles[rng.integers(len(tiles))])
            size = int(rng.integers(SIDE, TILE + 1))
            down, right = rng.integers(0, TILE - size + 1, 2)
            patch = photograph[top + down : top + down + size, left + right : left + right + size]
            image = Image.fromarray(patch[:, :: int(rng.choice([-1, 1]))].copy())
            yield (
                label * COUNTS[split] + number,
                {"image": image.resize((SIDE, SIDE), Image.Resampling.BOX), "label": label},
            )


def _read(name: str) -> np.ndarray:
    Image = load("PIL.Image")

    folders = _folders()
    file = next((folder / name for folder in folders if (folder / name).exists()), None)
    if file is None:
        raise FileNotFoundError(f"photo_patches needs {name} of scikit-image or scikit-learn, not in {folders}")
    return np.asarray(Image.open(file).convert("RGB"))


def _folders() -> list[Path]:
    skimage, sklearn = load("skimage"), load("sklearn")

    return [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
