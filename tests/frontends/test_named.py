"""Models by name: of one's own code, of packages, and what a wrong name is told."""

import sys

import pytest

from dwalign.frontends import find_model
from dwalign.frontends.named import parse_options

CODE = """
import flax.linen as nn
import numpy as np

def alone():
    return nn.Dense(3)

def fed():
    return nn.Dense(3), np.ones((2, 5)), np.ones(2)

def pieces():
    import haiku as hk
    return hk.transform(lambda x: hk.Linear(2)(x))
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_models", None)


@pytest.mark.parametrize("place", ["own_models", "own_models.py"])
def test_a_factory_of_ones_own(code, place):
    model, inputs = find_model(f"{place}:alone")
    assert type(model).__name__ == "Dense" and inputs is None
    model, inputs = find_model(f"{place}:fed")
    assert model.features == 3 and [x.shape for x in inputs] == [(2, 5), (2,)]


def test_wrong_names_say_what_to_do(code):
    for name, message in {
        "own_models:missing": "must have a function missing",
        "none_such:factory": "must be a module that Python can import here",
        "none_such.py:factory": "must be a file",
        "own_models": "must be named as kind:name",
        "hf:own_models.py": "a folder that holds config.json",
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            find_model(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a,b", "a,b=f()", "a,b=1 2", "a,*b", "a,b=c.d", "a,**b"])
def test_options_are_literals(text):
    with pytest.raises(ValueError, match="options of a must be"):
        parse_options(text)


def test_models_of_packages():
    pytest.importorskip("timm")
    model, inputs = find_model("timm:test_resnet,num_classes=10,in_chans=1")
    assert inputs[0].shape[:2] == (2, 1) and model.num_classes == 10
    with pytest.raises(ValueError, match="near it are resnet18"):
        find_model("timm:resnet18x")
    model, inputs = find_model("torchvision:squeezenet1_1,num_classes=10,weights=none")
    assert inputs[0].shape == (2, 3, 224, 224)


def test_a_model_of_keras():
    pytest.importorskip("keras")
    model, inputs = find_model("keras:MobileNet,weights=none,input_shape=32x32x3,alpha=0.25,classes=10")
    assert inputs[0].shape == (2, 32, 32, 3) and model.output_shape == (None, 10)
    with pytest.raises(ValueError, match=r"keras\.applications must have a model"):
        find_model("keras:MobileNot")
