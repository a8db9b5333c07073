#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: StandardCheckpointer names an array by joining its keys with dots. Two arrays of one tree whose
# joined names are equal, {"a.b": x, "a": {"b": y}}, are saved without an error and both come back as one of the two.
# State dicts of torch have dots in their keys ("layer.0.weight"), so trees that mix them with nested ones lose arrays.
# A guess would be that the separator is escaped, or that the save is refused.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 orbax-checkpoint==0.12.8 numpy==2.4.6 2>/dev/null
cd "$home"
JAX_PLATFORMS=cpu "$home/env/bin/python" -W ignore - <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

tree = {"a.b": np.zeros(2, np.float32), "a": {"b": np.ones(2, np.float32)}}
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(Path.cwd() / "saved", tree)
checkpointer.wait_until_finished()
back = checkpointer.restore(Path.cwd() / "saved", tree)
print(f"orbax-checkpoint {version('orbax-checkpoint')}: saved a.b {tree['a.b']}, a/b {tree['a']['b']}")
print(f"restored a.b {np.asarray(back['a.b'])}, a/b {np.asarray(back['a']['b'])}")
assert np.array_equal(back["a.b"], back["a"]["b"]), "both arrays come back now"
print("as described: one of the two arrays is lost without a word")
PY
