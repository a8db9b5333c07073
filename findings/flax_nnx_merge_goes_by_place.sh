#!/bin/sh
# nnx.merge puts the arrays of a state into a module in their order, and looks at no name.
#
# flax 0.12.8, orbax-checkpoint 0.12.8, jax 0.10.2. A state with other names, or other shapes, is taken without a word, if it
# has as many arrays. Orbax (restored without a target) and Flax's msgpack give the numbers of layers in a list back as
# texts, and "10" comes before "2": a network of more than ten layers has them in another order afterwards, with all of its
# arrays and shapes. nnx.replace_by_pure_dict goes by name and knows such texts. A guess would be that a nested dictionary of
# named arrays is matched by the names, as params of linen are, or refused where they are others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    flax==0.12.8 jax==0.10.2 orbax-checkpoint==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - "$folder/saved" <<'PYTHON'
import sys

import flax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from flax.serialization import msgpack_restore, to_bytes


class Net(nnx.Module):
    def __init__(self, layers, seed=0):
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(layers)])

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.tanh(layer(x))
        return x


def through_orbax(params):
    path = f"{sys.argv[1]}-{len(params['layers'])}"
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(path, params)
    checkpointer.wait_until_finished()
    return checkpointer.restore(path)


def by_name(params, layers):
    net = Net(layers, seed=1)
    state = nnx.state(net)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(net, state)
    return net


x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 4)), jnp.float32)
print(f"flax {flax.__version__}, orbax-checkpoint {ocp.__version__}")
for layers in (10, 11):
    net = Net(layers)
    graph, state = nnx.split(net)
    params = nnx.to_pure_dict(state)
    for name, read in {"Orbax": through_orbax(params), "msgpack": msgpack_restore(to_bytes(params))}.items():
        merged, named = nnx.merge(graph, read), by_name(read, layers)
        apart = lambda other: float(jnp.abs(net(x) - other(x)).max() / jnp.abs(net(x)).max())
        whose = lambda layer: next(k for k, own in enumerate(net.layers) if jnp.array_equal(own.kernel, layer.kernel))
        order = [whose(layer) for layer in merged.layers]
        print(f"{layers} layers through {name}: merged in the order {order}")
        print(f"off the network by {apart(merged):.2g}, by name {apart(named):.2g}")
        assert apart(named) < 1e-6
        assert apart(merged) < 1e-6 if layers == 10 else order == [0, 1, 10, *range(2, 10)] and apart(merged) > 0.1

graph = nnx.graphdef(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
other = nnx.merge(graph, {"a": jnp.ones((4, 4)), "b": jnp.ones(4)})
print(f"arrays a and b of shapes (4, 4) and (4,): bias {other.bias.shape}, kernel {other.kernel.shape}")
assert other.bias.shape == (4, 4) and other.kernel.shape == (4,), "names count now"
PYTHON
