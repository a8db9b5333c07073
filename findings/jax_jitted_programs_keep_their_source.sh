#!/usr/bin/env bash
# jax 0.10.2: a jitted function keeps the MLIR module that it was compiled from, for as long as it keeps the program, and with
# it an MLIR context of its own, into which all dialects were loaded: more than a megabyte a program, however small that is.
# What f.lower(x).compile() returns keeps neither, and takes a fraction of that. A guess would be that both keep the
# executable, and that what is left of its making is small, or is shared by all.
# A process that keeps thousands of small programs (a test suite, eager operations on arrays of many shapes) grows by
# gigabytes, and spends some milliseconds on each in loading the dialects again. One context for all, which JAX has no
# public way to ask for, mends both. Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6 2>/dev/null
cd "$home"
cat > kept.py <<'PY'
import functools
import gc
import sys
from pathlib import Path

import jax
import numpy as np
from jax._src.interpreters import mlir

X = np.ones(3, np.float32)


def function(k):
    return jax.jit(lambda x: (x * k + 1) @ x)


def called(k):
    kept = function(k)
    kept(X).block_until_ready()
    return kept


def memory():
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


make = (lambda k: function(k).lower(X).compile()) if sys.argv[1] == "compiled" else called
if sys.argv[1] == "shared":
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)
kept = [make(k) for k in range(20)]
before = memory()
kept += [make(k) for k in range(20, 220)]
print((memory() - before) / 200)
PY
measure() { JAX_PLATFORMS=cpu env/bin/python -W ignore kept.py "$1"; }
called=$(measure called) compiled=$(measure compiled) shared=$(measure shared)
echo "kB a program: jitted $called, lowered and compiled $compiled, jitted in one context $shared"
env/bin/python - "$called" "$compiled" "$shared" <<'PY'
import sys

called, compiled, shared = map(float, sys.argv[1:])
assert called > 3 * compiled, "jitted functions keep less now"
assert called > 3 * shared, "the context is no longer what takes the memory"
PY
