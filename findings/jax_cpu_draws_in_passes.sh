#!/usr/bin/env bash
# jax 0.10.2 on CPUs, default generator (threefry, partitionable): each number of `jax.random.bits(key, (n,))` depends on
# the key and its index alone, so a guess would be one compiled pass over the numbers. The program has a loop over the
# rounds of the generator instead, which goes through all n numbers again and again. The same rounds written out in
# jax.numpy are one pass, without a loop, give the same bits, and take a third of the time or less: what draws features,
# dropout or augmentation on CPUs pays for memory, not for arithmetic.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6 2>/dev/null
cd "$home"
"$home/env/bin/python" - <<'PY'
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

COUNT = 10**6


def written_out(key):
    first, second = jax.random.key_data(key)
    words = [first, second, first ^ second ^ np.uint32(0x1BD11BDA)]
    low = jax.lax.iota(jnp.uint32, COUNT)
    high, low = jnp.zeros_like(low) + first, low + second
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            high = high + low
            low = high ^ (low << np.uint32(turn) | low >> np.uint32(32 - turn))
        high = high + words[(block + 1) % 3]
        low = low + words[(block + 2) % 3] + np.uint32(block + 1)
    return high ^ low


def seconds(program, key):
    times = []
    for _ in range(15):
        begin = time.process_time()
        program(key).block_until_ready()
        times.append(time.process_time() - begin)
    return statistics.median(times)


key = jax.random.key(3)
programs = [jax.jit(lambda key: jax.random.bits(key, (COUNT,))), jax.jit(written_out)]
same = bool((programs[0](key) == programs[1](key)).all())
loops = ["while(" in program.lower(key).compile().as_text() for program in programs]
ratio = seconds(programs[0], key) / seconds(programs[1], key)
print(f"jax {jax.__version__}: the same bits: {same}; loops: library {loops[0]}, written out {loops[1]}; ratio {ratio:.1f}")
assert jax.default_backend() == "cpu" and same and loops == [True, False] and ratio > 2
PY
