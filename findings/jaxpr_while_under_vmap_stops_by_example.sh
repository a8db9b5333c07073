#!/usr/bin/env bash
# jax 0.10.2: under `vmap` a `while_loop` whose condition differs from example to example is still one `while` equation,
# but its `cond_jaxpr` gives an array of truth values, one for each example, which `jax.lax.while_loop` itself refuses. That
# examples which have stopped keep their values stands in neither program of the equation: the body computes all of them in
# every turn, and only the lowering puts a `select` by that array behind it.
# A guess would be that the select is in the jaxpr, as it is for `cond` under `vmap`, so that the condition needs no more
# than an `any`: that runs without an error, and every example takes as many turns as the slowest.
# Who runs or rewrites programs equation by equation (as `dwalign.program` does) has to add both.
# Fails if that changes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6 2>/dev/null
cd "$home"
JAX_PLATFORMS=cpu "$home/env/bin/python" -W ignore - <<'PY'
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

# doubles until it is at least 10: after a different number of turns for each example
program = jax.vmap(lambda x: jax.lax.while_loop(lambda z: z < 10, lambda z: 2 * z, x))
STARTS = jnp.array([1.0, 3.0, 9.0, 50.0])
by_jax = np.asarray(program(STARTS))

(eqn,) = jax.make_jaxpr(program)(STARTS).eqns
condition, body = (jax.extend.core.jaxpr_as_fun(eqn.params[name]) for name in ("cond_jaxpr", "body_jaxpr"))
names = [one.primitive.name for one in eqn.params["body_jaxpr"].jaxpr.eqns]
asked = condition(STARTS)[0]

try:
    jax.lax.while_loop(lambda z: condition(z)[0], lambda z: body(z)[0], STARTS)
    refused = ""
except TypeError as error:
    refused = str(error)
with_any = np.asarray(jax.lax.while_loop(lambda z: condition(z)[0].any(), lambda z: body(z)[0], STARTS))
kept = lambda z: jnp.where(condition(z)[0], body(z)[0], z)
with_both = np.asarray(jax.lax.while_loop(lambda z: condition(z)[0].any(), kept, STARTS))

print(f"jax {jax.__version__}: the condition of the equation gives {asked.dtype} {asked.shape}; its body holds {names}")
print("run again as it stands:", refused.splitlines()[0] if refused else "accepted")
print("vmap:", by_jax, " with any:", with_any, " with any and a select:", with_both)
assert eqn.primitive.name == "while" and asked.shape == STARTS.shape, "the condition is a single truth value now"
assert "select_n" not in names, "the body keeps what has stopped now"
assert "boolean scalar" in refused, "such conditions are accepted now"
assert not np.array_equal(with_any, by_jax) and np.array_equal(with_both, by_jax), "any alone is enough now"
print("as described: examples that have stopped go on changing unless who runs the equation keeps them")
PY
