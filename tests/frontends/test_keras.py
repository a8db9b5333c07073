"""Models of Keras on JAX: all variables in, the model itself out."""

import os

import jax
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras")

import keras

import dwalign
from dwalign.frontends.keras import open_model
from tests import drawn
from tests.frontends import laws

X = drawn.normal(8, 5)


def made():
    keras.utils.set_random_seed(0)
    # a model inside, and two layers of one name
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, name="same"), keras.layers.BatchNormalization()])
    entry = keras.Input((5,))
    x = keras.layers.Dropout(0.5)(keras.layers.Activation("relu")(inner(entry)))
    return keras.Model(entry, keras.layers.Dense(3, name="same")(x))


def own(model, training):
    with jax.numpy_rank_promotion("allow"):
        return model(X, training=training)


def test_a_model_with_batch_statistics_and_seeds():
    model = made()
    before = [np.array(variable.value) for variable in model.variables]
    _, params = dwalign.from_model(model, X)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.value, value)
    assert len(params) == len(model.variables) and any(leaf.dtype == np.uint32 for leaf in params.values())

    net, params = laws.there_and_back(model, X, answer=lambda model: own(model, False))
    assert net.spec.sizes == {"h0": 6}
    into = lambda params: dwalign.into_model(model, params)
    evaluated = lambda params: own(into(params), False)

    def trained(params):
        dropout = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
        dropout.rate = 0.0
        return own(into(params), True)

    laws.renewed(net, params, X, evaluated=evaluated, trained=trained)
    norm = next(layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization))
    assert norm.momentum == 0.99 and "call" not in vars(norm)
    laws.other_shapes_are_refused(model, X)


def test_models_made_one_after_the_other_have_the_names_of_the_first():
    def unnamed():
        entry = keras.Input((5,))
        x = keras.Sequential([keras.layers.Dense(6, "relu"), keras.layers.BatchNormalization()])(entry)
        x = keras.layers.Dropout(0.5)(keras.layers.Dense(4, "relu")(x))
        return keras.Model(entry, keras.layers.Dense(3, name="dense_out")(x))

    first, second = unnamed(), unnamed()
    net, a = dwalign.from_model(first, X)
    b = dwalign.from_model(second, X)[1]
    assert a.keys() == b.keys()
    assert {name.partition("/")[0] for name in a} == {"sequential", "dense_1", "seed_generator", "dense_out"}
    perms = dwalign.align(net, a, b, "weight_matching").perms
    aligned = dwalign.into_model(second, dwalign.permute(net.spec, b, perms))
    np.testing.assert_allclose(own(aligned, False), net.apply(b, X), atol=1e-5)


def test_norms_of_keras_fold_and_the_stream_turns():
    """It multiplies by the inverse deviation before it subtracts the mean."""
    layers = keras.layers
    entry = keras.Input((3, 4))
    stream = layers.Dense(6)(entry)
    stream = stream + layers.Dense(6)(layers.Dense(7, "gelu")(layers.LayerNormalization()(stream)))
    model = keras.Model(entry, layers.Dense(2)(layers.LayerNormalization()(stream)))
    x = drawn.normal(2, 3, 4)
    net, _ = dwalign.from_model(model, x)
    params = drawn.weights(net.params, 3)
    folded, after = dwalign.fold_norms(dwalign.network(net.apply, params, x, kinds="all"), params)
    assert folded.notes == () and dict(folded.spec.kinds) == {"h0": "orthogonal", "h1": "permutation"}
    expected = np.asarray(jax.jit(net.apply)(params, x))
    moved = dwalign.permute(folded.spec, after, dwalign.random_perms(folded.spec, np.random.default_rng(0)))
    for apply, weights in ((folded.apply, after), (net.apply, after), (folded.apply, moved)):
        np.testing.assert_allclose(jax.jit(apply)(weights, x), expected, atol=1e-4 * np.abs(expected).max())


class Many(keras.layers.Layer):
    """bfloat16 holds no 257, int8 no 128."""

    def build(self, shape):
        for kind, count in {"bfloat16": 260, "int8": 130}.items():
            for _ in range(count):
                self.add_weight(shape=(2,), dtype=kind, trainable=kind != "int8", initializer="zeros")

    def call(self, x):
        return x


def test_variables_of_short_types_are_found_in_files(tmp_path):
    model = keras.Sequential([keras.Input((2,)), Many()])
    for k, variable in enumerate(model.variables):
        variable.assign(drawn.normal(*variable.shape, seed=k) * 100)
    before = open_model(model, np.zeros((1, 2), np.float32), params=None, key=None, call={}).params
    names = dwalign.frontends.names_in_files(model)
    model.save_weights(tmp_path / "w.weights.h5")
    opened = dwalign.files.open_weights(tmp_path / "w.weights.h5")
    assert names.keys() == before.keys() and len(names) == 390 and set(names.values()) == set(opened)
    for path, name in names.items():
        np.testing.assert_array_equal(np.asarray(opened[name]), before[path])


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_the_command_line_aligns_files_of_keras(ending, tmp_path, monkeypatch):
    from dwalign.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_of_keras.py").write_text(
        "import keras, numpy as np\n"
        "layers = keras.layers\n"
        "def make():\n"
        "    body = [layers.Dense(6), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5)]\n"
        "    return keras.Sequential([layers.Input((4,)), *body, layers.Dense(5), layers.Dense(5)])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import net_of_keras

    models = [net_of_keras.make() for _ in range(2)]
    for model, name in zip(models, "ab", strict=True):
        model.save(f"{name}{ending}") if ending == ".keras" else model.save_weights(f"{name}{ending}")
    command = ["align", f"a{ending}", f"b{ending}", "--network", "net_of_keras.py:make", "-o", f"out{ending}"]
    assert main(command) == 0
    inputs = drawn.normal(3, 4)
    before = [np.array(weight) for weight in models[1].get_weights()]
    with jax.numpy_rank_promotion("allow"):
        wanted = np.asarray(models[1](inputs))
    models[1].load_weights(f"out{ending}")
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(np.asarray(models[1](inputs)), wanted, atol=1e-5)
    moved = [not np.array_equal(*pair) for pair in zip(before, models[1].get_weights(), strict=True)]
    assert any(moved), "units are in the order of the other network"


def chain(*layers):
    return keras.Sequential([keras.Input((4,)), *layers])


def in_turn(first, second):
    """The second layer is made before the first."""
    layers = [keras.layers.Dense(4, kind) for kind in (second, first)][::-1]
    return chain(*layers)


def side_by_side(turned, names=("left", "right")):
    entry = keras.Input((4,))
    left, right = (keras.layers.Dense(4, "relu", name=name)(entry) for name in names)
    return keras.Model(entry, right + left if turned else left + right)


ORDERS = {
    "names that somebody gave": (lambda: side_by_side(False), lambda: side_by_side(True), "both"),
    "names by number, which may count layers in any order": (
        lambda: side_by_side(False, (None, None)),
        lambda: side_by_side(True, (None, None)),
        ".weights.h5",
    ),
    "made in another order, but called in the same": (
        lambda: chain(keras.layers.Dense(4, "relu"), keras.layers.Dense(4, "relu")),
        lambda: in_turn("relu", "relu"),
        ".weights.h5",
    ),
    "other activations, which the architecture tells alone": (
        lambda: chain(keras.layers.Dense(4, "relu"), keras.layers.Dense(4, "tanh")),
        lambda: chain(keras.layers.Dense(4, "tanh"), keras.layers.Dense(4, "relu")),
        ".keras",
    ),
    "a head without its softmax": (
        lambda: chain(keras.layers.Dense(4, "relu"), keras.layers.Dense(4, "softmax", name="head")),
        lambda: chain(keras.layers.Dense(4, "relu"), keras.layers.Dense(4, name="head")),
        "none",
    ),
}


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("name", ORDERS)
def test_layers_in_another_order_are_refused_where_a_file_tells(name, ending, tmp_path):
    saved, factory, refused = ORDERS[name]
    model = saved()
    model.save(tmp_path / f"w{ending}") if ending == ".keras" else model.save_weights(tmp_path / f"w{ending}")
    weights = dwalign.files.open_weights(tmp_path / f"w{ending}")
    for made in (saved, factory):
        if made is factory and refused in ("both", ending):
            with pytest.raises(dwalign.files.FileError, match="layers of the model in its order"):
                dwalign.frontends.check_layers(made(), weights)
        else:
            dwalign.frontends.check_layers(made(), weights)


def test_what_lies_at_the_place_of_another_layer_is_never_aligned(tmp_path, monkeypatch, capsys):
    from dwalign.cli import main

    monkeypatch.chdir(tmp_path)
    for name in "ab":
        side_by_side(False).save_weights(f"{name}.weights.h5")
    (tmp_path / "turned.py").write_text(
        "from tests.frontends.test_keras import side_by_side as make\nturned = lambda: make(True)\n"
    )
    command = ["align", "a.weights.h5", "b.weights.h5", "--network", "turned.py:turned", "-o", "out.weights.h5"]
    assert main(command) == 2 and not (tmp_path / "out.weights.h5").exists()
    assert "found left at layers/dense that is layers/dense_1 in the model" in capsys.readouterr().err
