#!/usr/bin/env bash
# flax 0.12.8, nnx: `nnx.state(model)` and `nnx.split(model)` hold the Variables of the model itself. A state that is kept
# as the network before training is the network after it, eagerly and through nnx.jit, and a second network that is merged
# from the same state is trained with the first. nnx.to_pure_dict, jax.tree.map(jnp.copy, ...) and nnx.clone keep values.
# A guess would be that a state is a snapshot, as params of linen are, and that merging it twice makes two networks.
# Two networks fine-tuned from one state are one network: no barrier between them, distance 0. Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 flax==0.12.8 optax==0.2.8 numpy==2.4.6 2>/dev/null
cd "$home"
JAX_PLATFORMS=cpu "$home/env/bin/python" -W ignore - <<'PY'
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def step(model, optimizer):
    grads = nnx.grad(lambda model: (model(jnp.ones((4, 2))) ** 2).sum())(model)
    optimizer.update(model, grads)


def moved(keep, step):
    """Whether what is kept of a model changes in a step of training."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    kept = keep(model)
    numbers = lambda: [np.array(leaf) for leaf in jax.tree.leaves(kept)]
    before = numbers()
    step(model, nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param))
    return not all(map(np.array_equal, before, numbers()))


ways = {
    "state": nnx.state,
    "split": lambda model: nnx.split(model)[1],
    "to_pure_dict": lambda model: nnx.to_pure_dict(nnx.state(model)),
    "tree copy": lambda model: jax.tree.map(jnp.copy, nnx.state(model)),
    "clone": lambda model: nnx.state(nnx.clone(model)),
}
eager, compiled = ({name: moved(keep, how) for name, keep in ways.items()} for how in (step, nnx.jit(step)))

graph, state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
a, b = nnx.merge(graph, state), nnx.merge(graph, state)
start = np.array(b.kernel[...])
step(a, nnx.Optimizer(a, optax.sgd(0.1), wrt=nnx.Param))
change = float(np.abs(np.array(b.kernel[...]) - start).max())
apart = float(np.abs(np.array(a.kernel[...]) - np.array(b.kernel[...])).max())

print(f"flax {flax.__version__}: what is kept of a model moves when it is trained: {eager}, through nnx.jit {compiled}")
print(f"two networks merged from one state, the first is trained: the second moves by {change:.2f}, they are {apart} apart")
assert eager == compiled == {name: name in ("state", "split") for name in ways}, "others follow the model now"
assert change > 0.1 and apart == 0, "networks merged from one state are two networks now"
print("as described: states are the model's own Variables")
PY
