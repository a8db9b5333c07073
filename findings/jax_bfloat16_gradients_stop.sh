#!/bin/sh
# In bfloat16 the gradient of an embedding stops at 256 uses of a token, and that of a weight in a loop at 256 turns.
#
# jax 0.10.2, flax 0.12.8, on a CPU. Rows of a table that are read many times get their gradients one by one, added in
# bfloat16, in which 256 + 1 is 256; jax.lax.scan adds those of what all turns share likewise. It is the same where the
# table itself is float32 and the layer computes in bfloat16, and with jax.ops.segment_sum, which graph networks add their
# messages by. Sums, products, and the gradients of biases of the same numbers are right, as their sums are kept in float32.
# A guess would be that all sums are: padding, frequent words, nodes with many neighbours and recurrent weights learn from
# the first few hundred uses of a batch and nothing says so. one_hot(tokens) @ table is right, and so is float32.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

USES = 4096
tokens, ones = jnp.zeros((8, USES // 8), jnp.int32), jnp.ones(USES, jnp.bfloat16)


def embedding(dtype, param_dtype):
    layer = nn.Embed(3, 2, dtype=dtype, param_dtype=param_dtype)
    params = layer.init(jax.random.key(0), tokens)
    slope = jax.jit(jax.grad(lambda params: layer.apply(params, tokens).astype(jnp.float32).sum()))(params)
    return slope["params"]["embedding"][0, 0]


def looped(weight):
    return jax.lax.scan(lambda total, x: (total, x * weight), 0.0, ones)[1].astype(jnp.float32).sum()


one, table = jnp.ones((), jnp.bfloat16), jnp.zeros((3, 2), jnp.bfloat16)
hot = jax.nn.one_hot(tokens, 3, dtype=jnp.bfloat16)
stopped = {
    "embedding": embedding(jnp.bfloat16, jnp.bfloat16),
    "embedding of float32, computed in bfloat16": embedding(jnp.bfloat16, jnp.float32),
    "weight in a scan": jax.grad(looped)(one),
    "segment_sum": jax.ops.segment_sum(ones, tokens.ravel(), 1)[0],
}
right = {
    "embedding in float32": embedding(jnp.float32, jnp.float32),
    "one_hot @ table": jax.grad(lambda table: (hot @ table).astype(jnp.float32).sum())(table)[0, 0],
    "weight that all numbers are multiplied by": jax.grad(lambda w: (ones * w).astype(jnp.float32).sum())(one),
    "sum": ones.sum(),
}
print(f"jax {jax.__version__}, flax {flax.__version__}: {USES} ones are added to")
for name, value in (stopped | right).items():
    print(f"{name}: {float(value):g}")
assert all(value == 256 for value in stopped.values()), "the sums go on now"
assert all(value == USES for value in right.values())
PYTHON
