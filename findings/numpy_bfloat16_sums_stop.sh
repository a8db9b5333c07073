#!/bin/sh
# NumPy sums bfloat16 in bfloat16: a thousand ones have sum 256, mean 0.256 and a deviation.
#
# numpy 2.4.6, ml_dtypes 0.6.0, jax 0.10.2. A guess would be that `mean` keeps its sum in float32, as it does for float16,
# and as jax.numpy does for bfloat16; products (`@`) and np.linalg.norm of the same array are right. Means, deviations and
# normalisations of weights that safetensors reads into NumPy are off without a word; dtype=np.float32 mends them.
# Seen: a matrix of 512 by 512 numbers around 1, with deviation 0.1: mean 0.00195, deviation 0.045.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0 jax==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

ones, half = np.ones(1000, ml_dtypes.bfloat16), np.ones(1000, np.float16)
stacked = np.ones((1000, 3), ml_dtypes.bfloat16)
matrix = np.random.default_rng(0).normal(1, 0.1, (512, 512)).astype(ml_dtypes.bfloat16)
found = {
    "sum": ones.sum(),
    "mean": ones.mean(),
    "mean of columns": stacked.mean(0)[0],
    "average": np.average(ones),
    "deviation": ones.std(),
}
right = {
    "mean in float32": ones.mean(dtype=np.float32),
    "mean of float16": half.mean(),
    "mean by jax": jnp.asarray(ones).mean(),
    "ones @ ones / 1000": float(ones @ ones) / 1000,
    "norm squared / 1000": float(np.linalg.norm(ones)) ** 2 / 1000,
}
show = lambda values: {name: round(float(value), 5) for name, value in values.items()}
print(f"numpy {np.__version__}, ml_dtypes {ml_dtypes.__version__}, jax {jax.__version__}")
print("a thousand ones in bfloat16:", show(found))
print("and:", show(right))
print("a matrix around 1, deviation 0.1:", show({"mean": matrix.mean(), "deviation": matrix.std()}))
assert float(found["sum"]) == 256, "the sum goes on now"
assert all(abs(float(found[name]) - 0.256) < 0.001 for name in ("mean", "mean of columns", "average"))
assert float(found["deviation"]) > 0.4, "numbers that are all equal have no deviation now"
assert float(matrix.mean()) < 0.01 and float(matrix.std()) < 0.06, "the matrix is described rightly now"
assert all(abs(float(value) - 1) < 0.01 for value in right.values())
PYTHON
