#!/bin/sh
# The running variance of Equinox's BatchNorm(mode="batch") starts at 1 and is read as if it had started at 0.
#
# equinox 0.13.8, jax 0.10.2. In evaluation both averages are divided by 1 - momentum^batches, which is right for one that
# starts at 0, as the mean does. After t batches of one distribution the mean is right and the variance is too large by
# momentum^t / (1 - momentum^t): by 99 after one batch, .58 after a hundred, .05 after three hundred, whatever it is itself.
# A guess would be that what is corrected for its start is right from the first batch on, as the mean beside it is.
# Renewing the statistics of a merged network (REPAIR) from a new state and a few batches shrinks all units to nothing, and
# units of small variance stay shrunk for hundreds of batches. Zeros in place of the ones in the new state mend it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check equinox==0.13.8 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

batch = jnp.asarray(np.random.default_rng(0).normal(5, 0.1, (256, 3)), jnp.float32)


@eqx.filter_jit
def over(module, state):
    return jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(batch, state)


def evaluated(batches, zeros):
    """Mean and deviation of the batch in evaluation, after so many batches of training that were all equal to it."""
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch", momentum=0.99, eps=0.0)
    if zeros:
        place = norm.batch_state_index
        state = state.set(place, jax.tree.map(jnp.zeros_like, state.get(place)))
    for _ in range(batches):
        _, state = over(norm, state)
    outputs, _ = over(eqx.nn.inference_mode(norm), state)
    return float(jnp.abs(outputs.mean(0)).max()), float(outputs.std(0).mean())


print(f"equinox {eqx.__version__}, jax {jax.__version__}: a batch of variance .01, normalised in evaluation")
for batches in (1, 10, 100, 300, 1000):
    (mean, deviation), (_, mended) = (evaluated(batches, zeros) for zeros in (False, True))
    expected = (0.01 / (0.01 + 0.99**batches / (1 - 0.99**batches))) ** 0.5
    print(f"after {batches} batches: mean {mean:.3f}, deviation {deviation:.3f}; started at zeros {mended:.3f}")
    assert mean < 0.01 and abs(mended - 1) < 0.01
    assert abs(deviation / expected - 1) < 0.05, "the variance is another one now"
PYTHON
