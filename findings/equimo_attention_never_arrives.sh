#!/bin/sh
# The attention of Equimo's Mlla is computed and thrown away: its weights never enter the result.
#
# equimo 1.1.0, equinox 0.13.8, jax 0.10.2. A block with its depthwise convolution, which is the default, multiplies its own
# input by the gate where the output of the attention belongs, as in the published block. What comes before the gate on that
# path (in_proj, dwc, attn) can hold any numbers; the gradient there is zero, bit for bit. Every model trains and
# answers all the same, so that nothing shows it. A guess would be that a layer that is called on the way takes part.
# A symmetry read off the program says "not used by the program" of these arrays; weights averaged or aligned there are
# noise, and what a network is judged by does not depend on them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check equimo==1.1.0 equinox==0.13.8 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import equinox as eqx
import jax
import jax.numpy as jnp
from equimo.layers.attention import MllaBlock

place = jnp.stack(jnp.meshgrid(jnp.arange(16.0), jnp.arange(16.0), indexing="ij"))  # 4 x 4 places of 16 channels
x, key = jnp.sin(place[0] + 0.3 * place[0] * place[1]), jax.random.key(0)


def parts_without_gradient(**options):
    """The parts of a block of which no weight has a gradient, and how many weights these are of all."""
    block = MllaBlock(16, num_heads=2, input_resolution=(4, 4), key=key, **options)
    weights, rest = eqx.partition(block, eqx.is_inexact_array)
    answer = lambda weights: (eqx.combine(weights, rest)(x, inference=True, key=key) ** 2).sum()
    gradients = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(answer))(weights))
    by_part = {}
    for path, gradient in gradients:
        by_part.setdefault(path[0].name, []).append(gradient)
    silent = {name for name, found in by_part.items() if not any(bool((one != 0).any()) for one in found)}
    sizes = {name: sum(one.size for one in found) for name, found in by_part.items()}
    return silent, sum(sizes[name] for name in silent) / sum(sizes.values())


print(f"equimo {version('equimo')}, equinox {eqx.__version__}, jax {jax.__version__}")
silent, share = parts_without_gradient()
print(f"parts of a block without a gradient: {', '.join(sorted(silent))}, {share:.0%} of its weights")
assert silent == {"attn", "dwc", "in_proj"}, "the attention takes part now"
silent, _ = parts_without_gradient(use_dwc=False)
print(f"without the convolution: {', '.join(sorted(silent)) or 'none'}")
assert not silent
PYTHON
