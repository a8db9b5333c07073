"""Models of Hugging Face, small ones: of Flax, and of torch."""

import json

import jax
import numpy as np
import pytest

import dwalign
from tests import drawn
from tests.frontends import laws

transformers = pytest.importorskip("transformers")
SIZES = dict(
    vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
    max_position_embeddings=12,
)  # fmt: skip
TOKENS = {"input_ids": np.arange(12, dtype=np.int32).reshape(2, 6), "attention_mask": np.ones((2, 6), np.int32)}


def flax(kind):
    return getattr(transformers, f"Flax{kind}", None) or pytest.skip("transformers without Flax")


def test_a_model_of_flax():
    model = flax("BertForSequenceClassification")(transformers.BertConfig(**SIZES), _do_init=False)
    answer = lambda params: model(**TOKENS, params=params).logits
    net, params = laws.there_and_back(model, TOKENS, answer=answer, key=jax.random.key(0))
    assert jax.tree.map(np.shape, net.init(jax.random.key(1))) == jax.tree.map(np.shape, params)


def test_a_model_of_flax_with_batch_statistics():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], num_labels=3)
    model = flax("ResNetForImageClassification")(config, input_shape=(1, 16, 16, 3))
    pictures = drawn.normal(4, 3, 16, 16)
    net, params = dwalign.from_model(model, pictures)
    params = laws.varied(params)
    evaluated = lambda params: model(pictures, params=params).logits
    trained = lambda params: model(pictures, params=params, train=True)[0].logits
    laws.renewed(net, params, pictures, evaluated=evaluated, trained=trained, tolerance=1e-4)


def test_a_model_of_torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchax")
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)).eval()
    named = {name: torch.tensor(array) for name, array in TOKENS.items()}
    net, _ = laws.there_and_back(model, TOKENS, answer=lambda model: model(**named).logits.detach())
    assert len(net.spec.sizes) >= 4


def test_folders_are_merged_under_the_names_that_files_keep(tmp_path, monkeypatch, capsys):
    """transformers 5 holds a ViT under other names than it stores it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchax")
    from dwalign.cli import main

    monkeypatch.chdir(tmp_path)
    sizes = {name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = transformers.ViTConfig(**sizes, intermediate_size=12, image_size=8, patch_size=4, num_labels=3)
    models = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        models.append(transformers.ViTForImageClassification(config).eval())
        models[-1].save_pretrained(name)
    assert main(["align", "a", "b", "--network", "hf:a", "--method", "weight_matching", "-o", "c"]) == 0
    capsys.readouterr()
    aligned = transformers.ViTForImageClassification.from_pretrained("c").eval()
    pictures = torch.tensor(drawn.normal(2, 3, 8, 8))
    one, two = (model(pixel_values=pictures).logits.detach() for model in (models[1], aligned))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert not np.allclose(models[1].classifier.weight.detach(), aligned.classifier.weight.detach())


def test_a_folder_names_its_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES}))
    with pytest.raises(ValueError, match="'architectures'"):
        dwalign.frontends.find_model(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"], **SIZES}))
    (tmp_path / "flax_model.msgpack").touch()
    flax("BertModel")
    model, inputs = dwalign.frontends.find_model(f"hf:{tmp_path}")
    assert type(model).__name__ == "FlaxBertModel"
    assert dwalign.from_model(model, *inputs)[0].spec.sizes
