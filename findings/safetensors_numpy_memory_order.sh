#!/usr/bin/env bash
# safetensors 0.8.0, safetensors.numpy: an array that is a view (a transposed kernel, every second column, Fortran order)
# is written in the order of its memory under its own shape. No error, no warning; the file reads back as other numbers.
# 0.7.0 wrote the array. A guess would be that `save` makes the array contiguous, or refuses it as safetensors.torch does.
# Seen: [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]] comes back as [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]].
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0 2>/dev/null
cd "$home"
"$home/env/bin/python" - <<'PY'
import numpy as np
import safetensors
from safetensors.numpy import load, save

kernel = np.arange(12, dtype=np.float32).reshape(4, 3)
views = {"transposed": kernel.T, "fortran": np.asfortranarray(kernel), "columns": kernel[:, ::2]}
back = load(save(views))
whole = load(save({name: np.ascontiguousarray(view) for name, view in views.items()}))
for name, view in views.items():
    print(f"safetensors {safetensors.__version__}, {name}: saved {view.tolist()}, read {back[name].tolist()}")
    assert back[name].shape == view.shape and not np.array_equal(back[name], view), "behaves otherwise now"
    assert np.array_equal(whole[name], view), "a contiguous copy no longer helps"
assert back["transposed"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
print("as described: views are written as their memory lies; np.ascontiguousarray first")
PY
