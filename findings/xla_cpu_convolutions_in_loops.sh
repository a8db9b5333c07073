#!/bin/sh
# The gradient of a convolution by its kernel is dozens of times slower inside jax.lax.scan than outside of it, on a CPU.
#
# jax 0.10.2. Within a loop XLA leaves the order of dimensions that the gradient is written in, and no fast kernel takes
# that one; outside it is put into the order of the forward pass. Convolutions with channels last, which are fast in loops
# forwards, have slow gradients all the same. Writing the transpositions out by hand makes the loop as fast as it should
# be, with the same numbers. Seen: about 60 times by processor time; the check asks for 8.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import time

import jax
import jax.numpy as jnp
import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(256, 8, 8, 16)).astype(np.float32)
kernel = rng.normal(size=(3, 3, 16, 32)).astype(np.float32)
last = ("NHWC", "HWIO", "NHWC")


def loss(kernel):
    return (jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=last) ** 2).sum()


def by_hand(kernel):
    """The same gradient, its convolution in the order of the forward pass."""
    out = 2 * jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=last)
    images, cotangent = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(out, (1, 2, 0, 3))
    found = jax.lax.conv_general_dilated(images, cotangent, (1, 1), [(1, 1), (1, 1)], dimension_numbers=last)
    return jnp.transpose(found, (1, 2, 0, 3))


def looped(gradient):
    return lambda kernel: jax.lax.scan(lambda k, _: (k - 1e-9 * gradient(k), None), kernel, None, length=2)[0]


def once_after_once(gradient):
    return lambda kernel: (lambda k: k - 1e-9 * gradient(k))(kernel - 1e-9 * gradient(kernel))


def seconds(f):
    f = jax.jit(f)
    jax.block_until_ready(f(kernel))
    begin = time.process_time()
    result = jax.block_until_ready(f(kernel))
    return time.process_time() - begin, np.asarray(result)


outside, a = seconds(once_after_once(jax.grad(loss)))
inside, b = seconds(looped(jax.grad(loss)))
written, c = seconds(looped(by_hand))
print(f"jax {jax.__version__}: two steps outside a loop {outside:.3f} s, inside {inside:.3f} s, by hand {written:.3f} s")
assert np.allclose(a, b, atol=1e-3) and np.allclose(a, c, atol=1e-3)
assert inside > 8 * outside, "the gradient inside a loop was expected to be slow"
assert inside > 8 * written, "the gradient written by hand was expected to be fast inside a loop"
PYTHON
