#!/bin/sh
# A tied nnx module is no longer tied after jax.tree.map, jax.jit or jax.grad, which take modules since they are trees.
#
# flax 0.12.8, jax 0.10.2. A Variable that two layers share is two leaves of the tree: the identity of jax.tree.map, and the
# mean of two networks, give a module with more parameters, jax.grad gives each place its own part of the gradient, and one
# step of training by it takes the two apart. Nothing is said. nnx.split, nnx.state, nnx.grad and nnx.jit keep one of it.
# A guess would be that what jax.tree.map returns is the same module with other numbers, or that sharing is refused.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Net(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.one, self.two = (nnx.Linear(4, 4, use_bias=False, rngs=rngs) for _ in range(2))
        self.two.kernel = self.one.kernel

    def __call__(self, x):
        return self.two(nnx.tanh(self.one(x)))


x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)
loss = lambda net: (net(x) ** 2).mean()
tied = lambda net: net.one.kernel is net.two.kernel
count = lambda net: sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net)))
net, other = Net(0), Net(1)
graph, state = nnx.split(net)
mean = lambda a, b: (a + b) / 2
made = {
    "jax.tree.map(identity)": jax.tree.map(lambda leaf: leaf, net),
    "jax.tree.map(mean)": jax.tree.map(mean, net, other),
    "jax.jit(identity)": jax.jit(lambda net: net)(net),
    "nnx.jit(identity)": nnx.jit(lambda net: net)(net),
    "mean of states, nnx.merge": nnx.merge(graph, jax.tree.map(mean, state, nnx.state(other))),
    "nnx.clone": nnx.clone(net),
}
print(f"flax {flax.__version__}, jax {jax.__version__}: a tied module of {count(net)} parameters")
for name, module in made.items():
    print(f"{name}: tied {tied(module)}, {count(module)} parameters")
    assert tied(module) == (not name.startswith("jax.")), name
    assert count(module) == (16 if tied(module) else 32)

parts, whole = jax.grad(loss)(net), nnx.grad(loss)(net)["one"]["kernel"][...]
one, two = parts.one.kernel[...], parts.two.kernel[...]
stepped = jax.tree.map(lambda weight, slope: weight - 0.1 * slope, net, parts)
apart = float(jnp.abs(stepped.one.kernel[...] - stepped.two.kernel[...]).max())
off = float(jnp.abs(one - whole).max())
print(f"jax.grad: parts of what nnx.grad gives, off by {off:.2g}; one step takes the two {apart:.2g} apart")
np.testing.assert_allclose(one + two, whole, atol=1e-6)
assert off > 0.01 and apart > 0.001
PYTHON
