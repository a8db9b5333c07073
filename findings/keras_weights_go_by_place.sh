#!/bin/sh
# load_weights of Keras 3 puts weights in by the order of layers, and never looks at the names that lie in the file.
#
# keras 3.15.1 on jax 0.10.2. A model with a layer "left" and a layer "right" of one shape, saved as .weights.h5 or .keras, is
# loaded into the same model written with its sum the other way round, a + b and b + a: the layers change places without a
# word, and the outputs are others. The file has the name of each layer as an attribute. set_weights(get_weights()) does the
# same, load_model does not. A guess would be that layers whose names are given are found by name, or refused.
# Who compares or averages two networks that way, weight by weight, has other layers beside each other.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import h5py
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)


def made(turned):
    entry = keras.Input((6,))
    left = keras.layers.Dense(6, "relu", name="left")(entry)
    right = keras.layers.Dense(6, "tanh", name="right")(entry)
    return keras.Model(entry, right + left if turned else left + right)


def weights(model):
    return {name: model.get_layer(name).get_weights()[0] for name in ("left", "right")}


keras.utils.set_random_seed(0)
model = made(False)
answer = np.asarray(model(x))
model.save_weights("saved.weights.h5")
model.save("saved.keras")
with h5py.File("saved.weights.h5") as file:
    said = {place: file[place]["vars"].attrs["name"] for place in ("layers/dense", "layers/dense_1")}
print(f"keras {keras.__version__}: the file says {said}")
assert said == {"layers/dense": "left", "layers/dense_1": "right"}

by_name = lambda other: [other.get_layer(name).set_weights(model.get_layer(name).get_weights()) for name in said.values()]
loads = {
    "load_weights(.weights.h5)": lambda other: other.load_weights("saved.weights.h5"),
    "load_weights(.keras)": lambda other: other.load_weights("saved.keras"),
    "set_weights": lambda other: other.set_weights(model.get_weights()),
    "layer by layer": by_name,
}
for name, load in loads.items():
    for turned in (False, True):
        other = made(turned)
        load(other)
        off = float(np.abs(np.asarray(other(x)) - answer).max())
        swapped = np.array_equal(weights(other)["left"], weights(model)["right"])
        print(f"{name}, sum turned round {turned}: layers swapped {swapped}, outputs off by {off:.2g}")
        wrong = turned and name != "layer by layer"
        assert swapped == wrong and (off > 0.1 if wrong else off < 1e-5), name
assert np.array_equal(np.asarray(keras.saving.load_model("saved.keras")(x)), answer)
PYTHON
