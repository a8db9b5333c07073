#!/bin/sh
# What torch draws under torchax inside of jax.jit leaves a tracer in torchax's environment: the next draw fails.
#
# torchax 0.0.14.dev20261026, torch 2.13.0, jax 0.10.2. The environment keeps a key and splits it at each draw, also while
# a program is traced, so that the key that stays is one of that trace. A guess would be that a traced draw is fixed in
# its program, or that torchax asks for a key; it raises UnexpectedTracerError, in whatever is run next, a module that
# was not traced included. Setting `environment.prng_key` anew before each call avoids it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 torchax==0.0.14.dev20261026 jax==0.10.2 flax==0.12.8 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import torch
import torchax

environment = torchax.default_env()


def draw(x):
    with environment:
        return environment.t2j_iso(torch.randn_like(environment.j2t_iso(x)))


def said():
    try:
        draw(jnp.ones(2))
    except jax.errors.UnexpectedTracerError:
        return "UnexpectedTracerError"
    return "drawn"


found = [said()]
jax.jit(draw)(jnp.ones(2))
found.append(said())
environment.prng_key = jax.random.key(0)
found.append(said())
print(f"torchax {torchax.__version__}: before jit, after it, with a new key: {found}")
assert found == ["drawn", "UnexpectedTracerError", "drawn"]
PYTHON
