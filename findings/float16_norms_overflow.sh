#!/bin/sh
# The norm of a float16 array is infinite above 256 in NumPy, JAX, SciPy and optax, though float16 holds 65504.
#
# numpy 2.4.6, jax 0.10.2, optax 0.2.8, scipy 1.17.1, torch 2.13.0. The squares, or their sum, are float16 before the root is
# taken: one matrix of 1024 by 1024 weights of deviation .5 is enough. So distances between layers of half-precision
# checkpoints are infinite, cosines 0 or NaN, and optax.clip_by_global_norm makes an update of such a norm zero, a step that
# does nothing, where torch clips it to the norm that was asked for. Numbers of 1e-4 have norm zero in JAX. NumPy warns of an
# overflow, JAX and optax say nothing. A guess would be that a norm that float16 holds comes out right, as in torch, since
# sums and means of float16 do.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    jax==0.10.2 optax==0.2.8 scipy==1.17.1 torch==2.13.0 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
import torch

warnings.simplefilter("ignore", RuntimeWarning)
weights = np.random.default_rng(0).normal(0, 0.5, (1024, 1024)).astype(np.float16)
right = np.linalg.norm(weights.astype(np.float32))
on_jax, on_torch = jnp.asarray(weights), torch.from_numpy(weights)
norms = {
    "numpy": np.linalg.norm(weights),
    "scipy": scipy.linalg.norm(weights),
    "jax": jnp.linalg.norm(on_jax),
    "optax": optax.global_norm(on_jax),
    "jax of bfloat16": jnp.linalg.norm(on_jax.astype(jnp.bfloat16)),
    "torch": torch.linalg.norm(on_torch),
}
clipped, _ = optax.clip_by_global_norm(1.0).update(on_jax, optax.EmptyState())
parameter = torch.nn.Parameter(on_torch)
parameter.grad = on_torch.clone()
torch.nn.utils.clip_grad_norm_([parameter], 1.0)
after = {"optax": np.linalg.norm(np.float32(clipped)), "torch": float(parameter.grad.float().norm())}
small = jnp.full(400, 1e-4, jnp.float16)
show = lambda values: {name: round(float(value), 4) for name, value in values.items()}
print(*(f"{package.__name__} {package.__version__}" for package in (np, jax, optax, scipy, torch)), sep=", ")
print(f"weights of norm {right:.1f} in float16:", show(norms))
print("clipped to norm 1:", show(after))
print(f"400 numbers of 1e-4, norm .002, by jax: {jnp.linalg.norm(small)}")
assert all(np.isinf(norms[name]) for name in ("numpy", "scipy", "jax", "optax")), "norms above 256 are finite now"
assert all(abs(float(norms[name]) / right - 1) < 0.01 for name in ("jax of bfloat16", "torch"))
assert after["optax"] == 0 and abs(after["torch"] - 1) < 0.01, "what is clipped is not zero now"
assert jnp.linalg.norm(small) == 0
PYTHON
