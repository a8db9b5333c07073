"""Photo patches: real, balanced, the same every time, no pixel in both splits; rotation keeps labels."""

import numpy as np
import pytest

from dwalign import zoo
from dwalign.program import Data
from dwalign.zoo import photo_patches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def data(folder):
    assert photo_patches.COUNTS == {"train": 500, "test": 100}
    with pytest.MonkeyPatch.context() as patch:
        # of each photograph; what is written and read are a tenth of them
        patch.setattr(photo_patches, "COUNTS", {"train": 50, "test": 10})
        return zoo.load("photo_patches", data_dir=folder)


def test_it_is_prepared_once_and_read_again(data, folder):
    assert data.train.inputs.shape == (450, 32, 32, 3) and data.test.inputs.shape == (100, 32, 32, 3)
    assert data.classes == 10 and np.bincount(data.test.labels).tolist() == [10] * 10
    again = zoo.load("photo_patches", data_dir=folder)
    np.testing.assert_array_equal(again.test.inputs, data.test.inputs)
    assert float(np.std(data.train.inputs)) > 0.1


def test_no_pixel_is_in_both_splits(monkeypatch):
    # every pixel of this photograph is told by its colour
    places = np.arange(192 * 320).reshape(192, 320)
    colours = np.stack([places // 65536, places // 256 % 256, places % 256], -1).astype(np.uint8)
    monkeypatch.setattr(photo_patches, "_read", lambda name: colours)
    monkeypatch.setattr(photo_patches, "SIDE", 64)
    monkeypatch.setattr(photo_patches, "PHOTOGRAPHS", ("one.png",))
    seen = {}
    for split in photo_patches.COUNTS:
        images = np.stack([np.asarray(example["image"]) for _, example in photo_patches.patches(split)]).astype(int)
        seen[split] = set((images @ [65536, 256, 1]).ravel().tolist())
    assert seen["train"] and seen["test"] and not seen["train"] & seen["test"]


def test_rotated_pictures_keep_their_labels(data):
    few = data._replace(
        **{split: Data(*(leaf[:20] for leaf in getattr(data, split))) for split in ("train", "validation", "test")}
    )
    from dwalign.zoo import datasets

    turned = datasets._rotated(few)
    assert turned.name == "rotated_photo_patches" and turned.train.inputs.shape == few.train.inputs.shape
    np.testing.assert_array_equal(turned.train.labels, few.train.labels)
    assert np.abs(turned.train.inputs - few.train.inputs).mean() > 0.01
    np.testing.assert_array_equal(turned.test.inputs, datasets._rotated(few).test.inputs)
