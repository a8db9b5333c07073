#!/usr/bin/env bash
# jax 0.10.2: jnp.asarray(x) and jnp.array(x) of a NumPy array, called eagerly, compile an XLA program for every new shape;
# jax.device_put(x) compiles nothing. A guess would be that all three only hand the memory over.
# Trees of NumPy weights (files, zoos) that are brought to JAX leaf by leaf with asarray pay one compilation a shape.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6 2>/dev/null
cd "$home"
JAX_PLATFORMS=cpu "$home/env/bin/python" -W ignore - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiled.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
)


def programs(bring, columns):
    before = len(compiled)
    for rows in range(2, 12):
        jax.block_until_ready(bring(np.ones((rows, columns), np.float32)))
    return len(compiled) - before


# each on shapes of its own: what one compiled the other would find
ways = enumerate((jax.device_put, jnp.array, jnp.asarray), 20)
found = {bring.__name__: programs(bring, columns) for columns, bring in ways}
print(f"jax {jax.__version__}: programs compiled for arrays of ten shapes: {found}")
assert found == {"device_put": 0, "array": 10, "asarray": 10}, "another count now"
print("as described: array and asarray compile a program for every shape")
PY
