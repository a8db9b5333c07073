#!/usr/bin/env bash
# jax 0.10.2, flax 0.12.8: inside `with jax.ensure_compile_time_eval():` every `module.apply` of flax.linen draws all
# parameters anew, in numbers, though it is given parameters: each initialiser is compiled and run, for its shape alone.
# The same with eager calls, under make_jaxpr and inside jit. Outside of it apply asks an initialiser for shapes only.
# A guess would be that apply never initialises, and that the context touches constants of a trace and nothing else.
# Who checks a program on numbers while another is traced (as certificates do) pays one compilation a shape of parameters.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6 2>/dev/null
cd "$home"
JAX_PLATFORMS=cpu "$home/env/bin/python" -W ignore - <<'PY'
import contextlib

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

drawn = []


def initialiser(key, shape):
    values = jax.random.normal(key, shape)
    drawn.append("shape" if isinstance(values, jax.core.Tracer) else "numbers")
    return values


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("kernel", initialiser, (3, 4))


layer, x = Layer(), jnp.ones((2, 3))
params = layer.init(jax.random.key(0), x)


def asked(run, context):
    drawn.clear()
    with context:
        run()
    return list(drawn)


ways = {
    "eager": lambda: layer.apply(params, x),
    "make_jaxpr": lambda: jax.make_jaxpr(layer.apply)(params, x),
}
outside = {name: asked(run, contextlib.nullcontext()) for name, run in ways.items()}
inside = {name: asked(run, jax.ensure_compile_time_eval()) for name, run in ways.items()}


def traced(y):
    with jax.ensure_compile_time_eval():
        layer.apply(params, x)
    return y


inside["in jit"] = asked(lambda: jax.jit(traced)(1.0), contextlib.nullcontext())
print(f"jax {jax.__version__}, flax {flax.__version__}: what apply asks its initialiser for")
print("outside:", outside)
print("inside ensure_compile_time_eval:", inside)
assert set(map(tuple, outside.values())) == {("shape",)}, "apply outside of the context is another one now"
assert set(map(tuple, inside.values())) == {("numbers",)}, "apply inside of the context draws no parameters now"
print("as described: inside ensure_compile_time_eval apply draws the parameters that it was given")
PY
