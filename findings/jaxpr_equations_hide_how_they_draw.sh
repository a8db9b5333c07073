#!/usr/bin/env bash
# jax 0.10.2: two programs that print alike, and of which all parameters of all equations are equal, draw different
# numbers: how a key is read (`jax_threefry_partitionable`) is kept in `eqn.ctx`, which nothing prints. JAX's own
# evaluation restores it, whatever is set by then; an interpreter that binds equation after equation from their params,
# as one does, draws the numbers of what is set where it runs, and nothing is raised.
# A guess would be that an equation is its primitive and its params, or that what is set where it runs decides for all.
# Who rewrites, groups or compares equations (as `dwalign.program` does) has to compare and to restore `eqn.ctx` too.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6 2>/dev/null
cd "$home"
JAX_PLATFORMS=cpu "$home/env/bin/python" -W ignore - <<'PY'
import jax
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun

KEY = jax.random.key(0)


def draw(key):
    return jax.random.bits(key, (8,))


def by_hand(closed, *args):
    """The equations one after the other, by their primitives and params."""
    values = dict(zip(closed.jaxpr.invars, args)) | dict(zip(closed.jaxpr.constvars, closed.consts))
    read = lambda var: var.val if isinstance(var, Literal) else values[var]
    for eqn in closed.jaxpr.eqns:
        settings = eqn.primitive.get_bind_params(eqn.params)
        functions, params = settings if isinstance(settings, tuple) else ((), settings)
        found = eqn.primitive.bind(*functions, *map(read, eqn.invars), **params)
        values |= zip(eqn.outvars, found if eqn.primitive.multiple_results else [found])
    return [read(var) for var in closed.jaxpr.outvars]


def seen(closed):
    return str(closed), [(str(eqn.primitive), sorted(map(repr, eqn.params.items()))) for eqn in closed.jaxpr.eqns]


programs, numbers = {}, {}
for setting in (False, True):
    with jax.threefry_partitionable(setting):
        programs[setting] = jax.make_jaxpr(draw)(KEY)
        numbers[setting] = np.asarray(draw(KEY))
whose = lambda found: [setting for setting, known in numbers.items() if np.array_equal(found, known)]

with jax.threefry_partitionable(True):
    traced_with_false = programs[False]
    by_jax, here = whose(jaxpr_as_fun(traced_with_false)(KEY)[0]), whose(by_hand(traced_with_false, KEY)[0])

print(f"jax {jax.__version__}, a program traced with jax_threefry_partitionable=False and run where it is True")
print("both programs look the same:", seen(programs[False]) == seen(programs[True]))
print("draws of JAX's own evaluation are those of:", by_jax)
print("draws of an interpreter that binds primitives are those of:", here)
assert not np.array_equal(numbers[False], numbers[True]), "both settings draw the same numbers now"
assert seen(programs[False]) == seen(programs[True]), "the programs can be told apart now"
assert by_jax == [False] and here == [True], "who restores the setting is another one now"
print("as described: the setting is in neither the text nor the params of an equation, and decides what is drawn")
PY
