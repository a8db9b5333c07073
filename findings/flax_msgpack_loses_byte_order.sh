#!/bin/sh
# flax.serialization writes NumPy arrays of the other byte order as they lie, and reads them as if they were its own.
#
# flax 0.12.8, numpy 2.4.6, safetensors 0.8.0, jax 0.10.2. The name of the type that is stored ("float32") has no byte
# order. Arrays that were big-endian in HDF5, FITS, NetCDF or .npy files keep that order in NumPy; [1, 2, 3] comes back
# as numbers around 1e-41, without an error. A guess would be that they are put in order, as safetensors does, or
# refused, as jax.numpy does. `array.astype(array.dtype.newbyteorder("="))` first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 jax==0.10.2 numpy==2.4.6 safetensors==0.8.0
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import flax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.serialization import from_bytes, to_bytes

for kind in ("f2", "f4", "i4"):
    native = np.arange(1, 4, dtype=kind)
    other = native.astype(native.dtype.newbyteorder("S"))
    assert np.array_equal(native, other)
    through = lambda array: from_bytes({"w": native}, to_bytes({"w": array}))["w"]
    peer = safetensors.numpy.load(safetensors.numpy.save({"w": other}))["w"]
    try:
        refused = f"takes {jnp.asarray(other)}"
    except TypeError:
        refused = "TypeError"
    print(f"flax {flax.__version__}, {other.dtype}: {through(other)}; safetensors {peer}; jax.numpy {refused}")
    assert np.array_equal(through(native), native) and np.array_equal(peer, native) and refused == "TypeError"
    assert np.array_equal(through(other), other.view(native.dtype)) and not np.array_equal(through(other), native)
PYTHON
